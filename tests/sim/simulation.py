"""A loop on the fake driver, its wires, and protocols that know asyncio's contract.

The descriptors are real socket pairs, because the transport also makes plain
system calls (sendmsg, shutdown, getpeername): what it sends in either way ends
up in the same peer socket, in one order. What it receives is scripted.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

from fake_driver import FakeDriver

from uring_loop import _core
from uring_loop._internal import _helpers
from uring_loop._internal.streams import StreamTransport

_helpers.install_helpers()

# Fills a socket whose buffer is at the kernel's minimum, so that send(2) says EAGAIN.
_PLUG = b"\xee" * 8192
_SMALLEST, _LARGE = 1, 4 << 20


def is_open(number: int) -> bool:
    """Whether that is a descriptor of the process's."""
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


class Planned(Exception):
    """What a hostile caller raises on purpose."""


class SimLoop(_core.Loop):
    """The core with the few methods that it expects of Python's half."""

    # What comes back from the next call of that method.
    strike_from_time: Callable[[], object] | None = None
    strike_from_handler: Callable[[], object] | None = None

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.contexts: list[dict[str, Any]] = []
        self._attach(driver, driver.address, driver.table_address)

    def time(self) -> float:
        if self.strike_from_time is not None:
            strike, self.strike_from_time = self.strike_from_time, None
            strike()
        return self.driver.now

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not isinstance(context.get("exception"), Planned):
            self.contexts.append(context)
        if self.strike_from_handler is not None:
            strike, self.strike_from_handler = self.strike_from_handler, None
            strike()

    def _note_long(self, callback: object, ns: int) -> None:
        """On a busy machine any callback may be one of the longest."""


IORING_OP_OPENAT, IORING_OP_READ = 18, 22


class Wire:
    """A socket pair: the transport's end, and the peer who reads all that comes."""

    def __init__(self, driver: FakeDriver, from_number: int = 0) -> None:
        self.sock, self.peer = socket.socketpair()
        if from_number:
            with self.sock as low:
                number = fcntl.fcntl(low.fileno(), fcntl.F_DUPFD_CLOEXEC, from_number)
                self.sock = socket.socket(fileno=number)
        self.sock.setblocking(False)
        self.peer.setblocking(False)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGE)
        self.fd = self.sock.fileno()
        self.driver = driver
        self.is_blocked = False
        self.is_open = True
        self.eof = False
        self._received = bytearray()
        self._plugged = 0
        driver.reuse(self.fd)
        driver.outgoing[self.fd] = self.transmit

    @property
    def received(self) -> bytes:
        """What the peer has got so far."""
        self._drain()
        return bytes(self._received)

    def _drain(self) -> None:
        while not self.eof:
            try:
                data = self.peer.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self.eof = not data
            plug = min(self._plugged, len(data))
            assert data[:plug] == _PLUG[:plug]
            self._plugged -= plug
            self._received += data[plug:]

    def block(self) -> None:
        """From here on a plain send(2) says EAGAIN."""
        self._drain()
        if not self.is_blocked and not self.eof and self.fd not in self.driver.closed:
            end = socket.socket(fileno=self.fd)
            try:
                self._plugged = end.send(_PLUG)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALLEST)
            finally:
                end.detach()
            self.is_blocked = True

    def unblock(self) -> None:
        """From here on the kernel takes all it is offered."""
        self._drain()
        if self.is_blocked:
            self.is_blocked = False
            if self.fd not in self.driver.closed:
                end = socket.socket(fileno=self.fd)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGE)
                end.detach()

    def transmit(self, data: bytes) -> None:
        """What the kernel does with the bytes of a send operation."""
        blocked = self.is_blocked
        self.unblock()
        end = socket.socket(fileno=self.fd)
        try:
            while data:
                data = data[end.send(data, socket.MSG_NOSIGNAL) :]
                self._drain()
        except BrokenPipeError:
            pass  # the write side was shut down; the bytes are nobody's
        finally:
            end.detach()
        if blocked:
            self.block()

    @property
    def is_closed(self) -> bool:
        return self.fd in self.driver.closed

    def close(self) -> None:
        """The end of the test: both ends go."""
        self.driver.outgoing.pop(self.fd, None)
        if self.fd in self.driver.closed or self.sock.fileno() < 0:
            self.sock.detach()
        else:
            self.sock.close()
        self.peer.close()


