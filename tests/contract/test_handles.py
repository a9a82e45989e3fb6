"""Handle and TimerHandle, as call_soon and call_later return them."""

import asyncio
import contextlib
import contextvars
import gc
import os
import sys
import threading
import warnings
import weakref

import pytest
from harness import iterations, oracle_lacks, run


def callback_of_these_tests(*arguments):
    pass


def needs_get_context(loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "Handle has no get_context()")


def test_call_soon_returns_a_handle(loop):
    handle = loop.call_soon(callback_of_these_tests)
    assert isinstance(handle, asyncio.Handle)
    assert not isinstance(handle, asyncio.TimerHandle)
    handle = loop.call_soon_threadsafe(callback_of_these_tests)
    assert isinstance(handle, asyncio.Handle)
    run(loop, iterations(1))


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_call_later_returns_a_timer_handle(loop, method):
    handle = getattr(loop, method)(3600 + loop.time(), callback_of_these_tests)
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()


def test_handle_cancel_returns_none_and_is_idempotent(loop):
    for handle in (loop.call_soon(print), loop.call_later(0, print)):
        assert handle.cancelled() is False
        assert handle.cancel() is None
        assert handle.cancelled() is True
        assert handle.cancel() is None
        assert handle.cancelled() is True


def test_handle_get_context_is_the_context_given(loop, loop_kind):
    needs_get_context(loop_kind)
    context = contextvars.copy_context()
    assert loop.call_soon(callback_of_these_tests, context=context).get_context() is context
    timer = loop.call_later(0, callback_of_these_tests, context=context)
    assert timer.get_context() is context
    run(loop, iterations(2))


def test_handle_get_context_without_one_is_a_copy(loop, loop_kind):
    needs_get_context(loop_kind)
    variable = contextvars.ContextVar("variable")
    variable.set("then")
    handle = loop.call_soon(callback_of_these_tests)
    timer = loop.call_later(0, callback_of_these_tests)
    variable.set("now")
    assert handle.get_context()[variable] == "then"
    assert timer.get_context()[variable] == "then"
    assert isinstance(handle.get_context(), contextvars.Context)
    run(loop, iterations(2))


def test_handle_cancelled_keeps_its_context(loop, loop_kind):
    needs_get_context(loop_kind)
    handle = loop.call_soon(callback_of_these_tests)
    context = handle.get_context()
    handle.cancel()
    assert handle.get_context() is context


@pytest.mark.parametrize("more", [0, 2, 9])
def test_handle_cancelled_lets_go_of_callback_and_arguments(loop, more):
    class Thing:
        def method(self):
            pass

    for schedule in (loop.call_soon, lambda *a: loop.call_later(3600, *a)):
        thing, argument = Thing(), Thing()
        handle = schedule(thing.method, *range(more), argument)
        references = [weakref.ref(thing), weakref.ref(argument)]
        del thing, argument
        assert all(reference() is not None for reference in references)
        handle.cancel()
        assert all(reference() is None for reference in references)


@pytest.mark.parametrize("count", [0, 3, 4, 20])
@pytest.mark.parametrize("debug", [False, True])
def test_handle_of_any_number_of_arguments_tells_them_until_it_is_cancelled(loop, count, debug):
    loop.set_debug(debug)
    arguments = tuple(f"argument {number}" for number in range(count))
    for schedule in (loop.call_soon, lambda *a: loop.call_later(3600, *a)):
        handle = schedule(callback_of_these_tests, *arguments)
        assert handle._args == arguments
        handle.cancel()
        assert handle._args is None
        # In debug mode the log can still say what it was.
        if debug:
            assert all(repr(argument) in repr(handle) for argument in arguments)


def test_handle_after_running_lets_go_of_its_arguments_when_dropped(loop):
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    loop.call_soon(callback_of_these_tests, thing)
    del thing
    run(loop, iterations(1))
    assert reference() is None


