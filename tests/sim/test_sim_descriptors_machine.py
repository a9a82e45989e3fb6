"""Readers, writers, polls and a listener on one loop under any order of events.

A handler is called for the event it was added for, in the turn in which that holds, and never
after it was removed or replaced; a descriptor that is accepted reaches the callback in its
order, is closed by the core, or stays in the kernel's queue: none is lost.
"""

import errno
import os
import select
from functools import partial

from fake_driver import MORE
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from machine import MODES, Machine, searched

from uring_loop import _core

LISTENING, POLLED = 10_000, 10_001  # never used by a system call
IN, OUT = 1, 4
which = st.integers(0, 2)
sides = st.sampled_from(["reader", "writer"])


class DescriptorsMachine(Machine):
    @initialize(mode=st.sampled_from(MODES), limit=st.sampled_from([1, 2, 64]))
    def start(self, mode, limit):
        self.driver.cancel_mode = mode
        self.driver.harvest_limit = lambda: limit
        self.fds = [self.sim.wire().fd for _ in range(3)]
        self.handlers = {}  # (i, side) -> the number of the handler that is added
        self.added = 0
        self.called = []  # (i, side) since the last turn began
        self.reactions = []
        self.wrong = []
        self.accepted, self.offered, self.queued_last = [], [], 0
        self.listening = False
        self.listener = _core.Listener(self.sim.loop, LISTENING, self.accept)
        self.poll = None
        self.told = 0
        self.ready = True

    # ---- handlers ----

    def add(self, i, side):
        self.added += 1
        self.handlers[i, side] = self.added
        getattr(self.sim.loop, f"_add_{side}")(self.fds[i], self.handle, i, side, self.added)

    def remove(self, i, side):
        known = self.handlers.pop((i, side), None) is not None
        if getattr(self.sim.loop, f"_remove_{side}")(self.fds[i]) is not known:
            self.wrong.append(f"remove_{side}() did not know what was added")

    def handle(self, i, side, number):
        if self.handlers.get((i, side)) != number:
            self.wrong.append(f"handler {number} was called, which is not added any more")
        if not self.driver.ready.get(self.fds[i], 0) & ((IN if side == "reader" else OUT) | 0x18):
            # The bits may have been taken back by a reaction within the same batch.
            if not self.unready:
                self.wrong.append(f"a {side} was called for nothing")
        self.called.append((i, side))
        self.react()

    def react(self):
        if self.reactions:
            action, i, side = self.reactions.pop(0)
            if action == "interrupt":
                raise KeyboardInterrupt
            self.act(action, i, side)

    def act(self, action, i, side):
        if action == "add":
            self.add(i, side)
        elif action == "remove":
            self.remove(i, side)
        elif action == "start":
            self.listening = True
            self.listener.start()
        elif action == "stop":
            self.listening = False
            self.listener.stop()
        elif action == "cancel poll" and self.poll is not None:
            self.poll.cancel()
            self.poll = None
        elif action == "unready":
            self.unready = True
            self.driver.ready[self.fds[i]] = 0

    unready = False

    @rule(i=which, side=sides, inside=st.booleans())
    def add_handler(self, i, side, inside):
        self.perform(inside, self.add, i, side)

    @rule(i=which, side=sides, inside=st.booleans())
    def remove_handler(self, i, side, inside):
        self.perform(inside, self.remove, i, side)

    @rule(i=which, events=st.sampled_from([0, IN, OUT, IN | OUT, 0x8, 0x10]))
    def readiness(self, i, events):
        # What an interrupted turn has found is told, though it may hold no more.
        self.unready |= self.interrupted
        self.driver.ready[self.fds[i]] = events

    @rule(
        actions=st.lists(
            st.tuples(
                st.sampled_from(
                    ["add", "remove", "start", "stop", "cancel poll", "unready", "interrupt"]
                ),
                which,
                sides,
            ),
            min_size=1,
            max_size=3,
        )
    )
    def reactions_to_come(self, actions):
        """What the next callbacks do, one each."""
        self.reactions += actions

    # ---- the poll ----

    @rule()
    def begin_poll(self):
        if self.poll is None and self.driver.find("poll", POLLED) is None:
            self.poll = _core.Poll(self.sim.loop, POLLED, select.POLLIN, self.polled)

    @rule(inside=st.booleans())
    def cancel_poll(self, inside):
        self.perform(inside, self.act, "cancel poll", 0, "reader")

    def polled(self):
        if self.poll is None:
            self.wrong.append("a poll told something after cancel()")
        self.told += 1
        self.react()

    @rule(result=st.sampled_from([select.POLLIN, select.POLLIN, -errno.ECANCELED]))
    def poll_says(self, result):
        operation = self.driver.find("poll", POLLED)
        if operation is not None and not operation.ended and not operation.cancelling:
            self.driver.complete(operation, result, MORE if result > 0 else 0)

    # ---- the listener ----

    def accept(self, fd):
        if fd >= 0:
            if not self.listening:
                self.wrong.append("the callback got a descriptor after stop()")
            self.accepted.append(fd)
        self.react()

    @rule(action=st.sampled_from(["start", "stop"]), inside=st.booleans())
    def listen(self, action, inside):
        self.perform(inside, self.act, action, 0, "reader")

    @rule(count=st.integers(1, 4))
    def clients_come(self, count):
        fds = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC) for _ in range(count)]
        self.offered += [(fd, os.fstat(fd)) for fd in fds]
        self.driver.arrive(LISTENING, *fds)

    @rule(error=st.sampled_from([errno.ECONNABORTED, errno.EMFILE]))
    def accept_fails(self, error):
        if self.driver.find("accept", LISTENING) is not None:
            self.driver.arrive(LISTENING, -error)

    # ---- the kernel ----

    @rule(mode=st.sampled_from(MODES))
    def change_cancel(self, mode):
        self.driver.cancel_mode = mode

    @rule(count=st.integers(1, 3))
    def turn(self, count):
        self.turns(count)
        self.unready &= self.interrupted

    # ---- the checks ----

    def check(self):
        assert not self.wrong, self.wrong
        offered = [fd for fd, _ in self.offered]
        positions = iter(offered)
        assert all(fd in positions for fd in self.accepted), "accepted out of order"

    def strikes(self):
        acts = ("add", "remove", "start", "stop", "cancel poll")
        return [
            partial(self.act, action, i, side)
            for action in acts
            for i in range(3)
            for side in ("reader", "writer")
        ]

    def state(self):
        return (
            tuple(sorted(self.handlers)),
            tuple(self.driver.ready.get(fd, 0) for fd in self.fds),
            self.listening,
            self.listener.idle,
            self.poll is None,
            tuple(sorted((o.verb, o.cancelling) for o in self.driver.operations.values())),
            tuple(action for action, *_ in self.reactions),
        )

    def rest(self):
        self.driver.interrupted_turns = 0
        self.reactions = []
        self.unready |= self.interrupted
        for fd in self.fds:
            self.driver.ready[fd] = 0
        for _ in range(3):
            self.sim.settle()
        self.unready = False
        # The faults have stopped: whoever is added and ready is called, the others are not.
        self.called = []
        for fd in self.fds:
            self.driver.ready[fd] = IN | OUT
        self.sim.turns(1)
        for fd in self.fds:
            self.driver.ready[fd] = 0
        assert set(self.called) == set(self.handlers)
        for i, side in list(self.handlers):
            self.remove(i, side)
        self.act("cancel poll", 0, "reader")
        self.listener.stop()
        self.sim.settle()
        assert self.listener.idle
        self.check()
        in_kernel = [fd for fd in self.driver.inbox.get(LISTENING, ()) if fd >= 0]
        kept = set(self.accepted) | set(in_kernel)
        assert len(kept) == len(self.accepted) + len(in_kernel), "a descriptor is in two places"
        for fd in kept:
            os.close(fd)


test_readers_polls_and_listeners_in_any_order_keep_the_contract = searched(
    DescriptorsMachine, 40
)
