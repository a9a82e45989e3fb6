"""loop.sendfile() and loop.sock_sendfile(): a file's bytes to a connection.

Owns asyncio's contract: what is refused and how, the file's position
afterwards, and the fallback that reads in the executor. The kernel moves the
bytes, a window at a time; by which of its ways is splice.py's business.

Each public function is a method of EventLoop, hence the first parameter.
Source: asyncio, Transferring files.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import select
import socket
from collections.abc import Awaitable, Callable

from . import _stdlib, operations, readers, splice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

# The bytes that one connection may send before others get their turn.
WINDOW_BYTES = 1 << 20

# The bytes that the fallback of a transport reads at a time.
_FALLBACK_READ_BYTES = 16 * 1024

_WOULD_BLOCK = (BlockingIOError, InterruptedError)


async def sendfile(
    self: EventLoop,
    transport: Any,
    file: Any,
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool | None = True,
) -> int:
    """Send a file over a transport; gives the number of bytes.

    file: opened in binary mode. Its position is afterwards behind the last byte that was sent.
    offset, count: which part; by default all of it.
    fallback: whether to read and write where the kernel cannot do it, as for TLS;
        otherwise that is a SendfileNotAvailableError or RuntimeError.
    """
    if transport.is_closing():
        raise RuntimeError("Transport is closing")
    mode = getattr(transport, "_sendfile_compatible", _stdlib.SENDFILE_UNSUPPORTED)
    if mode is _stdlib.SENDFILE_UNSUPPORTED:
        raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
    if mode is _stdlib.SENDFILE_TRY_NATIVE:
        try:
            return await self._sendfile_native(transport, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
    if not fallback:
        raise RuntimeError(
            f"fallback is disabled and native sendfile is not supported for transport {transport!r}"
        )
    return await _fall_back_on_write(self, transport, file, offset, count)


async def sock_sendfile(
    self: EventLoop,
    sock: socket.socket,
    file: Any,
    offset: int = 0,
    count: int | None = None,
    *,
    fallback: bool | None = True,
) -> int:
    """Send a file over a connected stream socket; gives the number of bytes.

    The parameters are those of sendfile().
    """
    if self.get_debug() and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    _stdlib.check_ssl_socket(sock)
    _check_mode(file)
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    _check_range(offset, count)

    def descriptor() -> int:
        number = sock.fileno()
        readers.check_descriptor_free(self, number)
        return number

    try:
        return await _send(self, descriptor, file, offset, count)
    except asyncio.SendfileNotAvailableError:
        if not fallback:
            raise
    return await _fall_back_on_sendall(self, sock, file, offset, count)


async def sendfile_native(
    self: EventLoop, transport: Any, file: Any, offset: int, count: int | None
) -> int:
    """Send a file over one of our stream transports with its descriptor, when its queue is empty.

    Meanwhile the transport refuses writes and reads nothing. When it loses its
    connection this is a ConnectionError.
    """
    if isinstance(transport, _stdlib.SelectorSocketTransport):
        return await _send_over_socket(self, transport, file, offset, count)
    resume_reading = transport.is_reading()
    transport.pause_reading()
    try:
        empty = transport._make_empty_waiter()
        try:
            await empty
            _check_mode(file)
            _check_range(offset, count)
            loss = transport._lend_descriptor()
        except BaseException:
            transport._reset_empty_waiter()
            raise
        number: int = transport._fd

        def descriptor() -> int:
            if loss.done():
                raise loss.exception()
            return number

        def lost(_: asyncio.Future[None]) -> None:
            # Nothing else ends it. Asked for here, since nobody else may.
            loss.exception()
            if transport._fd == number and transport._state == "joining":
                # It is ours until we give it back. Whoever waits for room in it wakes up.
                _shut_down(number)

        loss.add_done_callback(lost)
        try:
            return await _send(self, descriptor, file, offset, count)
        finally:
            # Or the future would refer to itself, by what waits for it.
            loss.remove_done_callback(lost)
            transport._return_descriptor()
    finally:
        if resume_reading:
            transport.resume_reading()


async def _send_over_socket(
    loop: EventLoop, transport: Any, file: Any, offset: int, count: int | None
) -> int:
    """The same for asyncio's transport, which lends nothing: who sends has the socket meanwhile."""
    resume_reading = transport.is_reading()
    transport.pause_reading()
    await transport._make_empty_waiter()
    del loop._transports[transport._sock_fd]
    try:
        return await loop.sock_sendfile(transport._sock, file, offset, count, fallback=False)
    finally:
        transport._reset_empty_waiter()
        if resume_reading:
            transport.resume_reading()
        loop._transports[transport._sock_fd] = transport


def _shut_down(descriptor: int) -> None:
    sock = socket.socket(fileno=descriptor)
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is not connected any more
    finally:
        sock.detach()


def _check_mode(file: Any) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")


def _check_range(offset: Any, count: Any) -> None:
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")


