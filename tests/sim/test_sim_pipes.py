"""What a pipe's ends do when something raises in the middle: of the rest the machine sees to it."""

import gc
import os
import select
import sys
import warnings

import pytest
from fake_driver import MORE
from simulation import Recorder

from uring_loop._internal.pipes import ReadPipeTransport, WritePipeTransport

MORE_THAN_A_PIPE_HOLDS = 1 << 17


@pytest.fixture
def full(sim):
    """A write pipe with a paused protocol, that protocol, and the descriptor of the other end."""
    reading, writing = os.pipe()
    protocol = Recorder(sim.driver)
    transport = WritePipeTransport(sim.loop, open(writing, "wb", 0), protocol)
    sim.turns(1)
    transport.set_write_buffer_limits(1000)
    transport.write(bytes(MORE_THAN_A_PIPE_HOLDS))
    assert protocol.write_paused
    yield transport, protocol, reading
    transport.abort()
    os.close(reading)
    sim.settle()
    assert protocol.is_lost


def tell_room(sim, transport):
    """The driver says that there is room."""
    fd = transport.get_extra_info("pipe").fileno()
    [poll] = [each for each in sim.driver.on_descriptor(fd) if each.events & select.POLLOUT]
    sim.driver.complete(poll, select.POLLOUT, MORE)
    sim.turns(1)


def test_interrupt_in_resume_writing_does_not_keep_a_closing_pipe_open(sim, full):
    transport, protocol, reading = full

    def interrupt():
        raise KeyboardInterrupt

    protocol.hooks["resume_writing"] = interrupt
    transport.close()
    os.read(reading, MORE_THAN_A_PIPE_HOLDS)
    with pytest.raises(KeyboardInterrupt):
        tell_room(sim, transport)
    sim.settle()
    assert protocol.calls[-2:] == ["resume_writing", "connection_lost"]
    assert protocol.lost_with is None


def test_queue_that_somebody_else_holds_ends_the_pipe_and_writes_nothing_twice(sim, full):
    transport, protocol, reading = full
    held = memoryview(transport._buffer)
    got = len(os.read(reading, MORE_THAN_A_PIPE_HOLDS))
    tell_room(sim, transport)
    sim.settle()
    held.release()
    assert type(protocol.lost_with) is BufferError
    [context] = sim.loop.contexts
    sim.loop.contexts.clear()
    assert context["message"] == "Fatal write error on pipe transport"
    assert got + len(os.read(reading, MORE_THAN_A_PIPE_HOLDS)) == MORE_THAN_A_PIPE_HOLDS


def test_poll_that_fails_ends_either_end_with_its_error(sim, full):
    _, _, reading = full
    protocol = Recorder(sim.driver)
    transport = ReadPipeTransport(sim.loop, open(os.dup(reading), "rb", 0), protocol)
    sim.turns(1)
    fd = transport.get_extra_info("pipe").fileno()
    [poll] = sim.driver.on_descriptor(fd)
    sim.driver.complete(poll, -9)
    sim.settle()
    assert protocol.lost_with.errno == 9
    assert sim.loop.contexts.pop()["message"] == "Fatal read error on pipe transport"


def test_watch_for_the_reader_that_fails_ends_the_write_pipe_with_its_error(sim, full):
    transport, protocol, _ = full
    fd = transport.get_extra_info("pipe").fileno()
    [watch] = [each for each in sim.driver.on_descriptor(fd) if not each.events & select.POLLOUT]
    sim.driver.complete(watch, -9)
    sim.settle()
    assert protocol.lost_with.errno == 9
    assert transport.is_closing()


def test_poll_for_room_that_fails_ends_the_write_pipe_with_its_error(sim, full):
    transport, protocol, _ = full
    fd = transport.get_extra_info("pipe").fileno()
    [poll] = [each for each in sim.driver.on_descriptor(fd) if each.events & select.POLLOUT]
    sim.driver.complete(poll, -9)
    sim.settle()
    assert protocol.lost_with.errno == 9
    assert transport.get_write_buffer_size() == 0


