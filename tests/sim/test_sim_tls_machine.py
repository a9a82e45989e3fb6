"""A TLS connection on the fake driver: records in any pieces, at any time, cut and forged.

The peer is ssl.SSLObject by hand. What it sends reaches the transport in whatever pieces the
search chooses; at every moment the plain text is a prefix of what was sent, on both sides, and
all of it once everything has come to rest, unless the connection was broken on purpose.
"""

import ssl
from functools import partial

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from machine import MODES, Machine, searched
from simulation import BufferedRecorder, Recorder, SimLoop

from uring_loop._internal import tls_records
from uring_loop._internal.streams import StreamTransport
from uring_loop._internal.tls_protocol import TLSProtocol

trustme = pytest.importorskip("trustme", reason="trustme, which makes certificates, is missing")

authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
certificate = authority.issue_cert("server.test", key_type=trustme.KeyType.ECDSA)


def server_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


SERVER, CLIENT = server_context(), client_context()
# What is drawn is short; these stand for records that are full, and more than one.
sizes = st.sampled_from([1, 2, 100, 16_384, 16_385, 60_000])
cuts = st.sampled_from([1, 2, 4, 5, 6, 50, 500, 16_000, 10**6])


def text(start, size):
    return bytes((start + place) % 251 for place in range(size))


