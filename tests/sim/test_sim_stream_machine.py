"""Two stream transports on one loop under any order of events, against asyncio's contract.

Hypothesis chooses what the peers, the protocols and the kernel do. The fake
driver checks the core's side of driver.h and the recorders the protocol's side;
here are the bytes: what arrives is a prefix of what was sent at every moment,
and all of it once everything has come to rest.
"""

import errno
import random
from functools import partial

from fake_driver import LENT, STARTED
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from machine import Machine, searched
from simulation import BufferedRecorder, Recorder

which = st.integers(0, 1)
pieces = st.binary(min_size=1, max_size=12)
modes = st.sampled_from(["later", "race", "at_once", "manual"])
KEPT_BYTES_MAX = 64 * 1024


class Connection:
    """One transport with the model of its two directions."""

    def __init__(self, sim, kind, keep_open):
        self.sim = sim
        self.transport, self.protocol, self.wire = sim.connect(kind)
        self.protocol.keep_open = keep_open
        self.to_transport = bytearray()
        self.to_peer = bytearray()
        self.peer_ended = False
        self.eof_written = False
        self.aborted = False

    @property
    def can_write(self):
        return self.transport._state in ("open", "closing") and not self.eof_written

    def write(self, data):
        if self.can_write:
            self.to_peer += data
            self.transport.write(data)

    def write_lines(self, lines):
        if self.can_write:
            self.to_peer += b"".join(lines)
            self.transport.writelines(lines)

    def write_eof(self):
        if self.transport._state == "open":
            self.eof_written = True
        self.transport.write_eof()

    def pause(self):
        self.protocol.pause()

    def resume(self):
        self.protocol.resume()

    def close(self):
        self.protocol.close()

    def abort(self):
        if self.transport._state in ("open", "closing"):
            self.aborted = True
        self.protocol.abort()

    def ask_size(self):
        size = self.transport.get_write_buffer_size()
        if not self.aborted and not self.protocol.is_lost:
            assert size <= len(self.to_peer)
        repr(self.transport)

    def check(self):
        protocol, received = self.protocol, self.wire.received
        assert self.to_transport.startswith(protocol.received)
        assert self.to_peer.startswith(received)
        if self.wire.eof:
            assert self.eof_written or protocol.is_lost
            if not self.aborted and protocol.lost_with is None:
                assert received == self.to_peer
        if protocol.is_lost:
            assert protocol.calls[-1] == "connection_lost"
            assert self.transport._state in ("joining", "closed")
        if self.wire.is_closed:
            assert protocol.is_lost

    def state(self):
        """What of it a fault could depend on."""
        protocol, transport = self.protocol, self.transport
        operations = self.sim.driver.on_descriptor(self.wire.fd)
        return (
            transport._state,
            protocol.read_paused,
            protocol.write_paused,
            self.peer_ended,
            self.eof_written,
            bool(transport._queued_bytes),
            tuple(sorted((o.verb, o.cancelling, o.ended, o.readable, o.held) for o in operations)),
        )

    def check_at_rest(self):
        protocol, received = self.protocol, self.wire.received
        if protocol.is_lost:
            assert self.wire.is_closed
            assert self.wire.eof
            if protocol.lost_with is None and not self.aborted:
                assert received == self.to_peer
            return
        assert self.transport._state == "open"
        assert protocol.received == self.to_transport
        assert received == self.to_peer
        assert self.wire.eof == self.eof_written
        assert self.transport.get_write_buffer_size() == 0
        assert not protocol.write_paused
        assert ("eof_received" in protocol.calls) == self.peer_ended


