"""Choosing a driver, owning it, and telling what it is.

The only module that knows both drivers.  Decided once, when a loop is made: a
ring if this process may have one that works, else the selector, with one log
line per process that names the cause and the cure.  Everything above speaks
verbs, to whichever it is.

URING_LOOP_DRIVER   uring, selector or auto (the default)
URING_LOOP_ANNOUNCE 1: an INFO line names the driver of each loop
URING_LOOP_DISABLE  kernel features to do without, by name, separated by commas
URING_LOOP_SIZES    sizes of the ring, as sq_entries=64,buffer_count=32: the fields of
                    struct ul_options in csrc/driver/binding.h
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

from .._driver import ffi, lib
from . import features, procfs
from .splice import DirectSender, SplicingSender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .loop import EventLoop

_logger = logging.getLogger("uring_loop")

_CHOICES = ("auto", "uring", "selector")
_SYSCTL = "/proc/sys/kernel/io_uring_disabled"

# The cures, by errno; the cause is said by the C half.
_CURES = {
    errno.EPERM: features.PERMIT,
    errno.EACCES: features.PERMIT,
    errno.ENOSYS: "it takes Linux 5.7 or newer, built with io_uring, and no filter that hides it",
    errno.EBADE: "a kernel in which it is mended",
    errno.EINVAL: "it takes Linux 5.7 or newer",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise fs.file-max",
}


# For want of what another loop may find again: no answer for the whole process.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

# io_uring_setup(2) gives no more, whatever was asked for.
_ENTRIES_MAX = (32768, 65536)


class RingReport:
    """The features of io_uring in this process, found by trying it once.

    reason: why there is no ring; None when there is one.
    cure: what would help, where that is known.
    features: each kernel feature that we can use; none without a ring.
    """

    def __init__(
        self,
        reason: str | None,
        cure: str | None = None,
        features: Mapping[str, features.Feature] = MappingProxyType({}),
    ) -> None:
        self.reason = reason
        self.cure = cure
        self.features = features

    @property
    def explanation(self) -> str:
        """Cause and cure in one phrase."""
        return f"{self.reason}; {self.cure}" if self.cure else str(self.reason)


class Driver:
    """A driver of the C half, owned: close() frees it.

    handle: the driver, the first argument of each function in `lib` that is about one.
    chosen_by: "argument", "URING_LOOP_DRIVER" or "auto".
    ring: what was found out about io_uring; None when it was not asked for.
    """

    __slots__ = ("_statistics", "chosen_by", "handle", "lib", "name", "ring")

    def __init__(self, handle: Any, chosen_by: str, ring: RingReport | None) -> None:
        self.handle = handle
        self.chosen_by = chosen_by
        self.ring = ring
        self.lib = lib
        self.name: str = ffi.string(lib.ul_name(handle)).decode()
        self._statistics = ffi.new("uint64_t[]", len(_statistics_names()))

    @property
    def address(self) -> int:
        """The driver's address, for the core."""
        return int(ffi.cast("uintptr_t", self.handle))

    @property
    def table_address(self) -> int:
        """The address of its table of verbs, for the core."""
        return lib.ul_table_address(self.handle)

    @property
    def features(self) -> tuple[str, ...]:
        """The kernel features that it uses; none on the selector."""
        bits = lib.ul_features(self.handle) if self.handle is not None else 0
        return tuple(name for bit, name in enumerate(_feature_names()) if bits >> bit & 1)

    @property
    def shortage(self) -> str | None:
        """Why the ring is smaller than was asked for; None when it is not.  Each loop asks."""
        entries, completions, wanted, wanted_completions = self._entries()
        if entries >= min(wanted, _ENTRIES_MAX[0]) and completions >= min(
            wanted_completions, _ENTRIES_MAX[1]
        ):
            return None
        return (
            f"a ring of {entries} and {completions} entries instead of {wanted} and"
            f" {wanted_completions}: there was no memory for a larger one (ENOMEM)"
        )

    @property
    def size(self) -> dict[str, Any] | None:
        """The entries of the ring's queues, and why there are no more; None on the selector."""
        entries, completions, _, _ = self._entries()
        if entries == 0:
            return None
        reason = self.shortage
        return {
            "sq_entries": entries,
            "cq_entries": completions,
            "reason": reason,
            "cure": reason and features.room(ring_is_charged()),
        }

    def _entries(self) -> list[int]:
        """Of the submission and the completion queue: what they have, what was asked for."""
        sizes = ffi.new("uint32_t[4]")
        if self.handle is not None:
            lib.ul_ring_size(self.handle, sizes)
        found: list[int] = ffi.unpack(sizes, 4)
        return found

    def statistics(self) -> dict[str, Any]:
        """Its counters since it was made, and `in_flight`, which is a gauge."""
        if self.handle is None:
            return {}
        values = self._statistics
        lib.ul_statistics(self.handle, values, len(values))
        found: dict[str, Any] = {}
        for (group, name), value in zip(_statistics_names(), values, strict=True):
            if group is None:
                found[name] = value
            else:
                members = found.setdefault(group, {})
                if value != 0:
                    members[name] = value
        return found

    def has_request(self, opcode: int) -> bool:
        """Whether a request with this IORING_OP_* is ever answered by other than -EOPNOTSUPP."""
        return bool(lib.ul_has_request(self.handle, opcode))

    def make_sender(self, loop: EventLoop) -> DirectSender:
        """A sender of files for `loop`: on the ring, a splice waits for the disk elsewhere."""
        return SplicingSender(loop) if self.name == "uring" else DirectSender()

    def close(self) -> None:
        """Free it.  Nothing that it lent may be in use any more."""
        # First: another thread may ask for the statistics while destroy() is without the GIL.
        handle, self.handle = self.handle, None
        if handle is not None:
            lib.ul_destroy(handle)


