"""An echo server by a protocol, the way that costs least.

    python examples/echo.py [PORT]
    nc 127.0.0.1 PORT

What a peer sends comes back. A peer that sends faster than it reads is not read any more
until it has caught up.
"""

import asyncio
import signal
import sys

import uring_loop


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(Echo, "127.0.0.1", port)
    async with server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}, driver {loop.driver}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    uring_loop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