async def _send(
    loop: EventLoop, descriptor: Callable[[], int], file: Any, offset: int, count: int | None
) -> int:
    """Send window by window.

    descriptor: gives the socket's, or raises what has become of the connection. It is asked
        each time, as the file is: one that was closed may be somebody else's by now.
    """
    try:
        size = os.fstat(file.fileno()).st_size
    except (AttributeError, io.UnsupportedOperation, OSError):
        raise asyncio.SendfileNotAvailableError("not a regular file") from None
    if not count and not size:
        return 0
    passage = splice.Passage(descriptor, file)
    total = 0
    waited = False
    try:
        while count is None or total < count:
            window = WINDOW_BYTES if count is None else min(WINDOW_BYTES, count - total)
            try:
                sent = await loop._sender.send(passage, offset + total, window)
            except _WOULD_BLOCK:
                sent = -1
            except OSError as exc:
                descriptor()  # raises for a lost connection, which no other way can help
                if total == 0:
                    # Most likely a file that cannot be mapped: reading may do.
                    raise asyncio.SendfileNotAvailableError("os.sendfile call failed") from exc
                if waited and exc.errno == errno.ENOTCONN:
                    raise ConnectionError("socket is not connected", errno.ENOTCONN) from exc
                raise
            if sent == 0:
                break
            total += max(sent, 0)
            if sent == window:
                await asyncio.sleep(0)
            elif sent < 0 or offset + total < size:
                await operations.poll(loop, descriptor(), select.POLLOUT)
                waited = True
            # Else that was the end, most likely, and the next call says so.
        return total
    finally:
        with contextlib.suppress(ValueError):  # closed meanwhile: it has no position
            _stdlib.set_sent_position(file.fileno(), offset + total, total)


async def _read(loop: EventLoop, file: Any, size: int) -> memoryview:
    """Up to `size` bytes, read in the executor into memory that nobody changes afterwards."""
    view = memoryview(bytearray(size))
    read = await loop.run_in_executor(None, file.readinto, view)
    return view[: read or 0]


async def _fall_back_on_sendall(
    loop: EventLoop, sock: socket.socket, file: Any, offset: int, count: int | None
) -> int:
    if hasattr(file, "seek"):
        file.seek(offset)

    async def send(data: memoryview) -> None:
        await loop.sock_sendall(sock, data)

    return await _read_and_send(loop, file, offset, count, _stdlib.sendfile_read_size(), send)


async def _fall_back_on_write(
    loop: EventLoop, transport: Any, file: Any, offset: int, count: int | None
) -> int:
    if count is not None and count < 0:
        raise ValueError("negative count")
    if hasattr(file, "seek"):
        file.seek(offset)
    protocol = _FallbackProtocol(loop, transport)

    async def send(data: memoryview) -> None:
        await protocol.drain()
        transport.write(data)

    try:
        return await _read_and_send(loop, file, offset, count, _FALLBACK_READ_BYTES, send)
    finally:
        protocol.restore()


async def _read_and_send(
    loop: EventLoop,
    file: Any,
    offset: int,
    count: int | None,
    read_bytes: int,
    send: Callable[[memoryview], Awaitable[None]],
) -> int:
    """Send piece by piece a file that stands at `offset`; afterwards it stands behind the last."""
    total = 0
    try:
        while True:
            size = min(read_bytes, count - total) if count else read_bytes
            if size <= 0:
                return total
            data = await _read(loop, file, size)
            if not data:
                return total
            await send(data)
            total += len(data)
    finally:
        if total > 0 and hasattr(file, "seek"):
            file.seek(offset + total)


class _FallbackProtocol(asyncio.Protocol):
    """Takes a protocol's place while a file is written, to learn when there is room for more."""

    def __init__(self, loop: EventLoop, transport: Any) -> None:
        if not hasattr(transport, "_protocol_paused"):
            raise TypeError("transport should be _FlowControlMixin instance")
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resume_reading = transport.is_reading()
        self._resume_writing = bool(transport._protocol_paused)
        self._loop = loop
        self._room: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if self._resume_writing:
            self._room = loop.create_future()

    async def drain(self) -> None:
        """Wait until the transport has room; ConnectionError when its connection is lost."""
        if self._lost is not None:
            raise self._lost
        # A TLS transport whose peer has gone is not closing, says asyncio's.
        if self._transport.is_closing() or _stdlib.drops_writes(self._transport):
            raise ConnectionError("Connection closed by peer")
        if self._room is not None:
            await self._room

    def restore(self) -> None:
        """Give the transport back to its own protocol."""
        self._transport.set_protocol(self._protocol)
        if self._resume_reading:
            self._transport.resume_reading()
        if self._room is not None:
            self._room.cancel()
        if self._resume_writing:
            self._protocol.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc or ConnectionError("Connection is closed by peer")
        if self._room is not None and not self._room.done():
            self._room.set_exception(self._lost)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None:
            if not self._room.done():
                self._room.set_result(None)
            self._room = None

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> bool | None:
        raise RuntimeError("Invalid state: reading should be paused")
