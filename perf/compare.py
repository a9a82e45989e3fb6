"""Compares event loops, interleaved: python perf/compare.py [--rows ...] [--loops ...].

Every round measures every loop before the next round begins, so a slow spell of
the machine falls on all of them; ratios are taken round by round and the table
shows their median with the smallest and the largest. CPU time is what counts.
"""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import _build
import _loops
import _measure
import _micro
import _report
import _rows

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


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def in_turn(loops: Sequence[str], number: int) -> Sequence[str]:
    """The loops, each round in the other direction."""
    return list(loops) if number % 2 == 0 else list(reversed(loops))


def without_floor(loops: Sequence[str]) -> list[str]:
    return [loop for loop in loops if loop != _measure.FLOOR]


def import_seconds(loop: str) -> float:
    """CPU time of an interpreter that imports asyncio and makes its first loop."""
    recipe = _loops.RECIPES[loop]
    code = f"import asyncio; {recipe.imports}; {recipe.expression}.close()"
    command = [sys.executable, "-c", code]
    process = os.posix_spawn(
        sys.executable,
        command,
        {**os.environ, **recipe.whole_environment, "PYTHONPATH": str(_loops.ROOT)},
    )
    _, status, usage = os.wait4(process, 0)
    if status:
        raise _measure.MeasureError(f"{loop}: the import failed")
    return usage.ru_utime + usage.ru_stime


def compare_callbacks(
    names: Sequence[str], loops: Sequence[str], rounds: int
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
                progress(f"{name} {number + 1}/{rounds * SAMPLES_PER_ROUND}")
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
    name: str, loops: Sequence[str], rounds: int, seconds: float, calls: bool
) -> _report.Result:
    row = _rows.ROWS[name]
    if not _measure.has_floor(row):
        loops = without_floor(loops)
    cells = {loop: _report.Cell() for loop in loops}
    for number in range(rounds):
        for loop in in_turn(loops, number):
            progress(f"{name} {loop} {number + 1}/{rounds}")
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
            progress(f"{name} {loop} system calls")
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


def compare_other(name: str, loops: Sequence[str], rounds: int) -> _report.Result:
    unit, note = OTHER_UNITS[name]
    cells = {loop: _report.Cell() for loop in loops}
    for number in range(rounds):
        for loop in in_turn(loops, number):
            progress(f"{name} {loop} {number + 1}/{rounds}")
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows",
        default="all",
        help=f"comma-separated rows or groups ({', '.join(GROUPS)}); default all",
    )
    parser.add_argument(
        "--loops",
        help=f"comma-separated, of {', '.join(_loops.RECIPES)}, {_measure.FLOOR}; default all "
        f"loops that start",
    )
    parser.add_argument("--against", default="uvloop", help="the loop that ratios refer to")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one window under load")
    parser.add_argument("--no-calls", action="store_true", help="do not count system calls")
    parser.add_argument("--json", type=Path, help="write every value to this file")
    options = parser.parse_args()
    rows: list[str] = []
    for name in options.rows.split(","):
        if name not in GROUPS and name not in GROUPS["all"]:
            parser.error(f"no row or group is called {name!r}")
        rows += [row for row in GROUPS.get(name, [name]) if row not in rows]
    options.rows = rows
    options.loops = options.loops.split(",") if options.loops else _loops.defaults()
    for name in options.loops:
        if name not in _loops.RECIPES and name != _measure.FLOOR:
            parser.error(f"no loop is called {name!r}")
    return options


def main() -> int:
    options = parse()
    loops, left_out = usable(options.loops)
    if not loops:
        print("\n".join(left_out), file=sys.stderr)
        return 1
    begin = time.monotonic()
    workers = [name for name in options.rows if name in _micro.ROWS or name == _micro.LOOP_LIFE]
    real = without_floor(loops)
    results = compare_callbacks(workers, real, options.rounds) if workers else []
    for name in options.rows:
        if name in _rows.ROWS:
            results.append(
                compare_load(name, loops, options.rounds, options.seconds, not options.no_calls)
            )
        elif name in OTHER_UNITS:
            results.append(compare_other(name, real, options.rounds))
        # Row by row: what a long run has measured is kept, whatever comes after.
        if options.json:
            _report.write_json(options.json, results, loops, options.against)
    progress("")

    facts = _report.machine()
    print(
        f"Linux {facts['kernel']}, Python {facts['python']}, {facts['cores']} cores, "
        f"load average {facts['load_average']:.1f}; {options.rounds} rounds, "
        f"{time.monotonic() - begin:.0f} s; smaller is better"
    )
    for line in left_out:
        print(line)
    print()
    print(_report.values_table(results, loops, options.against))
    detail = _report.load_table(results, loops)
    if detail:
        print("\n" + detail)
    if any(cell.calls_how == "ptrace" for r in results for cell in r.cells.values()):
        print("calls were counted with ptrace, which slows the server and so lowers them a little")
    broken = _report.failures(results)
    for line in broken:
        print(f"failed: {line}")
    ours = any(f" on {loop}:" in line for line in broken for loop in _loops.OURS)
    # The ring may be refused; the selector driver has no excuse.
    return 1 if ours or ("selector" in options.loops and "selector" not in loops) else 0


if __name__ == "__main__":
    sys.exit(main())