def open_driver(choice: str | None = None, disable: Iterable[str] = ()) -> Driver:
    """As _open_driver(); says which it is, if URING_LOOP_ANNOUNCE asks for it."""
    announces = asked_by_environment()[0]
    driver = _open_driver(choice, disable)
    if announces:
        try:
            _announce(driver)
        except BaseException:
            driver.close()
            raise
    return driver


@cache
def asked_by_environment() -> tuple[bool, str]:
    """URING_LOOP_ANNOUNCE and URING_LOOP_STATISTICS, as the first loop of the process finds them.

    Each look at what is not in the environment costs a microsecond, and there are many loops.
    """
    announce = os.environ.get("URING_LOOP_ANNOUNCE", "0")
    statistics = os.environ.get("URING_LOOP_STATISTICS", "0")
    return announce not in ("", "0"), "" if statistics == "0" else statistics


def _announce(driver: Driver) -> None:
    size = driver.size
    ring = f", a ring of {size['sq_entries']} and {size['cq_entries']} entries" if size else ""
    text = f"event loop on the {driver.name} driver (chosen by {driver.chosen_by}){ring}"
    if _logger.isEnabledFor(logging.INFO) and _logger.hasHandlers():
        _logger.info("%s", text)
        return
    # Somebody has asked, and whoever set up logging did not think of us.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.emit(_logger.makeRecord(_logger.name, logging.INFO, __file__, 0, text, (), None))


def _open_driver(choice: str | None, disable: Iterable[str]) -> Driver:
    """Open the driver for one loop.

    choice: "uring", "selector" or "auto"; by default what URING_LOOP_DRIVER says.
    disable: names of kernel features to do without, besides URING_LOOP_DISABLE's.
    RuntimeError with the reason when a forced ring cannot run; OSError when not
    even the selector can be made; ValueError for unknown names.
    """
    choice, chosen_by = _choice(choice)
    disabled = _disabled_features(disable)
    ring = None
    if choice != "selector":
        ring = ring_report(disabled)
        if ring.reason is None:
            opened = _open(lib.UL_KIND_URING, disabled, chosen_by, ring)
            if isinstance(opened, Driver):
                return opened
            ring = RingReport(*_explain(*opened))
        if choice == "uring":
            raise RuntimeError(f"the uring driver cannot run: {ring.explanation}")
        _note(f"using the selector driver: {ring.explanation}")
    opened = _open(lib.UL_KIND_SELECTOR, 0, chosen_by, ring)
    if isinstance(opened, Driver):
        return opened
    number, phrase = opened
    raise OSError(number, phrase or os.strerror(number))


def _choice(choice: str | None) -> tuple[str, str]:
    """The name of the driver, and who says so."""
    if choice is not None:
        if choice not in _CHOICES:
            raise ValueError(f"driver must be 'uring', 'selector' or 'auto', not {choice!r}")
        return choice, "argument"
    choice = os.environ.get("URING_LOOP_DRIVER")
    if not choice:
        return "auto", "auto"
    if choice not in _CHOICES:
        raise ValueError(
            f"URING_LOOP_DRIVER must be 'uring', 'selector' or 'auto', not {choice!r}"
        )
    return choice, "auto" if choice == "auto" else "URING_LOOP_DRIVER"


_reports: dict[int, RingReport] = {}


def ring_report(disabled: int | None = None) -> RingReport:
    """Try a ring, once per process, and tell what came of it.

    Once more for the next loop if only a limit was in the way.
    disabled: the features to do without, as a mask; by default URING_LOOP_DISABLE's.
    """
    if disabled is None:
        disabled = _disabled_features()
    if disabled not in _reports:
        report, lasts = _try_ring(disabled)
        if not lasts:
            return report
        _reports[disabled] = report
    return _reports[disabled]


