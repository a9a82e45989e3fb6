"""asyncio's private attributes that programs read and set mean what they mean there.

Who does, in public code: servers and notebooks that stop or restart a loop (_stopping,
_thread_id), monitors and test frameworks (_ready, _scheduled, _default_executor, _debug,
_clock_resolution, _signal_handlers), producers in threads (_write_to_self), clients that ask
a transport for more than its methods tell (_closing, _conn_lost, _sock, _sock_fd, _extra).
"""

import asyncio
import collections
import signal
import socket
import threading
import time

import pytest
from harness import PATIENCE_S, Recorder, iterations, run


def test_stopping_is_set_by_stop_and_can_be_taken_back(loop):
    """As Sanic does between its runs."""
    assert loop._stopping is False
    loop.stop()
    assert loop._stopping is True
    loop._stopping = False
    assert loop.run_until_complete(asyncio.sleep(0.001, "ran")) == "ran"


def test_stopping_set_by_a_callback_ends_the_run(loop):
    def stop():
        loop._stopping = True

    loop.call_soon(stop)
    loop.run_forever()
    assert loop._stopping is False


def test_thread_id_is_the_running_threads_and_none_otherwise(loop):
    async def main():
        return loop._thread_id

    assert loop._thread_id is None
    assert run(loop, main()) == threading.get_ident()
    assert loop._thread_id is None


def test_thread_id_set_is_what_is_running_says(loop):
    loop._thread_id = threading.get_ident()
    assert loop.is_running()
    with pytest.raises(RuntimeError):
        loop.close()
    with pytest.raises(RuntimeError):
        loop.run_forever()
    loop._thread_id = None
    assert not loop.is_running()
    run(loop, asyncio.sleep(0))


def test_closed_says_whether_it_is(make_loop):
    loop = make_loop()
    assert loop._closed is False
    loop.close()
    assert loop._closed is True


def test_closed_set_refuses_what_a_closed_loop_refuses(make_unwatched_loop):
    loop = make_unwatched_loop()
    loop.close()
    loop._closed = True
    with pytest.raises(RuntimeError):
        loop.call_soon(print)


