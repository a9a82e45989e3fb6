"""call_soon and call_soon_threadsafe: order, arguments, cancelling, bad callers."""

import asyncio
import functools
import socket
import threading

import pytest
from harness import iterations, run


def test_call_soon_many_run_in_order_of_calling(loop):
    seen = []
    for number in range(100):
        loop.call_soon(seen.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(100))


def test_call_soon_and_threadsafe_mixed_share_one_order(loop):
    seen = []
    for number in range(20):
        schedule = loop.call_soon if number % 2 else loop.call_soon_threadsafe
        schedule(seen.append, number)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == list(range(20))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 40])
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_call_soon_any_number_of_arguments_passes_them(loop, method, count):
    seen = []
    arguments = tuple(object() for _ in range(count))
    getattr(loop, method)(lambda *got: seen.append(got), *arguments)
    run(loop, iterations(1))
    assert seen == [arguments]


def test_call_soon_any_callable_is_called(loop):
    seen = []

    class Callable:
        def __call__(self, value):
            seen.append(value)

        def method(self, value):
            seen.append(value)

    loop.call_soon(Callable(), 1)
    loop.call_soon(Callable().method, 2)
    loop.call_soon(functools.partial(seen.append, 3))
    loop.call_soon(functools.partial(Callable(), value=4))
    loop.call_soon(seen.append, 5)
    run(loop, iterations(1))
    assert seen == [1, 2, 3, 4, 5]


def test_call_soon_returning_a_value_ignores_it(loop, errors):
    loop.call_soon(lambda: object())
    loop.call_soon(lambda: 1 / 1)
    run(loop, iterations(1))
    assert errors == []


def test_call_soon_from_a_callback_runs_in_the_next_iteration(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "third")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["first", "second"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["first", "second", "third"]


def test_call_soon_endless_chain_does_not_starve_descriptors(loop):
    async def main():
        one, other = socket.socketpair()
        stopped = False

        def again():
            if not stopped:
                loop.call_soon(again)

        again()
        readable = loop.create_future()
        loop.add_reader(one, lambda: readable.done() or readable.set_result(None))
        other.send(b"x")
        await readable
        loop.remove_reader(one)
        stopped = True
        one.close()
        other.close()
        await iterations(2)

    run(loop, main())


def test_call_soon_endless_chain_does_not_starve_timers(loop):
    async def main():
        stopped = False

        def again():
            if not stopped:
                loop.call_soon(again)

        again()
        await asyncio.sleep(0.001)
        stopped = True
        await iterations(2)

    run(loop, main())


def test_handle_cancelled_before_running_is_not_called(loop):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    loop.call_soon(seen.append, 2)
    handle.cancel()
    run(loop, iterations(1))
    assert seen == [2]
    assert handle.cancelled()


def test_handle_cancelled_by_an_earlier_callback_of_the_batch_is_not_called(loop):
    seen = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(seen.append, 1)
    run(loop, iterations(1))
    assert seen == []


def test_handle_cancelling_itself_while_running_is_harmless(loop):
    seen = []

    def callback(argument):
        handle.cancel()
        seen.append(argument)

    handle = loop.call_soon(callback, "ran")
    run(loop, iterations(1))
    assert seen == ["ran"]
    assert handle.cancelled()


def test_handle_cancelled_after_running_is_harmless(loop):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    run(loop, iterations(1))
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    assert seen == [1]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_call_soon_on_a_closed_loop_raises(make_loop, method):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(print)


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_call_soon_without_a_callback_raises_type_error(loop, method):
    with pytest.raises(TypeError):
        getattr(loop, method)()


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_call_soon_with_an_unknown_keyword_raises_type_error(loop, method):
    with pytest.raises(TypeError):
        getattr(loop, method)(print, unknown=1)


def test_call_soon_with_callback_by_keyword_runs_it(loop):
    seen = []
    loop.call_soon(callback=lambda: seen.append(1))
    run(loop, iterations(1))
    assert seen == [1]


def test_call_soon_threadsafe_from_another_thread_ends_the_sleep(loop):
    async def main():
        called = asyncio.Event()
        idents = []

        def callback():
            idents.append(threading.get_ident())
            called.set()

        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(callback,))
        thread.start()
        await called.wait()
        thread.join()
        return idents

    assert run(loop, main()) == [threading.get_ident()]


def test_call_soon_threadsafe_before_the_loop_runs_is_called_when_it_does(loop):
    seen = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, 1))
    thread.start()
    thread.join()
    assert seen == []
    run(loop, iterations(1))
    assert seen == [1]


def test_call_soon_threadsafe_many_threads_loses_nothing_and_keeps_each_order(loop):
    threads, per_thread = 8, 500

    async def main():
        seen = []
        done = loop.create_future()

        def note(thread, number):
            seen.append((thread, number))
            if len(seen) == threads * per_thread:
                done.set_result(None)

        def work(thread):
            for number in range(per_thread):
                loop.call_soon_threadsafe(note, thread, number)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        await done
        for worker in workers:
            worker.join()
        return seen

    seen = run(loop, main())
    for thread in range(threads):
        assert [n for t, n in seen if t == thread] == list(range(per_thread))


def test_call_soon_threadsafe_with_the_loop_asleep_each_time_loses_no_wake_up(loop):
    """The next wake-up is only asked for after the previous one came: the loop sleeps between."""
    rounds = 300

    async def main():
        came = threading.Semaphore(0)
        finished = loop.create_future()

        def work():
            for _ in range(rounds):
                loop.call_soon_threadsafe(came.release)
                assert came.acquire(timeout=20)
            loop.call_soon_threadsafe(finished.set_result, None)

        thread = threading.Thread(target=work)
        thread.start()
        await finished
        thread.join()

    run(loop, main())


def test_call_soon_threadsafe_result_can_be_cancelled(loop):
    seen = []
    loop.call_soon_threadsafe(seen.append, 1).cancel()
    run(loop, iterations(1))
    assert seen == []


def test_run_coroutine_threadsafe_from_another_thread_gives_its_result(loop):
    async def answer():
        await asyncio.sleep(0)
        return 42

    async def main():
        results = []
        done = asyncio.Event()

        def work():
            results.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(20))
            loop.call_soon_threadsafe(done.set)

        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        thread.join()
        return results

    assert run(loop, main()) == [42]
