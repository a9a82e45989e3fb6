"""Subprocesses: starting them, and learning that they have ended.

The transport is the standard library's, which needs only to be told how a
process is started. So are the two functions, which check the arguments and tell
the log. Popen reads a pipe until the program runs, and a tool that looks for
blocking calls (blockbuster) allows that to asyncio's functions, which it knows by
file and name: these must be on the stack.

The exit is found by polling a pidfd through the driver, which takes neither a
SIGCHLD handler nor the main thread, and leaves every other child of the program
alone. A child is reaped here, in the loop's thread, in the same step that makes
its return code known: until then its number cannot be given to another process,
and after it no signal is sent.

Why not IORING_OP_WAITID, which spares the descriptor: such a request belongs to
the thread that submitted it and ends with it, where a poll is carried over to
the next ring; kernels from 6.7 on mishandled one that is cancelled while its
child exits; and it has no equal on the selector. A process costs far more than
its pidfd.

The two subprocess functions are methods of EventLoop, hence the first parameter.
Source: asyncio, Running subprocesses.
"""

from __future__ import annotations

import asyncio
import functools
import os
import select
import signal
import subprocess
import threading

from .._core import Poll
from . import _stdlib
from ._stdlib import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .loop import EventLoop

    F = TypeVar("F")
    P = TypeVar("P", bound=asyncio.BaseProtocol)
    ProtocolFactory = Callable[[], P]
    Started = tuple[asyncio.SubprocessTransport, P]


# One that was killed ends within a few of these.
_ASKED_EVERY_S = 0.005


class _Starter:
    """The loop that asyncio's two functions see: it starts the program and waits for its pipes."""

    __slots__ = ("_loop",)

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    @property
    def _debug(self) -> bool:
        return self._loop.get_debug()

    _log_subprocess = _stdlib.log_subprocess

    async def _make_subprocess_transport(
        self,
        protocol: asyncio.SubprocessProtocol,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **options: Any,
    ) -> SubprocessTransport:
        loop = self._loop
        waiter = loop.create_future()
        transport = SubprocessTransport(
            loop, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, **options
        )
        try:
            child = ExitWatch(loop, transport)
        except BaseException as exc:
            transport.close()
            if isinstance(exc, Exception):
                await transport.ask_for_end()
            raise
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            # Not for the transport's own end: that waits for pipes, and those that a
            # cancelled task did not connect never tell.
            await child.wait()
            transport.close_pipes()
            raise
        return transport


def _signature_of(function: Any) -> Callable[[F], F]:
    """Show `function`'s signature for ours."""
    return functools.wraps(function, assigned=())  # type: ignore[return-value]


@_signature_of(_stdlib.subprocess_exec)
async def subprocess_exec(
    self: EventLoop, protocol_factory: ProtocolFactory[P], *args: Any, **options: Any
) -> Started[P]:
    """Start a program; gives (transport, protocol)."""
    started: Started[P] = await _stdlib.subprocess_exec(
        _Starter(self), protocol_factory, *args, **options
    )
    return started


@_signature_of(_stdlib.subprocess_shell)
async def subprocess_shell(
    self: EventLoop, protocol_factory: ProtocolFactory[P], *args: Any, **options: Any
) -> Started[P]:
    """Run a command line in the shell; gives (transport, protocol)."""
    started: Started[P] = await _stdlib.subprocess_shell(
        _Starter(self), protocol_factory, *args, **options
    )
    return started


