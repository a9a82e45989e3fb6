"""The close of a regular file: what is unsent is written, then the descriptor closed.

One request of the driver follows the other, without a task: whoever waits for it
may be cancelled, and it goes on.  What the driver has no answer to is left to a
task that closes the file by calls that may be threads'.
"""

from __future__ import annotations

import asyncio
import errno
import os

from ..operations import os_error, wake
from . import calls
from .calls import CALL_BYTES_MAX, OWN_POSITION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .descriptor import Descriptor
    from .unsent import Unsent

# Not an error of the file: it has to be done in another way.
_NOT_THIS_WAY = {
    -errno.EAGAIN,
    -errno.ENOTBLK,
    -errno.EOPNOTSUPP,
    -errno.ENOMEM,
    # It knows no offsets.
    -errno.ESPIPE,
}
# The driver has not made this close: it has ended before, or has no thread for it.
_NOT_CLOSED = {-errno.ECANCELED, -errno.ENOTBLK, -errno.EOPNOTSUPP}


class Closing:
    """One file on its way to being closed; begins at once.

    close_in_task: does the rest by a task, and gives that.
    ended: called when the file is closed.
    """

    __slots__ = (
        "_close_in_task",
        "_counted",
        "_descriptor",
        "_ended",
        "_error",
        "_loop",
        "_number",
        "_over",
        "_unsent",
        "_waiters",
    )

    def __init__(
        self,
        loop: Any,
        descriptor: Descriptor,
        unsent: Unsent,
        close_in_task: Callable[[Any], asyncio.Task[None]],
        ended: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._descriptor = descriptor
        self._unsent = unsent
        self._close_in_task = close_in_task
        self._ended = ended
        self._number = -1
        # The request whose end has been counted: one is told again when memory was missing.
        self._counted: Any = None
        self._error: BaseException | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._over = False
        self._go_on()

    async def wait(self) -> None:
        """Return when it is closed; raise what went wrong."""
        assert not self._over
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter
        if self._error is not None:
            raise self._error

    def _go_on(self) -> None:
        descriptor = self._descriptor
        if self._unsent and self._error is None:
            data, place = self._unsent.next()
            size = min(len(data), CALL_BYTES_MAX)
            held, address = calls.borrow(data)
            offset = OWN_POSITION if place is None else place
            request = (calls.OP_WRITE, descriptor.number, address, offset, size, 0)
            if not self._start(self._written, (held, data), request):
                self._leave_to_task()
            return
        self._number = descriptor.number
        request = (calls.OP_CLOSE, self._number, 0, 0, 0, 0)
        if self._start(self._closed, None, request):
            descriptor.number = -1
        else:
            self._leave_to_task()

    def _start(self, callback: Any, keep: object, request: calls.Request) -> bool:
        try:
            made = self._loop._request(callback, keep, request)
        except MemoryError:
            return False
        return not isinstance(made, int)

    def _written(self, request: Any) -> None:
        result = request.result
        if self._loop.is_closed():
            # Whoever lets go of the file writes and closes.
            if result >= 0:
                self._unsent.sent(result)
            return
        if result in _NOT_THIS_WAY:
            self._leave_to_task()
            return
        if self._counted is not request:
            if result < 0 and result != -errno.EINTR:
                self._error = os_error(result)
            self._counted = request
            if result >= 0:
                self._unsent.sent(result)
        self._go_on()

    def _closed(self, request: Any) -> None:
        result = request.result
        if self._counted is request:
            pass
        elif result in _NOT_CLOSED:
            self._counted = request
            try:
                os.close(self._number)
            except OSError as exc:
                self._error = self._error or exc
        elif result < 0 and result != -errno.EINTR and self._error is None:
            self._error = os_error(result)
        self._end()

    def _leave_to_task(self) -> None:
        self._close_in_task(self._loop).add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        exc = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._error = self._error or exc
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._ended()
        if self._loop.is_closed():
            return
        for waiter in self._waiters:
            if not waiter.done():
                wake(waiter, waiter.set_result, None)
