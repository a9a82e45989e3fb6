"""The functions of `os` for paths and descriptors, awaited.

The names, arguments, results, errors and audit events are those of `os`.  What the
ring has an operation for is one, and so it is on the selector, which has threads
for them; the rest runs in the default executor's.

`dir_fd` and its kin are taken where `os` takes them.
"""

from __future__ import annotations

from ._internal.files.paths import (
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
    stat,
    statvfs,
    symlink,
    truncate,
    unlink,
    utime,
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
    "stat",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "utime",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
