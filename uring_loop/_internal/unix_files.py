"""The files that UNIX sockets have: which there are, and when they are in the way.

Binding makes such a file and closing leaves it, so a process that starts again
finds its own of last time. Source: unix(7).
"""

from __future__ import annotations

import os
import socket
import stat

from ._stdlib import logger
from .own_calls import outside


def is_abstract(path: str | bytes) -> bool:
    """Whether unix(7) keeps the name out of the file system."""
    return path[0] in (0, "\0")


def remove_stale(path: str | bytes) -> None:
    """Remove the socket that an earlier process has left at `path`, if there is one."""
    if is_abstract(path):
        return
    try:
        if stat.S_ISSOCK(outside(os.stat, path).st_mode):
            outside(os.remove, path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # The directory may allow no more than to make a socket.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)


def find(sock: socket.socket) -> tuple[str | bytes, int] | None:
    """The path and inode that a bound UNIX socket has in the file system."""
    path = sock.getsockname()
    if not path or is_abstract(path):
        return None
    try:
        return path, outside(os.stat, path).st_ino
    except FileNotFoundError:
        return None


def remove_own(path: str | bytes, inode: int) -> None:
    """Remove what find() has told of, unless somebody else has put a socket there meanwhile."""
    try:
        if outside(os.stat, path).st_ino == inode:
            outside(os.unlink, path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        logger.error("Unable to clean up listening UNIX socket %r: %r", path, exc)
