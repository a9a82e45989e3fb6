"""child.py PATH FIRST STEP: lets allocations of a path fail, one in each round.

From the FIRST on each STEP-th, until a round makes fewer. After each round: the failure was told
(raised, or given to a handler), unless all went well; the loop does everything; no descriptor, no
operation and no transport is left. Run under malloc.c, with PYTHONMALLOC=malloc.

Prints `rounds allocations failures`, or what was found.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import operator
import os
import socket
import ssl
import sys
import weakref

import uring_loop
from uring_loop import files

faults = ctypes.PyDLL(None)
faults.faults_arm.argtypes = [ctypes.c_long]
faults.faults_disarm.restype = ctypes.c_long

# Nothing takes so long but what was lost; it is found to be lost, or the test fails.
PATIENCE_S = 10.0
# After the failure was told what is still on its way gets so long.
SETTLE_S = 0.005
# A task that was cancelled ends at once, or never: what was to wake it is lost with its allocation.
CANCELLED_S = 1.0

# The interpreter could not make a task's step: the task has ended without having run, and what
# it was about to be given is lost, on any loop.
LOST = "TaskStepMethWrapper"


def disarm():
    """How many allocations there were; the last of them may be this call's own."""
    while True:
        try:
            return faults.faults_disarm()
        except MemoryError:
            pass


class Context(ssl.SSLContext):
    """Whose own allocations succeed: without memory for OpenSSL's SSL _wrap_bio() itself crashes.

    It looks for the module of an object that it has freed (CPython 3.11 to 3.13, _ssl.c,
    newPySSLSocket).
    """

    def _wrap_bio(self, *args, **kwargs):
        faults.faults_spare(1)
        try:
            return super()._wrap_bio(*args, **kwargs)
        finally:
            faults.faults_spare(0)


told = []
transports = weakref.WeakSet()


class Reader(asyncio.Protocol):
    """Counts, and wakes who waits for so many bytes."""

    def __init__(self):
        self.size = 0
        self.wanted = None
        self.transport = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transports.add(transport)

    def data_received(self, data):
        self.size += len(data)
        self.look()

    def look(self):
        if self.wanted is not None and self.size >= self.wanted[0] and not self.wanted[1].done():
            self.wanted[1].set_result(None)

    def connection_lost(self, exc):
        if exc is not None:
            told.append(repr(exc))
        if not self.lost.done():
            self.lost.set_result(None)
        if self.wanted is not None and not self.wanted[1].done():
            self.wanted[1].set_exception(ConnectionResetError("lost"))

    async def until(self, size):
        future = asyncio.get_running_loop().create_future()
        self.wanted = (size, future)
        self.look()
        if self.lost.done() and not future.done():
            future.set_exception(ConnectionResetError("lost"))
        await future


class Buffered(Reader, asyncio.BufferedProtocol):
    def get_buffer(self, hint):
        self.memory = bytearray(16_384)
        return self.memory

    def buffer_updated(self, count):
        self.size += count
        self.look()


class Echo(Reader):
    def data_received(self, data):
        self.transport.write(data)


