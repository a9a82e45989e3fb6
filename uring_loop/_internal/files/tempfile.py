"""Temporary files and directories, as the standard library's tempfile has them, awaited.

    async with uring_loop.files.tempfile.TemporaryFile() as file: ...

Names and permissions are the standard library's to choose, in a thread; what is opened is a
file like any other of ours.  loop and executor may be given, as aiofiles takes them, and have
no say.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import os
import tempfile
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any, AnyStr, overload

from . import calls, paths
from .binary import BinaryFile
from .descriptor import settle
from .lines import CalledFile
from .opened import Opened
from .opening import Opening, interpret, raw_mode_of
from .text import TextFile
from .threaded import in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

    # Mode, buffering, a text layer like the file's (of bytes: None), newline.
    Arguments = tuple[str, int, io.TextIOWrapper | None, str | None]

# Of their overloads, each for a type of name, none takes all of them.
_mkstemp: Callable[..., tuple[int, Any]] = tempfile.mkstemp
_TemporaryDirectory: Callable[..., tempfile.TemporaryDirectory[Any]] = tempfile.TemporaryDirectory

__all__ = ["NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile"]


class _Named:
    """What the two classes of files do that are removed by their name.

    delete: whether the name is removed at all; on_close: with close(), and not only at the
    end of `async with`.
    """

    _remove: weakref.finalize[..., Any] | None = None
    _on_close = True

    def _removes(self, path: Any, on_close: bool) -> None:
        # However the file ends: forgotten, or with the interpreter.
        self._remove = weakref.finalize(self, _unlink, path)
        self._on_close = on_close

    @property
    def delete(self) -> bool:
        """Whether the name is removed."""
        return self._remove is not None

    async def _close_and_remove(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await close()
        finally:
            if self._on_close:
                await self._remove_now()

    async def _remove_now(self) -> None:
        if self._remove is not None and (found := self._remove.peek()) is not None:
            with contextlib.suppress(FileNotFoundError):
                await paths.unlink(found[2][0])
            self._remove.detach()


class NamedBinaryFile(_Named, BinaryFile):
    """A temporary file with a name, of bytes."""

    async def close(self) -> None:
        """Close, and remove the name unless it shall stay."""
        await self._close_and_remove(super().close)

    aclose = close

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
        await self._remove_now()


class NamedTextFile(_Named, TextFile):
    """A temporary file with a name, of text."""

    async def close(self) -> None:
        """Close, and remove the name unless it shall stay."""
        await self._close_and_remove(super().close)

    aclose = close

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
        await self._remove_now()


def _unlink(path: Any) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@overload
def NamedTemporaryFile(
    mode: OpenBinaryMode = "w+b",
    buffering: int = -1,
    encoding: None = None,
    newline: None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    delete: bool = True,
    *,
    errors: None = None,
    delete_on_close: bool = True,
    loop: object = None,
    executor: object = None,
) -> Opening[NamedBinaryFile]: ...


@overload
def NamedTemporaryFile(
    mode: OpenTextMode,
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    delete: bool = True,
    *,
    errors: str | None = None,
    delete_on_close: bool = True,
    loop: object = None,
    executor: object = None,
) -> Opening[NamedTextFile]: ...


def NamedTemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    delete: bool = True,
    *,
    errors: str | None = None,
    delete_on_close: bool = True,
    loop: object = None,
    executor: object = None,
) -> Opening[Any]:
    """A file whose `name` is its path, which is removed when the file is closed.

    delete: whether it is removed at all.
    delete_on_close: when it is false, at the end of `async with` (or of the file) only.
    """
    arguments = _checked(mode, buffering, encoding, errors, newline)

    async def make() -> Any:
        create = functools.partial(_create_named, suffix, prefix, dir)
        opened, path = await calls.of_loop().make(None, None, create, late=_undo)
        # Removed even when it cannot be opened.
        try:
            file = await _open(opened, path, arguments, NamedBinaryFile, NamedTextFile)
        except BaseException:
            _unlink(path)
            raise
        if delete:
            file._removes(path, delete_on_close)
        return file

    return Opening(make)


def _create_named(suffix: Any, prefix: Any, dir: Any) -> tuple[Opened, Any]:
    opened = Opened()
    number, path = _mkstemp(suffix, prefix, dir)
    opened.hold(number)
    return opened, path


def _undo(made: tuple[Opened, Any]) -> None:
    made[0].close()
    _unlink(made[1])


@overload
def TemporaryFile(
    mode: OpenBinaryMode = "w+b",
    buffering: int = -1,
    encoding: None = None,
    newline: None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    *,
    errors: None = None,
    loop: object = None,
    executor: object = None,
) -> Opening[BinaryFile]: ...


@overload
def TemporaryFile(
    mode: OpenTextMode,
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    *,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> Opening[TextFile]: ...


def TemporaryFile(
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    *,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> Opening[Any]:
    """A file without a name, which is gone when it is closed."""
    arguments = _checked(mode, buffering, encoding, errors, newline)
    return Opening(_make_unnamed, arguments, suffix, prefix, dir)


async def _make_unnamed(
    arguments: Arguments, suffix: Any, prefix: Any, dir: Any, content: bytes = b""
) -> Any:
    create = functools.partial(_create_unnamed, suffix, prefix, dir, content)
    opened = await calls.of_loop().make(None, None, create, late=Opened.close)
    return await _open(opened, opened.number, arguments, BinaryFile, TextFile)


def _create_unnamed(suffix: Any, prefix: Any, dir: Any, content: bytes) -> Opened:
    """A descriptor of a file without a name that holds `content`, at its beginning."""
    opened = Opened()
    with tempfile.TemporaryFile("w+b", 0, suffix=suffix, prefix=prefix, dir=dir) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        file.seek(0)
        opened.hold(os.dup(file.fileno()))
    return opened


def _checked(
    mode: str, buffering: int, encoding: str | None, errors: str | None, newline: str | None
) -> Arguments:
    # One frame more than open() has between its caller and what warns.
    _, _, text = interpret(mode, buffering, encoding, errors, newline, 1)
    return mode, buffering, text, newline


async def _open(
    opened: Opened,
    name: Any,
    arguments: Arguments,
    of_bytes: type[BinaryFile],
    of_text: type[TextFile],
) -> Any:
    """The file over a descriptor that nobody else has."""
    mode, buffering, text, newline = arguments
    descriptor = await settle(opened, name, "r" not in mode or "+" in mode)
    of_binary = of_bytes if text is None else BinaryFile
    binary = of_binary(descriptor, name, raw_mode_of(mode), buffering, 0, False)
    descriptor.has_file()
    if text is None:
        return binary
    errors = text.errors or "strict"
    return of_text(binary, mode, text.encoding, errors, newline, buffering == 1)


class SpooledFile(CalledFile[AnyStr]):
    """A file in memory, until it is larger than max_size bytes or has to have a descriptor."""

    def __init__(self, max_size: int, arguments: Arguments, place: tuple[Any, Any, Any]) -> None:
        self._max_size = max_size
        self._arguments = arguments
        self._place = place
        self._bytes = io.BytesIO()
        _, _, text, newline = arguments
        self._memory: Any = self._bytes
        if text is not None:
            self._memory = io.TextIOWrapper(
                self._bytes, text.encoding, text.errors, newline, write_through=True
            )
        self._file: Any = None

    async def rollover(self) -> None:
        """Go from the memory into a file on the disk."""
        if self._file is None:
            position = self._memory.tell()
            file = await _make_unnamed(self._arguments, *self._place, self._bytes.getvalue())
            await file.seek(position)
            self._file = file
            self._memory.close()

    async def _call(self, name: str, *arguments: Any) -> Any:
        if self._file is not None:
            return await getattr(self._file, name)(*arguments)
        value = getattr(self._memory, name)(*arguments)
        if 0 < self._max_size < self._bytes.getbuffer().nbytes:
            await self.rollover()
        return value

    async def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place; the new position."""
        position: int = await self._call("seek", offset, whence)
        return position

    async def tell(self) -> int:
        """The position."""
        position: int = await self._call("tell")
        return position

    async def truncate(self, size: int | None = None, /) -> int:
        """Cut at the position, or to so many bytes."""
        length: int = await self._call("truncate", size)
        return length

    async def fileno(self) -> int:
        """The descriptor, for which the file has to go to the disk."""
        await self.rollover()
        number: int = self._file.fileno()
        return number

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return bool((self._file or self._memory).closed)

    async def close(self) -> None:
        """Close; what was in it is gone."""
        if self._file is not None:
            await self._file.close()
        else:
            self._memory.close()

    async def __aenter__(self) -> SpooledFile[AnyStr]:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()


