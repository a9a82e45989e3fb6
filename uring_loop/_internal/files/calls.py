"""The maker of a file's system call: the loop's driver, or the default executor.

A call names the ring's operation and a function that does the same in a thread.
The driver is asked first (its selector has threads for this); one that has no
such operation says so at once, and from then on that loop uses its default
executor for it.  What might wait for others it leaves to the executor as well.
A loop that is not ours has no driver to ask.  So this works on any asyncio loop.

Where no thread is to be had either the caller hears of that, and the call was
not made.  But at the end of the interpreter, when no thread may begin any more
and handlers of atexit still run, the loop's own thread makes it, as io would.

Audit hooks hear of a call what os tells them: before it is the driver's from
here, and from os itself in a thread.

Cancelling a caller asks the kernel to end the operation and does not wait for
it: what it borrows stays held, and `Use` counts it, until it has really ended.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable

from ..operations import os_error, wake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

try:
    from ..._core import file_address
except ModuleNotFoundError:
    # No compiled modules on this platform: threads only.
    file_address = None  # type: ignore[assignment]

# linux/io_uring.h
OP_FSYNC = 3
OP_FALLOCATE = 17
OP_OPENAT = 18
OP_CLOSE = 19
OP_STATX = 21
OP_READ = 22
OP_WRITE = 23
OP_RENAMEAT = 35
OP_UNLINKAT = 36
OP_MKDIRAT = 37
OP_SYMLINKAT = 38
OP_LINKAT = 39
OP_FTRUNCATE = 55

# The driver has not made a call, and in this case does not: a thread must.
_NOT_BY_DRIVER = object()

# UL_KEEP: the ring was lost, or a thread hangs, and nobody knows what becomes of the call.
_UNKNOWN = 1 << 3

_logger = logging.getLogger("uring_loop")

Request = tuple[int, int, int, int, int, int]

# One call of the kernel moves no more than this.
CALL_BYTES_MAX = 0x7FFFF000
# As a request's offset: wherever the descriptor is.
OWN_POSITION = 2**64 - 1

# Calls that were answered from memory since a caller last let the loop turn, and
# how many there may be: a loop of such calls must not keep others from running.
_UNITS_MAX = 64
_UNIT_BYTES = 32 * 1024
_units = 0


def is_turn_due(size: int) -> bool:
    """Whether the caller, about to take `size` bytes at once, should let the loop turn first."""
    global _units
    _units += 1 + size // _UNIT_BYTES
    if _units <= _UNITS_MAX:
        return False
    _units = 0
    return True


class Use:
    """The calls under way on one descriptor, which must stay open until they end."""

    __slots__ = ("_quiet", "_settled", "abandoned", "pending", "threads")

    def __init__(self) -> None:
        self.pending: int = 0
        self.abandoned: int = 0
        # Those of the calls that are a thread's; most files never have any.
        self.threads: tuple[_Call, ...] = ()
        # Few files ever have any.
        self._quiet: tuple[Callable[[], object], ...] = ()
        self._settled: tuple[Callable[[], object], ...] = ()

    def when_quiet(self, callback: Callable[[], object]) -> None:
        """Call back once, when nothing is left that nobody waits for; something is now."""
        assert self.abandoned
        self._quiet += (callback,)

    def when_settled(self, callback: Callable[[], object]) -> None:
        """Call back once, when nothing is under way."""
        if self.pending:
            self._settled += (callback,)
        else:
            callback()

    def when_settled_anywhere(self, callback: Callable[[], object]) -> None:
        """The same, also when the loop is closed before its threads' calls report to it.

        For what was forgotten: no call is made any more. Calls back in whatever thread.
        """
        self.when_settled(callback)
        for call in self.threads:
            call.end_with_thread()

    def ended(self, abandoned: bool) -> None:
        """One call has ended."""
        self.pending -= 1
        if abandoned:
            self.abandoned -= 1
        if not self.abandoned and self._quiet:
            callbacks, self._quiet = self._quiet, ()
            for callback in callbacks:
                callback()
        if not self.pending and self._settled:
            callbacks, self._settled = self._settled, ()
            for callback in callbacks:
                callback()


class Serial:
    """One caller after the other, in the order in which they came."""

    __slots__ = ("_waiters", "busy")

    def __init__(self) -> None:
        self.busy = False
        # Few files ever have any.
        self._waiters: deque[asyncio.Future[None]] | None = None

    async def enter(self) -> None:
        """Wait for the caller's turn; leave() ends it."""
        if not self.busy:
            self.busy = True
            return
        waiter = asyncio.get_running_loop().create_future()
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Let the next one in."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done() and not waiter.get_loop().is_closed():
                waiter.set_result(None)
                return
        self.busy = False


