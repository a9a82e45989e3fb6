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
"""

from __future__ import annotations

from .._internal.files.binary import BinaryFile
from .._internal.files.opening import open
from .._internal.files.text import TextFile
from . import os, ospath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._internal.files.streams import (
        stderr,
        stderr_bytes,
        stdin,
        stdin_bytes,
        stdout,
        stdout_bytes,
    )
    from . import tempfile

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
        streams = importlib.import_module(".._internal.files.streams", __name__)
        value = getattr(streams, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
