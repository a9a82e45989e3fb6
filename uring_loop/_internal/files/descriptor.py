"""A file's descriptor: opened, read, written and closed.

What is in memory already is answered at once, without a trip to the kernel's
workers or a thread (`*_now`); everything else may wait.  Knows nothing of
buffers or text.

A call names its offset, or it is made at the descriptor's own position, which
all share who have this descriptor or a duplicate of it.  read(2) and write(2)
hold a lock on the position of a plain file; io_uring does not (fs/read_write.c
fdget_pos(), io_uring/rw.c io_kiocb_update_pos()), and would write over what a
child writes at that moment.  So there these calls are threads'.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import stat
import threading
from collections.abc import Callable

from ..operations import os_error
from . import calls
from .calls import CALL_BYTES_MAX, OWN_POSITION, Use
from .opened import Opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

try:
    from ..._core import (
        file_close_now,
        file_is_local,
        file_open,
        file_open_now,
        file_read_into_now,
        file_status_now,
        file_truncate,
        file_write_now,
    )
    from ..._core import file_read_now as _read_now
except ModuleNotFoundError:
    # No compiled modules on this platform: nothing is known to be in memory.
    if TYPE_CHECKING:
        raise
    file_open = file_open_now = file_close_now = file_is_local = None
    file_read_into_now = file_status_now = None
    file_write_now = _read_now = None
    file_truncate = os.ftruncate

try:
    import fcntl
except ImportError:
    # Windows: nothing there can be asked how it was opened.
    fcntl = None  # type: ignore[assignment]

_AT_FDCWD = -100
# RWF_NOWAIT is not for this file, ever.
_NOT_AT_ONCE = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM}
# So much room is made for a read without a look at the file.
_ROOM_MAX = 1024 * 1024
# Nor for this stream; other errors are its own.
_NOT_THIS_STREAM = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM}

# Devices of which something is known: whether a file there opens from memory.
_devices: dict[int, bool] = {}
_local_devices: set[int] = set()


if TYPE_CHECKING or hasattr(os, "pread"):
    pread, pwrite = os.pread, os.pwrite
else:
    # Windows: the position is moved and moved back, and nobody else may move it meanwhile.
    _position = threading.Lock()

    def _at(function: Callable[[int, Any], T], number: int, argument: Any, offset: int) -> T:
        with _position:
            before = os.lseek(number, 0, os.SEEK_CUR)
            try:
                os.lseek(number, offset, os.SEEK_SET)
                return function(number, argument)
            finally:
                os.lseek(number, before, os.SEEK_SET)

    def pread(number: int, size: int, offset: int) -> bytes:
        """os.pread()."""
        return _at(os.read, number, size, offset)

    def pwrite(number: int, data: Any, offset: int) -> int:
        """os.pwrite()."""
        return _at(os.write, number, data, offset)


class Descriptor:
    """An open descriptor and what is known of it."""

    __slots__ = (
        "appends",
        "at_once",
        "block_size",
        "closes",
        "local",
        "number",
        "opened",
        "own_position",
        "positioned",
        "regular",
        "seekable",
        "size_at_open",
        "use",
        "written",
    )

    def __init__(
        self,
        number: int,
        mode: int,
        size: int,
        block_size: int,
        writable: bool,
        closes: bool,
        local: bool,
    ) -> None:
        self.number: int = number
        # What closes it until there is a file that does.
        self.opened: Opened | None = None
        self.size_at_open: int = size
        self.block_size: int = block_size if block_size > 1 else 8192
        self.closes: bool = closes
        # Whether it is a regular file whose device answers from this machine's memory.
        self.local: bool = local
        self.seekable: bool = local or _can_seek(number)
        # One that cannot seek (tracefs has such, and FUSE) is a stream like any other.
        self.regular: bool = stat.S_ISREG(mode) and self.seekable
        # Others that can seek (a device, an eventfd) need not know what an offset is.
        self.positioned: bool = self.regular or stat.S_ISBLK(mode)
        # Whether calls are made where the descriptor is, rather than at an offset.
        self.own_position: bool = not self.positioned
        # Whether it was opened with O_APPEND: then the kernel finds the end under a lock.
        self.appends: bool = False
        self.at_once: bool = _read_now is not None
        self.written: bool = writable
        self.use: Use = Use()

    def read_now(self, size: int, offset: int | None) -> tuple[bytes, int] | None:
        """(bytes, errno): what is in memory; fewer bytes and no errno: the end.  None: ask."""
        if not self.at_once or not self.regular:
            return None
        if offset is None:
            if not self.local:
                return None  # somebody may hold the position's lock while a server answers
            offset = -1
        got: tuple[bytes, int] = _read_now(self.number, min(size, CALL_BYTES_MAX), offset)
        if got[1] in _NOT_AT_ONCE:
            self.at_once = False
            return None
        return got

    def likely_size(self, size: int, offset: int) -> int:
        """The room to make for `size` bytes at `offset`: no gigabytes for a small file."""
        if size <= _ROOM_MAX or not self.local:
            return size
        return min(size, max(os.fstat(self.number).st_size - offset + 1, _ROOM_MAX))

    def read_stream_now(self, size: int) -> bytes | None:
        """The bytes a stream has; BlockingIOError: none yet; None: ask in a way that may wait."""
        if self.at_once:
            data, error = _read_now(self.number, size, -1)
            if data or not error:
                return data
            if error not in _NOT_THIS_STREAM:
                raise os_error(-error)
            self.at_once = False
        return os.read(self.number, size) if _answers_at_once(self.number, "r") else None

    def write_stream_now(self, data: Any) -> int | None:
        """The count of bytes that a stream takes; BlockingIOError and None as for reading."""
        if self.at_once:
            count, error = file_write_now(self.number, data)
            if not error:
                return count
            if error not in _NOT_THIS_STREAM:
                raise os_error(-error)
            self.at_once = False
        return os.write(self.number, data) if _answers_at_once(self.number, "w") else None

    def read_into_now(self, buffer: Any, offset: int) -> int | None:
        """The count of bytes filled; None when not all that there is was in memory."""
        if not self.at_once or self.own_position:
            return None
        count, error = file_read_into_now(self.number, buffer, offset)
        if error in _NOT_AT_ONCE:
            self.at_once = False
        return None if error else count

    async def read(
        self, size: int, offset: int | None, late: Callable[[bytes], object] | None = None
    ) -> bytes:
        """One call's worth of up to `size` bytes; offset None: at the descriptor's own position.

        late: gets the bytes that a cancelled caller does not.
        """
        size = min(size, CALL_BYTES_MAX)
        buffer = bytearray(size)
        held, address = calls.borrow(buffer)
        place = OWN_POSITION if offset is None else offset
        request = (calls.OP_READ, self.number, address, place, size, 0)
        stream = offset is None and not self.positioned
        if stream and calls.is_turn_due(size):
            await asyncio.sleep(0)
        while True:
            try:
                return await calls.of_loop().make(
                    None if offset is None and self.positioned else request,
                    held,
                    *_call(os.read, pread, self.number, size, offset),
                    use=self.use,
                    value=lambda count: bytes(memoryview(buffer)[:count]),
                    late=late,
                    ready=(self.number, False, lambda: self.read_stream_now(size))
                    if stream else None,
                )
            except BlockingIOError:
                await calls.readiness(self.number, writing=False)

    async def write(
        self,
        data: Any,
        offset: int | None,
        late: Callable[[int], object] | None = None,
    ) -> int:
        """One call's worth of `data`; offset None: at the descriptor's own position.

        late: gets the count of what was written though the caller was cancelled.
        """
        size = min(len(data), CALL_BYTES_MAX)
        held, address = calls.borrow(data)
        place = OWN_POSITION if offset is None else offset
        request = (calls.OP_WRITE, self.number, address, place, size, 0)
        locked = offset is None and self.positioned and not self.appends
        if not self.positioned and calls.is_turn_due(size):
            await asyncio.sleep(0)
        while True:
            try:
                return await calls.of_loop().make(
                    None if locked else request,
                    (held, data),
                    *_call(os.write, pwrite, self.number, data, offset),
                    use=self.use,
                    late=late,
                    ready=None if self.positioned or offset is not None
                    else (self.number, True, lambda: self.write_stream_now(data)),
                )
            except BlockingIOError:
                await calls.readiness(self.number, writing=True)

    async def sync(self, data_only: bool = False) -> None:
        """fsync(2) or fdatasync(2)."""
        function = os.fdatasync if data_only and hasattr(os, "fdatasync") else os.fsync
        # IORING_FSYNC_DATASYNC
        request = (calls.OP_FSYNC, self.number, 0, 0, 0, 1 if data_only else 0)
        await calls.of_loop().make(request, None, function, self.number, use=self.use)

    async def truncate(self, size: int) -> None:
        """ftruncate(2)."""
        request = (calls.OP_FTRUNCATE, self.number, 0, size, 0, 0)
        await calls.of_loop().make(request, None, file_truncate, self.number, size, use=self.use)

    async def end(self) -> int:
        """The place where the file ends."""
        if self.local:
            # The descriptor's own offset is not used; and no disk is asked for this.
            return os.lseek(self.number, 0, os.SEEK_END)
        return await self.seek(0, os.SEEK_END)

    async def seek(self, offset: int, whence: int) -> int:
        """lseek(2), for what looks at the file: SEEK_DATA and SEEK_HOLE."""
        return await calls.of_loop().make(
            None, None, os.lseek, self.number, offset, whence, use=self.use
        )

    def close_now(self) -> bool:
        """Close it if that takes no waiting; whether it is closed."""
        assert self.number >= 0
        if self.use.pending:
            return False
        if self.closes:
            if self.written or not self.local or not file_close_now(self.number):
                return False
        self.number = -1
        return True

    def closes_by_requests(self) -> bool:
        """Whether the running loop's driver can write and close it, with nothing in the way."""
        if not self.closes or not self.regular or self.own_position or self.use.pending:
            return False
        made = calls.of_loop()
        return made.has(calls.OP_WRITE) and made.has(calls.OP_CLOSE)

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        if self.use.pending:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def tell() -> None:
                if not waiter.done():
                    waiter.set_result(None)

            self.use.when_settled(tell)
            await waiter

    async def close(self) -> None:
        """Close it as soon as nothing is under way; an error of close(2) is raised."""
        await self.settled()
        if self.close_now():
            return
        number, self.number = self.number, -1
        request = (calls.OP_CLOSE, number, 0, 0, 0, 0)
        close = functools.partial(os.close, number)
        # Whoever is cancelled here, or finds no memory and no thread for it, has nothing left
        # to close it by.
        await calls.of_loop().make(request, None, close, undone=close)

    def drop(self) -> None:
        """Close it as soon as nothing is under way, without waiting; for what was forgotten."""
        number, self.number = self.number, -1
        if number >= 0 and self.closes:
            opened = self.opened
            close = functools.partial(os.close, number) if opened is None else opened.close
            # A call that was abandoned may not have begun, in a queue of the executor's.
            self.use.when_settled_anywhere(close)

    def has_file(self) -> None:
        """A file that closes it, however it ends, has been made."""
        if self.opened is not None:
            self.opened.detach()
            self.opened = None


