"""The datagram transport on the fake driver: what arrives, what waits, and the end of it."""

import asyncio
import errno
import gc
import os
import socket
import struct
import sys
import weakref

import pytest

from uring_loop._internal.datagrams import DatagramTransport

MODES = ["later", "race", "at_once"]
SENDER = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 4000, b"\x7f\0\0\1")
SENT_BY = ("127.0.0.1", 4000)
MORE, LENT = 1, 2


class Recorder(asyncio.DatagramProtocol):
    """Notes what it hears; `hooks` are called with a method's arguments, by its name."""

    def __init__(self):
        self.calls = []
        self.datagrams = []
        self.errors = []
        self.hooks = {}

    def _heard(self, name, *arguments):
        assert "connection_lost" not in self.calls
        self.calls.append(name)
        self.hooks.get(name, lambda *arguments: None)(*arguments)

    @property
    def payloads(self):
        return [data for data, _ in self.datagrams]

    def connection_made(self, transport):
        self.transport = transport
        self._heard("connection_made")

    def datagram_received(self, data, addr):
        self.datagrams.append((data, addr))
        self._heard("datagram_received", data)

    def error_received(self, exc):
        self.errors.append(exc)
        self._heard("error_received", exc)

    def pause_writing(self):
        self._heard("pause_writing")

    def resume_writing(self):
        self._heard("resume_writing")

    def connection_lost(self, exc):
        self.lost_with = exc
        self._heard("connection_lost")


class Endpoint:
    """A transport on one end of a real AF_UNIX pair, whose other end takes what is sent.

    What it receives is scripted; connected, it is full when the peer's queue is.
    """

    def __init__(self, sim, connected=True):
        self.driver = sim.driver
        sock, self.peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "12")
        for end in (sock, self.peer):
            end.setblocking(False)
            end.bind("")
        self.name = self.peer.getsockname()
        if connected:
            sock.connect(self.name)
        self.fd = sock.fileno()
        sim.driver.reuse(self.fd)
        self.protocol = Recorder()
        self.transport = DatagramTransport(sim.loop, sock, self.protocol)
        sim.turns(1)
        assert self.protocol.calls == ["connection_made"]

    @property
    def receive(self):
        return self.driver.find("recv_from", self.fd)

    @property
    def wait(self):
        found = [o for o in self.driver.operations.values() if o.verb in ("poll", "timeout")]
        assert len(found) <= 1
        return found[0] if found else None

    @property
    def is_closed(self):
        return self.fd in self.driver.closed

    def arrive(self, *datagrams):
        self.driver.arrive(self.fd, *[(data, SENDER) for data in datagrams])

    def fill(self, address=None):
        """Send numbers until one waits; how many were sent and queued."""
        for number in range(2000):
            self.transport.sendto(b"%d" % number, address)
            if self.transport._queued_bytes:
                return number + 1
        raise AssertionError("the socket never got full")

    def taken(self):
        """What the peer has got: it reads all that there is."""
        found = []
        while True:
            try:
                found.append(self.peer.recv(1000))
            except BlockingIOError:
                return found


@pytest.fixture
def endpoint(sim):
    yield from made_endpoint(sim, True)


@pytest.fixture
def unconnected(sim):
    yield from made_endpoint(sim, False)


def made_endpoint(sim, connected):
    end = Endpoint(sim, connected)
    yield end
    if not sim.loop.is_closed() and not end.is_closed and end.transport is not None:
        if sim.driver.cancel_mode == "manual":
            sim.driver.cancel_mode = "later"
        end.transport.abort()
        sim.turns(4)
        assert end.is_closed
    end.peer.close()


# ---- receiving ----


def in6(host, port, flow, scope):
    packed = socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(
        "!HI", port, flow
    ) + packed + struct.pack("=I", scope)  # fmt: skip


@pytest.mark.parametrize(
    "raw, expected",
    [
        (SENDER, SENT_BY),
        (in6("fe80::1", 5, 7, 3), ("fe80::1", 5, 7, 3)),
        (in6("::", 65535, 0xFFFFF, 2**32 - 1), ("::", 65535, 0xFFFFF, 2**32 - 1)),
        (struct.pack("=H", socket.AF_UNIX) + b"/tmp/x\0", "/tmp/x"),
        (struct.pack("=H", socket.AF_UNIX) + b"/tmp/\xff", "/tmp/\udcff"),
        (struct.pack("=H", socket.AF_UNIX) + b"\0ab\0c", b"\0ab\0c"),
        (struct.pack("=H", socket.AF_UNIX), ""),
        (b"", None),
        (SENDER[:8], None),
    ],
    ids=lambda value: repr(value) if not isinstance(value, bytes) else "",
)
def test_sender_is_told_as_the_socket_module_would(sim, endpoint, raw, expected):
    sim.driver.arrive(endpoint.fd, (b"x", raw))
    sim.turns(1)
    assert endpoint.protocol.datagrams == [(b"x", expected)]


