"""The event loop where there is no io_uring: asyncio's own, with what ours has in addition.

Off Linux, under another Python than CPython, or with nothing compiled.  The same
name, arguments and additional methods, and files by threads, so that a program
which runs on io_uring in production also starts on a developer's machine.
Nothing is faster here, and nothing pretends to be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Iterable, Mapping

from . import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_logger = logging.getLogger("uring_loop")
_noted = False

# The class of asyncio.new_event_loop() on this platform.
_Base: Any
if sys.platform == "win32":
    _Base = asyncio.ProactorEventLoop
else:
    _Base = asyncio.SelectorEventLoop


def _reason() -> tuple[str, str | None]:
    """Why the loop is asyncio's, and what would help."""
    if sys.platform != "linux":
        return f"{sys.platform} has no io_uring", None
    if sys.implementation.name != "cpython":
        return f"uring_loop is not made for {sys.implementation.name}", "run it with CPython"
    return (
        "the compiled modules are missing",
        "install a wheel, or the source where there are a C compiler and liburing",
    )


def watch_blocking(*args: Any, **kwargs: Any) -> Any:
    """RuntimeError: it watches loops of ours, which there are none of here."""
    raise RuntimeError("watch_blocking() needs uring_loop's compiled modules")


class EventLoop(_Base):  # type: ignore[misc]
    """asyncio's own loop on this platform.

    driver, disable: as on Linux, but for a driver there is only "auto", or "selector"
    where that is the same; the kernel features that the ring shall do without are
    not in use anyway, and every write is sent at once.
    """

    # Where users know it from.
    __module__ = "uring_loop"
    # Of a loop that is refused there is nothing to close, which asyncio's finalizer asks for.
    _closed = True

    def __init__(
        self,
        driver: str | None = None,
        disable: Iterable[str] = (),
        *,
        send_at_once: bool | None = None,
    ) -> None:
        source = "driver"
        if driver is None:
            source, driver = "URING_LOOP_DRIVER", os.environ.get("URING_LOOP_DRIVER") or "auto"
        reason, cure = _reason()
        if driver == "uring":
            explanation = f"{reason}; {cure}" if cure else reason
            raise RuntimeError(f"the uring driver cannot run: {explanation}")
        if driver not in ("auto", "selector"):
            raise ValueError(f"{source} must be 'uring', 'selector' or 'auto', not {driver!r}")
        super().__init__()
        global _noted
        if not _noted:
            _noted = True
            # Off Linux there is nothing to be done about it.
            level = logging.INFO if cure is None else logging.WARNING
            explanation = f"{reason}; {cure}" if cure else reason
            _logger.log(level, "using asyncio's event loop: %s", explanation)

    @property
    def driver(self) -> str:
        """The name of what drives the loop; never "uring" here."""
        return "asyncio"

    @property
    def features(self) -> tuple[str, ...]:
        """The kernel features that a ring would use; none here."""
        return ()

    def statistics(self, since: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The driver's counters; asyncio counts nothing."""
        return {}

    def time_callbacks(self, enabled: bool = True) -> None:
        """Nothing is timed: statistics() is empty."""

    def report(self) -> dict[str, Any]:
        """The facts about the loop: as on Linux, without those that only Linux has."""
        return report.without_a_ring(self.driver, *_reason())
