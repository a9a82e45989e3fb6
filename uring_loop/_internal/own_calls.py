"""Calls of the loop's own that a tool would take for blocking ones of the program's.

blockbuster and its like put functions of theirs into `os` and elsewhere, which raise
while a loop runs in their thread, unless a function of asyncio's is on the stack that
they know by file and name.  Ours are in other files.  What stands in `os` is called
nevertheless, because asyncio looks there, and who tests with a refusal puts it there;
but it finds no running loop, for it is no task that makes the call.
"""

from __future__ import annotations

from collections.abc import Callable

from . import _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


def outside(call: Callable[..., T], *args: Any) -> T:
    """Call it as if no loop were running in this thread.  For what takes a moment only."""
    running = _stdlib.get_running_loop_or_none()
    try:
        _stdlib.set_running_loop(None)
        return call(*args)
    finally:
        _stdlib.set_running_loop(running)
