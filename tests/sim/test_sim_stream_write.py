"""The writing half of the stream transport: short sends, both kinds of drivers, flow control."""

import asyncio
import ctypes
import errno
import os
import random
import sys

import pytest
from fake_driver import KEEP, STARTED
from simulation import Recorder

HIGH = 64 * 1024


def refuse_plain_sends(sim, **options):
    """A connection whose kernel buffer is full: bytes leave only by the send verb."""
    transport, protocol, wire = sim.connect(Recorder, **options)
    wire.block()
    return transport, protocol, wire


def test_writes_of_one_turn_leave_as_one_send(sim):
    transport, _, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(lambda: [transport.write(data) for data in (b"a", b"b", bytearray(b"c"))])
    operation = sim.driver.find("send", wire.fd)
    assert [content for _, content in operation.borrowed] == [b"a", b"b", b"c"]
    sim.driver.sent(wire.fd)
    sim.settle()
    assert wire.received == b"abc"


def test_writes_while_a_send_is_in_flight_wait_for_it(sim):
    transport, _, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"first")
    sim.within(transport.write, b"second")
    assert sim.driver.find("send", wire.fd).content == b"first"
    assert transport.get_write_buffer_size() == 11
    sim.driver.sent(wire.fd)
    sim.turns(2)
    assert sim.driver.find("send", wire.fd).content == b"second"
    sim.driver.sent(wire.fd)
    sim.settle()
    assert wire.received == b"firstsecond"


def test_short_send_is_followed_by_the_rest_from_the_right_place(sim):
    transport, _, wire = sim.connect()
    sim.driver.hold_sends = True
    data = os.urandom(3000)
    sim.within(transport.writelines, [data[:1000], data[1000:1001], data[1001:]])
    for size in (1, 998, 1, 1, 7, 1500):
        sim.driver.sent(wire.fd, size)
        sim.turns(2)
    assert transport.get_write_buffer_size() == 3000 - 2508
    sim.driver.sent(wire.fd)
    sim.settle()
    assert wire.received == data


def test_more_pieces_than_one_send_takes_leave_in_order(sim):
    transport, _, wire = refuse_plain_sends(sim)
    pieces = [b"%d," % number for number in range(300)]
    sim.within(lambda: [transport.write(piece) for piece in pieces])
    sim.settle()
    assert wire.received == b"".join(pieces)


@pytest.mark.parametrize("answers", [[5], [1, 1, 1, 1, 1], [2, STARTED], [STARTED], [4, 1]])
def test_sends_done_at_once_started_or_mixed_give_the_same_bytes(sim, answers):
    transport, _, wire = refuse_plain_sends(sim)
    answers = list(answers)
    sim.driver.at_once = lambda operation: answers.pop(0) if answers else STARTED
    sim.within(transport.write, b"12345")
    sim.within(transport.write, b"67890")
    sim.settle()
    assert wire.received == b"1234567890"
    assert transport.get_write_buffer_size() == 0


def test_borrowed_bytes_are_held_until_the_send_completes(sim):
    transport, _, wire = sim.connect()
    sim.driver.hold_sends = True
    data = os.urandom(100)
    before = sys.getrefcount(data)
    sim.within(transport.write, data)
    assert sys.getrefcount(data) == before + 1
    sim.driver.sent(wire.fd, 40)
    sim.turns(2)
    assert sys.getrefcount(data) == before + 1
    sim.driver.sent(wire.fd)
    sim.turns(2)
    assert sys.getrefcount(data) == before


def test_mutable_buffer_changed_after_write_is_sent_as_it_was(sim):
    transport, _, wire = refuse_plain_sends(sim)
    data = bytearray(b"before")

    def write():
        transport.write(data)
        transport.write(memoryview(data)[:3])
        data[:] = b"after!"
        data.clear()

    sim.within(write)
    sim.settle()
    assert wire.received == b"beforebef"


def test_write_between_two_runs_is_sent_at_once(sim):
    transport, _, wire = sim.connect()
    transport.write(b"now")
    assert wire.received == b"now"
    assert transport.get_write_buffer_size() == 0


