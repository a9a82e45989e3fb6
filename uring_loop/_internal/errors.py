"""The exception handler: where errors go that have no caller.

Each function is a method of EventLoop, hence the first parameter.
Source: asyncio, Error Handling API.
"""

from __future__ import annotations

import traceback

from ._stdlib import logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

    from .loop import EventLoop

    ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_TRACEBACK_TITLES = {
    "source_traceback": "Object created at (most recent call last):",
    "handle_traceback": "Handle created at (most recent call last):",
}


def get_exception_handler(self: EventLoop) -> ExceptionHandler | None:
    """The exception handler; None for the default one."""
    return self._exception_handler


def set_exception_handler(self: EventLoop, handler: ExceptionHandler | None) -> None:
    """Set the exception handler, called as handler(loop, context); None for the default one."""
    if handler is not None and not callable(handler):
        raise TypeError(f"A callable object or None is expected, got {handler!r}")
    self._exception_handler = handler


def default_exception_handler(self: EventLoop, context: dict[str, Any]) -> None:
    """Log the error with all that its context says."""
    handle = self._current_handle
    if "source_traceback" not in context and handle is not None and handle._source_traceback:
        context["handle_traceback"] = handle._source_traceback
    lines = [context.get("message") or "Unhandled exception in event loop"]
    for key in sorted(context):
        if key in ("message", "exception"):
            continue
        value = context[key]
        if key in _TRACEBACK_TITLES:
            frames = "".join(traceback.format_list(value)).rstrip()
            text = f"{_TRACEBACK_TITLES[key]}\n{frames}"
        else:
            text = repr(value)
        lines.append(f"{key}: {text}")
    exception = context.get("exception")
    exc_info: Any = False
    if exception is not None:
        exc_info = (type(exception), exception, exception.__traceback__)
    logger.error("\n".join(lines), exc_info=exc_info)


def call_exception_handler(self: EventLoop, context: dict[str, Any]) -> None:
    """Give an error to the exception handler.

    context: "message", and what is known of "exception", "future", "task",
    "handle", "protocol", "transport", "socket", "asyncgen".
    """
    handler = self._exception_handler
    if handler is None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            # A subclass may have a default handler of its own.
            logger.error("Exception in default exception handler", exc_info=True)
        return
    try:
        # As asyncio since 3.12: in the context of the task, future or handle at fault.
        run = _runner(context)
        if run is None:
            handler(self, context)
        else:
            run(handler, self, context)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        _handler_failed(self, exc, context)


def _runner(context: dict[str, Any]) -> Callable[..., object] | None:
    """A function that calls another in the context of the object at fault."""
    for key in ("task", "future", "handle"):
        thing = context.get(key)
        if thing is not None:
            break
    else:
        return None
    if not hasattr(thing, "get_context"):
        return None
    return getattr(thing.get_context(), "run", None)


def _handler_failed(loop: EventLoop, exc: BaseException, context: dict[str, Any]) -> None:
    try:
        loop.default_exception_handler(
            {
                "message": "Unhandled error in exception handler",
                "exception": exc,
                "context": context,
            }
        )
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        logger.error(
            "Exception in default exception handler while handling an unexpected error "
            "in custom exception handler",
            exc_info=True,
        )
