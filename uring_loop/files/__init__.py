"""Asynchronous files: open() and the names under which others offer the same.

    async with uring_loop.open("data.txt") as file:
        async for line in file: ...

On the ring these are submissions, on the selector threads of its own make the
calls; on any other asyncio loop the default executor's do.  What is in the
kernel's memory already is read at once on all of them.

For code written for aiofiles or anyio it takes one import:

    from uring_loop import files as aiofiles    # aiofiles.open, aiofiles.os
    from uring_loop.files import open_file      # anyio.open_file

The floors, each standing on those below it:

    text                             text: decoding, lines, encoding
    binary                           bytes: what was read ahead, what waits to be written
    lines, position, closing         what both do alike; where a file is; how it ends
    unsent                           what a file has taken and not written yet
    descriptor          paths        the system calls of a file; those of `os`
    calls, numbers                   who makes them; how their arguments are checked
"""

from __future__ import annotations

import functools
import io
import os as _os
import sys
import warnings
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, overload

from . import numbers
from . import paths as os
from .binary import BinaryFile
from .calls import encode_path
from .descriptor import adopt, open_flags, open_path, open_with, refuse_arguments
from .text import TextFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode

    Opener = Callable[[Any, int], int]

__all__ = ["BinaryFile", "TextFile", "open", "open_file", "os"]

AnyFile = BinaryFile | TextFile
F = TypeVar("F", bound=AnyFile)


class Opening(Generic[F]):
    """A file that is about to be opened: `await` it, or enter it with `async with`."""

    __slots__ = ("_arguments", "_file")

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments
        self._file: F | None = None

    def __await__(self) -> Generator[Any, Any, F]:
        return _open(*self._arguments).__await__()

    async def __aenter__(self) -> F:
        self._file = await _open(*self._arguments)
        return self._file

    async def __aexit__(self, *raised: object) -> None:
        if self._file is not None:
            await self._file.close()


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[TextFile]: ...


@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[BinaryFile]: ...


@overload
def open(
    file: FileDescriptorOrPath,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[Any]: ...


def open(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Opening[Any]:
    """Open a file; the arguments are those of the builtin open(), and so are the errors.

    opener: is called in a thread.
    """
    encoded = b""
    if not isinstance(file, int):
        file = _os.fspath(file)
        encoded = encode_path(file)
        if not closefd:
            raise ValueError("Cannot use closefd=False with file name")
    elif not -(2**31) <= file < 2**31:
        raise TypeError(f"expected str, bytes, os.PathLike or a file descriptor, not {file}")
    elif file < 0:
        raise ValueError("negative file descriptor")
    buffering = numbers.c_int(buffering)
    try:
        flags, raw_mode = open_flags(mode)
    except (TypeError, ValueError):
        refuse_arguments(mode, encoding, errors, newline)
        raise
    text = None
    if "b" not in mode:
        # The caller's line is what a warning of the encoding names.
        encoding = io.text_encoding(encoding, 2)
        try:
            text = io.TextIOWrapper(io.BytesIO(), encoding, errors, newline)
        except TypeError:
            refuse_arguments(mode, encoding, errors, newline)
            raise
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
    else:
        if not encoding is errors is newline is None:
            refuse_arguments(mode, encoding, errors, newline)
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, "
                "the default buffer size will be used",
                RuntimeWarning,
                stacklevel=2,
            )
    event = ("open", file, raw_mode, flags)
    return Opening(event, file, encoded, mode, flags, buffering, text, newline, closefd, opener)


open_file = open


async def _open(
    event: tuple[Any, ...],
    file: Any,
    encoded: bytes,
    mode: str,
    flags: int,
    buffering: int,
    text: io.TextIOWrapper | None,
    newline: str | None,
    closefd: bool,
    opener: Opener | None,
) -> Any:
    # As io tells audit hooks: of each file once, before anything is done.
    sys.audit(*event)
    adopted = isinstance(file, int)
    writable = "r" not in mode or "+" in mode
    if adopted:
        descriptor, _ = adopt(file, writable, closefd, file)
    elif opener is not None:
        descriptor = await open_with(opener, file, flags, writable)
    else:
        descriptor = await open_path(file, encoded, flags, writable)
    try:
        if "+" in mode and buffering != 0 and not descriptor.seekable:
            raise io.UnsupportedOperation("File or stream is not seekable.")
        position = 0
        if descriptor.seekable:
            if "a" in mode:
                position = await descriptor.end()
            elif adopted or opener is not None:
                position = _os.lseek(descriptor.number, 0, _os.SEEK_CUR)
        terminal = not descriptor.seekable and _os.isatty(descriptor.number)
        line_buffering = buffering == 1 or (buffering < 0 and terminal)
    except BaseException:
        if not adopted:
            descriptor.drop()
        raise
    # An opener, too, may have kept the descriptor or given it away.
    shared = adopted or opener is not None
    binary = BinaryFile(descriptor, file, _raw_mode(mode), buffering, position, shared)
    if text is None:
        return binary
    return TextFile(binary, mode, text.encoding, text.errors or "strict", newline, line_buffering)


@functools.lru_cache(maxsize=64)
def _raw_mode(mode: str) -> str:
    """The mode as io's raw files say it: the kind, "b" and whether it does both."""
    kind = next(letter for letter in "xarw" if letter in mode)
    if kind == "w" and "+" in mode and sys.version_info < (3, 15):
        kind = "r"
    return kind + ("b+" if "+" in mode else "b")
