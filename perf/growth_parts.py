"""What growth.py measures: the parts, their sizes, and how one value is taken."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import _checkout  # noqa: F401
import _limits

from uring_loop._internal.bench import measure as _measure
from uring_loop._internal.bench import rows as _rows

TIMERS = Path(__file__).parent / "growth_timers.py"
TIMERS_SECONDS = 120
# Of the server, the load and the kernel together, for a connection; of a timer on any loop.
CONNECTION_BYTES = 24 << 10
TIMER_BYTES = 1 << 10

# Values of one size, on one loop, in one round: one for each curve of the part.
Take = Callable[[str, int, float], Sequence[float]]


@dataclass(frozen=True)
class Part:
    """What grows, and the curves that show what it costs."""

    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    of: str
    # name -> (unit, what it is)
    curves: dict[str, tuple[str, str]]
    take: Take
    # How much of a size can be had here, and why not all.
    possible: Callable[[int], tuple[int, str | None]]


def take_active(loop: str, size: int, seconds: float) -> Sequence[float]:
    row = _measure.Row(f"active_{size}", "protocol", connections=size)
    # Of ten thousand each shall have had its turns before the clock runs, and within.
    longer = 1 + size / 5_000
    sample = _measure.measure(loop, row, seconds * longer, 0.2 * longer)
    return sample.cpu_us, sample.p99_us


def take_timers(loop: str, size: int, seconds: float) -> Sequence[float]:
    core, _ = _measure.cores()
    command = [sys.executable, str(TIMERS), "--loop", loop, "--alive", str(size)]
    if core is not None:
        command += ["--core", str(core)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMERS_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _measure.MeasureError(f"{loop}: no end after {TIMERS_SECONDS} s") from error
    if done.returncode:
        raise _measure.MeasureError(f"{loop}: {(done.stderr.strip() or 'ended').splitlines()[-1]}")
    values = json.loads(done.stdout)
    return values["cancel_ns"], values["fire_ns"]


def take_idle(loop: str, size: int, seconds: float) -> Sequence[float]:
    memory, cpu = _measure.hold_cost(loop, _rows.IDLE, size, speak=False)
    return memory, cpu * 1e6


def connections_possible(size: int) -> tuple[int, str | None]:
    return min(_limits.files(size), _limits.memory(size, CONNECTION_BYTES), key=lambda few: few[0])


def timers_possible(size: int) -> tuple[int, str | None]:
    return _limits.memory(size, TIMER_BYTES)


PARTS = {
    "active": Part(
        (1, 10, 100, 1_000, 10_000),
        (1, 10, 100),
        "active connections",
        {
            "active_cpu": ("us", "CPU time per message of 1 KiB"),
            "active_p99": ("us", "p99 of a message of 1 KiB"),
        },
        take_active,
        connections_possible,
    ),
    "timers": Part(
        (1_000, 10_000, 100_000, 1_000_000),
        (1_000, 10_000),
        "timers alive",
        {
            "timer_cancel": ("ns", "CPU time of call_later and cancel"),
            "timer_fire": ("ns", "CPU time of call_later and fire"),
        },
        take_timers,
        timers_possible,
    ),
    "idle": Part(
        (1_000, 10_000, 100_000),
        (1_000, 2_000),
        "idle connections",
        {
            "idle_memory": ("B", "memory of an idle connection"),
            "idle_accept": ("us", "CPU time to accept it"),
        },
        take_idle,
        connections_possible,
    ),
}
CURVES = {name: (part.of, *curve) for part in PARTS.values() for name, curve in part.curves.items()}


def row_name(curve: str, size: int) -> str:
    return f"{curve}_{size}"


def split_name(name: str) -> tuple[str, int]:
    """The curve and the size."""
    curve, _, size = name.rpartition("_")
    return curve, int(size)
