"""Thousands of TLS connections of every end, and what is left of them: nothing.

    python scripts/tls_leaks.py                         100,000 handshakes on the ring
    python scripts/tls_leaks.py --loop selector --handshakes 5000

Both ends are transports of one loop. They end well, are aborted, reset, given up in the handshake,
fed with garbage, upgraded in mid-stream, resumed, sent bulk, paused for good. A line for each tenth
tells what the process holds, after a collection. The exit status is 1 if it holds more at the end
than after the second tenth: objects, memory blocks, descriptors, or resident memory beyond what
malloc's arenas take and give. `--loop asyncio` is the control.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trustme

ROOT = Path(__file__).resolve().parent.parent
LOOPS = ("uring", "selector", "asyncio")
NAME = "server.test"
BULK = bytes(range(256)) * 1024
STEPS = 10
# Handshakes that are under way together.
AT_ONCE = 10
# What free lists and arenas may come to hold late; 50 bytes left by each of 100,000 are found.
SLACK_OBJECTS = 100
SLACK_BLOCKS = 1000
SLACK_RESIDENT_BYTES = 4 << 20


class Peer(asyncio.Protocol):
    """Either end: echoes or counts, and says when it is lost."""

    def __init__(self, echo: bool) -> None:
        loop = asyncio.get_running_loop()
        self.echo = echo
        self.size = 0
        self.wanted = 0
        self.lost: asyncio.Future[None] = loop.create_future()
        self.got: asyncio.Future[None] = loop.create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if self.echo:
            self.transport.write(data)
        if self.wanted and self.size >= self.wanted and not self.got.done():
            self.got.set_result(None)

    def connection_lost(self, exc: BaseException | None) -> None:
        for future in (self.lost, self.got):
            if not future.done():
                future.set_result(None)

    async def until(self, size: int) -> None:
        self.wanted = size
        if self.size < size:
            await self.got


class World:
    """A server, contexts that every connection shares, and a sum of what has been done."""

    def __init__(self) -> None:
        key = trustme.KeyType.ECDSA
        authority = trustme.CA(key_type=key)
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(NAME, key_type=key).configure_cert(self.server)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(self.client)
        self.address: Any = None
        self.session: ssl.SSLSession | None = None

    async def connect(self, **options: Any) -> Peer:
        loop = asyncio.get_running_loop()
        _, peer = await loop.create_connection(
            lambda: Peer(False), *self.address, ssl=self.client, server_hostname=NAME, **options
        )
        return peer


async def ends_well(world: World, data: bytes = b"x") -> None:
    peer = await world.connect()
    peer.transport.write(data)
    await peer.until(len(data))
    peer.transport.close()
    await peer.lost


async def sends_bulk(world: World) -> None:
    await ends_well(world, BULK)


async def is_aborted(world: World) -> None:
    peer = await world.connect()
    peer.transport.write(BULK)
    peer.transport.abort()
    await peer.lost


async def is_aborted_while_paused(world: World) -> None:
    peer = await world.connect()
    peer.transport.pause_reading()
    peer.transport.write(BULK)
    await asyncio.sleep(0)
    peer.transport.abort()
    await peer.lost


async def is_cancelled(world: World) -> None:
    task = asyncio.get_running_loop().create_task(world.connect())
    for _ in range(4):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        peer = await task
        peer.transport.abort()
        await peer.lost


async def is_upgraded(world: World) -> None:
    """Both ends from plain, by start_tls()."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    client, server = Peer(False), Peer(True)
    plain, _ = await loop.create_connection(lambda: client, sock=one)
    accepted, _ = await loop.connect_accepted_socket(lambda: server, other)
    client.transport, server.transport = await asyncio.gather(
        loop.start_tls(plain, client, world.client, server_hostname=NAME),
        loop.start_tls(accepted, server, world.server, server_side=True),
    )
    client.transport.write(BULK[:1000])
    await client.until(1000)
    client.transport.close()
    await client.lost
    await server.lost


async def is_garbage(world: World) -> None:
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_connection(lambda: Peer(False), *world.address)
    peer.transport.write(b"GET / HTTP/1.1\r\n\r\n" * 10)
    await peer.lost


