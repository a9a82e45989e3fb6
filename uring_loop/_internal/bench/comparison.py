"""Comparing event loops, interleaved, row by row.

Every round measures every loop before the next round begins, so a slow spell of
the machine falls on all of them; ratios are taken round by round. One loop is measured
twice in each round: what it differs from itself is the noise (noise.py).
"""

import contextlib
import functools
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence

from . import build as _build
from . import loops as _loops
from . import measure as _measure
from . import micro as _micro
from . import report as _report
from . import rows as _rows

CALLBACKS = list(_micro.ROWS)
LOAD = list(_rows.ROWS)
CONNECTIONS = ["idle_connection_memory", "spoken_connection_memory", "accept_and_hold"]
STARTUP = ["loop_life", "import", "idle_loop_memory"]
GROUPS = {
    "callbacks": CALLBACKS,
    "load": LOAD,
    "connections": CONNECTIONS,
    "startup": STARTUP,
    "tls": [name for name, row in _rows.ROWS.items() if row.tls],
    "must": [
        "echo_1k",
        "echo_100k",
        "call_soon",
        "call_soon_chain",
        "call_soon_threadsafe",
        "call_later_cancel",
        "sleep_0",
        "gather_100",
        "idle_connection_memory",
    ],
    "all": [*CALLBACKS, *LOAD, *CONNECTIONS, *STARTUP],
}
# Callback samples are some milliseconds long, so a round takes the median of several of them.
SAMPLES_PER_ROUND = 5
# Where the loop sits that is measured once more.
CONTROL = "control"

# Who takes part in a round: the loops by their names, and the control.
Seats = Mapping[str, str]


# What is told before each step.
Tell = Callable[[str], None]


def quiet(text: str) -> None:
    """For who does not want to be told."""


def seats(loops: Sequence[str], control: str | None = None) -> dict[str, str]:
    """A seat for each loop, and one for the loop that is measured twice."""
    return {**{loop: loop for loop in loops}, **({CONTROL: control} if control else {})}


def in_turn(names: Iterable[str], number: int) -> list[str]:
    """The seats, each round in the other direction."""
    return list(names) if number % 2 == 0 else list(names)[::-1]


def without_floor(taken: Seats) -> dict[str, str]:
    return {seat: loop for seat, loop in taken.items() if loop != _measure.FLOOR}


def gather(
    name: str, unit: str, note: str, cells: dict[str, _report.Cell], taken: Seats
) -> _report.Result:
    """A row's result, with the control's cell apart from the loops'."""
    own = {seat: cell for seat, cell in cells.items() if seat != CONTROL}
    return _report.Result(name, unit, note, own, cells.get(CONTROL), taken.get(CONTROL, ""))


@functools.cache
def bytecode() -> "tempfile.TemporaryDirectory[str]":
    """Where imports keep their bytecode, which an installed package has.

    A checkout need not: PYTHONDONTWRITEBYTECODE, or a folder of somebody else's, and each import
    compiles the sources again, for twice the time.
    """
    return tempfile.TemporaryDirectory()


def import_once(loop: str) -> float:
    recipe = _loops.RECIPES[loop]
    # Where this package is, the child finds it in the same way.
    code = f"import asyncio; {recipe.imports}; {recipe.expression}.close()"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, **recipe.whole_environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = bytecode().name
    process = os.posix_spawn(sys.executable, command, environment)
    _, status, usage = os.wait4(process, 0)
    if status:
        raise _measure.MeasureError(f"{loop}: the import failed")
    return usage.ru_utime + usage.ru_stime


@functools.cache
def compiled(loop: str) -> None:
    """Once for each loop: its import, which leaves the bytecode for the next."""
    import_once(loop)


def import_seconds(loop: str) -> float:
    """CPU time of an interpreter that imports asyncio and makes its first loop."""
    compiled(loop)
    return import_once(loop)


def callback_sample(worker: _micro.Worker, cell: _report.Cell, name: str) -> float | None:
    if cell.error:
        return None
    try:
        return worker.sample_ns(name)
    except _loops.Unavailable as error:
        cell.error = str(error)
        return None


def compare_callbacks(
    names: Sequence[str], taken: Seats, rounds: int, tell: Tell = quiet
) -> list[_report.Result]:
    """Workers of all loops on one core, asked in turns; one that waits costs nothing.

    Each round has new ones: a process keeps its luck with addresses for its whole life.
    """
    core, _ = _measure.cores()
    cells = {name: {seat: _report.Cell() for seat in taken} for name in names}
    for number in range(rounds):
        with contextlib.ExitStack() as stack:
            workers = {
                seat: stack.enter_context(_micro.Worker(loop, core))
                for seat, loop in taken.items()
            }
            for name in names:
                samples: dict[str, list[float]] = {seat: [] for seat in taken}
                for turn in range(-1, SAMPLES_PER_ROUND):
                    tell(f"{name} {number + 1}/{rounds}")
                    for seat in in_turn(taken, number + turn):
                        value = callback_sample(workers[seat], cells[name][seat], name)
                        # The first sample warms up and is not kept.
                        if value is not None and turn >= 0:
                            samples[seat].append(value)
                for seat, values in samples.items():
                    if values:
                        cells[name][seat].values.append(statistics.median(values))
    notes = {name: _micro.ROWS[name][2] for name in names if name in _micro.ROWS}
    return [
        gather(name, "ns", notes.get(name, "a loop made, run, closed"), cells[name], taken)
        for name in names
    ]


