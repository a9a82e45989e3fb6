"""Temporary files and directories, as the standard library's tempfile has them, awaited.

    async with uring_loop.files.tempfile.TemporaryFile() as file: ...

Names and permissions are the standard library's to choose, in a thread; what is opened is a
file like any other of ours.  loop and executor may be given, as aiofiles takes them, and have
no say.
"""

from __future__ import annotations

from .._internal.files.tempfile import (
    NamedTemporaryFile,
    SpooledTemporaryFile,
    TemporaryDirectory,
    TemporaryFile,
)

__all__ = ["NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "TemporaryFile"]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
