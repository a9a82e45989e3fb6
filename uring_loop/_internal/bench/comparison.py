"""Comparing event loops, interleaved, row by row.

Every round measures every loop before the next round begins, so a slow spell of
the machine falls on all of them; ratios are taken round by round.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

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
# Callback samples are some milliseconds long, so a round takes several of them.
SAMPLES_PER_ROUND = 5


# What is told before each step.
Tell = Callable[[str], None]


def quiet(text: str) -> None:
    """For who does not want to be told."""


def in_turn(loops: Sequence[str], number: int) -> Sequence[str]:
    """The loops, each round in the other direction."""
    return list(loops) if number % 2 == 0 else list(reversed(loops))


def without_floor(loops: Sequence[str]) -> list[str]:
    return [loop for loop in loops if loop != _measure.FLOOR]


def import_seconds(loop: str) -> float:
    """CPU time of an interpreter that imports asyncio and makes its first loop."""
    recipe = _loops.RECIPES[loop]
    # Where this package is, the child finds it in the same way.
    code = f"import asyncio; {recipe.imports}; {recipe.expression}.close()"
    command = [sys.executable, "-c", code]
    process = os.posix_spawn(
        sys.executable,
        command,
        {**os.environ, **recipe.whole_environment},
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise _measure.MeasureError(f"{loop}: the import failed")
    return usage.ru_utime + usage.ru_stime


def compare_callbacks(
    names: Sequence[str], loops: Sequence[str], rounds: int, tell: Tell = quiet
) -> list[_report.Result]:
    """Workers of all loops on one core, asked in turns; one that waits costs nothing."""
    core, _ = _measure.cores()
    results = []
    with contextlib.ExitStack() as stack:
        workers = {loop: stack.enter_context(_micro.Worker(loop, core)) for loop in loops}
        for name in names:
            note = _micro.ROWS[name][2] if name in _micro.ROWS else "a loop made, run, closed"
            result = _report.Result(name, "ns", note, {loop: _report.Cell() for loop in loops})
            for number in range(-1, rounds * SAMPLES_PER_ROUND):
                tell(f"{name} {number + 1}/{rounds * SAMPLES_PER_ROUND}")
                for loop in in_turn(loops, number):
                    cell = result.cells[loop]
                    if cell.error:
                        continue
                    try:
                        value = workers[loop].sample_ns(name)
                    except _loops.Unavailable as error:
                        cell.error = str(error)
                        continue
                    # The first sample of a row warms up and is not kept.
                    if number >= 0:
                        cell.values.append(value)
            results.append(result)
    return results


def compare_load(
    name: str,
    loops: Sequence[str],
    rounds: int,
    seconds: float,
    calls: bool,
    tell: Tell = quiet,
) -> _report.Result:
    row = _rows.ROWS[name]
    if not _measure.has_floor(row):
        loops = without_floor(loops)
    cells = {loop: _report.Cell() for loop in loops}
    for number in range(rounds):
        for loop in in_turn(loops, number):
            tell(f"{name} {loop} {number + 1}/{rounds}")
            cell = cells[loop]
            if cell.error:
                continue
            try:
                sample = _measure.measure(loop, row, seconds)
            except _measure.MeasureError as error:
                cell.error = str(error)
                continue
            cell.values.append(sample.cpu_us)
            cell.per_second.append(sample.per_second)
            cell.p50_us.append(sample.p50_us)
            cell.p99_us.append(sample.p99_us)
            cell.load_share.append(sample.load_share)
    for loop, cell in cells.items():
        if calls and cell.good:
            tell(f"{name} {loop} system calls")
            with contextlib.suppress(_measure.MeasureError):
                cell.calls, cell.calls_how = _measure.count_calls(loop, row)
    return _report.Result(name, "us", row.note, cells)


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
    "import": ("ms", "CPU time of an interpreter that imports asyncio and makes one loop"),
    "idle_loop_memory": ("MiB", "private memory of a server before its first connection"),
}


def compare_other(
    name: str, loops: Sequence[str], rounds: int, tell: Tell = quiet
) -> _report.Result:
    unit, note = OTHER_UNITS[name]
    cells = {loop: _report.Cell() for loop in loops}
    for number in range(rounds):
        for loop in in_turn(loops, number):
            tell(f"{name} {loop} {number + 1}/{rounds}")
            if cells[loop].error:
                continue
            try:
                cells[loop].values.append(take_other(name, loop))
            except _measure.MeasureError as error:
                cells[loop].error = str(error)
    return _report.Result(name, unit, note, cells)


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


def steps(names: Sequence[str], loops: Sequence[str], rounds: int, calls: bool) -> int:
    """How often compare() tells what it does."""
    count = 0
    for name in names:
        if name in _micro.ROWS or name == _micro.LOOP_LIFE:
            count += 1 + rounds * SAMPLES_PER_ROUND
        elif name in _rows.ROWS:
            count += (rounds + calls) * len(loops)
        else:
            count += rounds * len(loops)
    return count


def compare(
    names: Sequence[str],
    loops: Sequence[str],
    rounds: int,
    seconds: float,
    calls: bool,
    tell: Tell = quiet,
    measured: Callable[[list[_report.Result]], None] = lambda results: None,
) -> list[_report.Result]:
    """Each row on each loop; `measured` gets all there is after each row under load."""
    workers = [name for name in names if name in _micro.ROWS or name == _micro.LOOP_LIFE]
    real = without_floor(loops)
    results = compare_callbacks(workers, real, rounds, tell) if workers else []
    for name in names:
        if name in _rows.ROWS:
            results.append(compare_load(name, loops, rounds, seconds, calls, tell))
        elif name in OTHER_UNITS:
            results.append(compare_other(name, real, rounds, tell))
        # Row by row: what a long run has measured is kept, whatever comes after.
        measured(results)
    return results
