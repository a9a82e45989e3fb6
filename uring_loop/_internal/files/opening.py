"""open(): its arguments, as the builtin has them, and the file that comes of them."""

from __future__ import annotations

import functools
import io
import os
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar, overload

from . import numbers
from .binary import BinaryFile
from .calls import encode_path
from .descriptor import adopt, open_flags, open_path, open_with, refuse_arguments
from .text import TextFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import FileDescriptorOrPath, OpenBinaryMode, OpenTextMode

    Opener = Callable[[Any, int], int]


    class File(Protocol):
        async def __aexit__(self, *raised: object) -> None: ...


F = TypeVar("F", bound="File")


class Opening(Generic[F]):
    """A file that is about to be opened: `await` it, or enter it with `async with`."""

    __slots__ = ("_arguments", "_file", "_function")

    def __init__(self, function: Callable[..., Coroutine[Any, Any, F]], *arguments: Any) -> None:
        self._function = function
        self._arguments = arguments
        self._file: F | None = None

    def __await__(self) -> Generator[Any, Any, F]:
        return self._function(*self._arguments).__await__()

    async def __aenter__(self) -> F:
        self._file = await self._function(*self._arguments)
        return self._file

    async def __aexit__(self, *raised: object) -> None:
        assert self._file is not None
        await self._file.__aexit__(*raised)


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
    *,
    loop: object = None,
    executor: object = None,
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
    *,
    loop: object = None,
    executor: object = None,
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
    *,
    loop: object = None,
    executor: object = None,
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
    *,
    loop: object = None,
    executor: object = None,
) -> Opening[Any]:
    """Open a file; the arguments are those of the builtin open(), and so are the errors.

    opener: is called in a thread.
    loop, executor: may be given, as aiofiles takes them; the running loop opens the file, and
    threads of its own make the calls that need one.
    """
    encoded = b""
    if not isinstance(file, int):
        file = os.fspath(file)
        encoded = encode_path(file)
        if not closefd:
            raise ValueError("Cannot use closefd=False with file name")
    elif not -(2**31) <= file < 2**31:
        raise TypeError(f"expected str, bytes, os.PathLike or a file descriptor, not {file}")
    elif file < 0:
        raise ValueError("negative file descriptor")
    buffering = numbers.c_int(buffering)
    flags, raw_mode, text = interpret(mode, buffering, encoding, errors, newline)
    event = ("open", file, raw_mode, flags)
    return Opening(
        _open, event, file, encoded, mode, flags, buffering, text, newline, closefd, opener
    )


def interpret(
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    depth: int = 0,
) -> tuple[int, str, io.TextIOWrapper | None]:
    """Flags of open(2), the raw mode, and a text layer like the file's; None for bytes.

    Refuses as the builtin does.
    depth: the calls between ours and the one whose line a warning names.
    """
    try:
        flags, raw_mode = open_flags(mode)
    except (TypeError, ValueError):
        refuse_arguments(mode, encoding, errors, newline)
        raise
    text = None
    if "b" not in mode:
        # The caller's line is what a warning of the encoding names.
        encoding = io.text_encoding(encoding, 3 + depth)
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
                stacklevel=3 + depth,
            )
    return flags, raw_mode, text


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
                position = os.lseek(descriptor.number, 0, os.SEEK_CUR)
        terminal = not descriptor.seekable and os.isatty(descriptor.number)
        line_buffering = buffering == 1 or (buffering < 0 and terminal)
        # An opener, too, may have kept the descriptor or given it away.
        shared = adopted or opener is not None
        binary = BinaryFile(descriptor, file, raw_mode_of(mode), buffering, position, shared)
        descriptor.has_file()
    except BaseException:
        if not adopted:
            descriptor.drop()
        raise
    if text is None:
        return binary
    return TextFile(binary, mode, text.encoding, text.errors or "strict", newline, line_buffering)


@functools.lru_cache(maxsize=64)
def raw_mode_of(mode: str) -> str:
    """The mode as io's raw files say it: the kind, "b" and whether it does both."""
    kind = next(letter for letter in "xarw" if letter in mode)
    if kind == "w" and "+" in mode and sys.version_info < (3, 15):
        kind = "r"
    return kind + ("b+" if "+" in mode else "b")
