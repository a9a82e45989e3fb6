"""The reading half of the stream transport, under every order of completions."""

import errno
import sys

import pytest
from fake_driver import LENT, MORE
from simulation import BufferedRecorder, Recorder


def test_data_that_one_turn_received_in_several_buffers_arrives_in_one_call(sim):
    _, protocol, wire = sim.connect()
    _, other, other_wire = sim.connect()
    sim.driver.arrive(wire.fd, b"one ", b"two ", b"three")
    sim.driver.arrive(other_wire.fd, b"of another")
    sim.turns(1)
    assert protocol.calls.count("data_received") == 1
    assert protocol.received == b"one two three"
    assert other.received == b"of another"


@pytest.mark.parametrize("before", [0, 1, 5, 62, 63, 64])
@pytest.mark.parametrize("between", [0, 1])
def test_data_that_more_than_a_batch_has_brought_arrives_in_one_call(sim, before, between):
    """Completions of others stand before it in the same turn, and among it."""
    others = [sim.connect() for _ in range(before)]
    _, protocol, wire = sim.connect()
    _, among, among_wire = sim.connect()
    for _, _, other_wire in others:
        sim.driver.complete(sim.driver.find("recv", other_wire.fd), 1, LENT | MORE, b"x")
    sent = b""
    for number in range(150):
        data = b"%03d" % number
        sent += data
        sim.driver.complete(sim.driver.find("recv", wire.fd), 3, LENT | MORE, data)
        if between and number % 3 == 0:
            sim.driver.complete(sim.driver.find("recv", among_wire.fd), 3, LENT | MORE, data)
    sim.turns(1)
    assert protocol.received == sent
    # With others' in between the cut may fall just behind the first of it.
    assert protocol.calls.count("data_received") <= 1 + between
    assert len(among.received) == (150 if between else 0)
    for _, other, _ in others:
        assert other.received == b"x"


def test_data_of_two_streams_in_turn_is_gathered_for_each(sim):
    ends = [sim.connect() for _ in range(2)]
    for piece in range(3):
        for number, (_, _, wire) in enumerate(ends):
            receive = sim.driver.find("recv", wire.fd)
            data = b"%d%d." % (number, piece)
            sim.driver.complete(receive, len(data), LENT | MORE, data)
    sim.turns(1)
    for number, (_, protocol, _) in enumerate(ends):
        assert protocol.calls.count("data_received") == 1
        assert protocol.received == b"%d0.%d1.%d2." % (number, number, number)


def test_data_with_the_end_of_the_receive_comes_behind_what_was_gathered(sim):
    _, protocol, wire = sim.connect()
    receive = sim.driver.find("recv", wire.fd)
    sim.driver.complete(receive, 1, LENT | MORE, b"a")
    sim.driver.complete(receive, 1, LENT | MORE, b"b")
    sim.driver.complete(receive, 1, LENT, b"c")
    sim.turns(1)
    assert (bytes(protocol.received), protocol.calls.count("data_received")) == (b"abc", 2)
    assert sim.driver.find("recv", wire.fd) not in (None, receive)


def test_data_gathered_of_a_transport_that_was_aborted_before_is_dropped(sim):
    _, first, wire = sim.connect()
    _, second, second_wire = sim.connect()
    first.hooks["data_received"] = lambda data: second.transport.abort()
    sim.driver.arrive(wire.fd, b"abort the other")
    sim.driver.arrive(second_wire.fd, b"a", b"b", b"c")
    sim.settle()
    assert second.received == b""
    assert second.is_lost


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_data_received_over_small_harvests_arrives_in_order(sim, limit):
    _, protocol, wire = sim.connect()
    sim.driver.harvest_limit = lambda: limit
    sim.driver.arrive(wire.fd, b"a", b"b", b"c", b"d", b"e")
    sim.turns(1)
    assert protocol.received == b"abcde"


def test_reading_before_connection_made_is_not_started(sim):
    _, protocol, wire = sim.connect(start=False)
    assert sim.driver.find("recv", wire.fd) is None
    sim.driver.arrive(wire.fd, b"early")
    sim.settle()
    assert protocol.calls == ["connection_made", "data_received"]


