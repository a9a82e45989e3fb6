"""A file of text: decoding, lines and encoding over a file of bytes.

What io.TextIOWrapper does, with the waiting in between.  Decoded text stays here
until a call takes it, so a cancelled read has read nothing.
"""

from __future__ import annotations

import asyncio
import codecs
import errno
import io
import operator
import os
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..operations import os_error
from . import numbers
from .binary import BinaryFile
from .calls import CALL_BYTES_MAX, Serial, is_turn_due
from .lines import LineFile

_CHUNK = 8192
# The number that tell() gives, as io packs it: a position, the decoder's flags there, how many
# bytes to feed it, how many of the characters that come out to skip, and whether to end it.
_COOKIE = struct.Struct("<qiiib")
_FLAGS_AT = 64


class _Chunk(NamedTuple):
    """Bytes that were decoded, and all it takes to decode them again."""

    start: int  # where in the decoded text theirs begins
    position: int  # where in the file they begin
    flags: int  # the decoder's state before them
    kept: bytes  # those of before that the decoder had not decoded
    data: bytes


class _Reading(io.BytesIO):
    """A chunk behind one byte, to be read again as it was read."""

    def __init__(self, chunk: _Chunk) -> None:
        super().__init__(b"\0" + chunk.kept + chunk.data)
        self._sizes = [size for size in (len(chunk.kept), len(chunk.data)) if size]

    def read1(self, size: int | None = -1, /) -> bytes:
        return self.read(self._sizes.pop(0)) if self._sizes else b""


class _Teller:
    """io's own way to say where a chunk's characters are.

    Between a carriage return and a line feed it has two places to choose from.
    """

    def __init__(self, chunk: _Chunk, encoding: str, errors: str, newline: str | None) -> None:
        self.chunk = chunk
        self._told = 0
        self._text = io.TextIOWrapper(_Reading(chunk), encoding, errors, newline)
        # Not from 0 on, where io begins with a new decoder, whatever the flags.
        self._text.seek(1 | chunk.flags << _FLAGS_AT)

    def tell(self, characters: int) -> int:
        """The position behind so many of them, no fewer than the last time."""
        self._text.read(characters - self._told)
        self._told = characters
        return self._text.tell() - 1 + self.chunk.position