def _call(
    plain: Callable[..., T],
    positioned: Callable[..., T],
    number: int,
    what: Any,
    offset: int | None,
) -> tuple[Any, ...]:
    """The function for a thread with its arguments: at the offset, or where the file is."""
    if offset is None:
        return plain, number, what
    return positioned, number, what, offset


def _answers_at_once(number: int, way: str) -> bool:
    """Whether a call that reads ("r") or writes ("w") cannot wait: it would not, or cannot be."""
    if fcntl is None:
        return False
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    wrong_end = os.O_WRONLY if way == "r" else os.O_RDONLY
    if flags & os.O_NONBLOCK or flags & os.O_ACCMODE == wrong_end:
        return True
    return way == "r" and os.isatty(number) and _terminal_never_waits(number)


def _terminal_never_waits(number: int) -> bool:
    """Whether a terminal that has nothing says that it is at its end; termios(3)."""
    import termios

    _, _, _, local, _, _, controls = termios.tcgetattr(number)
    takes_less = controls[termios.VMIN] in (0, b"\0") and controls[termios.VTIME] in (0, b"\0")
    return not local & termios.ICANON and takes_less


def _can_seek(number: int) -> bool:
    try:
        os.lseek(number, 0, os.SEEK_CUR)
    except OSError:
        return False
    return True