def test_receive_stream_ended_by_driver_with_data_is_armed_again(sim):
    """A terminal completion with data is no end of file: the next receive follows."""
    _, protocol, wire = sim.connect()
    first = sim.driver.find("recv", wire.fd)
    sim.driver.complete(first, 3, LENT, b"abc")
    sim.turns(1)
    second = sim.driver.find("recv", wire.fd)
    assert second is not None and second is not first
    sim.driver.arrive(wire.fd, b"def", 0)
    sim.settle()
    assert protocol.received == b"abcdef"
    assert protocol.calls.count("eof_received") == 1


def test_lent_buffer_after_data_received_is_recycled_and_not_referenced(sim):
    _, protocol, wire = sim.connect()
    kept = []
    protocol.hooks["data_received"] = kept.append
    sim.driver.arrive(wire.fd, b"keep me")
    sim.turns(1)
    assert sim.driver.lent == {}
    assert kept == [b"keep me"]


def test_eof_received_returning_none_closes_transport(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.arrive(wire.fd, b"last", 0)
    sim.settle()
    assert protocol.calls == [
        "connection_made", "data_received", "eof_received", "connection_lost",
    ]
    assert protocol.lost_with is None
    assert wire.is_closed


def test_eof_received_returning_true_keeps_transport_open_for_writing(sim):
    transport, protocol, wire = sim.connect()
    protocol.keep_open = True
    sim.driver.arrive(wire.fd, 0)
    sim.settle()
    assert not transport.is_closing()
    assert sim.driver.on_descriptor(wire.fd) == []
    sim.within(transport.write, b"still here")
    sim.settle()
    assert wire.received == b"still here"
    assert protocol.calls.count("eof_received") == 1
    assert sim.driver.find("recv", wire.fd) is None


def test_eof_is_told_again_to_whoever_resumes_reading_after_it(sim):
    transport, protocol, wire = sim.connect()
    protocol.keep_open = True
    sim.driver.arrive(wire.fd, 0)
    sim.settle()
    late = Recorder(sim.driver)
    late.connection_made(transport)
    protocol.pause()
    transport.set_protocol(late)
    protocol.resume()
    sim.driver.arrive(wire.fd, 0)  # a socket tells its end as often as it is asked
    sim.settle()
    assert late.calls[-2:] == ["eof_received", "connection_lost"]
    assert protocol.calls.count("eof_received") == 1


def test_connection_reset_while_reading_loses_connection_with_the_error(sim):
    _, protocol, wire = sim.connect()
    sim.driver.arrive(wire.fd, b"data", -errno.ECONNRESET)
    sim.settle()
    assert protocol.received == b"data"
    assert "eof_received" not in protocol.calls
    assert isinstance(protocol.lost_with, ConnectionResetError)
    assert wire.is_closed


def test_receive_refused_at_once_loses_connection_with_the_error(sim):
    transport, protocol, wire = sim.connect(start=False)
    sim.driver.refusals["recv"] = -errno.EBADF
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert protocol.lost_with.errno == errno.EBADF


def test_receive_refused_after_the_last_has_ended_loses_connection_with_the_error(sim):
    _, protocol, wire = sim.connect()
    sim.driver.refusals["recv"] = -errno.ENOMEM
    sim.driver.complete(sim.driver.find("recv", wire.fd), 4, LENT, b"data")
    sim.settle()
    assert protocol.received == b"data"
    assert protocol.lost_with.errno == errno.ENOMEM


@pytest.mark.parametrize("interrupted", [False, True])
def test_receive_refused_on_a_loop_that_cannot_be_told_ends_the_run(
    sim, interrupted, monkeypatch
):
    """call_soon() fails: connection_lost() can only be called by whoever hears of that."""
    told = []
    transport, protocol, wire = sim.connect()

    def spoil(data):
        sim.driver.refusals["recv"] = -errno.ENOMEM
        sim.loop.call_soon = None
        if interrupted:
            raise KeyboardInterrupt

    protocol.hooks["data_received"] = spoil
    sim.driver.complete(sim.driver.find("recv", wire.fd), 4, LENT, b"data")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
        with pytest.raises(KeyboardInterrupt if interrupted else TypeError):
            sim.turns(1)
    del sim.loop.call_soon
    assert told == ([TypeError] if interrupted else [])
    transport._call_connection_lost(None)
    assert protocol.is_lost


def test_loss_that_resume_reading_finds_comes_before_what_was_held_back(sim):
    """What was written is offered to the kernel first, and nobody is there any more."""
    transport, protocol, wire = sim.connect()
    protocol.pause()
    sim.driver.complete(sim.driver.find("recv", wire.fd), 4, LENT, b"data")
    sim.turns(1)

    def resume():
        transport.write(b"to nobody")
        wire.peer.close()
        transport.resume_reading()
        assert transport.is_closing()

    sim.within(resume)
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert isinstance(protocol.lost_with, BrokenPipeError)


def test_pause_reading_inside_data_received_leaves_nothing_that_was_received(sim):
    _, protocol, wire = sim.connect()
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"a", b"b", b"c")
    sim.settle()
    assert protocol.received == b"abc"


