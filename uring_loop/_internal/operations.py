"""The driver's one-shot verbs, awaited.

Starts a verb and waits for its completion.  Cancelling the waiter asks the driver
to end the operation.  None of this knows sockets or files.
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

    from .._core import Request
    from .loop import EventLoop

# What was asked for is not at fault: another try may find what was missing.
OUT_OF_RESOURCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def os_error(result: int, *names: Any) -> OSError:
    """The exception for a driver's result: -errno, with the text of that errno.

    names: the one or two paths that it is about.
    """
    if len(names) == 2:
        # Between two names OSError wants an error number of Windows.
        return OSError(-result, os.strerror(-result), names[0], None, names[1])
    return OSError(-result, os.strerror(-result), *names)


async def run(
    loop: EventLoop, verb: Callable[..., Request | int], *arguments: object, at_once: bool = False
) -> int:
    """Start `verb` with its arguments and wait for its result; OSError when it fails.

    verb: a method of the loop's core that takes a callback and gives a Request.
    at_once: whether the kernel gets it now, rather than at the end of the turn.
    """
    # A plain future: tasks wait for those of a subclass by a much slower path.
    future: asyncio.Future[int] = loop.create_future()
    completed = partial(_completed, loop, future)
    started = verb(completed, *arguments)
    if isinstance(started, int):
        if started < 0:
            raise os_error(started)
        return started
    if at_once:
        loop._submit()
    try:
        return await future
    except asyncio.CancelledError:
        if future.cancelled():
            started.cancel()
        raise
    finally:
        # Its exception's traceback holds this frame, and that would hold the exception.
        del future, completed


async def run_to_end(
    loop: EventLoop, verb: Callable[..., Request | int], *arguments: object
) -> int:
    """As run(), but a cancelled waiter too goes on waiting until the operation has ended.

    For an operation on descriptors that the caller closes, or lets somebody close, afterwards:
    until its terminal completion the kernel may look them up again.
    """
    ended: list[int] = []
    waiter = loop.create_future()

    def completed(request: Request) -> None:
        ended.append(request.result)
        if not waiter.done() and not loop.is_closed():
            wake(waiter, waiter.set_result, None)

    started = verb(completed, *arguments)
    if isinstance(started, int):
        result = started
    else:
        cancelled: asyncio.CancelledError | None = None
        while not ended:
            try:
                await waiter
            except asyncio.CancelledError as exc:
                cancelled = exc
                waiter = loop.create_future()
                if not ended and started.cancel() == 0:
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


def _completed(loop: EventLoop, future: asyncio.Future[int], request: Request) -> None:
    if future.done() or loop.is_closed():
        return
    result = request.result
    if result < 0:
        wake(future, future.set_exception, os_error(result))
    else:
        wake(future, future.set_result, result)


def wake(future: asyncio.Future[Any], method: Callable[[Any], object], outcome: Any) -> None:
    """future.set_result() or set_exception(), for what is called again after a MemoryError.

    A future that has ended without memory to call back never does, on any loop. To be called again
    would hide it.
    """
    try:
        method(outcome)
    except MemoryError:
        if future.done():
            raise RuntimeError("no memory to wake who waits for an operation") from None
        raise


# The verbs.


async def connect(loop: EventLoop, descriptor: int, address: bytes) -> None:
    """Connect a socket to an address of C's, which is under way before this first waits."""
    await run(loop, loop._connect, descriptor, address, at_once=True)


async def poll(loop: EventLoop, descriptor: int, events: int) -> int:
    """Wait until one of `events` (POLL* bits) holds for the descriptor; gives those that do."""
    turn = loop._turn
    ready = await run(loop, loop._poll, descriptor, events)
    if loop._turn == turn:
        # A driver may know at once.  But a caller that tries its system call
        # again and again must not keep the loop from its turns.
        await asyncio.sleep(0)
    return ready


async def splice(
    loop: EventLoop, source: int, position: int, pipe: int, size: int, flags: int
) -> int:
    """Move up to `size` bytes of a file into a pipe; also a cancelled caller waits for the end."""
    return await run_to_end(loop, loop._splice, source, position, pipe, -1, size, flags)


def in_memory(
    loop: EventLoop, descriptor: int, position: int, size: int, thoroughly: bool
) -> bool:
    """Whether sendfile(2) of this piece of a file would not wait for a disk.

    thoroughly: the file is being read, so pages may be there whose contents are not.
    """
    return bool(loop._driver.lib.ul_file_in_memory(descriptor, position, size, thoroughly))
