"""What kinds of files share: `async for`, `async with`, methods that are another file's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any, AnyStr, Generic, Self

from . import numbers


class Lines(Generic[AnyStr]):
    """What gives one line after another, by its readline()."""

    __slots__ = ()

    async def readline(self, size: int = -1, /) -> AnyStr:
        """Up to the end of the line, `size` bytes or characters at most."""
        raise NotImplementedError

    def __aiter__(self) -> AsyncIterator[AnyStr]:
        return self

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class CalledFile(Lines[AnyStr]):
    """A file whose methods are those of a file of io's, each called by its name."""

    __slots__ = ()

    async def _call(self, name: str, *arguments: Any) -> Any:
        raise NotImplementedError

    async def read(self, size: int = -1, /) -> AnyStr:
        """Up to `size` characters or bytes; to the end when it is negative."""
        data: AnyStr = await self._call("read", size)
        return data

    async def readline(self, size: int = -1, /) -> AnyStr:
        """Up to the end of the line."""
        line: AnyStr = await self._call("readline", size)
        return line

    async def readlines(self, hint: int = -1, /) -> list[AnyStr]:
        """The lines that are left, or as many as it takes to pass `hint`."""
        lines: list[AnyStr] = await self._call("readlines", hint)
        return lines

    async def write(self, data: AnyStr, /) -> int:
        """Write it all; how much that was."""
        count: int = await self._call("write", data)
        return count

    async def writelines(self, lines: Iterable[AnyStr], /) -> None:
        """Write each of them."""
        await self._call("writelines", lines)

    async def flush(self) -> None:
        """Give the system what waits to be written."""
        await self._call("flush")


class LineFile(Lines[AnyStr]):
    """A file that gives one line after another, and is closed at the end of `async with`."""

    def _check_open(self) -> None:
        raise NotImplementedError

    async def readline(self, size: int | None = -1, /) -> AnyStr:
        """Up to the end of the line, `size` bytes or characters at most."""
        raise NotImplementedError

    async def close(self) -> None:
        """Write what waits to be written, and close."""
        raise NotImplementedError

    async def readlines(self, hint: int | None = -1, /) -> list[AnyStr]:
        """The lines that are left, or as many as it takes to pass `hint` bytes or characters."""
        limit = numbers.wanted(hint)
        lines = []
        size = 0
        async for line in self:
            lines.append(line)
            size += len(line)
            if 0 < limit < size:
                break
        return lines

    def __aiter__(self) -> AsyncIterator[AnyStr]:
        self._check_open()
        return self

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
