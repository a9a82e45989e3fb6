"""What the contract tests share: running a coroutine, recording protocols, peers.

Knows only the public API of asyncio, so that it means the same on every loop.
Nothing here sleeps to get an order: events and real readiness decide.
"""

import asyncio
import contextlib
import gc
import os
import resource
import socket
import struct
import warnings

import pytest

# Long enough for a loaded machine; only a lost wake-up or a lost byte reaches it. Emulated or
# user-mode kernels are given longer.
PATIENCE_S = int(os.environ.get("TEST_PATIENCE_S", "30"))


def run(loop, coroutine):
    """Run to the end, within PATIENCE_S."""

    async def within_patience():
        return await asyncio.wait_for(coroutine, PATIENCE_S)

    return loop.run_until_complete(within_patience())


async def iterations(count):
    """Let the loop go round `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


class Condition:
    """Wakes waiters when a predicate over recorded state becomes true."""

    def __init__(self):
        self._waiters = []

    def changed(self):
        for predicate, future in self._waiters[:]:
            if not future.done() and predicate():
                future.set_result(None)

    async def until(self, predicate):
        if predicate():
            return
        entry = (predicate, asyncio.get_running_loop().create_future())
        self._waiters.append(entry)
        try:
            await asyncio.wait_for(entry[1], PATIENCE_S)
        finally:
            self._waiters.remove(entry)


class Noting:
    """What recording protocols share: `calls` in order, and waiting for them."""

    def __init__(self):
        self.calls = []
        self.transport = None
        self._condition = Condition()

    def _note(self, name):
        self.calls.append(name)
        self._condition.changed()

    async def until(self, predicate):
        await self._condition.until(predicate)

    async def until_called(self, name):
        await self.until(lambda: name in self.calls)

    def connection_made(self, transport):
        self.transport = transport
        self._note("connection_made")


class NotingWriting(Noting):
    """The same, of a protocol that is paused and resumed, and lost for a reason."""

    def __init__(self):
        super().__init__()
        self.lost = None
        self.pauses = 0
        self.resumes = 0

    def connection_lost(self, exc):
        self.lost = exc
        self._note("connection_lost")

    def pause_writing(self):
        self.pauses += 1
        self._note("pause_writing")

    def resume_writing(self):
        self.resumes += 1
        self._note("resume_writing")


class Recorder(NotingWriting, asyncio.Protocol):
    """Notes every call; `calls` in order, `data` joined."""

    def __init__(self, keep_open=False):
        super().__init__()
        self.data = bytearray()
        self.keep_open = keep_open

    async def until_size(self, size):
        await self.until(lambda: len(self.data) >= size)

    async def until_lost(self):
        await self.until_called("connection_lost")

    @property
    def names(self):
        """The calls, with runs of data_received written once."""
        short = []
        for name in self.calls:
            if name != "data_received" or short[-1:] != ["data_received"]:
                short.append(name)
        return short

    def data_received(self, data):
        assert type(data) is bytes
        assert data
        self.data += data
        self._note("data_received")

    def eof_received(self):
        self._note("eof_received")
        return self.keep_open


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same over get_buffer/buffer_updated, with a buffer of a chosen size."""

    def __init__(self, size=4096, keep_open=False):
        super().__init__(keep_open)
        self.buffer = bytearray(size)
        self.hints = []

    def data_received(self, data):
        raise AssertionError("data_received of a BufferedProtocol")

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes):
        assert 0 < nbytes <= len(self.buffer)
        self.data += self.buffer[:nbytes]
        self._note("buffer_updated")


class Echo(asyncio.Protocol):
    """Writes back what it gets."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Receiving:
    """What both kinds of peer do with what recv() gives, which is b"" at the end."""

    async def recv_exactly(self, size):
        parts = bytearray()
        while len(parts) < size:
            part = await self.recv(size - len(parts))
            assert part, f"the end after {len(parts)} of {size} bytes"
            parts += part
        return bytes(parts)

    async def recv_all(self):
        """Everything up to the end."""
        parts = bytearray()
        while part := await self.recv():
            parts += part
        return bytes(parts)


class Peer(Receiving):
    """The other end of a connection under test, as a plain socket.

    Reads and writes by readiness on the loop under test, so that the loop keeps
    turning meanwhile.
    """

    def __init__(self, sock):
        sock.setblocking(False)
        self.sock = sock

    async def _ready(self, add, remove):
        loop = asyncio.get_running_loop()
        ready = loop.create_future()
        add(self.sock, lambda: ready.done() or ready.set_result(None))
        try:
            await asyncio.wait_for(ready, PATIENCE_S)
        finally:
            remove(self.sock)

    async def readable(self):
        loop = asyncio.get_running_loop()
        await self._ready(loop.add_reader, loop.remove_reader)

    async def recv(self, size=65536):
        """At least one byte, or b"" at the end of the stream."""
        while True:
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                await self.readable()

    async def send_all(self, data):
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self._ready(loop.add_writer, loop.remove_writer)

    def reset(self):
        """Close with a reset instead of an end of stream (TCP only)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()


