"""`aiofiles.os`: the functions of paths.py, which here take `loop` and `executor`, too.

    import uring_loop.files.os

For code that has them from there.  What is given for the two has no say: the running loop
makes the call, or a thread of its own.  wrap() alone uses them.
"""

from __future__ import annotations

from .._internal.files.os import (
    access,
    fallocate,
    fdatasync,
    fstat,
    fsync,
    ftruncate,
    getcwd,
    link,
    listdir,
    lstat,
    makedirs,
    mkdir,
    path,
    posix_fallocate,
    readlink,
    remove,
    removedirs,
    rename,
    renames,
    replace,
    rmdir,
    scandir,
    sendfile,
    stat,
    statvfs,
    symlink,
    truncate,
    unlink,
    utime,
    wrap,
)

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


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
