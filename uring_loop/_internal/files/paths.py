"""The functions of `os` for paths and descriptors, awaited.

The names, arguments, results, errors and audit events are those of `os`.  What the
ring has an operation for is one, and so it is on the selector, which has threads
for them; the rest runs in the default executor's.

`dir_fd` and its kin are taken where `os` takes them.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
import sys
from collections.abc import Callable
from typing import overload

from ..operations import os_error
from . import calls, numbers
from . import ospath as path
from .calls import borrow, encode_path
from .threaded import in_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, AnyStr

    from _typeshed import BytesPath, FileDescriptorOrPath, GenericPath, StrOrBytesPath, StrPath

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

_AT_FDCWD = -100
_AT_REMOVEDIR = 0x200
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_SYMLINK_FOLLOW = 0x400
_AT_EMPTY_PATH = 0x1000
# Until 3.14 os.link() follows only when the call is for more than link(2), which follows nothing.
# It is written in its signature, whose default depends on the system since; os may have another
# function by that name, of a test's, but the module that it has its own from has not.
_link = getattr(sys.modules.get(os.name), "link", None)
_LINK_FOLLOWS = "os.name" in (getattr(_link, "__text_signature__", None) or "")
_STATX_BASIC_STATS = 0x7FF

# struct statx, linux/stat.h: up to the device numbers.
_STATX = struct.Struct("=IIQIIIH2xQQQ8x" + "qI4x" * 4 + "IIII")
_STATX_SIZE = 256
_U32 = 2**32 - 1
_U64 = 2**64 - 1


def _directory(dir_fd: int | None) -> int:
    return numbers.directory(dir_fd, _AT_FDCWD)


def _told(dir_fd: int | None) -> int:
    """As audit hooks are told of it."""
    return -1 if dir_fd is None else dir_fd


class _Paths:
    """Paths in the memory of a request."""

    __slots__ = ("addresses", "held")

    def __init__(self, *paths: Any) -> None:
        borrowed = [borrow(encode_path(path) + b"\0") for path in paths]
        self.held = [held for held, _ in borrowed]
        self.addresses = [address for _, address in borrowed]


# Looking.


async def stat(
    path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> os.stat_result:
    """os.stat(): of a path, or of an open descriptor."""
    if isinstance(path, int):
        if dir_fd is not None or not follow_symlinks:
            os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)  # says that it cannot
        return await fstat(path)
    path = os.fspath(path)
    names = _Paths(path)
    flags = 0 if follow_symlinks else _AT_SYMLINK_NOFOLLOW
    return await _statx(
        _directory(dir_fd),
        names,
        flags,
        (path,),
        lambda: os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks),
    )


async def lstat(path: Any, *, dir_fd: int | None = None) -> os.stat_result:
    """os.lstat(): a symbolic link itself."""
    return await stat(path, dir_fd=dir_fd, follow_symlinks=False)


async def fstat(fd: int) -> os.stat_result:
    """os.fstat()."""
    number = numbers.c_int(fd)
    if number < 0:
        # Some of these mean a directory to statx(2).
        raise os_error(-errno.EBADF)
    return await _statx(number, _Paths(b""), _AT_EMPTY_PATH, (), lambda: os.fstat(number))


async def _statx(
    directory: int,
    paths: _Paths,
    flags: int,
    names: tuple[Any, ...],
    function: Callable[[], os.stat_result],
) -> os.stat_result:
    buffer = bytearray(_STATX_SIZE)
    held, address = borrow(buffer)
    request = (
        calls.OP_STATX,
        directory,
        paths.addresses[0],
        address,
        _STATX_BASIC_STATS,
        flags,
    )
    return await calls.of_loop().make(
        request,
        (paths.held, held),
        function,
        value=lambda _: _stat_result(buffer),
        names=names,
    )


def _stat_result(buffer: bytearray) -> os.stat_result:
    (
        _mask,
        block_size,
        _attributes,
        links,
        user,
        group,
        mode,
        inode,
        size,
        blocks,
        *times,
        special_major,
        special_minor,
        major,
        minor,
    ) = _STATX.unpack_from(buffer)
    # Seconds and nanoseconds of: access, birth, change, modification.
    order = [(times[index], times[index + 1]) for index in (0, 6, 4)]
    return os.stat_result(
        (
            mode,
            inode,
            os.makedev(major, minor),
            links,
            user,
            group,
            size,
            *(seconds for seconds, _ in order),
            *(seconds + 1e-9 * nanoseconds for seconds, nanoseconds in order),
            *(seconds * 10**9 + nanoseconds for seconds, nanoseconds in order),
            block_size,
            blocks,
            os.makedev(special_major, special_minor),
        )
    )


# Names.


async def rename(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """os.rename()."""
    src, dst = os.fspath(src), os.fspath(dst)
    await _of_two_paths(
        calls.OP_RENAMEAT,
        (src, dst),
        _directory(src_dir_fd),
        _directory(dst_dir_fd),
        0,
        lambda: os.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd),
        ("os.rename", src, dst, _told(src_dir_fd), _told(dst_dir_fd)),
    )


async def replace(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    """os.replace()."""
    if os.name == "posix":
        await rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
    else:
        await in_thread(os.replace, src, dst)


async def unlink(path: Any, *, dir_fd: int | None = None) -> None:
    """os.unlink()."""
    path = os.fspath(path)
    event = ("os.remove", path, _told(dir_fd))
    await _of_one_path(calls.OP_UNLINKAT, path, dir_fd, 0, 0, os.unlink, event)


remove = unlink


async def rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    """os.rmdir()."""
    path = os.fspath(path)
    event = ("os.rmdir", path, _told(dir_fd))
    await _of_one_path(calls.OP_UNLINKAT, path, dir_fd, 0, _AT_REMOVEDIR, os.rmdir, event)


async def mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """os.mkdir()."""
    path, mode = os.fspath(path), numbers.c_int(mode)
    make = functools.partial(os.mkdir, mode=mode)
    event = ("os.mkdir", path, mode, _told(dir_fd))
    await _of_one_path(calls.OP_MKDIRAT, path, dir_fd, mode & _U32, 0, make, event)


async def _of_one_path(
    operation: int,
    path: Any,
    dir_fd: int | None,
    mode: int,
    flags: int,
    function: Any,
    event: tuple[Any, ...],
) -> None:
    paths = _Paths(path)
    request = (operation, _directory(dir_fd), paths.addresses[0], 0, mode, flags)
    await calls.of_loop().make(
        request, paths.held, lambda: function(path, dir_fd=dir_fd), names=(path,), audit=event
    )


async def link(
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    """os.link()."""
    src, dst = os.fspath(src), os.fspath(dst)
    options: dict[str, Any] = {"src_dir_fd": src_dir_fd, "dst_dir_fd": dst_dir_fd}
    if not follow_symlinks:
        options["follow_symlinks"] = False
    plain = src_dir_fd is None and dst_dir_fd is None and not _LINK_FOLLOWS
    await _of_two_paths(
        calls.OP_LINKAT,
        (src, dst),
        _directory(src_dir_fd),
        _directory(dst_dir_fd),
        0 if plain or not follow_symlinks else _AT_SYMLINK_FOLLOW,
        lambda: os.link(src, dst, **options),
        ("os.link", src, dst, _told(src_dir_fd), _told(dst_dir_fd)),
    )


async def symlink(
    src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
) -> None:
    """os.symlink()."""
    src, dst = os.fspath(src), os.fspath(dst)
    await _of_two_paths(
        calls.OP_SYMLINKAT,
        (src, dst),
        _directory(dir_fd),
        0,
        0,
        lambda: os.symlink(src, dst, target_is_directory, dir_fd=dir_fd),
        ("os.symlink", src, dst, _told(dir_fd)),
    )


async def _of_two_paths(
    operation: int,
    names: tuple[Any, Any],
    directory: int,
    other_directory: int,
    flags: int,
    function: Callable[[], None],
    event: tuple[Any, ...],
) -> None:
    paths = _Paths(*names)
    source, target = paths.addresses
    request = (operation, directory, source, target, other_directory & _U32, flags)
    await calls.of_loop().make(request, paths.held, function, names=names, audit=event)


# Open descriptors.


async def fsync(fd: Any) -> None:
    """os.fsync()."""
    await _sync(fd, 0, os.fsync)


async def fdatasync(fd: Any) -> None:
    """os.fdatasync()."""
    await _sync(fd, 1, getattr(os, "fdatasync", os.fsync))


async def _sync(fd: Any, flags: int, function: Any) -> None:
    number = numbers.descriptor(fd)
    await calls.of_loop().make((calls.OP_FSYNC, number, 0, 0, 0, flags), fd, function, number)


async def ftruncate(fd: Any, length: int) -> None:
    """os.ftruncate()."""
    number = numbers.descriptor(fd)
    length = numbers.offset(length)
    # A negative one is the kernel's to refuse, as a number without a sign.
    request = (calls.OP_FTRUNCATE, number, 0, length & _U64, 0, 0)
    event = ("os.truncate", number, length)
    await calls.of_loop().make(request, fd, os.ftruncate, number, length, audit=event)


async def fallocate(fd: Any, offset: int, length: int) -> None:
    """Give the file its blocks on the disk: fallocate(2) of its default mode.

    OSError (EOPNOTSUPP) where the file system has no such thing; in a thread the C
    library writes zeros there instead.
    """
    number = numbers.descriptor(fd)
    offset, length = numbers.place(offset), numbers.place(length)
    # The ring takes the length where others have an address.
    request = (calls.OP_FALLOCATE, number, length, offset, 0, 0)
    await calls.of_loop().make(request, fd, _posix_fallocate, number, offset, length)


posix_fallocate = fallocate


def _no_fallocate(fd: int, offset: int, length: int) -> None:
    raise os_error(-errno.EOPNOTSUPP)


_posix_fallocate = getattr(os, "posix_fallocate", _no_fallocate)


# Calls that the ring has no operation for.


async def access(
    path: FileDescriptorOrPath,
    mode: int,
    *,
    dir_fd: int | None = None,
    effective_ids: bool = False,
    follow_symlinks: bool = True,
) -> bool:
    """os.access(), in a thread."""
    return await in_thread(
        os.access,
        path,
        mode,
        dir_fd=dir_fd,
        effective_ids=effective_ids,
        follow_symlinks=follow_symlinks,
    )


async def getcwd() -> str:
    """os.getcwd(), in a thread."""
    return await in_thread(os.getcwd)


@overload
async def listdir(path: StrPath | int | None = None) -> list[str]: ...


@overload
async def listdir(path: BytesPath) -> list[bytes]: ...


async def listdir(path: Any = None) -> list[Any]:
    """os.listdir(), in a thread."""
    return await in_thread(os.listdir, path)


async def makedirs(name: StrOrBytesPath, mode: int = 0o777, exist_ok: bool = False) -> None:
    """os.makedirs(), in a thread."""
    await in_thread(os.makedirs, name, mode, exist_ok)


async def readlink(path: GenericPath[AnyStr], *, dir_fd: int | None = None) -> AnyStr:
    """os.readlink(), in a thread."""
    return await in_thread(os.readlink, path, dir_fd=dir_fd)


async def removedirs(name: StrOrBytesPath) -> None:
    """os.removedirs(), in a thread."""
    await in_thread(os.removedirs, name)


async def renames(old: StrOrBytesPath, new: StrOrBytesPath) -> None:
    """os.renames(), in a thread."""
    await in_thread(os.renames, old, new)


async def scandir(path: Any = None) -> Any:
    """os.scandir(), in a thread; what it gives is iterated over, and closed, as its is."""
    return await in_thread(os.scandir, path)


async def statvfs(path: FileDescriptorOrPath) -> os.statvfs_result:
    """os.statvfs(), in a thread."""
    return await in_thread(_statvfs, path)


def _no_statvfs(path: Any) -> Any:
    """Windows has none."""
    raise NotImplementedError("statvfs() is not available on this platform")


_statvfs: Callable[..., Any] = getattr(os, "statvfs", _no_statvfs)


async def truncate(path: FileDescriptorOrPath, length: int) -> None:
    """os.truncate(), in a thread."""
    await in_thread(os.truncate, path, length)


async def utime(
    path: FileDescriptorOrPath,
    times: tuple[int, int] | tuple[float, float] | None = None,
    *,
    ns: tuple[int, int] | None = None,
    dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    """os.utime(), in a thread."""
    options: dict[str, Any] = {} if ns is None else {"ns": ns}
    await in_thread(
        os.utime, path, times, dir_fd=dir_fd, follow_symlinks=follow_symlinks, **options
    )