def test_same_sender_is_the_same_object_and_others_are_not(sim, endpoint):
    for port in [*range(1000), *range(1000)]:
        raw = SENDER[:2] + struct.pack("!H", port) + SENDER[4:]
        sim.driver.arrive(endpoint.fd, (b"x", raw), (b"y", raw))
    sim.turns(1)
    heard = endpoint.protocol.datagrams
    assert [address[1] for _, address in heard[::2]] == [*range(1000), *range(1000)]
    assert all(one is two for (_, one), (_, two) in zip(heard[::2], heard[1::2], strict=True))


def test_datagrams_of_one_turn_arrive_in_order_even_empty_ones(sim, endpoint):
    endpoint.arrive(b"1", b"", b"3")
    sim.turns(1)
    assert endpoint.protocol.payloads == [b"1", b"", b"3"]


def test_error_of_the_socket_is_told_and_receiving_starts_again(sim, endpoint):
    endpoint.arrive(b"1")
    sim.driver.arrive(endpoint.fd, -errno.ECONNREFUSED)
    endpoint.arrive(b"2")
    sim.turns(3)
    assert endpoint.protocol.payloads == [b"1", b"2"]
    assert [type(error) for error in endpoint.protocol.errors] == [ConnectionRefusedError]
    assert endpoint.receive is not None


@pytest.mark.parametrize("error", [errno.EBADF, errno.ENOTSOCK])
def test_error_of_a_lost_descriptor_is_told_once_and_not_again(sim, endpoint, error):
    sim.driver.arrive(endpoint.fd, -error)
    sim.turns(5)
    assert [found.errno for found in endpoint.protocol.errors] == [error]
    assert endpoint.receive is None


def test_receive_that_cannot_start_again_ends_the_transport(sim, endpoint):
    sim.driver.refusals["recv_from"] = -errno.ENOMEM
    sim.driver.arrive(endpoint.fd, -errno.ECONNREFUSED)
    sim.turns(4)
    assert endpoint.protocol.calls[-1] == "connection_lost"
    assert endpoint.protocol.lost_with.errno == errno.ENOMEM
    assert endpoint.is_closed


@pytest.mark.parametrize("method", ["datagram_received", "error_received"])
def test_exception_of_the_protocol_is_reported_and_the_rest_delivered(sim, endpoint, method):
    endpoint.protocol.hooks[method] = lambda argument: 1 / 0
    endpoint.arrive(b"1")
    sim.driver.arrive(endpoint.fd, -errno.ECONNREFUSED)
    endpoint.arrive(b"2")
    sim.turns(3)
    assert endpoint.protocol.payloads == [b"1", b"2"]
    assert {type(context["exception"]) for context in sim.loop.contexts} == {ZeroDivisionError}
    assert sim.loop.contexts[0]["transport"] is endpoint.transport
    sim.loop.contexts.clear()


def test_keyboard_interrupt_leaves_the_rest_for_the_next_run(sim, endpoint):
    def interrupt(data):
        if data == b"1":
            raise KeyboardInterrupt

    endpoint.protocol.hooks["datagram_received"] = interrupt
    endpoint.arrive(b"1", b"2")
    sim.driver.arrive(endpoint.fd, -errno.ECONNREFUSED)
    with pytest.raises(KeyboardInterrupt):
        sim.turns(1)
    sim.turns(2)
    assert endpoint.protocol.payloads == [b"1", b"2"]
    assert len(endpoint.protocol.errors) == 1
    assert endpoint.receive is not None


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_in_datagram_received_drops_the_rest_of_the_turn(sim, endpoint, ending):
    endpoint.protocol.hooks["datagram_received"] = lambda data: getattr(
        endpoint.transport, ending
    )()
    endpoint.arrive(b"1", b"2", b"3")
    sim.turns(4)
    assert endpoint.protocol.payloads == [b"1"]
    assert endpoint.protocol.calls[-1] == "connection_lost"
    assert endpoint.is_closed