def tcp_pair():
    """Two connected blocking TCP sockets on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for sock in (one, other):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def small_buffers(*socks):
    """Kernel buffers small enough that a MiB always blocks.

    Smaller than a loopback segment (64 KiB) neither must be, or TCP waits for a timer each time: to
    acknowledge the one segment that the send buffer (twice what is asked for) has room for, 40 ms;
    and kernels before 6.12 or so pass on a segment into too small a receive buffer by a probe, five
    in a second.
    """
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)


PAIRS = {"tcp": tcp_pair, "unix": socket.socketpair}


@contextlib.asynccontextmanager
async def attached(protocol=None, pair=tcp_pair, small=False):
    """(transport, protocol, peer): a transport of the running loop and its plain peer."""
    loop = asyncio.get_running_loop()
    sock, other = pair()
    if small:
        small_buffers(sock, other)
    peer = Peer(other)
    protocol = Recorder() if protocol is None else protocol
    transport, made = await loop.create_connection(lambda: protocol, sock=sock)
    assert made is protocol
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        # abort() of a transport that is through raises on stock asyncio.
        rest = transport.get_extra_info("socket")
        if rest is not None and rest.fileno() != -1:
            transport.abort()
        await iterations(3)


@contextlib.asynccontextmanager
async def serving(factory, **options):
    """(server, address) of a TCP server on the loopback, closed with its connections."""
    loop = asyncio.get_running_loop()
    transports = []

    def tracked():
        protocol = factory()
        made = protocol.connection_made

        def connection_made(transport):
            transports.append(transport)
            made(transport)

        protocol.connection_made = connection_made
        return protocol

    server = await loop.create_server(tracked, "127.0.0.1", 0, **options)
    try:
        yield server, server.sockets[0].getsockname()
    finally:
        server.close()
        for transport in transports:
            transport.abort()
        await server.wait_closed()
        await iterations(3)


def answer_with(loop, addresses, local=()):
    """Make the loop's resolver answer with these, in order; `local` for the name "local"."""

    async def getaddrinfo(host, port, **options):
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, number),
            )
            for address, number in (local if host == "local" else addresses)
        ]

    loop.getaddrinfo = getaddrinfo


def never_answering():
    """A listener whose backlog is full, so that a further connect waits for ever."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(2):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(listener.getsockname())
        fillers.append(sock)
    return listener, fillers


# What the first releases of 3.11 lack; Debian 12's is one of them.
DATAGRAMS_PAUSE = (
    asyncio.selector_events._SelectorDatagramTransport.is_reading
    is not asyncio.ReadTransport.is_reading
)
PIPES_PAUSE = "is_reading" in vars(asyncio.unix_events._UnixReadPipeTransport)
PIPES_LACK = "pipes that are read do not say so, and begin to read when paused too early"


def oracle_lacks(loop_kind, condition, sentence):
    """Skip on stock asyncio of a Python where it lacks, or breaks, what ours must do."""
    if loop_kind == "asyncio" and condition:
        pytest.skip(f"stock asyncio of this Python: {sentence}")


@contextlib.contextmanager
def descriptors_below(limit):
    """The process can open no descriptor from this number on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def file_closings_end(meanwhile=lambda: None):
    """Wait for what goes on of files when close() was cancelled."""
    while any(task.get_coro().__name__ == "_close" for task in asyncio.all_tasks()):
        meanwhile()
        await asyncio.sleep(0.001)


@contextlib.contextmanager
def resource_warning(text):
    """A ResourceWarning that starts with `text` must come; others of the same cause may."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert all(issubclass(entry.category, ResourceWarning) for entry in caught)
    texts = [str(entry.message) for entry in caught]
    # They hold what they warn of, and since 3.15 something may hold them for longer.
    caught.clear()
    assert [found for found in texts if found.startswith(text)], texts