@pytest.mark.parametrize("method", ["call_soon", "call_at"])
@pytest.mark.parametrize("more", [(), (1, 2, 3)], ids=["one", "four"])
def test_handles_in_a_long_chain_of_arguments_end_together(loop, method, more):
    when = () if method == "call_soon" else (0,)
    end = asyncio.Future(loop=loop)
    reference = weakref.ref(end)
    handle = end
    for _ in range(300_000):
        handle = getattr(loop, method)(*when, callback_of_these_tests, handle, *more)
    run(loop, iterations(2))
    del end
    assert reference() is not None
    del handle
    assert reference() is None


def test_handles_in_a_long_chain_that_are_weakly_referenced_end_together(loop):
    """Freed one inside the other, they wait for each other from a depth on."""
    told = []
    handle, references = None, []
    for _ in range(200):
        handle = loop.call_soon(callback_of_these_tests, handle)
        references.append(weakref.ref(handle, told.append))
    loop._ready.clear()
    assert [reference() for reference in references[:-1]].count(None) == 0
    del handle
    assert [reference() for reference in references] == [None] * 200
    assert sorted(map(id, told)) == sorted(map(id, references))


def test_handle_can_be_weakly_referenced(loop):
    handle = loop.call_soon(callback_of_these_tests)
    timer = loop.call_later(3600, callback_of_these_tests)
    assert weakref.ref(handle)() is handle
    assert weakref.ref(timer)() is timer
    timer.cancel()
    run(loop, iterations(1))


def test_handle_repr_names_the_callback_and_its_place(loop):
    handle = loop.call_soon(callback_of_these_tests, 1, "two")
    text = repr(handle)
    assert text.startswith("<Handle callback_of_these_tests(")
    assert "test_handles.py:" in text
    assert "cancelled" not in text
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"


def test_timer_repr_names_when_and_the_callback(loop):
    timer = loop.call_at(123.5, callback_of_these_tests)
    assert repr(timer).startswith("<TimerHandle when=123.5 callback_of_these_tests() at ")
    timer.cancel()
    assert repr(timer) == "<TimerHandle cancelled when=123.5>"


def test_handle_repr_in_debug_mode_keeps_the_callback_when_cancelled(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback_of_these_tests)
    assert "created at " in repr(handle)
    assert "test_handles.py:" in repr(handle)
    handle.cancel()
    assert repr(handle).startswith("<Handle cancelled callback_of_these_tests(")
    assert "created at " in repr(handle)


def test_handle_repr_of_odd_callables_does_not_fail(loop):
    class Odd:
        def __call__(self):
            pass

        def __repr__(self):
            return "<odd>"

    handle = loop.call_soon(Odd())
    assert "odd" in repr(handle)
    handle.cancel()
    handle = loop.call_soon(len, [])
    assert "len" in repr(handle)
    handle.cancel()


def test_handle_hash_and_equality_are_identity(loop):
    one = loop.call_soon(callback_of_these_tests)
    other = loop.call_soon(callback_of_these_tests)
    assert one != other
    assert one == one
    assert len({one, other, one}) == 2
    run(loop, iterations(1))


def test_timers_compare_by_when(loop):
    early = loop.call_at(1e9, callback_of_these_tests)
    late = loop.call_at(1e9 + 1, callback_of_these_tests)
    assert early < late
    assert late > early
    assert early <= late
    assert late >= early
    assert not early > late
    assert not late < early
    assert not late <= early
    assert not early >= late
    assert early != late
    assert sorted([late, early]) == [early, late]
    early.cancel()
    late.cancel()


def test_timers_equal_when_callback_arguments_and_state_are(loop):
    one = loop.call_at(1e9, callback_of_these_tests, 1)
    same = loop.call_at(1e9, callback_of_these_tests, 1)
    other_arguments = loop.call_at(1e9, callback_of_these_tests, 2)
    other_callback = loop.call_at(1e9, print, 1)
    assert one == same
    assert hash(one) == hash(same) == hash(1e9)
    assert one <= same
    assert one >= same
    assert not one < same
    assert not one > same
    assert one != other_arguments
    assert one != other_callback
    assert not one <= other_arguments
    assert not one >= other_arguments
    same.cancel()
    assert one != same
    for handle in (one, other_arguments, other_callback):
        handle.cancel()