def test_data_of_the_turn_in_which_somebody_else_pauses_is_kept_and_comes_in_one_call(sim):
    _, protocol, wire = sim.connect()
    sim.driver.harvest_limit = lambda: 1  # one by one, as if there were many others
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"a", b"b", b"c")
    sim.settle()
    assert protocol.received == b"a"
    protocol.hooks.clear()
    protocol.resume()
    sim.settle()
    assert protocol.received == b"abc"
    assert protocol.calls.count("data_received") == 2


def test_pause_reading_that_is_resumed_in_the_same_turn_asks_nothing_of_the_driver(sim):
    _, protocol, wire = sim.connect()
    receive = sim.driver.find("recv", wire.fd)
    sim.loop.call_soon(protocol.pause)
    sim.loop.call_soon(protocol.resume)
    sim.turns(2)
    assert sim.driver.find("recv", wire.fd) is receive
    assert not receive.held and not receive.cancelling


@pytest.mark.parametrize("in_turn", [True, False])
def test_paused_transport_receives_nothing_however_much_arrives(sim, in_turn):
    """A driver that receives outside its turn is told at once."""
    sim.driver.table.receives_in_turn = in_turn
    _, protocol, wire = sim.connect()
    held = []
    sim.loop.call_soon(protocol.pause)
    sim.loop.call_soon(lambda: held.append(sim.driver.find("recv", wire.fd).held))
    sim.turns(1)
    assert held == [not in_turn]
    sent = b""
    for number in range(12):
        data = bytes([number]) * 1024
        sent += data
        sim.driver.arrive(wire.fd, data)
        sim.turns(1)
    assert b"".join(sim.driver.inbox[wire.fd]) == sent
    protocol.resume()
    sim.settle()
    assert protocol.received == sent
    assert protocol.calls.count("data_received") == 1


def test_transport_paused_while_the_loop_does_not_run_receives_nothing_in_its_next_run(sim):
    _, protocol, wire = sim.connect()
    protocol.transport.pause_reading()
    assert sim.driver.find("recv", wire.fd).held
    sim.driver.arrive(wire.fd, b"for another")
    sim.settle()
    assert list(sim.driver.inbox[wire.fd]) == [b"for another"]


def test_buffered_protocol_with_little_room_lets_the_rest_stay_in_the_socket(sim):
    _, protocol, wire = sim.connect(BufferedRecorder)
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"0123456789ab")
    sim.settle()
    assert protocol.received == b"0123"
    assert list(sim.driver.inbox[wire.fd]) == [b"456789ab"]


def test_eof_in_the_turn_in_which_somebody_else_pauses_is_kept_until_resume(sim):
    _, protocol, wire = sim.connect()
    sim.driver.harvest_limit = lambda: 1
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"data", 0)
    sim.settle()
    assert protocol.calls == ["connection_made", "data_received"]
    protocol.resume()
    sim.settle()
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize("end", [0, -errno.ECONNRESET])
def test_end_arriving_while_paused_comes_once_and_last_after_resume(sim, end):
    _, protocol, wire = sim.connect()
    protocol.pause()
    sim.driver.arrive(wire.fd, b"data", end)
    sim.settle()
    assert protocol.calls == ["connection_made"]
    protocol.resume()
    sim.settle()
    ends = ["eof_received"] if end == 0 else []
    assert protocol.calls == ["connection_made", "data_received", *ends, "connection_lost"]


def test_pause_reading_again_inside_kept_delivery_stops_it_there(sim):
    _, protocol, wire = sim.connect()
    sim.driver.harvest_limit = lambda: 1
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"a", b"b", b"c", 0)
    sim.settle()
    assert protocol.received == b"a"
    protocol.resume()
    sim.settle()
    assert protocol.received == b"abc"
    assert "eof_received" not in protocol.calls
    protocol.resume()
    sim.settle()
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


