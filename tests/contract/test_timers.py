"""call_later, call_at and time: order, accuracy one way, cancelling, bad values."""

import asyncio
import decimal
import math
import sys
import time

import pytest
from harness import iterations, oracle_lacks, run


class Seconds(float):
    """A float that is added in its own way."""

    def __radd__(self, other):
        return float(other) + 2 * float(self)


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    assert isinstance(now, float)
    assert before <= now <= time.monotonic()


def test_call_later_never_runs_early(loop):
    async def main():
        done = loop.create_future()
        delays = [0.001 * n for n in range(1, 20)]
        early = []

        def due(when):
            # asyncio runs a timer within one tick of the clock before its time.
            if loop.time() + time.get_clock_info("monotonic").resolution < when:
                early.append(when)

        handles = [loop.call_later(delay, print) for delay in delays]
        for handle in handles:
            handle.cancel()
        for delay in delays:
            when = loop.time() + delay
            loop.call_at(when, due, when)
        loop.call_later(0.03, done.set_result, None)
        await done
        return early

    assert run(loop, main()) == []


def test_call_later_runs_in_order_of_deadline_not_of_calling(loop):
    async def main():
        seen = []
        now = loop.time()
        for delay in (0.009, 0.003, 0.006, 0.001, 0.012):
            loop.call_at(now + delay, seen.append, delay)
        done = loop.create_future()
        loop.call_at(now + 0.02, done.set_result, None)
        await done
        return seen

    assert run(loop, main()) == [0.001, 0.003, 0.006, 0.009, 0.012]


def test_call_at_in_the_past_many_run_in_order_of_deadline(loop):
    """All are due at once, so the heap alone decides the order."""
    seen = []
    now = loop.time()
    order = [(n * 7919) % 500 for n in range(500)]
    for number in order:
        loop.call_at(now - 1000 + number, seen.append, number)
    run(loop, iterations(2))
    assert seen == sorted(order)


@pytest.mark.parametrize("delay", [0, 0.0, -1, -0.0, -math.inf, True - 1])
def test_call_later_zero_or_negative_runs_in_the_next_iteration(loop, delay):
    seen = []
    loop.call_later(delay, seen.append, 1)
    run(loop, iterations(2))
    assert seen == [1]


def test_call_later_zero_runs_after_call_soon_of_the_same_moment(loop):
    seen = []
    loop.call_later(0, seen.append, "later")
    loop.call_soon(seen.append, "soon")
    run(loop, iterations(2))
    assert seen == ["soon", "later"]


def test_call_later_scheduled_by_a_callback_does_not_run_in_the_same_batch(loop):
    seen = []

    def callback():
        loop.call_later(0, seen.append, "later")
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()
    assert seen == []
    run(loop, iterations(2))
    assert seen == ["later"]


@pytest.mark.parametrize("when", [10**9, math.inf, 1e300, 2**62])
def test_call_at_in_the_far_future_does_not_run_and_does_not_block(loop, when):
    handle = loop.call_at(when, pytest.fail)
    assert handle.when() == when

    async def main():
        await asyncio.sleep(0.001)

    run(loop, main())
    handle.cancel()


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_timer_of_nan_runs_at_once_and_leaves_the_others_in_order(loop, loop_kind, method):
    lacks = sys.version_info >= (3, 13)
    oracle_lacks(loop_kind, lacks, "run_forever() raises ValueError for a timer of NaN")
    seen = []
    for when in (3, 1):
        loop.call_at(when, seen.append, when)
    getattr(loop, method)(math.nan, seen.append, "nan")
    loop.call_at(2, seen.append, 2)
    run(loop, iterations(3))
    assert sorted(map(str, seen)) == ["1", "2", "3", "nan"]
    assert [when for when in seen if when != "nan"] == [1, 2, 3]


def test_timer_of_nan_alone_ends_the_wait(loop, loop_kind):
    lacks = sys.version_info >= (3, 13)
    oracle_lacks(loop_kind, lacks, "run_forever() raises ValueError for a timer of NaN")
    loop.call_later(math.nan, loop.stop)
    loop.run_forever()


def test_call_later_arguments_are_passed(loop):
    seen = []
    loop.call_later(0, lambda *got: seen.append(got), 1, "two", None)
    loop.call_at(0, lambda *got: seen.append(got))
    run(loop, iterations(2))
    assert sorted(seen, key=len) == [(), (1, "two", None)]


def test_call_later_of_int_and_fraction_keeps_the_sum_as_when(loop):
    from fractions import Fraction

    before = loop.time()
    handle = loop.call_later(100, print)
    assert before + 100 <= handle.when() <= loop.time() + 100
    handle.cancel()
    handle = loop.call_later(Fraction(100), print)
    assert before + 100 <= handle.when() <= loop.time() + 100
    handle.cancel()


@pytest.mark.parametrize("when", [12.5, 12345678, 0, 2.0, -3, 2**53, -(2**53)])
def test_call_at_keeps_when_exactly_and_an_int_as_one(loop, when):
    handle = loop.call_at(when, print)
    assert handle.when() == when
    assert type(handle.when()) is type(handle._when) is type(when)
    assert repr(when) in repr(handle)
    assert hash(handle) == hash(when)
    handle.cancel()
    assert type(handle.when()) is type(when)