@pytest.mark.parametrize("mode", MODES)
def test_pause_keeps_what_wins_the_race_and_resume_delivers_it_first(sim, endpoint, mode):
    sim.driver.cancel_mode = mode
    endpoint.protocol.hooks["datagram_received"] = lambda data: (
        endpoint.transport.pause_reading() if data == b"1" else None
    )
    endpoint.arrive(b"1", b"2")
    sim.turns(1)
    endpoint.arrive(b"3")
    sim.turns(3)
    assert endpoint.protocol.payloads == [b"1"]
    assert endpoint.receive is None
    endpoint.transport.resume_reading()
    assert endpoint.protocol.payloads == [b"1"]
    endpoint.arrive(b"4")
    sim.turns(4)
    assert endpoint.protocol.payloads == [b"1", b"2", b"3", b"4"]


def test_error_behind_a_pause_is_told_in_its_place_after_resume(sim, endpoint):
    endpoint.protocol.hooks["datagram_received"] = lambda data: (
        endpoint.transport.pause_reading() if data == b"1" else None
    )
    endpoint.arrive(b"1", b"2")
    sim.driver.arrive(endpoint.fd, -errno.ECONNREFUSED)
    sim.turns(3)
    assert endpoint.protocol.calls == ["connection_made", "datagram_received"]
    endpoint.transport.resume_reading()
    endpoint.arrive(b"3")
    sim.turns(3)
    assert endpoint.protocol.calls[2:] == [
        "datagram_received",
        "error_received",
        "datagram_received",
    ]
    assert isinstance(endpoint.protocol.errors[0], ConnectionRefusedError)


@pytest.mark.parametrize("method", ["datagram_received", "error_received"])
def test_keyboard_interrupt_in_what_was_held_back_leaves_the_rest_for_the_next_run(
    sim, endpoint, method
):
    def interrupt(what):
        del endpoint.protocol.hooks[method]
        raise KeyboardInterrupt

    endpoint.protocol.hooks["datagram_received"] = lambda data: endpoint.transport.pause_reading()
    endpoint.arrive(b"1", b"2")
    sim.driver.arrive(endpoint.fd, -errno.ECONNREFUSED)
    endpoint.arrive(b"3")
    sim.turns(3)
    del endpoint.protocol.hooks["datagram_received"]
    endpoint.protocol.hooks[method] = interrupt
    endpoint.transport.resume_reading()
    with pytest.raises(KeyboardInterrupt):
        sim.turns(3)
    sim.turns(3)
    assert endpoint.protocol.payloads == [b"1", b"2", b"3"]
    assert len(endpoint.protocol.errors) == 1
    assert endpoint.receive is not None


def test_resume_before_the_cancelled_receive_has_ended_starts_one_after_it(sim, endpoint):
    sim.driver.cancel_mode = "manual"
    receive = endpoint.receive
    endpoint.transport.pause_reading()
    sim.driver.complete(receive, 1, MORE | LENT, b"1", SENDER)
    sim.turns(1)
    endpoint.transport.resume_reading()
    sim.turns(2)
    assert endpoint.protocol.payloads == [b"1"]
    sim.driver.end(receive)
    sim.turns(1)
    assert endpoint.receive is not None and endpoint.receive is not receive
    endpoint.arrive(b"2")
    sim.turns(1)
    assert endpoint.protocol.payloads == [b"1", b"2"]


def test_paused_transport_that_nobody_refers_to_is_garbage(sim):
    end = Endpoint(sim)
    end.transport.pause_reading()
    sim.turns(2)
    watched = weakref.ref(end.transport)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        end.transport = end.protocol.transport = None
        gc.collect()
    assert watched() is None
    assert end.is_closed
    end.peer.close()


# ---- waiting for room ----


def test_full_socket_waits_for_room_and_sends_in_order(sim, endpoint):
    count = endpoint.fill()
    for number in range(count, count + 5):
        endpoint.transport.sendto(b"%d" % number)
    wait = endpoint.wait
    assert wait.verb == "poll" and wait.fd == endpoint.fd
    got = endpoint.taken()
    sim.turns(2)
    assert endpoint.taken() == []
    sim.driver.complete(wait, 4)
    sim.turns(1)
    got += endpoint.taken()
    assert got == [b"%d" % number for number in range(count + 5)]
    assert endpoint.wait is None
    assert endpoint.transport._queued_bytes == 0


