"""Signals: handlers of the loop, and waking a sleeping loop for Python's own.

CPython runs signal handlers between bytecodes of the main thread.  A loop that
sleeps in the kernel runs none, and a signal that comes just before the sleep,
or that the kernel gives to another thread, does not even interrupt it.  So
while a loop runs in the main thread, CPython's C handler writes the signal's
number into a pipe (signal.set_wakeup_fd) that the loop waits for.
"""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable

from .._core import Loop, Poll
from ._stdlib import iscoroutine, iscoroutinefunction, logger
from .operations import os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

call_soon = Loop.call_soon

# More numbers than a burst of signals leaves; the rest is read in the next turn.
_READ_SIZE = 4096


def _noop(signum: int, frame: object) -> None:
    """Its being set makes CPython write the signal's number into the wake-up pipe."""


class Signals:
    """The signal side of one loop."""

    # For __del__() of one whose __init__() there was no memory for.
    _pipes: list[tuple[int, int]] = []

    def __init__(self, loop: EventLoop) -> None:
        # Let go by close(): a closed loop is freed with its last name.
        self._loop: EventLoop | None = loop
        # asyncio's _signal_handlers, which others read and clear.
        self.handlers: dict[int, Any] = {}
        # What is open, and the ends of the pipe that is in use, or -1.
        self._pipes = []
        self._reader = self._writer = -1
        self._watching: Poll | None = None
        self._process = 0
        self._entered = False

    # While the loop runs.

    def enter(self) -> None:
        """The loop is about to run: let signals wake it, if this is the main thread."""
        if threading.get_ident() != threading.main_thread().ident:
            return
        try:
            descriptor = self._open()
            # First, so that whatever interrupts us is followed by leave().
            self._entered = True
            previous = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        except (ValueError, OSError) as exc:
            # A subinterpreter, which gets no signals, or no descriptors are left.
            self._entered = False
            logger.info("signals cannot wake the loop: %s", exc)
            return
        if previous not in (-1, descriptor) and _install(previous):
            # Somebody else's wake-up.  EINTR still ends our sleep, nearly always.
            self._entered = False
        else:
            _current.add(self)

    def leave(self) -> None:
        """The loop has stopped running."""
        if not self._entered:
            return
        if not self.handlers:
            self._uninstall()
        self._entered = False

    def close(self) -> None:
        """The loop is closed: remove its handlers and close what is open."""
        if sys.is_finalizing():
            if self.handlers:
                warnings.warn(
                    f"Closing the loop {self._loop!r} on interpreter shutdown stage, "
                    f"skipping signal handlers removal",
                    ResourceWarning,
                    source=self._loop,
                    stacklevel=1,
                )
                self.handlers.clear()
        else:
            for signum in list(self.handlers):
                self.remove(signum)
            # An exception came between us and the end of a run.
            self.leave()
        self._close_pipe()
        self._loop = None

    def __del__(self) -> None:
        # Of a loop that nobody has closed; __del__ of a subclass may have kept us from it.
        if self._pipes:
            self._close_pipe()

    # Handlers.

    def add(self, sig: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Call callback(*args) in the loop when the signal comes.

        ValueError for a signal that is none, TypeError for a coroutine,
        RuntimeError for a signal that cannot be caught or outside the main thread.
        """
        if iscoroutine(callback) or iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        _check_signal(sig)
        if self._loop is None:
            raise RuntimeError("Event loop is closed")
        try:
            # ValueError when this is not the main thread, before anything is changed.
            signal.set_wakeup_fd(self._open())
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        _current.add(self)
        self.handlers[sig] = asyncio.Handle(callback, args, self._loop, None)
        try:
            signal.signal(sig, _noop)
            # Restart system calls of the program's other threads and libraries.
            signal.siginterrupt(sig, False)
        except OSError as exc:
            del self.handlers[sig]
            self._uninstall_when_unused()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise

    def remove(self, sig: int) -> bool:
        """Give the signal its default action back; whether there was a handler."""
        _check_signal(sig)
        if self.handlers.pop(sig, None) is None:
            return False
        default = signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL
        try:
            signal.signal(sig, default)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise
        self._uninstall_when_unused()
        return True

    # The wake-up pipe.

    def _open(self) -> int:
        """The descriptor for set_wakeup_fd(), made when first needed in this process."""
        if self._writer < 0 or self._process != os.getpid():
            # After a fork the old pipe is the parent's: our signals are not for it.
            self._close_pipe()
            assert self._loop is not None
            # Ctrl-C may come behind any call made in Python, and lose what the call returned; this
            # one is made by the list, which has the descriptors before that.
            self._pipes.extend(map(os.pipe2, [os.O_CLOEXEC | os.O_NONBLOCK]))
            try:
                reader, writer = self._pipes[-1]
                self._watching = Poll(self._loop, reader, select.POLLIN, self._readable)
            except BaseException:
                self._close_pipe()
                raise
            self._reader, self._writer = reader, writer
            self._process = os.getpid()
        return self._writer

    def _close_pipe(self) -> None:
        _current.discard(self)
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        self._reader = self._writer = -1
        while self._pipes:
            for descriptor in self._pipes.pop():
                os.close(descriptor)

    def _uninstall_when_unused(self) -> None:
        if not self.handlers and not self._entered:
            self._uninstall()

    def _uninstall(self) -> None:
        _current.discard(self)
        try:
            previous = signal.set_wakeup_fd(-1)
            if previous not in (-1, self._writer):
                _install(previous)
        except (ValueError, OSError) as exc:
            logger.info("set_wakeup_fd(-1) failed: %s", exc)

    def _readable(self) -> None:
        assert self._watching is not None and self._loop is not None
        if self._watching.ready < 0:
            raise os_error(self._watching.ready)
        try:
            numbers = os.read(self._reader, _READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        for number in numbers:
            handler = self.handlers.get(number)
            if handler is None:
                continue
            if handler.cancelled():
                self.remove(number)
            else:
                # Not by the loop's own name: asyncio's call_soon() does not hear of signals.
                call_soon(
                    self._loop, handler._callback, *handler._args, context=handler._context
                )


def _install(descriptor: int) -> bool:
    """Give somebody's wake-up back; False when it was closed and left behind."""
    try:
        signal.set_wakeup_fd(descriptor)
    except (ValueError, OSError):
        return False
    return True


def _check_signal(sig: Any) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


# Those whose wake-up pipe CPython writes to: one, or none.
_current: weakref.WeakSet[Signals] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    if _current:
        # The child's signals must not reach the parent's loop.  Who forks is its main thread.
        signal.set_wakeup_fd(-1)
    _current.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
