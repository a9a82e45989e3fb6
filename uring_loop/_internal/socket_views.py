"""The sockets of transports and servers, as their users see them.

asyncio's TransportSocket shows a socket and forbids what would disturb its owner. Ours also
tells the owner of uses that must not find it half-way: bytes that were written and have not
left, connections that the kernel has accepted for us and nobody else.
"""

from __future__ import annotations

import socket
import weakref

from . import _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .server import Server
    from .streams import StreamTransport


class _SharedNumber(_stdlib.TransportSocket):
    """A socket whose owner is told when somebody asks for its number, to use it or pass it on."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def _shown(self) -> socket.socket: ...

        def _share(self) -> None: ...

    def fileno(self) -> int:
        """The descriptor, or -1."""
        self._share()
        return self._shown.fileno()

    def dup(self) -> socket.socket:
        """A socket object of its own for the same socket."""
        self._share()
        return self._shown.dup()

    def __repr__(self) -> str:
        # asyncio's asks for the number, only to show it.
        return repr(_stdlib.TransportSocket(self._shown))


class StreamSocket(_SharedNumber):
    """A stream's socket, as get_extra_info("socket") gives it.

    Written bytes leave at the end of a turn; who uses the socket finds them in the kernel.
    Once its number is known, each write is sent at once.
    """

    __slots__ = ("_shown", "_transport")

    def __init__(self, sock: socket.socket, transport: StreamTransport) -> None:
        self._shown = sock  # type: ignore[misc]  # a slot of this class
        # The transport keeps us.
        self._transport = weakref.ref(transport)

    @property
    def _sock(self) -> socket.socket:
        transport = self._transport()
        if transport is not None:
            transport._hand_over()
        return self._shown

    def _share(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport._share()


class ServerSocket(_SharedNumber):
    """One of Server.sockets.

    Once its number is known, connections are accepted one by one when their turn comes, so
    that what is left in the queue is another's.
    """

    __slots__ = ("_server",)

    def __init__(self, sock: socket.socket, server: Server) -> None:
        super().__init__(sock)
        self._server = server

    @property
    def _shown(self) -> socket.socket:
        sock: socket.socket = self._sock  # type: ignore[attr-defined]
        return sock

    def _share(self) -> None:
        self._server._share()
