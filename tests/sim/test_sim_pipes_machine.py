"""Both ends of one pipe under any order of events.

The pipe is the kernel's, and small, so that reads and writes are real; when the driver tells
of its readiness, in which order and how often in vain, is the machine's to say. Of what write()
was given the reader gets a prefix, in order; what is missing is in the pipe or in the queue, and
when the faults have stopped all of it arrives, unless somebody has thrown it away.
"""

import array
import errno
import fcntl
import os
import select
import termios
import threading
from functools import partial

from fake_driver import MORE
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from machine import MODES, Machine, searched
from simulation import Recorder

from uring_loop._internal.pipes import ReadPipeTransport, WritePipeTransport

SMALLEST = 4096
HIGH, LOW = 10_000, 2_000
ends = st.sampled_from(["source", "sink"])
ACTIONS = ["write", "pause", "resume", "close source", "close sink", "abort", "interrupt"]
sizes = st.sampled_from([1, 100, SMALLEST, 5_000, 30_000])


def pattern(begin, size):
    """The bytes at that place of what is written, which no other place has."""
    first = begin // 4
    words = array.array("I", range(first, first + size // 4 + 2)).tobytes()
    return words[begin % 4 : begin % 4 + size]


class Sink(WritePipeTransport):
    """Tells when what another thread has written is written."""

    def _write(self, data):
        if not self._lost:
            self.comes_now(data)
        super()._write(data)


class PipesMachine(Machine):
    @initialize(mode=st.sampled_from(MODES), limit=st.sampled_from([1, 2, 64]))
    def start(self, mode, limit):
        self.driver.cancel_mode = mode
        self.driver.harvest_limit = lambda: limit
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALLEST)
        self.files = {"source": open(reading, "rb", 0), "sink": open(writing, "wb", 0)}
        self.numbers = {"source": reading, "sink": writing}
        self.heard = {name: Recorder(self.driver) for name in self.files}
        self.source = ReadPipeTransport(self.sim.loop, self.files["source"], self.heard["source"])
        self.sink = Sink(self.sim.loop, self.files["sink"], self.heard["sink"])
        self.sink.set_write_buffer_limits(HIGH, LOW)
        self.drawn = 0  # bytes of the pattern
        self.sent = bytearray()  # in the order in which the loop's thread has come to write it
        self.sink.comes_now = self.sent.extend
        self.loop_thread = threading.get_ident()
        self.thrown_away = False  # by whom a part of what was written will never be read
        self.reactions = []
        for recorder, methods in (
            (self.heard["source"], ("data_received", "eof_received")),
            (self.heard["sink"], ("pause_writing", "resume_writing")),
        ):
            for method in methods:
                recorder.hooks[method] = self.react
        self.sim.turns(1)
        assert [each.calls for each in self.heard.values()] == [["connection_made"]] * 2
        self.ready = True

    # ---- what programs do ----

    def react(self, *_):
        if self.reactions:
            action, size = self.reactions.pop(0)
            if action == "interrupt":
                raise KeyboardInterrupt
            self.act(action, size)

    def act(self, action, size):
        if action == "write":
            data = pattern(self.drawn, size)
            self.drawn += size
            elsewhere = self.sim.loop.is_running() and self.loop_thread != threading.get_ident()
            # Before the call: a reaction inside of it may write, too.
            if not elsewhere and not self.sink.is_closing():
                self.sent += data
            self.sink.write(data)
        elif action == "pause" and self.source.is_reading():
            self.heard["source"].pause()
        elif action == "resume" and not self.source.is_closing():
            self.heard["source"].resume()
        elif action == "close source" and not self.source.is_closing():
            self.thrown_away = True
            self.heard["source"].close()
        elif action == "close sink" and not self.sink.is_closing():
            self.heard["sink"].close()
        elif action == "abort":
            self.thrown_away = True
            self.heard["sink"].abort()

    @rule(action=st.sampled_from(ACTIONS[:3]), size=sizes, inside=st.booleans())
    def do(self, action, size, inside):
        try:
            self.perform(inside, self.act, action, size)
        except KeyboardInterrupt:
            # Raised by pause_writing(), which write() has called.
            assert not inside

    # Rarely, or little comes before it.
    @rule(action=st.sampled_from([None] * 9 + ACTIONS[3:6]), inside=st.booleans())
    def end(self, action, inside):
        if action is not None:
            self.perform(inside, self.act, action, 0)

    @rule(
        actions=st.lists(st.tuples(st.sampled_from(ACTIONS), sizes), min_size=1, max_size=3)
    )
    def reactions_to_come(self, actions):
        self.reactions += actions

    def strikes(self):
        often = [partial(self.act, action, 5_000) for action in ACTIONS[:3]]
        return often * 4 + [partial(self.act, action, 0) for action in ACTIONS[3:6]]

    def child_strikes(self):
        """The pipe is its parent's, too."""
        return [partial(self.act, action, 0) for action in ACTIONS[1:6]]

    def transports(self):
        return [(self.sink, not self.sink.is_closing())]

    # ---- the kernel ----

    def kept_polls(self, name):
        """Of that end, those that were not cancelled."""
        return [
            operation
            for operation in self.driver.on_descriptor(self.numbers[name])
            if operation.verb == "poll" and not operation.cancelling
        ]

    def polls(self, name):
        """Of which the kernel may tell something."""
        return [operation for operation in self.kept_polls(name) if not operation.ended]

    def readiness(self, operation):
        """What poll(2) says of what that operation waits for."""
        events = operation.events & 0xFFFF
        poll = select.poll()
        poll.register(operation.fd, events)
        return sum(bits for _, bits in poll.poll(0))

    def tell(self, name):
        for operation in self.polls(name):
            bits = self.readiness(operation)
            if bits:
                self.driver.complete(operation, bits, MORE)

    @rule(name=ends)
    def kernel_tells(self, name):
        self.tell(name)

    @rule()
    def kernel_tells_in_vain(self):
        """Somebody else has read what there was, or written what there was room for."""
        for name, bits in (("source", select.POLLIN), ("sink", select.POLLOUT)):
            for operation in self.polls(name):
                if operation.events & bits:
                    if name == "source" or not operation.events & select.POLLIN:
                        self.driver.complete(operation, bits, MORE)

    @rule(name=ends)
    def thread_that_drove_the_ring_has_gone(self, name):
        for operation in self.polls(name):
            self.driver.complete(operation, -errno.ECANCELED)

    @rule(mode=st.sampled_from(MODES))
    def change_cancel(self, mode):
        self.driver.cancel_mode = mode

    # ---- the checks ----

    def in_pipe(self):
        found = array.array("i", [0])
        fcntl.ioctl(self.files["source"], termios.FIONREAD, found)
        return found[0]

    def check(self):
        source, sink = self.heard["source"], self.heard["sink"]
        queued = self.sink.get_write_buffer_size()
        got = bytes(source.received)
        assert got == self.sent[: len(got)]
        assert len(got) + queued <= len(self.sent)
        if not self.thrown_away and not self.files["source"].closed:
            assert len(got) + self.in_pipe() + queued == len(self.sent)
        assert sink.write_paused is self.sink._protocol_paused
        if queued > self.sink._high_water:
            assert sink.write_paused
        # Of one whose end is on its way nobody need be rid; what is queued waits for it, too.
        waits = [
            each
            for each in (self.kept_polls if queued else self.polls)("sink")
            if each.events & select.POLLOUT
        ]
        assert len(waits) == (queued > 0), "a poll for nothing, or none for what is queued"
        if source.read_paused or self.source.is_closing():
            assert not self.polls("source")
        for name, recorder in self.heard.items():
            assert self.files[name].closed is recorder.is_lost

    def state(self):
        return (
            repr(self.source).partition(" ")[0],
            self.source.is_closing(),
            self.source.is_reading(),
            self.sink.is_closing(),
            self.sink._protocol_paused,
            self.sink.get_write_buffer_size() > 0,
            self.thrown_away,
            tuple(recorder.is_lost for recorder in self.heard.values()),
            tuple(sorted((o.verb, o.cancelling) for o in self.driver.operations.values())),
            tuple(action for action, _ in self.reactions),
        )

    def go_on(self):
        """Until the kernel has nothing to tell."""
        for _ in range(1000):
            self.sim.settle()
            self.check()
            for name in self.files:
                if not self.files[name].closed:
                    self.tell(name)
            if not self.driver.has_work():
                return
        raise AssertionError("the pipe does not come to rest")

    def rest(self):
        self.driver.interrupted_turns = 0
        self.reactions = []
        self.act("resume", 0)
        self.go_on()
        if not self.thrown_away:
            assert self.heard["source"].received == self.sent
        if not self.thrown_away and self.heard["sink"].closing:
            assert self.heard["sink"].is_lost
            assert self.heard["source"].calls[-2:] == ["eof_received", "connection_lost"]
            assert self.heard["sink"].lost_with is None
        self.act("abort", 0)
        self.go_on()
        self.act("close source", 0)
        self.go_on()
        assert all(recorder.is_lost for recorder in self.heard.values())
        assert all(file.closed for file in self.files.values())
        self.check()


test_both_ends_of_a_pipe_in_any_order_keep_the_contract = searched(PipesMachine, 60, 40)
