"""The functions of `os.path` that ask the file system, awaited; and those that others await."""

from __future__ import annotations

import os
from collections.abc import Callable

from .threaded import takes_loop, threaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .threaded import Call

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

abspath: Call[Any] = takes_loop(threaded(_abspath))
exists: Call[bool] = takes_loop(threaded(os.path.exists))
getatime: Call[float] = takes_loop(threaded(os.path.getatime))
getctime: Call[float] = takes_loop(threaded(os.path.getctime))
getmtime: Call[float] = takes_loop(threaded(os.path.getmtime))
getsize: Call[int] = takes_loop(threaded(os.path.getsize))
isdir: Call[bool] = takes_loop(threaded(os.path.isdir))
isfile: Call[bool] = takes_loop(threaded(os.path.isfile))
islink: Call[bool] = takes_loop(threaded(os.path.islink))
ismount: Call[bool] = takes_loop(threaded(os.path.ismount))
lexists: Call[bool] = takes_loop(threaded(os.path.lexists))
realpath: Call[Any] = takes_loop(threaded(_realpath))
samefile: Call[bool] = takes_loop(threaded(os.path.samefile))
sameopenfile: Call[bool] = takes_loop(threaded(os.path.sameopenfile))
