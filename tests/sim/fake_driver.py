"""A driver whose completions the test decides: all of struct ul_table, in Python.

Owns the operations in flight, the lent buffers and a virtual clock, and checks
the core's side of the contract in driver.h: borrowed memory stays unchanged,
lent buffers come back exactly once, a descriptor is closed once and only when
nothing names it, nobody waits for ever for nothing. What the core did wrong is
kept in `violations` (an exception cannot cross C) and raised by check().

Knows nothing of transports or loops. Bytes that a send operation carries go to
the function registered for the descriptor; see simulation.Wire.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import random
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MORE = 1 << 0
LENT = 1 << 1
WATCH = 1 << 2
KEEP = 1 << 3
READABLE = 1 << 4
FOLLOWED = 1 << 5

# Of the core: a smaller harvest is none of a new batch.
BATCH = 64
FOREVER = -1
STARTED = -errno.EINPROGRESS
CANCELED = -errno.ECANCELED
# What a recycled buffer is overwritten with: nobody may read it any more.
POISON = 0xDD

pointer = ctypes.c_void_p
token_pointer = ctypes.POINTER(ctypes.c_uint64)
i32, u32, i64, u64 = ctypes.c_int, ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64


class RawCompletion(ctypes.Structure):
    """struct ul_completion"""

    _fields_ = [
        ("owner", pointer),
        ("token", u64),
        ("result", ctypes.c_int32),
        ("flags", u32),
        ("data", pointer),
        ("address", pointer),
        ("address_size", u32),
    ]


class Vector(ctypes.Structure):
    """struct iovec"""

    _fields_ = [("base", pointer), ("size", ctypes.c_size_t)]


# The verbs in the order of struct ul_table: name, type of the result, types of the parameters.
_operation = (pointer, pointer, i32)
VERBS: tuple[tuple[str, type | None, tuple[type, ...]], ...] = (
    ("begin", i32, (pointer,)),
    ("end", None, (pointer,)),
    ("turn", i32, (pointer, i64)),
    ("immediate", ctypes.c_bool, (pointer,)),
    ("harvest", i32, (pointer, ctypes.POINTER(RawCompletion), i32)),
    ("wake", None, (pointer,)),
    ("recycle", None, (pointer, pointer)),
    ("recv", i32, (*_operation, i32, token_pointer)),
    ("take", i32, (pointer, u64, ctypes.POINTER(Vector), u32)),
    ("hold", None, (pointer, u64, ctypes.c_bool)),
    ("recv_from", i32, (*_operation, token_pointer)),
    ("send", i32, (*_operation, ctypes.POINTER(Vector), u32, token_pointer)),
    ("accept", i32, (*_operation, ctypes.c_bool, token_pointer)),
    ("connect", i32, (*_operation, pointer, u32, token_pointer)),
    ("poll", i32, (*_operation, u32, token_pointer)),
    ("timeout", i32, (pointer, pointer, u64, token_pointer)),
    ("splice", i32, (pointer, pointer, i32, i64, i32, i64, u32, u32, token_pointer)),
    ("submit", i32, (pointer, pointer, pointer, token_pointer)),
    ("cancel", i32, (pointer, u64)),
    ("outcome", i32, (pointer, u64, ctypes.c_bool)),
    ("released", ctypes.c_bool, (pointer, u64)),
    ("close", i32, (pointer, i32)),
    ("watch", i32, (*_operation, u32, token_pointer)),
    ("shutdown", None, (pointer,)),
    ("destroy", None, (pointer,)),
    ("statistics", pointer, (pointer,)),
)


class RawTable(ctypes.Structure):
    """struct ul_table"""

    _fields_ = [
        ("size", u32),
        ("abi", u32),
        ("name", ctypes.c_char_p),
        ("eager_send_bytes", ctypes.c_uint32),
        ("receives_in_turn", ctypes.c_bool),
        *((name, ctypes.CFUNCTYPE(result, *parameters)) for name, result, parameters in VERBS),
    ]


@functools.cache
def load_shim() -> ctypes.PyDLL | None:
    """shim.c, compiled; None where there is no compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory, "shim.so")
        command = [*compiler.split(), "-shared", "-fPIC", "-std=gnu11", "-O1", "-g"]
        command += [f"-I{here.parents[1] / 'csrc' / 'driver'}"]
        subprocess.run([*command, str(here / "shim.c"), "-o", str(library)], check=True)
        shim = ctypes.PyDLL(str(library))
    for name, ours in (
        ("sim_table_size", ctypes.sizeof(RawTable)),
        ("sim_completion_size", ctypes.sizeof(RawCompletion)),
    ):
        theirs = u32.in_dll(shim, name).value
        assert ours == theirs, f"{name}: fake_driver.py says {ours}, driver.h says {theirs}"
    shim.sim_new.restype = pointer
    shim.sim_new.argtypes = [pointer]
    shim.sim_free.argtypes = [pointer]
    return shim