def test_pause_and_resume_inside_data_received_deliver_each_byte_once(sim):
    _, protocol, wire = sim.connect()

    def bounce(data):
        protocol.pause()
        protocol.resume()

    protocol.hooks["data_received"] = bounce
    sim.driver.arrive(wire.fd, b"a", b"b", b"c")
    sim.settle()
    assert protocol.received == b"abc"


def test_close_while_paused_with_kept_data_drops_it(sim):
    _, protocol, wire = sim.connect()
    protocol.pause()
    sim.driver.arrive(wire.fd, b"data", 0)
    sim.settle()
    protocol.close()
    protocol.transport.resume_reading()
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("mode", ["later", "race", "at_once"])
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_closing_inside_data_received_drops_the_rest_of_the_batch(sim, mode, ending):
    _, protocol, wire = sim.connect()
    sim.driver.cancel_mode = mode
    protocol.hooks["data_received"] = lambda data: getattr(protocol, ending)()
    sim.driver.arrive(wire.fd, b"first", b"second", 0)
    sim.settle()
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
    assert wire.is_closed


def test_data_received_raising_reports_and_aborts(sim):
    _, protocol, wire = sim.connect()

    def fail(data):
        raise ZeroDivisionError

    protocol.hooks["data_received"] = fail
    sim.driver.arrive(wire.fd, b"a", b"b")
    sim.settle()
    assert [str(context["message"]) for context in sim.loop.contexts] == [
        "Fatal error: protocol.data_received() call failed."
    ]
    sim.loop.contexts.clear()
    assert protocol.calls == ["connection_made", "data_received", "connection_lost"]
    assert isinstance(protocol.lost_with, ZeroDivisionError)


def test_buffered_protocol_gets_data_in_pieces_of_its_buffer(sim):
    _, protocol, wire = sim.connect(BufferedRecorder)
    sim.driver.arrive(wire.fd, b"123456789", 0)
    sim.settle()
    assert protocol.received == b"123456789"
    assert protocol.calls.count("data_received") == 3
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


def test_buffered_protocol_pausing_in_the_middle_gets_the_rest_after_resume(sim):
    _, protocol, wire = sim.connect(BufferedRecorder)
    protocol.hooks["data_received"] = lambda data: protocol.pause()
    sim.driver.arrive(wire.fd, b"0123456789ab", b"cdef", 0)
    sim.settle()
    assert protocol.received == b"0123"
    for end in (8, 12, 16):
        protocol.resume()
        sim.settle()
        assert protocol.received == b"0123456789abcdef"[:end]
    protocol.hooks.clear()
    protocol.resume()
    sim.settle()
    assert protocol.calls[-2:] == ["eof_received", "connection_lost"]


def test_buffered_protocol_closing_in_the_middle_gets_no_more(sim):
    _, protocol, wire = sim.connect(BufferedRecorder)
    protocol.hooks["data_received"] = lambda data: protocol.close()
    sim.driver.arrive(wire.fd, b"0123456789ab")
    sim.settle()
    assert protocol.received == b"0123"


def test_buffered_protocol_giving_an_empty_buffer_is_reported(sim):
    _, protocol, wire = sim.connect(BufferedRecorder, size=0)
    sim.driver.arrive(wire.fd, b"data")
    sim.settle()
    [context] = sim.loop.contexts
    assert context["message"] == "Fatal error: protocol.get_buffer() call failed."
    sim.loop.contexts.clear()
    assert protocol.is_lost


def test_set_protocol_inside_data_received_gives_the_rest_to_the_new_one(sim):
    transport, protocol, wire = sim.connect()
    other = Recorder(sim.driver)
    other.connection_made(transport)
    sim.driver.harvest_limit = lambda: 1
    protocol.hooks["data_received"] = lambda data: transport.set_protocol(other)
    sim.driver.arrive(wire.fd, b"old", b"new", 0)
    sim.settle()
    assert (protocol.received, other.received) == (b"old", b"new")
    assert "connection_lost" not in protocol.calls
    assert other.calls[-2:] == ["eof_received", "connection_lost"]


def test_set_protocol_inside_buffer_updated_gives_the_rest_to_the_new_one(sim):
    transport, protocol, wire = sim.connect(BufferedRecorder)
    other = Recorder(sim.driver)
    other.connection_made(transport)
    protocol.hooks["data_received"] = lambda data: transport.set_protocol(other)
    sim.driver.arrive(wire.fd, b"old.new and more")
    sim.settle()
    assert (protocol.received, other.received) == (b"old.", b"new and more")