class TextFile(LineFile[str]):
    """An asynchronous file opened in text mode; made by uring_loop.open()."""

    __module__ = "uring_loop.files"

    def __init__(
        self,
        buffer: BinaryFile,
        mode: str,
        encoding: str,
        errors: str,
        newline: str | None,
        line_buffering: bool,
    ) -> None:
        self.buffer = buffer
        self.mode = mode
        self.encoding = encoding
        self.errors = errors
        self.line_buffering = line_buffering
        self._serial = Serial()
        self._newline = newline
        # The end of a line in decoded text; None: any of the three.
        self._line_end = None if newline == "" else newline or "\n"
        written = newline or (os.linesep if newline is None else "\n")
        self._written_end = written if written != "\n" else None
        self._decoder: Any = None
        self._encoder: Any = None
        # Behind the start no byte order mark is written.
        self._at_start = not (buffer.seekable() and buffer._position)
        self._decoded = ""
        self._used = 0
        self._chunks: list[_Chunk] = []
        self._teller: _Teller | None = None
        # Of the chunk that was read last.
        self._bytes_per_character = 0.0

    # What it is.

    @property
    def name(self) -> Any:
        """The path or descriptor it was opened by."""
        return self.buffer.name

    @property
    def closed(self) -> bool:
        """Whether it is closed, or close() has been called."""
        return self.buffer.closed

    @property
    def newlines(self) -> Any:
        """The line ends that were translated so far, as io has it."""
        return getattr(self._decoder, "newlines", None)

    def readable(self) -> bool:
        """Whether it can be read."""
        return self.buffer.readable()

    def writable(self) -> bool:
        """Whether it can be written."""
        return self.buffer.writable()

    def seekable(self) -> bool:
        """Whether it has a position."""
        return self.buffer.seekable()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.buffer.isatty()

    def fileno(self) -> int:
        """Its descriptor, see BinaryFile.fileno()."""
        return self.buffer.fileno()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} name={self.name!r} mode={self.mode!r} "
            f"encoding={self.encoding!r}>"
        )

    # Reading.

    async def read(self, size: int | None = -1, /) -> str:
        """Up to `size` characters, fewer only at the end; all that is left by default."""
        size = numbers.wanted(size)
        await self._enter(reading=True)
        try:
            if size < 0:
                return await self._read_all()
            while (wanted := size - (len(self._decoded) - self._used)) > 0:
                if not await self._read_chunk(wanted):
                    break
            return self._take(self._used + size)
        finally:
            self._serial.leave()

    async def readline(self, size: int | None = -1, /) -> str:
        """Up to the end of the line, `size` characters at most."""
        size = numbers.wanted(size)
        await self._enter(reading=True)
        try:
            if is_turn_due(0):
                await asyncio.sleep(0)
            return await self._readline(size)
        finally:
            self._serial.leave()

    async def _read_all(self) -> str:
        decoder = self._get_decoder()
        data = await self.buffer.read()
        text: str = self._decoded[self._used :] + decoder.decode(data, True)
        self._forget()
        return text

    async def _readline(self, size: int) -> str:
        searched = self._used
        while True:
            end = self._find_line_end(searched)
            if end == 0:
                have = len(self._decoded) - self._used
                if 0 <= size <= have:
                    end = len(self._decoded)
                elif not await self._read_chunk():
                    # At the end tell() is the plain position, as io has it.
                    text = self._take(len(self._decoded))
                    self._forget()
                    return text
                else:
                    # A line end of two characters may have begun in what was searched.
                    searched = self._used + max(have - 1, 0)
                    continue
            if size >= 0:
                end = min(end, self._used + size)
            return self._take(end)

    def _find_line_end(self, start: int) -> int:
        """Behind the first line end from `start` on; 0 when there is none."""
        text = self._decoded
        if self._line_end is not None:
            found = text.find(self._line_end, start)
            return found + len(self._line_end) if found >= 0 else 0
        feed = text.find("\n", start)
        back = text.find("\r", start, feed if feed >= 0 else len(text))
        if back < 0:
            return feed + 1
        # The decoder keeps a last "\r" until it knows what follows.
        return back + 2 if feed == back + 1 else back + 1

    async def _read_chunk(self, wanted: int = 0) -> bool:
        """Decode some more, at once so many characters if it can; False at the end."""
        decoder = self._get_decoder()
        seekable = self.buffer.seekable()
        position, flags, kept = 0, 0, b""
        if seekable:
            if self.buffer._unsent:
                await self.buffer.flush()
            kept, flags = decoder.getstate()
            position = self.buffer._find_position() - len(kept)
        guess = min(int(wanted * max(self._bytes_per_character, 1.0)), CALL_BYTES_MAX)
        data = await self.buffer.read1(max(_CHUNK, guess))
        if self._used and self._used == len(self._decoded):
            self._forget()
        text = decoder.decode(data, not data)
        self._bytes_per_character = len(data) / len(text) if text else 0.0
        if seekable:
            self._chunks.append(_Chunk(len(self._decoded), position, flags, kept, data))
        self._decoded += text
        # Bytes that a decoder had kept come out at the end, and are no end yet.
        return bool(data or text)

    def _take(self, end: int) -> str:
        text = self._decoded[self._used : end]
        self._used += len(text)
        while len(self._chunks) > 1 and self._chunks[1].start <= self._used:
            del self._chunks[0]
        if self._used > 4 * _CHUNK:
            self._shift()
        return text

    def _shift(self) -> None:
        """Let go of text that was taken, up to the first chunk that is still needed."""
        start = self._chunks[0].start if self._chunks else self._used
        self._decoded = self._decoded[start:]
        self._used -= start
        self._chunks = [chunk._replace(start=chunk.start - start) for chunk in self._chunks]

    def _forget(self) -> None:
        self._decoded = ""
        self._used = 0
        self._chunks.clear()
        self._teller = None

    def _get_decoder(self) -> Any:
        if self._decoder is None:
            decoder: Any = codecs.getincrementaldecoder(self.encoding)(self.errors)
            if not self._newline:
                decoder = io.IncrementalNewlineDecoder(decoder, self._newline is None)
            self._decoder = decoder
        return self._decoder

    # Writing.

    async def write(self, text: str, /) -> int:
        """Take `text`; how many characters that was.  Cancelling: see BinaryFile."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        await self._enter(reading=False)
        try:
            # Text that cannot be encoded must not count as written.
            data = self._encode(text)
            self._forget()
            if self._decoder is not None:
                self._decoder.reset()
            await self.buffer.write(data)
            if self.line_buffering and ("\n" in text or "\r" in text):
                await self.buffer.flush()
            return len(text)
        finally:
            self._serial.leave()

    async def writelines(self, lines: Iterable[str], /) -> None:
        """Take each of `lines`."""
        for line in lines:
            await self.write(line)

    def _encode(self, text: str) -> bytes:
        if self._written_end is not None:
            text = text.replace("\n", self._written_end)
        if self._encoder is None:
            self._encoder = codecs.getincrementalencoder(self.encoding)(self.errors)
            if not self._at_start:
                self._encoder.setstate(0)
        data: bytes = self._encoder.encode(text)
        return data

    async def flush(self) -> None:
        """Hand to the kernel what was written."""
        await self._after_others(self.buffer.flush)

    async def fsync(self) -> None:
        """flush(), then wait until the disk has it all."""
        await self._after_others(self.buffer.fsync)

    async def fdatasync(self) -> None:
        """fsync() without what only describes the file."""
        await self._after_others(self.buffer.fdatasync)

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut or extend the file to `size` bytes, by default to where `buffer` is; that size."""
        await self._enter(reading=None)
        try:
            await self.buffer.flush()
            # By default to where the bytes were read or written to, as io does, which is behind
            # what was only decoded so far: tell() may give a cookie, which is no size.
            return await self.buffer.truncate(size)
        finally:
            self._serial.leave()

    async def _after_others(self, call: Any) -> None:
        await self._enter(reading=None)
        try:
            await call()
        finally:
            self._serial.leave()

    # Bytes at an offset, beside everything else.

    async def pread(self, size: int, offset: int) -> bytes:
        """See BinaryFile.pread(): bytes."""
        return await self.buffer.pread(size, offset)

    async def pwrite(self, data: Any, offset: int) -> int:
        """See BinaryFile.pwrite(): bytes."""
        return await self.buffer.pwrite(data, offset)

    # The position: an opaque number, as io.TextIOWrapper's.

    async def tell(self) -> int:
        """The position, to come back to by seek()."""
        await self._enter(reading=None)
        try:
            return await self._tell()
        finally:
            self._serial.leave()

    async def _tell(self) -> int:
        if "a" in self.mode:
            # Only the kernel knows where what was written goes.
            await self.buffer.flush()
        position = await self.buffer.tell()
        if self._decoder is None or not self._chunks:
            return position
        chunk = self._chunks[0]
        if self._teller is None or self._teller.chunk is not chunk:
            self._teller = _Teller(chunk, self.encoding, self.errors, self._newline)
        return self._teller.tell(self._used - chunk.start)

    async def seek(self, cookie: int, whence: int = os.SEEK_SET, /) -> int:
        """Go where tell() was `cookie`, to the start, or (0, SEEK_END) to the end."""
        cookie = operator.index(cookie)
        await self._enter(reading=None)
        try:
            if not self.buffer.seekable():
                raise io.UnsupportedOperation("underlying stream is not seekable")
            if whence == os.SEEK_CUR:
                if cookie != 0:
                    raise io.UnsupportedOperation("can't do nonzero cur-relative seeks")
                cookie = await self._tell()
            elif whence == os.SEEK_END:
                if cookie != 0:
                    raise io.UnsupportedOperation("can't do nonzero end-relative seeks")
                cookie = await self.buffer.seek(0, os.SEEK_END)
                self._restart(cookie == 0)
                if self._decoder is not None:
                    self._decoder.reset()
                return cookie
            elif whence != os.SEEK_SET:
                raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
            if cookie < 0:
                raise ValueError(f"negative seek position {cookie!r}")
            await self._restore(cookie)
            return cookie
        finally:
            self._serial.leave()

    async def _restore(self, cookie: int) -> None:
        try:
            position, flags, feed, skip, need_end = _COOKIE.unpack(
                cookie.to_bytes(_COOKIE.size, "little")
            )
        except OverflowError:
            raise OverflowError("int too big to convert: tell() gives no such position") from None
        if position < 0:
            raise os_error(-errno.EINVAL)
        await self.buffer.seek(position)
        # As in io, what a decoder had to be fed from the start on counts as the start.
        self._restart(position == 0 and flags == 0)
        if not self.buffer.readable():
            if skip:
                raise io.UnsupportedOperation("read")
        elif cookie == 0:
            self._get_decoder().reset()
        else:
            self._get_decoder().setstate((b"", flags))
            # tell() knows the decoder's state again.
            self._chunks = [_Chunk(0, position, flags, b"", b"")]
        if skip:
            data = await self.buffer.read(feed)
            text = self._decoder.decode(data, bool(need_end))
            if len(text) < skip:
                raise OSError("can't restore logical file position")
            self._decoded = text
            self._used = skip
            self._chunks = [_Chunk(0, position, flags, b"", data)]

    def _restart(self, at_start: bool) -> None:
        self._forget()
        # The next write makes one that knows where it starts.
        self._encoder = None
        self._at_start = at_start

    # Closing.

    async def close(self) -> None:
        """flush() and close the descriptor; see BinaryFile.close()."""
        if self._serial.busy and not self.buffer.closed:
            await self._serial.enter()
            try:
                await self.buffer.close()
            finally:
                self._serial.leave()
        else:
            await self.buffer.close()

    aclose = close

    # One call after another.

    def _check_open(self) -> None:
        self.buffer._check_open()

    async def _enter(self, reading: bool | None) -> None:
        self.buffer._check_open()
        if reading is True and not self.buffer._readable:
            raise io.UnsupportedOperation("not readable")
        if reading is False and not self.buffer._writable:
            raise io.UnsupportedOperation("not writable")
        if self._serial.busy:
            await self._serial.enter()
        else:
            self._serial.busy = True