@pytest.mark.parametrize("name", ["__lt__", "__le__", "__gt__", "__ge__", "__eq__"])
def test_timer_compared_with_a_stranger_is_not_implemented(loop, name):
    timer = loop.call_at(1e9, callback_of_these_tests)
    handle = loop.call_soon(callback_of_these_tests)
    assert getattr(timer, name)(1e9) is NotImplemented
    assert getattr(timer, name)(handle) is NotImplemented
    timer.cancel()
    run(loop, iterations(1))


def test_timer_ordered_against_a_stranger_raises_type_error(loop):
    timer = loop.call_at(1e9, callback_of_these_tests)
    with pytest.raises(TypeError):
        timer < 1  # noqa: B015
    assert timer != 1
    timer.cancel()


def test_timer_when_is_kept_after_cancel_and_after_running(loop):
    timer = loop.call_at(5, callback_of_these_tests)
    run(loop, iterations(2))
    assert timer.when() == 5
    assert not timer.cancelled()
    timer = loop.call_at(1e9, callback_of_these_tests)
    timer.cancel()
    assert timer.when() == 1e9


def test_handle_run_by_hand_calls_the_callback_in_its_context(loop):
    """Third-party loops and tests use Handle._run(); asyncio's own do too."""
    seen = []
    variable = contextvars.ContextVar("variable")
    variable.set("inside")
    handle = loop.call_soon(lambda: seen.append(variable.get()))
    variable.set("outside")
    handle._run()
    assert seen == ["inside"]
    handle.cancel()
    run(loop, iterations(1))
    assert seen == ["inside"]


def test_handle_run_by_hand_in_another_thread_uses_the_context_there(loop):
    variable = contextvars.ContextVar("variable")
    seen = []

    def in_thread(handle):
        variable.set("of the thread")
        handle._run()
        seen.append(variable.get())

    async def main():
        variable.set("of the handle")
        handle = loop.call_later(3600, lambda: seen.append(variable.get()))
        variable.set("of the task")
        await loop.run_in_executor(None, in_thread, handle)
        handle.cancel()
        seen.append(variable.get())

    run(loop, main())
    assert seen == ["of the handle", "of the thread", "of the task"]


@pytest.mark.parametrize("when", range(1, 6))
def test_handle_cancelled_while_the_time_is_asked_runs_or_does_not(loop, loop_kind, when):
    """In debug mode callbacks are timed, and time() may be anybody's."""
    oracle_lacks(loop_kind, True, "it reports that None is not callable")
    ask, seen, asked, expected = loop.time, [], [], ["called"]

    def time():
        asked.append(1)
        if len(asked) == when:
            expected[:] = seen
            handle.cancel()
        return ask()

    async def main():
        nonlocal handle
        await asyncio.sleep(0)
        loop.time = time
        handle = loop.call_soon(seen.append, "called")
        await iterations(3)

    handle = None
    loop.set_debug(True)
    run(loop, main())
    del loop.time
    assert handle.cancelled()
    assert seen == expected


@contextlib.contextmanager
def collector_held():
    """Nothing is collected before the function is called that this gives; from then on soon."""

    def collect_soon():
        gc.set_threshold(1)
        gc.enable()

    threshold = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        yield collect_soon
    finally:
        gc.set_threshold(*threshold)
        gc.enable()


def test_due_handle_cancelled_by_the_cycle_collector_does_not_run(loop):
    """Making its context may be what starts the collector (before Python 3.12)."""
    seen, kept = [], []

    class Peer:
        def __init__(self):
            self.itself = self
            self.handle = loop.call_soon(seen.append, "called")

        def __del__(self):
            self.handle.cancel()

    def schedule():
        Peer()
        loop.call_soon(loop.stop)
        # None of those that CPython keeps for later is left.
        kept.extend(contextvars.copy_context() for _ in range(400))
        collect_soon()

    with collector_held() as collect_soon:
        # Nor one of those that the loop keeps for later: a handle keeps its context.
        kept.extend(loop.call_soon(object) for _ in range(8))
        kept.append(loop.call_soon(schedule))
        loop.run_forever()
    gc.collect()
    if sys.version_info < (3, 12):
        assert seen == []


