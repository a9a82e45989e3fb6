"""An HTTP server of files, which go from the disk to the socket by sendfile().

    python examples/file_server.py DIRECTORY [PORT]
    curl http://127.0.0.1:PORT/name

GET and HEAD, with connections that are kept. On io_uring a file that is not in memory stops
nobody but its own reader.
"""

import asyncio
import os
import signal
import sys
import urllib.parse
from http import HTTPStatus

import uring_loop

IDLE_SECONDS = 30


def place(root: str, target: str) -> str:
    """The path of what is asked for; PermissionError for what is outside of the root."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
    path = os.path.realpath(os.path.join(root, name.lstrip("/")))
    if os.path.commonpath([root, path]) != root:
        raise PermissionError(path)
    return path


def head(status: HTTPStatus, length: int, keep: bool) -> bytes:
    connection = "keep-alive" if keep else "close"
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Length: {length}\r\nConnection: {connection}\r\n\r\n"
    ).encode()


async def answer(root, writer, method, target, keep) -> None:
    if method not in ("GET", "HEAD"):
        writer.write(head(HTTPStatus.METHOD_NOT_ALLOWED, 0, keep))
        return
    try:
        # May wait for a disk: not in the loop's thread.
        file = await asyncio.to_thread(lambda: open(place(root, target), "rb"))
    except FileNotFoundError:
        writer.write(head(HTTPStatus.NOT_FOUND, 0, keep))
    except (OSError, ValueError):
        writer.write(head(HTTPStatus.FORBIDDEN, 0, keep))
    else:
        with file:
            length = os.fstat(file.fileno()).st_size
            writer.write(head(HTTPStatus.OK, length, keep))
            if method == "GET" and length:
                # Exactly what was promised, should the file grow meanwhile.
                await asyncio.get_running_loop().sendfile(writer.transport, file, 0, length)


async def serve(root, reader, writer) -> None:
    """One connection: requests, until somebody has enough."""
    try:
        keep = True
        while keep:
            async with asyncio.timeout(IDLE_SECONDS):
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, version = lines[0].split(" ")
            fields = {line.lower().replace(" ", "") for line in lines[1:]}
            keep = version == "HTTP/1.1" and "connection:close" not in fields
            # A body would be taken for the next request.
            keep = keep and method in ("GET", "HEAD")
            await answer(root, writer, method, target, keep)
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ValueError):
        pass
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(root: str, port: int) -> None:
    root = os.path.realpath(root)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await asyncio.start_server(
        lambda reader, writer: serve(root, reader, writer), "127.0.0.1", port
    )
    async with server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}, driver {loop.driver}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    uring_loop.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
