"""Timers beside many others, in a process of its own: one line of JSON with CPU time for each.

    python perf/growth_timers.py --loop uring --alive 100000

Started by growth.py. First so many timers are made that never fire meanwhile; then, beside them,
others are made and cancelled, and others are made and fire.
"""

import argparse
import asyncio
import gc
import json
import os
import random
from collections.abc import Sequence

import _checkout  # noqa: F401

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import micro as _micro

# When those that stay would fire, in seconds; and, among them, those that are cancelled.
SOONEST, LATEST = 600.0, 4200.0
DELAYS = 1000
# Operations of a sample, at least.
CANCELLED = 20_000
FIRED = 10 * _micro.BATCH


def delays(count: int, seed: int) -> list[float]:
    """The same for every loop."""
    source = random.Random(seed)
    return [source.uniform(SOONEST, LATEST) for _ in range(count)]


def cancel_ns(loop: asyncio.AbstractEventLoop, alive: int) -> float:
    """call_later() and cancel(), with a turn of the loop after each thousand.

    Twice as many as are alive: asyncio keeps what was cancelled until it is more than half of
    all, then sorts all anew, and the sample has to have its share of that.
    """
    some = delays(DELAYS, 2)
    batches = max(CANCELLED, 2 * alive) // DELAYS
    call_later, nothing = loop.call_later, _micro.nothing

    async def work() -> float:
        begin = _micro.clock()
        for _ in range(batches):
            for delay in some:
                call_later(delay, nothing).cancel()
            await asyncio.sleep(0)
        return _micro.clock() - begin

    return loop.run_until_complete(work()) / (batches * DELAYS) * 1e9


def fire_ns(loop: asyncio.AbstractEventLoop) -> float:
    """A timer made and fired: sooner than all that stay."""
    return _micro.call_later_fire(loop, FIRED) / FIRED * 1e9


def measure(loop: asyncio.AbstractEventLoop, alive: int) -> dict[str, float]:
    handles: Sequence[asyncio.TimerHandle] = [
        loop.call_later(delay, _micro.nothing) for delay in delays(alive, 1)
    ]
    # What a loop keeps for its first turn with them is not what is measured.
    loop.run_until_complete(asyncio.sleep(0))
    gc.collect()
    gc.disable()
    # The first sample warms up.
    fire_ns(loop)
    fired = fire_ns(loop)
    cancelled = cancel_ns(loop, alive)
    if any(handle.cancelled() for handle in handles):
        raise RuntimeError("a timer that was to stay is gone")
    return {"cancel_ns": cancelled, "fire_ns": fired}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", required=True)
    parser.add_argument("--alive", type=int, required=True)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    loop = _loops.create(options.loop)
    asyncio.set_event_loop(loop)
    print(json.dumps(measure(loop, options.alive)), flush=True)
    # Millions of timers are not taken apart one by one.
    os._exit(0)


if __name__ == "__main__":
    main()