@dataclass(eq=False)
class Operation:
    """An operation that the core started and whose terminal completion it has not got."""

    token: int
    verb: str
    owner: int | None
    fd: int
    # What is borrowed until the end: (address, its bytes when the verb was called).
    borrowed: list[tuple[int, bytes]] = field(default_factory=list)
    events: int = 0  # of a poll
    duration_ns: int = 0  # of a timeout
    cancelling: bool = False
    ended: bool = False  # its terminal completion is made, though not harvested
    readable: bool = False  # it said READABLE, and waits for take()
    held: bool = False  # nothing is received but by take()
    held_for_good: bool = False

    @property
    def size(self) -> int:
        return sum(len(content) for _, content in self.borrowed)

    @property
    def content(self) -> bytes:
        return b"".join(content for _, content in self.borrowed)

    def memory(self) -> bytes:
        """The borrowed bytes as they are now, as the kernel would read them."""
        return b"".join(
            ctypes.string_at(address, len(content)) for address, content in self.borrowed
        )


@dataclass(eq=False)
class Completion:
    """One entry for harvest()."""

    operation: Operation | None
    result: int
    flags: int = 0
    data: bytes | None = None
    address: bytes | None = None  # recv_from: the sender's struct sockaddr
    watch: tuple[int, int, int] | None = None  # fd, owner, token


# Bytes, a datagram with its sender's struct sockaddr, or what ends a stream (0 or -errno).
Arrival = bytes | tuple[bytes, bytes] | int
STREAMS = ("recv", "recv_from", "accept")


class Deadlock(AssertionError):
    """The core waits without an end, and nothing will ever happen."""


