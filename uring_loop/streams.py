"""Stream transports: the half that runs per connection.

The hot half (reading, writing, flow control, closing) is the C type
`_core.Stream`; names, repr and limits are in transports.py.
"""

from __future__ import annotations

from . import _core, _stdlib
from .socket_views import StreamSocket
from .transports import SocketTransport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