def test_call_later_none_raises_type_error(loop):
    with pytest.raises(TypeError, match="^delay must not be None$"):
        loop.call_later(None, print)


def test_call_at_none_raises_type_error(loop):
    with pytest.raises(TypeError, match="^when cannot be None$"):
        loop.call_at(None, print)


class ConvertibleOnly:
    """Can be made a float, and cannot be added to one."""

    def __float__(self):
        return 1.0


@pytest.mark.parametrize(
    "delay",
    ["1", decimal.Decimal(1), ConvertibleOnly()],
    ids=["str", "Decimal", "ConvertibleOnly"],
)
def test_call_later_of_what_cannot_be_added_to_a_float_raises_type_error(loop, delay):
    with pytest.raises(TypeError, match="unsupported operand type"):
        loop.call_later(delay, print)
    run(loop, iterations(1))


@pytest.mark.parametrize("delay", [True, Seconds(1)], ids=repr)
def test_call_later_adds_as_python_does(loop, delay):
    before = loop.time()
    handle = loop.call_later(delay, print)
    assert before + delay <= handle.when() <= loop.time() + delay
    handle.cancel()


def test_call_later_of_an_integer_beyond_floats_raises_overflow_error(loop):
    with pytest.raises(OverflowError):
        loop.call_later(10**400, print)


@pytest.mark.parametrize("arguments", [(), (1,)])
@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_call_later_with_too_few_arguments_raises_type_error(loop, method, arguments):
    with pytest.raises(TypeError):
        getattr(loop, method)(*arguments)


@pytest.mark.parametrize(("method", "name"), [("call_later", "delay"), ("call_at", "when")])
def test_call_later_with_its_arguments_by_keyword_runs_the_callback(loop, method, name):
    getattr(loop, method)(**{"callback": loop.stop, name: 0})
    loop.run_forever()


@pytest.mark.parametrize("method", ["call_later", "call_at"])
def test_call_later_on_a_closed_loop_raises(make_loop, method):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(loop, method)(0, print)


def test_timer_cancelled_is_not_called(loop):
    seen = []
    handle = loop.call_later(0, seen.append, 1)
    handle.cancel()
    assert handle.cancelled()
    run(loop, iterations(3))
    assert seen == []


def test_timer_cancelled_in_the_batch_it_is_due_is_not_called(loop):
    seen = []
    now = loop.time()
    loop.call_at(now - 2, lambda: second.cancel())
    second = loop.call_at(now - 1, seen.append, 1)
    loop.call_at(now, seen.append, 2)
    run(loop, iterations(3))
    assert seen == [2]


def test_timer_rescheduled_from_its_callback_runs_again(loop):
    async def main():
        done = loop.create_future()
        count = 0

        def tick():
            nonlocal count
            count += 1
            if count == 10:
                done.set_result(None)
            else:
                loop.call_later(0, tick)

        loop.call_later(0, tick)
        await done
        return count

    assert run(loop, main()) == 10


@pytest.mark.parametrize("keep", [0, 1, 50])
def test_timers_thousands_cancelled_the_rest_still_run_in_order(loop, keep):
    """asyncio rebuilds its heap when most of it is cancelled."""

    async def main():
        seen = []
        now = loop.time()
        kept = []
        handles = []
        for number in range(5000):
            handle = loop.call_at(now - 10 + number * 1e-3, seen.append, number)
            if keep and number % (5000 // keep) == 0:
                kept.append(number)
            else:
                handles.append(handle)
        for handle in handles:
            handle.cancel()
        await iterations(3)
        return seen, kept

    seen, kept = run(loop, main())
    assert seen == kept


def test_timers_ten_thousand_cancelled_in_random_order_leave_the_loop_idle(loop):
    import random

    async def main():
        handles = [loop.call_later(3600 + n % 17, print) for n in range(10_000)]
        random.Random(7).shuffle(handles)
        for handle in handles:
            handle.cancel()
        await asyncio.sleep(0.001)

    run(loop, main())


def test_timer_cancelled_while_the_loop_is_not_running_is_not_called(loop):
    seen = []
    handle = loop.call_later(0, seen.append, 1)
    run(loop, iterations(0))
    handle2 = loop.call_at(0, seen.append, 2)
    handle2.cancel()
    handle.cancel()
    run(loop, iterations(3))
    assert 2 not in seen


def test_sleep_wakes_after_its_time_and_returns_its_result(loop):
    async def main():
        start = loop.time()
        result = await asyncio.sleep(0.01, "result")
        return loop.time() - start, result

    taken, result = run(loop, main())
    assert taken >= 0.01 - time.get_clock_info("monotonic").resolution
    assert result == "result"


def test_sleep_a_thousand_at_once_all_wake(loop):
    async def main():
        results = await asyncio.gather(*(asyncio.sleep(0.001 * (n % 10), n) for n in range(1000)))
        return results

    assert run(loop, main()) == list(range(1000))


def test_wait_for_with_a_timeout_cancels_the_waiter(loop):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.create_future(), 0.001)

    run(loop, main())


def test_timer_due_while_a_descriptor_stays_quiet_ends_the_sleep(loop):
    import socket

    async def main():
        one, other = socket.socketpair()
        loop.add_reader(one, pytest.fail)
        await asyncio.sleep(0.002)
        loop.remove_reader(one)
        one.close()
        other.close()

    run(loop, main())
