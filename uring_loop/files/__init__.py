"""Asynchronous files: open() and the names under which others offer the same.

    async with uring_loop.open("data.txt") as file:
        async for line in file: ...

On the ring these are submissions, on the selector threads of its own make the
calls; on any other asyncio loop the default executor's do.  What is in the
kernel's memory already is read at once on all of them.

For code written for aiofiles or anyio it takes one import:

    from uring_loop import files as aiofiles    # and its os, ospath, tempfile, stdin, ...
    import uring_loop.files.os                  # as aiofiles.os
    from uring_loop.files import open_file      # anyio.open_file

The floors, each standing on those below it:

    os, ospath, tempfile, streams    what aiofiles has by these names
    opening                          open(), its arguments and its ways
    text                             text: decoding, lines, encoding
    binary                           bytes: what was read ahead, what waits to be written
    lines, position, closing         what both do alike; where a file is; how it ends
    unsent                           what a file has taken and not written yet
    descriptor          paths        the system calls of a file; those of `os`
    calls, numbers                   who makes them; how their arguments are checked
"""

from __future__ import annotations

from . import os, ospath
from .binary import BinaryFile
from .opening import open
from .text import TextFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import tempfile
    from .streams import stderr, stderr_bytes, stdin, stdin_bytes, stdout, stdout_bytes

__all__ = [
    "BinaryFile",
    "TextFile",
    "open",
    "open_file",
    "os",
    "ospath",
    "stderr",
    "stderr_bytes",
    "stdin",
    "stdin_bytes",
    "stdout",
    "stdout_bytes",
    "tempfile",
]

open_file = open


# Few programs want these, and what they import is not little.
_STREAMS = ("stderr", "stderr_bytes", "stdin", "stdin_bytes", "stdout", "stdout_bytes")


def __getattr__(name: str) -> Any:
    import importlib

    if name == "tempfile":
        return importlib.import_module(".tempfile", __name__)
    if name in _STREAMS:
        value = getattr(importlib.import_module(".streams", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
