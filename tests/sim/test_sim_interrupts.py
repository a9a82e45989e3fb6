"""KeyboardInterrupt and SystemExit anywhere in a turn: the loop stops, and loses nothing."""

import errno
import sys

import pytest
from fake_driver import LENT
from simulation import BufferedRecorder, Recorder

from uring_loop import _core

HIGH = 64 * 1024


def interrupt(*arguments):
    raise KeyboardInterrupt


def once(protocol, method):
    """The method is interrupted the first time only."""

    def hook(*arguments):
        del protocol.hooks[method]
        raise KeyboardInterrupt

    protocol.hooks[method] = hook


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_data_received_interrupted_leaves_the_rest_of_the_batch_for_the_next_run(sim, kind):
    _, first, first_wire = sim.connect()
    _, second, second_wire = sim.connect()

    def hook(data):
        raise kind

    first.hooks["data_received"] = hook
    sim.driver.arrive(first_wire.fd, b"a")
    sim.driver.arrive(second_wire.fd, b"b", 0)
    with pytest.raises(kind):
        sim.run()
    assert (first.received, second.received) == (b"a", b"")
    assert not sim.loop.is_running()
    first.hooks.clear()
    sim.driver.arrive(first_wire.fd, b"c")
    sim.settle()
    assert first.received == b"ac"
    assert second.calls[1:] == ["data_received", "eof_received", "connection_lost"]


@pytest.mark.parametrize("limit", [1, 2])
def test_interrupted_dispatch_with_completions_left_in_the_driver_harvests_them_first(sim, limit):
    _, protocol, wire = sim.connect()
    sim.driver.harvest_limit = lambda: limit
    sim.driver.arrive(wire.fd, b"a", b"b", b"c", b"d")
    once(protocol, "data_received")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.loop.call_later(0, sim.loop.stop)
    sim.run()
    assert protocol.received == b"abcd"


def test_completion_that_was_told_when_its_time_is_noted_is_not_told_again_after_an_interrupt(sim):
    """Callbacks are timed, and Ctrl-C comes while the time of one is noted."""
    _, protocol, wire = sim.connect()
    sim.loop.time_callbacks()
    sim.loop._long_callback_ns = 0

    def noting(callback, ns):
        if protocol.received == b"a":
            del sim.loop._note_long
            raise KeyboardInterrupt

    sim.loop._note_long = noting
    sim.driver.arrive(wire.fd, b"a")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.driver.arrive(wire.fd, b"b")
    sim.settle()
    assert protocol.received == b"ab"


def test_ready_callback_interrupted_before_the_dispatch_leaves_completions_for_the_next_run(sim):
    """The turn has found them; the next run must take them before it sleeps."""
    _, protocol, wire = sim.connect()
    sim.driver.arrive(wire.fd, b"found")
    sim.loop.call_soon(interrupt)
    sim.loop.call_soon(protocol.calls.append, "second callback")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    protocol.hooks["data_received"] = lambda data: sim.loop.stop()
    sim.run()
    assert protocol.received == b"found"
    assert "second callback" in protocol.calls


def test_completions_found_before_an_interrupt_are_harvested_before_the_next_wait(sim):
    _, protocol, wire = sim.connect()
    sim.driver.arrive(wire.fd, b"found")
    sim.loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    protocol.hooks["data_received"] = lambda data: sim.loop.stop()
    # Nothing is ready: the core would now wait for ever.
    sim.run()
    assert protocol.received == b"found"


def test_terminal_data_whose_delivery_is_interrupted_arms_the_next_receive(sim):
    _, protocol, wire = sim.connect()
    once(protocol, "data_received")
    sim.driver.complete(sim.driver.find("recv", wire.fd), 3, LENT, b"abc")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.driver.arrive(wire.fd, b"def")
    sim.settle()
    assert protocol.received == b"abcdef"


def test_kept_data_whose_delivery_is_interrupted_is_delivered_in_the_next_run(sim):
    """What was taken is told; what is behind it is told in the next run."""
    _, protocol, wire = sim.connect()
    sim.driver.harvest_limit = lambda: 1
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"a", b"b", b"c", 0)
    sim.settle()
    assert protocol.received == b"a"
    protocol.resume()
    once(protocol, "data_received")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    assert protocol.received == b"abc"
    sim.settle()
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize("paused", [False, True])
def test_buffered_protocol_interrupted_in_the_middle_gets_the_rest_in_the_next_run(sim, paused):
    _, protocol, wire = sim.connect(BufferedRecorder)
    if paused:
        protocol.pause()
    sim.driver.arrive(wire.fd, b"0123456789", b"abc")
    if paused:
        sim.settle()
        protocol.resume()
    once(protocol, "data_received")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    assert protocol.received == b"0123"
    sim.settle()
    assert protocol.received == b"0123456789abc"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_eof_received_interrupted_is_told_again_in_the_next_run(sim, interruption):
    attempts = []

    class Interrupted(Recorder):
        def eof_received(self):
            attempts.append(None)
            if len(attempts) == 1:
                raise interruption
            return super().eof_received()

    _, protocol, wire = sim.connect(Interrupted)
    sim.driver.arrive(wire.fd, b"data", 0)
    with pytest.raises(interruption):
        sim.run()
    sim.settle()
    assert len(attempts) == 2
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