@pytest.mark.parametrize("result", [4, -errno.ECANCELED, -errno.EINTR])
def test_wait_that_ends_while_the_socket_is_still_full_waits_again(sim, endpoint, result):
    count = endpoint.fill()
    for _ in range(3):
        wait = endpoint.wait
        sim.driver.complete(wait, result)
        sim.turns(1)
        assert endpoint.wait not in (None, wait)
    assert len(endpoint.taken()) == count - 1


def test_room_that_is_only_said_to_be_there_is_looked_for_in_another_turn(sim, endpoint):
    sim.driver.refusals["poll"] = 4  # ready at once, says the driver
    count = endpoint.fill()
    assert endpoint.wait.verb == "timeout"
    got = endpoint.taken()
    sim.driver.complete(endpoint.wait, -errno.ETIME)
    sim.turns(1)
    assert len(got + endpoint.taken()) == count


def test_unconnected_unix_socket_waits_by_the_clock(sim, unconnected):
    count = unconnected.fill(unconnected.name)
    assert unconnected.wait.verb == "timeout"
    got = unconnected.taken()
    sim.driver.complete(unconnected.wait, -errno.ETIME)
    sim.turns(1)
    assert len(got + unconnected.taken()) == count
    assert unconnected.wait is None


def test_peer_that_stays_full_is_asked_ever_less_often_up_to_a_hundred_times_a_second(
    sim, unconnected
):
    unconnected.fill(unconnected.name)
    waits = []
    for _ in range(10):
        waits.append(unconnected.wait.duration_ns / 1e6)
        sim.driver.complete(unconnected.wait, -errno.ETIME)
        sim.turns(1)
    assert waits[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4]
    assert set(waits[7:]) == {10}
    unconnected.taken()
    sim.driver.complete(unconnected.wait, -errno.ETIME)
    sim.turns(1)
    unconnected.fill(unconnected.name)
    assert unconnected.wait.duration_ns == 100_000


def test_wait_that_cannot_start_ends_the_transport(sim, endpoint):
    sim.driver.refusals["poll"] = -errno.ENOMEM
    for number in range(2000):
        endpoint.transport.sendto(b"%d" % number)
        if endpoint.transport.is_closing():
            break
    sim.turns(4)
    assert endpoint.protocol.lost_with.errno == errno.ENOMEM
    assert endpoint.is_closed


def test_queued_data_is_released_when_it_has_left(sim, endpoint):
    endpoint.fill()
    data = os.urandom(40)
    before = sys.getrefcount(data)
    endpoint.transport.sendto(data)
    assert sys.getrefcount(data) == before + 1
    endpoint.taken()
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(1)
    assert sys.getrefcount(data) == before


def test_error_of_a_queued_datagram_is_told_and_the_rest_is_tried(sim, endpoint):
    endpoint.fill()
    endpoint.transport.sendto(b"second")
    endpoint.peer.close()
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(1)
    first, second = endpoint.protocol.errors
    assert isinstance(first, ConnectionRefusedError)
    assert second.errno == errno.ENOTCONN  # the kernel has given up the peer
    assert endpoint.transport._queued_bytes == 0
    assert endpoint.transport._state == "open"


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_in_error_received_of_the_queue_ends_once(sim, endpoint, ending):
    endpoint.protocol.hooks["error_received"] = lambda exc: getattr(endpoint.transport, ending)()
    endpoint.fill()
    endpoint.transport.sendto(b"second")
    endpoint.peer.close()
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(4)
    assert len(endpoint.protocol.errors) == (2 if ending == "close" else 1)
    assert endpoint.protocol.calls.count("connection_lost") == 1
    assert endpoint.is_closed


def test_sendto_in_resume_writing_keeps_the_order(sim, endpoint):
    endpoint.transport.set_write_buffer_limits(high=50, low=0)
    endpoint.protocol.hooks["resume_writing"] = lambda: endpoint.transport.sendto(b"last")
    count = endpoint.fill()
    endpoint.transport.sendto(bytes(60))
    assert endpoint.protocol.calls[-1] == "pause_writing"
    got = endpoint.taken()
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(1)
    got += endpoint.taken()
    assert len(got) == count + 2 and got[-2:] == [bytes(60), b"last"]


def test_exception_of_resume_writing_is_reported_and_nothing_is_lost(sim, endpoint):
    endpoint.transport.set_write_buffer_limits(high=0)
    endpoint.protocol.hooks["resume_writing"] = lambda: 1 / 0
    count = endpoint.fill()
    got = endpoint.taken()
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(1)
    assert len(got + endpoint.taken()) == count
    assert sim.loop.contexts[0]["message"] == "protocol.resume_writing() failed"
    sim.loop.contexts.clear()


