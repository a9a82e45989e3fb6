"""Stream transports: the half that runs per connection.

The hot half (reading, writing, flow control, closing) is the C type
`_core.Stream`. Here is what a connection needs once: names, repr, limits.
Knows verbs only through the core, and neither rings nor selectors.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from . import _core, _stdlib, addresses


class StreamTransport(_core.Stream):
    """A connected stream socket on either driver.

    sock: a socket object, or the descriptor of a socket, which the transport
    owns from here on. The protocol's connection_made() is called in the next
    turn, then reading starts, then `waiter` (a future) gets its result.
    Source: asyncio, Transports and protocols.
    """

    _start_tls_compatible = True
    _sendfile_compatible = _stdlib.SENDFILE_TRY_NATIVE

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts about the connection: socket, peername, sockname and others.

        Source: asyncio.BaseTransport.get_extra_info.
        """
        try:
            extra = self._extra
        except AttributeError:
            extra = self._extra = {}
        if name not in extra:
            if name == "peername":
                extra[name] = self._read_address(self._raw_peername, "getpeername")
            elif name == "sockname":
                extra[name] = self._read_address(self._raw_sockname, "getsockname")
            elif name == "socket":
                extra[name] = _stdlib.TransportSocket(self._sock or self._closed_socket())
        return extra.get(name, default)

    def _closed_socket(self) -> socket.socket:
        """What is left of the socket when it is first asked for after the close."""
        family = socket.AF_INET
        if self._raw_sockname is not None:
            family = int.from_bytes(self._raw_sockname[:2], sys.byteorder)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.close()
        return sock

    def _read_address(self, raw: bytes | None, method: str) -> Any:
        if raw is None:
            return None
        try:
            return addresses.decode(raw)
        except KeyError:
            try:
                return getattr(self._sock, method)()
            except (OSError, AttributeError):
                return None

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high) water marks in bytes.

        Source: asyncio.WriteTransport.get_write_buffer_limits.
        """
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause the protocol above `high` queued bytes, resume it at `low`.

        ValueError unless high >= low >= 0.
        Source: asyncio.WriteTransport.set_write_buffer_limits.
        """
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._set_limits(high, low)

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        state = self._state
        if state in ("joining", "closed"):
            parts.append("closed")
        elif state != "open":
            parts.append("closing")
        parts.append(f"fd={self._fd}")
        loop = self._loop
        if loop is not None and not loop.is_closed():
            parts.append("read=polling" if self._read_polling else "read=idle")
            size = self._queued_bytes
            polling = "polling" if self._write_polling else "idle"
            parts.append(f"write=<{polling}, bufsize={size}>")
        return f"<{' '.join(parts)}>"
