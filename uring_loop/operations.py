"""Awaiting one-shot operations of the driver.

Queues a verb with a token and waits for its completion.  Cancelling the
waiter asks the driver to end the operation; the memory that it borrows stays
held until its terminal completion, and a result that won the race goes to
`late`.  Knows nothing of sockets or files.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import EventLoop

    Late = Callable[[int], object] | None

_STARTED = -errno.EINPROGRESS


def os_error(result: int, message: str | None = None) -> OSError:
    """The exception for a driver's result: -errno, with the text of that errno."""
    return OSError(-result, message or os.strerror(-result))


async def run(
    loop: EventLoop,
    verb: Callable[..., int],
    *arguments: object,
    keep: object = None,
    late: Late = None,
    at_once: bool = False,
) -> int:
    """Start `verb` with its arguments and wait for its result; OSError when it fails.

    verb: a function of the driver that fills a token as its last argument.
    keep: the memory that the operation borrows, held until it has ended.
    late: gets a result >= 0 that nobody waits for any more, to give back what
        came with it (a descriptor, say).
    at_once: whether the kernel gets it now, rather than at the end of the turn.
    """
    driver = loop._driver
    # A plain future: tasks wait for those of a subclass by a much slower path.
    future = loop.create_future()
    completed = partial(_completed, loop, future, late)
    result = loop._operate(completed, keep, verb, driver.handle, *arguments, driver.token)
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
        elif late is not None and future.exception() is None:
            # It had completed, but the task was cancelled before it woke up.
            late(future.result())
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


def _completed(
    loop: EventLoop, future: asyncio.Future[int], late: Late, result: int, flags: int
) -> None:
    if future.done() or loop.is_closed():
        if result >= 0 and late is not None:
            late(result)
    elif result < 0:
        future.set_exception(os_error(result))
    else:
        future.set_result(result)


async def poll(loop: EventLoop, descriptor: int, events: int) -> int:
    """Wait until one of `events` (POLL* bits) holds for the descriptor; gives those that do."""
    turn = loop._turn
    ready = await run(loop, loop._driver.lib.ul_poll, descriptor, events)
    if loop._turn == turn:
        # A driver may know at once.  But a caller that tries its system call
        # again and again must not keep the loop from its turns.
        await asyncio.sleep(0)
    return ready