def test_closed_set_on_an_open_loop_closes_it_for_good(make_unwatched_loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("a flag there, which leaves the selector open")
    loop = make_unwatched_loop()
    loop._closed = False
    assert not loop.is_closed()
    loop._closed = True
    assert loop.is_closed()
    with pytest.raises(RuntimeError, match="cannot be opened again"):
        loop._closed = False
    with pytest.raises(AttributeError, match="_closed cannot be deleted"):
        del loop._closed


def test_debug_is_the_debug_mode(loop):
    loop.set_debug(True)
    assert loop._debug is True
    loop._debug = False
    assert loop.get_debug() is False


def test_clock_resolution_is_read_and_lets_timers_fire_as_much_too_early(loop):
    assert loop._clock_resolution == time.get_clock_info("monotonic").resolution
    fired = []
    loop._clock_resolution = 1000.0
    loop.call_later(500, fired.append, "early")
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert fired == ["early"]


def test_default_executor_is_none_until_it_is_used_and_can_be_dropped(loop):
    assert loop._default_executor is None
    run(loop, loop.run_in_executor(None, int))
    executor, loop._default_executor = loop._default_executor, None
    executor.shutdown()
    assert run(loop, loop.run_in_executor(None, int)) == 0


def test_ready_is_counted_searched_and_walked_in_order(loop):
    handles = [loop.call_soon(print, number) for number in range(3)]
    assert len(loop._ready) == 3
    assert list(loop._ready) == handles
    assert handles[1] in loop._ready
    assert loop._ready[0] is handles[0]
    assert loop._ready[-1] is handles[2]
    assert loop._ready[1]._args == (1,)
    loop._ready.clear()
    assert not loop._ready
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert len(loop._ready) == 0


def test_ready_is_changed_as_a_deque_is(loop):
    called = []
    first, second, third = (loop.call_soon(called.append, number) for number in (1, 2, 3))
    assert loop._ready.popleft() is first
    loop._ready.append(first)
    loop._ready.appendleft(third)
    loop._ready.pop()
    loop._ready.rotate(1)
    assert list(loop._ready) == [third, third, second]
    loop._ready.remove(third)
    loop._ready.extendleft([first])
    assert list(loop._ready) == [first, third, second]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert called == [1, 3, 2]


def test_ready_is_copied_shown_rotated_when_empty_and_set_in_its_middle(loop):
    called = []
    loop._ready.rotate(1)
    assert list(loop._ready) == []
    first, second = (loop.call_soon(called.append, number) for number in (1, 2))
    copied = loop._ready.copy()
    assert repr(loop._ready).endswith(f"([{first!r}, {second!r}])")
    loop._ready[1] = asyncio.Handle(called.append, (3,), loop)
    assert list(copied) == [first, second]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert called == [1, 3]


def test_ready_takes_handles_that_somebody_made_and_passes_over_cancelled_ones(loop):
    called = []
    wanted = asyncio.Handle(called.append, ("wanted",), loop)
    unwanted = asyncio.Handle(called.append, ("unwanted",), loop)
    loop._ready.append(wanted)
    loop._ready.append(unwanted)
    assert wanted in loop._ready
    assert list(loop._ready) == [wanted, unwanted]
    unwanted.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert called == ["wanted"]


def test_ready_handle_of_somebody_that_fails_is_reported_as_itself(loop):
    contexts = []
    loop.set_exception_handler(lambda _, context: contexts.append(context))
    handle = asyncio.Handle(lambda: 1 / 0, (), loop)
    loop._add_callback(handle)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert [context["handle"] for context in contexts] == [handle]


def test_ready_is_the_loops_while_it_runs(loop):
    async def main():
        handle = loop.call_soon(print)
        assert handle in loop._ready
        loop._ready.remove(handle)
        await iterations(2)
        return len(loop._ready)

    assert run(loop, main()) == 0


def test_scheduled_is_counted_and_the_nearest_is_first(loop):
    handles = [loop.call_later(seconds, print) for seconds in (300, 100, 200)]
    assert len(loop._scheduled) == 3
    assert loop._scheduled[0] is handles[1]
    assert sorted(loop._scheduled) == [handles[1], handles[2], handles[0]]
    assert handles[2] in loop._scheduled
    assert all(handle._scheduled for handle in loop._scheduled)
    assert [handle._when for handle in sorted(loop._scheduled)] == sorted(
        handle.when() for handle in handles
    )
    loop._scheduled.clear()
    assert not loop._scheduled


def test_scheduled_that_was_cleared_fires_no_more(loop):
    fired = []
    loop.call_later(0.001, fired.append, "cleared")
    loop._scheduled.clear()
    run(loop, asyncio.sleep(0.01))
    assert fired == []


def test_scheduled_timer_that_was_removed_does_not_fire_and_the_others_do(loop):
    fired = []
    timers = [loop.call_later(0.001 * number, fired.append, number) for number in range(4)]
    loop._scheduled.remove(timers[2])
    del loop._scheduled[loop._scheduled.index(timers[0])]
    assert len(loop._scheduled) == 2
    timers[0].cancel()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert fired == [1, 3]


def test_scheduled_timer_run_by_hand_leaves_and_runs_once(loop):
    """As test frameworks do that let time pass."""
    fired = []
    loop.call_later(1000, fired.append, "by hand")
    for handle in list(loop._scheduled):
        if not handle._cancelled and handle._when < loop.time() + 2000:
            handle._run()
            handle.cancel()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert fired == ["by hand"]


def test_signal_handlers_are_there_by_number_as_handles(loop):
    loop.add_signal_handler(signal.SIGUSR1, print, "x")
    handle = loop._signal_handlers[signal.SIGUSR1]
    assert (handle._callback, handle._args) == (print, ("x",))
    assert signal.SIGUSR2 not in loop._signal_handlers
    loop.remove_signal_handler(signal.SIGUSR1)
    assert loop._signal_handlers.get(signal.SIGUSR1) is None


def test_write_to_self_wakes_a_sleeping_loop(loop):
    """Who filled a queue without the loop's knowledge lets it look."""
    waiter = loop.create_future()

    def fill():
        # Not thread-safe, and yet it is done: the handle waits for somebody to wake the loop.
        loop.call_soon(waiter.set_result, "woken")
        loop._write_to_self()

    thread = threading.Timer(0.01, fill)
    thread.start()
    assert run(loop, asyncio.wait_for(waiter, PATIENCE_S)) == "woken"
    thread.join()


def test_transport_attributes_mean_what_asyncios_do(loop):
    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            number = ours.fileno()
            before = (
                transport._sock_fd == number,
                transport._sock.fileno() == number,
                transport._protocol is protocol,
                transport._loop is loop,
                transport._closing,
                transport._conn_lost,
                transport._paused,
                transport._eof,
                set(transport._extra) >= {"socket", "peername", "sockname"},
            )
            transport.pause_reading()
            paused = transport._paused
            transport.close()
            after = transport._closing, transport._conn_lost > 0
            await protocol.until_lost()
            await iterations(2)
            gone = transport._sock, transport._protocol, transport._loop
            assert transport._sock_fd == number
        return before, paused, after, gone

    before, paused, after, gone = run(loop, main())
    assert before == (True, True, True, True, False, 0, False, False, True)
    assert paused is True
    assert after == (True, True)
    assert gone == (None, None, None)


def test_transport_protocol_attribute_set_gets_what_comes_next(loop):
    """STARTTLS of old."""

    async def main():
        ours, theirs = socket.socketpair()
        with theirs:
            transport, first = await loop.create_connection(Recorder, sock=ours)
            second = Recorder()
            if hasattr(transport, "_read_ready_cb"):
                transport.set_protocol(second)  # asyncio's attribute alone changes half of it
            transport._protocol = second
            assert transport.get_protocol() is second
            theirs.send(b"x")
            await second.until_size(1)
            transport.close()
            await second.until_lost()
        return first.calls

    assert "data_received" not in run(loop, main())


@pytest.mark.parametrize("protocol", ["stream", "datagram"])
def test_transport_extra_can_be_read_first_and_added_to(loop, protocol):
    async def main():
        if protocol == "stream":
            ours, theirs = socket.socketpair()
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        else:
            theirs = None
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
        transport._extra["mine"] = "yes"
        assert isinstance(transport._extra, collections.abc.Mapping)
        assert transport.get_extra_info("mine") == "yes"
        assert transport.get_extra_info("socket") is transport._extra["socket"]
        transport.close()
        await iterations(3)
        if theirs is not None:
            theirs.close()

    run(loop, main())
