"""The functions of `os.path` that ask the file system, awaited; and those that others await."""

from __future__ import annotations

from .._internal.files.ospath import (
    abspath,
    exists,
    getatime,
    getctime,
    getmtime,
    getsize,
    isdir,
    isfile,
    islink,
    ismount,
    lexists,
    realpath,
    samefile,
    sameopenfile,
)

__all__ = [
    "abspath",
    "exists",
    "getatime",
    "getctime",
    "getmtime",
    "getsize",
    "isdir",
    "isfile",
    "islink",
    "ismount",
    "lexists",
    "realpath",
    "samefile",
    "sameopenfile",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
