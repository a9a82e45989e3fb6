"""Who makes a file's system call: the loop's driver, or the default executor.

A call names the ring's operation and a function that does the same in a thread.
The driver is asked first (its selector has threads for this); one that has no
such operation says so at once, and from then on that loop uses its default
executor for it.  What might wait for others it leaves to the executor as well.
A loop that is not ours has no driver to ask.  So this works on any asyncio loop.

Cancelling a caller asks the kernel to end the operation and does not wait for
it: what it borrows stays held, and `Use` counts it, until it has really ended.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from ._core import file_address
except ModuleNotFoundError:
    # No compiled modules on this platform: threads only.
    file_address = None

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

# UL_KEEP: the ring was lost, and nobody knows what becomes of the call.
_UNKNOWN = 1 << 3

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
    """What is under way on one descriptor, which must stay open until then."""

    __slots__ = ("_quiet", "_settled", "abandoned", "pending", "threads")

    def __init__(self) -> None:
        self.pending = 0
        self.abandoned = 0
        # Those of the calls that are a thread's; most files never have any.
        self.threads: tuple[_Call, ...] = ()
        # Few files ever have any.
        self._quiet: tuple[Callable[[], object], ...] = ()
        self._settled: tuple[Callable[[], object], ...] = ()

    def when_quiet(self, callback: Callable[[], object]) -> None:
        """Call back once, when nothing is left that nobody waits for."""
        if self.abandoned:
            self._quiet += (callback,)
        else:
            callback()

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

    __slots__ = ("_callback", "_function", "_over")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._callback: Callable[[], object] | None = None
        self._over = False

    def __call__(self) -> Any:
        try:
            return self._function()
        finally:
            self._end()

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
        if self._undone is not None:
            self._undone()
        self.ended()

    def in_thread(self, function: Callable[[], Any]) -> _InThread:
        """What the thread is to call."""
        self._thread = _InThread(function)
        if self._use is not None:
            self._use.threads += (self,)
        return self._thread

    def end_with_thread(self) -> None:
        """End as soon as the thread is through, without the loop."""
        if self._thread is not None:
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

    def ring_ended(self, result: int, flags: int) -> None:
        try:
            if result < 0:
                if not self.waiter.done() and not self._loop.is_closed():
                    self.waiter.set_result(_Failure(result))
                elif result == -errno.ECANCELED and not flags & _UNKNOWN and self._undone:
                    self._undone()
            else:
                self._arrived(result if self._value is None else self._value(result))
        finally:
            self.ended()

    def thread_ended(self, future: asyncio.Future[Any]) -> None:
        try:
            if future.cancelled():
                self.waiter.cancel()
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
            self.waiter.set_result(value)
        elif self._late is not None:
            self._late(value)


class _Failure:
    """-errno of the ring: an exception is made where its file's name is known."""

    __slots__ = ("result",)

    def __init__(self, result: int) -> None:
        self.result = result


class Calls:
    """The calls of one loop."""

    __slots__ = ("_loop", "_refused", "_ring")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # Weak, for it is found by its loop.
        self._loop = weakref.ref(loop)
        self._ring = hasattr(loop, "_driver") and hasattr(loop, "_expect")
        self._refused: set[int] = set()

    def has(self, opcode: int) -> bool:
        """Whether the ring has not refused this operation so far."""
        return self._ring and opcode not in self._refused

    async def make(
        self,
        request: Request | None,
        keep: object,
        function: Callable[..., Any],
        *arguments: Any,
        use: Use | None = None,
        value: Callable[[int], Any] | None = None,
        late: Callable[[Any], object] | None = None,
        undone: Callable[[], object] | None = None,
        names: tuple[Any, ...] = (),
        ready: tuple[int, bool] | None = None,
    ) -> Any:
        """Make one call and give its value.

        request, keep: the ring's operation and what it borrows; None: threads only.
        function(*arguments): the same in a thread.
        use: counts it while it is under way.
        value: makes the value of the ring's result; by default it is the value.
        late: gets the value when the caller was cancelled, but the call was not.
        undone: called when the caller was cancelled, and the call was never made.
        names: the paths to tell in an OSError.
        ready: a descriptor and whether it is to be written, when the call waits for others:
            a thread in it could not be cancelled, so it starts only when that is ready.
        """
        loop: Any = self._loop()
        while request is not None and self.has(request[0]):
            call = _Call(loop, use, value, late, undone)
            token = loop._request(call.ring_ended, (keep, use, call), request)
            if token < 0:
                call.ended()
                if token == -errno.EOPNOTSUPP:
                    self._refused.add(request[0])
                    break
                raise _os_error(token, names)
            try:
                result = await call.waiter
            except asyncio.CancelledError:
                call.abandon()
                if call.abandoned and loop._cancel(token) == 0:
                    call.never_began()
                raise
            if type(result) is not _Failure:
                return result
            if result.result == -errno.ENOTBLK:
                # The driver could not cancel it: it waits for others.
                break
            if result.result != -errno.EINTR:
                raise _os_error(result.result, names)
        if ready is not None:
            await readiness(*ready)
        call = _Call(loop, use, None, late, None)
        try:
            function = call.in_thread(functools.partial(function, *arguments))
            future = loop.run_in_executor(None, function)
        except BaseException:
            call.ended()
            raise
        future.add_done_callback(call.thread_ended)
        try:
            return await call.waiter
        except asyncio.CancelledError:
            call.abandon()
            raise


_by_loop: weakref.WeakKeyDictionary[Any, Calls] = weakref.WeakKeyDictionary()
# Those that were asked for last: most programs have one loop.
_latest: Calls | None = None


def calls() -> Calls:
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


def borrow(buffer: object) -> tuple[object, int]:
    """What keeps a buffer that nobody resizes where it is, and its address for a request."""
    return buffer, 0 if file_address is None else file_address(buffer)


def encode_path(path: Any) -> bytes:
    """A path as the kernel wants it; ValueError for one with a null byte, as os has it."""
    encoded = os.fsencode(path)
    if b"\0" in encoded:
        raise ValueError("embedded null byte")
    return encoded


def _os_error(result: int, names: tuple[Any, ...]) -> OSError:
    message = os.strerror(-result)
    if not names:
        return OSError(-result, message)
    if len(names) == 1:
        return OSError(-result, message, names[0])
    return OSError(-result, message, names[0], None, names[1])


async def readiness(descriptor: int, writing: bool) -> None:
    """Wait until a pipe or terminal can be read or written, where the loop can tell."""
    loop = asyncio.get_running_loop()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    )
    ready = loop.create_future()
    try:
        add(descriptor, lambda: ready.done() or ready.set_result(None))
    except (OSError, NotImplementedError, ValueError):
        # What cannot be waited for is always ready, or its thread waits.
        return
    try:
        await ready
    finally:
        remove(descriptor)