# A forgotten file's calls end in their threads, and perhaps in the loop as well.  One that may be
# entered again: a finalizer enters it, too.
_ending = threading.RLock()


class _InThread:
    """A function for a thread, and whether the thread is through with it."""

    __slots__ = ("_begun", "_callback", "_function", "_over", "_revoked")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._callback: Callable[[], object] | None = None
        self._begun = False
        self._over = False
        self._revoked = False

    def __call__(self) -> Any:
        with _ending:
            if self._revoked:
                return None
            self._begun = True
        try:
            return self._function()
        finally:
            self._end()

    def revoke(self) -> bool:
        """It must not be called any more: the executor does not take it; whether it never was.

        One that found no thread has queued it all the same, for when it finds one.
        """
        with _ending:
            self._revoked = True
            return not self._begun

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call back once, from that thread, or now."""
        with _ending:
            if not self._over:
                self._callback = callback
                return
        callback()

    def _end(self) -> None:
        with _ending:
            self._over = True
            callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def __del__(self) -> None:
        # An executor that was shut down lets go of what it never began.
        self._end()


class _Call:
    """One call under way, on the ring or in a thread."""

    __slots__ = (
        "_late",
        "_loop",
        "_over",
        "_thread",
        "_undone",
        "_use",
        "_value",
        "abandoned",
        "waiter",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        use: Use | None,
        value: Callable[[int], Any] | None,
        late: Callable[[Any], object] | None,
        undone: Callable[[], object] | None,
    ) -> None:
        self.waiter: asyncio.Future[Any] = loop.create_future()
        self.abandoned = False
        self._over = False
        self._loop = loop
        self._use = use
        self._value = value
        self._late = late
        self._undone = undone
        self._thread: _InThread | None = None
        if use is not None:
            use.pending += 1

    def abandon(self) -> None:
        """Its caller was cancelled, and does not wait for it any more."""
        if self._over and self.waiter.cancelled():
            # It ended before the cancelled task woke up: `late` was told.
            return
        if self.waiter.cancelled():
            self.abandoned = True
            if self._use is not None:
                self._use.abandoned += 1
        elif self._late is not None and self.waiter.exception() is None:
            # It had ended, but the task was cancelled before it woke up.
            result = self.waiter.result()
            if not isinstance(result, _Failure):
                self._late(result)

    def never_began(self) -> None:
        """Nothing comes of it, for nothing was done."""
        try:
            if self._undone is not None:
                self._undone()
        finally:
            self.ended()

    def in_thread(self, function: Callable[[], Any]) -> _InThread:
        """The function for the thread to call."""
        self._thread = _InThread(function)
        if self._use is not None:
            self._use.threads += (self,)
        return self._thread

    def end_with_thread(self) -> None:
        """End as soon as the thread is through, without the loop."""
        assert self._thread is not None
        self._thread.when_over(self.ended)

    def ended(self) -> None:
        """Nothing more comes of it."""
        with _ending:
            if self._over:
                return
            self._over = True
        if self._use is not None:
            if self._thread is not None:
                self._use.threads = tuple(c for c in self._use.threads if c is not self)
            self._use.ended(self.abandoned)

    def ring_ended(self, request: Any) -> None:
        """The request has ended; called again when there was no memory to say so."""
        try:
            if self.waiter.done() and not self.waiter.cancelled():
                return
            result, flags = request.result, request.flags
            if flags & _UNKNOWN and self._loop.is_closed():
                _logger.warning(
                    "a call of a file hung while its loop was closed; the thread that makes"
                    " it and the memory that it uses are kept until it ends, if ever"
                )
            if result < 0:
                if not self.waiter.done() and not self._loop.is_closed():
                    wake(self.waiter, self.waiter.set_result, _Failure(result))
                elif result == -errno.ECANCELED and not flags & _UNKNOWN and self._undone:
                    self._undone()
            elif request.opened is not None:
                self._arrived(request.opened)
            else:
                self._arrived(result if self._value is None else self._value(result))
        finally:
            self.ended()

    def thread_ended(self, future: asyncio.Future[Any]) -> None:
        try:
            if future.cancelled():
                # The executor was shut down.
                self.waiter.cancel()
                if self._thread is not None and self._thread.revoke() and self._undone is not None:
                    self._undone()
                return
            error = future.exception()
            if error is None:
                self._arrived(future.result())
            elif not self.waiter.done():
                self.waiter.set_exception(error)
        finally:
            self.ended()

    def _arrived(self, value: Any) -> None:
        if not self.waiter.done() and not self._loop.is_closed():
            wake(self.waiter, self.waiter.set_result, value)
        elif self._late is not None:
            late, self._late = self._late, None
            late(value)


class _Failure:
    """-errno of the ring: an exception is made where its file's name is known."""

    __slots__ = ("result",)

    def __init__(self, result: int) -> None:
        self.result = result


