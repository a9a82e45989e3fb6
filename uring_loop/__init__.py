"""An asyncio event loop on io_uring.

    uring_loop.run(main())

or, with everything else that takes a loop factory,

    asyncio.Runner(loop_factory=uring_loop.new_event_loop)

    new_event_loop(), EventLoop     a loop; `driver`, `features`, report(), statistics() are ours
    run()                           as asyncio.run()
    install(), EventLoopPolicy      for programs that take a policy, before Python 3.16
    open(), files, paths            asynchronous files, and `os` with paths
    workers                         for gunicorn -k
    watch_blocking()                who blocks a loop, told from another thread
    serve_statistics(), metrics     for `python -m uring_loop top`, Prometheus, OpenTelemetry
    python -m uring_loop            doctor, run, hook, top, bench: for the command line

Everything but these few names is imported when it is first used.
"""

from __future__ import annotations

import sys

# Type checkers take it for true, as they do typing's; importing typing takes milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from . import files as files
    from . import paths as paths
    from ._internal.blocking import watch_blocking
    from ._internal.loop import EventLoop
    from ._internal.loop import EventLoop as Loop
    from ._internal.policy import EventLoopPolicy, install
    from ._internal.statistics_server import serve_statistics
    from .files import open as open

    T = TypeVar("T")

__version__ = "0.1.0"

# Not `open`: a star import must not hide the builtin.
__all__ = [
    "EventLoop",
    "Loop",
    "new_event_loop",
    "run",
    "serve_statistics",
    "watch_blocking",
]
if sys.version_info < (3, 16):
    __all__ += ["EventLoopPolicy", "install"]


def new_event_loop() -> EventLoop:
    """Make an event loop; `loop.driver` says what drives it."""
    make: type[EventLoop] = globals().get("EventLoop") or __getattr__("EventLoop")
    return make()


if not TYPE_CHECKING:

    class _Factory(staticmethod):
        """A function that does not become a method where it is a class's attribute.

        unittest's `loop_factory = uring_loop.new_event_loop` is one.
        """

        def __reduce__(self):
            return self.__name__

    new_event_loop = _Factory(new_event_loop)


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run a coroutine to its end in a new event loop, as asyncio.run() does."""
    import asyncio

    from ._internal import _stdlib

    if _stdlib.get_running_loop_or_none() is not None:
        raise RuntimeError("uring_loop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory or new_event_loop) as runner:
        return runner.run(main)


def _is_compiled() -> bool:
    """Whether the compiled modules are there; without them the loop is asyncio's."""
    if sys.platform == "linux":
        try:
            from . import _core  # noqa: F401
        except ImportError as exc:
            # A module that is there and cannot be loaded is an error to be seen.
            if exc.name != __name__:
                raise
        else:
            return True
    return False


def _find_event_loop() -> Any:
    if _is_compiled():
        from ._internal.loop import EventLoop

        return EventLoop
    from ._internal import portable

    return portable.EventLoop


def __getattr__(name: str) -> Any:
    if name in ("EventLoop", "Loop"):
        value: Any = globals().get("EventLoop") or _find_event_loop()
    elif name == "open":
        from .files import open as value
    elif name == "watch_blocking":
        if _is_compiled():
            from ._internal.blocking import watch_blocking as value
        else:
            from ._internal.portable import watch_blocking as value
    elif name == "serve_statistics":
        from ._internal.statistics_server import serve_statistics as value
    elif name in ("files", "metrics", "paths"):
        import importlib

        value = importlib.import_module(f".{name}", __name__)
    elif name in ("EventLoopPolicy", "install") and sys.version_info < (3, 16):
        from ._internal import policy

        value = getattr(policy, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    own = (name for name in globals() if name.startswith("__"))
    return sorted({*__all__, "open", "files", "metrics", "paths", *own})
