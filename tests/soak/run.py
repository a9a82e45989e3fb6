"""A soak: everything at once on one loop for as long as one likes, every byte compared.

    python tests/soak/run.py --seconds 600              both drivers, one after the other
    python tests/soak/run.py --seconds 60 --loop uring

Echo over TCP and TLS, datagrams, files, sendfile, subprocesses, timers, cancels, resets, and a
server that is taken down and put up again. Then the load stops, and what the process holds is
compared with what it held after the first round: memory, descriptors, threads, objects, and what
the driver has in flight. Whatever has grown is a leak.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import pathlib
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter

KINDS = ("uring", "selector")
# What may come and go by itself: allocators' arenas, OpenSSL's caches, the kernel's readahead.
RSS_SLACK_BYTES = 12 << 20
OBJECTS_SLACK = 2000
PATIENCE_S = 60


class Echo(asyncio.Protocol):
    """Writes back what it gets, and waits while the other does not read."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Asking(asyncio.DatagramProtocol):
    def __init__(self):
        self.answers = asyncio.Queue()

    def datagram_received(self, data, address):
        self.answers.put_nowait(data)


class Soak:
    """One loop under load until `seconds` have passed."""

    def __init__(self, loop, seed, seconds, contexts):
        self.loop = loop
        self.chance = random.Random(seed)
        self.seconds = seconds
        self.server_context, self.client_context = contexts
        self.done = Counter()
        self.bytes = 0
        self.errors = []
        self.is_over = False
        self.pool = os.urandom(1 << 20)

    def blob(self, limit):
        size = self.chance.choice((1, 100, 4096, 70_000, limit))
        start = self.chance.randrange(len(self.pool) - min(size, len(self.pool)) + 1)
        return self.pool[start : start + size]

    # ---- the loads, each again and again ----

    async def exchange(self, address, context):
        reader, writer = await asyncio.open_connection(
            *address, ssl=context, server_hostname="server.test" if context else None
        )
        try:
            for _ in range(self.chance.randint(1, 8)):
                data = self.blob(400_000)
                receiving = asyncio.ensure_future(reader.readexactly(len(data)))
                writer.write(data)
                await writer.drain()
                if await receiving != data:
                    self.errors.append("an echo is not what was sent")
                self.bytes += 2 * len(data)
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def tcp(self):
        await self.exchange(self.address, None)

    async def tls(self):
        await self.exchange(self.tls_address, self.client_context)

    async def cancelled(self):
        """A connection whose user goes away at whatever await."""
        plain, over_tls = (self.address, None), (self.tls_address, self.client_context)
        task = asyncio.ensure_future(self.exchange(*self.chance.choice((plain, over_tls))))
        await asyncio.sleep(self.chance.random() * 0.01)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()

    async def reset(self):
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await self.loop.sock_connect(sock, self.address)
            await self.loop.sock_sendall(sock, self.blob(70_000))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        finally:
            sock.close()

    async def udp(self):
        transport, asking = await self.loop.create_datagram_endpoint(
            Asking, remote_addr=self.udp_address
        )
        try:
            for number in range(10):
                question = struct.pack("=I", number) + self.blob(1400)[:1400]
                # Datagrams may be lost, but not be changed.
                for _ in range(20):
                    transport.sendto(question)
                    with contextlib.suppress(asyncio.TimeoutError):
                        async with asyncio.timeout(1):
                            while (answer := await asking.answers.get()) != question:
                                if struct.unpack("=I", answer[:4])[0] >= number:
                                    self.errors.append("a datagram was changed")
                            break
                else:
                    self.errors.append("twenty datagrams in a row were lost")
                self.bytes += 2 * len(question)
        finally:
            transport.close()

    async def file(self):
        from uring_loop import files

        path = os.path.join(self.directory, f"file{self.chance.getrandbits(40)}")
        model = bytearray()
        async with files.open(path, "w+b") as file:
            for _ in range(self.chance.randint(1, 6)):
                data = self.blob(200_000)
                await file.write(data)
                model += data
            await file.seek(0)
            if await file.read() != model:
                self.errors.append("a file is not what was written")
            self.bytes += 2 * len(model)
        os.unlink(path)

    async def sendfile(self):
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            with open(self.big, "rb") as file:
                receiving = asyncio.ensure_future(reader.readexactly(len(self.pool)))
                await self.loop.sendfile(writer.transport, file)
                if await receiving != self.pool:
                    self.errors.append("a sent file is not what came back")
                self.bytes += 2 * len(self.pool)
        finally:
            writer.close()
            await writer.wait_closed()

    async def subprocess(self):
        process = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        data = self.blob(200_000)
        out, _ = await process.communicate(data)
        if out != data or process.returncode != 0:
            self.errors.append("a child's pipe is not what was written")
        self.bytes += 2 * len(data)
        # Children are dear, and few in most programs.
        await asyncio.sleep(0.05)

    async def timers(self):
        fired = []
        handles = [
            self.loop.call_later(self.chance.random() * 0.02, fired.append, number)
            for number in range(200)
        ]
        gone = self.chance.sample(range(200), 100)
        for number in gone:
            handles[number].cancel()
        await asyncio.sleep(0.03)
        kept = set(range(200)) - set(gone)
        while len(fired) < len(kept):
            await asyncio.sleep(0.001)
        if set(fired) != kept or len(fired) != len(kept):
            self.errors.append("a timer fired that was cancelled, or twice")

    async def threads(self):
        answers = asyncio.Queue()

        def work():
            for number in range(50):
                self.loop.call_soon_threadsafe(answers.put_nowait, number)

        await asyncio.to_thread(work)
        if [await answers.get() for _ in range(50)] != list(range(50)):
            self.errors.append("what a thread scheduled is lost or out of order")

    async def reload(self):
        """A server goes down with its connections, and another comes up in its place."""
        server = await self.loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        tasks = [asyncio.ensure_future(self.exchange(address, None)) for _ in range(3)]
        await asyncio.sleep(self.chance.random() * 0.01)
        server.close()
        # Who was not accepted is refused or reset; who was is served to the end.
        await asyncio.wait(tasks)
        for task in tasks:
            error = task.exception()
            if error is not None and not isinstance(
                error, (ConnectionError, asyncio.IncompleteReadError)
            ):
                raise error
        await server.wait_closed()

    LOADS = {
        "tcp": 3,
        "tls": 3,
        "cancelled": 2,
        "reset": 1,
        "udp": 1,
        "file": 2,
        "sendfile": 1,
        "subprocess": 1,
        "timers": 1,
        "threads": 1,
        "reload": 1,
    }

    async def again_and_again(self, name, deadline):
        while True:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await getattr(self, name)()
            except TimeoutError:
                self.errors.append(f"{name}: hangs")
                return
            except Exception as error:
                self.errors.append(f"{name}: {error!r}")
                return
            self.done[name] += 1
            if time.monotonic() >= deadline:
                return

    async def round(self, seconds):
        deadline = time.monotonic() + seconds
        await asyncio.gather(
            *(
                self.again_and_again(name, deadline)
                for name, count in self.LOADS.items()
                for _ in range(count)
            )
        )

    # ---- the whole ----

    async def main(self):
        loop = self.loop
        with tempfile.TemporaryDirectory() as self.directory:
            self.big = os.path.join(self.directory, "big")
            pathlib.Path(self.big).write_bytes(self.pool)
            plain = await loop.create_server(Echo, "127.0.0.1", 0)
            over_tls = await loop.create_server(Echo, "127.0.0.1", 0, ssl=self.server_context)
            udp, _ = await loop.create_datagram_endpoint(
                EchoDatagrams, local_addr=("127.0.0.1", 0)
            )
            self.address = plain.sockets[0].getsockname()
            self.tls_address = over_tls.sockets[0].getsockname()
            self.udp_address = udp.get_extra_info("sockname")
            # The first round makes what is made once: caches, arenas, threads.
            await self.round(min(self.seconds / 3, 20))
            before = await self.held()
            await self.round(self.seconds * 2 / 3)
            after = await self.held()
            for server in (plain, over_tls):
                server.close()
                await server.wait_closed()
            udp.close()
        self.compare(before, after)

    async def held(self):
        """What the process holds once nothing is going on; asks until that no longer falls."""
        last = None
        for _ in range(40):
            await asyncio.sleep(0.05)
            gc.collect()
            now = {
                "descriptors": len(os.listdir("/proc/self/fd")),
                "threads": threading.active_count(),
                "tasks": len(asyncio.all_tasks()),
                "in flight": self.loop.statistics()["in_flight"],
                "objects": len(gc.get_objects()),
                "rss": int(pathlib.Path("/proc/self/statm").read_text().split()[1])
                * os.sysconf("SC_PAGE_SIZE"),
            }
            if last is not None and now == last:
                break
            last = now
        return now

    def compare(self, before, after):
        slack = {"objects": OBJECTS_SLACK, "rss": RSS_SLACK_BYTES, "threads": 4}
        for name in before:
            if after[name] > before[name] + slack.get(name, 0):
                self.errors.append(f"{name} grew from {before[name]} to {after[name]}")
        self.figures = {name: (before[name], after[name]) for name in before}


