"""uring_loop.watch_blocking(): the stack of a callback that runs for too long, while it runs."""

import asyncio
import logging
import threading
import time

import pytest
from harness import run

import uring_loop

THRESHOLD = 0.02


@pytest.fixture(autouse=True)
def only_ours(loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("it watches our loops")


class Reports:
    """Collects reports; block_until_told() is what the loop is caught at."""

    def __init__(self):
        self.told = []
        self.event = threading.Event()

    def __call__(self, blocked):
        self.told.append(blocked)
        self.event.set()

    def block_until_told(self):
        # Waits for the watching thread, however slow the machine is.
        assert self.event.wait(30)


def test_blocking_callback_is_told_while_it_runs_with_its_stack(loop):
    reports = Reports()

    async def main():
        reports.block_until_told()

    with uring_loop.watch_blocking(THRESHOLD, report=reports) as watch:
        run(loop, main())
    blocked = reports.told[0]
    assert blocked.loop is loop
    assert blocked.thread_id == threading.get_ident()
    assert blocked.seconds >= THRESHOLD
    names = [frame.name for frame in blocked.stack]
    assert names.index("main") < names.index("block_until_told")
    # From the turn on: the program around it is not in it.
    assert "run_forever" not in names
    assert not any(name.startswith("test_") for name in names)
    assert "block_until_told" in str(blocked)
    assert watch.reports == len(reports.told)


def test_callback_that_hangs_is_told_again_ever_more_seldom(loop):
    told = []
    thrice = threading.Event()

    def report(blocked):
        told.append(blocked.seconds)
        if len(told) == 3:
            thrice.set()

    async def main():
        assert thrice.wait(30)

    with uring_loop.watch_blocking(THRESHOLD, report=report):
        run(loop, main())
    assert told[1] >= 2 * told[0]
    assert told[2] >= 2 * told[1]


def test_callbacks_of_one_long_turn_are_not_told_but_one_that_is_looked_at_twice_is(loop):
    """The clock is the test's own: looks are made by the callbacks."""
    reports = Reports()
    now = 0.0

    def look(times):
        nonlocal now
        for _ in range(times):
            now += 1000.0
            watch._look(now)

    async def main():
        for _ in range(60):
            loop.call_soon(look, 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert reports.told == []
        loop.call_soon(look, 2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    with uring_loop.watch_blocking(1000.0, report=reports) as watch:
        run(loop, main())
    assert [blocked.seconds for blocked in reports.told] == [1000.0]
    assert [frame.name for frame in reports.told[0].stack][0] == "look"


def test_progress_changes_with_each_callback_and_is_none_outside_of_a_run(loop):
    seen = []

    async def main():
        for _ in range(5):
            loop.call_soon(lambda: seen.append(loop._progress()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert loop._progress() is None
    run(loop, main())
    assert loop._progress() is None
    assert len(set(seen)) == 5


def test_sleeping_loop_makes_no_progress_to_be_compared(loop):
    seen = []

    async def main():
        woken = asyncio.Event()

        def look():
            # Ends when the loop sleeps, which it does as it waits for us.
            while loop._progress() is not None:
                pass
            seen.append(loop._progress())
            loop.call_soon_threadsafe(woken.set)

        thread = threading.Thread(target=look)
        thread.start()
        await woken.wait()
        thread.join()

    run(loop, main())
    assert seen == [None]


def test_nothing_is_told_after_stop_and_the_thread_has_ended(loop):
    reports = Reports()
    watch = uring_loop.watch_blocking(THRESHOLD, report=reports)
    watch.stop()
    watch.stop()
    assert not [t for t in threading.enumerate() if t.name == "uring_loop blocking"]
    run(loop, asyncio.sleep(0))
    assert reports.told == []


def test_watch_can_be_stopped_by_its_own_report(loop):
    ended = threading.Event()

    def report(blocked):
        watch.stop()
        ended.set()

    async def main():
        assert ended.wait(30)

    watch = uring_loop.watch_blocking(THRESHOLD, report=report)
    run(loop, main())
    watch.stop()
    assert watch.reports == 1


def test_every_loop_of_the_process_is_watched(loop, make_loop):
    """One in this thread, one in another, blocked at the same time."""
    both = threading.Event()
    told = set()

    def report(blocked):
        told.add((blocked.loop, blocked.thread_id))
        if len(told) == 2:
            both.set()

    async def main():
        assert both.wait(30)

    other = make_loop()
    thread = threading.Thread(target=lambda: other.run_until_complete(main()))
    with uring_loop.watch_blocking(THRESHOLD, report=report):
        thread.start()
        ident = thread.ident
        run(loop, main())
        thread.join()
    other.close()
    assert told == {(loop, threading.get_ident()), (other, ident)}


def test_only_the_loop_that_was_named_is_watched(loop, make_loop):
    other = make_loop()
    reports = Reports()
    with uring_loop.watch_blocking(THRESHOLD, report=reports, loop=loop):

        async def blocks():
            time.sleep(THRESHOLD * 3)

        other.run_until_complete(blocks())
        run(loop, asyncio.sleep(0))
        assert all(blocked.loop is loop for blocked in reports.told)
        told_of_other = len(reports.told)

        async def main():
            reports.block_until_told()

        reports.event.clear()
        run(loop, main())
    other.close()
    assert len(reports.told) > told_of_other


def test_by_default_the_logger_warns_with_the_stack(loop, caplog):
    class Told(logging.Handler):
        def __init__(self):
            super().__init__()
            self.event = threading.Event()

        def emit(self, record):
            self.event.set()

    handler = Told()
    logger = logging.getLogger("uring_loop")
    logger.addHandler(handler)

    async def somebody_blocks():
        assert handler.event.wait(30)

    try:
        with uring_loop.watch_blocking(THRESHOLD):
            run(loop, somebody_blocks())
    finally:
        logger.removeHandler(handler)
    record = caplog.records[0]
    assert record.levelno == logging.WARNING
    assert "somebody_blocks" in record.getMessage()


def test_report_that_raises_is_logged_and_the_watch_goes_on(loop, caplog):
    twice = threading.Event()
    calls = []

    def report(blocked):
        calls.append(blocked)
        if len(calls) == 2:
            twice.set()
        raise OSError("no room")

    async def main():
        assert twice.wait(30)

    with uring_loop.watch_blocking(THRESHOLD, report=report):
        run(loop, main())
    assert any("report of a blocked event loop failed" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("threshold", [0, -1, float("nan"), float("inf")])
def test_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        uring_loop.watch_blocking(threshold)


def test_callback_that_has_returned_between_two_looks_is_not_told(loop):
    reports = Reports()
    with uring_loop.watch_blocking(1000.0, report=reports) as watch:
        watch._tell(loop, "another turn", 1.0)
        assert watch.reports == 0
    assert reports.told == []
