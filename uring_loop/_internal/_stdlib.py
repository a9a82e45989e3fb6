"""Every private name of the standard library's asyncio that we lean on.

They are imported here and nowhere else, so that a new Python shows in one
place what it moved.  Only pure helpers and classes that stand alone: nothing
here needs asyncio's own event loop.
"""

from __future__ import annotations

import sys
from asyncio import (
    base_events,
    base_subprocess,
    constants,
    coroutines,
    events,
    format_helpers,
    futures,
    selector_events,
    sslproto,
    streams,
    tasks,
    transports,
)
from asyncio.log import logger
from asyncio.staggered import staggered_race
from asyncio.trsock import TransportSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ACCEPT_RETRY_DELAY",
    "DEBUG_STACK_DEPTH",
    "LOST_WRITES_LOGGED",
    "SENDFILE_TRY_NATIVE",
    "SENDFILE_UNSUPPORTED",
    "SSLProtocol",
    "SelectorSocketTransport",
    "SubprocessTransport",
    "SSLProtocolState",
    "SSLProtocolTransport",
    "TRANSPORT_EXTRA",
    "ThreadSafeHandle",
    "TransportSocket",
    "check_ssl_socket",
    "closes_given_socket",
    "data_refusal",
    "drops_writes",
    "datagram_sends_empty",
    "extract_stack",
    "format_callback_source",
    "future_running_loop",
    "format_handle",
    "get_running_loop_or_none",
    "interleave_addresses",
    "is_debug_mode",
    "iscoroutine",
    "iscoroutinefunction",
    "log_subprocess",
    "logger",
    "numeric_address",
    "own_methods",
    "policy_base",
    "run_until_complete_done",
    "run_module_as_main",
    "running_loop_module",
    "set_running_loop",
    "set_sent_position",
    "sendfile_read_size",
    "set_result_unless_cancelled",
    "set_event_loop_policy",
    "set_loop_maker",
    "set_reuse_port",
    "set_task_name",
    "staggered_race",
    "subprocess_exec",
    "subprocess_shell",
    "take_buffered",
]

# Their private names, of which type checkers know few.
_base_events: Any = base_events
_coroutines: Any = coroutines
_events: Any = events
_futures: Any = futures
_selector_events: Any = selector_events
_transports: Any = transports

ACCEPT_RETRY_DELAY = constants.ACCEPT_RETRY_DELAY
DEBUG_STACK_DEPTH = constants.DEBUG_STACK_DEPTH
LOST_WRITES_LOGGED = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
SENDFILE_TRY_NATIVE = constants._SendfileMode.TRY_NATIVE
SENDFILE_UNSUPPORTED = constants._SendfileMode.UNSUPPORTED

# Since 3.14 what call_soon_threadsafe() returns is a class of its own.
ThreadSafeHandle = getattr(events, "_ThreadSafeHandle", events.Handle)
SSLProtocol: Any = sslproto.SSLProtocol
SSLProtocolTransport: Any = sslproto._SSLProtocolTransport
# Of its loop it needs _add_reader() and its like, and _transports.
SelectorSocketTransport = _selector_events._SelectorSocketTransport
# The slot in which asyncio's transports keep what get_extra_info() tells.
TRANSPORT_EXTRA = _transports.BaseTransport._extra
SubprocessTransport: Any = base_subprocess.BaseSubprocessTransport
SSLProtocolState = sslproto.SSLProtocolState

check_ssl_socket = _base_events._check_ssl_socket
interleave_addresses = _base_events._interleave_addrinfos
numeric_address = _base_events._ipaddr_info
# anyio finds the root task of a loop by this very function among its callbacks.
run_until_complete_done = _base_events._run_until_complete_cb
set_reuse_port = _base_events._set_reuseport

set_result_unless_cancelled = _futures._set_result_unless_cancelled

extract_stack = format_helpers.extract_stack
format_handle = _base_events._format_handle

# Functions of BaseEventLoop; of a loop they ask what subprocesses.py gives them.
log_subprocess = _base_events.BaseEventLoop._log_subprocess
subprocess_exec = _base_events.BaseEventLoop.subprocess_exec
subprocess_shell = _base_events.BaseEventLoop.subprocess_shell

iscoroutine = coroutines.iscoroutine
# The public name warns in Python 3.14 and is gone in 3.16; the private one is newer.
if hasattr(coroutines, "_iscoroutinefunction"):
    iscoroutinefunction = _coroutines._iscoroutinefunction
else:
    iscoroutinefunction = coroutines.iscoroutinefunction


def is_debug_mode() -> bool:
    """Whether new loops start in debug mode; looked up at each call, for it may be replaced."""
    return bool(_coroutines._is_debug_mode())


def set_task_name(task: Any, name: Any) -> None:
    """Name what a task factory made; until 3.13 a task without set_name() is only warned of."""
    lenient = getattr(tasks, "_set_task_name", None)
    if lenient is not None:
        lenient(task, name)
    else:
        task.set_name(name)


def sendfile_read_size() -> int:
    """The bytes that sock_sendfile() reads at a time; looked up at each call: tests set it."""
    return constants.SENDFILE_FALLBACK_READBUFFER_SIZE


_TLS_ENDING = (
    sslproto.SSLProtocolState.FLUSHING,
    sslproto.SSLProtocolState.SHUTDOWN,
    sslproto.SSLProtocolState.UNWRAPPED,
)


def drops_writes(transport: Any) -> bool:
    """Whether a TLS transport drops what is written, because its connection is ending."""
    protocol = getattr(transport, "_ssl_protocol", None)
    return getattr(protocol, "_state", None) in _TLS_ENDING


def get_running_loop_or_none() -> Any:
    """The loop that runs in this thread, or None."""
    return events._get_running_loop()


