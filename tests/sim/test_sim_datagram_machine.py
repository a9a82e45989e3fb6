"""Two datagram transports on one loop under any order of events, against asyncio's contract.

What arrives is a real AF_UNIX pair's one way, scripted the other.  Every datagram keeps its
bounds and its place; none is lost but those that were queued when the transport was aborted.
"""

import errno
import select
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from machine import MODES, Machine, searched
from test_sim_datagram import Endpoint

# Sent after close(), as asyncio does, or not: that depends on the queue.
LATE = b"sent too late"
which = st.integers(0, 1)
events = ["datagram_received", "error_received", "pause_writing", "resume_writing"]


class Conversation:
    """One endpoint with the model of its two directions."""

    def __init__(self, sim, connected):
        self.sim = sim
        self.end = Endpoint(sim, connected)
        self.connected = connected
        self.to_transport = []
        self.to_peer = []
        self.at_peer = []
        self.errors = 0
        self.aborted = False
        self.is_sending = False  # who comes back from a send and sends is the first, or not

    @property
    def is_lost(self):
        return "connection_lost" in self.end.protocol.calls

    def sendto(self, data):
        if self.is_sending:
            return
        self.is_sending = True
        try:
            self.send_alone(data)
        finally:
            self.is_sending = False

    def send_alone(self, data):
        if self.end.transport._state == "open":
            self.to_peer.append(data)
        else:
            data = LATE
        self.end.transport.sendto(data, None if self.connected else self.end.name)

    def pause(self):
        self.end.transport.pause_reading()

    def resume(self):
        self.end.transport.resume_reading()

    def close(self):
        self.end.transport.close()

    def abort(self):
        self.aborted = self.aborted or not self.is_lost
        self.end.transport.abort()

    def look(self):
        repr(self.end.transport)
        assert self.end.transport.get_write_buffer_size() >= 0

    def take(self):
        self.at_peer += [data for data in self.end.taken() if data != LATE]

    def check(self):
        protocol = self.end.protocol
        heard = protocol.payloads
        assert heard == self.to_transport[: len(heard)]
        assert self.at_peer == self.to_peer[: len(self.at_peer)]
        assert len(protocol.errors) <= self.errors
        pauses = protocol.calls.count("pause_writing")
        assert pauses - protocol.calls.count("resume_writing") in (0, 1)
        if self.is_lost:
            assert protocol.calls[-1] == "connection_lost"
            assert protocol.calls.count("connection_lost") == 1
        if self.end.is_closed:
            assert self.is_lost