def _status(number: int) -> tuple[int, int, int, int]:
    status = os.fstat(number)
    return status.st_mode, status.st_size, getattr(status, "st_blksize", 0), status.st_dev


if file_status_now is None:
    file_status_now = _status


def adopt(number: int, writable: bool, closes: bool, path: Any) -> tuple[Descriptor, int]:
    """A descriptor that is open, and its device."""
    mode, size, block_size, device = file_status_now(number)
    if stat.S_ISDIR(mode):
        raise os_error(-errno.EISDIR, path)
    local = stat.S_ISREG(mode) and device in _local_devices
    return Descriptor(number, mode, size, block_size, writable, closes, local), device


async def open_path(path: Any, encoded: bytes, flags: int, writable: bool) -> Descriptor:
    """Open a path, and as the kernel has it, as open(2) does, with permissions 0o666."""
    fifo = False
    if file_open_now is not None:
        found = file_open_now(encoded, flags, _local_devices)
        if type(found) is tuple:
            opened, mode, size, block_size, _ = found
            descriptor = Descriptor(opened.number, mode, size, block_size, writable, True, True)
            descriptor.opened = opened
            descriptor.appends = bool(flags & os.O_APPEND)
            return descriptor
        fifo = found is True
    if fifo and flags & (os.O_WRONLY | os.O_RDWR) != os.O_RDWR:
        opened = await _open_fifo(path, encoded, flags)
    else:
        held, address = calls.borrow(encoded + b"\0")
        request = (calls.OP_OPENAT, _AT_FDCWD, address, 0, 0o666, flags)
        opened = await calls.of_loop().make(
            request, held, _open_plain, path, encoded, flags, late=Opened.close, names=(path,)
        )
    descriptor = await settle(opened, path, writable)
    descriptor.appends = bool(flags & os.O_APPEND)
    return descriptor


