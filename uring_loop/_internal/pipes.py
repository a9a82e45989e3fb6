"""Pipe transports: pipes, FIFOs, terminals, sockets and other character devices.

Python, over the driver's poll verb: a read is made only when there is something
to read, so that nothing is ever taken out of a shared pipe or terminal for
somebody who has gone, and an idle pipe holds no buffer.

The two connect functions are methods of EventLoop, hence the first parameter.
Source: asyncio, Working with pipes.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import stat
import warnings
from collections.abc import Callable

from .._core import Poll
from . import _helpers, _stdlib
from ._stdlib import logger
from .operations import os_error
from .transports import until_made

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from .loop import EventLoop

    P = TypeVar("P", bound=asyncio.BaseProtocol)
    ProtocolFactory = Callable[[], P]


async def connect_read_pipe(
    self: EventLoop, protocol_factory: ProtocolFactory[P], pipe: Any
) -> tuple[asyncio.ReadTransport, P]:
    """Read from a file object, which the transport owns from here on."""
    return await _connect(self, ReadPipeTransport, "Read", protocol_factory, pipe)


async def connect_write_pipe(
    self: EventLoop, protocol_factory: ProtocolFactory[P], pipe: Any
) -> tuple[asyncio.WriteTransport, P]:
    """Write to a file object, which the transport owns from here on."""
    return await _connect(self, WritePipeTransport, "Write", protocol_factory, pipe)


async def _connect(
    loop: EventLoop, kind: Any, direction: str, protocol_factory: ProtocolFactory[P], pipe: Any
) -> tuple[Any, P]:
    protocol = protocol_factory()
    waiter = loop.create_future()
    transport = kind(loop, pipe, protocol, waiter)
    await until_made(transport, waiter)
    if loop.get_debug():
        logger.debug(
            "%s pipe %r connected: (%r, %r)", direction, pipe.fileno(), transport, protocol
        )
    return transport, protocol


class _PipeTransport:
    """The part that both ends share: owning the file object, and the end of its life."""

    _extra: dict[str, Any]
    _refusal: str
    _loop: EventLoop
    _pipe: Any = None

    def _open(self, pipe: Any, protocol: Any, waiter: asyncio.Future[None] | None) -> None:
        self._extra["pipe"] = pipe
        self._fileno = pipe.fileno()
        self._mode = os.fstat(self._fileno).st_mode
        if not any(kind(self._mode) for kind in (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)):
            raise ValueError(self._refusal)
        os.set_blocking(self._fileno, False)
        self._pipe = pipe
        self._protocol: Any = protocol
        self._closing = False
        self._lost = False
        # The last of them that was cancelled, for as long as the driver may look at it.
        self._cancelled: Poll | None = None
        self._loop.call_soon(protocol.connection_made, self)
        if waiter is not None:
            self._loop.call_soon(_stdlib.set_result_unless_cancelled, waiter, None)
        # After the waiter: a driver may know at once that there is something to read,
        # and whoever connects is to have the transport before the first byte.
        self._loop.call_soon(self._start)

    def _start(self) -> None:
        """Begin to watch: connection_made() has been called."""
        raise NotImplementedError

    def _end_watches(self) -> None:
        raise NotImplementedError

    def get_protocol(self) -> Any:
        """The protocol; None once the connection is lost."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Set the protocol whose methods are called from now on."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing

    def __repr__(self) -> str:
        parts = [type(self).__name__]
        if self._pipe is None:
            parts.append("closed")
        elif self._closing:
            parts.append("closing")
        parts.append(f"fd={self._fileno}")
        if self._pipe is None:
            parts.append("closed")
        elif self._loop.is_closed():
            # Nobody closed it; nobody will look at it any more either.
            parts.append("open")
        else:
            parts.extend(self._describe())
        return f"<{' '.join(parts)}>"

    def _describe(self) -> list[str]:
        raise NotImplementedError

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self._pipe is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._pipe.close()

    def _stop(self, watch: Poll | None) -> None:
        if watch is not None:
            watch.cancel()
            if watch.in_flight:
                self._cancelled = watch

    def _fatal_error(self, exc: BaseException, message: str, expected: bool) -> None:
        if expected:
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            _helpers.protocol_failed(self._loop, self, self._protocol, exc, message)
        self._lose(exc)

    def _lose(self, exc: BaseException | None) -> None:
        """End it at once; connection_lost() comes in the next turn."""
        if self._lost:
            self._closing = True
            return
        self._loop._check_debug_thread()
        self._closing = True
        if self._loop._runs_elsewhere():
            # After what that thread has written.
            self._loop._hand_over(self._lose, exc)
            return
        self._lost = True
        self._end_watches()
        if self._loop.is_closed():
            # Nobody will call the protocol any more; the descriptor need not wait for it.
            self._release()
        else:
            self._loop.call_soon(self._call_connection_lost, exc)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._release()

    def _release(self) -> None:
        pipe, self._pipe = self._pipe, None
        if self._cancelled is not None and self._cancelled.in_flight:
            # A poll that still waits for room in the queue names the descriptor, not its file.
            self._loop._submit()
        self._cancelled = None
        self._protocol = None
        self._loop = None  # type: ignore[assignment]
        pipe.close()


