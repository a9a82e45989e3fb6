"""Pipe transports: pipes, FIFOs, terminals, sockets and other character devices.

The half that runs per pipe: how one begins, what errors mean, how it ends. What
runs per message is in csrc/core/pipes.

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

from .. import _core
from . import _helpers, _stdlib
from ._stdlib import logger
from .operations import os_error
from .transports import WaterMarks, until_made

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


class _PipeTransport(_core.Pipe):
    """The part that both ends share: owning the file object, and the end of its life."""

    _extra: dict[str, Any]
    _refusal: str

    if TYPE_CHECKING:

        def _end_polls(self) -> None:
            """Of either end: call nobody any more; what is queued is lost."""

    def __init__(
        self,
        loop: EventLoop,
        pipe: Any,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self._extra["pipe"] = pipe
        descriptor = pipe.fileno()
        self._mode = os.fstat(descriptor).st_mode
        if not any(kind(self._mode) for kind in (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)):
            raise ValueError(self._refusal)
        os.set_blocking(descriptor, False)
        self._begin(loop, pipe, descriptor, protocol)
        loop.call_soon(protocol.connection_made, self)
        if waiter is not None:
            loop.call_soon(_stdlib.set_result_unless_cancelled, waiter, None)
        # After the waiter: a driver may know at once that there is something to read,
        # and whoever connects is to have the transport before the first byte.
        loop.call_soon(self._start)

    def _start(self) -> None:
        """Begin to watch: connection_made() has been called."""
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
            return
        self._loop._check_debug_thread()
        self._set_closing()
        if self._loop._runs_elsewhere():
            # After what that thread has written.
            self._loop._hand_over(self._lose, exc)
            return
        self._set_lost()
        self._end_polls()
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
        loop = self._loop
        pipe, polled = self._end()
        if polled:
            # A poll that still waits for room in the queue names the descriptor, not its file.
            loop._submit()
        if pipe is not None:
            pipe.close()


class ReadPipeTransport(_core.ReadPipe, _PipeTransport, asyncio.ReadTransport):
    """The reading end of a pipe, or whatever else can be read like one."""

    _paused = False
    _refusal = "Pipe transport is for pipes/sockets only."

    def _describe(self) -> list[str]:
        return ["polling" if self._polling else "idle"]

    def is_reading(self) -> bool:
        """Whether data is received: neither paused nor closing."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Receive nothing until resume_reading()."""
        if not self.is_reading():
            return
        self._paused = True
        self._end_polls()
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
        if not self.is_reading() or self._polling:
            return
        if stat.S_ISCHR(self._mode):
            _check_readiness(self._fileno)
        self._begin_poll()

    def _read_ended(self) -> None:
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._loop.call_soon(self._protocol.eof_received)
        self._lose(None)

    def _read_failed(self, exc: OSError) -> None:
        # A terminal whose other side has gone says EIO: its way of an end of file.
        self._fatal_error(exc, "Fatal read error on pipe transport", exc.errno == errno.EIO)


class WritePipeTransport(  # pyright: ignore[reportIncompatibleMethodOverride]
    _core.WritePipe, _PipeTransport, WaterMarks, asyncio.Transport
):
    """The writing end of a pipe, or whatever else can be written like one.

    write() offers the bytes to the kernel at once; what it does not take is
    queued and written when there is room.
    """

    _refusal = "Pipe transport is only for pipes, sockets and character devices"

    def _describe(self) -> list[str]:
        polling = "polling" if self._polling else "idle"
        return [polling, f"bufsize={self.get_write_buffer_size()}"]

    def _write_in_vain(self) -> None:
        """A write after a failed one, or to what is closing."""
        if self._conn_lost >= _stdlib.LOST_WRITES_LOGGED:
            logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
        self._conn_lost += 1

    def can_write_eof(self) -> bool:
        """True: the end of the file is the closing of the pipe."""
        return True

    def write_eof(self) -> None:
        """Close the pipe once everything is written."""
        if self._closing:
            return
        if not self.get_write_buffer_size():
            self._loop._check_debug_thread()
        self._set_closing()
        if self._loop._runs_elsewhere():
            # After what this thread has written.
            self._loop._hand_over(self._lose_when_written)
        else:
            self._lose_when_written()

    def _lose_when_written(self) -> None:
        if not self.get_write_buffer_size():
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
            self._watch()

    def _hung_up(self) -> None:
        if self._hangup is None:
            # Another thread has ended it.
            return
        if self._hangup.ready < 0:
            self._write_failed(os_error(self._hangup.ready))
            return
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._lose(BrokenPipeError() if self.get_write_buffer_size() else None)

    def _write_failed(self, exc: BaseException) -> None:
        self._conn_lost += 1
        message = "Fatal write error on pipe transport"
        self._fatal_error(exc, message, isinstance(exc, OSError))


def _check_readiness(descriptor: int) -> None:
    """OSError for a device that epoll refuses, such as /dev/null: it is never not ready."""
    with select.epoll() as probe:
        probe.register(descriptor, select.EPOLLIN)