async def is_reset(world: World) -> None:
    peer = await world.connect()
    sock = peer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.transport.abort()
    await peer.lost


async def is_broken_later(world: World) -> None:
    """A record that is none, below a connection that was."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    server = Peer(True)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = world.client.wrap_bio(incoming, outgoing, server_hostname=NAME)
    other.setblocking(False)
    opening = loop.create_task(loop.connect_accepted_socket(lambda: server, one, ssl=world.server))
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            await loop.sock_sendall(other, outgoing.read())
            incoming.write(await loop.sock_recv(other, 1 << 16))
        else:
            break
    await loop.sock_sendall(other, outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    await opening
    await server.lost
    other.close()


async def is_resumed(world: World) -> None:
    """A client by hand: asyncio's cannot resume."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, world.address)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = world.client.wrap_bio(incoming, outgoing, server_hostname=NAME)
    if world.session is not None:
        tls.session = world.session
    written = False
    while True:
        try:
            tls.do_handshake()
            if not written:
                tls.write(b"x")
                written = True
            if tls.read(1) == b"x":
                break
        except ssl.SSLWantReadError:
            if data := outgoing.read():
                await loop.sock_sendall(sock, data)
            incoming.write(await loop.sock_recv(sock, 1 << 16))
    if world.session is None:
        # Once: each look at SSLObject.session costs 6.7 KB for good (CPython 3.11 and 3.13).
        world.session = tls.session
    sock.close()


KINDS: list[Callable[[World], Awaitable[None]]] = [
    ends_well,
    sends_bulk,
    is_aborted,
    is_aborted_while_paused,
    is_cancelled,
    is_upgraded,
    is_garbage,
    is_reset,
    is_broken_later,
    is_resumed,
]


async def some(world: World, count: int) -> None:
    """So many, ten under way at a time, of all kinds in turn."""

    async def row(first: int) -> None:
        for number in range(first, count, AT_ONCE):
            await KINDS[(number // AT_ONCE + first) % len(KINDS)](world)

    await asyncio.gather(*(row(first) for first in range(AT_ONCE)))
    # What the server has not seen the end of yet.
    for _ in range(50):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)


def held() -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    return {
        "objects": len(gc.get_objects()),
        "blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "resident": resident,
    }


async def run(count: int) -> list[dict[str, int]]:
    world = World()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Peer(True), "127.0.0.1", 0, ssl=world.server)
    world.address = server.sockets[0].getsockname()
    found = []
    for step in range(STEPS):
        await some(world, count // STEPS)
        found.append(held())
        print(f"{(step + 1) * (count // STEPS):8}  {tell(found[-1])}", flush=True)
    server.close()
    await server.wait_closed()
    return found


def tell(what: dict[str, int]) -> str:
    return "  ".join(f"{name} {value:,}" for name, value in what.items())


def grown(found: list[dict[str, int]]) -> list[str]:
    """What is more at the end than when all caches were full."""
    slack = {
        "objects": SLACK_OBJECTS,
        "blocks": SLACK_BLOCKS,
        "descriptors": 0,
        "resident": SLACK_RESIDENT_BYTES,
    }
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        # It keeps what was freed, to see it used.
        del slack["resident"]
    first, last = found[1], found[-1]
    return [
        f"{name}: {first[name]:,}, then {last[name]:,}"
        for name, room in slack.items()
        if last[name] - first[name] > room
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--handshakes", type=int, default=100_000)
    parser.add_argument("--loop", choices=LOOPS, default="uring")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
    if options.loop != "asyncio":
        os.environ["URING_LOOP_DRIVER"] = options.loop
        import uring_loop

        factory = uring_loop.new_event_loop
    told: list[str] = []
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context)))
        if getattr(loop, "driver", options.loop) != options.loop:
            print(f"no {options.loop} loop here", file=sys.stderr)
            return 2
        found = runner.run(run(options.handshakes))
    problems = grown(found)
    problems += [f"the handler was told: {text}" for text in told[:5]]
    for text in problems:
        print(text)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
