"""The doctor's trial: does a loop on this driver do what a loop must?

Each check is a few milliseconds of real work on loopback addresses, pipes and
threads.  It needs no network and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Check = Callable[[], Coroutine[Any, Any, None]]

SECONDS_PER_CHECK = 10


class CheckFailed(Exception):
    """Something should have happened, and did not."""


async def _timers() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    order: list[int] = []
    for milliseconds in (3, 1, 2):
        loop.call_at(before + milliseconds / 1000, order.append, milliseconds)
    await asyncio.sleep(0.005)
    if order != [1, 2, 3]:
        raise CheckFailed(f"timers of 1, 2 and 3 ms came in the order {order}")
    if loop.time() - before < 0.005:
        raise CheckFailed("a timer of 5 ms came early")


async def _threads() -> None:
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
    thread.start()
    await woken.wait()
    thread.join()
    if await loop.run_in_executor(None, threading.get_ident) == threading.get_ident():
        raise CheckFailed("the executor ran in the loop's own thread")


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    blob = os.urandom(300_000)
    try:
        writer.write(blob)
        if await reader.readexactly(len(blob)) != blob:
            raise CheckFailed("what came back is not what was sent")
    finally:
        writer.close()
    await writer.wait_closed()


async def _tcp() -> None:
    async with await asyncio.start_server(_echo, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        await asyncio.gather(
            *[_exchange(*await asyncio.open_connection(*address)) for _ in range(8)]
        )


async def _unix() -> None:
    if not hasattr(asyncio, "start_unix_server"):
        raise NotImplementedError
    with tempfile.TemporaryDirectory(prefix="uring_loop-") as directory:
        # Only Linux has names that are not in a file system.
        path = f"\0{directory}" if sys.platform == "linux" else f"{directory}/socket"
        async with await asyncio.start_unix_server(_echo, path):
            await _exchange(*await asyncio.open_unix_connection(path))


async def _sockets() -> None:
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        receiving = asyncio.ensure_future(loop.sock_recv(one, 100))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait([receiving])
        await loop.sock_sendall(other, b"kept")
        if await loop.sock_recv(one, 100) != b"kept":
            raise CheckFailed("a cancelled receive took bytes with it")


async def _readers() -> None:
    loop = asyncio.get_running_loop()
    reading, writing = os.pipe()
    readable = loop.create_future()

    def tell() -> None:
        if not readable.done():
            readable.set_result(None)

    try:
        loop.add_reader(reading, tell)
        os.write(writing, b"x")
        await readable
        loop.remove_reader(reading)
    finally:
        os.close(reading)
        os.close(writing)


async def _signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread of a process may handle signals
    if not hasattr(signal, "SIGWINCH"):
        raise NotImplementedError
    loop = asyncio.get_running_loop()
    came = asyncio.Event()
    loop.add_signal_handler(signal.SIGWINCH, came.set)
    os.kill(os.getpid(), signal.SIGWINCH)
    await came.wait()
    loop.remove_signal_handler(signal.SIGWINCH)


CHECKS: dict[str, Check] = {
    "timers": _timers,
    "threads": _threads,
    "tcp": _tcp,
    "unix": _unix,
    "sockets": _sockets,
    "readers": _readers,
    "signals": _signals,
}


async def run() -> dict[str, str | None]:
    """Run every check in the running loop; its name, and what went wrong or None.

    What asyncio does not have on this platform is left out.
    """
    results: dict[str, str | None] = {}
    for name, check in CHECKS.items():
        try:
            async with asyncio.timeout(SECONDS_PER_CHECK):
                await check()
        except TimeoutError:
            results[name] = f"not done within {SECONDS_PER_CHECK} seconds"
        except NotImplementedError as exc:
            if sys.platform == "linux":
                results[name] = f"NotImplementedError: {exc}"
        except Exception as exc:
            results[name] = f"{type(exc).__name__}: {exc}"
        else:
            results[name] = None
    return results