class StreamMachine(Machine):
    @initialize(
        kinds=st.tuples(*[st.sampled_from([Recorder, BufferedRecorder])] * 2),
        keep_open=st.tuples(st.booleans(), st.booleans()),
        seed=st.one_of(st.none(), st.integers(0, 1000)),
        mode=modes,
        limit=st.sampled_from([1, 2, 64]),
        selector_like=st.booleans(),
        bulk=st.booleans(),
    )
    def start(self, kinds, keep_open, seed, mode, limit, selector_like, bulk):
        self.driver.cancel_mode = mode
        self.driver.harvest_limit = lambda: limit
        if seed is not None:
            self.driver.random = random.Random(seed)
        self.answers = []
        self.selector_like = selector_like
        self.driver.at_once = self.answer
        self.connections = [
            Connection(self.sim, kind, keep)
            for kind, keep in zip(kinds, keep_open, strict=True)
        ]
        if bulk:
            self.driver.bulk.update(each.wire.fd for each in self.connections)
        self.ready = True

    def answer(self, operation):
        """What a send says inside the verb: as the ring, or as the selector."""
        if not self.selector_like:
            return STARTED
        if self.answers:
            return min(self.answers.pop(0), operation.size) or STARTED
        return operation.size

    # ---- the peer ----

    @rule(i=which, data=st.lists(pieces, min_size=1, max_size=4))
    def peer_sends(self, i, data):
        connection = self.connections[i]
        if not connection.peer_ended:
            connection.to_transport += b"".join(data)
            self.driver.arrive(connection.wire.fd, *data)

    @rule(i=which)
    def peer_floods(self, i):
        connection = self.connections[i]
        if not connection.peer_ended:
            data = bytes(range(250)) * (KEPT_BYTES_MAX // 250 + 1)
            if connection.protocol.__class__ is BufferedRecorder:
                connection.protocol.buffer = bytearray(20_000)
            connection.to_transport += data
            self.driver.arrive(connection.wire.fd, data)

    @rule(i=which, end=st.sampled_from([0, 0, -errno.ECONNRESET]))
    def peer_ends(self, i, end):
        connection = self.connections[i]
        if not connection.peer_ended:
            connection.peer_ended = True
            self.driver.arrive(connection.wire.fd, end)

    # ---- the protocol and its user ----

    @rule(i=which, inside=st.booleans(), data=pieces, mutable=st.booleans())
    def write(self, i, inside, data, mutable):
        self.perform(inside, self.connections[i].write, bytearray(data) if mutable else data)

    @rule(i=which, inside=st.booleans(), mutable=st.booleans())
    def write_much(self, i, inside, mutable):
        data = bytes(range(256)) * 300
        self.perform(inside, self.connections[i].write, bytearray(data) if mutable else data)

    @rule(i=which, inside=st.booleans(), lines=st.lists(st.binary(max_size=5), max_size=90))
    def write_lines(self, i, inside, lines):
        self.perform(inside, self.connections[i].write_lines, lines)

    @rule(
        i=which,
        inside=st.booleans(),
        method=st.sampled_from(["pause", "resume", "pause", "resume", "ask_size", "ask_size"]),
    )
    def use(self, i, inside, method):
        self.perform(inside, getattr(self.connections[i], method))

    @rule(i=which, inside=st.booleans(), method=st.sampled_from(["write_eof", "close", "abort"]))
    def end(self, i, inside, method):
        self.perform(inside, getattr(self.connections[i], method))

    @rule(
        i=which,
        j=which,
        event=st.sampled_from(["data_received", "resume_writing", "pause_writing"]),
        method=st.sampled_from(["pause", "resume", "close", "abort", "write", "interrupt"]),
    )
    def react(self, i, j, event, method):
        """The next time the one hears `event`, something happens to the other, or to itself."""
        hooks, target = self.connections[i].protocol.hooks, self.connections[j]

        def hook(*arguments):
            del hooks[event]
            if method == "interrupt":
                # Outside a run it would come out of write(), as it does in asyncio.
                if self.sim.loop.is_running():
                    raise KeyboardInterrupt
            elif method == "write":
                target.write(b"reaction")
            else:
                getattr(target, method)()

        hooks[event] = hook

    # ---- the kernel ----

    @rule(i=which, blocked=st.booleans())
    def change_wire(self, i, blocked):
        wire = self.connections[i].wire
        wire.block() if blocked else wire.unblock()

    @rule(hold=st.booleans())
    def hold_sends(self, hold):
        self.driver.hold_sends = hold

    @rule(mode=modes)
    def change_cancel(self, mode):
        self.driver.cancel_mode = mode

    @rule(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=4))
    def answer_short(self, sizes):
        self.answers = sizes

    @rule(i=which, part=st.integers(1, 4), error=st.sampled_from([0, 0, 0, -errno.EPIPE]))
    def complete_send(self, i, part, error):
        operation = self.driver.find("send", self.connections[i].wire.fd)
        if operation is not None and not operation.ended:
            self.driver.sent(operation.fd, error or max(1, operation.size * part // 4))

    @rule(i=which, race=st.booleans())
    def complete_cancelled(self, i, race):
        for operation in self.driver.on_descriptor(self.connections[i].wire.fd):
            if operation.cancelling and not operation.ended:
                self.driver.end(operation, race)

    @rule(i=which)
    def end_receive_stream_with_data(self, i):
        """The driver may end a stream with data at any time; the owner starts it again."""
        connection = self.connections[i]
        operation = self.driver.find("recv", connection.wire.fd)
        inbox = self.driver.inbox.get(connection.wire.fd)
        if (
            operation is not None
            and not operation.ended
            and not operation.cancelling
            and not operation.readable
            and inbox
            and isinstance(inbox[0], bytes)
        ):
            data = inbox.popleft()
            self.driver.complete(operation, len(data), LENT, data)

    @rule(i=which, bulk=st.booleans())
    def change_bulk(self, i, bulk):
        fd = self.connections[i].wire.fd
        self.driver.bulk.add(fd) if bulk else self.driver.bulk.discard(fd)

    @rule()
    def find_nothing_to_take(self):
        self.driver.take_result = -errno.EAGAIN

    @rule(i=which)
    def interrupt_in_get_buffer(self, i):
        hooks = self.connections[i].protocol.hooks

        def hook(sizehint):
            del hooks["get_buffer"]
            raise KeyboardInterrupt

        hooks["get_buffer"] = hook

    # ---- the checks ----

    def check(self):
        for connection in self.connections:
            connection.check()

    def state(self):
        return tuple(each.state() for each in self.connections)

    @precondition(lambda self: self.ready)
    @rule()
    def come_to_rest(self):
        self.call_off()
        self.rest()

    def strikes(self):
        names = ("pause", "resume", "close", "abort", "write_eof", "ask_size")
        found = [getattr(each, name) for each in self.connections for name in names]
        return [*found, *[partial(each.write, b"struck") for each in self.connections]]

    def child_strikes(self):
        names = ("pause", "resume", "abort", "ask_size")
        return [getattr(each, name) for each in self.connections for name in names]

    def transports(self):
        return [(each.transport, each.can_write) for each in self.connections]

    def rest(self):
        self.driver.hold_sends = False
        self.driver.interrupted_turns = 0
        if self.driver.cancel_mode == "manual":
            self.driver.cancel_mode = "later"
        for connection in self.connections:
            connection.protocol.hooks.clear()
            connection.wire.unblock()
        # What an interrupted turn has left may pause.
        self.sim.settle()
        for connection in self.connections:
            if connection.protocol.read_paused:
                connection.resume()
        # Interrupted runs may have left calls of stop().
        for _ in range(3):
            self.sim.settle()
        for connection in self.connections:
            connection.check_at_rest()


test_stream_transports_in_any_order_keep_the_contract = searched(StreamMachine, 100)
