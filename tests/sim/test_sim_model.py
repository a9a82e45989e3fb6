"""The fake driver against the real ones: one set of scripts of verbs on all three.

What the machines search is worth what the fake driver is like. Each script here calls verbs
through struct ul_table and gives back what came of it, but for what is free (into how many pieces
bytes are cut, whether a verb is done at once or later). The fake's answer must be that of the ring
and of the selector; and on each of them an operation keeps its grammar: any number of completions
with UL_MORE, then one without, then nothing.
"""

import contextlib
import ctypes
import errno
import os
import select
import socket
import struct
import time

import pytest
from fake_driver import (
    BATCH,
    LENT,
    MORE,
    READABLE,
    STARTED,
    WATCH,
    FakeDriver,
    RawCompletion,
    RawTable,
    Vector,
    i64,
    load_shim,
    u64,
)

pytestmark = pytest.mark.skipif(load_shim() is None, reason="shim.c needs a C compiler")
PATIENCE_S = 20
ETIME = -errno.ETIME
CANCELED = -errno.ECANCELED


class Operation:
    """What was told of one operation."""

    def __init__(self, number):
        self.number = number
        self.token = 0
        self.data = bytearray()
        self.pieces = []
        self.results = []  # of completions without data
        self.readable = 0
        self.lazy = False  # what is readable is not taken at once
        self.ended = None  # the terminal result


class Bench:
    """A driver's verbs, whichever it is, and the operations that were started."""

    is_fake = False

    def __init__(self, address, table):
        self.driver = ctypes.c_void_p(address)
        self.table = RawTable.from_address(table)
        self.operations = {}
        self.watched = []
        self.sockets = []
        assert self.table.begin(self.driver) == 0

    # ---- verbs ----

    def start(self, verb, *arguments):
        """(answer, operation): what the verb says, and of whom completions will speak."""
        operation = Operation(len(self.operations) + 1)
        token = u64()
        owner = ctypes.c_void_p(operation.number)
        answer = getattr(self.table, verb)(self.driver, owner, *arguments, ctypes.byref(token))
        operation.token = token.value
        if answer == STARTED:
            assert operation.token != 0
            self.operations[operation.number] = operation
        else:
            assert operation.token == 0, "an answer at once comes with a token"
            operation.ended = answer
        return answer, operation

    def recv(self, fd):
        return self.start("recv", fd, 0)[1]

    def send(self, fd, data):
        self.kept = ctypes.create_string_buffer(data, len(data))
        vector = Vector(ctypes.addressof(self.kept), len(data))
        return self.start("send", fd, ctypes.byref(vector), 1)[1]

    def take(self, operation, size):
        buffer = ctypes.create_string_buffer(size)
        vector = Vector(ctypes.addressof(buffer), size)
        answer = self.table.take(self.driver, operation.token, ctypes.byref(vector), 1)
        return answer if answer <= 0 else buffer.raw[:answer]

    def cancel(self, operation):
        return self.table.cancel(self.driver, operation.token)

    def turn(self):
        out = (RawCompletion * BATCH)()
        assert self.table.turn(self.driver, i64(1_000_000)) == 0
        while count := self.table.harvest(self.driver, out, BATCH):
            for raw in out[:count]:
                self.note(raw)
                if raw.flags & LENT:
                    self.table.recycle(self.driver, raw.data)

    def note(self, raw):
        if raw.flags & WATCH:
            self.watched.append((raw.owner, raw.result))
            return
        operation = self.operations[raw.owner]
        assert operation.token == raw.token
        assert operation.ended is None, "a completion after the terminal one"
        if raw.flags & LENT:
            piece = ctypes.string_at(raw.data, raw.result)
            operation.data += piece
            operation.pieces.append(piece)
        elif raw.flags & READABLE:
            operation.readable += 1
            if not operation.lazy:
                taken = self.take(operation, 1 << 16)
                if isinstance(taken, bytes):
                    operation.data += taken
                elif taken != -errno.EAGAIN:
                    operation.ended = taken
                    return
        else:
            operation.results.append(raw.result)
        if not raw.flags & MORE:
            operation.ended = raw.result

    def until(self, predicate):
        deadline = time.monotonic() + PATIENCE_S
        while not predicate():
            assert time.monotonic() < deadline, "waited in vain"
            self.turn()

    def end(self, operation):
        """Cancel it, and see it end: with what won the race, or with nothing."""
        answer = self.cancel(operation)
        assert answer in (0, STARTED, -errno.ENOENT)
        if answer == STARTED:
            self.until(lambda: operation.ended is not None)
        return operation

    # ---- sockets ----

    def pair(self, kind=socket.SOCK_STREAM):
        one, other = socket.socketpair(socket.AF_UNIX, kind)
        for sock in (one, other):
            sock.setblocking(False)
        self.sockets += [one, other]
        self.adopt(one, other)
        return one.fileno(), other

    def adopt(self, one, other):
        """Nothing to do: the kernel knows the socket."""

    def peer_sends(self, fd, peer, data):
        peer.send(data)

    def peer_closes(self, fd, peer):
        peer.close()

    def ready(self, fd, peer):
        """The peer has made the descriptor readable."""
        peer.send(b"x")

    def close(self):
        self.table.end(self.driver)
        for sock in self.sockets:
            sock.close()