def test_end_that_raises_behind_an_interrupt_is_told_of_and_the_interrupt_is_raised(
    sim, full, monkeypatch
):
    transport, protocol, reading = full
    told, lose = [], WritePipeTransport._lose

    def interrupt():
        monkeypatch.setattr(WritePipeTransport, "_lose", raises)
        raise KeyboardInterrupt

    def raises(*_):
        monkeypatch.setattr(WritePipeTransport, "_lose", lose)
        raise ZeroDivisionError

    protocol.hooks["resume_writing"] = interrupt
    transport.close()
    os.read(reading, MORE_THAN_A_PIPE_HOLDS)
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_type))
    with pytest.raises(KeyboardInterrupt):
        tell_room(sim, transport)
    assert told == [ZeroDivisionError]
    assert protocol.calls[-1] == "resume_writing"


def test_pipe_that_is_aborted_while_its_poll_is_made_polls_no_more(sim, full):
    """By a callback of the collector's, which any allocation may run."""
    _, _, reading = full
    for after in range(1, 12):
        protocol = Recorder(sim.driver)
        transport = ReadPipeTransport(sim.loop, open(os.dup(reading), "rb", 0), protocol)
        fd = transport.get_extra_info("pipe").fileno()
        sim.turns(1)
        transport.pause_reading()
        sim.settle()
        left = after

        def collected(phase, info, transport=transport):
            nonlocal left
            left -= 1
            if left == 0:
                transport.close()

        before = gc.get_threshold()
        gc.callbacks.append(collected)
        gc.set_threshold(1)
        try:
            transport.resume_reading()
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(collected)
        transport.close()
        sim.settle()
        assert protocol.calls == ["connection_made", "connection_lost"]
        assert sim.driver.on_descriptor(fd) == []


def test_ready_pipe_that_another_thread_has_paused_is_left_alone(sim, full):
    transport, protocol, reading = full
    heard = Recorder(sim.driver)
    source = ReadPipeTransport(sim.loop, open(os.dup(reading), "rb", 0), heard)
    sim.turns(1)
    source.pause_reading()
    queued = transport.get_write_buffer_size()
    os.read(reading, MORE_THAN_A_PIPE_HOLDS)
    tell_room(sim, transport)
    assert queued > 0
    assert transport.get_write_buffer_size() == 0
    assert source._read_ready() is None
    assert transport._write_ready() is None
    assert heard.received == b""
    source.close()
    sim.settle()


@pytest.mark.parametrize("written", [b"", b"some"])
def test_buffer_of_a_pipe_that_has_queued_nothing_is_empty(sim, full, written):
    _, _, reading = full
    other, writing = os.pipe()
    transport = WritePipeTransport(sim.loop, open(writing, "wb", 0), Recorder(sim.driver))
    sim.turns(1)
    transport.write(written)
    assert transport._buffer == bytearray()
    if written:
        assert os.read(other, 10) == written
    transport.close()
    sim.settle()
    os.close(other)


def test_released_memory_is_not_written(sim, full):
    transport, _, _ = full
    queued = transport.get_write_buffer_size()
    released = memoryview(b"of no use")
    released.release()
    with pytest.raises(ValueError, match="released memoryview"):
        transport.write(released)
    assert transport.get_write_buffer_size() == queued


def test_transport_that_is_made_twice_or_used_as_it_is_not_is_refused(sim, full):
    transport, protocol, _ = full
    with pytest.raises(RuntimeError, match="made only once"):
        transport._begin(sim.loop, None, 0, protocol)
    with pytest.raises(RuntimeError, match="not lost"):
        transport._end()
    with pytest.raises(TypeError, match="takes bytes"):
        transport._write("text")
    with pytest.raises(AttributeError, match="set it"):
        del transport._protocol


def test_read_pipe_of_a_closed_loop_is_not_read(sim):
    """By hand: nobody else asks for it any more."""
    reading, writing = os.pipe()
    transport = ReadPipeTransport(sim.loop, open(reading, "rb", 0), Recorder(sim.driver))
    sim.turns(2)
    os.write(writing, b"x")
    sim.loop._close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport._read_ready()
    os.close(writing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del transport
        gc.collect()
