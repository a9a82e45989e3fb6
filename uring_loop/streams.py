"""Stream transports: the half that runs per connection.

The hot half (reading, writing, flow control, closing) is the C type
`_core.Stream`. Here is what a connection needs once: names, repr, limits.
Knows verbs only through the core, and neither rings nor selectors.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from . import _core, _stdlib

Address = Any


def _decode_ipv4(raw: bytes) -> Address:
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), int.from_bytes(raw[2:4], "big")


def _decode_ipv6(raw: bytes) -> Address:
    host = socket.inet_ntop(socket.AF_INET6, raw[8:24])
    port = int.from_bytes(raw[2:4], "big")
    flow = int.from_bytes(raw[4:8], "big")
    scope = int.from_bytes(raw[24:28], sys.byteorder)
    return host, port, flow, scope


def _decode_unix(raw: bytes) -> Address:
    path = raw[2:]
    if path[:1] == b"\0":
        return path  # an abstract name: bytes, as the socket module gives it
    return os.fsdecode(path.split(b"\0", 1)[0])


_DECODERS = {
    socket.AF_INET: _decode_ipv4,
    socket.AF_INET6: _decode_ipv6,
    socket.AF_UNIX: _decode_unix,
}


def decode_address(raw: bytes) -> Address:
    """A kernel's struct sockaddr as the address that the socket module would give.

    raw: the struct, as long as the kernel said it is. KeyError for families
    whose form we do not know. Source: sockaddr(3type), socket.getpeername.
    """
    return _DECODERS[int.from_bytes(raw[:2], sys.byteorder)](raw)


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

    def _read_address(self, raw: bytes | None, method: str) -> Address:
        if raw is None:
            return None
        try:
            return decode_address(raw)
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