def test_keyboard_interrupt_of_error_received_leaves_the_queue_for_the_next_run(sim, endpoint):
    def interrupt(exc):
        endpoint.protocol.hooks.clear()
        raise KeyboardInterrupt

    endpoint.protocol.hooks["error_received"] = interrupt
    endpoint.fill()
    endpoint.transport.sendto(b"second")
    endpoint.peer.close()
    sim.driver.complete(endpoint.wait, 4)
    with pytest.raises(KeyboardInterrupt):
        sim.turns(1)
    assert endpoint.wait is not None
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(1)
    assert len(endpoint.protocol.errors) == 2


def test_wait_that_fails_behind_a_keyboard_interrupt_is_told_beside_it(sim, endpoint, monkeypatch):
    """The interrupt ends the run; that the transport cannot even be ended is not lost with it."""
    told = []

    def interrupt(exc):
        endpoint.protocol.hooks.clear()
        sim.driver.refusals["poll"] = -errno.ENOMEM
        sim.loop.call_soon = None
        raise KeyboardInterrupt

    endpoint.protocol.hooks["error_received"] = interrupt
    endpoint.fill()
    endpoint.transport.sendto(b"second")
    endpoint.peer.close()
    sim.driver.complete(endpoint.wait, 4)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
        with pytest.raises(KeyboardInterrupt):
            sim.turns(1)
    del sim.loop.call_soon
    assert told == [TypeError]
    endpoint.transport._call_connection_lost(None)
    sim.turns(2)


class Ending(socket.socket):
    """Its sendto() ends the transport to which it belongs, all of it, and fails."""

    def sendto(self, *args):
        self.transport.abort()
        self.transport._call_connection_lost(None)
        raise OSError("sent by nobody")


def test_error_of_a_send_that_has_ended_the_transport_is_told_to_nobody(sim):
    sock = Ending(socket.AF_UNIX, socket.SOCK_DGRAM)
    sim.driver.reuse(sock.fileno())
    protocol = Recorder()
    sock.transport = DatagramTransport(sim.loop, sock, protocol)
    sim.turns(1)
    sock.transport.sendto(b"x", b"\0nobody")
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert protocol.errors == []
    sim.turns(3)
    assert sock.transport._state == "closed"
    del sock.transport, protocol.transport


# ---- the end ----


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_idle_transport_ended_loses_connection_and_closes_descriptor(sim, endpoint, ending, mode):
    sim.driver.cancel_mode = mode
    getattr(endpoint.transport, ending)()
    endpoint.arrive(b"too late")
    sim.turns(4)
    assert endpoint.protocol.calls == ["connection_made", "connection_lost"]
    assert sim.driver.closed == [endpoint.fd]


def test_descriptor_stays_open_until_receive_and_wait_have_completed(sim, endpoint):
    sim.driver.cancel_mode = "manual"
    endpoint.fill()
    receive, wait = endpoint.receive, endpoint.wait
    endpoint.transport.abort()
    sim.turns(3)
    assert endpoint.protocol.calls[-1] == "connection_lost"
    assert endpoint.transport._state == "joining"
    sim.driver.complete(receive, 4, MORE | LENT, b"late", SENDER)
    sim.driver.end(receive)
    sim.turns(2)
    assert not endpoint.is_closed
    sim.driver.end(wait)
    sim.turns(1)
    assert endpoint.is_closed
    assert endpoint.protocol.payloads == []


def test_close_with_datagrams_queued_waits_until_they_have_left(sim, endpoint):
    count = endpoint.fill()
    endpoint.transport.close()
    sim.turns(3)
    assert endpoint.transport._state == "closing"
    got = endpoint.taken()
    sim.driver.complete(endpoint.wait, 4)
    sim.turns(4)
    assert len(got + endpoint.taken()) == count
    assert endpoint.protocol.calls[-1] == "connection_lost"
    assert endpoint.is_closed


def test_loop_close_lets_go_of_everything_in_flight(sim):
    end = Endpoint(sim)
    end.fill()
    end.arrive(b"unheard")
    sim.loop._close()
    assert end.protocol.calls == ["connection_made"]
    watched = weakref.ref(end.transport)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        end.transport = end.protocol.transport = None
        gc.collect()
    assert watched() is None
    with pytest.raises(OSError):
        os.fstat(end.fd)
    end.peer.close()