class SubprocessTransport(_stdlib.SubprocessTransport):  # type: ignore[misc]  # private: Any
    """A child process: the standard library's transport on our pipes."""

    _connecting = False

    def _start(
        self,
        args: Any,
        shell: bool,
        stdin: Any,
        stdout: Any,
        stderr: Any,
        bufsize: int,
        **kwargs: Any,
    ) -> None:
        self._proc = subprocess.Popen(
            args,
            shell=shell,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            universal_newlines=False,
            bufsize=bufsize,
            **kwargs,
        )

    async def _connect_pipes(self, waiter: asyncio.Future[None]) -> None:
        self._connecting = True
        try:
            await super()._connect_pipes(waiter)
        finally:
            self._connecting = False
            if self._closed:
                self.close_pipes()

    def close_pipes(self) -> None:
        """Close what close() could not: the pipes that were not connected when it was called."""
        if self._connecting or self._proc is None:
            return
        streams = (self._proc.stdin, self._proc.stdout, self._proc.stderr)
        for number, stream in enumerate(streams):
            protocol = self._pipes.get(number)
            if protocol is not None:
                protocol.pipe.close()
            elif stream is not None:
                stream.close()

    def close(self) -> None:
        """Close the pipes, and kill the process if it still runs."""
        try:
            super().close()
        except PermissionError:
            # It runs as somebody else by now.  (Python before 3.13 lets this out.)
            pass
        if self._loop is not None and self._loop.is_closed():
            # Python since 3.14 leaves the pipes of a closed loop open; ours can be closed.
            self.close_pipes()

    async def ask_for_end(self) -> None:
        """Ask again and again for the end of a process that was killed, and that nobody watches."""
        while self._proc.poll() is None:
            await asyncio.sleep(_ASKED_EVERY_S)
        self._process_exited(self._proc.returncode)
        self.close_pipes()

    def send_signal(self, signal: int) -> None:
        """Send a signal, unless the process is known to have ended.

        The check is Popen's return code, set when the process is reaped: a
        signal sent later could reach whoever got its number.
        """
        self._check_proc()
        if self._proc.returncode is not None:
            return
        try:
            os.kill(self._proc.pid, signal)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class ExitWatch:
    """Waits for a child process to end, reaps it and tells its transport.

    It owns the pidfd; the loop holds it, and through it the transport, until then.
    """

    def __init__(self, loop: EventLoop, transport: SubprocessTransport) -> None:
        self._loop = loop
        self._transport = transport
        self._pid: int = transport.get_pid()
        self._ended = loop.create_future()
        self._watch: Poll | None = None
        self._pidfd = _open_pidfd(self._pid)
        loop._children.add(self)
        if self._pidfd >= 0:
            self._watch = Poll(loop, self._pidfd, select.POLLIN, self._readable)
        else:
            # A seccomp filter, a Python built without, or no descriptor is left.
            self._start_thread()

    async def wait(self) -> None:
        """Wait until the process has ended and the transport knows it."""
        await self._ended

    def close(self) -> None:
        """Stop waiting: the process has ended, or the loop is closed."""
        self._loop._children.discard(self)
        if self._watch is not None:
            self._watch.cancel()
            if self._watch.in_flight:
                # A poll that still waits for room in the queue names the descriptor, not its file.
                self._loop._submit()
            self._watch = None
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _readable(self) -> None:
        assert self._watch is not None
        if self._watch.ready < 0:
            logger.info("polling the pidfd of %d failed: %d", self._pid, self._watch.ready)
            self._start_thread()
        else:
            self._exited()

    def _exited(self) -> None:
        process = self._transport._proc
        returncode = process.returncode
        if returncode is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                returncode = 255
                logger.warning(
                    "child process pid %d exit status already read: will report returncode 255",
                    self._pid,
                )
            else:
                if pid == 0:
                    return
                returncode = os.waitstatus_to_exitcode(status)
        # Else Popen.poll() was faster, when the transport was closed.
        self.close()
        self._transport._process_exited(returncode)
        if not self._ended.done():
            self._ended.set_result(None)

    def _start_thread(self) -> None:
        name = f"uring_loop-waitpid-{self._pid}"
        try:
            threading.Thread(target=self._wait_in_thread, name=name, daemon=True).start()
        except BaseException:
            self.close()
            raise

    def _wait_in_thread(self) -> None:
        try:
            # Leaves it for the loop's thread to reap.
            os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass
        try:
            self._loop.call_soon_threadsafe(self._exited)
        except RuntimeError:
            # The loop is closed.
            pass


def _open_pidfd(pid: int) -> int:
    """A descriptor that is readable once the process has ended; -1 when there is none to have."""
    try:
        return os.pidfd_open(pid)
    except (OSError, AttributeError):
        return -1
