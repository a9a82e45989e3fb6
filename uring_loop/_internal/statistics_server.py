"""What `python -m uring_loop top` asks: a socket that tells the statistics of a process's loops.

A thread of its own answers, so that a loop that is blocked is seen too. Who connects gets one
line of JSON and the end. Off unless somebody calls serve_statistics(), or the environment says

URING_LOOP_STATISTICS   1, for a socket where top looks by itself; or an address

A socket of the file system is for this user and root: its mode says so, and the kernel is
asked who connects. A TCP address is for whoever reaches it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import stat
import struct
import sys
import tempfile
import threading
import time

from .. import __version__, metrics
from .operations import OUT_OF_RESOURCE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_logger = logging.getLogger("uring_loop")

# Of the answer: changes when what a reader relies on does.
FORMAT = 1
# A reader that takes nothing does not hold up the others for longer.
_SEND_SECONDS = 5.0
# A reader for whom there is no descriptor is asked for again after so long.
_RETRY_MS = 200
_TCP = re.compile(r"(?:\[(?P<v6>[^\]/]*)\]|(?P<host>[^/\[\]]*)):(?P<port>\d{1,5})")


def directories(uid: int) -> list[str]:
    """Where a user's sockets are: the first that is there is taken."""
    found = [f"/run/user/{uid}", os.path.join(tempfile.gettempdir(), f"uring_loop-{uid}")]
    own = os.environ.get("XDG_RUNTIME_DIR")
    if own and uid == os.geteuid():
        found.insert(0, own)
    return found


def default_path(pid: int, directory: str) -> str:
    """The socket of a process in one of directories()."""
    return os.path.join(directory, f"uring_loop-{pid}.sock")


def tcp_address(address: str) -> tuple[str, int] | None:
    """(host, port) of "host:port" or "[host]:port"; None for what is a path."""
    found = _TCP.fullmatch(address)
    if found is None:
        return None
    return found["v6"] or found["host"] or "127.0.0.1", int(found["port"])


def snapshot() -> dict[str, Any]:
    """All that is told, of now."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    loops = []
    for loop in metrics.running_loops():
        found = loop.statistics()
        if found:
            loops.append(
                {
                    "number": metrics.number_of(loop),
                    "driver": loop.driver,
                    "thread": names.get(loop._thread_ident, ""),
                    "ready": loop._ready_count,
                    "timers": loop._timer_count,
                    "statistics": found,
                }
            )
    loops.sort(key=lambda loop: int(str(loop["number"])))
    return {
        "format": FORMAT,
        "uring_loop": __version__,
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "command": sys.argv,
        "monotonic_ns": time.monotonic_ns(),
        "loops": loops,
    }


class StatisticsServer:
    """Tells the statistics until close(), or the end of a `with` block.

    address: the path of the socket, or "host:port".
    """

    def __init__(self, address: str | None) -> None:
        self.address: str
        self._pid = os.getpid()
        self._path: str | None = None
        self._file: tuple[int, int] | None = None
        where = None if address is None else tcp_address(address)
        if where is not None:
            family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
            self._sock = socket.create_server(where, family=family)
            host, port = self._sock.getsockname()[:2]
            self.address = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        else:
            self._path = os.path.abspath(_own_path() if address is None else address)
            self._sock = _listen(self._path)
            found = os.lstat(self._path)
            self._file = found.st_dev, found.st_ino
            self.address = self._path
        # Ends the thread: a listening socket that is closed under accept() would not.
        self._stop, self._stopped = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, name="uring_loop statistics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Tell nothing any more; the socket's file goes. Does nothing the second time."""
        if self._stop.fileno() < 0:
            return
        self._stop.close()
        # After a fork the file, and the thread, are the parent's.
        if self._pid == os.getpid():
            self._thread.join()
            if self._path is not None:
                with contextlib.suppress(OSError):
                    found = os.lstat(self._path)
                    if self._file == (found.st_dev, found.st_ino):
                        os.unlink(self._path)
        self._sock.close()
        self._stopped.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _serve(self) -> None:
        import select

        stopping = select.poll()
        stopping.register(self._stopped, select.POLLIN)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(self._stopped, select.POLLIN)
        self._sock.setblocking(False)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._stopped.fileno() in ready:
                return
            try:
                connection, _ = self._sock.accept()
            except OSError as exc:
                # Else it is a reader that has gone already. Him poll() would tell of without end.
                if exc.errno in OUT_OF_RESOURCE and stopping.poll(_RETRY_MS):
                    return
                continue
            with connection, contextlib.suppress(OSError):
                connection.settimeout(_SEND_SECONDS)
                if self._path is None or _may_ask(connection):
                    connection.sendall(json.dumps(snapshot()).encode() + b"\n")


def _may_ask(connection: socket.socket) -> bool:
    # Elsewhere than on Linux the file's mode has to do.
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    _, uid, _ = struct.unpack("3i", credentials)
    return uid in (0, os.geteuid())


def _own_path() -> str:
    """Where top looks for this process; makes its directory, if that is ours to make."""
    uid = os.geteuid()
    *others, last = directories(uid)
    for directory in others:
        if os.access(directory, os.W_OK) and _is_private(directory, uid):
            return default_path(os.getpid(), directory)
    with contextlib.suppress(FileExistsError):
        os.mkdir(last, 0o700)
    if not _is_private(last, uid):
        raise PermissionError(f"{last} is not this user's alone: remove it, or name a path")
    return default_path(os.getpid(), last)


def _is_private(directory: str, uid: int) -> bool:
    found = os.lstat(directory)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not found.st_mode & 0o077


def _listen(path: str) -> socket.socket:
    """A socket at `path`, for this user alone; in the place of one that nobody serves any more."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _is_served(path):
            os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind(), which makes the file with this mode: there is no moment without it.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(path)
        sock.listen()
    except BaseException:
        sock.close()
        raise
    return sock


def _is_served(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True


def serve_statistics(address: str | None = None) -> StatisticsServer:
    """Let `python -m uring_loop top` see this process; gives what has close().

    address: a path for a UNIX socket, or "host:port"; by default a socket that is found by the
        process's number, in the user's runtime directory or one of ours beside the temporary
        files. A UNIX socket answers this user and root, TCP whoever connects.

    OSError where there can be no such socket. The thread that answers does not survive a fork.
    """
    return StatisticsServer(address)


_by_environment: StatisticsServer | None = None
_lock = threading.Lock()


def serve_by_environment(value: str) -> None:
    """What URING_LOOP_STATISTICS asks for, once in each process; a failure is a warning.

    %p in an address is the process's number.
    """
    global _by_environment
    with _lock:
        if _by_environment is not None and _by_environment._pid == os.getpid():
            return
        # A parent's, of which a fork has given us copies of the descriptors.
        if _by_environment is not None:
            _by_environment.close()
        address = None if value == "1" else value.replace("%p", str(os.getpid()))
        try:
            _by_environment = StatisticsServer(address)
        except OSError as exc:
            _logger.warning("URING_LOOP_STATISTICS=%s: %s", value, exc)
            return
    import atexit

    atexit.register(_by_environment.close)
