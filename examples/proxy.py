"""A reverse proxy for whatever speaks TCP: connections are dealt out to backends in turn.

    python examples/proxy.py [--port PORT] HOST:PORT ...

A backend that refuses is left out for that connection. Ends are passed on one direction at
a time, so that a client may have said all and still be answered; a slow reader slows its own
writer, and nobody else.
"""

import argparse
import asyncio
import itertools
import signal

import uring_loop

CHUNK = 1 << 16
CONNECT_SECONDS = 5


async def carry(reader, writer) -> None:
    """Bytes of one direction, until their end."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class Proxy:
    def __init__(self, backends: list[tuple[str, int]]) -> None:
        self.backends = backends
        self._turns = itertools.cycle(range(len(backends)))

    async def connect(self):
        """To the next backend that takes a connection; OSError when none does."""
        first = next(self._turns)
        for host, port in self.backends[first:] + self.backends[:first]:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncio.open_connection(host, port)
            except OSError as error:  # TimeoutError is one.
                print(f"{host}:{port}: {error}", flush=True)
        raise ConnectionRefusedError("no backend takes connections")

    async def serve(self, reader, writer) -> None:
        """One client."""
        backend = None
        try:
            backend_reader, backend = await self.connect()
            async with asyncio.TaskGroup() as group:
                group.create_task(carry(reader, backend))
                group.create_task(carry(backend_reader, writer))
        except* OSError:
            # A reset of one side is the other's, too.
            writer.transport.abort()
        finally:
            writer.close()
            if backend is not None:
                backend.close()


async def main(port: int, backends: list[tuple[str, int]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(Proxy(backends).serve, "127.0.0.1", port)
    async with server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}, driver {loop.driver}", flush=True)
        await stop.wait()


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A reverse proxy for TCP.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("backends", metavar="HOST:PORT", type=address, nargs="+")
    options = parser.parse_args()
    uring_loop.run(main(options.port, options.backends))
