"""The functions that the C core calls where it is not hot: logs, reports and debug mode.

Owns the wording of the exception handler's contexts, which is asyncio's. Knows
no driver and no socket. Handed to the core by install_helpers().
"""

from __future__ import annotations

import asyncio
import socket
import sys

from .. import _core
from . import _stdlib, readers
from .stream_classes import line_failed
from .streams import StreamTransport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

logger = _stdlib.logger


def extract_stack() -> Any:
    """The stack of whoever called into the core, for a handle's debug traceback."""
    return _stdlib.extract_stack(sys._getframe(1))


def handle_repr(handle: Any) -> str:
    """`<Handle f() created at file:line>`, as asyncio writes it."""
    parts = [handle.__class__.__name__]
    if handle._cancelled:
        parts.append("cancelled")
    if isinstance(handle, asyncio.TimerHandle):
        parts.append(f"when={handle.when()}")
    if handle._callback is not None:
        parts.append(
            _stdlib.format_callback_source(
                handle._callback, handle._args, debug=handle._loop.get_debug()
            )
        )
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        parts.append(f"created at {frame[0]}:{frame[1]}")
    return f"<{' '.join(parts)}>"


def run_foreign(handle: Any) -> None:
    """Run an asyncio.Handle that somebody made and put into the ready queue."""
    if not handle._cancelled:
        handle._run()


def check_callback(callback: Any, method: str) -> None:
    """Refuse what cannot be a callback; debug mode only, as asyncio."""
    if _stdlib.iscoroutine(callback) or _stdlib.iscoroutinefunction(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")


def callback_failed(loop: Any, handle: Any, exception: BaseException) -> None:
    """A handle's callback raised: tell the loop's exception handler."""
    source = _stdlib.format_callback_source(
        handle._callback, handle._args, debug=loop.get_debug()
    )
    context = {
        "message": f"Exception in callback {source}",
        "exception": exception,
        "handle": handle,
    }
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def callback_slow(loop: Any, what: Any, seconds: float) -> None:
    """Debug mode: something ran for longer than loop.slow_callback_duration."""
    text = _stdlib.format_handle(what) if isinstance(what, asyncio.Handle) else repr(what)
    logger.warning("Executing %s took %.3f seconds", text, seconds)


def callback_long(loop: Any, callback: Any, ns: int) -> None:
    """A callback that was timed is among the longest."""
    loop._note_long(callback, ns)


def transport_failed(
    loop: Any, transport: Any, protocol: Any, exception: BaseException, message: str
) -> None:
    """A transport is about to be aborted because of `exception`.

    What the network did is only a debug line, and the core asks for none without debug
    mode; what the protocol did is reported.
    """
    if isinstance(exception, OSError):
        logger.debug("%r: %s", transport, message, exc_info=exception)
    else:
        protocol_failed(loop, transport, protocol, exception, message)


def protocol_failed(
    loop: Any, transport: Any, protocol: Any, exception: BaseException, message: str
) -> None:
    """A protocol's method raised: tell the loop's exception handler."""
    loop.call_exception_handler(
        {
            "message": message,
            "exception": exception,
            "transport": transport,
            "protocol": protocol,
        }
    )


def transport_event(transport: Any, message: str) -> None:
    """Debug mode: a line about what a transport does."""
    logger.debug("%r %s", transport, message)


def write_after_loss() -> None:
    """A protocol keeps writing to a connection that is gone."""
    logger.warning("socket.send() raised exception.")


def make_socket(fd: int) -> socket.socket:
    """A socket object for a descriptor that a transport owns."""
    sock = socket.socket(fileno=fd)
    try:
        sock.setblocking(False)
    except BaseException:
        # It is not ours to close: another thread may have, and the number be a stranger's.
        sock.detach()
        raise
    return sock


def install_helpers() -> None:
    """Give the core what it needs from Python. Called once, when the loop is imported."""
    _core.set_helpers(
        handle_class=asyncio.Handle,
        threadsafe_handle_class=_stdlib.ThreadSafeHandle,
        timer_handle_class=asyncio.TimerHandle,
        future_class=asyncio.Future,
        get_running_loop=_stdlib.future_running_loop(),
        buffered_protocol=asyncio.BufferedProtocol,
        run_foreign=run_foreign,
        extract_stack=extract_stack,
        handle_repr=handle_repr,
        check_callback=check_callback,
        callback_failed=callback_failed,
        callback_slow=callback_slow,
        callback_long=callback_long,
        transport_failed=transport_failed,
        protocol_failed=protocol_failed,
        transport_event=transport_event,
        write_after_loss=write_after_loss,
        data_refusal=_stdlib.data_refusal(),
        set_result=_stdlib.set_result_unless_cancelled,
        running_loop_module=_stdlib.running_loop_module(),
        make_socket=make_socket,
        socket_class=socket.socket,
        stream_transport=StreamTransport,
        check_descriptor=readers.check_descriptor_free,
        incomplete_read=asyncio.IncompleteReadError,
        invalid_state=asyncio.InvalidStateError,
        limit_overrun=asyncio.LimitOverrunError,
        line_failed=line_failed,
    )