class ReadPipeTransport(_PipeTransport, asyncio.ReadTransport):
    """The reading end of a pipe, or whatever else can be read like one."""

    _refusal = "Pipe transport is for pipes/sockets only."

    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self._loop = loop
        self._paused = False
        self._reading: Poll | None = None
        self._open(pipe, protocol, waiter)

    def _describe(self) -> list[str]:
        return ["idle" if self._reading is None else "polling"]

    def is_reading(self) -> bool:
        """Whether data is received: neither paused nor closing."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Receive nothing until resume_reading()."""
        if not self.is_reading():
            return
        self._paused = True
        self._end_watches()
        if self._loop.get_debug():
            logger.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        """Receive again after pause_reading()."""
        if self._closing or not self._paused:
            return
        self._paused = False
        self._start()
        if self._loop.get_debug():
            logger.debug("%r resumes reading", self)

    def close(self) -> None:
        """Receive no more, and close the pipe."""
        if not self._closing:
            self._lose(None)

    def _start(self) -> None:
        if not self.is_reading() or self._reading is not None:
            return
        if stat.S_ISCHR(self._mode):
            _check_readiness(self._fileno)
        self._reading = Poll(self._loop, self._fileno, select.POLLIN, self._read_ready)

    def _end_watches(self) -> None:
        self._stop(self._reading)
        self._reading = None

    def _read_ready(self) -> None:
        reading = self._reading
        if reading is None:
            # Another thread has paused it, or closed it.
            return
        if reading.ready < 0:
            self._read_failed(os_error(reading.ready))
            return
        try:
            data = reading.read()
        except OSError as exc:
            self._read_failed(exc)
            return
        if data:
            self._protocol.data_received(data)
            return
        if data is None:
            return
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._loop.call_soon(self._protocol.eof_received)
        self._lose(None)

    def _read_failed(self, exc: OSError) -> None:
        # A terminal whose other side has gone says EIO: its way of an end of file.
        self._fatal_error(exc, "Fatal read error on pipe transport", exc.errno == errno.EIO)


