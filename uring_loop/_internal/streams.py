"""Stream transports: the half that runs per connection.

The hot half (reading, writing, flow control, closing) is the C type
`_core.Stream`; names, repr and limits are in transports.py.  It makes its own
system calls; a socket whose recv() or send() is somebody's own gets asyncio's
transport instead, which calls them.
"""

from __future__ import annotations

import asyncio
import socket

from .. import _core
from . import _stdlib, originals
from .socket_views import StreamSocket
from .transports import SocketTransport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop
    from .server import Server

# The socket's methods that asyncio's transport calls while the connection lasts.
_METHODS = ("recv", "recv_into", "send", "sendmsg")


class StreamTransport(SocketTransport, _core.Stream):
    """A connected stream socket on either driver.

    sock: a socket object, or the descriptor of a socket, which the transport
    owns from here on. The protocol's connection_made() is called in the next
    turn, then reading starts, then `waiter` (a future) gets its result.
    Source: asyncio, Transports and protocols.
    """

    _start_tls_compatible = True
    _sendfile_compatible = _stdlib.SENDFILE_TRY_NATIVE

    def _view_socket(self, sock: Any) -> StreamSocket:
        self._shown = True
        return StreamSocket(sock, self)


class OwnMethodsTransport(_stdlib.SelectorSocketTransport):  # type: ignore[misc]
    """asyncio's transport over our add_reader(): each byte by the socket object's methods."""

    _start_tls_compatible = True
    # As asyncio: a file goes past the socket's send().
    _sendfile_compatible = _stdlib.SENDFILE_TRY_NATIVE

    def __repr__(self) -> str:
        state = "closed" if self._sock is None else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} fd={self._sock_fd}>"


def open_stream(
    loop: EventLoop,
    sock: socket.socket | int,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    server: Server | None = None,
) -> asyncio.Transport:
    """A transport for a connected socket, as StreamTransport's arguments say.

    The clients of a server are always StreamTransports.
    """
    if (
        isinstance(sock, int)
        or server is not None
        or all(originals.is_own_method(sock, name) for name in _METHODS)
    ):
        return StreamTransport(loop, sock, protocol, waiter, server)
    transport: asyncio.Transport = OwnMethodsTransport(loop, sock, protocol, waiter)
    return transport