def test_write_of_the_last_turn_is_sent_before_the_run_ends(sim):
    transport, _, wire = sim.connect()
    sim.loop.call_soon(transport.write, b"last words")
    sim.loop.call_soon(sim.loop.stop)
    sim.run()
    assert wire.received == b"last words"


def test_send_failing_in_flight_loses_connection_with_the_error(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"data")
    sim.driver.sent(wire.fd, -errno.EPIPE)
    sim.settle()
    assert isinstance(protocol.lost_with, BrokenPipeError)
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_send_failing_at_once_loses_connection_with_the_error(sim):
    transport, protocol, wire = refuse_plain_sends(sim)
    sim.driver.at_once = lambda operation: -errno.ECONNRESET
    sim.within(transport.write, b"data")
    sim.settle()
    assert isinstance(protocol.lost_with, ConnectionResetError)


def test_reset_seen_by_receive_and_send_in_the_same_batch_is_told_once(sim):
    """Both completions are harvested when the first makes the transport cancel the other."""
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"data")
    sim.driver.complete(sim.driver.find("recv", wire.fd), -errno.ECONNRESET)
    sim.driver.sent(wire.fd, -errno.EPIPE)
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert wire.is_closed


@pytest.mark.parametrize("result", [4, -errno.EPIPE])
def test_abort_in_data_received_with_the_send_completed_in_the_same_batch(sim, result):
    """For the driver the send has ended: cancel() says ENOENT, but its completion is due."""
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"data")
    protocol.hooks["data_received"] = lambda data: protocol.abort()
    receive = sim.driver.find("recv", wire.fd)
    sim.driver.complete(receive, 1, 2 | 1, b"x")
    sim.driver.sent(wire.fd, result)
    sim.settle()
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
    assert wire.is_closed


# ---- flow control ----


