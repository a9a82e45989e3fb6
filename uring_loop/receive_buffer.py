"""The memory that all connections of a loop receive into, in turn.

For what is read and passed on before anything else of the loop runs: one
buffer that stays warm in the cache instead of one for each connection, or for
each read.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .loop import EventLoop

# What is received at a time.
_BYTES = 1 << 18


def of_loop(loop: EventLoop) -> memoryview:
    """The loop's, made when it is first asked for."""
    if loop._receive_buffer is None:
        loop._receive_buffer = memoryview(bytearray(_BYTES))
    return loop._receive_buffer
