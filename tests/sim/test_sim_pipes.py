"""What a pipe's ends do when something raises in the middle: of the rest the machine sees to it."""

import gc
import os
import select
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


def test_transport_that_is_made_twice_is_refused(sim, full):
    transport, protocol, _ = full
    with pytest.raises(RuntimeError, match="made only once"):
        transport._begin(sim.loop, None, 0, protocol)


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