def _try_ring(disabled: int) -> tuple[RingReport, bool]:
    """A report, and whether it will be the same for every loop of this process."""
    if _ring_disabled() == 2:
        # Nobody may have one: do not even ask.
        report = RingReport(
            "io_uring is disabled (kernel.io_uring_disabled=2)",
            "enable it with sysctl kernel.io_uring_disabled=0",
        )
        return report, True
    probe = ffi.new("struct ul_probe *")
    lib.ul_probe(probe, disabled)
    if probe.error != 0:
        report = RingReport(*_explain(probe.error, ffi.string(probe.reason).decode()))
        return report, abs(probe.error) not in _SHORTAGES
    names = _feature_names()
    used = {name: bool(probe.features >> bit & 1) for bit, name in enumerate(names)}
    missing = frozenset(name for name in names if not used[name])
    report = RingReport(
        None,
        None,
        {
            name: features.describe(
                name,
                used[name],
                abs(probe.feature_errors[bit]),
                missing,
                _string(lib.ul_known_bug(1 << bit)),
                ring_is_charged,
            )
            for bit, name in enumerate(names)
        },
    )
    return report, not any(abs(error) in _SHORTAGES for error in probe.feature_errors)


def _string(text: Any) -> str | None:
    return None if text == ffi.NULL else ffi.string(text).decode()


def _open(
    kind: int, disabled: int, chosen_by: str, ring: RingReport | None
) -> Driver | tuple[int, str]:
    """A driver, or the errno and the phrase of the failure."""
    options = ffi.new("struct ul_options *")
    options.size = ffi.sizeof("struct ul_options")
    options.disable = disabled
    for name, value in _sizes().items():
        setattr(options, name, value)
    failure = ffi.new("struct ul_failure *")
    place = ffi.new("struct ul_driver *[1]")
    try:
        if lib.ul_open(kind, options, failure, place) != 0:
            return abs(failure.error), ffi.string(failure.reason).decode()
        driver = Driver(place[0], chosen_by, ring)
        if (shortage := driver.shortage) is not None:
            _note(f"{shortage}; {features.room(ring_is_charged())}")
    except BaseException:
        lib.ul_abandon(place)
        raise
    return driver


def _explain(number: int, phrase: str) -> tuple[str, str | None]:
    """Cause and cure."""
    number = abs(number)
    cause = f"{phrase or os.strerror(number)} ({errno.errorcode.get(number, number)})"
    if number == errno.EPERM and _ring_disabled() == 1:
        return cause, "kernel.io_uring_disabled is 1: join kernel.io_uring_group, or set it to 0"
    if number in (errno.EPERM, errno.EACCES) and not procfs.is_there():
        return cause, f"{features.PERMIT}, or set kernel.io_uring_disabled to 0 (no /proc tells it)"
    if number == errno.ENOMEM:
        return cause, features.room(ring_is_charged())
    return cause, _CURES.get(number)


def ring_is_charged() -> bool | None:
    """Whether the kernel charges a ring of this process to RLIMIT_MEMLOCK; tried anew each time.

    None where even that cannot be tried.
    """
    answer = lib.ul_ring_is_charged()
    return None if answer < 0 else bool(answer)


def _ring_disabled() -> int:
    """kernel.io_uring_disabled; 0 before Linux 6.6, which has no such sysctl."""
    try:
        return int(procfs.text(_SYSCTL) or 0)
    except ValueError:
        return 0


@cache
def _feature_names() -> tuple[str, ...]:
    names: list[str] = []
    while (name := lib.ul_feature_name(len(names))) != ffi.NULL:
        names.append(ffi.string(name).decode())
    return tuple(names)


@cache
def _statistics_names() -> tuple[tuple[str | None, str], ...]:
    """Group and name of each counter; most are in no group."""
    names: list[tuple[str | None, str]] = []
    while (name := lib.ul_statistics_name(len(names))) != ffi.NULL:
        names.append((_string(lib.ul_statistics_group(len(names))), ffi.string(name).decode()))
    return tuple(names)


def _disabled_features(names: Iterable[str] = ()) -> int:
    """The features to do without, as a mask: these, and URING_LOOP_DISABLE's."""
    if isinstance(names, str):
        names = _words(names)
    bits = 0
    for source, words in (
        ("disable", names),
        ("URING_LOOP_DISABLE", _words(os.environ.get("URING_LOOP_DISABLE", ""))),
    ):
        for name in words:
            if name not in _feature_names():
                raise ValueError(
                    f"{source} names an unknown feature {name!r};"
                    f" there are: {', '.join(_feature_names())}"
                )
            bits |= 1 << _feature_names().index(name)
    return bits


def _sizes() -> dict[str, int]:
    """URING_LOOP_SIZES, by field of struct ul_options."""
    words = _words(os.environ.get("URING_LOOP_SIZES", ""))
    if not words:
        return {}
    known = [name for name, _ in ffi.typeof("struct ul_options").fields]
    known = [name for name in known if name not in ("size", "disable")]
    sizes = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known or not value.isdecimal() or not 0 < int(value) < 2**31:
            raise ValueError(
                f"URING_LOOP_SIZES must be name=number, separated by commas, not {word!r};"
                f" names are: {', '.join(known)}"
            )
        sizes[name] = int(value)
    return sizes


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


@cache
def _note(line: str) -> None:
    """Say once per process that there is no ring, or less of one than was asked for."""
    _logger.warning(line)
