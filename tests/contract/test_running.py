"""run_forever, run_until_complete, stop, close and the states between."""

import asyncio
import os
import sys
import threading

import pytest
from harness import iterations, oracle_lacks, resource_warning, run


def test_loop_new_is_neither_running_nor_closed(make_loop):
    loop = make_loop()
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert loop.is_running() is False
    assert loop.is_closed() is False
    loop.close()
    assert loop.is_running() is False
    assert loop.is_closed() is True


def test_loop_repr_tells_its_state(make_loop):
    loop = make_loop()
    assert "running=False closed=False debug=False" in repr(loop)
    loop.set_debug(True)
    loop.close()
    assert "running=False closed=True debug=True" in repr(loop)


def test_loop_running_inside_a_callback_is_the_running_loop(loop):
    seen = []

    def look():
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop))
        loop.stop()

    loop.call_soon(look)
    loop.run_forever()
    assert seen == [(True, True)]
    assert loop.is_running() is False
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_run_until_complete_returns_the_result(loop):
    async def answer():
        return 42

    assert loop.run_until_complete(answer()) == 42
    future = loop.create_future()
    loop.call_soon(future.set_result, "result")
    assert loop.run_until_complete(future) == "result"


def test_run_until_complete_raises_what_the_coroutine_raised(loop):
    async def fail():
        raise LookupError("mine")

    with pytest.raises(LookupError, match="^mine$"):
        loop.run_until_complete(fail())
    assert not loop.is_running()


def test_run_until_complete_of_a_done_future_returns_at_once(loop):
    future = loop.create_future()
    future.set_result(1)
    assert loop.run_until_complete(future) == 1


def test_run_until_complete_accepts_any_awaitable(loop):
    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    assert loop.run_until_complete(Awaitable()) == "awaited"


@pytest.mark.parametrize("thing", [None, 1, "text", print, [1]])
def test_run_until_complete_of_no_awaitable_raises_type_error(loop, thing):
    with pytest.raises(TypeError):
        loop.run_until_complete(thing)
    assert not loop.is_running()


def test_run_until_complete_of_another_loops_future_raises_value_error(make_loop):
    loop, other = make_loop(), make_loop()
    future = other.create_future()
    with pytest.raises(ValueError, match="(belongs|attached) to a different loop"):
        loop.run_until_complete(future)
    loop.close()
    other.close()


def test_run_until_complete_stopped_before_the_future_raises(loop):
    async def forever():
        await loop.create_future()

    task = loop.create_task(forever())
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match=r"^Event loop stopped before Future completed\.$"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)


def test_run_until_complete_cancelled_task_raises_cancelled(loop):
    async def main():
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main())


def test_run_until_complete_leaves_no_done_callback_on_the_future(loop):
    """A second loop run must not be stopped by the future of the first."""
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    seen = []
    loop.call_soon(future.set_result, None)
    loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(seen.append, 1)))
    run(loop, iterations(5))
    assert seen == [1]


def nested_run_breaks_the_oracle(loop_kind):
    broken = sys.version_info[:3] == (3, 13, 0)
    oracle_lacks(loop_kind, broken, "a refused nested run resets the state of the outer run")


def test_run_nested_run_forever_raises(loop, loop_kind):
    nested_run_breaks_the_oracle(loop_kind)

    async def main():
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_forever()
        assert asyncio.get_running_loop() is loop
        assert loop.is_running()
        await asyncio.sleep(0)

    run(loop, main())


def test_run_nested_run_until_complete_raises(loop):
    async def main():
        future = loop.create_future()
        with pytest.raises(RuntimeError, match="^This event loop is already running$"):
            loop.run_until_complete(future)
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    run(loop, main())


def test_run_other_loop_inside_a_running_one_raises(loop, make_loop, loop_kind):
    nested_run_breaks_the_oracle(loop_kind)
    other = make_loop()
    text = "^Cannot run the event loop while another loop is running$"

    async def main():
        with pytest.raises(RuntimeError, match=text):
            other.run_forever()
        future = other.create_future()
        with pytest.raises(RuntimeError, match=text):
            other.run_until_complete(future)
        assert not other.is_running()
        assert asyncio.get_running_loop() is loop

    run(loop, main())
    other.close()


def test_run_in_another_thread_while_running_raises(loop):
    async def main():
        def attempt():
            with pytest.raises(RuntimeError, match="^This event loop is already running$"):
                loop.run_forever()
            return True

        return await loop.run_in_executor(None, attempt)

    assert run(loop, main()) is True


