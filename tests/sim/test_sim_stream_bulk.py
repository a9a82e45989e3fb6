"""Bulk that the transport receives itself: READABLE and take(), under every order of events."""

import asyncio
import errno

import pytest
from fake_driver import LENT, MORE
from simulation import BufferedRecorder, Recorder

TAKE_BYTES_MAX = 256 * 1024


@pytest.fixture
def connected(sim):
    """A bulk connection by each kind of protocol."""

    def connect(kind=Recorder, **options):
        transport, protocol, wire = sim.connect(kind, **options)
        sim.driver.bulk.add(wire.fd)
        return transport, protocol, wire

    return connect


kinds = pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
modes = pytest.mark.parametrize("mode", ["later", "race", "at_once"])


@kinds
def test_bulk_then_end_of_file_arrives_in_order(sim, connected, kind):
    _, protocol, wire = connected(kind)
    sim.driver.arrive(wire.fd, b"one two ", b"three ", 0)
    sim.settle()
    assert protocol.received == b"one two three "
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
    assert wire.is_closed


def test_bulk_of_a_turn_is_one_data_received_of_the_exact_size(sim, connected):
    _, protocol, wire = connected()
    sim.driver.arrive(wire.fd, b"a" * 1000, b"b" * 1000)
    sim.turns(1)
    assert protocol.calls.count("data_received") == 1
    assert protocol.received == b"a" * 1000 + b"b" * 1000


def test_more_than_the_largest_take_arrives_in_several_turns(sim, connected):
    _, protocol, wire = connected()
    sim.driver.arrive(wire.fd, bytes(range(256)) * 2048)
    sim.turns(1)
    assert len(protocol.received) == TAKE_BYTES_MAX
    sim.turns(1)
    assert protocol.received == bytes(range(256)) * 2048


def test_more_than_was_guessed_arrives_in_one_take_and_one_call(sim, connected):
    _, protocol, wire = connected()
    blob = bytes(range(256)) * 400
    for rounds in (1, 2):
        sim.driver.arrive(wire.fd, blob)
        sim.turns(1)
        assert protocol.received == blob * rounds
        assert (sim.driver.takes, protocol.calls.count("data_received")) == (rounds, rounds)


def test_pausing_in_what_was_more_than_guessed_leaves_nothing_behind(sim, connected):
    _, protocol, wire = connected()
    blob = bytes(range(256)) * 400
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, blob)
    sim.turns(1)
    assert protocol.received == blob


def test_bulk_larger_than_the_protocols_buffer_is_taken_in_pieces_of_it(sim, connected):
    _, protocol, wire = connected(BufferedRecorder, size=4)
    sim.driver.arrive(wire.fd, b"0123456789")
    for end in (4, 8, 10):
        sim.turns(1)
        assert protocol.received == b"0123456789"[:end]
    assert sim.driver.takes == 3


@kinds
def test_take_that_finds_nothing_calls_no_protocol_and_goes_on(sim, connected, kind):
    _, protocol, wire = connected(kind)
    sim.driver.take_result = -errno.EAGAIN
    sim.driver.arrive(wire.fd, b"data")
    sim.turns(1)
    assert protocol.calls == ["connection_made"]
    sim.settle()
    assert protocol.received == b"data"


@kinds
def test_take_that_fails_aborts_the_transport(sim, connected, kind):
    _, protocol, wire = connected(kind)
    sim.driver.arrive(wire.fd, -errno.ECONNRESET)
    sim.settle()
    assert isinstance(protocol.lost_with, ConnectionResetError)
    assert wire.is_closed
    sim.loop.contexts.clear()


@kinds
def test_bulk_for_a_paused_transport_stays_in_the_socket(sim, connected, kind):
    _, protocol, wire = connected(kind)
    protocol.pause()
    sim.driver.arrive(wire.fd, b"a" * 1000, 0)
    sim.settle()
    assert sim.driver.takes == 0
    assert protocol.received == b""
    protocol.resume()
    assert sim.driver.takes == 0
    sim.settle()
    assert protocol.received == b"a" * 1000
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


