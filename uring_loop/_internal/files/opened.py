"""The owner of a descriptor that was opened and that no file closes yet; the core's, or like it.

It is made before the descriptor is asked for. What fails afterwards, for want of memory say, drops
it, and with it the descriptor.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
__all__ = ["Opened"]

if TYPE_CHECKING:
    from ..._core import Opened
else:
    try:
        from ..._core import Opened
    except ModuleNotFoundError:
        # No compiled modules on this platform.
        class Opened:
            """As the core's."""

            __slots__ = ("number",)

            def __init__(self):
                self.number = -1

            def hold(self, number):
                """Own the descriptor from here on."""
                self.number = number

            def detach(self):
                """Own it no more: somebody else closes it."""
                self.number = -1

            def close(self):
                """Close it, as the end of this object would."""
                number, self.number = self.number, -1
                if number >= 0:
                    os.close(number)

            __del__ = close