def test_run_twice_works(loop):
    seen = []
    for number in range(3):
        loop.call_soon(seen.append, number)
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert loop.run_until_complete(asyncio.sleep(0, number)) == number
    assert seen == [0, 1, 2]


def test_stop_before_run_runs_one_iteration(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "second")

    loop.call_soon(first)
    loop.stop()
    loop.run_forever()
    assert seen == ["first"]
    loop.stop()
    loop.run_forever()
    assert seen == ["first", "second"]


def test_stop_before_run_does_not_wait_for_timers_or_descriptors(loop):
    handle = loop.call_later(3600, print)
    loop.stop()
    loop.run_forever()
    handle.cancel()


def test_stop_before_run_still_runs_due_timers(loop):
    seen = []
    loop.call_at(0, seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_stop_in_a_callback_finishes_the_batch_and_no_more(loop):
    seen = []

    def stopping():
        loop.stop()
        seen.append("stopping")
        loop.call_soon(seen.append, "next batch")

    loop.call_soon(stopping)
    loop.call_soon(seen.append, "same batch")
    loop.run_forever()
    assert seen == ["stopping", "same batch"]
    loop.stop()
    loop.run_forever()
    assert seen == ["stopping", "same batch", "next batch"]


def test_stop_twice_is_stop_once(loop):
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"


def test_stop_is_forgotten_when_the_run_ends_by_an_exception(loop):
    def stopping():
        loop.stop()
        raise KeyboardInterrupt

    loop.call_soon(stopping)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    # Would end after one iteration if stop() were remembered.
    assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"


def test_stop_returns_none_on_a_loop_not_running_and_a_closed_one(make_loop):
    loop = make_loop()
    assert loop.stop() is None
    loop.close()
    assert loop.stop() is None


def test_stop_from_another_thread_ends_the_run(loop):
    thread = threading.Thread(target=lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()


def test_close_twice_is_close_once(make_loop):
    loop = make_loop()
    assert loop.close() is None
    assert loop.close() is None
    assert loop.is_closed()


def test_close_while_running_raises_and_the_loop_goes_on(loop):
    async def main():
        with pytest.raises(RuntimeError, match="^Cannot close a running event loop$"):
            loop.close()
        await asyncio.sleep(0)
        return not loop.is_closed()

    assert run(loop, main())


def test_close_drops_what_was_scheduled(make_loop):
    loop = make_loop()
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_later(0, seen.append, 2)
    loop.close()
    assert seen == []


def test_closed_loop_run_forever_raises(make_loop):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_forever()


def test_closed_loop_run_until_complete_raises(make_loop):
    loop = make_loop()
    future = loop.create_future()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_until_complete(future)


def test_closed_loop_create_task_raises(make_loop):
    loop = make_loop()
    loop.close()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coroutine)
    coroutine.close()


def test_closed_loop_run_in_executor_raises(make_loop):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.run_in_executor(None, print)


def test_closed_loop_still_gives_futures_and_time(make_loop):
    loop = make_loop()
    loop.close()
    assert loop.create_future().get_loop() is loop
    assert loop.time() > 0


def test_unclosed_loop_collected_warns(make_loop):
    loop = _untracked(make_loop)
    with resource_warning("unclosed event loop <"):
        del loop


def _untracked(make_loop):
    """A loop that the fixture does not keep alive."""
    loop = make_loop()
    for cell in make_loop.__closure__:
        if isinstance(cell.cell_contents, list):
            cell.cell_contents.remove(loop)
    return loop


def test_runner_runs_several_times_on_one_loop(make_loop):
    with asyncio.Runner(loop_factory=make_loop) as runner:
        loop = runner.get_loop()
        assert runner.run(asyncio.sleep(0, 1)) == 1
        assert runner.run(asyncio.sleep(0, 2)) == 2
        assert runner.get_loop() is loop
    assert loop.is_closed()


def test_runner_cancels_what_is_left(make_loop):
    async def forever():
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main():
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    seen, tasks = [], []
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())
    assert seen == ["cancelled"]


def test_loops_many_made_and_closed_keep_the_number_of_descriptors(make_loop):
    make_loop().close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        loop = make_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_loops_several_open_at_once_run_in_turn(make_loop):
    loops = [make_loop() for _ in range(10)]
    for _ in range(3):
        for number, loop in enumerate(loops):
            assert loop.run_until_complete(asyncio.sleep(0, number)) == number
    for loop in loops:
        loop.close()


def test_loops_in_many_threads_at_once_run_independently(make_loop):
    results = []

    def work(number):
        loop = make_loop()
        try:
            results.append(loop.run_until_complete(asyncio.sleep(0.001, number)))
        finally:
            loop.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(10))