def test_pausing_again_before_the_delivery_leaves_bulk_in_the_socket(sim, connected):
    _, protocol, wire = connected()
    protocol.pause()
    sim.driver.arrive(wire.fd, b"data")
    sim.settle()
    for _ in range(3):
        protocol.resume()
        protocol.pause()
        sim.settle()
    assert sim.driver.takes == 0
    protocol.resume()
    sim.settle()
    assert protocol.received == b"data"


def test_bulk_after_kept_bytes_arrives_behind_them(sim, connected):
    _, protocol, wire = connected()
    sim.driver.bulk.clear()
    protocol.pause()
    sim.driver.arrive(wire.fd, b"kept ")
    sim.settle()
    sim.driver.bulk.add(wire.fd)
    sim.driver.arrive(wire.fd, b"in the socket")
    sim.settle()
    protocol.resume()
    sim.settle()
    assert protocol.received == b"kept in the socket"


def test_pausing_in_the_middle_of_bulk_keeps_the_rest(sim, connected):
    _, protocol, wire = connected(BufferedRecorder, size=4)
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"0123456789")
    sim.settle()
    assert protocol.received == b"0123"
    protocol.resume()
    sim.settle()
    assert protocol.received == b"01234567"
    del protocol.hooks["data_received"]
    protocol.resume()
    sim.settle()
    assert protocol.received == b"0123456789"


@kinds
@modes
@pytest.mark.parametrize("end", ["close", "abort"])
def test_closing_inside_the_delivery_of_bulk_ends_reading(sim, connected, kind, mode, end):
    _, protocol, wire = connected(kind)
    sim.driver.cancel_mode = mode
    protocol.hooks["data_received"] = lambda data: getattr(protocol, end)()
    sim.driver.arrive(wire.fd, b"0123456789")
    sim.settle()
    assert protocol.calls.count("data_received") == 1
    assert protocol.is_lost and wire.is_closed


@modes
@pytest.mark.parametrize("end", ["close", "abort"])
def test_closing_inside_get_buffer_takes_nothing(sim, connected, mode, end):
    _, protocol, wire = connected(BufferedRecorder)
    sim.driver.cancel_mode = mode
    protocol.hooks["get_buffer"] = lambda sizehint: getattr(protocol, end)()
    sim.driver.arrive(wire.fd, b"0123456789")
    sim.settle()
    assert protocol.received == b""
    assert protocol.is_lost and wire.is_closed


def test_pausing_inside_get_buffer_still_fills_that_buffer(sim, connected):
    """As in asyncio, which receives right behind get_buffer()."""
    _, protocol, wire = connected(BufferedRecorder, size=4)
    paused = []

    def pause(sizehint):
        if not paused:
            paused.append(sizehint)
            protocol.transport.pause_reading()

    protocol.hooks["get_buffer"] = pause
    sim.driver.arrive(wire.fd, b"0123456789", 0)
    sim.settle()
    assert paused == [-1]
    assert protocol.received == b"0123"
    protocol.resume()
    sim.settle()
    assert protocol.received == b"0123456789"
    assert protocol.is_lost


@modes
def test_transport_closed_by_another_before_its_take_is_left_alone(sim, connected, mode):
    """Both completions are harvested when the first protocol ends the second transport."""
    _, first, first_wire = connected()
    _, second, second_wire = connected()
    sim.driver.cancel_mode = mode
    first.hooks["data_received"] = lambda data: second.abort()
    sim.driver.arrive(first_wire.fd, b"data")
    sim.driver.arrive(second_wire.fd, b"data")
    sim.settle()
    assert second.received == b""
    assert second.is_lost and second_wire.is_closed


