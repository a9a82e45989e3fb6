"""asyncio's `_ready` and `_scheduled`: what a loop has scheduled, as live sequences.

Private there, and yet counted by monitors, searched by tests and emptied by
whoever shuts a loop down by force.  Each change reads the core's whole queue and
puts it back: nothing here is for a hot path, and a loop that nobody asks pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableSequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop


class _Queue(MutableSequence):  # type: ignore[type-arg]
    """A sequence of handles in the core's keeping."""

    __slots__ = ("_count", "_read", "_write")

    def __init__(
        self,
        count: Callable[[], int],
        read: Callable[[], list[Any]],
        write: Callable[[list[Any]], None],
    ) -> None:
        self._count = count
        self._read = read
        self._write = write

    def __len__(self) -> int:
        return self._count()

    def __iter__(self) -> Any:
        return iter(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        handles = self._read()
        handles[index] = value
        self._write(handles)

    def __delitem__(self, index: Any) -> None:
        handles = self._read()
        del handles[index]
        self._write(handles)

    def insert(self, index: int, value: Any) -> None:
        """Insert a handle before `index`."""
        handles = self._read()
        handles.insert(index, value)
        self._write(handles)

    def clear(self) -> None:
        """Drop all of them: they are not called, nor marked as cancelled."""
        self._write([])

    def copy(self) -> list[Any]:
        """A list of them."""
        return self._read()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._read()!r})"


class Ready(_Queue):
    """The handles that the next turn runs, in order; as a deque is used."""

    __slots__ = ("_add",)

    def __init__(self, loop: EventLoop) -> None:
        self._add = loop._append_ready
        super().__init__(lambda: loop._ready_count, loop._get_ready, loop._set_ready)

    def append(self, handle: Any) -> None:
        """Put a handle at the end."""
        self._add(handle)

    def appendleft(self, handle: Any) -> None:
        """Put a handle in front."""
        self.insert(0, handle)

    def extendleft(self, handles: Iterable[Any]) -> None:
        """Put handles in front, one by one."""
        self._write([*reversed(list(handles)), *self._read()])

    def popleft(self) -> Any:
        """Take out the first handle.  IndexError when there is none."""
        return self.pop(0)

    def rotate(self, n: int = 1) -> None:
        """Move the last `n` handles to the front."""
        handles = self._read()
        if handles:
            n %= len(handles)
            self._write(handles[len(handles) - n :] + handles[: len(handles) - n])


class Scheduled(_Queue):
    """The timers that are not due yet, the nearest first."""

    __slots__ = ()

    def __init__(self, loop: EventLoop) -> None:
        super().__init__(
            lambda: loop._timer_count, lambda: sorted(loop._get_timers()), loop._set_timers
        )
