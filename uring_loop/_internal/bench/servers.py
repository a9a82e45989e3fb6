"""The servers under load, one process each: python -m uring_loop._internal.bench.servers.

Owns the server side of every row. Prints one line of JSON when it listens
({"port": ...} or {"error": ...}), answers "statistics" on standard input with
another, and ends when standard input does.
"""

import argparse
import asyncio
import json
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable

from . import frameworks as _frameworks
from . import loops as _loops

BACKLOG = 4096
# Lines of up to 1 MiB: the default limit of asyncio's streams is 64 KiB.
STREAM_LIMIT = 1 << 20
# What a BufferedProtocol offers, and the size of each sock_recv().
BUFFER_SIZE = 64 << 10

# Above so much either side of a relay stops the other.
RELAY_BYTES = 16 << 10
# A StreamReader that reads twice of this ahead pauses: a line of 4 KiB does so each time.
SMALL_LIMIT = 1 << 10

HTTP_BODY = b"Hello, World!\n"
HTTP_RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: perf\r\nContent-Type: text/plain\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(HTTP_BODY), HTTP_BODY)
)


class EchoProtocol(asyncio.Protocol):
    """Writes back what arrives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEchoProtocol(asyncio.BufferedProtocol):
    """The same through a buffer of its own."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = bytearray(BUFFER_SIZE)
        self.view = memoryview(self.buffer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # The transport may keep what it cannot send at once, so it gets bytes of its own.
        self.transport.write(bytes(self.view[:nbytes]))


class HttpProtocol(asyncio.Protocol):
    """A request with an empty body, a fixed response: the least that HTTP can be."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        requests = data.split(b"\r\n\r\n")
        self.rest = requests.pop()
        for request in requests:
            line = request.split(b"\r\n", 1)[0]
            method, _, _ = line.split(b" ", 2)
            if method != b"GET":
                self.transport.abort()
                return
            self.transport.write(HTTP_RESPONSE)


class FileProtocol(asyncio.Protocol):
    """Sends the file that `file PATH` asks for and closes; echoes anything else."""

    transport: asyncio.Transport
    # The loop refers to a task only weakly.
    tasks: "set[asyncio.Task[None]]" = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if not data.startswith(b"file "):
            self.transport.write(data)
            return
        task = asyncio.get_running_loop().create_task(self.send(data[5:-1].decode()))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def send(self, path: str) -> None:
        try:
            with open(path, "rb") as file:
                await asyncio.get_running_loop().sendfile(self.transport, file)
        finally:
            self.transport.close()


class Forwarder(asyncio.Protocol):
    """One direction of a relay: reads only as fast as the other side takes it."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Forwarder | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        assert self.other is not None and self.other.transport is not None
        self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class RelayProtocol(Forwarder):
    """A relay to an echo of its own, over a UNIX socket: all of it is flow-controlled."""

    tasks: "set[asyncio.Task[None]]" = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.pause_reading()  # type: ignore[attr-defined]
        task = asyncio.get_running_loop().create_task(self.connect())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        ours, echo = socket.socketpair()
        await loop.create_connection(EchoProtocol, sock=echo)
        self.other = Forwarder()
        self.other.other = self
        transport, _ = await loop.create_connection(lambda: self.other, sock=ours)  # type: ignore
        transport.set_write_buffer_limits(RELAY_BYTES)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(RELAY_BYTES)
        self.transport.resume_reading()


class IdleProtocol(asyncio.Protocol):
    """Holds a connection; echoes, should it ever speak."""

    __slots__ = ("transport",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]


class DatagramEchoProtocol(asyncio.DatagramProtocol):
    """Sends each datagram back to where it came from."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def echo_lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo line by line, draining after each, as a tutorial would."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def echo_frames(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo what follows its length, of four bytes."""
    try:
        while True:
            head = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(head, "big"))
            writer.write(head + body)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def echo_bulks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo Redis's strings: a line with the length, then that and a line end."""
    try:
        while head := await reader.readline():
            body = await reader.readexactly(int(head[1:]) + 2)
            writer.write(head + body)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


STREAMS = {"frames": echo_frames, "bulks": echo_bulks}


async def echo_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echo what read() gives, from a reader that is paused again and again."""
    try:
        while data := await reader.read(SMALL_LIMIT):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def echo_socket(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
    """Echo with the loop's socket methods."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        try:
            while data := await loop.sock_recv(connection, BUFFER_SIZE):
                await loop.sock_sendall(connection, data)
        except ConnectionError:
            pass