def test_pause_writing_above_high_water_and_resume_at_low(sim):
    transport, protocol, wire = refuse_plain_sends(sim)
    sim.driver.hold_sends = True
    sim.within(transport.write, bytes(HIGH))
    assert not protocol.write_paused
    sim.within(transport.write, b"x")
    assert protocol.write_paused
    # At the low water mark, not one byte above it.
    sim.driver.sent(wire.fd, HIGH - HIGH // 4)
    sim.turns(2)
    assert protocol.write_paused
    sim.driver.sent(wire.fd, 1)
    sim.turns(2)
    assert not protocol.write_paused
    sim.driver.sent(wire.fd)
    sim.settle()
    assert protocol.calls.count("pause_writing") == protocol.calls.count("resume_writing") == 1


def test_write_that_the_kernel_takes_at_once_does_not_pause(sim):
    transport, protocol, wire = sim.connect()
    sim.within(transport.write, bytes(HIGH + 1))
    assert "pause_writing" not in protocol.calls
    assert len(wire.received) == HIGH + 1


def test_resume_writing_that_writes_more_keeps_the_order(sim):
    transport, protocol, wire = refuse_plain_sends(sim)
    sim.driver.hold_sends = True
    protocol.hooks["resume_writing"] = lambda: transport.write(b"tail")
    sim.within(transport.write, bytes(HIGH + 1))
    sim.driver.sent(wire.fd, HIGH)
    sim.turns(2)
    sim.driver.hold_sends = False
    sim.settle()
    assert wire.received == bytes(HIGH + 1) + b"tail"


@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("at_once", [False, True])
def test_resume_writing_that_ends_the_connection_ends_it_once(sim, ending, at_once):
    transport, protocol, wire = refuse_plain_sends(sim)
    protocol.hooks["resume_writing"] = getattr(protocol, ending)
    if at_once:
        sim.driver.at_once = lambda operation: operation.size
    sim.within(transport.write, bytes(HIGH + 1))
    sim.settle()
    assert protocol.calls[-2:] == ["resume_writing", "connection_lost"]
    assert wire.is_closed


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_flow_control_method_raising_is_reported_and_the_connection_goes_on(sim, method):
    transport, protocol, wire = refuse_plain_sends(sim)

    def fail():
        raise ZeroDivisionError

    protocol.hooks[method] = fail
    sim.within(transport.write, bytes(HIGH + 1))
    sim.settle()
    assert [context["message"] for context in sim.loop.contexts] == [f"protocol.{method}() failed"]
    sim.loop.contexts.clear()
    assert len(wire.received) == HIGH + 1
    assert not transport.is_closing()


@pytest.mark.parametrize("seed", range(8))
def test_send_that_has_ended_is_over_for_who_hears_of_something_else_first(sim, seed):
    """Its completion lies in the driver, or in the core's batch behind the receive's."""

    class Asking(Recorder):
        def data_received(self, data):
            super().data_received(data)
            sizes.append(self.transport.get_write_buffer_size())
            self.transport.write(b"second")

    sizes = []
    transport, _, wire = sim.connect(Asking)
    sim.driver.random = random.Random(seed)
    sim.driver.hold_sends = True
    sim.within(transport.write, b"first")
    sim.driver.arrive(wire.fd, b"data")
    sim.driver.sent(wire.fd)
    sim.turns(2)
    assert sizes == [0]
    sim.driver.sent(wire.fd)
    sim.settle()
    assert wire.received == b"firstsecond"


def test_paused_queue_is_not_emptied_by_a_size_query_and_the_protocol_resumes(sim):
    """Who sees an empty queue sees a resumed protocol."""
    transport, protocol, wire = refuse_plain_sends(sim)
    sim.driver.hold_sends = True
    sim.within(transport.write, bytes(HIGH + 1))
    sim.driver.sent(wire.fd, 1)

    def ask():
        assert protocol.write_paused
        wire.unblock()
        assert transport.get_write_buffer_size() == HIGH

    # Between the completion, which leaves the rest to the next flush, and that flush.
    sim.turns(1)
    ask()
    sim.driver.hold_sends = False
    sim.settle()
    assert not protocol.write_paused
    assert transport.get_write_buffer_size() == 0
    assert len(wire.received) == HIGH + 1


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_close_over_a_send_that_has_ended_resumes_a_paused_protocol_first(sim, seed, short):
    """As SSLProtocol, which keeps its last words back until it may write."""

    transport, protocol, wire = refuse_plain_sends(sim)
    transport.set_write_buffer_limits(0)
    kept_back = [b"kept back"]
    protocol.hooks["data_received"] = lambda data: protocol.close()
    protocol.hooks["resume_writing"] = lambda: kept_back and transport.write(kept_back.pop())
    sim.driver.random = random.Random(seed)
    sim.driver.hold_sends = True
    sim.within(transport.write, b"first")
    assert protocol.write_paused
    sim.driver.arrive(wire.fd, b"data")
    while not protocol.is_lost:
        if sim.driver.find("send", wire.fd) is not None:
            sim.driver.sent(wire.fd, 1 if short else None)
        sim.turns(1)
    assert wire.received == b"firstkept back"
    assert not protocol.write_paused


def test_get_write_buffer_size_that_empties_a_closing_queue_still_loses_connection(sim):
    transport, protocol, wire = refuse_plain_sends(sim)

    def close():
        transport.write(b"goodbye")
        protocol.close()
        assert not protocol.is_lost
        wire.unblock()
        assert transport.get_write_buffer_size() == 0

    sim.within(close)
    sim.settle()
    assert wire.received == b"goodbye"
    assert protocol.is_lost
    assert wire.is_closed


def test_get_write_buffer_size_that_empties_the_queue_after_write_eof_still_shuts_down(sim):
    transport, protocol, wire = refuse_plain_sends(sim)

    def end():
        transport.write(b"request")
        transport.write_eof()
        wire.unblock()
        assert transport.get_write_buffer_size() == 0

    sim.within(end)
    sim.settle()
    assert wire.received == b"request"
    assert wire.eof


def test_end_of_run_that_empties_a_closing_queue_loses_connection_in_the_next(sim):
    transport, protocol, wire = refuse_plain_sends(sim)

    def close():
        transport.write(b"goodbye")
        protocol.close()
        wire.unblock()
        sim.loop.stop()

    sim.loop.call_soon(close)
    sim.run()
    assert wire.received == b"goodbye"
    sim.settle()
    assert protocol.is_lost


def test_end_of_run_that_empties_a_paused_queue_resumes_in_the_next(sim):
    transport, protocol, wire = refuse_plain_sends(sim)

    def write():
        transport.write(bytes(HIGH + 1))
        assert protocol.write_paused
        wire.unblock()
        sim.loop.stop()

    sim.loop.call_soon(write)
    sim.run()
    sim.settle()
    assert not protocol.write_paused
    assert len(wire.received) == HIGH + 1


def test_empty_waiter_with_queue_emptied_by_a_size_query_is_woken(sim):
    transport, _, wire = refuse_plain_sends(sim)
    waiters = []

    def wait():
        transport.write(b"before the file")
        waiters.append(transport._make_empty_waiter())
        assert not waiters[0].done()
        wire.unblock()
        transport.get_write_buffer_size()

    sim.within(wait)
    sim.settle()
    assert waiters[0].done()
    waiters[0].result()


def test_empty_waiter_of_an_empty_queue_is_done_and_woken_only_once(sim):
    transport, _, wire = sim.connect()
    waiters = []

    def wait():
        transport.write(b"before the file")
        waiters.append(transport._make_empty_waiter())
        assert waiters[0].done()

    sim.within(wait)
    sim.settle()
    transport._reset_empty_waiter()
    sim.within(transport.write, b", after it")
    assert wire.received == b"before the file, after it"


def test_empty_waiter_of_a_lost_connection_gets_the_error(sim):
    transport, _, wire = refuse_plain_sends(sim)
    sim.driver.hold_sends = True
    sim.within(transport.write, b"before the file")
    waiter = transport._make_empty_waiter()
    sim.driver.sent(wire.fd, -errno.EPIPE)
    sim.settle()
    assert isinstance(waiter.exception(), BrokenPipeError)


def test_empty_waiter_of_a_closed_transport_is_refused(sim):
    transport, _, _ = sim.connect()
    transport.abort()
    sim.settle()
    with pytest.raises(RuntimeError, match="Transport is closed"):
        transport._make_empty_waiter()


def test_empty_waiter_of_a_transport_that_ends_as_it_sends_is_refused(sim):
    """What is offered to the kernel before fails; a call_soon() that calls at once ends it all."""
    transport, protocol, wire = sim.connect()
    sim.driver.cancel_mode = "at_once"

    def make():
        transport.write(b"to nobody")
        wire.peer.close()
        sim.loop.call_soon = lambda callback, *args, context=None: callback(*args)
        try:
            with pytest.raises(RuntimeError, match="Transport is closed"):
                transport._make_empty_waiter()
        finally:
            del sim.loop.call_soon

    sim.within(make)
    assert protocol.is_lost and transport._state == "closed"


class OddFuture(asyncio.Future):
    """Nobody can be told by it."""

    def done(self):
        raise LookupError("done")


def test_empty_waiter_whose_future_raises_raises_that_and_is_none(sim):
    transport, _, _ = sim.connect()
    sim.loop.create_future = lambda: OddFuture(loop=sim.loop)
    with pytest.raises(LookupError, match="done"):
        transport._make_empty_waiter()
    del sim.loop.create_future
    transport._reset_empty_waiter()
    assert transport._make_empty_waiter().done()
    transport._reset_empty_waiter()


def test_empty_waiter_whose_future_raises_as_the_connection_is_lost_is_told_unraisably(
    sim, monkeypatch
):
    told = []
    transport, protocol, wire = refuse_plain_sends(sim)
    sim.driver.hold_sends = True
    sim.within(transport.write, b"before the file")
    sim.loop.create_future = lambda: OddFuture(loop=sim.loop)
    transport._make_empty_waiter()
    del sim.loop.create_future
    sim.driver.sent(wire.fd, -errno.EPIPE)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
        sim.settle()
    assert set(told) == {LookupError}
    assert isinstance(protocol.lost_with, BrokenPipeError)


def test_lend_descriptor_of_a_lost_transport_is_refused(sim):
    transport, protocol, wire = sim.connect()
    transport.abort()
    with pytest.raises(ConnectionError, match="Connection is closed by peer"):
        transport._lend_descriptor()
    sim.settle()
    assert wire.is_closed


def test_lend_descriptor_whose_future_loses_the_connection_is_refused(sim):
    transport, protocol, wire = sim.connect()
    create_future = sim.loop.create_future

    def lose():
        transport.abort()
        return create_future()

    sim.loop.create_future = lose
    with pytest.raises(ConnectionError, match="Connection is closed by peer"):
        transport._lend_descriptor()
    del sim.loop.create_future
    sim.settle()
    assert wire.is_closed


# ---- the end of writing ----


def test_write_eof_whose_shutdown_fails_behind_the_queue_loses_connection_with_the_error(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"request")
    transport.write_eof()
    # Somebody has put another file in the socket's place.
    sim.driver.sent(wire.fd)
    with open(os.devnull) as file:
        os.dup2(file.fileno(), wire.fd, inheritable=False)
    sim.settle()
    assert protocol.lost_with.errno == errno.ENOTSOCK
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_write_eof_with_send_in_flight_shuts_down_after_it(sim):
    transport, _, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"request")
    sim.within(transport.write_eof)
    assert not wire.eof
    with pytest.raises(RuntimeError, match=r"Cannot call write\(\) after write_eof\(\)"):
        transport.write(b"more")
    sim.driver.sent(wire.fd, 3)
    sim.turns(2)
    assert wire.received == b"req" and not wire.eof
    sim.driver.sent(wire.fd)
    sim.settle()
    assert wire.received == b"request" and wire.eof
    assert not transport.is_closing()