def future_running_loop() -> Any:
    """The function by which asyncio.Future() finds the loop that runs in this thread.

    asyncio's own in C, past what others put into asyncio.events; where the class is not that
    of C, one that finds none.
    """
    if _futures.Future is getattr(_futures, "_CFuture", None):
        return getattr(events, "_c__get_running_loop", _no_loop)
    return _no_loop


def _no_loop() -> None:
    """No loop."""


def set_sent_position(descriptor: int, position: int, total: int) -> None:
    """A file of which `total` bytes were sent, the last of them before `position`.

    What becomes of its own position when that was none is for this Python's asyncio to say.
    """
    from asyncio import unix_events

    loop: Any = unix_events._UnixSelectorEventLoop
    update = loop._sock_sendfile_update_filepos
    # A later release of 3.14 moves the position whether or not something was sent.
    if update.__code__.co_argcount == 3:
        update(None, descriptor, position)
    else:
        update(None, descriptor, position, total)


def set_running_loop(loop: Any) -> None:
    """Make asyncio.get_running_loop() give this loop in this thread."""
    events._set_running_loop(loop)


def running_loop_module() -> Any:
    """The module whose _set_running_loop() makes a loop this thread's running one.

    For the core, which asks it each time, as others put another function there, and calls it
    from C: no signal's handler runs inside of asyncio's own.
    """
    return events


def format_callback_source(function: Any, arguments: Any, *, debug: bool = False) -> str:
    """`f(1) at file:line`; since 3.13 the arguments show only in debug mode."""
    if sys.version_info >= (3, 13):
        return format_helpers._format_callback_source(function, arguments, debug=debug)
    return format_helpers._format_callback_source(function, arguments)


def executor_load(executor: Any) -> dict[str, int]:
    """The threads of a ThreadPoolExecutor, and the calls that wait for one."""
    threads = getattr(executor, "_threads", ())
    queue = getattr(executor, "_work_queue", None)
    return {"threads": len(threads), "queued": queue.qsize() if queue is not None else 0}


def take_buffered(protocol: Any) -> bytes:
    """The bytes that a stream reader has received and nobody has read; it has them no more."""
    if not isinstance(protocol, streams.StreamReaderProtocol):
        return b""
    reader: Any = getattr(protocol, "_stream_reader", None)
    if reader is None:
        return b""
    received = bytes(reader._buffer)
    reader._buffer.clear()
    return received


def own_methods(base: type) -> tuple[str, ...] | None:
    """The names of the methods of a class of asyncio's streams and its bases there, no dunders.

    None when one of them is not written in that module: somebody has put it there.
    """
    names = []
    for each in base.__mro__:
        if each.__module__ != streams.__name__:
            continue
        for name, value in vars(each).items():
            function = getattr(value, "fget", value)
            if name.startswith("__") or not hasattr(function, "__code__"):
                continue
            code = function.__code__
            if function.__globals__ is not vars(streams) or (
                code.co_qualname != f"{each.__name__}.{name}"
            ):
                return None
            names.append(name)
    return tuple(dict.fromkeys(names))


def data_refusal() -> str:
    """The words with which this Python's write() refuses a type, up to the type's name.

    The wording changed between patch releases; a transport says it before it looks at itself.
    """
    try:
        SelectorSocketTransport.write(None, None)
    except TypeError as error:
        text, found, _ = str(error).partition("'NoneType'")
        if found:
            return text
    except AttributeError:
        pass
    return "data argument must be a bytes, bytearray, or memoryview object, not "


class _Untouchable:
    """Stands for a socket that fails at the first touch, and notes whether it is closed."""

    closed = False

    def setblocking(self, flag: bool) -> None:
        raise BlockingIOError

    def close(self) -> None:
        self.closed = True


def closes_given_socket() -> bool:
    """Whether the running Python closes the socket it was given, if no transport is made of it.

    That changed between patch releases of 3.14.
    """
    sock = _Untouchable()
    opening = _base_events.BaseEventLoop._create_connection_transport(None, sock, None, None, None)
    try:
        opening.send(None)
    except BlockingIOError:
        pass
    return sock.closed


def datagram_sends_empty() -> bool:
    """Whether sendto(b"") of the running Python sends a datagram, or does nothing.

    A datagram transport that does nothing does so before it looks at itself.
    """
    try:
        _selector_events._SelectorDatagramTransport.sendto(None, b"")
    except AttributeError:
        return True
    return False


def policy_base() -> type:
    """The class of the running Python's default event loop policy.

    Policies are deprecated in Python 3.14 and gone in 3.16; asking for the
    class only when somebody wants a policy keeps the warning where it belongs.
    """
    if sys.platform != "win32":
        from asyncio import unix_events

        return unix_events._UnixDefaultEventLoopPolicy
    if sys.version_info >= (3, 14):
        return events._BaseDefaultEventLoopPolicy
    return events.BaseDefaultEventLoopPolicy


def set_event_loop_policy(policy: Any) -> None:
    """Without the public name's warning, which is for our caller to give."""
    if hasattr(events, "_set_event_loop_policy"):
        _events._set_event_loop_policy(policy)
    else:
        events.set_event_loop_policy(policy)


def set_loop_maker(make: Any) -> None:
    """Make asyncio's own new_event_loop(), which Runner asks too, another function.

    What a policy is for where there are policies.
    """
    import asyncio

    events.new_event_loop = make
    asyncio.new_event_loop = make


def run_module_as_main(name: str, *, alters_argv: bool) -> None:
    """What `python -m name` does, in the module that is __main__."""
    import runpy

    run: Any = runpy
    run._run_module_as_main(name, alter_argv=alters_argv)