def compare_load(
    name: str,
    taken: Seats,
    rounds: int,
    seconds: float,
    calls: bool,
    tell: Tell = quiet,
) -> _report.Result:
    row = _rows.ROWS[name]
    if not _measure.has_floor(row):
        taken = without_floor(taken)
    cells = {seat: _report.Cell() for seat in taken}
    for number in range(rounds):
        for seat in in_turn(taken, number):
            tell(f"{name} {taken[seat]} {number + 1}/{rounds}")
            load_sample(taken[seat], row, seconds, cells[seat])
    for seat, cell in cells.items():
        if calls and cell.good and seat != CONTROL:
            tell(f"{name} {seat} system calls")
            with contextlib.suppress(_measure.MeasureError):
                cell.calls, cell.calls_how = _measure.count_calls(seat, row)
    return gather(name, "us", row.note, cells, taken)


def load_sample(
    loop: str, row: _measure.Row, seconds: float, cell: _report.Cell, warm_up: float = 0.25
) -> None:
    """One window into the cell; one that has failed before is left alone."""
    if cell.error:
        return
    try:
        sample = _measure.measure(loop, row, seconds, warm_up)
    except _measure.MeasureError as error:
        cell.error = str(error)
        return
    cell.add(sample)


def take_other(name: str, loop: str) -> float:
    """One value of a row that needs a fresh process each time."""
    count = _rows.IDLE_CONNECTIONS
    if name == "idle_connection_memory":
        return _measure.hold_cost(loop, _rows.IDLE, count, speak=False)[0]
    if name == "spoken_connection_memory":
        return _measure.hold_cost(loop, _rows.IDLE, count, speak=True)[0]
    if name == "accept_and_hold":
        return _measure.hold_cost(loop, _rows.IDLE, count, speak=False)[1] * 1e6
    if name == "import":
        return import_seconds(loop) * 1e3
    assert name == "idle_loop_memory"
    with _measure.Server(loop, _rows.IDLE) as server:
        return server.memory_bytes() / (1 << 20)


OTHER_UNITS = {
    "idle_connection_memory": ("B", "memory per silent connection, of 10,000"),
    "spoken_connection_memory": ("B", "memory per connection that spoke once, of 10,000"),
    "accept_and_hold": ("us", "CPU time to accept one of 10,000"),
    "import": ("ms", "an interpreter that imports it and makes a loop"),
    "idle_loop_memory": ("MiB", "private memory of a server before its first connection"),
}


def compare_other(name: str, taken: Seats, rounds: int, tell: Tell = quiet) -> _report.Result:
    unit, note = OTHER_UNITS[name]
    cells = {seat: _report.Cell() for seat in taken}
    for number in range(rounds):
        for seat in in_turn(taken, number):
            tell(f"{name} {taken[seat]} {number + 1}/{rounds}")
            if cells[seat].error:
                continue
            try:
                cells[seat].values.append(take_other(name, taken[seat]))
            except _measure.MeasureError as error:
                cells[seat].error = str(error)
    return gather(name, unit, note, cells, taken)


def usable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which loops start here, and a line for each that does not."""
    good, lines = [], []
    for name in names:
        if name == _measure.FLOOR:
            try:
                _build.program(name)
                good.append(name)
            except _build.NoCompiler as error:
                lines.append(f"left out: {error}")
            continue
        with _micro.Worker(name, None) as worker:
            if worker.error is None:
                good.append(name)
            else:
                lines.append(f"left out: {worker.error}")
    return good, lines


def steps(
    names: Sequence[str],
    loops: Sequence[str],
    rounds: int,
    calls: bool,
    control: str | None = None,
) -> int:
    """How often compare() tells what it does."""
    count = 0
    taken = len(seats(loops, control))
    for name in names:
        if name in _micro.ROWS or name == _micro.LOOP_LIFE:
            count += rounds * (1 + SAMPLES_PER_ROUND)
        elif name in _rows.ROWS:
            count += rounds * taken + calls * len(loops)
        else:
            count += rounds * taken
    return count


def compare(
    names: Sequence[str],
    loops: Sequence[str],
    rounds: int,
    seconds: float,
    calls: bool,
    tell: Tell = quiet,
    measured: Callable[[list[_report.Result]], None] = lambda results: None,
    control: str | None = None,
) -> list[_report.Result]:
    """Each row on each loop, and once more on `control`; `measured` gets all there is after
    each row under load."""
    workers = [name for name in names if name in _micro.ROWS or name == _micro.LOOP_LIFE]
    taken = seats(loops, control)
    real = without_floor(taken)
    results = compare_callbacks(workers, real, rounds, tell) if workers else []
    for name in names:
        if name in _rows.ROWS:
            results.append(compare_load(name, taken, rounds, seconds, calls, tell))
        elif name in OTHER_UNITS:
            results.append(compare_other(name, real, rounds, tell))
        # Row by row: what a long run has measured is kept, whatever comes after.
        measured(results)
    return results