def _open_plain(path: Any, encoded: bytes, flags: int) -> Opened:
    if file_open is None:
        opened = Opened()
        opened.hold(os.open(path, flags, 0o666))
        return opened
    try:
        return file_open(encoded, flags)
    except OSError as exc:
        exc.filename = path
        raise


async def open_with(
    opener: Callable[[Any, int], int], path: Any, flags: int, writable: bool
) -> Descriptor:
    """Open a path by a function of the user's, in a thread."""
    opened = Opened()
    number = await calls.of_loop().make(None, None, opener, path, flags, late=_close_opened)
    if not isinstance(number, int):
        raise TypeError("expected integer from opener")
    if number < 0:
        raise ValueError(f"opener returned {number}")
    opened.hold(number)
    os.set_inheritable(number, False)
    return await settle(opened, path, writable)


def _close_opened(number: Any) -> None:
    if isinstance(number, int) and number >= 0:
        os.close(number)


async def settle(opened: Opened, path: Any, writable: bool) -> Descriptor:
    """A descriptor that was just opened in a way that could wait; closed again when that fails."""
    try:
        descriptor, device = adopt(opened.number, writable, True, path)
        descriptor.opened = opened
    except BaseException:
        opened.close()
        raise
    if descriptor.at_once and descriptor.regular and device not in _devices:
        # Through this very descriptor: to close another one of the file's would end the locks
        # that this process has on it (fcntl(2), POSIX record locks).
        try:
            local = await calls.of_loop().make(
                None, None, file_is_local, descriptor.number, use=descriptor.use
            )
        except RuntimeError:
            # No thread can be had; the file is as good without.
            return descriptor
        except BaseException:
            descriptor.drop()
            raise
        _devices[device] = descriptor.local = local
        if local:
            _local_devices.add(device)
    return descriptor


