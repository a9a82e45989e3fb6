"""sock_recv() and sock_sendall() of plain sockets under any order of events and cancels.

The socket pair is real, its readiness is the fake driver's to tell. No byte is taken for a task
that has gone; what came is given out once and in order, and those who wait are served in theirs.
"""

import asyncio
import errno
import select
import socket

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from machine import MODES, Machine, searched

from uring_loop._internal import sockets


class SocketsMachine(Machine):
    @initialize(mode=st.sampled_from(MODES), limit=st.sampled_from([1, 64]))
    def start(self, mode, limit):
        self.driver.cancel_mode = mode
        self.driver.harvest_limit = lambda: limit
        self.one, self.other = socket.socketpair()
        for end in (self.one, self.other):
            end.setblocking(False)
        self.one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.driver.reuse(self.one.fileno())
        self.sent, self.got = bytearray(), bytearray()  # to the socket under test
        self.given, self.taken = bytearray(), bytearray()  # from it
        self.receivers, self.senders = [], []
        # A sendall was cancelled or failed: nobody knows how much of it went out.
        self.unfinished = False
        self.faults = 0
        self.ready = True

    # ---- the user ----

    def task(self, coroutine, tasks):
        tasks.append(asyncio.Task(coroutine, loop=self.sim.loop))

    async def receive(self, size, into):
        if into:
            buffer = bytearray(size)
            count = await sockets.sock_recv_into(self.sim.loop, self.one, buffer)
            self.got += buffer[:count]
        else:
            self.got += await sockets.sock_recv(self.sim.loop, self.one, size)

    async def send(self, data):
        self.given += data
        try:
            await sockets.sock_sendall(self.sim.loop, self.one, data)
        except (asyncio.CancelledError, OSError):
            self.unfinished = True
            raise

    @rule(size=st.integers(1, 3000), into=st.booleans())
    def begin_to_receive(self, size, into):
        self.task(self.receive(size, into), self.receivers)

    @rule(size=st.sampled_from([1, 100, 5_000, 40_000]))
    def begin_to_send(self, size):
        # asyncio: two at once on one socket mix their bytes, after a cancel too.
        if not self.unfinished and all(task.done() for task in self.senders):
            start = len(self.given)
            data = bytes((start + place) % 251 for place in range(size))
            self.task(self.send(data), self.senders)

    @rule(index=st.integers(0, 5), sender=st.booleans(), inside=st.booleans())
    def cancel(self, index, sender, inside):
        tasks = self.senders if sender else self.receivers
        if tasks:
            self.perform(inside, tasks[index % len(tasks)].cancel)

    # ---- the peer and the kernel ----

    @rule(data=st.binary(min_size=1, max_size=60))
    def peer_sends(self, data):
        try:
            self.sent += data[: self.other.send(data)]
        except BlockingIOError:
            pass

    @rule()
    def peer_takes(self):
        try:
            self.taken += self.other.recv(3000)
        except BlockingIOError:
            pass

    @rule()
    def readiness_is_told(self):
        for operation in self.driver.on_descriptor(self.one.fileno()):
            if operation.verb != "poll" or operation.ended or operation.cancelling:
                continue
            poller = select.poll()
            poller.register(self.one.fileno(), operation.events)
            found = poller.poll(0)
            if found:
                self.driver.complete(operation, found[0][1])

    @rule(error=st.sampled_from([errno.ENOMEM, errno.ECANCELED]))
    def wait_fails(self, error):
        """The driver gives up the wait by itself: who waits is told."""
        for operation in self.driver.on_descriptor(self.one.fileno()):
            if operation.verb == "poll" and not operation.ended and not operation.cancelling:
                self.faults += 1
                self.driver.complete(operation, -error)

    @rule(mode=st.sampled_from(MODES))
    def change_cancel(self, mode):
        self.driver.cancel_mode = mode

    @rule(count=st.integers(1, 4))
    def turn(self, count):
        self.turns(count)

    # ---- the checks ----

    def check(self):
        assert self.sent.startswith(self.got)
        assert self.given.startswith(self.taken)

    def strikes(self):
        return [task.cancel for task in self.receivers + self.senders]

    def state(self):
        fd = self.one.fileno()
        return (
            sum(not task.done() for task in self.receivers),
            sum(not task.done() for task in self.senders),
            tuple(sorted((o.verb, o.cancelling, o.ended) for o in self.driver.on_descriptor(fd))),
            len(self.sent) > len(self.got),
            self.unfinished,
        )

    def rest(self):
        self.driver.interrupted_turns = 0
        for task in self.receivers:
            task.cancel()
        for _ in range(200):
            self.peer_takes()
            self.readiness_is_told()
            self.sim.turns(4)
            if all(task.done() for task in self.senders + self.receivers):
                break
        assert all(task.done() for task in self.senders + self.receivers), "a task hangs"
        for task in self.senders + self.receivers:
            if not task.cancelled() and task.exception() is not None:
                assert self.faults, task.exception()
        # What was for nobody has stayed in the kernel.
        while len(self.got) < len(self.sent):
            self.got += self.one.recv(3000)
        assert self.got == self.sent
        while True:
            before = len(self.taken)
            self.peer_takes()
            if len(self.taken) == before:
                break
        if not self.unfinished and not self.faults:
            assert self.taken == self.given
        self.check()
        self.sim.settle()
        assert self.driver.on_descriptor(self.one.fileno()) == []
        self.one.close()
        self.other.close()


test_plain_sockets_in_any_order_of_receives_and_cancels_lose_nothing = searched(
    SocketsMachine, 40
)