class FakeBench(Bench):
    """The same hand on the fake driver: what a kernel would do is arranged."""

    is_fake = True

    def __init__(self):
        self.fake = FakeDriver()
        super().__init__(self.fake.address, self.fake.table_address)

    def adopt(self, one, other):
        fd = one.fileno()
        self.fake.reuse(fd)
        self.fake.outgoing[fd] = one.send

    def peer_sends(self, fd, peer, data):
        sender = struct.pack("=H", socket.AF_UNIX)
        is_datagram = peer.type == socket.SOCK_DGRAM
        self.fake.arrive(fd, (data, sender) if is_datagram else data)

    def peer_closes(self, fd, peer):
        peer.close()
        self.fake.arrive(fd, 0)

    def ready(self, fd, peer):
        self.fake.ready[fd] = select.POLLIN
        operation = self.fake.find("poll", fd)
        if operation is not None:
            self.fake.complete(operation, select.POLLIN)

    def turn(self):
        for operation in list(self.fake.operations.values()):
            if operation.verb == "timeout" and not operation.ended and not operation.cancelling:
                self.fake.complete(operation, ETIME)
        super().turn()
        self.fake.check()

    def close(self):
        super().close()
        self.fake.check()
        assert not self.fake.lent
        self.fake.free()


@contextlib.contextmanager
def bench_of(kind):
    if kind == "fake":
        bench = FakeBench()
        try:
            yield bench
        finally:
            bench.close()
        return
    from uring_loop._internal import driver as drivers

    made = drivers.open_driver(kind)
    bench = Bench(made.address, made.table_address)
    try:
        yield bench
    finally:
        bench.close()
        made.close()


# ---- the scripts: what each gives must be the same on all three ----


def receives_until_the_end(bench):
    fd, peer = bench.pair()
    operation = bench.recv(fd)
    bench.turn()
    for piece in (b"one", b"two", b"x" * 9000):
        bench.peer_sends(fd, peer, piece)
        bench.turn()
    bench.until(lambda: len(operation.data) == 9006)
    bench.peer_closes(fd, peer)
    bench.until(lambda: operation.ended is not None)
    return bytes(operation.data), operation.ended


def hears_of_the_end_once_more(bench):
    """Who receives again after the end of file is told again, at once."""
    fd, peer = bench.pair()
    bench.peer_closes(fd, peer)
    ends = []
    for _ in range(3):
        operation = bench.recv(fd)
        bench.until(lambda operation=operation: operation.ended is not None)
        ends.append(operation.ended)
    return ends


