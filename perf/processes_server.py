"""Several servers, a process each, at one address: python perf/processes_server.py --loop ...

Started by processes.py. Prints a line of JSON when all listen, answers "counts" on standard input
with what each has served ([connections, bytes]), and ends when standard input does.

    reuse_port  each has a listener of its own (SO_REUSEPORT): the kernel deals connections out by
                the hash of their addresses
    inherited   one listener, open in all of them since the fork: whoever accepts first has it
"""

import argparse
import asyncio
import json
import mmap
import os
import socket
import sys

import _checkout  # noqa: F401

from uring_loop._internal.bench import loops as _loops

BACKLOG = 4096
HOST = "127.0.0.1"
WAYS = ("reuse_port", "inherited")


class Counting(asyncio.Protocol):
    """Echoes, and counts for the parent: `counts` is [connections, bytes] of this process."""

    transport: asyncio.Transport
    counts: memoryview

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.counts[0] += 1

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        self.counts[1] += len(data)


async def serve(way: str, bound: socket.socket, ready: int, alive: int) -> None:
    """Until the parent has closed the other end of `alive`."""
    loop = asyncio.get_running_loop()
    if way == "inherited":
        server = await loop.create_server(Counting, sock=bound, backlog=BACKLOG)
    else:
        port = bound.getsockname()[1]
        server = await loop.create_server(Counting, HOST, port, reuse_port=True, backlog=BACKLOG)
    ended = asyncio.Event()
    loop.add_reader(alive, ended.set)
    os.write(ready, b"+")
    await ended.wait()
    loop.remove_reader(alive)
    del server


def child(options: argparse.Namespace, bound: socket.socket, ready: int, alive: int) -> None:
    """Never returns."""
    try:
        if options.cores:
            os.sched_setaffinity(0, set(map(int, options.cores.split(","))))
        # The loop is made here: a ring is not for two processes.
        loop = _loops.create(options.loop)
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve(options.way, bound, ready, alive))
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)
    os._exit(0)


def bind(way: str) -> socket.socket:
    """The address; with a listener of each process's own it is only kept."""
    bound = socket.socket()
    if way == "reuse_port":
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, 0))
    if way == "inherited":
        bound.listen(BACKLOG)
        bound.setblocking(False)
    return bound


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", required=True)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--cores", default="", help="on which all of them run")
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    bound = bind(options.way)
    counts = memoryview(mmap.mmap(-1, 16 * options.count)).cast("Q")
    ready, tell_ready = os.pipe()
    alive, keep_alive = os.pipe()
    children = []
    for index in range(options.count):
        process = os.fork()
        if not process:
            os.close(keep_alive)
            os.close(ready)
            # Standard input and output are the parent's: it alone answers.
            Counting.counts = counts[2 * index : 2 * index + 2]
            child(options, bound, tell_ready, alive)
        children.append(process)
    os.close(tell_ready)
    seen = 0
    while seen < options.count and (part := os.read(ready, options.count)):
        seen += len(part)
    if seen == options.count:
        say({"port": bound.getsockname()[1], "pid": os.getpid(), "pids": children})
        for _ in sys.stdin:
            say({"counts": [counts[2 * i : 2 * i + 2].tolist() for i in range(options.count)]})
    else:
        say({"error": f"{options.loop}: a server of {options.count} did not start"})
    os.close(keep_alive)
    for process in children:
        os.waitpid(process, 0)
    os._exit(0)


if __name__ == "__main__":
    main()
