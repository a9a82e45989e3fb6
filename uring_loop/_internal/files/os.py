"""`aiofiles.os`: the functions of paths.py, which here take `loop` and `executor`, too.

    import uring_loop.files.os

For code that has them from there.  What is given for the two has no say: the running loop
makes the call, or a thread of its own.  wrap() alone uses them.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from . import ospath as path
from . import paths
from .threaded import takes_loop, threaded, wrap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "access",
    "fallocate",
    "fdatasync",
    "fstat",
    "fsync",
    "ftruncate",
    "getcwd",
    "link",
    "listdir",
    "lstat",
    "makedirs",
    "mkdir",
    "path",
    "posix_fallocate",
    "readlink",
    "remove",
    "removedirs",
    "rename",
    "renames",
    "replace",
    "rmdir",
    "scandir",
    "sendfile",
    "stat",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "utime",
    "wrap",
]


def _no_sendfile(*arguments: Any) -> Any:
    """Windows has none."""
    raise NotImplementedError("sendfile() is not available on this platform")


_sendfile: Callable[..., int] = getattr(os, "sendfile", _no_sendfile)

access = takes_loop(paths.access)
fallocate = takes_loop(paths.fallocate)
fdatasync = takes_loop(paths.fdatasync)
fstat = takes_loop(paths.fstat)
fsync = takes_loop(paths.fsync)
ftruncate = takes_loop(paths.ftruncate)
getcwd = takes_loop(paths.getcwd)
link = takes_loop(paths.link)
listdir = takes_loop(paths.listdir)
lstat = takes_loop(paths.lstat)
makedirs = takes_loop(paths.makedirs)
mkdir = takes_loop(paths.mkdir)
posix_fallocate = takes_loop(paths.posix_fallocate)
readlink = takes_loop(paths.readlink)
remove = takes_loop(paths.remove)
removedirs = takes_loop(paths.removedirs)
rename = takes_loop(paths.rename)
renames = takes_loop(paths.renames)
replace = takes_loop(paths.replace)
rmdir = takes_loop(paths.rmdir)
scandir = takes_loop(paths.scandir)
sendfile = takes_loop(threaded(_sendfile))
stat = takes_loop(paths.stat)
statvfs = takes_loop(paths.statvfs)
symlink = takes_loop(paths.symlink)
truncate = takes_loop(paths.truncate)
unlink = takes_loop(paths.unlink)
utime = takes_loop(paths.utime)