def test_write_eof_with_nothing_queued_shuts_down_at_once(sim):
    transport, protocol, wire = sim.connect()
    transport.write_eof()
    transport.write_eof()
    assert wire.received == b"" and wire.eof
    sim.driver.arrive(wire.fd, b"answer", 0)
    sim.settle()
    assert protocol.received == b"answer"


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="len() of such a memoryview is 1 before Python 3.12"
)
def test_write_of_zero_dimensional_memory_raises_as_len_does(sim):
    transport, _, wire = sim.connect()
    with pytest.raises(TypeError):
        transport.write(memoryview(ctypes.c_int(1)))
    with pytest.raises(TypeError):
        transport.writelines([memoryview(ctypes.c_int(1))])


@pytest.mark.parametrize("data", ["text", 1, None, [b"list"]])
def test_write_of_what_is_not_bytes_raises_type_error(sim, data):
    transport, _, wire = sim.connect()
    with pytest.raises(TypeError):
        transport.write(data)


def test_writelines_with_a_bad_item_queues_nothing(sim):
    transport, _, wire = sim.connect()
    with pytest.raises(TypeError):
        transport.writelines([b"good", "bad"])
    sim.settle()
    assert wire.received == b""


def test_bytes_that_the_kernel_never_let_go_are_never_freed(sim):
    """UL_KEEP: the ring was lost, and may still read them."""
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    data = os.urandom(64)
    before = sys.getrefcount(data)
    sim.within(transport.write, data)
    sim.driver.sent(wire.fd, -errno.ECANCELED, KEEP)
    sim.settle()
    assert protocol.is_lost
    assert sys.getrefcount(data) == before + 1


def test_write_after_loss_is_ignored_and_warned_about_from_the_fifth_on(sim, caplog):
    transport, _, wire = sim.connect()
    transport.abort()
    sim.settle()
    for _ in range(4):
        transport.write(b"x")
    assert caplog.messages == []
    transport.write(b"x")
    assert caplog.messages == ["socket.send() raised exception."]