@kinds
def test_interrupt_by_another_leaves_bulk_for_the_next_run(sim, connected, kind):
    _, first, first_wire = connected()
    _, second, second_wire = connected(kind)

    def interrupt(data):
        del first.hooks["data_received"]
        raise KeyboardInterrupt

    first.hooks["data_received"] = interrupt
    sim.driver.arrive(first_wire.fd, b"data")
    sim.driver.arrive(second_wire.fd, b"data")
    with pytest.raises(KeyboardInterrupt):
        sim.turns(1)
    assert second.received == b""
    sim.settle()
    assert second.received == b"data"


@pytest.mark.parametrize("where", ["get_buffer", "data_received"])
def test_interrupt_inside_the_delivery_of_bulk_loses_nothing(sim, connected, where):
    _, protocol, wire = connected(BufferedRecorder, size=4)

    def interrupt(argument):
        del protocol.hooks[where]
        raise KeyboardInterrupt

    protocol.hooks[where] = interrupt
    sim.driver.arrive(wire.fd, b"0123456789", 0)
    with pytest.raises(KeyboardInterrupt):
        sim.turns(1)
    sim.settle()
    assert protocol.received == b"0123456789"
    assert protocol.is_lost


@pytest.mark.parametrize("where", ["get_buffer", "data_received"])
def test_exception_inside_the_delivery_of_bulk_aborts(sim, connected, where):
    _, protocol, wire = connected(BufferedRecorder, size=4)
    failure = ZeroDivisionError()

    def fail(argument):
        raise failure

    protocol.hooks[where] = fail
    sim.driver.arrive(wire.fd, b"0123456789")
    sim.settle()
    assert protocol.lost_with is failure
    assert wire.is_closed
    sim.loop.contexts.clear()


@pytest.mark.parametrize("new", [Recorder, BufferedRecorder])
@kinds
def test_protocol_switched_inside_the_delivery_of_bulk_gets_the_rest(sim, connected, kind, new):
    transport, protocol, wire = connected(kind)
    other = new(sim.driver)
    other._heard("connection_made")
    other.transport = transport
    protocol.hooks["data_received"] = lambda data: transport.set_protocol(other)
    sim.driver.arrive(wire.fd, b"0123456789")
    sim.turns(1)
    sim.driver.arrive(wire.fd, b"more")
    sim.settle()
    assert protocol.received + other.received == b"0123456789more"
    assert other.received.endswith(b"more")


def test_kept_limit_reached_before_bulk_arms_a_receive_for_it(sim, connected):
    """The receive that was cancelled for what was kept has a READABLE on its way."""
    _, protocol, wire = connected()
    sim.driver.bulk.clear()
    protocol.pause()
    receive = sim.driver.find("recv", wire.fd)
    sim.driver.complete(receive, 70_000, LENT | MORE, b"k" * 70_000)
    sim.driver.bulk.add(wire.fd)
    sim.driver.arrive(wire.fd, b"bulk")
    sim.turns(1)
    protocol.resume()
    sim.settle()
    assert protocol.received == b"k" * 70_000 + b"bulk"


def test_new_receive_after_resume_takes_bulk_of_its_own(sim, connected):
    _, protocol, wire = connected()
    for round in range(5):
        protocol.pause()
        sim.driver.arrive(wire.fd, b"%d" % round)
        sim.settle()
        protocol.resume()
        sim.settle()
    assert protocol.received == b"01234"


def test_buffer_without_room_is_reported_and_nothing_is_taken(sim, connected):
    _, protocol, wire = connected(BufferedRecorder, size=0)
    sim.driver.arrive(wire.fd, b"data")
    sim.settle()
    assert isinstance(protocol.lost_with, RuntimeError)
    assert sim.driver.takes == 0
    sim.loop.contexts.clear()


def test_buffer_larger_than_the_largest_take_is_filled_at_once(sim, connected):
    """asyncio's recv_into() has no limit of its own."""
    _, protocol, wire = connected(BufferedRecorder, size=2 * TAKE_BYTES_MAX)
    sim.driver.arrive(wire.fd, b"x" * (TAKE_BYTES_MAX + 1))
    sim.turns(1)
    assert len(protocol.received) == TAKE_BYTES_MAX + 1
    assert isinstance(protocol, asyncio.BufferedProtocol)