@overload
def SpooledTemporaryFile(
    max_size: int = 0,
    mode: OpenBinaryMode = "w+b",
    buffering: int = -1,
    encoding: None = None,
    newline: None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    *,
    errors: None = None,
    loop: object = None,
    executor: object = None,
) -> Opening[SpooledFile[bytes]]: ...


@overload
def SpooledTemporaryFile(
    max_size: int = 0,
    *,
    mode: OpenTextMode,
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> Opening[SpooledFile[str]]: ...


def SpooledTemporaryFile(
    max_size: int = 0,
    mode: str = "w+b",
    buffering: int = -1,
    encoding: str | None = None,
    newline: str | None = None,
    suffix: str | bytes | None = None,
    prefix: str | bytes | None = None,
    dir: Any = None,
    *,
    errors: str | None = None,
    loop: object = None,
    executor: object = None,
) -> Opening[Any]:
    """A file in memory that moves to the disk when it grows over max_size bytes; 0: never."""
    arguments = _checked(mode, buffering, encoding, errors, newline)

    async def make() -> SpooledFile[Any]:
        return SpooledFile(max_size, arguments, (suffix, prefix, dir))

    return Opening(make)


class Directory:
    """A temporary directory: `name` is its path, cleanup() removes it with all that is in it."""

    def __init__(self, directory: tempfile.TemporaryDirectory[Any]) -> None:
        self._directory = directory
        self.name = directory.name

    async def cleanup(self) -> None:
        """Remove it."""
        await in_thread(self._directory.cleanup)

    close = cleanup


class TemporaryDirectory:
    """A directory that is removed at the end of `async with`, which gives its path.

    `await` gives a Directory.
    """

    def __init__(
        self,
        suffix: str | bytes | None = None,
        prefix: str | bytes | None = None,
        dir: Any = None,
        loop: asyncio.AbstractEventLoop | None = None,
        executor: object = None,
        *,
        ignore_cleanup_errors: bool = False,
    ) -> None:
        self._create = functools.partial(
            _TemporaryDirectory,
            suffix,
            prefix,
            dir,
            ignore_cleanup_errors=ignore_cleanup_errors,
        )
        self._made: Directory | None = None

    async def _make(self) -> Directory:
        made = await calls.of_loop().make(
            None, None, self._create, late=tempfile.TemporaryDirectory.cleanup
        )
        return Directory(made)

    def __await__(self) -> Generator[Any, Any, Directory]:
        return self._make().__await__()

    async def __aenter__(self) -> Any:
        self._made = await self._make()
        return self._made.name

    async def __aexit__(self, *raised: object) -> None:
        assert self._made is not None
        await self._made.cleanup()
