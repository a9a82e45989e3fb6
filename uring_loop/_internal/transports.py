"""The part that transports share, of the half that runs per connection.

How they begin; and, of those on a socket, names, repr and limits, over the
attributes that the C types share. Knows neither verbs nor drivers.
"""

from __future__ import annotations

import asyncio
import math
import socket
import sys

from . import _stdlib, addresses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import _Transport as _Mixin
else:
    _Mixin = object

# A property of ours covers it.
_EXTRA = _stdlib.TRANSPORT_EXTRA


async def until_made(transport: asyncio.BaseTransport, waiter: asyncio.Future[None]) -> None:
    """Wait until connection_made() has been called; who gives up closes the transport."""
    try:
        await waiter
    except BaseException:
        transport.close()
        raise


def _whole_bytes(mark: float) -> int:
    """The number of bytes for a water mark, which may be any number."""
    return sys.maxsize if mark >= sys.maxsize else math.floor(mark)


class WaterMarks:
    """A mixin for what queues what is written: when its protocol is paused and resumed."""

    def get_write_buffer_limits(self: Any) -> tuple[int, int]:
        """(low, high) water marks in bytes.

        Source: asyncio.WriteTransport.get_write_buffer_limits.
        """
        return self._low_water, self._high_water

    def set_write_buffer_limits(self: Any, high: int | None = None, low: int | None = None) -> None:
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
        self._set_limits(_whole_bytes(high), _whole_bytes(low))


class SocketTransport(WaterMarks, _Mixin):
    """A mixin for `_core.Stream` and `_core.Datagram`."""

    _socket_kind = socket.SOCK_STREAM

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts about the connection: socket, peername, sockname and others.

        Source: asyncio.BaseTransport.get_extra_info.
        """
        try:
            extra = _EXTRA.__get__(self)
        except AttributeError:
            extra = self._extra = {}
        if name not in extra:
            if name == "peername":
                extra[name] = self._read_address(self._raw_peername, "getpeername")
            elif name == "sockname":
                extra[name] = self._read_address(self._raw_sockname, "getsockname")
            elif name == "socket":
                extra[name] = self._view_socket(self._sock or self._closed_socket())
        return extra.get(name, default)

    def _view_socket(self, sock: Any) -> _stdlib.TransportSocket:
        return _stdlib.TransportSocket(sock)

    @property
    def _extra(self) -> dict[str, Any]:
        """asyncio's dictionary, in which others look: filled when it is asked for."""
        for name in ("socket", "sockname", "peername"):
            self.get_extra_info(name)
        extra: dict[str, Any] = _EXTRA.__get__(self)
        return extra

    @_extra.setter
    def _extra(self, extra: dict[str, Any]) -> None:
        _EXTRA.__set__(self, extra)

    def _closed_socket(self) -> socket.socket:
        """A socket, closed, for whoever first asks for it after the close."""
        family: int = socket.AF_INET
        if self._raw_sockname is not None:
            family = int.from_bytes(self._raw_sockname[:2], sys.byteorder)
        sock = socket.socket(family, self._socket_kind)
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
            # Data that waits for the end of the turn is polled for too: the kernel has not got it.
            polling = "polling" if size or self._write_polling else "idle"
            parts.append(f"write=<{polling}, bufsize={size}>")
        return f"<{' '.join(parts)}>"