async def connected(factory=Reader):
    """A transport, and the plain socket at its other end."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as stack:
        stack.callback(theirs.close)
        theirs.setblocking(False)
        transport, protocol = await loop.create_connection(factory, sock=ours)
        stack.pop_all()
    return transport, protocol, theirs


# ---- paths: what is prepared without a failure, what runs with one -----------------------


@contextlib.asynccontextmanager
async def accept():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()

    async def path():
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, address)
            await loop.sock_sendall(client, b"hello")
            # An end is an answer too: that connection was not to be had.
            got = await loop.sock_recv(client, 10)
            if got != b"hello":
                told.append("end")

    yield path
    server.close()


@contextlib.asynccontextmanager
async def receive():
    transport, protocol, peer = await connected()
    _, buffered, other = await connected(Buffered)
    loop = asyncio.get_running_loop()

    class Pausing(Reader):
        """Pauses the other, whose bytes of the same turn are held back."""

        def data_received(self, data):
            transport.pause_reading()
            loop.call_soon(transport.resume_reading)
            super().data_received(data)

    _, pausing, third = await connected(Pausing)

    async def path():
        peer.send(b"x" * 100)
        await protocol.until(100)
        peer.send(b"x" * 60_000)
        await protocol.until(60_100)
        other.send(b"x" * 30_000)
        await buffered.until(30_000)
        third.send(b"pause")
        peer.send(b"kept")
        await pausing.until(5)
        await protocol.until(60_104)

    yield path
    for sock in (peer, other, third):
        sock.close()


@contextlib.asynccontextmanager
async def write():
    transport, _, peer = await connected()
    loop = asyncio.get_running_loop()

    async def path():
        sizes = 0
        for piece in (b"y" * 50, b"y" * 300_000, b"y"):
            transport.write(piece)
            sizes += len(piece)
        # More pieces than a transport has room for from the beginning.
        transport.writelines([b"z" * 100, b"z" * 70_000, bytearray(b"z"), *[b"zz"] * 20])
        sizes += 70_141
        got = 0
        while got < sizes:
            data = await loop.sock_recv(peer, 1 << 18)
            got += len(data)
            if not data:
                told.append("end")
                return
        transport.write(b"w" * 400_000)
        transport.abort()

    yield path
    peer.close()


@contextlib.asynccontextmanager
async def timers():
    loop = asyncio.get_running_loop()

    async def path():
        handles = [loop.call_later(0.001 * number, int) for number in range(100)]
        for handle in handles[::2]:
            handle.cancel()
        loop.call_soon(int).cancel()
        loop.call_soon_threadsafe(int)
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        async with asyncio.timeout(1):
            await asyncio.sleep(0)

    yield path


@contextlib.asynccontextmanager
async def datagrams():
    loop = asyncio.get_running_loop()
    got = []

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            transports.add(transport)

        def datagram_received(self, data, address):
            got.append(data)
            if not waiter.done():
                waiter.set_result(None)

        def error_received(self, exc):
            told.append(repr(exc))

    async def path():
        nonlocal waiter
        waiter = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(
            Datagrams, local_addr=("127.0.0.1", 0)
        )
        try:
            transport.sendto(b"to myself", transport.get_extra_info("sockname"))
            await waiter
        finally:
            transport.abort()

    waiter = None
    yield path


@contextlib.asynccontextmanager
async def queue():
    """Datagrams for a peer without room wait; a paused protocol's are held back."""
    loop = asyncio.get_running_loop()

    class Pausing(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport
            transports.add(transport)

        def datagram_received(self, data, address):
            nonlocal got
            got += 1
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

        def error_received(self, exc):
            told.append(repr(exc))

    ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (ours, peer):
        sock.setblocking(False)
        sock.bind("")
    ours.connect(peer.getsockname())
    peer.connect(ours.getsockname())
    transport, _ = await loop.create_datagram_endpoint(Pausing, sock=ours)

    async def path():
        sent = 0
        while transport.get_write_buffer_size() < 40:
            transport.sendto(bytearray(b"1"))
            sent += 1
        for _ in range(sent):
            await loop.sock_recv(peer, 10)
        for number in range(3):
            peer.send(b"%d" % number)
        while got < 3 and not told:
            await asyncio.sleep(0)

    got = 0
    yield path
    peer.close()


@contextlib.asynccontextmanager
async def descriptors():
    loop = asyncio.get_running_loop()

    # Here, since socket.socketpair() itself loses descriptors.
    left, right = socket.socketpair()
    left.setblocking(False)

    async def path():
        readable = loop.create_future()
        loop.add_reader(left, lambda: readable.done() or readable.set_result(None))
        try:
            right.send(b"x")
            await readable
        finally:
            loop.remove_reader(left)

    yield path
    left.close()
    right.close()


@contextlib.asynccontextmanager
async def file():
    name = f"/tmp/shortage-{os.getpid()}"

    async def path():
        async with files.open(name, "w+b") as file:
            await file.write(b"line\n" * 1000)
            await file.seek(0)
            await file.readline()
            await file.read()
        async with files.open(name) as text:
            await text.read()

    yield path
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name)


