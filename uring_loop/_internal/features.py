"""The kernel features that a ring can do without, and why one is not in use.

Each has a form for kernels that lack it; the C half asks the kernel and knows
nothing of versions but the broken ones.  Here are the words for people.

Sources: io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

PERMIT = (
    "allow io_uring_setup, io_uring_enter and io_uring_register in the container's"
    " seccomp profile or the security module's policy"
)

_ROOM = {
    True: "raise RLIMIT_MEMLOCK (ulimit -l), to which a ring of this process is charged here"
    " (tried), or give the process CAP_IPC_LOCK",
    False: "raise the container's memory limit; to RLIMIT_MEMLOCK a ring of this process"
    " is not charged here (tried)",
    None: "raise RLIMIT_MEMLOCK (ulimit -l), should rings be charged to it here,"
    " or the container's memory limit",
}


def room(is_charged: bool | None) -> str:
    """The cure where there was no memory for a ring.

    is_charged: whether the kernel charges rings to RLIMIT_MEMLOCK; None if that is
    not known.
    """
    return _ROOM[is_charged]


# Feature -> the first Linux that has it, and what it is good for.
_ABOUT = {
    "ext_arg": ("5.11", "a turn's deadline goes with its one system call"),
    "single_issuer": ("6.0", "the kernel need not lock the submission queue"),
    "defer_taskrun": ("6.1", "completions are made when the loop asks for them"),
    "coop_taskrun": ("5.19", "completions do not interrupt the loop's thread"),
    "registered_fd": ("5.18", "entering the kernel looks up no descriptor"),
    "no_iowait": ("6.15", "an idle loop does not count as waiting for a disk"),
    "poll_first": ("5.19", "no attempt at a receive that would find nothing"),
    "cqe_skip": ("5.17", "no completion entry for what nobody asks about"),
    "multishot_poll": ("5.13", "a watched descriptor is armed once"),
    "multishot_accept": ("5.19", "a listening socket is armed once"),
    "multishot_recv": ("6.0", "a connection's receive is armed once"),
    "multishot_unix": ("6.0", "the same for UNIX sockets"),
    "buffer_ring": ("5.19", "idle connections hold no receive buffer"),
    "sync_cancel": ("6.0", "a ring that closes cancels with one call"),
    "restricted": ("5.10", "the kernel refuses all that the loop never asks of a ring"),
}

# The features that a feature is built on.
_NEEDS = {
    "defer_taskrun": "single_issuer",
    "multishot_recv": "buffer_ring",
    "multishot_unix": "multishot_recv",
}

# Features by which nothing is gained beside another.
_REPLACED_BY = {"coop_taskrun": "defer_taskrun"}


# Here and in driver.py plain classes: a NamedTuple takes longer to make than its module to load.
class Feature:
    """Whether the ring uses a kernel feature, and if not, why and what would help.

    since: the first Linux that has it.
    """

    def __init__(
        self,
        used: bool,
        since: str,
        purpose: str,
        why: str | None = None,
        cure: str | None = None,
    ) -> None:
        self.used = used
        self.since = since
        self.purpose = purpose
        self.why = why
        self.cure = cure


def describe(
    name: str,
    used: bool,
    error: int,
    missing: frozenset[str] = frozenset(),
    bug: str | None = None,
    is_charged: Callable[[], bool | None] = lambda: None,
) -> Feature:
    """All that there is to say about a feature.

    used: whether the ring has it in use.
    error: the errno for which it has not.
    missing: the names of all features that are not in use.
    bug: where it is told what is wrong with it in this kernel.
    is_charged: finds out what room() wants to know.
    """
    since, purpose = _ABOUT.get(name, ("", ""))
    if used:
        return Feature(True, since, purpose)
    if error == errno.ECANCELED:
        why, cure = "switched off", "take it out of URING_LOOP_DISABLE, or of `disable`"
    elif name in _REPLACED_BY and _REPLACED_BY[name] not in missing:
        why, cure = f"{_REPLACED_BY[name]} does more", None
    elif _NEEDS.get(name) in missing:
        why, cure = f"it needs {_NEEDS[name]}, which is not in use", None
    elif error == errno.EBADE:
        why = f"known to be broken in Linux {os.uname().release} ({bug})"
        cure = "a kernel in which it is mended"
    elif error in (errno.EPERM, errno.EACCES):
        why, cure = f"refused ({errno.errorcode[error]})", PERMIT
    elif error == errno.ENOMEM:
        why, cure = "no memory for it (ENOMEM)", room(is_charged())
    else:
        why, cure = f"not in Linux {os.uname().release}", f"Linux {since} or newer"
    return Feature(False, since, purpose, why, cure)
