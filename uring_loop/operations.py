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

from . import _debug

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


async def run_to_end(loop: EventLoop, verb: Callable[..., int], *arguments: object) -> int:
    """As run(), but a cancelled waiter too goes on waiting until the operation has ended.

    For an operation on descriptors that the caller closes, or lets somebody close, afterwards:
    until its terminal completion the kernel may look them up again.
    """
    loop._check_closed()
    driver = loop._driver
    result = verb(driver.handle, *arguments, driver.token)
    if result == _STARTED:
        token = driver.token[0]
        ended: list[int] = []
        waiter = loop.create_future()

        def completed(result: int, flags: int) -> None:
            ended.append(result)
            if not waiter.done() and not loop.is_closed():
                waiter.set_result(None)

        loop._expect(token, completed)
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
            raise cancelled
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


class Watch:
    """Calls back each time a descriptor shows one of `events`, until cancelled.

    For a descriptor of the loop's own: one poll operation, queued again after
    each callback. The callback runs as those of add_reader() do: in the context
    that was current when the watch was made, and what it raises goes to the
    loop's exception handler.

    ready: in the callback, the POLL* bits that hold, or -errno: the descriptor
        cannot be polled, and no further call follows.
    """

    __slots__ = ("_descriptor", "_events", "_handle", "_loop", "_token", "ready")

    def __init__(
        self, loop: EventLoop, descriptor: int, events: int, callback: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._events = events
        self._handle: asyncio.Handle | None = asyncio.Handle(callback, (), loop)
        self._token = 0
        self.ready = 0
        loop._check_closed()
        self._queue()

    @property
    def in_flight(self) -> bool:
        """Whether the driver may still look at the descriptor."""
        return self._token != 0

    def cancel(self) -> None:
        """Never call back again."""
        self._handle = None
        if self._token and self._loop._cancel(self._token) == 0:
            self._token = 0

    def _queue(self) -> None:
        driver = self._loop._driver
        result = driver.lib.ul_poll(driver.handle, self._descriptor, self._events, driver.token)
        if result == _STARTED:
            self._token = driver.token[0]
            self._loop._expect(self._token, self._poll_completed)
        else:
            # Known at once.  The callback has its place in the next turn all the same.
            self._loop.call_soon(self._poll_completed, result, 0)

    def _poll_completed(self, result: int, flags: int) -> None:
        self._token = 0
        handle = self._handle
        if handle is None or self._loop.is_closed():
            return
        if result == -errno.ECANCELED:
            # Not by us: the thread that drove the ring has gone.
            self._queue()
            return
        self.ready = result
        try:
            self._run(handle)
        finally:
            # A KeyboardInterrupt out of the callback does not end the watch.
            if result >= 0 and self._handle is not None and not self._loop.is_closed():
                self._queue()

    def _run(self, handle: asyncio.Handle) -> None:
        loop = self._loop
        if not loop.get_debug():
            handle._run()
            return
        start = loop.time()
        handle._run()
        seconds = loop.time() - start
        if seconds >= loop.slow_callback_duration:
            _debug.callback_slow(loop, handle, seconds)
