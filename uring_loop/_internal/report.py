"""The facts behind loop.report() and the doctor: what a loop runs on, and why.

Plain dictionaries, lists, strings and numbers, so that they can be logged or
sent away as JSON.  Nothing is tried here; driver.py has done that.
"""

from __future__ import annotations

import os
import sys

from .. import __version__
from . import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .driver import Driver

_IMPLEMENTATIONS = {"cpython": "CPython", "pypy": "PyPy"}
_SECCOMP_MODES = {"0": "none", "1": "strict", "2": "filter"}


def system() -> dict[str, Any]:
    """The versions, limits and switches that this process runs on.

    tls: who encrypts and decrypts (tls_records.report()); None without an ssl module.
    proc: whether there is a /proc; without one, what is read there is not known.
    """
    import resource

    return {
        "uring_loop": __version__,
        "python": _python(),
        "kernel": _kernel(),
        "tls": _tls(),
        "limits": {
            "open_files": _limit(resource.RLIMIT_NOFILE),
            "locked_memory": _limit(resource.RLIMIT_MEMLOCK),
        },
        "proc": procfs.is_there(),
        "seccomp": _seccomp(),
        "io_uring_disabled": _sysctl("io_uring_disabled"),
        "io_uring_group": _sysctl("io_uring_group"),
    }


def of_driver(driver: Driver) -> dict[str, Any]:
    """The driver: what it is, who chose it, and what it uses of the kernel.

    driver: "uring" or "selector".
    chosen_by: "auto", "URING_LOOP_DRIVER" or "argument".
    reason, cure: why there is no ring, and what would help; None with a ring, or
        when nobody asked for one.
    ring: entries of the submission and the completion queue, and if these are fewer
        than was asked for, why and what would help; None without a ring.
    features: for each kernel feature whether it is used, since which Linux there
        is one, what it is good for, and if not used, why and what would help.
    """
    ring = driver.ring
    features = {} if ring is None else ring.features
    in_use = driver.features
    return {
        "driver": driver.name,
        "chosen_by": driver.chosen_by,
        "reason": None if ring is None else ring.reason,
        "cure": None if ring is None else ring.cure,
        "ring": driver.size,
        "features": {
            name: vars(feature) | {"used": name in in_use}
            for name, feature in features.items()
        },
    }


def of_loop(driver: Driver) -> dict[str, Any]:
    """Both, for loop.report()."""
    return {**system(), **of_driver(driver)}


def without_a_ring(driver: str, reason: str, cure: str | None) -> dict[str, Any]:
    """The same where there is no Linux, or where nothing is compiled."""
    return {
        "uring_loop": __version__,
        "python": _python(),
        "kernel": _kernel(),
        "driver": driver,
        "chosen_by": "auto",
        "reason": reason,
        "cure": cure,
        "ring": None,
        "features": {},
    }


def _python() -> str:
    name = sys.implementation.name
    return f"{_IMPLEMENTATIONS.get(name, name)} {sys.version.split()[0]}"


def _kernel() -> str:
    # As the platform module would say it, which takes 0.1 MiB.
    if sys.platform == "win32":
        import platform

        return f"{platform.system()} {platform.release()} {platform.machine()}"
    system = os.uname()
    return f"{system.sysname} {system.release} {system.machine}"


def _tls() -> dict[str, str | None] | None:
    try:
        from . import tls_records
    except ImportError:
        return None
    return tls_records.report()


def _limit(which: int) -> int | str:
    import resource

    soft = resource.getrlimit(which)[0]
    return "unlimited" if soft == resource.RLIM_INFINITY else soft


def _seccomp() -> str | None:
    for line in (procfs.text("/proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "Seccomp":
            return _SECCOMP_MODES.get(value.strip(), value.strip())
    return None


def _sysctl(name: str) -> int | None:
    """None where the kernel has no such switch (before 6.6), or there is no /proc."""
    value = procfs.text(f"/proc/sys/kernel/{name}")
    return None if value is None else int(value)