# A large buffer holds what the driver receives by itself; for a small one it only tells.
@pytest.mark.parametrize("size", [4, 64 * 1024])
def test_get_buffer_interrupted_loses_nothing(sim, size):
    _, protocol, wire = sim.connect(BufferedRecorder, size=size)
    # So that the buffer is known.
    sim.driver.arrive(wire.fd, b"0")
    sim.settle()
    get_buffer = protocol.get_buffer

    def once_interrupted(sizehint):
        protocol.get_buffer = get_buffer
        raise KeyboardInterrupt

    protocol.get_buffer = once_interrupted
    sim.driver.arrive(wire.fd, b"123456789")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.settle()
    assert protocol.received == b"0123456789"


def test_interrupt_on_a_loop_that_schedules_nothing_is_told_beside_what_that_raises(
    sim, monkeypatch
):
    """The end of the stream is for the next run, for which nobody can be asked."""
    told = []
    transport, protocol, wire = sim.connect()

    def spoil():
        sim.loop.call_soon = None
        raise KeyboardInterrupt

    protocol.hooks["eof_received"] = spoil
    sim.driver.arrive(wire.fd, 0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
        with pytest.raises(KeyboardInterrupt):
            sim.run()
    del sim.loop.call_soon
    assert told == [TypeError]
    transport.abort()
    sim.settle()
    assert protocol.is_lost


def test_eof_received_interrupted_leaves_a_transport_that_can_be_closed(sim):
    transport, protocol, wire = sim.connect()
    once(protocol, "eof_received")
    sim.driver.arrive(wire.fd, 0)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    transport.close()
    sim.settle()
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


def test_resume_writing_interrupted_leaves_the_rest_to_be_sent_in_the_next_run(sim):
    transport, protocol, wire = sim.connect()
    wire.block()
    sim.driver.hold_sends = True
    sim.within(transport.write, bytes(HIGH + 1))
    once(protocol, "resume_writing")
    sim.driver.sent(wire.fd, HIGH)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.driver.hold_sends = False
    sim.settle()
    assert len(wire.received) == HIGH + 1


@pytest.mark.parametrize("at_once", [False, True])
def test_resume_writing_interrupted_on_a_closing_transport_still_loses_connection(sim, at_once):
    transport, protocol, wire = sim.connect()
    wire.block()
    once(protocol, "resume_writing")
    if at_once:
        sim.driver.at_once = lambda operation: operation.size

    def end():
        transport.write(bytes(HIGH + 1))
        protocol.close()

    sim.loop.call_soon(end)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.settle()
    assert len(wire.received) == HIGH + 1
    assert protocol.calls[-2:] == ["resume_writing", "connection_lost"]


def test_pause_writing_interrupted_leaves_the_bytes_queued(sim):
    transport, protocol, wire = sim.connect()
    wire.block()
    once(protocol, "pause_writing")
    sim.loop.call_soon(transport.write, bytes(HIGH + 1))
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.settle()
    assert len(wire.received) == HIGH + 1


def test_connection_lost_interrupted_still_closes_the_descriptor(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    once(protocol, "connection_lost")
    sim.within(transport.write, b"data")
    protocol.close()
    sim.driver.sent(wire.fd)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.settle()
    assert wire.is_closed
    assert protocol.calls.count("connection_lost") == 1


def test_bytes_written_in_an_interrupted_turn_are_sent_before_run_returns(sim):
    """asyncio sends inside write(): what was written is out, whatever ends the run."""
    transport, _, wire = sim.connect()
    sim.loop.call_soon(transport.write, b"written")
    sim.loop.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    assert wire.received == b"written"


def test_timers_due_in_an_interrupted_turn_run_in_the_next(sim):
    ran = []
    sim.loop.call_later(1, ran.append, "timer")
    sim.driver.now_ns += 2_000_000_000
    sim.loop.call_soon(interrupt)
    sim.loop.call_soon(ran.append, "ready")
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.turns(1)
    assert ran == ["ready", "timer"]


def test_accepted_descriptors_left_by_an_interrupted_callback_come_in_the_next_run(sim):
    wires = [sim.wire() for _ in range(3)]
    accepted = []

    def callback(fd):
        accepted.append(fd)
        if len(accepted) == 1:
            raise KeyboardInterrupt

    listener = _core.Listener(sim.loop, 10_000, callback)
    listener.start()
    descriptors = [wire.sock.fileno() for wire in wires]
    sim.driver.arrive(10_000, *descriptors)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.settle()
    assert accepted == descriptors
    listener.stop()
    sim.settle()
    assert listener.idle


def test_reader_interrupted_is_called_again_while_its_descriptor_is_ready(sim):
    wire = sim.wire()
    calls = []

    def readable():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        sim.loop._remove_reader(wire.fd)

    sim.loop._add_reader(wire.fd, readable)
    sim.driver.ready[wire.fd] = 1
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.settle()
    assert len(calls) == 2


def test_broken_driver_raises_from_run_and_the_loop_can_run_again(sim):
    def broken(timeout):
        raise OSError(errno.EBADF, "the ring is gone")

    sim.driver.on_turn.append(broken)
    sim.loop.call_soon(sim.loop.stop)
    with pytest.raises(OSError):
        sim.loop._run()
    assert isinstance(sim.driver.violations.pop(), OSError)
    assert not sim.loop.is_running()
    sim.turns(1)


def test_interrupt_in_the_last_kept_bytes_does_not_end_reading(sim):
    transport, protocol, wire = sim.connect()
    protocol.pause()
    sim.driver.complete(sim.driver.find("recv", wire.fd), 1, LENT, b"1")
    sim.turns(1)
    once(protocol, "data_received")
    protocol.resume()
    with pytest.raises(KeyboardInterrupt):
        sim.turns(2)
    sim.driver.arrive(wire.fd, b"2")
    sim.turns(3)
    assert protocol.received == b"12"
