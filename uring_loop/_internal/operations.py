"""The driver's one-shot verbs, awaited.

Queues a verb with a token and waits for its completion.  Cancelling the waiter
asks the driver to end the operation.  Of Python's modules only this one and
driver.py call functions of the driver; none of them knows sockets or files.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

_STARTED = -errno.EINPROGRESS


def os_error(result: int, *names: Any) -> OSError:
    """The exception for a driver's result: -errno, with the text of that errno.

    names: the one or two paths that it is about.
    """
    if len(names) == 2:
        # Between two names OSError wants an error number of Windows.
        return OSError(-result, os.strerror(-result), names[0], None, names[1])
    return OSError(-result, os.strerror(-result), *names)


async def run(
    loop: EventLoop, verb: Callable[..., int], *arguments: object, at_once: bool = False
) -> int:
    """Start `verb` with its arguments and wait for its result; OSError when it fails.

    verb: a function of the driver that fills a token as its last argument.
    at_once: whether the kernel gets it now, rather than at the end of the turn.
    """
    driver = loop._driver
    # A plain future: tasks wait for those of a subclass by a much slower path.
    future: asyncio.Future[int] = loop.create_future()
    completed = partial(_completed, loop, future)
    result = loop._operate(completed, None, verb, driver.handle, *arguments, driver.token)
    if result >= 0:
        return result
    if result != _STARTED:
        raise os_error(result)
    token = driver.token[0]
    if at_once:
        loop._submit()
    try:
        return await future
    except asyncio.CancelledError:
        if future.cancelled():
            loop._cancel(token)
        raise
    finally:
        # Its exception's traceback holds this frame, and that would hold the exception.
        del future, completed


async def run_to_end(loop: EventLoop, verb: Callable[..., int], *arguments: object) -> int:
    """As run(), but a cancelled waiter too goes on waiting until the operation has ended.

    For an operation on descriptors that the caller closes, or lets somebody close, afterwards:
    until its terminal completion the kernel may look them up again.
    """
    driver = loop._driver
    ended: list[int] = []
    waiter = loop.create_future()

    def completed(result: int, flags: int) -> None:
        ended.append(result)
        if not waiter.done() and not loop.is_closed():
            waiter.set_result(None)

    result = loop._operate(completed, None, verb, driver.handle, *arguments, driver.token)
    if result == _STARTED:
        token = driver.token[0]
        cancelled: asyncio.CancelledError | None = None
        while not ended:
            try:
                await waiter
            except asyncio.CancelledError as exc:
                cancelled = exc
                waiter = loop.create_future()
                if not ended and loop._cancel(token) == 0:
                    break
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled
        result = ended[0]
    if result < 0:
        raise os_error(result)
    return result


def _completed(loop: EventLoop, future: asyncio.Future[int], result: int, flags: int) -> None:
    if future.done() or loop.is_closed():
        return
    if result < 0:
        future.set_exception(os_error(result))
    else:
        future.set_result(result)


# The verbs.


async def connect(loop: EventLoop, descriptor: int, address: bytes) -> None:
    """Connect a socket to an address of C's, which is under way before this first waits."""
    await run(
        loop, loop._driver.lib.ul_connect, descriptor, address, len(address), at_once=True
    )


async def poll(loop: EventLoop, descriptor: int, events: int) -> int:
    """Wait until one of `events` (POLL* bits) holds for the descriptor; gives those that do."""
    turn = loop._turn
    ready = await run(loop, loop._driver.lib.ul_poll, descriptor, events)
    if loop._turn == turn:
        # A driver may know at once.  But a caller that tries its system call
        # again and again must not keep the loop from its turns.
        await asyncio.sleep(0)
    return ready


async def splice(
    loop: EventLoop, source: int, position: int, pipe: int, size: int, flags: int
) -> int:
    """Move up to `size` bytes of a file into a pipe; also a cancelled caller waits for the end."""
    return await run_to_end(
        loop, loop._driver.lib.ul_splice, source, position, pipe, -1, size, flags
    )


def in_memory(
    loop: EventLoop, descriptor: int, position: int, size: int, thoroughly: bool
) -> bool:
    """Whether sendfile(2) of this piece of a file would not wait for a disk.

    thoroughly: the file is being read, so pages may be there whose contents are not.
    """
    return bool(loop._driver.lib.ul_file_in_memory(descriptor, position, size, thoroughly))