class WritePipeTransport(_PipeTransport, _stdlib.FlowControl, asyncio.WriteTransport):
    """The writing end of a pipe, or whatever else can be written like one.

    write() offers the bytes to the kernel at once; what it does not take is
    queued and written when there is room.
    """

    _refusal = "Pipe transport is only for pipes, sockets and character devices"

    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra, loop)
        self._buffer = bytearray()
        self._writes_lost = 0
        self._hangup: Poll | None = None
        self._writing: Poll | None = None
        self._open(pipe, protocol, waiter)

    def _describe(self) -> list[str]:
        return ["idle" if self._writing is None else "polling", f"bufsize={len(self._buffer)}"]

    def get_write_buffer_size(self) -> int:
        """Bytes that are queued."""
        return len(self._buffer)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write the bytes; never blocks."""
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        if not isinstance(data, bytes):
            data = _octets(data)
        if not data:
            return
        if self._writes_lost or self._closing:
            if self._writes_lost >= _stdlib.LOST_WRITES_LOGGED:
                logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self._writes_lost += 1
            return
        if self._loop._runs_elsewhere():
            # Written bytes and queued ones must keep their order: one thread does it.
            self._loop._hand_over(self._write, bytes(data))
        else:
            self._write(data)

    def _write(self, data: bytes | memoryview) -> None:
        if self._lost:
            return
        if not self._buffer:
            try:
                size = os.write(self._fileno, data)
            except (BlockingIOError, InterruptedError):
                size = 0
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._write_failed(exc)
                return
            if size == len(data):
                return
            data = memoryview(data)[size:]
            self._writing = Poll(self._loop, self._fileno, select.POLLOUT, self._write_ready)
        self._buffer += data
        self._maybe_pause_protocol()  # type: ignore[attr-defined]

    def can_write_eof(self) -> bool:
        """True: the end of the file is the closing of the pipe."""
        return True

    def write_eof(self) -> None:
        """Close the pipe once everything is written."""
        if self._closing:
            return
        if not self._buffer:
            self._loop._check_debug_thread()
        self._closing = True
        if self._loop._runs_elsewhere():
            # After what this thread has written.
            self._loop._hand_over(self._lose_when_written)
        else:
            self._lose_when_written()

    def _lose_when_written(self) -> None:
        if not self._buffer:
            self._lose(None)

    def close(self) -> None:
        """Close the pipe once everything is written."""
        if self._pipe is not None:
            self.write_eof()

    def abort(self) -> None:
        """Close the pipe at once; what is queued is lost."""
        if self._pipe is not None:
            self._lose(None)

    def _start(self) -> None:
        # A terminal is readable when somebody types, which says nothing of its reader.
        if not self._lost and not stat.S_ISCHR(self._mode):
            self._hangup = Poll(self._loop, self._fileno, select.POLLIN, self._hung_up)

    def _end_watches(self) -> None:
        self._buffer.clear()
        self._stop(self._writing)
        self._stop(self._hangup)
        self._writing = self._hangup = None

    def _hung_up(self) -> None:
        assert self._hangup is not None
        if self._hangup.ready < 0:
            self._write_failed(os_error(self._hangup.ready))
            return
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._lose(BrokenPipeError() if self._buffer else None)

    def _write_ready(self) -> None:
        assert self._writing is not None
        assert self._buffer
        ready = self._writing.ready
        if ready < 0:
            self._write_failed(os_error(ready))
            return
        if ready & ~select.POLLOUT and self._hangup is not None:
            # Both watches know; which of them is called first must make no difference.
            self._hung_up()
            return
        try:
            size = os.write(self._fileno, self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._write_failed(exc)
            return
        del self._buffer[:size]
        if self._buffer:
            return
        self._stop(self._writing)
        self._writing = None
        self._maybe_resume_protocol()  # type: ignore[attr-defined]
        if self._closing:
            self._lose(None)

    def _write_failed(self, exc: BaseException) -> None:
        self._writes_lost += 1
        message = "Fatal write error on pipe transport"
        self._fatal_error(exc, message, isinstance(exc, OSError))


def _octets(data: bytearray | memoryview) -> memoryview:
    """A view of single bytes, so that what is left of it can be counted in bytes."""
    view = memoryview(data)
    if view.format == "B" and view.ndim == 1 and view.c_contiguous:
        return view
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def _check_readiness(descriptor: int) -> None:
    """OSError for a device that epoll refuses, such as /dev/null: it is never not ready."""
    with select.epoll() as probe:
        probe.register(descriptor, select.EPOLLIN)