def idle_receive_that_is_cancelled_ends_with_nothing(bench):
    fd, _ = bench.pair()
    operation = bench.recv(fd)
    bench.turn()
    bench.end(operation)
    bench.turn()
    return bytes(operation.data), operation.ended in (None, CANCELED), bench.cancel(operation)


def cancel_that_races_with_data_loses_no_byte(bench):
    fd, peer = bench.pair()
    got = bytearray()
    for number in range(20):
        operation = bench.recv(fd)
        if number % 2:
            bench.turn()
        bench.peer_sends(fd, peer, b"%02d" % number)
        if number % 3 == 0:
            bench.turn()
        got += bench.end(operation).data
    operation = bench.recv(fd)
    bench.until(lambda: len(got) + len(operation.data) == 40)
    return bytes(got + operation.data)


def second_cancel_finds_the_first_or_nobody(bench):
    fd, _ = bench.pair()
    operation = bench.recv(fd)
    bench.turn()
    first = bench.cancel(operation)
    second = bench.cancel(operation)
    bench.end(operation)
    return first in (0, STARTED), second in (STARTED, -errno.ENOENT), bench.cancel(operation)


def sends(bench):
    fd, peer = bench.pair()
    operation = bench.send(fd, b"hello")
    bench.until(lambda: operation.ended is not None)
    return operation.ended, peer.recv(100)


def held_stream_says_readable_and_is_taken(bench):
    fd, peer = bench.pair()
    operation = bench.recv(fd)
    bench.turn()
    operation.lazy = True
    bench.table.hold(bench.driver, operation.token, False)
    before = bench.take(operation, 10)
    bench.turn()
    bench.peer_sends(fd, peer, b"a" * 20)
    bench.until(lambda: operation.readable or operation.data)
    readable = operation.readable
    data = bytes(operation.data) + (bench.take(operation, 100) if readable else b"")
    after = bench.take(operation, 10)
    bench.end(operation)
    return before, readable, data, after


def datagrams_keep_their_bounds(bench):
    fd, peer = bench.pair(socket.SOCK_DGRAM)
    _, operation = bench.start("recv_from", fd)
    bench.turn()
    sent = [b"one", b"", b"three" * 100, b"4"]
    for data in sent:
        bench.peer_sends(fd, peer, data)
    bench.until(lambda: len(operation.pieces) == len(sent))
    bench.end(operation)
    return operation.pieces


def polls_once(bench):
    fd, peer = bench.pair()
    answer, operation = bench.start("poll", fd, select.POLLIN)
    bench.turn()
    still = operation.ended
    bench.ready(fd, peer)
    bench.until(lambda: operation.ended is not None)
    return answer, still, operation.ended, bench.cancel(operation)


def two_polls_for_different_events_of_one_descriptor(bench):
    fd, peer = bench.pair()
    _, reading = bench.start("poll", fd, select.POLLIN)
    _, again = bench.start("poll", fd, select.POLLPRI)
    bench.turn()
    bench.end(again)
    if bench.is_fake:
        bench.fake.complete(bench.fake.find("poll", fd), select.POLLIN)
    else:
        bench.ready(fd, peer)
    bench.until(lambda: reading.ended is not None)
    return reading.ended, again.ended in (None, CANCELED)


def time_passes(bench):
    _, operation = bench.start("timeout", u64(1_000_000))
    bench.until(lambda: operation.ended is not None)
    return operation.ended, operation.results


def watch_is_level_triggered_and_ends(bench):
    fd, peer = bench.pair()
    token = u64()

    def watch(events):
        owner = ctypes.c_void_p(77)
        return bench.table.watch(bench.driver, owner, fd, events, ctypes.byref(token))

    answers = [watch(select.EPOLLIN)]
    bench.turn()
    idle = list(bench.watched)
    bench.ready(fd, peer)
    bench.until(lambda: len(bench.watched) >= 2)
    told = set(bench.watched)
    answers.append(watch(0))
    bench.watched.clear()
    bench.turn()
    return answers, idle, told, bench.watched


def cancel_of_nobody(bench):
    return [
        bench.table.cancel(bench.driver, u64(token)) for token in (1 << 32 | 1, 7 << 40 | 3)
    ]


