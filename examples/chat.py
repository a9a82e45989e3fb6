"""A chat over TLS: a server, and a client for the terminal.

    python examples/chat.py serve CERTIFICATE KEY [PORT]
    python examples/chat.py join AUTHORITY HOST PORT NAME

Each line that one types is everybody's. Who reads too slowly is shown out, so that nobody
waits for them and no memory is filled.
"""

import asyncio
import signal
import ssl
import sys

import uring_loop
from uring_loop import files

UNREAD_MAX = 1 << 20
LINE_MAX = 4096


class Room:
    def __init__(self) -> None:
        self.writers: dict[asyncio.StreamWriter, str] = {}

    def tell(self, line: str) -> None:
        for writer in list(self.writers):
            if writer.transport.get_write_buffer_size() > UNREAD_MAX:
                writer.transport.abort()
            else:
                writer.write(f"{line}\n".encode())

    async def serve(self, reader, writer) -> None:
        """One guest; the first line is the name."""
        name = ""
        try:
            name = (await reader.readline()).decode(errors="replace").strip()
            if not name:
                return
            self.writers[writer] = name
            self.tell(f"* {name} is here ({len(self.writers)})")
            while line := await reader.readline():
                self.tell(f"{name}: {line.decode(errors='replace').rstrip()}")
        except (ConnectionError, ValueError):
            pass  # ValueError: a line without an end.
        finally:
            if self.writers.pop(writer, None):
                self.tell(f"* {name} has gone")
            writer.close()


async def serve(certificate: str, key: str, port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    room = Room()
    server = await asyncio.start_server(room.serve, "127.0.0.1", port, ssl=context, limit=LINE_MAX)
    async with server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}, driver {loop.driver}", flush=True)
        await stop.wait()
        room.tell("* the room closes")
        for writer in list(room.writers):
            writer.close()


async def show(reader) -> None:
    while line := await reader.readline():
        print(line.decode().rstrip(), flush=True)


async def say(writer, name: str) -> None:
    writer.write(f"{name}\n".encode())
    async for line in files.stdin:
        writer.write(line.encode())
        await writer.drain()


async def join(authority: str, host: str, port: int, name: str) -> None:
    context = ssl.create_default_context(cafile=authority)
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    tasks = [asyncio.create_task(show(reader)), asyncio.create_task(say(writer, name))]
    # Until the room closes, or nothing more is typed.
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", certificate, key, *port]:
            uring_loop.run(serve(certificate, key, int(port[0]) if port else 0))
        case ["join", authority, host, port, name]:
            uring_loop.run(join(authority, host, int(port), name))
        case _:
            sys.exit(__doc__)