class Recorder(asyncio.Protocol):
    """Notes what it hears; what asyncio's contract forbids is a violation.

    hooks: what to do in a method, by its name: called with the method's arguments.
    """

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.transport: StreamTransport | None = None
        self.received = bytearray()
        self.calls: list[str] = []
        self.heard: set[str] = set()  # the same, for who asks after each of thousands
        self.lost_with: BaseException | None = None
        self.keep_open = False
        self.write_paused = False
        self.read_paused = False
        # As asyncio's, a transport that is resumed receives again, and hears of an end again.
        self.has_resumed = False
        self.closing = False
        # As asyncio's TLS: of a close_notify that came with the last data, whatever that did.
        self.hears_end_while_paused = False
        self.hooks: dict[str, Callable[..., object]] = {}

    def _heard(self, name: str, *arguments: object) -> object:
        if "connection_lost" in self.heard:
            self.driver.violation(f"{name}() after connection_lost()")
        if name != "connection_made" and "connection_made" not in self.heard:
            self.driver.violation(f"{name}() before connection_made()")
        self.calls.append(name)
        self.heard.add(name)
        hook = self.hooks.get(name)
        return None if hook is None else hook(*arguments)

    def _check_reading(self, name: str) -> None:
        if "eof_received" in self.heard and not (name == "eof_received" and self.has_resumed):
            self.driver.violation(f"{name}() after eof_received()")
        if self.read_paused and not (name == "eof_received" and self.hears_end_while_paused):
            self.driver.violation(f"{name}() while reading is paused")
        if self.closing:
            self.driver.violation(f"{name}() after close() or abort()")

    @property
    def is_lost(self) -> bool:
        return "connection_lost" in self.heard

    # What the protocol does to its transport, noted for the checks.

    def pause(self) -> None:
        assert self.transport is not None
        self.transport.pause_reading()
        self.read_paused = not self.closing

    def resume(self) -> None:
        assert self.transport is not None
        self.read_paused = False
        self.has_resumed = True
        count = len(self.calls)
        self.transport.resume_reading()
        if len(self.calls) != count:
            self.driver.violation("resume_reading() called the protocol from inside")

    def close(self) -> None:
        assert self.transport is not None
        self.closing = True
        self.transport.close()

    def abort(self) -> None:
        assert self.transport is not None
        self.closing = True
        self.transport.abort()

    # What the transport calls.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._heard("connection_made", transport)

    def data_received(self, data: bytes) -> None:
        self._check_reading("data_received")
        if type(data) is not bytes or not data:
            self.driver.violation(f"data_received({data!r})")
        self.received += data
        self._heard("data_received", data)

    def eof_received(self) -> bool:
        self._check_reading("eof_received")
        self._heard("eof_received")
        self.closing = self.closing or not self.keep_open
        return self.keep_open

    def pause_writing(self) -> None:
        if self.write_paused:
            self.driver.violation("pause_writing() twice")
        self.write_paused = True
        self._heard("pause_writing")

    def resume_writing(self) -> None:
        if not self.write_paused:
            self.driver.violation("resume_writing() without pause_writing()")
        self.write_paused = False
        self._heard("resume_writing")

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost_with = error
        self._heard("connection_lost", error)


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same over get_buffer(), a few bytes at a time."""

    def __init__(self, driver: FakeDriver, size: int = 4) -> None:
        super().__init__(driver)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint: int) -> bytearray:
        if "get_buffer" in self.hooks:
            self.hooks["get_buffer"](sizehint)
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        # data_received() does the checks; the core must not call that itself.
        super().data_received(bytes(self.buffer[:count]))

    def data_received(self, data: bytes) -> None:
        self.driver.violation("data_received() of a BufferedProtocol")


class Sim:
    """One simulation: a driver, a loop, and the connections made so far."""

    def __init__(self) -> None:
        self.driver = FakeDriver()
        self.loop = SimLoop(self.driver)
        self.wires: list[Wire] = []
        self.connections: list[tuple[weakref.ref[StreamTransport], Wire]] = []

    def wire(self, from_number: int = 0) -> Wire:
        """from_number: the least number of its descriptor, if it is to be nobody's before."""
        wire = Wire(self.driver, from_number)
        self.wires.append(wire)
        return wire

    def request(self, callback: Callable[..., object], keep: object = None, opens: bool = False):
        """A request of Python's, and its operation in the driver."""
        opcode = IORING_OP_OPENAT if opens else IORING_OP_READ
        request = self.loop._request(callback, keep, (opcode, 3, 0, 0, 0, 0))
        return request, list(self.driver.operations.values())[-1]

    def connect(
        self, kind: type[Recorder] = Recorder, start: bool = True, **options: Any
    ) -> tuple[StreamTransport, Recorder, Wire]:
        """A transport that has started reading (or, start=False, is only made)."""
        wire = self.wire()
        protocol = kind(self.driver, **options)
        transport = StreamTransport(self.loop, wire.sock.detach(), protocol)
        self.connections.append((weakref.ref(transport), wire))
        if start:
            self.turns(1)
            assert protocol.calls[0] == "connection_made"
        return transport, protocol, wire

    def run(self) -> None:
        """Until somebody calls loop.stop()."""
        try:
            self.loop._run()
        finally:
            self.driver.check()

    def turns(self, count: int) -> None:
        """Run that many turns of the loop."""
        left = count

        def tick() -> None:
            nonlocal left, handle
            left -= 1
            if left > 0:
                handle = self.loop.call_soon(tick)
            else:
                self.loop.stop()

        handle = self.loop.call_soon(tick)
        try:
            self.run()
        finally:
            # Of a run that was interrupted: it must not stop the next one.
            handle.cancel()

    def within(self, function: Callable[..., object], *arguments: object) -> None:
        """Call it inside the running loop; one more turn takes what it queued to the driver."""
        raised: list[BaseException] = []

        def call() -> None:
            try:
                function(*arguments)
            except Exception as error:
                raised.append(error)

        self.loop.call_soon(call)
        self.turns(2)
        if raised:
            raise raised[0]

    def settle(self, limit: int = 200) -> None:
        """Turn until neither the driver nor the loop has anything to do."""
        for _ in range(limit):
            self.turns(2)
            if not self.driver.has_work() and self.loop._ready_count == 0:
                self.turns(2)
                if not self.driver.has_work() and self.loop._ready_count == 0:
                    return
        raise AssertionError("the simulation does not come to rest")

    def finish(self) -> None:
        """Abort what is still open: whatever happened before, that must work."""
        self.driver.hold_sends = False
        if self.driver.cancel_mode == "manual":
            self.driver.cancel_mode = "later"
        for reference, _ in self.connections:
            transport = reference()
            if transport is not None:
                transport.abort()
        del transport
        self.settle()
        for reference, wire in self.connections:
            transport = reference()
            assert transport is None or transport._state == "closed"
            assert wire.is_closed, "the descriptor was not closed"

    def close(self) -> None:
        """End it; nothing may be left."""
        try:
            if not self.loop.is_closed() and self.connections:
                self.finish()
        finally:
            self._close()

    def _close(self) -> None:
        self.loop._close()
        try:
            self.driver.check()
            assert self.driver.operations == {}, "operations outlive the loop"
            assert self.driver.lent == {}, "lent buffers outlive the loop"
            assert self.loop.contexts == [], "unexpected calls of the exception handler"
        finally:
            for wire in self.wires:
                wire.close()
            self.loop.contexts = []