class DatagramMachine(Machine):
    @initialize(
        connected=st.tuples(st.booleans(), st.booleans()),
        mode=st.sampled_from(MODES),
        limit=st.sampled_from([1, 2, 64]),
    )
    def start(self, connected, mode, limit):
        self.driver.cancel_mode = mode
        self.driver.harvest_limit = lambda: limit
        self.conversations = [Conversation(self.sim, each) for each in connected]
        self.ready = True

    # ---- the peer ----

    @rule(i=which, datagrams=st.lists(st.binary(max_size=12), min_size=1, max_size=4))
    def peer_sends(self, i, datagrams):
        conversation = self.conversations[i]
        if not conversation.end.is_closed:
            conversation.to_transport += datagrams
            conversation.end.arrive(*datagrams)

    @rule(i=which, error=st.sampled_from([errno.ECONNREFUSED, errno.EHOSTUNREACH]))
    def network_says(self, i, error):
        conversation = self.conversations[i]
        if not conversation.end.is_closed:
            conversation.errors += 1
            self.driver.arrive(conversation.end.fd, -error)

    @rule(i=which)
    def peer_takes(self, i):
        self.conversations[i].take()

    # ---- the user ----

    @rule(i=which, inside=st.booleans(), data=st.binary(min_size=1, max_size=12))
    def send(self, i, inside, data):
        self.perform(inside, self.conversations[i].sendto, data)

    @rule(i=which, inside=st.booleans(), count=st.integers(2, 40))
    def send_many(self, i, inside, count):
        def burst():
            for number in range(count):
                self.conversations[i].sendto(b"%d" % number)

        self.perform(inside, burst)

    @rule(i=which, high=st.sampled_from([0, 10, 100]))
    def limit(self, i, high):
        self.conversations[i].end.transport.set_write_buffer_limits(high=high)

    @rule(
        i=which,
        inside=st.booleans(),
        method=st.sampled_from(["pause", "resume", "look", "pause", "resume", "close", "abort"]),
    )
    def use(self, i, inside, method):
        self.perform(inside, getattr(self.conversations[i], method))

    @rule(
        i=which,
        j=which,
        event=st.sampled_from(events),
        method=st.sampled_from(["pause", "resume", "close", "abort", "sendto", "interrupt"]),
    )
    def react(self, i, j, event, method):
        """The next time the one hears `event`, something happens to the other, or to itself."""
        hooks, target = self.conversations[i].end.protocol.hooks, self.conversations[j]

        def hook(*arguments):
            del hooks[event]
            if method == "interrupt":
                if self.sim.loop.is_running():
                    raise KeyboardInterrupt
            elif method == "sendto":
                target.sendto(b"reaction")
            else:
                getattr(target, method)()

        hooks[event] = hook

    # ---- the kernel ----

    @rule(mode=st.sampled_from(MODES))
    def change_cancel(self, mode):
        self.driver.cancel_mode = mode

    @rule(over=st.sampled_from([0, -errno.ECANCELED]))
    def wait_ends(self, over):
        """For room: there is some, or the operation was ended by nobody."""
        for operation in self.waits():
            if operation.verb == "poll":
                self.driver.complete(operation, over or select.POLLOUT)
            else:
                self.driver.complete(operation, over or -errno.ETIME)

    # ---- the checks ----

    def waits(self):
        return [
            operation
            for operation in self.driver.operations.values()
            if operation.verb in ("poll", "timeout")
            and not operation.ended
            and not operation.cancelling
        ]

    def check(self):
        for conversation in self.conversations:
            conversation.check()

    def strikes(self):
        names = ("pause", "resume", "close", "abort", "look")
        found = [getattr(each, name) for each in self.conversations for name in names]
        return [*found, *[partial(each.sendto, b"struck") for each in self.conversations]]

    def child_strikes(self):
        names = ("pause", "resume", "abort", "look")
        return [getattr(each, name) for each in self.conversations for name in names]

    def transports(self):
        return [(each.end.transport, False) for each in self.conversations]

    def state(self):
        return tuple(self.state_of(each.end) for each in self.conversations)

    def state_of(self, end):
        return (
            end.transport._state,
            end.transport.is_reading() if not end.is_closed else None,
            min(end.transport._queued_bytes, 2),
            end.protocol.calls[-1],
            tuple(sorted((o.verb, o.cancelling) for o in self.driver.on_descriptor(end.fd))),
        )

    def rest(self):
        self.driver.interrupted_turns = 0
        for each in self.conversations:
            each.end.protocol.hooks.clear()
        # What an interrupted turn has left may pause.
        self.sim.settle()
        for each in self.conversations:
            each.resume()
        for _ in range(100):
            for each in self.conversations:
                each.take()
            self.wait_ends_in_rest()
            # Interrupted runs may have left calls of stop().
            for _ in range(3):
                self.sim.settle()
            if not any(each.end.transport._queued_bytes for each in self.conversations):
                break
        for each in self.conversations:
            each.take()
            self.check_at_rest(each)
            each.end.transport.abort()
        self.sim.settle()
        for each in self.conversations:
            assert each.end.is_closed
            each.end.peer.close()

    def wait_ends_in_rest(self):
        for operation in self.waits():
            result = select.POLLOUT if operation.verb == "poll" else -errno.ETIME
            self.driver.complete(operation, result)

    def check_at_rest(self, each):
        assert each.end.transport._queued_bytes == 0
        each.check()
        if not each.aborted:
            assert each.at_peer == each.to_peer
        if each.is_lost:
            assert each.end.is_closed
            assert each.end.protocol.lost_with is None
        else:
            assert each.end.protocol.payloads == each.to_transport
            assert len(each.end.protocol.errors) == each.errors
            calls = each.end.protocol.calls
            assert calls.count("pause_writing") == calls.count("resume_writing")


test_datagram_transports_in_any_order_keep_the_contract = searched(DatagramMachine, 40)
