"""What EventLoop.statistics() tells: the counters of the driver and the core, and what follows.

Knows no loop and no driver: only numbers, so that a difference of two answers, of this
process or of another, is an answer of the same form.
"""

from __future__ import annotations

import asyncio
import functools
import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    # The least nanoseconds of its turns, how many they are, and their sum.
    Bucket = Sequence[int]

PERCENTILES = (("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p99.9_ns", 0.999))
# What says how things are now, and is no sum of what has been.
GAUGES = frozenset({"in_flight", "transports", "threads", "queued"})
# The names among the longest callbacks.
LONGEST_MAX = 16


def of_turns(busy: int, idle: int, longest: int, histogram: Sequence[Bucket]) -> dict[str, Any]:
    """statistics()["time"], of nanoseconds and of the turns by what they took."""
    running = busy + idle
    return {
        "busy_ns": busy,
        "idle_ns": idle,
        "utilization": busy / running if running else 0.0,
        "turns": _summary(histogram, longest),
        "delay": _delay(histogram, longest, running),
        "histogram": [list(bucket) for bucket in histogram],
    }


def _summary(histogram: Sequence[Bucket], longest: int) -> dict[str, Any]:
    """Turns by their length: each counts as much as any other."""
    count = sum(turns for _, turns, _ in histogram)
    total = sum(ns for _, _, ns in histogram)
    squares = sum(ns * ns / turns for _, turns, ns in histogram)
    found: dict[str, Any] = {"count": count, **_moments(count, total, squares)}
    for name, share in PERCENTILES:
        found[name] = min(_at_rank(histogram, share * count), longest)
    found["max_ns"] = longest
    return found


def _moments(weight: float, total: float, squares: float) -> dict[str, float]:
    if not weight:
        return {"mean_ns": 0.0, "stddev_ns": 0.0}
    mean = total / weight
    return {"mean_ns": mean, "stddev_ns": math.sqrt(max(0.0, squares / weight - mean * mean))}


def _at_rank(histogram: Sequence[Bucket], rank: float) -> float:
    below = 0
    for _, turns, ns in histogram:
        below += turns
        if below >= rank:
            return ns / turns
    return 0.0


def _delay(histogram: Sequence[Bucket], longest: int, running: int) -> dict[str, Any]:
    """How long waits what gets ready at any moment: nothing while the loop sleeps, in a turn
    the rest of it.

    A turn of 50 ms in a second is found by one event in twenty, which then waits for 25 ms on
    average. So each turn counts by its length; the share of the moments from which on more
    than x is waited is the sum of what is longer than x in each turn, of all the time.
    """
    lengths = [(ns / turns, turns) for _, turns, ns in histogram]
    total = sum(turns * length**2 / 2 for length, turns in lengths)
    squares = sum(turns * length**3 / 3 for length, turns in lengths)
    found: dict[str, Any] = dict(_moments(running, total, squares))
    for name, share in PERCENTILES:
        found[name] = _exceeded_in(lengths, (1 - share) * running)
    found["max_ns"] = longest
    return found


def _exceeded_in(lengths: Sequence[tuple[float, int]], time: float) -> float:
    """The delay that is exceeded during `time` of all turns; they are in rising order."""
    count, total = 0, 0.0
    for number in range(len(lengths) - 1, -1, -1):
        length, turns = lengths[number]
        count += turns
        total += turns * length
        shorter = lengths[number - 1][0] if number else 0.0
        delay = (total - time) / count
        if delay >= shorter:
            return delay
    return 0.0


def difference(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What happened between two answers of statistics(), in the same form.

    Gauges and the longest callbacks are as they were at the end. The longest turn of the
    time between is known where it is the longest of all; else it is the mean of its bucket.
    """
    found = _difference(after, before)
    if "time" in after:
        time, earlier = after["time"], before.get("time") or of_turns(0, 0, 0, ())
        known = {least: (turns, ns) for least, turns, ns in earlier["histogram"]}
        histogram = []
        for least, turns, ns in time["histogram"]:
            turns_before, ns_before = known.get(least, (0, 0))
            if turns > turns_before:
                histogram.append((least, turns - turns_before, ns - ns_before))
        longest = time["turns"]["max_ns"]
        if longest == earlier["turns"]["max_ns"]:
            longest = histogram[-1][2] // histogram[-1][1] if histogram else 0
        found["time"] = of_turns(
            time["busy_ns"] - earlier["busy_ns"],
            # What of the waits was work is an estimate, which may grow at once.
            max(0, time["idle_ns"] - earlier["idle_ns"]),
            longest,
            histogram,
        )
    return found


def _difference(after: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in after.items():
        if isinstance(value, dict):
            found[name] = _difference(value, before.get(name, {}))
        elif isinstance(value, int) and name not in GAUGES:
            found[name] = value - before.get(name, 0)
        else:
            found[name] = value
    # Of operations and batches only those are listed that there were.
    for name in ("submissions", "batches"):
        if name in found:
            found[name] = {key: value for key, value in found[name].items() if value}
    return found


class Longest:
    """The longest callbacks, each by its name: the longest of it, and how many were noted."""

    def __init__(self) -> None:
        self._noted: dict[str, list[int]] = {}

    def note(self, callback: Any, ns: int) -> int | None:
        """Note one; gives what the next must take to be among them, once that is known."""
        name = name_of(callback)
        entry = self._noted.setdefault(name, [0, 0])
        entry[0] = max(entry[0], ns)
        entry[1] += 1
        if len(self._noted) > LONGEST_MAX:
            del self._noted[min(self._noted, key=lambda name: self._noted[name][0])]
            return min(longest for longest, _ in self._noted.values())
        return None

    def told(self) -> list[dict[str, Any]]:
        """The longest first."""
        found = [
            {"callback": name, "ns": ns, "count": count}
            for name, (ns, count) in list(self._noted.items())
        ]
        return sorted(found, key=lambda entry: -int(str(entry["ns"])))


def name_of(callback: Any) -> str:
    """The name by which a person finds a callback's code: of a task, its coroutine's."""
    while isinstance(callback, functools.partial):
        callback = callback.func
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine: Any = task.get_coro()
        name = getattr(coroutine, "__qualname__", None) or task.get_name()
        # Its frame, which knows the module, has gone if that was its last step.
        code = getattr(coroutine, "cr_code", None) or getattr(coroutine, "gi_code", None)
        return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else str(name)
    # A transport, in whose name something was received or sent.
    protocol = getattr(callback, "_protocol", None)
    if protocol is not None:
        kind = type(protocol)
        return f"{kind.__module__}.{kind.__qualname__}"
    name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
    module = getattr(callback, "__module__", None)
    return f"{module}.{name}" if module else str(name)