@pytest.mark.parametrize("mode", ["later", "race", "at_once"])
def test_transport_closed_by_another_in_the_same_batch_hears_nothing_more(sim, mode):
    """Its completions are harvested already when the other's protocol closes it."""
    _, first, first_wire = sim.connect()
    _, second, second_wire = sim.connect()
    sim.driver.cancel_mode = mode
    first.hooks["data_received"] = lambda data: second.abort()
    sim.driver.arrive(first_wire.fd, b"trigger")
    sim.driver.arrive(second_wire.fd, b"late", 0)
    sim.settle()
    assert second.calls == ["connection_made", "connection_lost"]
    assert second_wire.is_closed


def test_receive_ended_in_this_batch_and_cancelled_before_its_dispatch_is_ended_once(sim):
    """Harvested with another's completion, it is dead for the driver: cancel() says ENOENT."""
    _, first, first_wire = sim.connect()
    _, second, second_wire = sim.connect()
    first.hooks["data_received"] = lambda data: second.abort()
    sim.driver.arrive(first_wire.fd, b"trigger")
    receive = sim.driver.find("recv", second_wire.fd)
    sim.driver.arrive(second_wire.fd, 0)
    sim.turns(1)
    assert receive.token not in sim.driver.operations
    sim.settle()
    assert second.calls == ["connection_made", "connection_lost"]
    assert second_wire.is_closed


def test_transport_dropped_while_its_completions_are_harvested_is_not_used_after_free(sim):
    """cancel() says 0, so that the loop holds it no longer, but the batch still names it."""
    _, first, first_wire = sim.connect()
    second_transport, second, second_wire = sim.connect()
    sim.driver.cancel_mode = "at_once"
    transports = [second_transport]
    second.transport = None
    del second_transport

    def lose(data):
        # Ends reading at once and forgets the transport: connection_lost() is called by hand.
        transports[0].abort()
        transports[0]._call_connection_lost(None)
        transports.clear()

    first.hooks["data_received"] = lose
    sim.driver.arrive(first_wire.fd, b"trigger")
    sim.driver.arrive(second_wire.fd, b"x" * 100, b"y" * 100)
    sim.settle()
    assert second.calls == ["connection_made", "connection_lost"]
    assert second_wire.is_closed


def test_data_arriving_after_turns_ended_by_signals_is_not_lost(sim):
    """A signal ends the wait: a turn that finds nothing."""
    _, protocol, wire = sim.connect()
    sim.driver.interrupted_turns = 3
    sim.driver.arrive(wire.fd, b"after the signals")
    sim.turns(3)
    assert protocol.received == b""
    sim.turns(1)
    assert protocol.received == b"after the signals"
    assert sim.driver.find("recv", wire.fd) is not None


@pytest.mark.parametrize("method", ["pause", "close"])
def test_bytes_behind_a_pause_in_the_middle_of_a_piece_wait(sim, method):
    """One piece is larger than the protocol's buffer, and the protocol has enough at once."""
    _, protocol, wire = sim.connect(BufferedRecorder)
    sim.driver.bulk.discard(wire.fd)
    protocol.hooks["data_received"] = lambda data: getattr(protocol, method)()
    operation = sim.driver.find("recv", wire.fd)
    # The driver may end a stream with data at any time.
    sim.driver.complete(operation, 12, LENT, b"0123456789ab")
    sim.turns(2)
    sim.driver.check()
    assert protocol.received == b"0123"
    if method == "pause":
        del protocol.hooks["data_received"]
        protocol.resume()
        sim.settle()
        assert protocol.received == b"0123456789ab"


def test_bytes_behind_an_interrupt_in_the_middle_of_a_piece_come_in_the_next_run(sim):
    _, protocol, wire = sim.connect(BufferedRecorder)

    def interrupt(data):
        del protocol.hooks["data_received"]
        raise KeyboardInterrupt

    protocol.hooks["data_received"] = interrupt
    sim.driver.complete(sim.driver.find("recv", wire.fd), 12, LENT, b"0123456789ab")
    with pytest.raises(KeyboardInterrupt):
        sim.turns(2)
    sim.settle()
    sim.settle()
    assert protocol.received == b"0123456789ab"
