"""A file of bytes: a position, what was read ahead, and what waits to be written.

Calls that use the position run one after another, in the order in which they
were made; pread() and pwrite() run beside them.

Cancelling: a read that was cancelled has read nothing, the position is where it
was.  A write that was cancelled before its turn came has written nothing; after
that the file has taken all of it, and what has not reached the kernel yet is
written by the next flush() or close().
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import warnings
from collections.abc import Callable, Iterable

from ..operations import os_error
from . import numbers
from .calls import is_turn_due
from .closing import Closing
from .descriptor import Descriptor, pwrite
from .lines import LineFile
from .position import PositionedFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_READ_AHEAD_MIN = 16 * 1024
_READ_AHEAD_MAX = 256 * 1024
_UNSENT_MAX = 256 * 1024
# Bytes that are asked for at once beyond the end that the file had when it was opened.
_GROWTH_MIN = 64 * 1024
_WHENCES = {os.SEEK_SET, os.SEEK_CUR, os.SEEK_END}
_WHENCES |= {getattr(os, name) for name in ("SEEK_DATA", "SEEK_HOLE") if hasattr(os, name)}


class BinaryFile(PositionedFile, LineFile[bytes]):
    """An asynchronous file opened in binary mode; made by uring_loop.open()."""

    __module__ = "uring_loop.files"

    def __init__(
        self,
        descriptor: Descriptor,
        name: Any,
        mode: str,
        buffering: int,
        position: int,
        shared: bool,
    ) -> None:
        super().__init__(descriptor, "a" in mode)
        self._name = name
        self._mode = mode
        self._readable = "r" in mode or "+" in mode
        self._writable = "r" not in mode or "+" in mode
        self._buffered = buffering != 0
        self._read_ahead_fixed = buffering if buffering > 1 else 0
        self._read_ahead = buffering if buffering > 1 else _READ_AHEAD_MIN
        self._unsent_max = buffering if buffering > 1 else _UNSENT_MAX
        self._closing: asyncio.Task[None] | Closing | None = None
        self._closed = False
        self._begin_at(position, shared)

    # What it is.

    @property
    def name(self) -> Any:
        """The path or descriptor it was opened by."""
        return self._name

    @property
    def mode(self) -> str:
        """The mode it was opened in, as io's files say it."""
        return self._mode

    @property
    def closed(self) -> bool:
        """Whether it is closed, or close() has been called."""
        return self._closed or self._closing is not None

    def readable(self) -> bool:
        """Whether it can be read."""
        self._check_open()
        return self._readable

    def writable(self) -> bool:
        """Whether it can be written."""
        self._check_open()
        return self._writable

    def seekable(self) -> bool:
        """Whether it has a position."""
        self._check_open()
        return self._descriptor.seekable

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        self._check_open()
        return os.isatty(self._descriptor.number)

    def fileno(self) -> int:
        """Its descriptor, whose own position is the file's from now on.

        What was written and not flushed is not there yet.
        """
        self._check_open()
        self._share()
        return self._descriptor.number

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self._name!r} mode={self._mode!r}>"

    # Reading.

    async def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end; all that is left by default."""
        size = numbers.wanted(size)
        if size < -1 and self._buffered:
            raise ValueError("read length must be non-negative or -1")
        await self._enter("read")
        try:
            if is_turn_due(max(size, 0)):
                await asyncio.sleep(0)
            if self._buffered or size < 0:
                return await self._read(size)
            return await self._read_some(size)
        finally:
            self._leave()

    async def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes by one call of the kernel at most."""
        size = numbers.size(size)
        await self._enter("read1")
        try:
            return await self._read_some(size if size >= 0 else self._read_ahead)
        finally:
            self._leave()

    async def readall(self) -> bytes:
        """All that is left."""
        return await self.read(-1)

    async def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, up to the end of the file; how much was read.

        The buffer is written to only while this call runs in the loop: never after it
        was cancelled.
        """
        with memoryview(buffer).cast("B") as view:
            await self._enter("readinto")
            try:
                if is_turn_due(len(view)):
                    await asyncio.sleep(0)
                if self._index == len(self._buffer) and len(view) >= self._read_ahead:
                    await self._before_reading()
                    count = self._descriptor.read_into_now(view, self._position)
                    if count is not None:
                        self._position += count
                        return count
                data = await (self._read(len(view)) if self._buffered else
                              self._read_some(len(view)))
                view[: len(data)] = data
                return len(data)
            finally:
                self._leave()

    async def readinto1(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as one call of the kernel does."""
        with memoryview(buffer).cast("B") as view:
            data = await self.read1(len(view))
            view[: len(data)] = data
            return len(data)

    async def peek(self, size: int = 0, /) -> bytes:
        """The next bytes, without moving the position; at least one before the end."""
        numbers.size(size)
        await self._enter("peek")
        try:
            if self._index == len(self._buffer):
                await self._refill()
            return self._buffer[self._index :]
        finally:
            self._leave()

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Up to the end of the line, `size` bytes at most."""
        size = numbers.wanted(size)
        await self._enter("readline")
        try:
            if is_turn_due(0):
                await asyncio.sleep(0)
            return await self._readline(size)
        finally:
            self._leave()

    async def pread(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes at `offset`; the position neither matters nor moves.

        Sees what has reached the kernel: flush() comes first where it matters.
        """
        self._check_ready(self._readable, "pread")
        size, offset = numbers.size(size), numbers.place(offset)
        if size < 0:
            raise os_error(-errno.EINVAL)
        if is_turn_due(size):
            await asyncio.sleep(0)
            self._check_open()
        size = self._descriptor.likely_size(size, offset)
        got = self._descriptor.read_now(size, offset)
        if got is not None and not got[1]:
            return got[0]
        return await self._descriptor.read(size, offset)

    async def _read(self, size: int) -> bytes:
        start = self._index
        have = len(self._buffer) - start
        if 0 <= size <= have:
            self._index += size
            self._position += size
            return self._buffer[start : start + size]
        await self._before_reading()
        parts = [self._buffer[start:]] if have else []
        total = have
        self._buffer = b""
        self._index = 0
        try:
            while size < 0 or total < size:
                want = self._want(size, total)
                got = self._descriptor.read_now(want, self._place(self._position + total))
                if got is not None and not got[1] and len(got[0]) < want:
                    # That was the end: no need to ask once more.
                    parts.append(got[0])
                    total += len(got[0])
                    break
                part = got[0] if got else b""
                if not part:
                    part = await self._get_slowly(want, self._position + total)
                    if not part:
                        break
                parts.append(part)
                total += len(part)
        except BaseException:
            # Behind these may be what came too late.
            self._buffer = b"".join(parts) + self._buffer
            raise
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if 0 <= size < total:
            self._buffer = data
            self._index = size
            data = data[:size]
        self._position += len(data)
        return data

    def _want(self, size: int, total: int) -> int:
        """The bytes to ask for when `total` of `size` are there; of `size`, for a buffered file."""
        left = self._descriptor.size_at_open - self._position - total + 1
        if size < 0:
            return max(left, total, self._read_ahead)
        # No allocation for more than there can be.
        missing = min(size - total, max(left, total, _GROWTH_MIN))
        if missing < self._read_ahead:
            missing = self._read_ahead
            if not self._read_ahead_fixed:
                self._read_ahead = min(2 * missing, _READ_AHEAD_MAX)
        return missing

    async def _read_some(self, size: int) -> bytes:
        """The bytes that are buffered, or else those that one call brings."""
        if size > 0 and self._index == len(self._buffer):
            await self._before_reading()
            if not self._buffered or size >= self._read_ahead:
                size = self._descriptor.likely_size(size, self._position)
                data = await self._get(size, self._position)
                self._position += len(data)
                return data
            await self._refill()
        data = self._buffer[self._index : self._index + size]
        self._index += len(data)
        self._position += len(data)
        return data

    async def _refill(self) -> bool:
        """Read on behind what is buffered; False at the end."""
        await self._before_reading()
        rest = self._buffer[self._index :]
        # Bytes that an unbuffered file reads ahead its other readers would miss.
        size = self._read_ahead if self._buffered or not self._descriptor.own_position else 1
        part = await self._get(size, self._position + len(rest))
        if not self._read_ahead_fixed:
            self._read_ahead = min(2 * self._read_ahead, _READ_AHEAD_MAX)
        self._buffer = rest + part if rest else part
        self._index = 0
        return bool(part)

    async def _readline(self, size: int) -> bytes:
        searched = 0
        while True:
            end = self._buffer.find(b"\n", self._index + searched) + 1
            have = len(self._buffer) - self._index
            if end == 0:
                if (0 <= size <= have) or not await self._refill():
                    end = len(self._buffer)
                else:
                    searched = have
                    continue
            if size >= 0:
                end = min(end, self._index + size)
            line = self._buffer[self._index : end]
            self._index = end
            self._position += len(line)
            return line

    async def _before_reading(self) -> None:
        await self._flush()
        if self._descriptor.own_position:
            self._find_position()

    async def _get(self, size: int, offset: int) -> bytes:
        """What one read(2) gives: fewer bytes only before the end of the file, b"" there."""
        part, error = self._descriptor.read_now(size, self._place(offset)) or (b"", errno.EAGAIN)
        if not error:
            return part
        if not part:
            return await self._get_slowly(size, offset)
        # Only the beginning was in memory, after a truncate() that made it longer, say.
        unread = len(self._buffer) - self._index
        try:
            return part + await self._get_slowly(size - len(part), offset + len(part))
        except OSError:
            return part
        except BaseException:
            if self._descriptor.own_position:
                # Behind these may be what came too late.
                at = self._index + unread
                self._buffer = self._buffer[self._index : at] + part + self._buffer[at:]
                self._index = 0
            raise

    async def _get_slowly(self, size: int, offset: int) -> bytes:
        if not self._descriptor.own_position:
            try:
                return await self._descriptor.read(size, offset)
            except OSError as exc:
                if exc.errno != errno.ESPIPE:
                    raise
            # It has no offsets (a file of /proc, say).
            self._take_own_position(offset)
        return await self._descriptor.read(size, None, late=self._keep_late)

    def _keep_late(self, data: bytes) -> None:
        # Whoever is not told an offset gives its bytes once: those of a cancelled read are the
        # next one's.
        self._buffer = self._buffer[self._index :] + data
        self._index = 0

    # Writing.

    async def write(self, data: Any, /) -> int:
        """Take `data`; how many bytes that was.  See the module about cancelling."""
        if type(data) is not bytes:
            if isinstance(data, str):
                raise TypeError("a bytes-like object is required, not 'str'")
            with memoryview(data) as view:
                data = view.tobytes()
        if (
            self._buffered
            and not self._serial.busy
            and self._unsent.size + len(data) <= self._unsent_max
        ):
            # Nothing to wait for.
            self._check("write")
            self._accept(data)
            return len(data)
        await self._enter("write")
        try:
            if not self._buffered:
                return await self._write_through(data)
            self._accept(data)
            if self._unsent.size > self._unsent_max:
                await self._flush()
            return len(data)
        finally:
            self._leave()

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Take each of `lines`."""
        for line in lines:
            await self.write(line)

    async def pwrite(self, data: Any, offset: int) -> int:
        """Write `data` at `offset` with one call; how much was written.

        The position neither matters nor moves.  A mutable buffer is copied first.
        """
        self._check_ready(self._writable, "pwrite")
        offset = numbers.place(offset)
        with memoryview(data) as view:
            return await self._descriptor.write(
                data if type(data) is bytes else view.tobytes(), offset
            )

    def _accept(self, data: bytes) -> None:
        if not data:
            return
        if self._buffer:
            self._drop_read_ahead()
        self._unsent.add(data, self._position)
        self._position += len(data)

    async def _write_through(self, data: bytes) -> int:
        self._drop_read_ahead()
        if not data:
            return 0
        count = await self._put(data, self._position, self._written_through)
        self._written_through(count)
        return count

    def _written_through(self, count: int) -> None:
        self._position += count
        self._unsent.on_its_way = 0
        self._find_end()

    async def _put(self, data: Any, offset: int, late: Callable[[int], object]) -> int:
        """Write with one call; how much that was."""
        place = self._unsent.place(offset)
        if place is not None:
            self._unsent.on_its_way = len(data)
            try:
                return await self._descriptor.write(data, place, late=late)
            except OSError as exc:
                if exc.errno != errno.ESPIPE:
                    raise
            self._take_own_position(offset)
        return await self._descriptor.write(data, None, late=late)

    def _find_end(self) -> None:
        if self._appending and self._descriptor.seekable:
            # Others may append too: the kernel knows where our bytes went.
            self._position = (
                os.lseek(self._descriptor.number, 0, os.SEEK_CUR) + self._unsent.size
            )

    async def _flush(self) -> None:
        while self._unsent:
            data, _ = self._unsent.next()
            self._sent(await self._put(data, self._unsent.at, self._sent))

    def _sent(self, count: int) -> None:
        self._unsent.sent(count)
        self._find_end()

    async def flush(self) -> None:
        """Hand to the kernel what was written."""
        await self._enter(None)
        try:
            await self._flush()
            if self._readable and self._writable:
                # As io does: what follows is read anew.
                self._drop_read_ahead()
        finally:
            self._leave()

    async def fsync(self) -> None:
        """flush(), then wait until the disk has it all."""
        await self._sync(data_only=False)

    async def fdatasync(self) -> None:
        """fsync() without what only describes the file."""
        await self._sync(data_only=True)

    async def _sync(self, data_only: bool) -> None:
        await self._enter(None)
        try:
            await self._flush()
            await self._descriptor.sync(data_only)
        finally:
            self._leave()

    # The position.

    async def tell(self) -> int:
        """The position."""
        await self._enter(None)
        try:
            self._check_seekable()
            return self._find_position()
        finally:
            self._leave()

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; where it is then."""
        try:
            offset = numbers.offset(offset)
        except OverflowError as exc:
            if self._buffered:
                raise ValueError(str(exc)) from None
            raise
        await self._enter(None)
        try:
            self._check_seekable()
            if whence not in _WHENCES:
                raise ValueError(f"whence value {whence} unsupported")
            await self._flush()
            if self._descriptor.own_position:
                return await self._seek_own_position(offset, whence)
            return await self._seek(offset, whence)
        finally:
            self._leave()

    async def _seek(self, offset: int, whence: int) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += await self._descriptor.end()
        elif whence != os.SEEK_SET:
            offset = await self._descriptor.seek(offset, whence)
        if not 0 <= offset < 2**63:
            raise os_error(-errno.EINVAL)
        index = self._index + offset - self._position
        if 0 <= index <= len(self._buffer):
            self._index = index
        else:
            # The kernel knows how far the file can go.
            os.lseek(self._descriptor.number, offset, os.SEEK_SET)
            self._buffer = b""
            self._index = 0
            self._read_ahead = self._read_ahead_fixed or _READ_AHEAD_MIN
        self._position = offset
        if self._lent_at is not None:
            self._lent_at = os.lseek(self._descriptor.number, offset, os.SEEK_SET)
        return offset

    async def _seek_own_position(self, offset: int, whence: int) -> int:
        unread = len(self._buffer) - self._index
        if unread and whence in (os.SEEK_SET, os.SEEK_CUR):
            moved = offset if whence == os.SEEK_CUR else offset - self._position
            if 0 <= self._index + moved <= len(self._buffer):
                self._index += moved
                self._position += moved
                return self._position
        if whence in (os.SEEK_SET, os.SEEK_CUR):
            offset -= unread if whence == os.SEEK_CUR else 0
            self._position = os.lseek(self._descriptor.number, offset, whence)
        else:
            self._position = await self._descriptor.seek(offset, whence)
        self._buffer = b""
        self._index = 0
        self._read_ahead = self._read_ahead_fixed or _READ_AHEAD_MIN
        return self._position

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file to `size`, by default to the position; its size then."""
        self._check("truncate")
        if size is not None:
            size = numbers.place(size)
        await self._enter("truncate")
        try:
            await self._flush()
            self._drop_read_ahead()
            if size is None:
                self._check_seekable()
                size = self._find_position()
            await self._descriptor.truncate(size)
            return size
        finally:
            self._leave()

    # Closing.

    async def close(self) -> None:
        """flush() and close the descriptor.

        An error of either is raised, and the file is closed all the same.  Waits for what
        is under way.  When it is cancelled a regular file is still flushed and closed.
        """
        if self._closed:
            return
        if self._closing is None:
            if not self._serial.busy and not self._unsent and self._close_now():
                return
            loop = asyncio.get_running_loop()
            if not self._serial.busy and self._descriptor.closes_by_requests():
                self._serial.busy = True
                self._closing = Closing(
                    loop,
                    self._descriptor,
                    self._unsent,
                    self._go_on_closing_in_task,
                    self._closing_ended,
                )
            else:
                self._closing = self._close_in_task(loop)
        closing = self._closing
        if isinstance(closing, Closing):
            await closing.wait()
            return
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            if not closing.done() and not self._descriptor.seekable:
                # The other end may never read what is left.
                closing.cancel()
            raise

    aclose = close

    def _close_now(self) -> bool:
        if self._descriptor.own_position and not self._descriptor.use.pending:
            self._give_back()
        if not self._descriptor.close_now():
            return False
        self._closed = True
        return True

    def _close_in_task(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        # Whatever it waits for holds it.  Nothing else may: when the loop ends before it
        # does, letting go of the file has to write and close.
        return loop.create_task(self._close())

    def _go_on_closing_in_task(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        self._serial.leave()
        return self._close_in_task(loop)

    def _closing_ended(self) -> None:
        self._closed = True
        self._serial.leave()

    async def _close(self) -> None:
        await self._serial.enter()
        try:
            await self._flush_last()
        except GeneratorExit:
            # The loop has gone: letting go of the file writes and closes it.
            raise
        except BaseException:
            await self._close_descriptor()
            raise
        await self._close_descriptor()

    async def _flush_last(self) -> None:
        try:
            await self._flush()
        except RuntimeError:
            # No thread is to be had.  What the file has taken is not lost for that.
            if not self._descriptor.positioned:
                raise
            self._write_out()
        except asyncio.CancelledError:
            # Who ends a loop cancels all its tasks, this one too.  As above, once it is known how
            # much was written of what was under way.
            if self._descriptor.positioned:
                await self._descriptor.settled()
                await self._flush()
            raise

    async def _close_descriptor(self) -> None:
        try:
            self._give_back()
            await self._descriptor.close()
        finally:
            self._closed = True
            self._leave()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        self._end_privacy()
        descriptor = getattr(self, "_descriptor", None)
        if descriptor is None or descriptor.number < 0:
            return
        try:
            # Where warnings are errors this raises, and nothing may be lost for that.
            if descriptor.closes:
                _warn(f"unclosed file {self!r}", ResourceWarning, source=self)
        finally:
            try:
                self._write_out()
            finally:
                descriptor.drop()

    def _write_out(self) -> None:
        """Write all that the file has taken, even when it is forgotten, as io does."""
        while self._unsent:
            data, place = self._unsent.next()
            if place is not None:
                try:
                    self._sent(pwrite(self._descriptor.number, data, place))
                    continue
                except OSError as exc:
                    if exc.errno != errno.ESPIPE:
                        raise
                self._take_own_position(place)
            self._sent(os.write(self._descriptor.number, data))

    # One call after another.

    async def _enter(self, call: str | None) -> None:
        """Wait for the caller's turn; refuse what the file cannot do."""
        self._check(call)
        if self._serial.busy:
            await self._serial.enter()
            # A close() that was called later comes later, and one before was seen above.
            assert not self._closed
        else:
            self._serial.busy = True

    def _leave(self) -> None:
        # A call that nobody waits for may still move bytes: the next one comes after it.
        if self._descriptor.use.abandoned:
            self._descriptor.use.when_quiet(self._let_next_in)
        else:
            self._let_next_in()

    def _let_next_in(self) -> None:
        self._unsent.on_its_way = 0
        try:
            if self._lent_at is not None:
                self._end_lending()
        finally:
            self._serial.leave()

    def _check(self, call: str | None) -> None:
        self._check_open()
        if call is None:
            return
        if not (self._writable if call in ("write", "truncate") else self._readable):
            raise io.UnsupportedOperation(call)

    def _check_ready(self, able: bool, call: str) -> None:
        self._check_open()
        if not able:
            raise io.UnsupportedOperation(call)
        self._check_seekable()

    def _check_open(self) -> None:
        if self._closed or self._closing is not None:
            raise ValueError("I/O operation on closed file.")

    def _check_seekable(self) -> None:
        if not self._descriptor.seekable:
            raise io.UnsupportedOperation("underlying stream is not seekable")
