"""The ways of a window of a file to a socket.

Owns two ways, of which the driver chooses one for its loop. With sendfile(2)
alone, the thread that calls it waits for the disk. Where the driver's splice
runs elsewhere (in a worker thread of the kernel's), what is not in memory goes
from the file into a pipe by it, while the loop turns, and from there into the
socket at once. What is in memory goes by sendfile(2), which is faster.

No pipe is held while a socket is full. What the socket did not take is thrown
away with its pipe: by then it is in memory, where sendfile(2) finds it. So a
pipe is taken for one read of the disk, slow receivers keep none from others,
and how much was sent is known at every moment.

Knows neither asyncio's contract of sendfile nor transports.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Callable

from . import operations
from .own_calls import outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

# Disk reads for sendfile that are under way at most, each into a pipe of its own.
PIPES = 8
# The bytes that a pipe should hold; fewer where the system's limits say so.
PIPE_BYTES = 1 << 20
_PIPE_BYTES_MIN = 1 << 16
# Seconds for which a window that was found in memory is taken to stay there.
_KNOWN_SECONDS = 0.1


class Passage:
    """One file on its way to one socket.

    descriptor: gives the socket's, or raises what has become of the connection.
    """

    __slots__ = ("descriptor", "file", "known_at", "known_end", "was_cold")

    def __init__(self, descriptor: Callable[[], int], file: Any) -> None:
        self.descriptor = descriptor
        self.file = file
        # Up to where the file was found in memory, and when that was.
        self.known_end = 0
        self.known_at = 0.0
        # Whether some of it was not in memory: the disk may be busy with more.
        self.was_cold = False

    def send(self, position: int, size: int) -> int:
        """Send by sendfile(2); how much the socket took, 0 at the end of the file."""
        return outside(os.sendfile, self.descriptor(), self.file.fileno(), position, size)


class DirectSender:
    """Sends with sendfile(2), whose thread waits for the disk."""

    async def send(self, passage: Passage, position: int, size: int) -> int:
        """Send up to `size` bytes from `position` on; 0 at the end of the file.

        BlockingIOError when the socket is full, which nothing was sent to then.
        """
        return passage.send(position, size)

    def close(self) -> None:
        """Nothing is kept."""


class SplicingSender(DirectSender):
    """Sends with sendfile(2) what is in memory, and the rest through a pipe."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._pipes = _Pipes()
        # Waiters come in the order in which they asked.
        self._turns = asyncio.Semaphore(PIPES)

    async def send(self, passage: Passage, position: int, size: int) -> int:
        """As DirectSender's, without waiting for the disk in this thread."""
        if not self._known_in_memory(passage, position, size):
            try:
                return await self._send_through_pipe(passage, position, size)
            except _PipeError:
                pass  # sendfile(2) does it, or says what is wrong
        return passage.send(position, size)

    def close(self) -> None:
        """Close what is kept for the next time."""
        self._pipes.close()

    def _known_in_memory(self, passage: Passage, position: int, size: int) -> bool:
        """As _in_memory(); what was found there a moment ago is not asked for again."""
        now = time.monotonic()
        start = position
        if now - passage.known_at < _KNOWN_SECONDS:
            # A socket takes a window in several pieces. The window is not cut down to what is
            # known: its end would stay a multiple of itself for every client of the file,
            # and clients in step on the same pages cost the kernel twice as much.
            start = max(position, passage.known_end)
        end = position + size
        if start < end and not self._in_memory(passage, start, end - start):
            return False
        passage.known_end = end
        if start == position:
            passage.known_at = now
        return True

    def _in_memory(self, passage: Passage, position: int, size: int) -> bool:
        file = passage.file.fileno()
        return operations.in_memory(self._loop, file, position, size, passage.was_cold)

    async def _send_through_pipe(self, passage: Passage, position: int, size: int) -> int:
        passage.was_cold = True
        async with self._turns:
            fileno = passage.file.fileno()
            if self._in_memory(passage, position, size):
                # Somebody else's turn, or the kernel's reading ahead, has brought it.
                return passage.send(position, size)
            try:
                pipe = self._pipes.take()
            except OSError as exc:
                raise _PipeError from exc
            held = -1
            try:
                try:
                    held = await operations.splice(
                        self._loop,
                        fileno,
                        position,
                        pipe.writing,
                        min(size, pipe.size),
                        os.SPLICE_F_NONBLOCK,
                    )
                except OSError as exc:
                    raise _PipeError from exc
                if held == 0:
                    return 0
                sent = os.splice(
                    pipe.reading, passage.descriptor(), held, flags=os.SPLICE_F_NONBLOCK
                )
                held -= sent
                return sent
            finally:
                # Bytes that are left in a pipe, or may be, never meet another file's.
                if held == 0:
                    self._pipes.give_back(pipe)
                else:
                    pipe.close()


class _PipeError(Exception):
    """The way through a pipe is not there."""


class _Pipe:
    """Two descriptors, owned."""

    __slots__ = ("reading", "size", "writing")

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        size = PIPE_BYTES
        while size > _PIPE_BYTES_MIN:
            try:
                fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, size)
                break
            except OSError:
                # Above pipe-max-size, or above what all pipes of this user may hold.
                size //= 2
        self.size: int = fcntl.fcntl(self.writing, fcntl.F_GETPIPE_SZ)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class _Pipes:
    """Empty pipes, kept for the next time."""

    def __init__(self) -> None:
        self._idle: list[_Pipe] = []
        self._process = os.getpid()

    def take(self) -> _Pipe:
        if self._process != os.getpid():
            # A fork's child shares the pipes with its parent, but never their use.
            self.close()
            self._process = os.getpid()
        return self._idle.pop() if self._idle else _Pipe()

    def give_back(self, pipe: _Pipe) -> None:
        if self._process == os.getpid():
            self._idle.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