class Calls:
    """The calls of one loop."""

    __slots__ = ("_driver", "_known", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, for it is found by its loop.
        self._loop = weakref.ref(loop)
        self._driver: Any = getattr(loop, "_driver", None) if hasattr(loop, "_request") else None
        self._known: dict[int, bool] = {}

    def has(self, opcode: int) -> bool:
        """Whether the loop's driver makes such requests."""
        known = self._known.get(opcode)
        if known is None:
            driver = self._driver
            known = self._known[opcode] = driver is not None and driver.has_request(opcode)
        return known

    async def make(
        self,
        request: Request | None,
        keep: object,
        function: Callable[..., T],
        *arguments: Any,
        use: Use | None = None,
        value: Callable[[int], T] | None = None,
        late: Callable[[T], object] | None = None,
        undone: Callable[[], object] | None = None,
        names: tuple[Any, ...] = (),
        ready: tuple[int, bool, Callable[[], T | None]] | None = None,
        audit: tuple[Any, ...] | None = None,
    ) -> T:
        """Make one call and give its value.

        request, keep: the ring's operation and what it borrows; None: threads only.
        function(*arguments): the same in a thread.
        use: counts it while it is under way.
        value: makes the value of the ring's result; by default it is the value, or the owner of
            the descriptor that it is.
        late: gets the value when the caller was cancelled, but the call was not.
        undone: called when the call was never made and the caller cannot make another: it was
            cancelled, or there is no memory or thread; then nothing is raised but what
            `undone` raises.
        names: the paths to tell in an OSError.
        ready: a descriptor, whether it is to be written, and the call without waiting, for a
            call that waits for others: its value, BlockingIOError, or None when it cannot say.
            A thread in such a call could not be cancelled.
        audit: the event of os that `function` raises by itself.
        """
        number, writing, at_once = ready if ready is not None else (-1, False, None)
        waits = False
        if at_once is not None:
            try:
                got = at_once()
            except BlockingIOError:
                got, waits = None, True
            if got is not None:
                return got
        if request is not None and self.has(request[0]):
            if audit is not None:
                sys.audit(*audit)
            made: Any = await self._make_request(request, keep, use, value, late, undone, names)
            if made is not _NOT_BY_DRIVER:
                return made  # type: ignore[no-any-return]
        while at_once is not None and await readiness(number, writing) and waits:
            try:
                got = at_once()
            except BlockingIOError:
                continue
            if got is not None:
                return got
            break
        return await self._make_in_thread(  # type: ignore[no-any-return]
            functools.partial(function, *arguments), use, late, undone
        )

    async def _make_request(
        self,
        request: Request,
        keep: object,
        use: Use | None,
        value: Callable[[int], Any] | None,
        late: Callable[[Any], object] | None,
        undone: Callable[[], object] | None,
        names: tuple[Any, ...],
    ) -> Any:
        """Have the driver make a call; _NOT_BY_DRIVER when it did not and will not."""
        loop: Any = self._loop()
        while True:
            call = _Call(loop, use, value, late, undone)
            try:
                made = loop._request(call.ring_ended, (keep, use, call), request)
                refused = isinstance(made, int)
                if refused and undone is None:
                    raise os_error(made, *names)
            except BaseException:
                call.never_began()
                raise
            if refused:
                call.never_began()
                return None
            try:
                result = await call.waiter
            except asyncio.CancelledError:
                call.abandon()
                if call.abandoned and made.cancel() == 0:
                    call.never_began()
                raise
            if type(result) is not _Failure:
                return result
            if result.result == -errno.ENOTBLK:
                # Nothing was done: it waits for others, or there is no thread for it.
                return _NOT_BY_DRIVER
            if result.result != -errno.EINTR:
                raise os_error(result.result, *names)

    async def _make_in_thread(
        self,
        function: Callable[[], Any],
        use: Use | None,
        late: Callable[[Any], object] | None,
        undone: Callable[[], object] | None,
    ) -> Any:
        """Have a thread of the loop's executor call `function`."""
        loop: Any = self._loop()
        call = _Call(loop, use, None, late, undone)
        queued = call.in_thread(function)
        try:
            future = loop.run_in_executor(None, queued)
        except BaseException as exc:
            queued.revoke()
            call.never_began()
            if not isinstance(exc, RuntimeError):
                raise
            if undone is not None:
                return None
            if threading.main_thread().is_alive():
                raise
            # The interpreter ends: only handlers of atexit still run, and no thread begins.
            return function()
        future.add_done_callback(call.thread_ended)
        try:
            return await call.waiter
        except asyncio.CancelledError:
            call.abandon()
            raise


_by_loop: weakref.WeakKeyDictionary[Any, Calls] = weakref.WeakKeyDictionary()
# Those that were asked for last: most programs have one loop.
_latest: Calls | None = None


def of_loop() -> Calls:
    """The calls of the running loop."""
    global _latest
    loop = asyncio.get_running_loop()
    found = _latest
    if found is None or found._loop() is not loop:
        found = _by_loop.get(loop)
        if found is None:
            found = _by_loop[loop] = Calls(loop)
        _latest = found
    return found


def borrow(buffer: Any) -> tuple[object, int]:
    """The object that keeps a buffer where it is, and the buffer's address for a request."""
    return buffer, 0 if file_address is None else file_address(buffer)


def encode_path(path: Any) -> bytes:
    """A path as the kernel wants it; ValueError for one with a null byte, as os has it."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


async def readiness(descriptor: int, writing: bool) -> bool:
    """Wait until a pipe or terminal can be read or written; False where the loop cannot tell."""
    loop = asyncio.get_running_loop()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    )
    ready = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        add(descriptor, tell)
    except (OSError, NotImplementedError, ValueError):
        # A descriptor that cannot be waited for is always ready, or its thread waits.
        return False
    try:
        await ready
    finally:
        remove(descriptor)
    return True

