"""Work that stays inside the loop: callbacks, timers, futures, tasks.

Owns one function per row: run `count` operations on `loop` and return the CPU
seconds they took. Also a worker process that answers such requests line by
line, so that several loops can be measured in turns, each in a process of its
own. CPU time and not wall time: what waits costs nothing, and a neighbour on
the machine adds nothing.
"""

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType

from . import loops as _loops

Loop = asyncio.AbstractEventLoop
BATCH = 1000
GATHER = 100
TIMER_SECONDS = 0.001

clock = time.process_time


def nothing() -> None:
    """The cheapest callback."""


def call_soon_batch(loop: Loop, count: int) -> float:
    """call_soon() a thousand times, then run them all."""
    call_soon = loop.call_soon
    begin = clock()
    for _ in range(max(1, count // BATCH)):
        for _ in range(BATCH):
            call_soon(nothing)
        call_soon(loop.stop)
        loop.run_forever()
    return clock() - begin


def call_soon_chain(loop: Loop, count: int) -> float:
    """Each callback schedules the next: one per turn."""
    left = count

    def step() -> None:
        nonlocal left
        left -= 1
        if left > 0:
            loop.call_soon(step)
        else:
            loop.stop()

    loop.call_soon(step)
    begin = clock()
    loop.run_forever()
    return clock() - begin


def call_soon_threadsafe(loop: Loop, count: int) -> float:
    """call_soon_threadsafe() a thousand times from the loop's own thread, then run them."""
    call_soon_threadsafe = loop.call_soon_threadsafe
    begin = clock()
    for _ in range(max(1, count // BATCH)):
        for _ in range(BATCH):
            call_soon_threadsafe(nothing)
        loop.call_soon(loop.stop)
        loop.run_forever()
    return clock() - begin


def call_later_cancel(loop: Loop, count: int) -> float:
    """A timer that never fires, as every timeout that is met in time."""
    call_later = loop.call_later

    async def work() -> float:
        begin = clock()
        for _ in range(max(1, count // BATCH)):
            for _ in range(BATCH):
                call_later(60, nothing).cancel()
            await asyncio.sleep(0)
        return clock() - begin

    return loop.run_until_complete(work())


def call_later_cancel_many(loop: Loop, count: int) -> float:
    """A thousand timers alive together, then all cancelled."""
    call_later = loop.call_later

    async def work() -> float:
        begin = clock()
        for _ in range(max(1, count // BATCH)):
            handles = [call_later(60, nothing) for _ in range(BATCH)]
            for handle in handles:
                handle.cancel()
            await asyncio.sleep(0)
        return clock() - begin

    return loop.run_until_complete(work())


def call_later_fire(loop: Loop, count: int) -> float:
    """Timers of one millisecond that all fire."""
    call_later = loop.call_later
    begin = clock()
    for _ in range(max(1, count // BATCH)):
        for _ in range(BATCH):
            call_later(TIMER_SECONDS, nothing)
        # A little later than the others, even on a loop that counts milliseconds.
        call_later(2 * TIMER_SECONDS, loop.stop)
        loop.run_forever()
    return clock() - begin


def sleep_zero(loop: Loop, count: int) -> float:
    """await asyncio.sleep(0)"""

    async def work() -> float:
        sleep = asyncio.sleep
        begin = clock()
        for _ in range(count):
            await sleep(0)
        return clock() - begin

    return loop.run_until_complete(work())


def future_wake_up(loop: Loop, count: int) -> float:
    """A future made, resolved by a callback and awaited."""

    async def work() -> float:
        begin = clock()
        for _ in range(count):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future
        return clock() - begin

    return loop.run_until_complete(work())


async def nap() -> None:
    await asyncio.sleep(0)


async def quick() -> None:
    pass


def gather_tasks(loop: Loop, count: int) -> float:
    """gather() of a hundred coroutines that each yield once; per task."""

    async def work() -> float:
        begin = clock()
        for _ in range(max(1, count // GATHER)):
            await asyncio.gather(*[nap() for _ in range(GATHER)])
        return clock() - begin

    return loop.run_until_complete(work())


def create_task(loop: Loop, count: int) -> float:
    """A task made and awaited."""

    async def work() -> float:
        make = loop.create_task
        begin = clock()
        for _ in range(count):
            await make(quick())
        return clock() - begin

    return loop.run_until_complete(work())


def run_in_executor(loop: Loop, count: int) -> float:
    """A call in the default executor, awaited; counts the CPU time of both threads."""

    async def work() -> float:
        begin = clock()
        for _ in range(count):
            await loop.run_in_executor(None, nothing)
        return clock() - begin

    return loop.run_until_complete(work())


def getaddrinfo_numeric(loop: Loop, count: int) -> float:
    """getaddrinfo() of a numeric host."""

    async def work() -> float:
        begin = clock()
        for _ in range(count):
            await loop.getaddrinfo("127.0.0.1", 80, type=1)
        return clock() - begin

    return loop.run_until_complete(work())


class Counting(asyncio.Protocol):
    """Resolves `done` when it has received `wanted` bytes."""

    def __init__(self) -> None:
        self.wanted = 0
        self.done: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        self.wanted -= len(data)
        if self.wanted <= 0 and self.done is not None:
            self.done.set_result(None)
            self.done = None


def pipe_messages(loop: Loop, count: int) -> float:
    """A message of 1 KiB written into a pipe and received from it, one at a time."""
    message = bytes(1024)

    async def work() -> float:
        reader, writer = os.pipe()
        source, received = await loop.connect_read_pipe(Counting, open(reader, "rb", 0))
        sink, _ = await loop.connect_write_pipe(asyncio.Protocol, open(writer, "wb", 0))
        begin = clock()
        for _ in range(count):
            received.wanted = len(message)
            done = received.done = loop.create_future()
            sink.write(message)
            await done
        seconds = clock() - begin
        sink.close()
        source.close()
        await asyncio.sleep(0)
        return seconds

    return loop.run_until_complete(work())


def subprocess_life(loop: Loop, count: int) -> float:
    """A program started and waited for; counts the CPU time of this process only."""

    async def work() -> float:
        begin = clock()
        for _ in range(count):
            process = await asyncio.create_subprocess_exec("true")
            await process.wait()
        return clock() - begin

    return loop.run_until_complete(work())


def loop_life(loop: Loop, count: int, make: Callable[[], Loop] | None = None) -> float:
    """A loop made, run once and closed."""
    if make is None:
        raise ValueError("loop_life needs the loop's factory")
    begin = clock()
    for _ in range(count):
        other = make()
        other.call_soon(other.stop)
        other.run_forever()
        other.close()
    return clock() - begin


# name -> (function, operations per sample: some milliseconds of work, description)
ROWS: dict[str, tuple[Callable[[Loop, int], float], int, str]] = {
    "call_soon": (call_soon_batch, 30 * BATCH, "call_soon and run, batch of 1000"),
    "call_soon_chain": (call_soon_chain, 20_000, "call_soon, one per turn"),
    "call_soon_threadsafe": (call_soon_threadsafe, 30 * BATCH, "call_soon_threadsafe and run"),
    "call_later_cancel": (call_later_cancel, 20 * BATCH, "call_later and cancel"),
    "call_later_cancel_many": (
        call_later_cancel_many,
        10 * BATCH,
        "call_later and cancel, 1000 alive",
    ),
    "call_later_fire": (call_later_fire, 10 * BATCH, "call_later, fire"),
    "sleep_0": (sleep_zero, 10_000, "await sleep(0)"),
    "future": (future_wake_up, 5_000, "future wake-up"),
    "create_task": (create_task, 5_000, "create_task and await"),
    "gather_100": (gather_tasks, 50 * GATHER, "gather of 100 tasks, per task"),
    "run_in_executor": (run_in_executor, 200, "run_in_executor"),
    "getaddrinfo": (getaddrinfo_numeric, 200, "getaddrinfo, numeric host"),
    "pipe_1k": (pipe_messages, 1_000, "1 KiB through a pipe"),
    "subprocess": (subprocess_life, 20, "start a program and wait for it"),
}
LOOP_LIFE = "loop_life"
LOOP_LIFE_COUNT = 50


def sample_ns(name: str, loop_name: str, loop: Loop, count: int | None = None) -> float:
    """One sample of a row in nanoseconds per operation, with the collector off."""
    gc.collect()
    gc.disable()
    try:
        if name == LOOP_LIFE:
            count = count or LOOP_LIFE_COUNT
            seconds = loop_life(loop, count, lambda: _loops.create(loop_name))
        else:
            function, usual, _ = ROWS[name]
            count = count or usual
            seconds = function(loop, count)
    finally:
        gc.enable()
    return seconds / count * 1e9


class Worker:
    """A process with one loop that takes samples on request."""

    def __init__(self, loop: str, core: int | None) -> None:
        command = [sys.executable, "-m", f"{__package__}.micro", "--loop", loop]
        if core is not None:
            command += ["--core", str(core)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.error = self._read().get("error")

    def _read(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, object] = json.loads(line) if line else {"error": "the worker ended"}
        return answer

    def sample_ns(self, name: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        answer = self._read()
        if "error" in answer:
            raise _loops.Unavailable(str(answer["error"]))
        return float(str(answer["ns"]))

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    try:
        loop = _loops.create(options.loop)
    except _loops.Unavailable as error:
        say({"error": str(error)})
        return
    asyncio.set_event_loop(loop)
    say({"driver": getattr(loop, "driver", None)})
    for line in sys.stdin:
        try:
            say({"ns": sample_ns(line.strip(), options.loop, loop)})
        except Exception as error:  # a loop that cannot do this row; the others still can
            say({"error": f"{type(error).__name__}: {error}"})
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