async def accept_sockets(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
    tasks: set[asyncio.Task[None]] = set()
    with listener:
        while True:
            connection, _ = await loop.sock_accept(listener)
            connection.setblocking(False)
            task = loop.create_task(echo_socket(loop, connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


PROTOCOLS: dict[str, Callable[[], asyncio.BaseProtocol]] = {
    "protocol": EchoProtocol,
    "buffered": BufferedEchoProtocol,
    "http": HttpProtocol,
    "idle": IdleProtocol,
    "file": FileProtocol,
    "relay": RelayProtocol,
}
KINDS = (*PROTOCOLS, *STREAMS, "streams", "chunks", "sockets", "datagrams", *_frameworks.STARTERS)


def tls_context() -> ssl.SSLContext:
    """A server's, with a certificate (ECDSA P-256) that lasts as long as the process."""
    trustme = _frameworks.find("trustme")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    key = trustme.KeyType.ECDSA
    trustme.CA(key_type=key).issue_cert("localhost", key_type=key).configure_cert(context)
    return context


async def start(kind: str, unix: str | None, tls: bool) -> tuple[dict[str, object], object]:
    """Listen. Returns where, and what has to be kept alive meanwhile."""
    loop = asyncio.get_running_loop()
    if kind == "sockets":
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        listener.setblocking(False)
        task = loop.create_task(accept_sockets(loop, listener))
        return {"port": listener.getsockname()[1]}, task
    if kind == "datagrams":
        transport, _ = await loop.create_datagram_endpoint(
            DatagramEchoProtocol, local_addr=("127.0.0.1", 0)
        )
        return {"port": transport.get_extra_info("sockname")[1]}, transport
    if kind in _frameworks.STARTERS:
        port, keep = await _frameworks.STARTERS[kind](BACKLOG)
        return {"port": port}, keep
    context = tls_context() if tls else None
    server: asyncio.AbstractServer
    if kind == "chunks":
        server = await asyncio.start_server(
            echo_chunks, "127.0.0.1", 0, limit=SMALL_LIMIT, backlog=BACKLOG
        )
    elif kind in STREAMS:
        server = await asyncio.start_server(STREAMS[kind], "127.0.0.1", 0, backlog=BACKLOG)
    elif kind == "streams":
        if unix:
            server = await asyncio.start_unix_server(
                echo_lines, unix, limit=STREAM_LIMIT, backlog=BACKLOG
            )
        else:
            server = await asyncio.start_server(
                echo_lines, "127.0.0.1", 0, limit=STREAM_LIMIT, backlog=BACKLOG, ssl=context
            )
    elif unix:
        server = await loop.create_unix_server(PROTOCOLS[kind], unix, backlog=BACKLOG)
    else:
        server = await loop.create_server(
            PROTOCOLS[kind], "127.0.0.1", 0, backlog=BACKLOG, ssl=context
        )
    if unix:
        return {"unix": unix}, server
    return {"port": server.sockets[0].getsockname()[1]}, server


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def obey(loop: asyncio.AbstractEventLoop, stopped: "asyncio.Future[None]") -> None:
    """Do what standard input says; its end is the end.

    A reader and not a thread: with a second thread every descriptor look-up in
    the kernel takes a reference, and each system call would cost more.
    """
    command = os.read(0, 4096)
    if not command:
        loop.remove_reader(0)
        if not stopped.done():
            stopped.set_result(None)
    elif b"statistics" in command:
        say({"statistics": statistics(loop)})


def statistics(loop: asyncio.AbstractEventLoop) -> dict[str, object]:
    """What the loop itself counts, if it does."""
    counted = getattr(loop, "statistics", None)
    if counted is None:
        return {}
    values = counted() if callable(counted) else counted
    if not isinstance(values, dict):
        names = getattr(values, "__slots__", None) or vars(values)
        values = {name: getattr(values, name) for name in names}
    return dict(values)


async def serve(kind: str, unix: str | None, tls: bool) -> None:
    loop = asyncio.get_running_loop()
    try:
        address, keep = await start(kind, unix, tls)
    except _frameworks.Missing as error:
        say({"error": str(error)})
        return
    stopped: asyncio.Future[None] = loop.create_future()
    loop.add_reader(0, obey, loop, stopped)
    say({**address, "driver": getattr(loop, "driver", None), "pid": os.getpid()})
    await stopped
    del keep


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", required=True)
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--unix", help="listen on this path and not on TCP")
    parser.add_argument("--tls", action="store_true", help="TLS over TCP")
    parser.add_argument("--core", type=int, help="run on this core only")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    try:
        loop = _loops.create(options.loop)
    except _loops.Unavailable as error:
        say({"error": str(error)})
        sys.exit(1)
    asyncio.set_event_loop(loop)
    job: Awaitable[None] = serve(options.kind, options.unix, options.tls)
    loop.run_until_complete(job)
    # The load has gone already or is about to: nothing here is worth a graceful end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