class TLSMachine(Machine):
    @initialize(
        server_side=st.booleans(),
        buffered=st.booleans(),
        keep_open=st.booleans(),
        version=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
        mode=st.sampled_from(MODES),
        limit=st.sampled_from([1, 64]),
        native=st.booleans(),
    )
    def start(self, server_side, buffered, keep_open, version, mode, limit, native):
        self.driver.cancel_mode = mode
        self.driver.harvest_limit = lambda: limit
        self.protocol = (BufferedRecorder if buffered else Recorder)(self.driver)
        self.protocol.keep_open = keep_open
        self.protocol.hears_end_while_paused = True
        ours, theirs = (SERVER, CLIENT) if server_side else (CLIENT, SERVER)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours.minimum_version = ours.maximum_version = version
        theirs.minimum_version = theirs.maximum_version = version
        self.peer = theirs.wrap_bio(
            self.incoming,
            self.outgoing,
            server_side=not server_side,
            server_hostname="server.test" if server_side else None,
        )
        self.wire = self.sim.wire()
        loop = self.sim.loop
        SimLoop._receive_buffer = None
        self.waiter = loop.create_future()
        refusal = tls_records.why_not_native
        if not native:
            tls_records.why_not_native = lambda: "the search asks for Python's"
        try:
            self.tls = TLSProtocol(
                loop,
                self.protocol,
                ours,
                self.waiter,
                server_side=server_side,
                server_hostname=None if server_side else "server.test",
            )
        finally:
            tls_records.why_not_native = refusal
        self.stream = StreamTransport(loop, self.wire.sock.detach(), self.tls)
        self.fed = 0  # bytes of the wire that the peer has seen
        self.on_the_way = bytearray()  # records of the peer's that have not arrived
        self.to_transport, self.to_peer, self.at_peer = 0, 0, bytearray()
        self.written = 0  # also what need not arrive, as the connection is broken
        self.broken = self.peer_closed = self.closed = False
        self.peer_heard_end = self.peer_done = False
        self.ready = True

    @property
    def transport(self):
        return self.protocol.transport

    # ---- the peer ----

    def pump(self):
        """The peer reads what the transport has sent, and answers."""
        received = self.wire.received
        if len(received) > self.fed:
            self.incoming.write(received[self.fed :])
            self.fed = len(received)
        try:
            if not self.peer_done:
                self.peer.do_handshake()
                self.peer_done = True
            while not self.peer_heard_end:
                data = self.peer.read(1 << 16)
                self.peer_heard_end = not data
                self.at_peer += data
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError:
            if not self.broken:
                raise
        self.on_the_way += self.outgoing.read()

    @rule()
    def peer_reads(self):
        self.pump()

    @rule(size=sizes, count=st.integers(1, 3))
    def peer_writes(self, size, count):
        self.pump()
        self.peer_sends(size, count)

    def peer_sends(self, size, count):
        if self.peer_done and not self.peer_closed:
            for _ in range(count):
                data = text(self.to_transport, size)
                while data:
                    written = self.peer.write(data)
                    self.to_transport += written
                    data = data[written:]
            self.on_the_way += self.outgoing.read()

    @rule(cuts=st.lists(cuts, min_size=1, max_size=6))
    def records_arrive(self, cuts):
        """As far as the pieces go."""
        self.pump()
        self.arrive(cuts)

    def arrive(self, cuts):
        for size in cuts:
            if self.on_the_way and not self.wire.is_closed:
                self.driver.arrive(self.wire.fd, bytes(self.on_the_way[:size]))
                del self.on_the_way[:size]

    @rule()
    def peer_closes(self):
        """close_notify."""
        if self.peer_done and not self.peer_closed:
            self.peer_closed = True
            try:
                self.peer.unwrap()
            except ssl.SSLError:
                pass
            self.on_the_way += self.outgoing.read()

    @rule(how=st.sampled_from(["cut", "reset", "forge"]))
    def peer_breaks(self, how):
        if not self.broken and not self.wire.is_closed:
            self.broken = True
            if how == "forge":
                self.driver.arrive(self.wire.fd, b"\x17\x03\x03\x00\x20" + bytes(32))
            else:
                self.driver.arrive(self.wire.fd, 0 if how == "cut" else -104)

    # ---- the user ----

    def write(self, size, lines):
        if self.transport is None or self.closed or self.protocol.is_lost:
            return
        data = text(self.written, size)
        self.written += size
        if not self.broken and not self.transport.is_closing():
            self.to_peer += size
        if lines:
            self.transport.writelines([data[: size // 2], data[size // 2 :]])
        else:
            self.transport.write(data)

    def use(self, method):
        if self.transport is None or self.protocol.is_lost:
            return
        if self.closed and method != "abort":
            # What asyncio's transport of a closed connection raises is no part of the search.
            return
        if method == "close":
            self.closed = True
            # As asyncio's, it still delivers what comes before the peer's close_notify.
            self.transport.close()
        elif method == "abort":
            self.closed = self.broken = True
            self.protocol.abort()
        elif method == "look":
            repr(self.transport)
            self.transport.get_write_buffer_size()
        else:
            getattr(self.protocol, method)()

    @rule(inside=st.booleans(), size=sizes, lines=st.booleans())
    def writes(self, inside, size, lines):
        self.perform(inside, self.write, size, lines)

    @rule(
        inside=st.booleans(),
        method=st.sampled_from(["pause", "resume", "pause", "resume", "look", "close", "abort"]),
    )
    def uses(self, inside, method):
        self.perform(inside, self.use, method)

    @rule(
        event=st.sampled_from(["data_received", "eof_received", "pause_writing", "resume_writing"]),
        method=st.sampled_from(["pause", "resume", "close", "abort", "write"]),
    )
    def react(self, event, method):
        self.set_hook(event, method)

    def set_hook(self, event, method):
        def hook(*arguments):
            del self.protocol.hooks[event]
            if method == "write":
                self.write(100, False)
            else:
                self.use(method)

        self.protocol.hooks[event] = hook

    @rule(method=st.sampled_from(["pause", "close", "abort"]), count=st.integers(2, 4))
    def react_amid_records(self, method, count):
        """Several records come in one piece, and of the first the user has enough."""
        self.set_hook("data_received", method)
        self.pump()
        self.peer_sends(100, count)
        self.arrive([10**6])
        self.turns(1)

    # ---- the kernel ----

    @rule(blocked=st.booleans())
    def change_wire(self, blocked):
        self.wire.block() if blocked else self.wire.unblock()

    @rule(hold=st.booleans())
    def hold_sends(self, hold):
        self.driver.hold_sends = hold

    @rule(bulk=st.booleans())
    def change_bulk(self, bulk):
        fd = self.wire.fd
        self.driver.bulk.add(fd) if bulk else self.driver.bulk.discard(fd)

    # ---- the checks ----

    def check(self):
        got = self.protocol.received
        assert len(got) <= self.to_transport
        assert got == text(0, len(got))
        assert self.at_peer == text(0, len(self.at_peer))
        if self.protocol.is_lost:
            assert self.protocol.calls[-1] == "connection_lost"

    def strikes(self):
        names = ("pause", "resume", "look", "close", "abort")
        return [*[partial(self.use, name) for name in names], partial(self.write, 100, False)]

    def child_strikes(self):
        return [partial(self.use, name) for name in ("pause", "resume", "look", "abort")]

    def state(self):
        return (
            self.tls._state.name,
            self.stream._state,
            self.protocol.read_paused,
            self.protocol.write_paused,
            bool(self.on_the_way),
            self.broken,
            self.closed,
            self.peer_done,
            self.peer_closed,
            tuple(sorted(o.verb for o in self.driver.on_descriptor(self.wire.fd))),
        )

    def rest(self):
        self.driver.hold_sends = False
        self.driver.interrupted_turns = 0
        self.protocol.hooks.clear()
        self.wire.unblock()
        # What an interrupted turn has left may pause.
        self.quiet()
        if self.protocol.read_paused and not self.protocol.is_lost and not self.closed:
            self.protocol.resume()
        still = 0
        while still < 3:
            self.pump()
            if self.on_the_way and not self.wire.is_closed:
                self.driver.arrive(self.wire.fd, bytes(self.on_the_way))
            self.on_the_way.clear()
            self.quiet()
            moved = len(self.wire.received) > self.fed or self.outgoing.pending
            still = 0 if moved else still + 1
        self.check()
        if not self.broken:
            assert self.at_peer == text(0, self.to_peer)
            if not self.closed:
                assert len(self.protocol.received) == self.to_transport
                assert self.protocol.calls.count("connection_made") == 1
        if self.broken and not self.wire.is_closed:
            # Cut: whatever the user still waited for ends with the connection.
            self.stream.abort()
        if self.waiter.done() and not self.waiter.cancelled():
            self.waiter.exception()
        # Of a protocol that reports what the search has broken on purpose.
        self.sim.loop.contexts.clear()
        self.stream.abort()
        # The deadlines of the handshake and of the closing pass.
        self.quiet()
        assert self.wire.is_closed
        if self.protocol.calls:
            assert self.protocol.is_lost
        self.sim.loop.contexts.clear()

    def quiet(self):
        for _ in range(3):
            self.sim.turns(3)


test_tls_records_in_any_pieces_and_orders_keep_the_contract = searched(TLSMachine, 30, 25)
