"""EventLoop: the table of contents.

What runs per callback is in the C core, its base class; every other method is
one line into the module that owns it.  Here is only what belongs to the loop
as a whole: running and closing it, tasks, the executor, asynchronous
generators, and the exception handler's seat.

Source: asyncio, Event Loop; where it is silent, the running Python's own loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import threading
import warnings
import weakref
from asyncio import tasks
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)

from .. import _core
from . import (
    _helpers,
    _stdlib,
    connect,
    datagrams,
    errors,
    own_calls,
    pipes,
    queues,
    readers,
    report,
    resolve,
    sendfile,
    server,
    sockets,
    statistics,
    stream_classes,
    subprocesses,
    tls,
)
from .driver import asked_by_environment, open_driver
from .signals import Signals
from .splice import DirectSender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, TypeVarTuple

    T = TypeVar("T")
    Ts = TypeVarTuple("Ts")
    if sys.version_info >= (3, 12):
        CoroutineLike = Coroutine[Any, Any, T]
    else:
        CoroutineLike = Generator[Any, None, T] | Coroutine[Any, Any, T]

_helpers.install_helpers()
stream_classes.install_stream_classes()

# Since 3.14 a task factory gets every keyword that was given, the name too, as it was given.
_FACTORY_GETS_ALL = sys.version_info >= (3, 14)


class _NotGiven:
    """In place of a keyword that was not given, which is not the same as None."""

    def __repr__(self) -> str:
        return "not given"


_NOT_GIVEN = _NotGiven() if _FACTORY_GETS_ALL else None


class EventLoop(_core.Loop, asyncio.AbstractEventLoop):
    """An asyncio event loop on io_uring, or on epoll where there is no ring.

    driver: "uring", "selector" or "auto"; by default what the environment's
    URING_LOOP_DRIVER says, else auto.
    disable: names of kernel features that the ring shall do without, besides
    those of the environment's URING_LOOP_DISABLE.
    send_at_once: whether each write() of a stream is offered to the kernel inside the call,
    at the price of a system call each. By default what is written in a turn leaves at its
    end, which asyncio's documentation allows ("buffers the data and arranges for it to be
    sent out asynchronously"), unless the environment's URING_LOOP_SEND_AT_ONCE is set. For
    last words before os._exit() or exec, before a long computation, or with a debugger.
    """

    # Where users know it from.
    __module__ = "uring_loop"
    # Whoever sets an attribute of their own gets a __dict__ for it; without one Python's
    # method calls need not look there first.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_children",
        "_default_executor",
        "_driver",
        "_exception_handler",
        "_executor_shutdown_called",
        "_longest",
        "_origin_depth",
        "_other_transports",
        "_reader_objects",
        "_receive_buffer",
        "_sender",
        "_signals",
        "_task_factory",
        "_writer_objects",
    )

    def __init__(
        self,
        driver: str | None = None,
        disable: Iterable[str] = (),
        *,
        send_at_once: bool | None = None,
    ) -> None:
        if send_at_once is None:
            send_at_once = os.environ.get("URING_LOOP_SEND_AT_ONCE", "0") not in ("", "0")
        self._signals = Signals(self)
        # Made by tls_protocol.py, when it is first needed.
        self._receive_buffer: memoryview | None = None
        self._reader_objects: dict[int, Any] = {}
        self._writer_objects: dict[int, Any] = {}
        self._children: set[subprocesses.ExitWatch] = set()
        self._default_executor: concurrent.futures.ThreadPoolExecutor | None = None
        self._executor_shutdown_called = False
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown_called = False
        self._longest: statistics.Longest | None = None
        self._exception_handler: errors.ExceptionHandler | None = None
        self._task_factory: Any = None
        self._origin_depth: int | None = None
        self._other_transports: weakref.WeakValueDictionary[int, Any] | None = None
        self._driver = open_driver(driver, disable)
        try:
            self._sender = self._driver.make_sender(self)
            # Last: from here on there is a loop, which has to be closed.
            address, table = self._driver.address, self._driver.table_address
            self._attach(self._driver, address, table, send_at_once)
        except BaseException:
            self._driver.close()
            raise
        self.set_debug(_stdlib.is_debug_mode())
        if asked := asked_by_environment()[1]:
            from .statistics_server import serve_by_environment

            serve_by_environment(asked)

    def __repr__(self) -> str:
        return (
            f"<{self.__class__.__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if self.is_closed():
            return
        try:
            # Which raises where warnings are errors.
            _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
        finally:
            if not self.is_running():
                self.close()

    # The driver.

    @property
    def driver(self) -> str:
        """The driver's name: "uring" or "selector"."""
        return self._driver.name

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the kernel features that the ring uses; none on the selector."""
        return self._driver.features

    def statistics(self, since: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Counters since the loop was made, and where its time went; nothing once it is closed.

        since: an earlier answer; then only what has happened after it. Any thread may ask.

        time: of the loop while it runs, in nanoseconds.
            busy_ns, idle_ns: not asleep and asleep; utilization is the share of the first.
                On the ring the call that sleeps also sends and receives: how much of it is
                work is measured in one wait of 61.
            turns: count, mean_ns, stddev_ns, p50_ns, p90_ns, p99_ns, p99.9_ns, max_ns of the times
                between two looks at what is ready. Turns of less than 16 microseconds are
                timed in groups, those of more than 32 each; percentiles are good to 12 %.
            delay: the same of how long waits what gets ready at any moment, until the loop
                looks: nothing while it sleeps, in a turn the rest of it.
            histogram: [least ns, turns, their ns] for each quarter of a power of two.
        longest: callbacks of a millisecond or more by name, the longest first, with their ns
            and how many were seen. They are timed for a second after a turn of 10 ms, and
            always in debug mode or after time_callbacks().
        transports: bytes_in, bytes_out of all transports for sockets, of TLS as they are on
            the wire, without what sendfile() sent and what pipes carried; connections_in
            (accepted), connections_out (made); transports (open now); reading_pauses
            (pause_reading()), writing_pauses (protocols that were told to pause).
        executor: threads of the default executor, and the calls queued for one.

        turns: of the loop.
        waits: turns that went to sleep until something happened.
        enters: system calls of the turns; fewer than turns where one had nothing to ask.
        wakes: system calls that ended a sleep, from another thread or a signal.
        submitted, completed: operations handed over, and their completions.  A stream
            (receiving, accepting) is one operation with many completions.
        submissions: what was queued for the kernel, by the name of its IORING_OP_*
            opcode; on the selector, the operations that are the same call.
        batches: how many turns brought so many completions, up to the last turn; each
            key is a number or a range, as in {"0": 3, "1": 20, "2-3": 7}.
        rearmed: operations that had to be started again.
        buffers_exhausted: receives that had to wait for a free buffer.
        cq_overflows: turns that found more completions than the queue holds; none is
            lost, the kernel keeps them.
        rebuilt: rings (epoll sets) made anew, after a fork or in another thread.
        in_flight: operations that have not ended yet.  This one also goes down.
        """
        found = self._driver.statistics()
        if not found:
            return found
        counted = self._counted()
        outside, waited = counted.pop("busy"), counted.pop("waited")
        worked = min(counted.pop("worked"), waited)
        found["time"] = statistics.of_turns(
            outside + worked, waited - worked, counted.pop("longest"), counted.pop("turns")
        )
        found["longest"] = self._longest.told() if self._longest is not None else []
        found["transports"] = counted
        found["executor"] = _stdlib.executor_load(self._default_executor)
        return found if since is None else statistics.difference(found, since)

    def _note_long(self, callback: Any, ns: int) -> None:
        if self._longest is None:
            self._longest = statistics.Longest()
        floor = self._longest.note(callback, ns)
        if floor is not None:
            self._long_callback_ns = floor

    def report(self) -> dict[str, Any]:
        """Facts about the loop, with the reasons: driver, kernel features, limits, and cures."""
        return report.of_loop(self._driver)

    # Running and closing.

    def run_forever(self) -> None:
        """Run until stop()."""
        self._check_closed()
        self._check_running()
        hooks = sys.get_asyncgen_hooks()
        try:
            self._track_origins(self.get_debug())
            _set_asyncgen_hooks(self._asyncgen_started, self._asyncgen_dropped)
            self._signals.enter()
            # Makes it this thread's running loop, in C: nothing, not even a second Ctrl-C,
            # comes between, and leaves a thread in which no loop can run any more.
            self._run()
        finally:
            try:
                self._signals.leave()
            finally:
                try:
                    self._track_origins(False)
                finally:
                    _set_asyncgen_hooks(*hooks)

    def run_until_complete(
        self, future: Generator[Any, None, T] | Awaitable[T]
    ) -> T:
        """Run until the future or coroutine is done; gives its result or raises its exception."""
        self._check_closed()
        self._check_running()
        is_new_task = not asyncio.isfuture(future)
        awaited: asyncio.Future[T] = asyncio.ensure_future(
            future,  # type: ignore[arg-type]
            loop=self,
        )
        # Nobody shall find a coroutine kept that has ended.
        del future
        if is_new_task:
            # If it is left pending, the exception raised below says so already.
            awaited._log_destroy_pending = False  # type: ignore[attr-defined]
        awaited.add_done_callback(_stdlib.run_until_complete_done)
        try:
            self.run_forever()
        except BaseException:
            if is_new_task and awaited.done() and not awaited.cancelled():
                # The exception that ended the loop is the task's, which nobody else can ask.
                awaited.exception()
            raise
        finally:
            awaited.remove_done_callback(_stdlib.run_until_complete_done)
        if not awaited.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return awaited.result()

    def close(self) -> None:
        """Drop what is scheduled, end what is in flight, and free everything."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            _stdlib.logger.debug("Close %r", self)
        self._close()
        self._driver.close()
        for child in list(self._children):
            child.close()
        self._sender.close()
        # The one that keeps nothing: nor does a closed loop, which is freed with its last name.
        self._sender = DirectSender()
        self._reader_objects.clear()
        self._writer_objects.clear()
        self._executor_shutdown_called = True
        executor, self._default_executor = self._default_executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self._signals.close()

    def _check_running(self) -> None:
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if _stdlib.get_running_loop_or_none() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode."""
        self._set_core_debug(enabled)
        if self.is_running():
            self.call_soon_threadsafe(self._track_origins, enabled)

    def _track_origins(self, enabled: bool) -> None:
        """In debug mode a coroutine that was never awaited says where it was made."""
        if enabled and self._origin_depth is None:
            self._origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(_stdlib.DEBUG_STACK_DEPTH)
        elif not enabled and self._origin_depth is not None:
            sys.set_coroutine_origin_tracking_depth(self._origin_depth)
            self._origin_depth = None

    # Tasks.

    def create_task(
        self,
        coro: CoroutineLike[T],
        *,
        name: Any = _NOT_GIVEN,
        context: Any = _NOT_GIVEN,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Schedule a coroutine; options are those of the running Python's Task."""
        self._check_closed()
        if self._task_factory is not None:
            made: asyncio.Task[T] = self._make_task(coro, name, context, options)
            return made
        # A dictionary of all keywords would cost more than these two questions.
        if name is _NOT_GIVEN:
            name = None
        if context is _NOT_GIVEN:
            context = None
        if options:
            task = tasks.Task(coro, loop=self, name=name, context=context, **options)
        else:
            task = tasks.Task(coro, loop=self, name=name, context=context)
        if task._source_traceback:  # type: ignore[attr-defined]
            del task._source_traceback[-1]  # type: ignore[attr-defined]
        return task

    def _make_task(self, coro: Any, name: Any, context: Any, options: dict[str, Any]) -> Any:
        if _FACTORY_GETS_ALL:
            if name is not _NOT_GIVEN:
                options["name"] = name
            if context is not _NOT_GIVEN:
                options["context"] = context
            return self._task_factory(self, coro, **options)
        # Factories of old take neither a context nor options: pass only what is asked for.
        if context is not None:
            options["context"] = context
        task = self._task_factory(self, coro, **options)
        if name is not None:
            _stdlib.set_task_name(task, name)
        return task

    def set_task_factory(self, factory: Any) -> None:
        """Set what makes tasks, called as factory(loop, coro, **options); None for asyncio.Task."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """The factory that makes tasks; None for asyncio.Task."""
        return self._task_factory

    # Threads.

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call func(*args) in another thread or process; None means the default executor."""
        self._check_closed()
        if self.get_debug():
            _helpers.check_callback(func, "run_in_executor")
        if executor is None:
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            if self._default_executor is None:
                self._default_executor = concurrent.futures.ThreadPoolExecutor(
                    thread_name_prefix="asyncio"
                )
            executor = self._default_executor
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    # Whether it is a subclass's by now: resolve.py goes around ours only.
    _own_run_in_executor = run_in_executor

    def set_default_executor(  # type: ignore[override]
        self, executor: concurrent.futures.ThreadPoolExecutor
    ) -> None:
        """Set the executor that run_in_executor() uses for None."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """End the default executor and wait for its threads, `timeout` seconds at most."""
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        future = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, future))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            own_calls.outside(thread.join)

    def _join_executor(
        self, executor: concurrent.futures.ThreadPoolExecutor, future: asyncio.Future[None]
    ) -> None:
        try:
            executor.shutdown(wait=True)
            if not self.is_closed():
                self.call_soon_threadsafe(_stdlib.set_result_unless_cancelled, future, None)
        except Exception as exc:
            if not self.is_closed() and not future.cancelled():
                self.call_soon_threadsafe(future.set_exception, exc)

    # Asynchronous generators.

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators that are still open."""
        self._asyncgens_shutdown_called = True
        if not self._asyncgens:
            return
        generators = list(self._asyncgens)
        self._asyncgens.clear()
        results = await asyncio.gather(
            *[generator.aclose() for generator in generators], return_exceptions=True
        )
        for result, generator in zip(results, generators, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": "an error occurred during closing of "
                        f"asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )

    def _asyncgen_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after "
                f"loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=1,
            )
        self._asyncgens.add(generator)

    def _asyncgen_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        # The collector may run in any thread.
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())

    # Signals.

    def add_signal_handler(
        self, sig: int, callback: Callable[[*Ts], object], *args: *Ts
    ) -> None:
        """Call callback(*args) in the loop when the signal comes."""
        self._signals.add(sig, callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Give the signal its default action back; whether there was a handler."""
        return self._signals.remove(sig)

    # What asyncio's loops keep under these names, and others read or set; more of it is in
    # the core: _closed, _debug, _stopping, _thread_id, _clock_resolution, _write_to_self().

    @property
    def _ready(self) -> queues.Ready:
        return queues.Ready(self)

    @property
    def _scheduled(self) -> queues.Scheduled:
        return queues.Scheduled(self)

    @property
    def _signal_handlers(self) -> dict[int, asyncio.Handle]:
        return self._signals.handlers

    @property
    def _transports(self) -> weakref.WeakValueDictionary[int, Any]:
        """asyncio's own transports by descriptor, of sockets that have methods of their own."""
        if self._other_transports is None:
            self._other_transports = weakref.WeakValueDictionary()
        return self._other_transports

    # Of timers that were cancelled and not taken out: ours leave at once.
    _timer_cancelled_count = 0

    def _add_callback(self, handle: asyncio.Handle) -> None:
        """Queue a handle that somebody has made, unless it is cancelled."""
        if not handle._cancelled:
            self._append_ready(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """An asyncio.TimerHandle that somebody made for this loop says so."""

    # CPython's own tests put another in its place, to make the kernel's way fail.
    _sendfile_native = sendfile.sendfile_native

    # Each of these is written, signature and all, where it belongs.  Type checkers take the
    # types of AbstractEventLoop, for one function cannot be said to override another.
    if not TYPE_CHECKING:
        get_exception_handler = errors.get_exception_handler
        set_exception_handler = errors.set_exception_handler
        default_exception_handler = errors.default_exception_handler
        call_exception_handler = errors.call_exception_handler

        getaddrinfo = resolve.getaddrinfo
        getnameinfo = resolve.getnameinfo

        create_connection = connect.create_connection
        create_unix_connection = connect.create_unix_connection
        connect_accepted_socket = connect.connect_accepted_socket
        start_tls = tls.start_tls

        create_datagram_endpoint = datagrams.create_datagram_endpoint

        create_server = server.create_server
        create_unix_server = server.create_unix_server

        connect_read_pipe = pipes.connect_read_pipe
        connect_write_pipe = pipes.connect_write_pipe

        subprocess_exec = subprocesses.subprocess_exec
        subprocess_shell = subprocesses.subprocess_shell

        add_reader = readers.add_reader
        remove_reader = readers.remove_reader
        add_writer = readers.add_writer
        remove_writer = readers.remove_writer

        sock_recv = sockets.sock_recv
        sock_recv_into = sockets.sock_recv_into
        sock_recvfrom = sockets.sock_recvfrom
        sock_recvfrom_into = sockets.sock_recvfrom_into
        sock_sendall = sockets.sock_sendall
        sock_sendto = sockets.sock_sendto
        sock_connect = sockets.sock_connect
        sock_accept = sockets.sock_accept

        sock_sendfile = sendfile.sock_sendfile
        sendfile = sendfile.sendfile


def _set_asyncgen_hooks(firstiter: Any, finalizer: Any) -> None:
    """Set both, one by one."""
    # In one call that an audit hook's exception ends between the two, CPython brings back the
    # finalizer that it has just freed (Python/sysmodule.c, sys_set_asyncgen_hooks).
    sys.set_asyncgen_hooks(finalizer=finalizer)
    sys.set_asyncgen_hooks(firstiter=firstiter)


def _before_fork() -> None:
    """Written bytes are in the kernel then, as in asyncio, and not the child's to send again."""
    loop = _stdlib.get_running_loop_or_none()
    if isinstance(loop, EventLoop):
        loop._send_queued()


os.register_at_fork(before=_before_fork)
