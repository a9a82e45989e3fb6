"""Choosing a driver, owning it, and telling what it is.

The only module that knows both drivers.  Decided once, when a loop is made: a
ring if this process may have one that works, else the selector, with one log
line per process that names the cause and the cure.  Everything above speaks
verbs, to whichever it is.

URING_LOOP_DRIVER   uring, selector or auto (the default)
URING_LOOP_DISABLE  kernel features to do without, by name, separated by commas
"""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from ._driver import ffi, lib

_logger = logging.getLogger("uring_loop")

_CHOICES = ("auto", "uring", "selector")
_SYSCTL = "/proc/sys/kernel/io_uring_disabled"

# What the C half says is the cause; this is what to do about it.
_PERMIT = (
    "allow io_uring_setup, io_uring_enter and io_uring_register in the container's"
    " seccomp profile or the security module's policy"
)
_CURES = {
    errno.EPERM: _PERMIT,
    errno.EACCES: _PERMIT,
    errno.ENOSYS: "it takes Linux 5.7 or newer, built with io_uring, and no filter that hides it",
    errno.EINVAL: "it takes Linux 5.7 or newer",
    errno.ENOMEM: "raise RLIMIT_MEMLOCK (ulimit -l), to which kernels before 5.12 charge a ring",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise fs.file-max",
}


@dataclass(frozen=True, slots=True)
class RingReport:
    """What io_uring offers to this process, found by trying it once."""

    reason: str | None
    """Why there is no ring, with the cure; None when there is one."""
    features: dict[str, str | None]
    """Each kernel feature that we can use; None, or why it is not in use."""


class Driver:
    """A driver of the C half, owned: close() frees it.

    handle: the driver, the first argument of each verb in `lib`.
    token: where a verb leaves the token of the operation it started.
    """

    __slots__ = ("_statistics", "handle", "lib", "name", "token")

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.lib = lib
        self.name: str = ffi.string(lib.ul_name(handle)).decode()
        self.token = ffi.new("uint64_t[1]")
        self._statistics = ffi.new("uint64_t[32]")

    @property
    def address(self) -> int:
        """Where the driver is, for the core."""
        return int(ffi.cast("uintptr_t", self.handle))

    @property
    def table_address(self) -> int:
        """Where its table of verbs is, for the core."""
        return lib.ul_table_address(self.handle)

    @property
    def features(self) -> tuple[str, ...]:
        """The kernel features that it uses; none on the selector."""
        bits = lib.ul_features(self.handle) if self.handle is not None else 0
        return tuple(name for bit, name in enumerate(_feature_names()) if bits >> bit & 1)

    def statistics(self) -> dict[str, int]:
        """Its counters since it was made, and `in_flight`, which is a gauge."""
        if self.handle is None:
            return {}
        values = self._statistics
        count = lib.ul_statistics(self.handle, values, len(values))
        return {
            ffi.string(lib.ul_statistics_name(index)).decode(): values[index]
            for index in range(min(count, len(values)))
        }

    def close(self) -> None:
        """Free it.  Nothing that it lent may be in use any more."""
        if self.handle is not None:
            lib.ul_destroy(self.handle)
            self.handle = None


def open_driver(choice: str | None = None) -> Driver:
    """Open the driver for one loop.

    choice: "uring", "selector" or "auto"; by default what URING_LOOP_DRIVER says.
    RuntimeError with the reason when a forced ring cannot run; OSError when not
    even the selector can be made.
    """
    if choice is None:
        choice = os.environ.get("URING_LOOP_DRIVER") or "auto"
        if choice not in _CHOICES:
            raise ValueError(
                f"URING_LOOP_DRIVER must be 'uring', 'selector' or 'auto', not {choice!r}"
            )
    elif choice not in _CHOICES:
        raise ValueError(f"driver must be 'uring', 'selector' or 'auto', not {choice!r}")
    if choice != "selector":
        reason = ring_report().reason
        if reason is None:
            handle, number, phrase = _open(lib.UL_KIND_URING)
            if handle is not None:
                return Driver(handle)
            reason = _explain(number, phrase)
        if choice == "uring":
            raise RuntimeError(f"the uring driver cannot run: {reason}")
        _note_fallback(reason)
    handle, number, phrase = _open(lib.UL_KIND_SELECTOR)
    if handle is None:
        raise OSError(number, phrase or os.strerror(number))
    return Driver(handle)


@cache
def ring_report() -> RingReport:
    """Try a ring, once per process, and tell what came of it."""
    if _ring_disabled() == 2:
        # Nobody may have one: do not even ask.
        reason = (
            "io_uring is disabled (kernel.io_uring_disabled=2);"
            " enable it with sysctl kernel.io_uring_disabled=0"
        )
        return RingReport(reason, {})
    probe = ffi.new("struct ul_probe *")
    lib.ul_probe(probe, _disabled_features())
    if probe.error != 0:
        return RingReport(_explain(probe.error, ffi.string(probe.reason).decode()), {})
    features: dict[str, str | None] = {}
    for bit, name in enumerate(_feature_names()):
        if probe.features >> bit & 1:
            features[name] = None
        else:
            features[name] = os.strerror(abs(probe.feature_errors[bit]) or errno.EOPNOTSUPP)
    return RingReport(None, features)


def _open(kind: int) -> tuple[Any, int, str]:
    """A driver, or None with the errno and the phrase of the failure."""
    options = ffi.new("struct ul_options *")
    options.size = ffi.sizeof("struct ul_options")
    options.disable = _disabled_features()
    failure = ffi.new("struct ul_failure *")
    handle = lib.ul_open(kind, options, failure)
    if handle == ffi.NULL:
        return None, abs(failure.error), ffi.string(failure.reason).decode()
    return handle, 0, ""


def _explain(number: int, phrase: str) -> str:
    """Cause and cure in one phrase."""
    number = abs(number)
    cause = f"{phrase or os.strerror(number)} ({errno.errorcode.get(number, number)})"
    if number == errno.EPERM and _ring_disabled() == 1:
        cure = "kernel.io_uring_disabled is 1: join kernel.io_uring_group, or set it to 0"
    else:
        cure = _CURES.get(number, "")
    return f"{cause}; {cure}" if cure else cause


def _ring_disabled() -> int:
    """kernel.io_uring_disabled; 0 before Linux 6.6, which has no such sysctl."""
    try:
        with open(_SYSCTL, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


@cache
def _feature_names() -> tuple[str, ...]:
    names: list[str] = []
    while (name := lib.ul_feature_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


def _disabled_features() -> int:
    bits = 0
    for name in os.environ.get("URING_LOOP_DISABLE", "").replace(",", " ").split():
        try:
            bits |= 1 << _feature_names().index(name)
        except ValueError:
            raise ValueError(
                f"URING_LOOP_DISABLE names an unknown feature {name!r};"
                f" there are: {', '.join(_feature_names())}"
            ) from None
    return bits


@cache
def _note_fallback(reason: str) -> None:
    """Say once per process, for each reason, that there is no ring."""
    _logger.warning("using the selector driver: %s", reason)