def closed_descriptor_is_closed(bench):
    fd, peer = bench.pair()
    copy = os.dup(fd)
    if bench.is_fake:
        bench.fake.reuse(copy)
    answer = bench.table.close(bench.driver, copy)
    try:
        os.fstat(copy)
    except OSError as error:
        return answer, error.errno
    return answer, None


def shutdown_ends_every_operation(bench):
    """Each with one terminal completion, none of which says that something came."""
    operations = []
    for _ in range(3):
        fd, _ = bench.pair()
        operations.append(bench.recv(fd))
    bench.turn()
    bench.table.shutdown(bench.driver)
    out = (RawCompletion * BATCH)()
    while count := bench.table.harvest(bench.driver, out, BATCH):
        for raw in out[:count]:
            bench.note(raw)
    return [operation.ended for operation in operations]


def outcome_of_a_send_that_is_taken_is_not_told_again(bench):
    fd, peer = bench.pair()
    operation = bench.send(fd, b"hello")
    if operation.ended is None:
        table, driver = bench.table, bench.driver
        bench.turn_without_harvest()
        taken = table.outcome(driver, operation.token, True)
        bench.turn()
        assert (operation.ended is None) == (taken >= 0)
        return taken if taken >= 0 else operation.ended, peer.recv(100)
    return operation.ended, peer.recv(100)


Bench.turn_without_harvest = lambda self: self.table.turn(self.driver, i64(0))

SCRIPTS = [
    receives_until_the_end,
    hears_of_the_end_once_more,
    idle_receive_that_is_cancelled_ends_with_nothing,
    cancel_that_races_with_data_loses_no_byte,
    second_cancel_finds_the_first_or_nobody,
    sends,
    held_stream_says_readable_and_is_taken,
    datagrams_keep_their_bounds,
    polls_once,
    two_polls_for_different_events_of_one_descriptor,
    time_passes,
    watch_is_level_triggered_and_ends,
    cancel_of_nobody,
    closed_descriptor_is_closed,
    shutdown_ends_every_operation,
    outcome_of_a_send_that_is_taken_is_not_told_again,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_fake_driver_answers_as_the_real_one(loop_kind, script):
    if loop_kind == "asyncio":
        pytest.skip("asyncio has no driver with our verbs")
    with bench_of("fake") as bench:
        told_by_fake = script(bench)
    with bench_of(loop_kind) as bench:
        told = script(bench)
    assert told_by_fake == told


@pytest.mark.parametrize("mode", ["race", "at_once"])
@pytest.mark.parametrize(
    "script",
    [
        idle_receive_that_is_cancelled_ends_with_nothing,
        cancel_that_races_with_data_loses_no_byte,
        second_cancel_finds_the_first_or_nobody,
    ],
    ids=lambda script: script.__name__,
)
def test_each_way_of_the_fake_driver_to_cancel_answers_as_a_real_one(loop_kind, script, mode):
    if loop_kind == "asyncio":
        pytest.skip("asyncio has no driver with our verbs")
    with bench_of("fake") as bench:
        bench.fake.cancel_mode = mode
        told_by_fake = script(bench)
    with bench_of(loop_kind) as bench:
        assert told_by_fake == script(bench)


def test_datagram_socket_that_has_ended_keeps_no_buffer_from_others(loop_kind):
    """Each receive of it ends with a buffer and without a datagram: the buffer must come back."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio has no driver with our verbs")
    with bench_of(loop_kind) as bench:
        ended, _ = bench.pair(socket.SOCK_DGRAM)
        bench.sockets[0].shutdown(socket.SHUT_RD)
        bench.start("recv_from", ended)
        for _ in range(600):
            bench.turn()
        fd, peer = bench.pair(socket.SOCK_DGRAM)
        _, operation = bench.start("recv_from", fd)
        bench.peer_sends(fd, peer, b"still received")
        bench.until(lambda: operation.pieces)
        assert operation.pieces == [b"still received"]
