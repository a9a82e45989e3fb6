"""Subprocesses: starting them, and learning that they have ended.

The transport is the standard library's, which needs only to be told how a
process is started. The exit is found by polling a pidfd through the driver,
which takes neither a SIGCHLD handler nor the main thread, and leaves every
other child of the program alone. A child is reaped here, in the loop's thread,
in the same step that makes its return code known: until then its number cannot
be given to another process, and after it no signal is sent.

Why not IORING_OP_WAITID, which spares the descriptor: such a request belongs to
the thread that submitted it and ends with it, where a poll is carried over to
the next ring; kernels from 6.7 on mishandled one that is cancelled while its
child exits; and it has no equal on the selector. A process costs far more than
its pidfd.

The two subprocess functions are methods of EventLoop, hence the first parameter.
Source: asyncio, Running subprocesses.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable

from . import _stdlib
from ._core import Watch
from ._stdlib import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from typing import Any

    from .loop import EventLoop

    ProtocolFactory = Callable[[], asyncio.SubprocessProtocol]
    Started = tuple[asyncio.SubprocessTransport, asyncio.SubprocessProtocol]


async def subprocess_exec(
    self: EventLoop,
    protocol_factory: ProtocolFactory,
    program: Any,
    *args: Any,
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    universal_newlines: bool = False,
    shell: bool = False,
    bufsize: int = 0,
    encoding: None = None,
    errors: None = None,
    text: bool | None = None,
    **kwargs: Any,
) -> Started:
    """Start a program; gives (transport, protocol)."""
    _check_binary(universal_newlines)
    if shell:
        raise ValueError("shell must be False")
    _check_rest(bufsize, text, encoding, errors)
    what = f"execute program {program!r}"
    pipes = (stdin, stdout, stderr)
    return await _start(self, what, protocol_factory, (program, *args), False, pipes, kwargs)


async def subprocess_shell(
    self: EventLoop,
    protocol_factory: ProtocolFactory,
    cmd: str | bytes,
    *,
    stdin: Any = subprocess.PIPE,
    stdout: Any = subprocess.PIPE,
    stderr: Any = subprocess.PIPE,
    universal_newlines: bool = False,
    shell: bool = True,
    bufsize: int = 0,
    encoding: None = None,
    errors: None = None,
    text: bool | None = None,
    **kwargs: Any,
) -> Started:
    """Run a command line in the shell; gives (transport, protocol)."""
    if not isinstance(cmd, (bytes, str)):
        raise ValueError("cmd must be a string")
    _check_binary(universal_newlines)
    if not shell:
        raise ValueError("shell must be True")
    _check_rest(bufsize, text, encoding, errors)
    what = f"run shell command {cmd!r}"
    pipes = (stdin, stdout, stderr)
    return await _start(self, what, protocol_factory, cmd, True, pipes, kwargs)


def _check_binary(universal_newlines: bool) -> None:
    if universal_newlines:
        raise ValueError("universal_newlines must be False")


def _check_rest(bufsize: int, text: Any, encoding: Any, errors: Any) -> None:
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


async def _start(
    loop: EventLoop,
    what: str,
    protocol_factory: ProtocolFactory,
    args: Any,
    shell: bool,
    pipes: tuple[Any, Any, Any],
    options: dict[str, Any],
) -> Started:
    protocol = protocol_factory()
    debug = loop.get_debug()
    if debug:
        # Of the arguments not a word: they may be long, or secret.
        logger.debug("%s", _describe_start(what, *pipes))
    waiter = loop.create_future()
    transport = SubprocessTransport(
        loop, protocol, args, shell, *pipes, 0, waiter=waiter, **options
    )
    try:
        child = ExitWatch(loop, transport)
    except BaseException:
        transport.close()
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
    if debug:
        logger.info("%s: %r", what, transport)
    return transport, protocol


def _describe_start(what: str, stdin: Any, stdout: Any, stderr: Any) -> str:
    parts = [what]
    if stdin is not None:
        parts.append(f"stdin={_stdlib.format_pipe(stdin)}")
    if stdout is not None and stderr == subprocess.STDOUT:
        parts.append(f"stdout=stderr={_stdlib.format_pipe(stdout)}")
    else:
        if stdout is not None:
            parts.append(f"stdout={_stdlib.format_pipe(stdout)}")
        if stderr is not None:
            parts.append(f"stderr={_stdlib.format_pipe(stderr)}")
    return " ".join(parts)


class SubprocessTransport(_stdlib.SubprocessTransport):
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
        self._watch: Watch | None = None
        self._pidfd = _open_pidfd(self._pid)
        loop._children.add(self)
        if self._pidfd >= 0:
            self._watch = Watch(loop, self._pidfd, select.POLLIN, self._readable)
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
                # What still waits for room in the queue names the descriptor, not its file.
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
