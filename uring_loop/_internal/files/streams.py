"""sys.stdin, sys.stdout and sys.stderr, awaited, by aiofiles' names.

Each call is made by a thread of the default executor, on what `sys` has at that moment: a
program may put something else there.  A thread that waits for a terminal to be typed at keeps
the interpreter from ending, as aiofiles' does.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, AnyStr

from .lines import CalledFile
from .threaded import in_thread

__all__ = ["stderr", "stderr_bytes", "stdin", "stdin_bytes", "stdout", "stdout_bytes"]


class StandardStream(CalledFile[AnyStr]):
    """One of the process's three standard streams, of text or of bytes."""

    __slots__ = ("_find", "_name")

    def __init__(self, name: str, find: Callable[[], Any]) -> None:
        self._name = name
        self._find = find

    def __repr__(self) -> str:
        return f"<asynchronous sys.{self._name}>"

    async def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(await self._call("isatty"))

    async def readable(self) -> bool:
        """Whether it can be read."""
        return bool(await self._call("readable"))

    async def writable(self) -> bool:
        """Whether it can be written."""
        return bool(await self._call("writable"))

    async def seekable(self) -> bool:
        """Whether it has a position."""
        return bool(await self._call("seekable"))

    def fileno(self) -> int:
        """Its descriptor."""
        number: int = self._find().fileno()
        return number

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return bool(self._find().closed)

    @property
    def name(self) -> str:
        """As in `<stdin>`."""
        return str(self._find().name)

    async def _call(self, name: str, *arguments: Any) -> Any:
        return await in_thread(functools.partial(getattr(self._find(), name), *arguments))


stdin: StandardStream[str] = StandardStream("stdin", lambda: sys.stdin)
stdout: StandardStream[str] = StandardStream("stdout", lambda: sys.stdout)
stderr: StandardStream[str] = StandardStream("stderr", lambda: sys.stderr)
stdin_bytes: StandardStream[bytes] = StandardStream("stdin.buffer", lambda: sys.stdin.buffer)
stdout_bytes: StandardStream[bytes] = StandardStream("stdout.buffer", lambda: sys.stdout.buffer)
stderr_bytes: StandardStream[bytes] = StandardStream("stderr.buffer", lambda: sys.stderr.buffer)
