"""The ready queue, the timers and the turn, against models."""

import asyncio
import contextvars
import heapq
import threading
import weakref

import pytest
from fake_driver import FOREVER, Deadlock, load_shim
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import Sim

pytestmark = pytest.mark.skipif(load_shim() is None, reason="shim.c needs a C compiler")
searched = settings(max_examples=100)


# What a callback does besides noting its number.
actions = st.lists(
    st.one_of(
        st.tuples(st.just("soon"), st.integers(1, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("stop"), st.just(0)),
        st.tuples(st.just("raise"), st.just(0)),
    ),
    max_size=3,
)


class ReadyModel:
    """asyncio's run_forever() over call_soon() alone."""

    def __init__(self, plan):
        self.plan = plan
        self.ran = []
        self.queue = []
        self.cancelled = set()
        self.made = 0
        self.errors = 0
        self.stopping = False

    def call_soon(self):
        self.queue.append(self.made)
        self.made += 1

    def perform(self, number):
        self.ran.append(number)
        for action, argument in self.plan[number] if number < len(self.plan) else ():
            if action == "soon":
                for _ in range(argument):
                    self.call_soon()
            elif action == "cancel" and argument < self.made:
                self.cancelled.add(argument)
            elif action == "stop":
                self.stopping = True
            elif action == "raise":
                self.errors += 1
                return

    def run(self):
        while True:
            batch, self.queue = self.queue, []
            for number in batch:
                if number not in self.cancelled:
                    self.perform(number)
            if self.stopping or not self.queue:
                self.stopping = False
                return


@searched
@given(plan=st.lists(actions, min_size=1, max_size=20), first=st.integers(1, 5))
def test_ready_queue_with_nested_effects_runs_as_the_model(plan, first):
    model = ReadyModel(plan)
    sim = Sim()
    ran, handles = [], []

    def call_soon():
        handles.append(sim.loop.call_soon(perform, len(handles)))

    def perform(number):
        ran.append(number)
        for action, argument in plan[number] if number < len(plan) else ():
            if action == "soon":
                for _ in range(argument):
                    call_soon()
            elif action == "cancel" and argument < len(handles):
                handles[argument].cancel()
            elif action == "stop":
                sim.loop.stop()
            elif action == "raise":
                raise ZeroDivisionError

    for _ in range(first):
        model.call_soon()
        call_soon()
    # When nothing is left the loop waits for ever: there the model stops.
    sim.driver.on_turn.extend([lambda timeout: timeout == FOREVER and sim.loop.stop()] * 10_000)
    sim.driver.woken = True
    model.run()
    sim.run()
    assert ran == model.ran
    assert sim.loop._ready_count == len(model.queue)
    assert len(sim.loop.contexts) == model.errors
    sim.loop.contexts.clear()
    sim.close()


timer_operations = st.lists(
    st.one_of(
        st.tuples(st.just("at"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.integers(0, 60)),
        st.tuples(st.just("advance"), st.integers(0, 8)),
    ),
    max_size=80,
)


@searched
@given(operations=timer_operations)
def test_timers_fire_at_their_time_in_the_order_of_the_model(operations):
    sim = Sim()
    fired, handles = [], []
    model, cancelled, expected = [], set(), []
    start = sim.driver.now
    for operation, argument in operations:
        if operation == "at":
            when = sim.driver.now + argument
            handles.append(sim.loop.call_at(when, fired.append, len(handles)))
            heapq.heappush(model, (when, len(handles) - 1))
        elif operation == "cancel" and argument < len(handles):
            handles[argument].cancel()
            cancelled.add(argument)
        elif operation == "advance":
            sim.driver.now_ns += argument * 10**9
            sim.turns(1)
            while model and model[0][0] <= sim.driver.now:
                number = heapq.heappop(model)[1]
                if number not in cancelled:
                    expected.append(number)
            assert fired == expected
        waiting = sum(number not in cancelled for _, number in model)
        assert sim.loop._timer_count == waiting
    # What is left: the loop sleeps exactly from deadline to deadline.
    if any(number not in cancelled for _, number in model):
        last = max(when for when, number in model if number not in cancelled)
        sim.loop.call_at(last, sim.loop.stop)
        sim.run()
        assert sim.driver.now == pytest.approx(last)
        expected += [number for _, number in sorted(model) if number not in cancelled]
    assert fired == expected
    assert sim.driver.now >= start
    assert sim.loop._timer_count == 0
    sim.close()


def test_callback_scheduled_by_a_callback_runs_in_the_next_turn(sim):
    turns = []
    sim.loop.call_soon(lambda: sim.loop.call_soon(lambda: turns.append(sim.loop._turn)))
    sim.loop.call_soon(lambda: turns.append(sim.loop._turn))
    sim.turns(2)
    assert turns[1] == turns[0] + 1


def test_turn_runs_ready_callbacks_then_completions_then_timers(sim):
    """asyncio's order within one iteration."""
    order = []
    _, protocol, wire = sim.connect()
    protocol.hooks["data_received"] = lambda data: order.append("completion")
    sim.loop.call_later(1, order.append, "timer")
    sim.driver.now_ns += 2 * 10**9
    sim.loop.call_soon(order.append, "ready")
    sim.driver.arrive(wire.fd, b"x")
    sim.turns(1)
    assert order == ["ready", "completion", "timer"]


def test_stop_before_run_runs_one_turn(sim):
    ran = []
    sim.loop.call_soon(ran.append, 1)
    sim.loop.call_soon(lambda: sim.loop.call_soon(ran.append, 2))
    sim.loop.stop()
    sim.run()
    assert ran == [1]
    sim.turns(1)
    assert ran == [1, 2]


def test_run_inside_run_is_refused(sim):
    errors = []

    def nested():
        try:
            sim.loop._run()
        except RuntimeError as error:
            errors.append(str(error))

    sim.loop.call_soon(nested)
    sim.turns(1)
    assert errors == ["This event loop is already running"]


def test_loop_with_work_never_sleeps(sim):
    sim.loop.call_soon(lambda: None)
    sim.turns(5)
    assert sim.driver.slept == 0


def test_loop_with_nothing_to_wait_for_is_reported_by_the_fake_driver(sim):
    """The simulation's own guard: a lost completion shows as this failure, not as a hang."""
    with pytest.raises((Deadlock, OSError)):
        sim.run()
    sim.driver.violations.clear()


def test_timer_wakes_loop_at_its_deadline_with_one_wait(sim):
    fired = []
    sim.loop.call_later(5, lambda: (fired.append(sim.loop.time()), sim.loop.stop()))
    start = sim.driver.now
    sim.run()
    assert fired == [pytest.approx(start + 5)]
    assert fired[0] >= start + 5
    assert sim.driver.slept == 1


def test_timer_cancelled_by_an_earlier_one_of_the_same_deadline_does_not_fire(sim):
    fired = []
    when = sim.loop.time() + 1
    handles = []
    sim.loop.call_at(when, lambda: (fired.append("first"), handles[0].cancel()))
    handles.append(sim.loop.call_at(when, fired.append, "second"))
    sim.driver.now_ns += 2 * 10**9
    sim.turns(2)
    assert fired == ["first"]


@pytest.mark.parametrize("delay", [float("inf"), 1e12])
def test_timer_in_the_far_future_sleeps_at_most_a_day(sim, delay):
    waits = []
    handle = sim.loop.call_later(delay, print)
    sim.driver.on_turn.append(lambda timeout: (waits.append(timeout), sim.loop.stop()))
    sim.run()
    assert waits == [86_400 * 10**9 + 1]
    handle.cancel()
    assert sim.loop._timer_count == 0


def test_call_soon_threadsafe_from_another_thread_wakes_the_sleeping_loop(sim):
    ran = []

    def from_thread(timeout):
        assert timeout == FOREVER
        thread = threading.Thread(target=sim.loop.call_soon_threadsafe, args=(finish,))
        thread.start()
        thread.join()

    def finish():
        ran.append(threading.get_ident())
        sim.loop.stop()

    sim.driver.on_turn.append(from_thread)
    sim.run()
    assert ran == [threading.get_ident()]
    assert sim.driver.wakes == 1


def test_call_soon_threadsafe_from_the_loops_own_thread_does_not_wake(sim):
    sim.loop.call_soon(lambda: sim.loop.call_soon_threadsafe(lambda: None))
    sim.turns(2)
    assert sim.driver.wakes == 0


def test_callback_runs_in_the_context_given_or_copied(sim):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    variable.set("current")
    sim.loop.call_soon(lambda: seen.append(variable.get()))
    sim.loop.call_soon(lambda: seen.append(variable.get()), context=context)
    sim.loop.call_later(0, lambda: seen.append(variable.get()), context=context)
    variable.set("changed later")
    sim.turns(2)
    assert seen == ["current", "given", "given"]


def test_handles_are_asyncios_and_release_what_they_hold(sim):
    class Big:
        pass

    big = Big()
    reference = weakref.ref(big)
    handle = sim.loop.call_soon(lambda *arguments: None, big)
    timer = sim.loop.call_later(60, lambda *arguments: None, big)
    assert isinstance(handle, asyncio.Handle) and not isinstance(handle, asyncio.TimerHandle)
    assert isinstance(timer, asyncio.TimerHandle)
    del big
    handle.cancel()
    assert reference() is not None
    timer.cancel()
    assert reference() is None
    assert handle.cancelled() and timer.cancelled()
    assert sim.loop._timer_count == 0


def test_handle_cancelling_itself_keeps_its_arguments_until_it_returns(sim):
    seen = []

    def callback(argument):
        handle.cancel()
        seen.append(argument)

    handle = sim.loop.call_soon(callback, [1, 2, 3])
    sim.turns(1)
    assert seen == [[1, 2, 3]]


def test_reader_of_many_turns_never_sees_time_go_backwards(sim):
    times = []
    for _ in range(3):
        sim.loop.call_soon(lambda: times.append(sim.loop.time()))
        sim.turns(1)
    assert times == sorted(times)


def test_ready_queue_that_grows_in_the_middle_of_its_ring_keeps_the_order(sim):
    """The queue is a ring: its first handle is not at its beginning, when it has run some."""
    ran = []
    for number in range(40):
        sim.loop.call_soon(ran.append, number)
    sim.turns(1)
    for number in range(40, 400):
        sim.loop.call_soon(ran.append, number)
    sim.turns(2)
    assert ran == list(range(400))


@searched
@given(
    deadlines=st.lists(st.integers(1, 1000), min_size=30, max_size=120),
    chance=st.randoms(use_true_random=False),
)
def test_timers_fire_in_their_order_whichever_leave_from_the_middle(deadlines, chance):
    gone = set(chance.sample(range(len(deadlines)), len(deadlines) * 2 // 3))
    leaving = chance.sample(sorted(gone), len(gone))
    sim = Sim()
    fired = []
    timers = [
        sim.loop.call_at(sim.driver.now + after, fired.append, (after, number))
        for number, after in enumerate(deadlines)
    ]
    for number in leaving:
        timers[number].cancel()
    sim.loop.call_at(sim.driver.now + 1001, sim.loop.stop)
    sim.run()
    sim.close()
    assert fired == sorted((after, n) for n, after in enumerate(deadlines) if n not in gone)