@contextlib.asynccontextmanager
async def tls():
    loop = asyncio.get_running_loop()
    server_context = Context(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(os.environ["SHORTAGE_CERTIFICATE"])
    client_context = Context(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=server_context)
    address = server.sockets[0].getsockname()

    async def path():
        transport, protocol = await loop.create_connection(
            Reader, *address, ssl=client_context, ssl_handshake_timeout=PATIENCE_S
        )
        try:
            for size in (100, 100_000):
                transport.write(b"t" * size)
                await protocol.until(protocol.size + size)
            # More than are kept for one record.
            transport.writelines([b"t"] * 20)
            await protocol.until(protocol.size + 20)
        finally:
            transport.abort()

    yield path
    server.close()


class Source(Reader):
    """Of a pipe, whose reading end knows no abort()."""

    def connection_made(self, transport):
        self.transport = transport


@contextlib.asynccontextmanager
async def pipes():
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    source, reader = await loop.connect_read_pipe(Source, open(reading, "rb", 0))
    sink, _ = await loop.connect_write_pipe(Reader, open(writing, "wb", 0))

    async def path():
        size = 0
        for piece in (b"p" * 100, b"p" * 200_000, bytearray(b"p" * 100)):
            sink.write(piece)
            size += len(piece)
        await reader.until(size)
        source.pause_reading()
        source.resume_reading()
        sink.write(b"q" * 100_000)
        sink.close()
        await reader.until(size + 100_000)
        await reader.lost

    yield path
    source.close()
    sink.abort()


PATHS = {
    path.__name__: path
    for path in (accept, receive, write, timers, datagrams, queue, descriptors, file, tls, pipes)
}


# ---- a round -------------------------------------------------------------------------------


def handler(loop, context):
    told.append(repr(context.get("exception")) + context["message"])


def open_numbers():
    return sorted(os.listdir("/proc/self/fd"))


class Round:
    """One run of a path in a loop, with the n-th allocation failing."""

    def __init__(self, loop, name, at):
        self.loop = loop
        self.name = name
        self.at = at

    async def prepared(self):
        async with PATHS[self.name]() as path:
            yield path

    def run(self):
        """How many allocations the path made."""
        loop = self.loop
        told.clear()
        manager = PATHS[self.name]()
        path = loop.run_until_complete(manager.__aenter__())
        deadline = loop.time() + PATIENCE_S

        def look():
            nonlocal limit
            if told or loop.time() > deadline:
                loop.stop()
            limit = loop.call_later(SETTLE_S, look)

        limit = loop.call_later(SETTLE_S, look)

        def stop(task):
            loop.stop()

        task = loop.create_task(path())
        task.add_done_callback(stop)
        del path
        interrupted = None
        try:
            faults.faults_arm(self.at)
            loop.run_forever()
        except BaseException as exc:
            interrupted = exc
        calls = disarm()
        if interrupted is not None:
            told.append(repr(interrupted))
            interrupted = True
        if not task.done() and (told or interrupted):
            # What was told may be all that comes.
            settled = loop.call_later(SETTLE_S, loop.stop)
            loop.run_forever()
            settled.cancel()
        limit.cancel()
        task.remove_done_callback(stop)
        if task.done():
            if task.cancelled() or task.exception() is not None:
                told.append("ended")
        elif not told:
            return self.fail(f"lost without a word: {task}")
        task.cancel()
        with contextlib.suppress(BaseException):
            loop.run_until_complete(asyncio.wait([task], timeout=CANCELLED_S))
        self.clean(manager, task)
        del task, interrupted
        return calls

    def clean(self, manager, task):
        loop = self.loop
        loop.run_until_complete(manager.__aexit__(None, None, None))
        for transport in list(transports):
            transport.abort()
        with contextlib.suppress(BaseException):
            loop.run_until_complete(asyncio.sleep(0))

    def fail(self, what):
        print(f"{self.name}, allocation {self.at}: {what}; told {told!r:.300}", flush=True)
        os._exit(1)


async def everything():
    """The loop does it all."""
    loop = asyncio.get_running_loop()
    transport, protocol, peer = await connected()
    peer.send(b"ping")
    await protocol.until(4)
    transport.write(b"pong")
    assert await loop.sock_recv(peer, 10) == b"pong"
    await asyncio.sleep(0.0001)
    loop.call_soon_threadsafe(int)
    transport.abort()
    peer.close()
    await asyncio.sleep(0)


def left(loop):
    return len(open_numbers()), loop.statistics()["in_flight"]


def settled(loop, before):
    """Turn until what is closed is closed, and the numbers are as before."""
    for _ in range(100):
        loop.run_until_complete(asyncio.sleep(0))
        if all(map(operator.le, left(loop), before)):
            return True
        gc.collect()
        loop.run_until_complete(asyncio.sleep(0.001))
    return False


def start_rounds(first, step):
    """Of a loop's making and closing; the others have theirs."""
    uring_loop.new_event_loop().close()
    gc.collect()
    # Of a half made loop nobody complains.
    sys.unraisablehook = lambda unraisable: told.append(unraisable)
    numbers = open_numbers()
    at, rounds, failures = first, 0, 0
    while True:
        loop, failed = None, False
        try:
            faults.faults_arm(at)
            loop = uring_loop.new_event_loop()
            # No task: one whose first step the interpreter cannot make never ends.
            loop.call_soon(loop.stop)
            loop.run_forever()
        except BaseException:
            failed = True
        calls = disarm()
        if loop is not None:
            with contextlib.suppress(RuntimeError):
                # The call of stop() may still be due.
                loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(everything())
            loop.close()
        loop = None
        gc.collect()
        if told:
            print(f"start, allocation {at}: {told[0]}", flush=True)
            os._exit(1)
        if open_numbers() != numbers:
            print(f"start, allocation {at}: {open_numbers()} open, not {numbers}", flush=True)
            os._exit(1)
        rounds += 1
        failures += failed
        if calls < at:
            return rounds, calls, failures
        at += step


def rounds_of(name, first, step):
    loop = uring_loop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(handler)
    sys.unraisablehook = lambda unraisable: told.append(repr(unraisable.exc_value))
    # Threads are made before; what makes them is not ours.
    loop.run_until_complete(loop.run_in_executor(None, int))
    for _ in range(3):
        Round(loop, name, 0).run()
        gc.collect()
        loop.run_until_complete(everything())
    before = min(left(loop) for _ in range(2) if not settled(loop, (0, 0)))
    at, rounds, failures = first, 0, 0
    while True:
        this = Round(loop, name, at)
        if os.environ.get("SHORTAGE_SHOW"):
            print("round", at, file=sys.stderr)
        calls = this.run()
        lost = any(LOST in what for what in told)
        if not settled(loop, before) and told and lost:
            before = left(loop)
        elif not settled(loop, before):
            this.fail(f"left behind: {left(loop)}, not {before} descriptors and operations")
        try:
            loop.run_until_complete(asyncio.wait_for(everything(), PATIENCE_S))
        except BaseException as exc:
            this.fail(f"the loop does not go on: {exc!r}")
        if not settled(loop, before):
            this.fail("the loop leaves something behind")
        rounds += 1
        failures += bool(told)
        if calls < at:
            break
        at += step
    gc.collect()
    if [transport for transport in transports if not transport.is_closing()]:
        this.fail("transports are left")
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return rounds, calls, failures


if __name__ == "__main__":
    faulthandler.enable()
    # One round takes milliseconds; so long that the whole of it says where it hangs.
    faulthandler.dump_traceback_later(float(os.environ.get("SHORTAGE_LIMIT_S", "240")), exit=True)
    name, first, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    gc.disable()
    if name == "start":
        print(*start_rounds(first, step))
    else:
        print(*rounds_of(name, first, step))
    sys.stdout.flush()
    os._exit(0)
