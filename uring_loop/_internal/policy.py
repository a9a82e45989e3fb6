"""The event loop policy, where the running Python still has policies.

Deprecated in Python 3.14 and gone in 3.16: prefer uring_loop.run() or
asyncio.Runner(loop_factory=uring_loop.new_event_loop).
"""

from __future__ import annotations

import asyncio
import sys
import warnings

from .. import new_event_loop
from . import _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    _Base = asyncio.DefaultEventLoopPolicy
else:
    _Base = _stdlib.policy_base()


class EventLoopPolicy(_Base):
    """asyncio's default policy, making our event loops."""

    __module__ = "uring_loop"

    def _loop_factory(self) -> asyncio.AbstractEventLoop:
        return new_event_loop()


def install() -> None:
    """Make asyncio.run() and asyncio.new_event_loop() use our event loop."""
    if sys.version_info >= (3, 14):
        # asyncio's own warning would name this file, where nobody can do anything about it.
        warnings.warn(
            "event loop policies are deprecated and gone in Python 3.16;"
            " use uring_loop.run() or loop_factory=uring_loop.new_event_loop",
            DeprecationWarning,
            stacklevel=2,
        )
    _stdlib.set_event_loop_policy(EventLoopPolicy())
