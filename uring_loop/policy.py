"""The event loop policy, where the running Python still has policies.

Deprecated in Python 3.14 and gone in 3.16: prefer uring_loop.run() or
asyncio.Runner(loop_factory=uring_loop.new_event_loop).
"""

from __future__ import annotations

import asyncio

from . import _stdlib, new_event_loop


class EventLoopPolicy(_stdlib.policy_base()):  # type: ignore[misc]
    """asyncio's default policy, making our event loops."""

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return new_event_loop()


def install() -> None:
    """Make asyncio.run() and asyncio.new_event_loop() use our event loop."""
    asyncio.set_event_loop_policy(EventLoopPolicy())