def make_contexts():
    import trustme

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    certificate = authority.issue_cert("server.test", key_type=trustme.KeyType.ECDSA)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    return server, client


def soak(kind, seconds, seed):
    """One driver; the soak's errors."""
    import uring_loop

    with asyncio.Runner(loop_factory=lambda: uring_loop.EventLoop(driver=kind)) as runner:
        one = Soak(runner.get_loop(), seed, seconds, make_contexts())

        def handle(loop, context):
            # A peer that is reset, or cancelled in its handshake, is what the soak does.
            if not isinstance(context.get("exception"), (OSError, ssl.SSLError)):
                one.errors.append(f"exception handler: {context}")

        runner.get_loop().set_exception_handler(handle)
        runner.run(one.main())
    print(f"{kind}: {one.bytes >> 20} MiB compared; {dict(sorted(one.done.items()))}")
    print(f"{kind}: {getattr(one, 'figures', {})}")
    for error in one.errors:
        print(f"{kind}: WRONG: {error}")
    if set(one.done) != set(Soak.LOADS):
        one.errors.append("a load never came to its end")
    return one.errors


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for each driver")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--loop", action="append", choices=KINDS)
    options = parser.parse_args(arguments)
    seed = int.from_bytes(os.urandom(4)) if options.seed is None else options.seed
    print(f"seed: {seed} (--seed {seed} draws the same again)", flush=True)
    errors = []
    for kind in options.loop or KINDS:
        errors += soak(kind, options.seconds, seed)
    print(f"violations {len(errors)}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
