"""The bytes that a file has taken and not written yet, in order, and where they belong.

flush(), a close by requests and the finalizer write it in three ways: each takes
what is next, writes some of it, and says how much.
"""

from __future__ import annotations

from .descriptor import Descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Unsent:
    """The unsent bytes of one file; true while there are any.

    size: how many bytes.
    at: where in the file the first of them belongs.
    on_its_way: how many of them are being written at an offset right now.
    """

    __slots__ = ("_appending", "_chunks", "_descriptor", "at", "on_its_way", "size")

    def __init__(self, descriptor: Descriptor, appending: bool) -> None:
        self._descriptor = descriptor
        self._appending = appending
        self._chunks: list[Any] = []
        self.size = 0
        self.at = 0
        self.on_its_way = 0

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(self, data: bytes, position: int) -> None:
        """Take bytes that belong at `position`, which is behind what is here already."""
        if not self._chunks:
            self.at = position
        self._chunks.append(data)
        self.size += len(data)

    def place(self, offset: int) -> int | None:
        """The offset that a write at `offset` names; None: where the descriptor, or the end, is."""
        return None if self._appending or self._descriptor.own_position else offset

    def next(self) -> tuple[Any, int | None]:
        """The bytes to write next, and where to, as place() says it."""
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0], self.place(self.at)

    def sent(self, count: int) -> None:
        """So much of what was next has reached the kernel."""
        chunk = self._chunks[0]
        if count == len(chunk):
            del self._chunks[0]
        else:
            self._chunks[0] = memoryview(chunk)[count:]
        self.size -= count
        self.at += count
        self.on_its_way = 0
