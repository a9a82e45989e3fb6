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
from typing import TYPE_CHECKING

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
    loop._check_closed()
    driver = loop._driver
    result = verb(driver.handle, *arguments, driver.token)
    if result >= 0:
        return result
    if result != _STARTED:
        raise os_error(result)
    token = driver.token[0]
    # A plain future: tasks wait for those of a subclass by a much slower path.
    future = loop.create_future()
    loop._expect(token, partial(_completed, loop, future, late), keep)
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


class Watch:
    """Calls back each time a descriptor shows one of `events`, until cancelled.

    For a descriptor of the loop's own: one poll operation, queued again after
    each callback.
    """

    __slots__ = ("_callback", "_descriptor", "_events", "_loop", "_token")

    def __init__(
        self, loop: EventLoop, descriptor: int, events: int, callback: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._events = events
        self._callback: Callable[[], object] | None = callback
        self._token = 0
        self._queue()

    def cancel(self) -> None:
        """Never call back again."""
        self._callback = None
        if self._token:
            self._loop._cancel(self._token)

    def _queue(self) -> None:
        driver = self._loop._driver
        result = driver.lib.ul_poll(driver.handle, self._descriptor, self._events, driver.token)
        if result >= 0:
            self._loop.call_soon(self._poll_completed, result, 0)
        elif result == _STARTED:
            self._token = driver.token[0]
            self._loop._expect(self._token, self._poll_completed)
        else:
            raise os_error(result)

    def _poll_completed(self, result: int, flags: int) -> None:
        self._token = 0
        if self._callback is None or self._loop.is_closed():
            return
        if result < 0 and result != -errno.ECANCELED:
            raise os_error(result)
        if result > 0:
            self._callback()
        self._queue()