def test_arguments_of_a_handle_cancelled_meanwhile_are_whole_or_none(loop):
    """Making their tuple may start the collector (before Python 3.12)."""
    handle = loop.call_soon(callback_of_these_tests, 1, 2, 3)

    class Peer:
        def __init__(self):
            self.itself = self

        def __del__(self):
            handle.cancel()

    with collector_held() as collect_soon:
        Peer()
        kept = [(number, number, handle) for number in range(3000)]
        collect_soon()
        arguments = handle._args
    del kept
    assert arguments in (None, (1, 2, 3))
    run(loop, iterations(1))


def test_handle_of_a_closed_loop_can_be_cancelled(make_loop):
    loop = make_loop()
    handle = loop.call_soon(callback_of_these_tests)
    timer = loop.call_later(10, callback_of_these_tests)
    loop.close()
    handle.cancel()
    timer.cancel()
    assert handle.cancelled()
    assert timer.cancelled()


def test_handle_whose_repr_fails_is_cancelled_all_the_same_in_debug_mode(loop):
    class Odd:
        def __repr__(self):
            raise ZeroDivisionError

        def __call__(self):
            raise AssertionError("called though it was cancelled")

    loop.set_debug(True)
    handles = [loop.call_soon(Odd()), loop.call_later(0, Odd())]
    for handle in handles:
        with pytest.raises(ZeroDivisionError):
            handle.cancel()
        assert handle.cancelled()
        handle.cancel()
    loop.call_later(0.001, loop.stop)
    loop.run_forever()


def test_handle_that_the_cycle_collector_has_emptied_answers_and_runs_nothing(
    loop, loop_kind, monkeypatch
):
    """The collector clears all before it calls nothing more, but for what it does not know."""
    if loop_kind == "asyncio":
        pytest.skip("its attributes are gone there")
    seen = []

    def find(*arguments, **options):
        for found in gc.get_objects():
            if type(found) is kind and found._callback is None:
                found.cancel()
                seen.append((found._context, found._args, found._run(), found.cancelled()))

    monkeypatch.setattr("warnings.showwarning", find)
    first = []
    handle = loop.call_soon(callback_of_these_tests, first)
    kind = type(handle)
    # Cleared last, and from its end on: the iterator warns that nobody has closed it.
    last = [handle, os.scandir("/")]
    next(last[1])
    last.append(last)
    first.append(last)
    loop._ready.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        gc.collect()
        del handle, first, last
        gc.collect()
    assert seen == [(None, None, None, True)]


@pytest.mark.parametrize("method", ["cancel", "cancelled"])
@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="asyncio of this Python does not wait in another thread"
)
def test_threadsafe_handle_asked_by_another_thread_while_it_runs_waits_for_its_end(loop, method):
    began, asking = threading.Event(), threading.Event()
    order = []

    def callback():
        began.set()
        asking.wait()
        # The other thread is on its way into the handle, or in it already.
        for _ in range(1000):
            order.append("running")
        handle.cancelled()
        order.append("ended")

    def ask():
        began.wait()
        asking.set()
        order.append(getattr(handle, method)())
        loop.call_soon_threadsafe(loop.stop)

    handle = loop.call_soon_threadsafe(callback)
    thread = threading.Thread(target=ask)
    thread.start()
    loop.run_forever()
    thread.join()
    assert order[-2:] == ["ended", None if method == "cancel" else False]


def test_threadsafe_handle_that_cancels_itself_runs_to_its_end(loop):
    order = []

    def callback():
        handle.cancel()
        order.append(handle.cancelled())
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)
    loop.run_forever()
    assert order == [True]
