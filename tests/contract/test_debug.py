"""Debug mode: what it refuses, what it logs, what it remembers."""

import asyncio
import logging
import subprocess
import sys
import threading
import time

import pytest
from harness import iterations, run


async def coroutine_function():
    pass


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    return loop


def test_debug_is_off_by_default_and_can_be_switched(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


def test_debug_follows_the_environment(loop_kind):
    text = (
        "import asyncio, sys\n"
        f"if {loop_kind!r} == 'asyncio': loop = asyncio.SelectorEventLoop()\n"
        "else:\n"
        "    import uring_loop; loop = uring_loop.new_event_loop()\n"
        "print(loop.get_debug()); loop.close()\n"
    )
    for extra, expected in ((["-X", "dev"], "True"), ([], "False")):
        done = subprocess.run(
            [sys.executable, *extra, "-c", text], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_at"])
def test_debug_coroutine_function_as_callback_raises(debug_loop, method):
    arguments = (0,) if method == "call_at" else ()
    text = rf"^coroutines cannot be used with {method}\(\)$"
    with pytest.raises(TypeError, match=text):
        getattr(debug_loop, method)(*arguments, coroutine_function)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_at"])
def test_debug_coroutine_object_as_callback_raises(debug_loop, method):
    arguments = (0,) if method == "call_at" else ()
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=rf"^coroutines cannot be used with {method}\(\)$"):
        getattr(debug_loop, method)(*arguments, coroutine)
    coroutine.close()


def test_debug_call_later_of_a_coroutine_function_names_call_at(debug_loop):
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with call_at\(\)$"):
        debug_loop.call_later(0, coroutine_function)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_at"])
@pytest.mark.parametrize("thing", [None, 5, "text"])
def test_debug_callback_not_callable_raises(debug_loop, method, thing):
    arguments = (0,) if method == "call_at" else ()
    text = rf"^a callable object was expected by {method}\(\), got {thing!r}$"
    with pytest.raises(TypeError, match=text):
        getattr(debug_loop, method)(*arguments, thing)


def test_debug_run_in_executor_of_a_coroutine_function_raises(debug_loop):
    with pytest.raises(TypeError, match=r"^coroutines cannot be used with run_in_executor\(\)$"):
        debug_loop.run_in_executor(None, coroutine_function)


def test_debug_refused_callback_leaves_nothing_scheduled(debug_loop, errors):
    with pytest.raises(TypeError):
        debug_loop.call_soon(None)
    with pytest.raises(TypeError):
        debug_loop.call_later(0, None)
    run(debug_loop, iterations(3))
    assert errors == []


@pytest.mark.parametrize("thing", [None, 5])
def test_without_debug_callback_not_callable_reaches_the_handler(loop, errors, thing):
    loop.call_soon(thing)
    run(loop, iterations(1))
    assert len(errors) == 1
    assert isinstance(errors.pop()["exception"], TypeError)


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_call_from_another_thread_while_running_raises(debug_loop, method):
    arguments = () if method == "call_soon" else (0,)

    async def main():
        def attempt():
            text = (
                "^Non-thread-safe operation invoked on an event loop other than the current one$"
            )
            with pytest.raises(RuntimeError, match=text):
                getattr(debug_loop, method)(*arguments, print)
            return True

        return await debug_loop.run_in_executor(None, attempt)

    assert run(debug_loop, main()) is True


def test_debug_call_from_another_thread_while_not_running_is_allowed(debug_loop):
    seen = []
    thread = threading.Thread(target=debug_loop.call_soon, args=(seen.append, 1))
    thread.start()
    thread.join()
    run(debug_loop, iterations(1))
    assert seen == [1]


def test_debug_call_soon_threadsafe_from_another_thread_is_allowed(debug_loop):
    async def main():
        done = asyncio.Event()
        thread = threading.Thread(target=debug_loop.call_soon_threadsafe, args=(done.set,))
        thread.start()
        await done.wait()
        thread.join()

    run(debug_loop, main())


def test_debug_slow_callback_is_logged(debug_loop, caplog):
    assert debug_loop.slow_callback_duration == 0.1
    debug_loop.slow_callback_duration = 0.005

    def slow_callback_of_this_test():
        time.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        debug_loop.call_soon(slow_callback_of_this_test)
        run(debug_loop, iterations(2))
    texts = [record.getMessage() for record in caplog.records]
    slow = [text for text in texts if "slow_callback_of_this_test" in text]
    assert len(slow) == 1
    assert slow[0].startswith("Executing <Handle ")
    assert "created at" in slow[0]
    assert slow[0].endswith(" seconds")


def test_debug_slow_task_is_logged_as_the_task(debug_loop, caplog):
    debug_loop.slow_callback_duration = 0.005

    async def slow_coroutine_of_this_test():
        time.sleep(0.01)

    with caplog.at_level(logging.WARNING, "asyncio"):
        debug_loop.run_until_complete(slow_coroutine_of_this_test())
    texts = [record.getMessage() for record in caplog.records]
    slow = [text for text in texts if "slow_coroutine_of_this_test" in text]
    assert len(slow) == 1
    assert slow[0].startswith("Executing <Task ")


def test_debug_quick_callback_is_not_logged(debug_loop, caplog):
    debug_loop.slow_callback_duration = 30
    with caplog.at_level(logging.WARNING, "asyncio"):
        run(debug_loop, iterations(3))
    assert caplog.records == []


def test_without_debug_slow_callback_is_not_logged(loop, caplog):
    loop.slow_callback_duration = 0.001
    with caplog.at_level(logging.WARNING, "asyncio"):
        loop.call_soon(time.sleep, 0.005)
        run(loop, iterations(2))
    assert caplog.records == []


def test_debug_exception_in_a_callback_carries_where_it_was_scheduled(debug_loop, errors):
    def failing():
        raise LookupError

    for schedule in (
        lambda: debug_loop.call_soon(failing),
        lambda: debug_loop.call_later(0, failing),
        lambda: debug_loop.call_at(0, failing),
        lambda: debug_loop.call_soon_threadsafe(failing),
    ):
        schedule()
        run(debug_loop, iterations(2))
        context = errors.pop()
        assert errors == []
        frame = context["source_traceback"][-1]
        assert frame.filename == __file__
        assert frame.name == "<lambda>"


def test_debug_task_and_future_source_traceback_ends_in_the_users_code(debug_loop):
    async def main():
        task = debug_loop.create_task(coroutine_function())
        future = debug_loop.create_future()
        await task
        future.cancel()
        return task._source_traceback, future._source_traceback

    for traceback in run(debug_loop, main()):
        assert any(frame.filename == __file__ for frame in traceback)
        assert traceback[-1].filename == __file__ or "create_future" in traceback[-1].name


def test_debug_coroutine_origin_tracking_is_on_only_while_running(debug_loop):
    before = sys.get_coroutine_origin_tracking_depth()

    async def main():
        return sys.get_coroutine_origin_tracking_depth()

    assert run(debug_loop, main()) > before
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_debug_switched_while_running_switches_origin_tracking(loop):
    async def main():
        depths = [sys.get_coroutine_origin_tracking_depth()]
        for enabled in (True, False):
            loop.set_debug(enabled)
            await iterations(2)
            depths.append(sys.get_coroutine_origin_tracking_depth())
        return depths

    off, on, off_again = run(loop, main())
    assert off == 0
    assert on > 0
    assert off_again == 0


def test_debug_set_debug_in_a_callback_takes_effect_at_once(loop):
    async def main():
        loop.set_debug(True)
        with pytest.raises(TypeError):
            loop.call_soon(coroutine_function)
        loop.set_debug(False)

    run(loop, main())
