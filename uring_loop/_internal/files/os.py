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

    from .threaded import Call

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

access: Call[bool] = takes_loop(paths.access)
fallocate: Call[None] = takes_loop(paths.fallocate)
fdatasync: Call[None] = takes_loop(paths.fdatasync)
fstat: Call[os.stat_result] = takes_loop(paths.fstat)
fsync: Call[None] = takes_loop(paths.fsync)
ftruncate: Call[None] = takes_loop(paths.ftruncate)
getcwd: Call[str] = takes_loop(paths.getcwd)
link: Call[None] = takes_loop(paths.link)
listdir: Call[list[Any]] = takes_loop(paths.listdir)
lstat: Call[os.stat_result] = takes_loop(paths.lstat)
makedirs: Call[None] = takes_loop(paths.makedirs)
mkdir: Call[None] = takes_loop(paths.mkdir)
posix_fallocate: Call[None] = takes_loop(paths.posix_fallocate)
readlink: Call[Any] = takes_loop(paths.readlink)
remove: Call[None] = takes_loop(paths.remove)
removedirs: Call[None] = takes_loop(paths.removedirs)
rename: Call[None] = takes_loop(paths.rename)
renames: Call[None] = takes_loop(paths.renames)
replace: Call[None] = takes_loop(paths.replace)
rmdir: Call[None] = takes_loop(paths.rmdir)
scandir: Call[Any] = takes_loop(paths.scandir)
sendfile: Call[int] = takes_loop(threaded(_sendfile))
stat: Call[os.stat_result] = takes_loop(paths.stat)
statvfs: Call[Any] = takes_loop(paths.statvfs)
symlink: Call[None] = takes_loop(paths.symlink)
truncate: Call[None] = takes_loop(paths.truncate)
unlink: Call[None] = takes_loop(paths.unlink)
utime: Call[None] = takes_loop(paths.utime)
