"""python -m uring_loop bench: our loops beside asyncio's and uvloop's, on this machine.

CPU time is what counts, of a server under load or of callbacks, interleaved loop by
loop. The short comparison takes less than a minute; perf/compare.py of a checkout is the
same with all rows.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import build as _build
from . import comparison, pyperf_file, svg
from . import loops as _loops
from . import measure as _measure
from . import report as _report
from . import rows as _rows

_BAR = 24
_NO_CONTROL = "none"

SHORT = ["call_soon", "sleep_0", "create_task", "gather_100", "echo_1k", "echo_100k", "http"]


def show(text: str) -> None:
    """What is done now, in the line of the one before, where standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


class Progress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps = max(1, steps)
        self._done = 0

    def tell(self, text: str) -> None:
        """Before each step: what it is."""
        share = min(1.0, self._done / self._steps)
        self._done += 1
        filled = round(share * _BAR)
        show(f"[{'#' * filled}{'.' * (_BAR - filled)}] {share:4.0%}  {text}")

    def end(self) -> None:
        """Leave nothing behind."""
        show("")


def _parser(short: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uring_loop bench" if short else None,
        description="Compares event loops on this machine: CPU time, interleaved.",
    )
    parser.add_argument(
        "--rows",
        default=",".join(SHORT) if short else "all",
        help=f"comma-separated rows or groups ({', '.join(comparison.GROUPS)});"
        " default %(default)s",
    )
    parser.add_argument(
        "--loops",
        help=f"comma-separated, of {', '.join(_loops.RECIPES)}, {_measure.FLOOR}; default those"
        " that start",
    )
    parser.add_argument(
        "--against",
        help="the loop that ratios refer to; default uvloop, else asyncio, else the first",
    )
    parser.add_argument(
        "--control",
        metavar="LOOP",
        help="the loop that is measured twice, which tells differences from noise; 'none' for"
        " without; default the one that ratios refer to",
    )
    parser.add_argument("--rounds", type=int, default=3 if short else 5)
    parser.add_argument(
        "--seconds", type=float, default=0.6 if short else 1.0, help="of one window under load"
    )
    parser.add_argument(
        "--no-calls", action="store_true", default=False, help="do not count system calls"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to this file")
    parser.add_argument(
        "--pyperf",
        type=Path,
        metavar="DIRECTORY",
        help="write a file for each loop, for python -m pyperf compare_to",
    )
    parser.add_argument(
        "--svg", type=Path, metavar="FILE", help="draw the work done with the same CPU time"
    )
    return parser


def _parse(arguments: Sequence[str], short: bool) -> argparse.Namespace:
    parser = _parser(short)
    options = parser.parse_args(arguments)
    rows: list[str] = []
    for name in options.rows.split(","):
        rows += comparison.GROUPS.get(name, [name])
    unknown = sorted(set(rows) - set(comparison.GROUPS["all"]))
    if unknown:
        parser.error(f"no row is called {', '.join(unknown)}")
    options.rows = list(dict.fromkeys(rows))
    default_loops = list(_loops.STANDARD) if short else _loops.defaults()
    options.loops = options.loops.split(",") if options.loops else default_loops
    for name in options.loops:
        if name not in _loops.RECIPES and name != _measure.FLOOR:
            parser.error(f"no loop is called {name}")
    if options.control not in (None, _NO_CONTROL, *options.loops):
        parser.error(f"{options.control} is not among the loops that are compared")
    if options.rounds < 1:
        parser.error("at least one round")
    return options


def _without_load(rows: Sequence[str]) -> tuple[list[str], list[str]]:
    """The rows that can be measured here, and a line if some cannot."""
    loaded = [name for name in rows if name in _rows.ROWS or name in comparison.CONNECTIONS]
    if not loaded:
        return list(rows), []
    try:
        _build.program("load")
    except _build.NoCompiler as error:
        left = [name for name in rows if name not in loaded]
        return left, [f"left out: {', '.join(loaded)}: {error}"]
    return list(rows), []


def main(arguments: Sequence[str], short: bool = True) -> int:
    """Compare, and print a table; the exit status says whether each row was served right."""
    options = _parse(arguments, short)
    loops, left_out = comparison.usable(options.loops)
    if not loops:
        print("\n".join(left_out), file=sys.stderr)
        return 1
    if options.against is None:
        options.against = next((name for name in ("uvloop", "asyncio") if name in loops), loops[0])
    control = options.control if options.control in loops else options.against
    if options.control == _NO_CONTROL or control not in loops:
        control = None
    rows, lines = _without_load(options.rows) if short else (options.rows, [])
    left_out += lines
    begin = time.monotonic()
    calls = not options.no_calls
    progress = Progress(comparison.steps(rows, loops, options.rounds, calls, control))

    def keep(results: list[_report.Result]) -> None:
        if options.json:
            _report.write_json(options.json, results, loops, options.against)

    try:
        results = comparison.compare(
            rows, loops, options.rounds, options.seconds, calls, progress.tell, keep, control
        )
    except KeyboardInterrupt:
        progress.end()
        return 130
    progress.end()
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
    for line in _report.legend(results):
        print(line)
    detail = _report.load_table(results, loops)
    if detail:
        print("\n" + detail)
    if any(cell.calls_how == "ptrace" for r in results for cell in r.cells.values()):
        print("calls were counted with ptrace, which slows the server and so lowers them a little")
    _write(options, results, loops)
    broken = _report.failures(results)
    for line in broken:
        print(f"failed: {line}")
    ours = any(f" on {loop}:" in line for line in broken for loop in _loops.OURS)
    # The ring may be refused; the selector driver has no excuse.
    return 1 if ours or ("selector" in options.loops and "selector" not in loops) else 0


def _write(
    options: argparse.Namespace, results: list[_report.Result], loops: Sequence[str]
) -> None:
    """The files that were asked for, besides --json's."""
    if options.pyperf:
        options.pyperf.mkdir(parents=True, exist_ok=True)
        for loop in loops:
            text = json.dumps(pyperf_file.of(results, loop), indent=1)
            Path(options.pyperf, f"{loop}.json").write_text(text + "\n")
    if options.svg:
        options.svg.write_text(svg.chart(results, loops, options.against))
