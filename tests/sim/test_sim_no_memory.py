"""The core's calls with each of their allocations failing once: nothing changes, and no more."""

import contextvars
import sys

import pytest
from fake_driver import load_shim

testcapi = pytest.importorskip("_testcapi", reason="made for CPython's own tests only")
pytestmark = pytest.mark.skipif(load_shim() is None, reason="shim.c needs a C compiler")

# More than the core's free lists of handles and timers hold, and CPython's of contexts.
FREE_HANDLES, FREE_CONTEXTS = 17_000, 300


class Argument:
    """Something whose references are counted."""

    def __call__(self, *arguments):
        pass


@pytest.fixture(scope="module")
def hold():
    """Takes as many as that out of each list of what is free."""
    from simulation import Sim

    other = Sim()
    held = []

    def take(handles, contexts):
        made = [other.loop.call_soon(print) for _ in range(handles)]
        held.extend(handle._context for handle in made[:contexts])
        held.extend(contextvars.copy_context() for _ in range(contexts))
        held.extend(made)
        held.extend(other.loop.call_at(0, print) for _ in range(handles))

    take(FREE_HANDLES, FREE_CONTEXTS)
    yield take
    held.clear()
    other.close()


@pytest.fixture
def loop(sim, hold, monkeypatch):
    # Of a generator, say, that could not end.
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: None)
    # What the tests before this one have left.
    hold(400, 300)
    # It finds out what is overridden, without which one does as well.
    with pytest.raises(TypeError):
        sim.loop.call_later("a second", print)
    return sim.loop


def starve(function, unchanged=lambda: True):
    """Call it with its first allocation failing, its second, and so on, until none does."""
    for at in range(200):
        result = failed = None
        testcapi.set_nomemory(at, at + 1)
        try:
            result = function()
        except MemoryError:
            failed = True
        finally:
            testcapi.remove_mem_hooks()
        if not failed:
            return result
        assert unchanged(), f"allocation {at}"
    raise AssertionError("it never succeeded")


SCHEDULING = {
    "call_soon": lambda loop, thing: loop.call_soon(thing),
    "many arguments": lambda loop, thing: loop.call_soon(thing, *[thing] * 30),
    "call_soon_threadsafe": lambda loop, thing: loop.call_soon_threadsafe(thing, thing),
    "call_at": lambda loop, thing: loop.call_at(1, thing, thing),
    "call_later": lambda loop, thing: loop.call_later(1, thing, thing),
    "call_later in a context": lambda loop, thing: loop.call_later(
        1, thing, context=contextvars.Context()
    ),
}


CRASHES = pytest.mark.skipif(
    sys.version_info >= (3, 13) or hasattr(sys, "gettotalrefcount"),
    reason="debug mode looks at the stack in Python, and CPython itself crashes there without "
    "memory: 3.13.0 in a `def`, a debug build in an assertion of its own",
)


@pytest.mark.parametrize("debug", [False, pytest.param(True, marks=CRASHES)])
@pytest.mark.parametrize("name", SCHEDULING)
def test_scheduling_without_memory_schedules_nothing_and_keeps_nothing(loop, name, debug):
    loop._set_core_debug(debug)
    thing, schedule = Argument(), SCHEDULING[name]
    references = sys.getrefcount(thing)

    def unchanged():
        # In debug mode Python looks at the stack, and its last MemoryError keeps frames of it.
        kept = sys.getrefcount(thing) - references
        return (loop._ready_count, loop._timer_count) == (0, 0) and (debug or kept == 0)

    handle = starve(lambda: schedule(loop, thing), unchanged)
    assert (loop._ready_count, loop._timer_count) in ((1, 0), (0, 1))
    handle.cancel()
    loop._set_ready([])


READING = {
    "the ready queue": lambda loop: loop._get_ready(),
    "the timers": lambda loop: loop._get_timers(),
    "a queue that is put back": lambda loop: loop._set_ready(list(loop._get_ready())),
    "timers that are put back": lambda loop: loop._set_timers(loop._get_timers()),
    "what was counted": lambda loop: loop._counted(),
    "two equal timers": lambda loop: loop._timers[0] == loop._timers[1],
    "a handle's arguments": lambda loop: loop._handles[0]._args,
}


@pytest.mark.parametrize("name", READING)
def test_queues_and_counts_that_are_asked_for_without_memory_stay(sim, loop, name):
    sim.turns(3)
    loop._handles = [loop.call_soon(print, number) for number in range(20)]
    loop._timers = [loop.call_at(1, print, 1, 2) for _ in range(20)]

    def unchanged():
        return (loop._get_ready(), loop._get_timers()) == (loop._handles, loop._timers)

    starve(lambda: READING[name](loop), unchanged)
    assert unchanged()
    loop._set_ready([])
    loop._set_timers([])


def test_errand_without_memory_is_not_handed_over_and_the_next_is_once(sim, loop):
    ran = []
    starve(lambda: loop._hand_over(ran.append, "once"))
    sim.turns(1)
    assert ran == ["once"]


def test_callback_for_whose_context_there_is_no_memory_is_told_of_and_not_called(loop):
    called = []
    handle = loop.call_soon(called.append, 1)
    testcapi.set_nomemory(0, 1)
    try:
        handle._run()
    finally:
        testcapi.remove_mem_hooks()
    assert called == []
    assert [type(context["exception"]) for context in loop.contexts] == [MemoryError]
    loop.contexts.clear()
    loop._set_ready([])
