"""The kernel's files about itself and this process, in /proc, which may be missing.

A chroot or a sandbox may be without it.  Read by the calls that `os` has at import,
and in one piece: a tool that looks for blocking calls (blockbuster) puts its own in
their place, and into files', and would report a loop that is made in another's task.
"""

from __future__ import annotations

from os import O_RDONLY
from os import close as _close
from os import open as _open
from os import read as _read

_BYTES_MAX = 1 << 16


def text(path: str) -> str | None:
    """The text of a small file of /proc; None where there is no such file to read."""
    try:
        file = _open(path, O_RDONLY)
        try:
            return _read(file, _BYTES_MAX).decode(errors="replace")
        finally:
            _close(file)
    except OSError:
        return None


def is_there() -> bool:
    """Whether what text() does not find is missing in the kernel, and not only here."""
    return text("/proc/sys/kernel/osrelease") is not None