class FakeDriver:
    """The driver, and the test's hand on it.

    at_once(operation) is asked by each send: a result >= 0 or -errno ends it
    inside the verb, STARTED (the default) lets it run. hold_sends keeps started
    sends in flight until the test calls sent(). Receives of a descriptor in `bulk`,
    and those that hold() was called for, say READABLE and wait for take(); take_result
    replaces the answer of the next one. cancel_mode is what cancel()
    does: "later" (ends with ECANCELED in the next turn), "race" (what arrived
    wins, without MORE), "at_once" (0: gone), "manual" (the test calls end()).
    """

    def __init__(self) -> None:
        self.violations: list[BaseException] = []
        self.operations: dict[int, Operation] = {}
        self.history: list[Operation] = []
        self.found: deque[Completion] = deque()
        self.pending: list[Completion] = []
        self.inbox: dict[int, deque[Arrival]] = {}
        self.at_end: set[int] = set()  # of a stream: whoever receives again hears of it again
        self.watches: dict[int, tuple[int, int, int]] = {}  # fd -> owner, events, token
        self.ready: dict[int, int] = {}  # fd -> EPOLL* bits that hold now, level-triggered
        self.lent: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.recycled: list[ctypes.Array[ctypes.c_char]] = []
        self.closed: list[int] = []
        self.outgoing: dict[int, Callable[[bytes], None]] = {}
        self.refusals: dict[str, int] = {}  # verb -> -errno with which it fails at once
        self.at_once: Callable[[Operation], int] = lambda operation: STARTED
        self.hold_sends = False
        self.bulk: set[int] = set()
        self.take_result: int | None = None
        self.takes = 0
        self.cancel_mode = "later"
        self.harvest_limit: Callable[[], int] = lambda: 64
        self.random: random.Random | None = None
        self.on_turn: deque[Callable[[int], None]] = deque()
        self.interrupted_turns = 0
        self.now_ns = 1_000_000_000_000
        self.turns = 0
        self.slept = 0
        self.wakes = 0
        self.woken = False
        self.running = False
        self.is_shut_down = False
        self._generation = 0
        self._build_table()

    # ---- the table ----

    def _build_table(self) -> None:
        # A type whose every method is a C function pointer keeps nothing alive: we do.
        self._table = RawTable()
        self._table.size = ctypes.sizeof(RawTable)
        self._table.abi = 14
        self._table.name = b"fake"
        self._table.eager_send_bytes = 2**32 - 1
        self._table.receives_in_turn = True
        for name, result, parameters in VERBS:
            prototype = ctypes.CFUNCTYPE(result, *parameters)
            function = getattr(self, f"_{name}", None)
            if function is None:
                function = functools.partial(self._unexpected, name)
            setattr(self._table, name, prototype(self._guarded(function, result)))
        shim = load_shim()
        assert shim is not None
        self._shim = shim
        self.address = shim.sim_new(ctypes.addressof(self._table))
        # struct ul_driver begins with the pointer to the table.
        self.table_address = ctypes.cast(self.address, ctypes.POINTER(pointer))[0]
        # What the core sees; of its values a test may change those that are no verbs.
        self.table = RawTable.from_address(self.table_address)

    def _guarded(self, function: Callable[..., object], result: type | None) -> Callable:
        # The cycle table -> callback -> driver is what free() cuts.
        def call(driver: int, *arguments: object) -> object:
            try:
                return function(*arguments)
            except BaseException as error:
                self.violations.append(error)
                return None if result is None else -errno.EIO

        return call

    def _unexpected(self, name: str, *arguments: object) -> int:
        raise AssertionError(f"the core called {name}(), which the fake driver does not play")

    def free(self) -> None:
        """Give the memory back. The core has let go of the driver."""
        self._shim.sim_free(self.address)
        self.address = 0
        del self._table

    def check(self) -> None:
        """Raise what the core did wrong, if it did."""
        if self.violations:
            first, self.violations[:] = self.violations[0], []
            raise first

    def violation(self, message: str) -> None:
        self.violations.append(AssertionError(message))

    # ---- the test's hand ----

    @property
    def now(self) -> float:
        return self.now_ns / 1e9

    def find(self, verb: str, fd: int) -> Operation | None:
        """The operation of this kind that is in flight on `fd`; there is at most one."""
        found = [
            operation
            for operation in self.operations.values()
            if operation.verb == verb and operation.fd == fd
        ]
        if len(found) > 1:
            self.violation(f"{len(found)} operations {verb} on descriptor {fd}")
        return found[0] if found else None

    def arrive(self, fd: int, *items: Arrival) -> None:
        """What the peer did, in order; for a listener, accepted descriptors."""
        self.inbox.setdefault(fd, deque()).extend(items)

    def complete(
        self,
        operation: Operation,
        result: int,
        flags: int = 0,
        data: bytes | None = None,
        address: bytes | None = None,
    ) -> None:
        """A completion for the next turn."""
        assert not operation.ended
        self.pending.append(Completion(operation, result, flags, data, address))
        if not flags & MORE:
            operation.ended = True

    def sent(self, fd: int, result: int | None = None, flags: int = 0) -> None:
        """End the send in flight on `fd`: `result` bytes (all by default) or -errno."""
        operation = self.find("send", fd)
        assert operation is not None
        if result is None:
            result = operation.size
        if result > 0:
            self._transmit(operation, result)
        self.complete(operation, result, flags)

    def end(self, operation: Operation, race: bool = False) -> None:
        """The terminal completion of a cancelled operation."""
        inbox = self.inbox.get(operation.fd)
        if race and operation.verb in STREAMS and inbox and not operation.readable:
            self._complete_from_inbox(operation, inbox.popleft(), more=False)
        elif race and operation.verb == "send":
            self._transmit(operation, operation.size)
            self.complete(operation, operation.size)
        else:
            self.complete(operation, CANCELED)

    def has_work(self) -> bool:
        """Whether a turn would find something."""
        if self.found or self.pending or self._streams_ready() or self._watches_ready():
            return True
        return not self.hold_sends and any(
            operation.verb == "send" and not operation.ended
            for operation in self.operations.values()
        )

    def on_descriptor(self, fd: int) -> list[Operation]:
        return [operation for operation in self.operations.values() if operation.fd == fd]

    # ---- bookkeeping ----

    def _start(
        self,
        verb: str,
        owner: int | None,
        fd: int,
        token: ctypes._Pointer[u64],
        borrowed: list[tuple[int, bytes]] | None = None,
        events: int = 0,
    ) -> int:
        token[0] = 0
        if fd in self.closed:
            raise AssertionError(f"{verb}() names descriptor {fd}, which is closed")
        if verb in self.refusals:
            return self.refusals[verb]
        if verb in ("send", *STREAMS) and self.find(verb, fd) is not None:
            raise AssertionError(f"a second {verb}() on descriptor {fd} while one is in flight")
        if verb == "poll" and any(
            known.verb == "poll"
            and known.events == events
            and not known.cancelling
            and not known.ended
            for known in self.on_descriptor(fd)
        ):
            raise AssertionError(f"a second poll() for the same events of descriptor {fd}")
        self._generation += 1
        operation = Operation(
            self._generation << 32 | self._generation & 0xFF | 1, verb, owner, fd, borrowed or []
        )
        operation.events = events
        if verb == "send":
            result = self.at_once(operation)
            if result != STARTED:
                if result > 0:
                    self._transmit(operation, result)
                return result
        self.operations[operation.token] = operation
        self.history.append(operation)
        token[0] = operation.token
        return STARTED

    def _transmit(self, operation: Operation, size: int) -> None:
        """The kernel takes `size` bytes, from the memory as it is now."""
        memory = operation.memory()
        if memory != operation.content:
            raise AssertionError(f"the memory of a send on {operation.fd} changed in flight")
        if operation.fd in self.outgoing:
            self.outgoing[operation.fd](memory[:size])

    def _complete_from_inbox(self, operation: Operation, item: Arrival, more: bool) -> None:
        if isinstance(item, tuple):
            self.complete(operation, len(item[0]), LENT | (MORE if more else 0), *item)
        elif isinstance(item, bytes):
            self.complete(operation, len(item), LENT | (MORE if more else 0), item)
        elif operation.verb == "accept":
            self.complete(operation, item, MORE if more and item >= 0 else 0)
        else:
            if operation.verb == "recv" and item == 0:
                self.at_end.add(operation.fd)
            self.complete(operation, item)

    def _has_arrived(self, operation: Operation) -> bool:
        if operation.verb == "recv" and operation.fd in self.at_end:
            inbox = self.inbox.setdefault(operation.fd, deque())
            if not inbox:
                inbox.append(0)
        return bool(self.inbox.get(operation.fd))

    def _streams_ready(self) -> list[Operation]:
        return [
            operation
            for operation in self.operations.values()
            if operation.verb in STREAMS
            and not operation.cancelling
            and not operation.ended
            and not operation.readable
            and self._has_arrived(operation)
        ]

    def _watches_ready(self) -> list[int]:
        # As epoll: errors and hang-ups are reported to whoever watches.
        return [
            fd
            for fd, (_, events, _) in self.watches.items()
            if self.ready.get(fd, 0) & (events | 0x18)
        ]

    def _collect(self) -> None:
        """Make the completions of this turn."""
        for operation in self._streams_ready():
            inbox = self.inbox[operation.fd]
            if operation.verb == "recv" and (operation.held or operation.fd in self.bulk):
                operation.readable = True
                self.complete(operation, 0, READABLE | MORE)
                continue
            while inbox and not operation.ended:
                self._complete_from_inbox(operation, inbox.popleft(), more=True)
        for operation in list(self.operations.values()):
            if operation.verb == "send" and not operation.ended and not self.hold_sends:
                size = operation.size
                if self.random is not None:
                    size = self.random.randint(1, size)
                self._transmit(operation, size)
                self.complete(operation, size)
        for operation in list(self.operations.values()):
            if operation.cancelling and not operation.ended and self.cancel_mode != "manual":
                self.end(operation, race=self.cancel_mode == "race")
        found, self.pending = self.pending, []
        if self.random is not None:
            found = self._shuffled(found)
        self.found.extend(found)
        for fd in self._watches_ready():
            owner, events, token = self.watches[fd]
            bits = self.ready[fd] & (events | 0x18)
            self.found.append(Completion(None, bits, WATCH, watch=(fd, owner, token)))

    def _shuffled(self, completions: list[Completion]) -> list[Completion]:
        """Any order between operations; within one operation the order stays."""
        assert self.random is not None
        owners = [completion.operation for completion in completions]
        self.random.shuffle(owners)
        queues: dict[Operation | None, deque[Completion]] = {}
        for completion in completions:
            queues.setdefault(completion.operation, deque()).append(completion)
        return [queues[owner].popleft() for owner in owners]

    # ---- the verbs ----

    def _begin(self) -> int:
        assert not self.running, "begin() inside begin()"
        self.running = True
        return 0

    def _end(self) -> None:
        assert self.running, "end() without begin()"
        self.running = False

    def _turn(self, timeout_ns: int) -> int:
        assert self.running, "turn() outside begin() and end()"
        self.turns += 1
        if timeout_ns != 0 and self.found:
            raise Deadlock("the core sleeps while completions of the last turn are unharvested")
        if self.on_turn:
            self.on_turn.popleft()(timeout_ns)
        if self.interrupted_turns:
            self.interrupted_turns -= 1
            return 0
        self._collect()
        if self.found or timeout_ns == 0:
            return 0
        self.slept += 1
        if self.woken:
            self.woken = False
        elif timeout_ns == FOREVER:
            raise Deadlock("the core waits for ever, but nothing is going to happen")
        else:
            self.now_ns += timeout_ns
        return 0

    def _immediate(self) -> bool:
        return bool(self.found)

    def _harvest(self, out: ctypes._Pointer[RawCompletion], capacity: int) -> int:
        count = 0
        # What was lent in the previous harvest has been dispatched by now, unless this one only
        # fills what a stream has left of a batch.
        if self.lent and capacity == BATCH:
            held = [bytes(buffer) for buffer in self.lent.values()]
            raise AssertionError(f"lent buffers were not recycled after their dispatch: {held}")
        latest: dict[int, int] = {}  # token of a recv -> where its latest bytes are
        limit = min(capacity, max(1, self.harvest_limit()))
        while self.found and count < limit:
            completion = self.found.popleft()
            if completion.watch is not None:
                fd, owner, token = completion.watch
                if self.watches.get(fd, (0, 0, 0))[2] != token:
                    continue  # unwatched since: never returned
                out[count] = RawCompletion(owner, token, completion.result, WATCH)
            else:
                operation = completion.operation
                assert operation is not None
                if not completion.flags & MORE:
                    if operation.memory() != operation.content and not completion.flags & KEEP:
                        raise AssertionError("borrowed memory changed before the end")
                    del self.operations[operation.token]
                out[count] = RawCompletion(
                    operation.owner, operation.token, completion.result, completion.flags
                )
                if operation.verb == "recv" and completion.flags & LENT:
                    if completion.flags & MORE and operation.token in latest:
                        out[latest[operation.token]].flags |= FOLLOWED
                    latest[operation.token] = count
                if completion.data is not None:
                    data, address = completion.data, completion.address or b""
                    # As a struct sockaddr wants to lie.
                    data += bytes(-len(data) % 8)
                    out[count].data = self._lend(data + address)
                    if address:
                        out[count].address = out[count].data + len(data)
                        out[count].address_size = len(address)
            count += 1
        return count

    def _lend(self, data: bytes) -> int:
        buffer = ctypes.create_string_buffer(data, len(data))
        address = ctypes.addressof(buffer)
        self.lent[address] = buffer
        return address

    def _wake(self) -> None:
        self.wakes += 1
        self.woken = True

    def _recycle(self, data: int) -> None:
        buffer = self.lent.pop(data, None)
        assert buffer is not None, "recycle() of what is not lent (or not any more)"
        ctypes.memset(data, POISON, len(buffer))
        # Kept, so that whoever still reads it finds poison and not other memory.
        self.recycled.append(buffer)

    def _recv(self, owner: int, fd: int, kind: int, token: ctypes._Pointer[u64]) -> int:
        return self._start("recv", owner, fd, token)

    def _take(self, token: int, vectors: ctypes._Pointer[Vector], count: int) -> int:
        self.takes += 1
        operation = self.operations.get(token)
        if operation is None or not operation.readable or operation.ended or operation.cancelling:
            return -errno.ENOENT
        if any(c.operation is operation for c in (*self.found, *self.pending)):
            raise AssertionError("take() before the completion that asks for it")
        operation.readable = False
        operation.held = operation.held_for_good
        inbox = self.inbox[operation.fd]
        result, self.take_result = self.take_result, None
        if result is None and not inbox:
            result = -errno.EAGAIN
        if result is None and not isinstance(inbox[0], bytes):
            result = inbox.popleft()
            if result == 0:
                self.at_end.add(operation.fd)
        if result is None:
            return self._scatter(inbox, vectors, count)
        if result != -errno.EAGAIN:
            del self.operations[token]
        return result

    def _hold(self, token: int, for_good: bool) -> None:
        operation = self.operations.get(token)
        if operation is None or operation.verb != "recv":
            return
        operation.held = True
        operation.held_for_good = for_good

    def _scatter(
        self, inbox: deque[Arrival], vectors: ctypes._Pointer[Vector], count: int
    ) -> int:
        """As recvmsg(2): all the bytes that are there, or as many as there is room for."""
        assert count > 0, "a take() of nothing"
        total = 0
        for i in range(count):
            assert vectors[i].size > 0, "an empty piece in a take()"
            filled = 0
            while filled < vectors[i].size and inbox and isinstance(inbox[0], bytes):
                item = inbox.popleft()
                piece = item[: vectors[i].size - filled]
                ctypes.memmove(vectors[i].base + filled, piece, len(piece))
                filled += len(piece)
                if len(piece) < len(item):
                    inbox.appendleft(item[len(piece) :])
            total += filled
        return total

    def _recv_from(self, owner: int, fd: int, token: ctypes._Pointer[u64]) -> int:
        return self._start("recv_from", owner, fd, token)

    def _poll(self, owner: int, fd: int, events: int, token: ctypes._Pointer[u64]) -> int:
        return self._start("poll", owner, fd, token, events=events)

    def _timeout(self, owner: int, duration_ns: int, token: ctypes._Pointer[u64]) -> int:
        status = self._start("timeout", owner, -1, token)
        if status == STARTED:
            self.operations[token[0]].duration_ns = duration_ns
        return status

    def _accept(self, owner: int, fd: int, shared: bool, token: ctypes._Pointer[u64]) -> int:
        return self._start("accept", owner, fd, token)

    def _send(
        self,
        owner: int,
        fd: int,
        vectors: ctypes._Pointer[Vector],
        count: int,
        token: ctypes._Pointer[u64],
    ) -> int:
        assert count > 0, "a send of nothing"
        borrowed = []
        for i in range(count):
            assert vectors[i].size > 0, "an empty piece in a send"
            content = ctypes.string_at(vectors[i].base, vectors[i].size)
            borrowed.append((vectors[i].base, content))
        return self._start("send", owner, fd, token, borrowed)

    def _connect(
        self, owner: int, fd: int, address: int, size: int, token: ctypes._Pointer[u64]
    ) -> int:
        return self._start("connect", owner, fd, token)

    def _submit(self, owner: int, request: int, token: ctypes._Pointer[u64]) -> int:
        # struct ul_request begins with the opcode and the descriptor.
        return self._start("submit", owner, i32.from_address(request + 4).value, token)

    def _cancel(self, token: int) -> int:
        operation = self.operations.get(token)
        if operation is None:
            return -errno.ENOENT
        if operation.ended or operation.cancelling:
            return STARTED
        if self.cancel_mode == "at_once":
            # What was found but not harvested goes back to the kernel: nothing is lost.
            mine = [c for c in (*self.found, *self.pending) if c.operation is operation]
            self.found = deque(c for c in self.found if c.operation is not operation)
            self.pending = [c for c in self.pending if c.operation is not operation]
            back: list[Arrival] = [
                c.result if c.data is None else c.data if c.address is None else (c.data, c.address)
                for c in mine
                if not c.flags & READABLE
            ]
            self.inbox.setdefault(operation.fd, deque()).extendleft(reversed(back))
            del self.operations[token]
            return 0
        operation.cancelling = True
        return STARTED

    def _outcome(self, token: int, take: bool) -> int:
        operation = self.operations.get(token)
        if operation is None or operation.verb != "send" or operation.cancelling:
            return STARTED
        for queue in (self.found, self.pending):
            for completion in queue:
                if completion.operation is operation and completion.result >= 0:
                    assert not completion.flags
                    if take:
                        queue.remove(completion)
                        del self.operations[token]
                    return completion.result
        return STARTED

    def _released(self, token: int) -> bool:
        operation = self.operations.get(token)
        return operation is None or operation.ended

    def _close(self, fd: int) -> int:
        left = [operation.verb for operation in self.on_descriptor(fd) if not operation.ended]
        assert not left, f"close({fd}) while {left} are in flight"
        assert fd not in self.closed, f"close({fd}) for the second time"
        self.closed.append(fd)
        os.close(fd)
        return 0

    def _watch(self, owner: int, fd: int, events: int, token: ctypes._Pointer[u64]) -> int:
        token[0] = 0
        if events == 0:
            self.watches.pop(fd, None)
            return 0
        if "watch" in self.refusals:
            return self.refusals["watch"]
        known = self.watches.get(fd)
        if known is None:
            self._generation += 1
            number = 1 << 63 | self._generation << 32 | fd + 1
        else:
            number = known[2]
        self.watches[fd] = (owner, events, number)
        token[0] = number
        return 0

    def _shutdown(self) -> None:
        self.is_shut_down = True
        for operation in list(self.operations.values()):
            if not operation.ended:
                self.complete(operation, CANCELED)
        self.found.extend(self.pending)
        self.pending = []
        self.watches.clear()

    def reuse(self, fd: int) -> None:
        """The number `fd` names a new file from here on."""
        with contextlib.suppress(ValueError):
            self.closed.remove(fd)
        self.at_end.discard(fd)
        self.inbox.pop(fd, None)
