"""Who blocks the loop, seen by another thread while it does.

The loop is asked nothing and does nothing for it: the thread compares what of the core
changes with each callback (`_progress()`), and when that has not changed for too long it
takes the stack of the loop's thread.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import traceback
import types
from dataclasses import dataclass

from .. import _core
from .loop import EventLoop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

_logger = logging.getLogger("uring_loop")

# Looks during one threshold, while a loop runs callbacks and while all sleep.
_LOOKS = 4
_LOOKS_ASLEEP = 2


@dataclass(frozen=True)
class BlockedCallback:
    """A callback that has not returned yet.

    loop: which it blocks.
    thread_id: of the thread that runs the loop, as threading.get_ident() tells it.
    seconds: for which it has run, at least.
    stack: of that thread, from the loop's turn to the line that runs now.
    """

    loop: EventLoop
    thread_id: int
    seconds: float
    stack: traceback.StackSummary

    def __str__(self) -> str:
        lines = "".join(self.stack.format()).rstrip()
        return f"a callback has blocked the event loop for {self.seconds:.3f} s:\n{lines}"


class BlockingWatch:
    """A thread that watches loops until stop(), or the end of a `with` block.

    reports: how many there were.
    """

    def __init__(
        self,
        threshold: float,
        report: Callable[[BlockedCallback], object],
        loop: EventLoop | None,
    ) -> None:
        self.reports: int = 0
        self._threshold = threshold
        self._report = report
        self._loop = loop
        self._seen: dict[int, _Seen] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="uring_loop blocking", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Watch no more; afterwards nothing is reported. Does nothing the second time."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _watch(self) -> None:
        looks = _LOOKS
        while not self._stopped.wait(self._threshold / looks):
            self._look(time.monotonic())
            looks = _LOOKS if self._seen else _LOOKS_ASLEEP

    def _look(self, now: float) -> None:
        loops = [self._loop] if self._loop is not None else _core.running_loops()
        # Of loops that do not run any more, nothing: their ids may be another's next time.
        before, self._seen = self._seen, {}
        for loop in loops:
            progress = loop._progress()
            if progress is None:
                continue
            known = before.get(id(loop))
            if known is None or known.progress != progress:
                known = _Seen(progress, now, now + self._threshold)
            elif now >= known.due:
                self._tell(loop, progress, now - known.since)
                # A hang is told again and again, ever more seldom.
                known.due = now + (now - known.since)
            self._seen[id(loop)] = known

    def _tell(self, loop: EventLoop, progress: Any, seconds: float) -> None:
        thread_id = loop._thread_ident
        frame = sys._current_frames().get(thread_id)
        # The callback may have returned between the two looks.
        if frame is None or loop._progress() != progress:
            return
        blocked = BlockedCallback(loop, thread_id, seconds, _stack(frame))
        del frame
        self.reports += 1
        try:
            self._report(blocked)
        except Exception:
            _logger.exception("a report of a blocked event loop failed")


@dataclass
class _Seen:
    """What a loop was doing, since when at least, and when that will be told."""

    progress: Any
    since: float
    due: float


def _stack(frame: types.FrameType | None) -> traceback.StackSummary:
    """From the loop's turn inwards; the program around the loop says nothing."""
    frames = []
    while frame is not None and frame.f_code is not EventLoop.run_forever.__code__:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return traceback.StackSummary.extract(iter(reversed(frames)))


def _log(blocked: BlockedCallback) -> None:
    _logger.warning("%s", blocked)


def watch_blocking(
    threshold: float = 0.1,
    *,
    report: Callable[[BlockedCallback], object] | None = None,
    loop: EventLoop | None = None,
) -> BlockingWatch:
    """Report from another thread each callback that runs for too long, while it runs.

    Works outside of debug mode, at the price of a thread that wakes four times in each
    threshold, or twice while the loops sleep. A callback that takes two thresholds is always
    told, and one that goes on is told again after twice the time, four times, and so on.

    threshold: seconds, more than 0.
    report: called in that thread with a BlockedCallback; by default a warning of the logger
        "uring_loop". Its exceptions are logged.
    loop: to watch; by default each loop of ours that runs in this process, in any thread.

    Code that keeps the GIL all the time (a regular expression, a computation in C) stops
    this thread too, and is seen only if it is the same callback that lets go of it;
    statistics()["longest"] names it. The thread does not survive a fork.

    ValueError for a threshold that is none.
    """
    if not (threshold > 0 and math.isfinite(threshold)):
        raise ValueError(f"threshold must be a number of seconds above 0, not {threshold!r}")
    return BlockingWatch(threshold, report or _log, loop)