async def _open_fifo(path: Any, encoded: bytes, flags: int) -> Opened:
    """Open a FIFO, which waits for the other end, in a thread of its own."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[Opened] = loop.create_future()
    lock = threading.Lock()
    state = {"abandoned": False}

    def deliver(opened: Opened | None, error: BaseException | None) -> None:
        if opened is None:
            if not waiter.done():
                waiter.set_exception(error or OSError())
        elif waiter.done():
            opened.close()
        else:
            waiter.set_result(opened)

    def work() -> None:
        opened, error = None, None
        try:
            opened = _open_plain(path, encoded, flags)
        except BaseException as exc:
            error = exc
        with lock:
            abandoned = state["abandoned"]
        if not abandoned:
            try:
                loop.call_soon_threadsafe(deliver, opened, error)
                return
            except RuntimeError:
                pass  # The loop is closed.
        if opened is not None:
            opened.close()

    thread = threading.Thread(target=work, name="uring_loop-fifo", daemon=True)
    thread.start()
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.cancelled():
            with lock:
                state["abandoned"] = True
            # Not by the loop, which may be about to be closed.
            release = functools.partial(_release_fifo, thread, encoded, flags)
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=release, name="uring_loop-no-fifo", daemon=True).start()
        elif waiter.exception() is None:
            waiter.result().close()
        raise


def _release_fifo(thread: threading.Thread, encoded: bytes, flags: int) -> None:
    """Be the other end for a moment, until the thread that waits for it has come back."""
    other = os.O_RDONLY if flags & os.O_WRONLY else os.O_WRONLY
    while thread.is_alive():
        try:
            _open_plain(encoded, encoded, other | os.O_NONBLOCK | os.O_CLOEXEC).close()
        except FileNotFoundError:
            return  # nobody will ever be the other end
        except OSError:
            pass  # the thread is not there yet
        thread.join(0.01)


_KINDS = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "x": os.O_CREAT | os.O_EXCL,
    "a": os.O_CREAT | os.O_APPEND,
}
# On Windows there is no other way to get the bytes as they are.
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)


@functools.lru_cache(maxsize=64)
def open_flags(mode: str) -> tuple[int, str]:
    """The flags that io.open() gives to open(2), and its raw file's mode; or ValueError."""
    letters = set(mode)
    kinds = letters & set(_KINDS)
    if (
        letters - set("rwxa+bt")
        or len(letters) < len(mode)
        or {"t", "b"} <= letters
        or len(kinds) != 1
    ):
        raise ValueError(f"invalid mode: {mode!r}")
    kind = kinds.pop()
    if "+" in letters:
        return os.O_RDWR | _KINDS[kind] | _ALWAYS, kind + "+"
    return (os.O_RDONLY if kind == "r" else os.O_WRONLY) | _KINDS[kind] | _ALWAYS, kind


def refuse_arguments(mode: Any, encoding: Any, errors: Any, newline: Any) -> None:
    """Have io say in its own words what is wrong with these, of which no audit hook hears."""
    open(os.devnull, mode, -1, encoding, errors, newline).close()
