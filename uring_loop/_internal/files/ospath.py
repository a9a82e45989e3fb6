"""The functions of `os.path` that ask the file system, awaited; and those that others await."""

from __future__ import annotations

import os
from collections.abc import Callable

from .threaded import takes_loop, threaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

# Of its overloads a type checker would take the first.
_abspath: Callable[..., Any] = os.path.abspath
_realpath: Callable[..., Any] = os.path.realpath

abspath = takes_loop(threaded(_abspath))
exists = takes_loop(threaded(os.path.exists))
getatime = takes_loop(threaded(os.path.getatime))
getctime = takes_loop(threaded(os.path.getctime))
getmtime = takes_loop(threaded(os.path.getmtime))
getsize = takes_loop(threaded(os.path.getsize))
isdir = takes_loop(threaded(os.path.isdir))
isfile = takes_loop(threaded(os.path.isfile))
islink = takes_loop(threaded(os.path.islink))
ismount = takes_loop(threaded(os.path.ismount))
lexists = takes_loop(threaded(os.path.lexists))
realpath = takes_loop(threaded(_realpath))
samefile = takes_loop(threaded(os.path.samefile))
sameopenfile = takes_loop(threaded(os.path.sameopenfile))
