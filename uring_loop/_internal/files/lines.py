"""The part that files of bytes and files of text share: `async for`, `async with`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import AnyStr, Generic, Self

from . import numbers


class LineFile(Generic[AnyStr]):
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

    async def __anext__(self) -> AnyStr:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
