"""The end of a stream transport: connection_lost() once and last, the descriptor after it."""

import asyncio
import errno
import gc
import os
import socket
import sys
import types
import weakref

import pytest
from simulation import Recorder, StreamTransport

from uring_loop._internal import _helpers

MODES = ["later", "race", "at_once"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_idle_transport_ended_loses_connection_and_closes_descriptor(sim, ending, mode):
    transport, protocol, wire = sim.connect()
    sim.driver.cancel_mode = mode
    getattr(protocol, ending)()
    assert transport.is_closing()
    assert not protocol.is_lost
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert protocol.lost_with is None
    assert sim.driver.closed == [wire.fd]
    assert wire.received == b"" and wire.eof


def test_descriptor_stays_open_until_the_cancelled_receive_has_completed(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.cancel_mode = "manual"
    receive = sim.driver.find("recv", wire.fd)
    protocol.close()
    sim.turns(4)
    assert protocol.is_lost
    assert transport._state == "joining"
    assert not wire.is_closed
    sim.driver.end(receive)
    sim.turns(1)
    assert wire.is_closed
    assert transport._state == "closed"


def test_data_arriving_for_a_joining_transport_is_dropped_and_recycled(sim):
    _, protocol, wire = sim.connect()
    sim.driver.cancel_mode = "manual"
    receive = sim.driver.find("recv", wire.fd)
    protocol.close()
    sim.turns(2)
    sim.driver.complete(receive, 4, 2 | 1, b"late")
    sim.driver.arrive(wire.fd, b"later")
    sim.driver.end(receive, race=True)
    sim.turns(1)
    assert protocol.received == b""
    assert sim.driver.lent == {}
    assert wire.is_closed


def test_close_with_send_in_flight_waits_for_it(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"0123456789")
    protocol.close()
    sim.turns(4)
    assert transport._state == "closing"
    sim.driver.sent(wire.fd, 4)
    sim.turns(2)
    assert not protocol.is_lost
    sim.driver.sent(wire.fd)
    sim.settle()
    assert wire.received == b"0123456789"
    assert protocol.is_lost and wire.is_closed


def test_write_after_close_with_send_in_flight_is_still_sent(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"first")
    protocol.close()
    sim.within(transport.write, b"second")
    sim.driver.hold_sends = False
    sim.settle()
    assert wire.received == b"firstsecond"
    assert protocol.is_lost


@pytest.mark.parametrize("race", [False, True])
def test_abort_with_send_in_flight_holds_the_bytes_until_its_completion(sim, race):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.driver.cancel_mode = "manual"
    data = os.urandom(50)
    before = sys.getrefcount(data)
    sim.within(transport.write, data)
    send, receive = sim.driver.find("send", wire.fd), sim.driver.find("recv", wire.fd)
    protocol.abort()
    sim.driver.end(receive)
    sim.turns(4)
    assert protocol.is_lost
    assert not wire.is_closed
    assert sys.getrefcount(data) == before + 1
    calls = list(protocol.calls)
    sim.driver.end(send, race=race)
    sim.turns(2)
    assert protocol.calls == calls
    assert sys.getrefcount(data) == before
    assert wire.is_closed


def test_abort_with_send_in_flight_that_ends_at_once_frees_the_bytes(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.driver.cancel_mode = "at_once"
    data = os.urandom(50)
    before = sys.getrefcount(data)
    sim.within(transport.write, data)
    protocol.abort()
    assert sys.getrefcount(data) == before
    sim.settle()
    assert protocol.is_lost and wire.is_closed


def test_abort_drops_what_is_queued_behind_the_send_in_flight(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"in flight")
    sim.within(transport.write, b"queued")
    protocol.abort()
    assert transport.get_write_buffer_size() == 0
    sim.driver.cancel_mode = "race"
    sim.settle()
    assert wire.received == b"in flight"
    assert protocol.is_lost


def test_abort_after_close_with_send_in_flight_ends_it_once(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"data")
    protocol.close()
    sim.turns(1)
    protocol.abort()
    protocol.abort()
    protocol.close()
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_eof_and_send_completion_in_the_same_batch_lose_connection_once(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"answer")
    sim.driver.arrive(wire.fd, 0)
    sim.driver.sent(wire.fd)
    sim.settle()
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
    assert wire.received == b"answer"


def test_connection_lost_raising_at_the_end_of_the_queue_is_reported_not_raised(sim):
    """It runs inside the dispatch of a send: run_forever() must not end with it."""
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True

    def fail(error):
        raise ZeroDivisionError

    protocol.hooks["connection_lost"] = fail
    sim.within(transport.write, b"data")
    protocol.close()
    sim.driver.sent(wire.fd)
    sim.settle()
    assert [type(context["exception"]) for context in sim.loop.contexts] == [ZeroDivisionError]
    sim.loop.contexts.clear()
    assert wire.is_closed


def test_connection_lost_raising_inside_the_flush_is_reported_not_raised(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.at_once = lambda operation: operation.size
    wire.block()

    def fail(error):
        raise ZeroDivisionError

    protocol.hooks["connection_lost"] = fail

    def end():
        transport.write(b"data")
        protocol.close()

    sim.within(end)
    sim.settle()
    assert [type(context["exception"]) for context in sim.loop.contexts] == [ZeroDivisionError]
    sim.loop.contexts.clear()
    assert wire.is_closed


def test_connection_lost_raising_when_scheduled_is_reported(sim):
    _, protocol, wire = sim.connect()

    def fail(error):
        raise ZeroDivisionError

    protocol.hooks["connection_lost"] = fail
    protocol.close()
    sim.settle()
    assert [type(context["exception"]) for context in sim.loop.contexts] == [ZeroDivisionError]
    sim.loop.contexts.clear()
    assert wire.is_closed


def test_methods_called_inside_connection_lost_do_nothing_more(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"data")

    def use(error):
        transport.abort()
        transport.close()
        transport.write(b"more")
        transport.pause_reading()
        transport.resume_reading()
        transport.write_eof()

    protocol.hooks["connection_lost"] = use
    protocol.close()
    sim.driver.sent(wire.fd)
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert wire.received == b"data"


def test_methods_called_after_the_end_do_nothing(sim):
    transport, protocol, wire = sim.connect()
    protocol.close()
    sim.settle()
    transport.close()
    transport.abort()
    transport.pause_reading()
    transport.resume_reading()
    transport.write(b"x")
    transport.writelines([b"x"])
    transport.write_eof()
    transport._force_close(None)
    transport._fatal_error(OSError())
    assert transport.get_write_buffer_size() == 0
    assert transport.is_closing() and not transport.is_reading()
    assert transport.get_protocol() is None
    assert "closed" in repr(transport)
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_before_connection_made_keeps_the_order_of_calls(sim, ending):
    transport, protocol, wire = sim.connect(start=False)
    getattr(transport, ending)()
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert sim.driver.history == []


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_inside_connection_made_never_starts_reading(sim, ending):
    transport, protocol, wire = sim.connect(start=False)
    protocol.hooks["connection_made"] = lambda transport: getattr(protocol, ending)()
    sim.settle()
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert sim.driver.history == []


def test_waiter_is_woken_after_connection_made(sim):
    wire = sim.wire()
    waiter = asyncio.Future(loop=sim.loop)
    protocol = Recorder(sim.driver)
    order = []
    protocol.hooks["connection_made"] = lambda transport: order.append("made")
    waiter.add_done_callback(lambda future: order.append("woken"))
    transport = StreamTransport(sim.loop, wire.sock.detach(), protocol, waiter)
    sim.connections.append((weakref.ref(transport), wire))
    sim.settle()
    assert order == ["made", "woken"]


def test_descriptor_number_reused_after_the_end_hears_nothing_of_the_old_one(sim):
    """The next connection gets the same number; late completions were all waited for."""
    _, first, first_wire = sim.connect()
    sim.driver.arrive(first_wire.fd, b"old")
    first.hooks["data_received"] = lambda data: first.abort()
    sim.settle()
    assert first_wire.is_closed
    first_wire.close()
    sim.wires.remove(first_wire)
    sim.connections.clear()
    _, second, second_wire = sim.connect()
    assert second_wire.fd == first_wire.fd
    sim.driver.arrive(second_wire.fd, b"new")
    sim.settle()
    assert second.received == b"new"


def test_socket_object_made_for_the_user_does_not_close_the_descriptor_twice(sim):
    transport, protocol, wire = sim.connect()
    sock = transport.get_extra_info("socket")
    assert sock.fileno() == wire.fd
    protocol.close()
    sim.settle()
    assert sock.fileno() == -1
    assert sim.driver.closed == [wire.fd]


def test_ended_transport_is_freed_with_all_it_referred_to(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"data" * 10)
    protocol.pause()
    sim.driver.arrive(wire.fd, b"kept")
    sim.turns(1)
    references = [weakref.ref(transport), weakref.ref(protocol)]
    protocol.abort()
    sim.settle()
    protocol.transport = None
    del transport, protocol
    assert [reference() for reference in references] == [None, None]


def test_open_transport_that_nobody_refers_to_stays_alive_while_it_receives(sim):
    transport, protocol, wire = sim.connect()
    reference = weakref.ref(protocol)
    del transport
    protocol.transport = None
    protocol.keep_open = True
    del protocol
    gc.collect()
    sim.driver.arrive(wire.fd, b"hello")
    sim.turns(1)
    assert reference().received == b"hello"


def test_open_transport_dropped_while_idle_warns_and_closes_its_descriptor(sim):
    transport, protocol, wire = sim.connect()
    protocol.keep_open = True
    sim.driver.arrive(wire.fd, 0)
    sim.settle()
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()
    assert wire.is_closed


@pytest.mark.parametrize("error", [errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH])
def test_receive_error_with_send_in_flight_joins_before_the_descriptor_is_closed(sim, error):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.driver.cancel_mode = "manual"
    sim.within(transport.write, b"data")
    send = sim.driver.find("send", wire.fd)
    sim.driver.arrive(wire.fd, -error)
    sim.turns(3)
    assert protocol.lost_with.errno == error
    assert not wire.is_closed
    assert send.cancelling
    sim.driver.end(send)
    sim.turns(1)
    assert wire.is_closed


# ---- paused and forgotten: then the receive in flight does not keep the transport alive ----


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("arrived", [(), (b"late",), (b"late", 0), (-errno.ECONNRESET,)])
def test_paused_transport_that_nobody_refers_to_warns_and_closes_its_descriptor(
    sim, mode, arrived
):
    transport, protocol, wire = sim.connect()
    sim.driver.cancel_mode = mode
    protocol.pause()
    protocol.transport = None
    sim.driver.arrive(wire.fd, *arrived)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()
    sim.settle()
    assert wire.is_closed
    assert protocol.calls == ["connection_made"]


def test_paused_transport_dropped_in_the_batch_that_names_it_is_not_used_after_free(sim):
    _, other, other_wire = sim.connect()
    transport, protocol, wire = sim.connect()
    protocol.pause()
    protocol.transport = None
    transports = [transport]
    del transport
    other.hooks["data_received"] = lambda data: transports.clear()
    sim.driver.cancel_mode = "at_once"
    sim.driver.arrive(other_wire.fd, b"trigger")
    sim.driver.arrive(wire.fd, b"x" * 100, b"y" * 100, 0)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        sim.settle()
    assert wire.is_closed
    assert protocol.calls == ["connection_made"]


@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("race", [False, True])
@pytest.mark.parametrize("arrived", [0, 100_000])
def test_paused_transport_ended_and_dropped_before_its_receive_has_completed_joins(
    sim, ending, race, arrived
):
    """The cancelled receive still names it: it must live until that completes."""
    transport, protocol, wire = sim.connect()
    sim.driver.cancel_mode = "manual"
    receive = sim.driver.find("recv", wire.fd)
    protocol.pause()
    # So much that the receive is cancelled before the end, because of the pause.
    sim.driver.arrive(wire.fd, *[bytes(50_000)] * (arrived // 50_000))
    sim.turns(1)
    getattr(protocol, ending)()
    sim.turns(3)
    assert protocol.is_lost
    assert not wire.is_closed
    protocol.transport = None
    del transport
    gc.collect()
    sim.driver.arrive(wire.fd, b"late")
    sim.driver.end(receive, race)
    sim.turns(1)
    assert wire.is_closed


def test_resumed_transport_that_nobody_refers_to_stays_alive_while_it_receives(sim):
    transport, protocol, wire = sim.connect()
    protocol.pause()
    protocol.resume()
    reference = weakref.ref(protocol)
    protocol.transport = None
    del transport, protocol
    gc.collect()
    sim.driver.arrive(wire.fd, b"hello")
    sim.turns(1)
    assert reference().received == b"hello"


def test_paused_transport_with_a_send_in_flight_stays_alive_until_it_completes(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.within(transport.write, b"answer")
    protocol.pause()
    protocol.transport = None
    reference = weakref.ref(transport)
    del transport
    gc.collect()
    assert reference() is not None
    sim.driver.sent(wire.fd)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        sim.settle()
        gc.collect()
    sim.settle()
    assert wire.received == b"answer"
    assert wire.is_closed


class Unfinalized(StreamTransport):
    """Its own __del__ has taken the place of the transport's."""

    def __del__(self):
        pass


@pytest.mark.parametrize("in_cycle", [False, True])
@pytest.mark.parametrize("state", ["open", "lost"])
def test_garbage_whose_finalizer_is_somebody_elses_closes_its_descriptor(sim, in_cycle, state):
    wire = sim.wire()
    transport = Unfinalized(sim.loop, wire.sock.detach(), Recorder(sim.driver))
    sim.turns(1)
    transport.pause_reading()
    sim.turns(1)
    # Younger than the transport, which the collector then clears first.
    last = Recorder(sim.driver)
    last.calls.append("connection_made")
    last.heard.add("connection_made")
    transport.set_protocol(last)
    if state == "lost":
        sim.driver.cancel_mode = "at_once"
        sim.loop.call_soon = lambda *args, context=None: None
        transport.abort()
        del sim.loop.call_soon
    assert transport._state == state
    if in_cycle:
        last.transport = transport
    watched = weakref.ref(transport)
    del transport, last
    gc.collect()
    sim.settle()
    assert watched() is None
    assert wire.is_closed
    assert sim.loop._owner_of(wire.fd) is None


class Reentrant:
    """The socket module, whose sockets' making comes back to the transport."""

    def __init__(self, action):
        self.action = action
        self.made = []

    def socket(self, **options):
        sock = socket.socket(**options)
        self.made.append(sock)
        action, self.action = self.action, None
        if action is not None:
            action()
        return sock


def test_socket_object_that_another_has_made_meanwhile_is_the_one(sim, monkeypatch):
    transport, _, wire = sim.connect()
    between = []
    module = Reentrant(lambda: between.append(transport._sock))
    monkeypatch.setattr(_helpers, "socket", module)
    sock = transport._sock
    assert [sock] == between == module.made[1:]
    # The other has no descriptor that it could close.
    assert module.made[0].fileno() == -1
    assert sock.fileno() == wire.fd


@pytest.mark.parametrize("reused", [False, True])
def test_socket_object_of_a_transport_that_ends_meanwhile_is_none(sim, monkeypatch, reused):
    transport, _, wire = sim.connect()
    sim.driver.cancel_mode = "at_once"
    strangers = []

    def end():
        transport.abort()
        transport._call_connection_lost(None)
        assert wire.is_closed
        if reused:
            strangers.append(os.dup2(wire.peer.fileno(), wire.fd))

    module = Reentrant(end)
    monkeypatch.setattr(_helpers, "socket", module)
    assert transport._sock is None
    assert module.made[0].fileno() == -1
    gc.collect()
    for stranger in strangers:
        os.close(stranger)


def test_socket_object_that_cannot_be_made_closes_nothing(sim, monkeypatch):
    transport, protocol, wire = sim.connect()
    made = []

    class Stubborn(socket.socket):
        def setblocking(self, flag):
            made.append(self)
            raise LookupError("stubborn")

    with monkeypatch.context() as patch:
        patch.setattr(_helpers, "socket", types.SimpleNamespace(socket=Stubborn))
        with pytest.raises(LookupError):
            transport.get_extra_info("socket")
    assert made.pop().fileno() == -1
    gc.collect()
    transport.write(b"still there")
    sim.settle()
    assert wire.received == b"still there"
    assert transport.get_extra_info("socket").fileno() == wire.fd
