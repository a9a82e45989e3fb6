"""Where there is no Linux kernel: the standard library's selector loop.

The same name and the same `driver` attribute, so that a program which runs on
io_uring in production also starts on a developer's machine.  Nothing is faster
here, and nothing pretends to be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

from . import report

_logger = logging.getLogger("uring_loop")
_noted = False


class EventLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop on this platform."""

    @property
    def driver(self) -> str:
        """What drives the loop; never "uring" here."""
        return "asyncio"

    @property
    def features(self) -> tuple[str, ...]:
        """The kernel features that a ring would use; none here."""
        return ()

    def statistics(self) -> dict[str, Any]:
        """The driver's counters; there are none here."""
        return {}

    def report(self) -> dict[str, Any]:
        """What the loop runs on and why."""
        return report.without_a_kernel(self.driver, f"{sys.platform} has no io_uring")

    def __init__(self) -> None:
        choice = os.environ.get("URING_LOOP_DRIVER") or "auto"
        if choice == "uring":
            raise RuntimeError(f"the uring driver cannot run: {sys.platform} has no io_uring")
        if choice not in ("auto", "selector"):
            raise ValueError(
                f"URING_LOOP_DRIVER must be 'uring', 'selector' or 'auto', not {choice!r}"
            )
        super().__init__()
        global _noted
        if not _noted:
            _noted = True
            _logger.info("no io_uring on %s; using asyncio's selector event loop", sys.platform)
