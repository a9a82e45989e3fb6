"""How cost grows: python perf/growth.py [--parts active,timers,idle] [--quick] [--out NAME].

    active  1 to 10,000 connections that all talk: CPU time per message of 1 KiB, and p99
    timers  1,000 to 1,000,000 timers alive: CPU time to make and cancel one more, to have one fire
    idle    1,000 to 100,000 silent connections: memory of each, CPU time to accept it

Every round takes each size on each loop, in turns, in fresh processes, and the loop that
ratios refer to once more (the control, see README.md). --json keeps every value; --out draws
NAME.svg and NAME.png. Each part takes a few minutes; --quick, with small sizes and one round,
half a minute in all.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import _checkout  # noqa: F401
from growth_parts import CURVES, PARTS, Part, row_name, split_name

from uring_loop._internal.bench import build as _build
from uring_loop._internal.bench import command as _command
from uring_loop._internal.bench import comparison as _comparison
from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import measure as _measure
from uring_loop._internal.bench import noise as _noise
from uring_loop._internal.bench import report as _report


def measure_part(
    part: Part,
    sizes: Sequence[int],
    taken: _comparison.Seats,
    rounds: int,
    seconds: float,
    tell: _comparison.Tell,
) -> list[_report.Result]:
    """Of each curve a row for each size."""
    cells = {
        (curve, size): {seat: _report.Cell() for seat in taken}
        for curve in part.curves
        for size in sizes
    }
    for number in range(rounds):
        for size in sizes:
            for seat in _comparison.in_turn(taken, number):
                tell(f"{size:,} {part.of} {taken[seat]} {number + 1}/{rounds}")
                own = [cells[curve, size][seat] for curve in part.curves]
                if own[0].error:
                    continue
                try:
                    values = part.take(taken[seat], size, seconds)
                except _measure.MeasureError as error:
                    for cell in own:
                        cell.error = str(error)
                    continue
                for cell, value in zip(own, values, strict=True):
                    cell.values.append(value)
    return [
        _comparison.gather(
            row_name(curve, size),
            part.curves[curve][0],
            f"{part.curves[curve][1]}, {size:,} {part.of}",
            cells[curve, size],
            taken,
        )
        for curve, size in cells
    ]


# ---- does anything grow faster? ------------------------------------------------------------


def quotients(
    cell: _report.Cell | None,
    other: _report.Cell | None,
    larger: _report.Cell | None,
    larger_other: _report.Cell | None,
) -> list[float]:
    """Round by round: how much more a loop's cost grew than another's; nothing if one failed."""
    four = (cell, other, larger, larger_other)
    if not all(each is not None and each.good and min(each.values) > 0 for each in four):
        return []
    values = [each.values for each in four if each is not None]
    return [(d / c) / (b / a) for b, a, d, c in zip(*values, strict=True)]


@dataclass(frozen=True)
class Growth:
    """From one size to another: a loop's growth divided by the growth of who ratios refer to."""

    curve: str
    begin: int
    end: int
    loop: str
    relative: _noise.Ratio
    control: _noise.Ratio | None
    verdict: str


def growths(results: Sequence[_report.Result], loops: Sequence[str], against: str) -> list[Growth]:
    """Of each curve from the first size to the last, and from each to the next."""
    curves: dict[str, list[tuple[int, _report.Result]]] = {}
    for result in results:
        curve, size = split_name(result.name)
        curves.setdefault(curve, []).append((size, result))
    found = []
    for curve, rows in curves.items():
        rows.sort(key=lambda row: row[0])
        steps = list(zip(rows, rows[1:], strict=False))
        if len(steps) > 1:
            steps.insert(0, (rows[0], rows[-1]))
        for (begin, small), (end, large) in steps:
            other, larger_other = small.cells.get(against), large.cells.get(against)
            again = quotients(small.control, other, large.control, larger_other)
            control = _noise.of_pairs(again) if again else None
            for loop in loops:
                pairs = quotients(
                    small.cells.get(loop), other, large.cells.get(loop), larger_other
                )
                if loop == against or not pairs:
                    continue
                relative = _noise.of_pairs(pairs)
                verdict = _noise.verdict(relative, control)
                found.append(Growth(curve, begin, end, loop, relative, control, verdict))
    return found


def growth_table(found: Sequence[Growth], loops: Sequence[str], against: str) -> str:
    spans: dict[tuple[str, int, int], dict[str, str]] = {}
    for each in found:
        text = "=" if each.verdict == _noise.SAME else f"x{each.relative.median:.2f}"
        spans.setdefault((each.curve, each.begin, each.end), {})[each.loop] = (
            f"{text} [{each.relative.low:.2f}-{each.relative.high:.2f}]"
        )
        if each.control is not None:
            spans[each.curve, each.begin, each.end][_comparison.CONTROL] = (
                f"{each.control.median:.2f} [{each.control.low:.2f}-{each.control.high:.2f}]"
            )
    columns = [*(loop for loop in loops if loop != against), _comparison.CONTROL]
    lines = [
        [curve, f"{begin:,} to {end:,}", *(texts.get(column, "-") for column in columns)]
        for (curve, begin, end), texts in spans.items()
    ]
    head = [f"growth, {against}'s = 1", "", *columns[:-1], f"{against} to itself"]
    return _report.table(lines, head) if lines else ""


def faster(found: Sequence[Growth], against: str) -> list[str]:
    """A line for each curve of ours that grows faster."""
    return [
        f"{each.loop}: {CURVES[each.curve][2]} grows faster than {against}'s from"
        f" {each.begin:,} to {each.end:,} {CURVES[each.curve][0]}:"
        f" x{each.relative.median:.2f} [{each.relative.low:.2f}-{each.relative.high:.2f}]"
        for each in found
        if each.loop in _loops.OURS and each.verdict == _noise.MORE
    ]


# ---- the command ---------------------------------------------------------------------------


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="default %(default)s")
    parser.add_argument("--loops", default="asyncio,uvloop,selector,uring")
    parser.add_argument("--against", help="default uvloop, else the first of the loops")
    parser.add_argument("--rounds", type=int, help="default 5; 1 with --quick")
    parser.add_argument("--seconds", type=float, help="of one window under load; default 0.6")
    parser.add_argument("--most", type=int, help="no size above this")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to this file")
    parser.add_argument(
        "--out", type=Path, metavar="NAME", help="draw NAME.svg and NAME.png (matplotlib)"
    )
    options = parser.parse_args(arguments)
    options.parts = options.parts.split(",")
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}")
    options.loops = options.loops.split(",")
    unknown = sorted(set(options.loops) - set(_loops.RECIPES))
    if unknown:
        parser.error(f"no loop is called {', '.join(unknown)}")
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.1 if options.quick else 0.6)
    return options


def chosen_sizes(part: Part, quick: bool, most: int | None) -> tuple[list[int], list[str]]:
    """The sizes that can be measured here, and a line if some cannot."""
    sizes = [size for size in (part.quick if quick else part.sizes) if not most or size <= most]
    # From the smallest: what a process may open is raised as far as it goes.
    for index, size in enumerate(sizes):
        possible, reason = part.possible(size)
        if reason:
            # What there is instead is a point of the curve, too.
            instead = [possible] if possible > max(sizes[:index], default=0) else []
            line = f"left out: {size:,} {part.of} and more: {reason}"
            line += f"; {possible:,} instead" if instead else ""
            return sizes[:index] + instead, [line]
    return sizes, []


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    begin = time.monotonic()
    loops, lines = _comparison.usable(options.loops)
    if not loops:
        print("\n".join(lines), file=sys.stderr)
        return 1
    against = options.against if options.against in loops else None
    against = against or ("uvloop" if "uvloop" in loops else loops[0])
    try:
        _build.program("load")
    except _build.NoCompiler as error:
        print(error, file=sys.stderr)
        return 1
    results: list[_report.Result] = []
    for name in options.parts:
        sizes, refused = chosen_sizes(PARTS[name], options.quick, options.most)
        lines += refused
        taken = _comparison.seats(loops, against)
        results += measure_part(
            PARTS[name], sizes, taken, options.rounds, options.seconds, _command.show
        )
        if options.json:
            _report.write_json(options.json, results, loops, against)
    _command.show("")
    facts = _report.machine()
    print(
        f"Linux {facts['kernel']}, Python {facts['python']}, {facts['cores']} cores,"
        f" {options.rounds} rounds, {time.monotonic() - begin:.0f} s; smaller is better"
    )
    for line in lines:
        print(line)
    print("\n" + _report.values_table(results, loops, against))
    for line in _report.legend(results):
        print(line)
    found = growths(results, loops, against)
    if found:
        print("\n" + growth_table(found, loops, against))
        said = faster(found, against)
        print("\n".join(said or [f"nothing of ours was seen to grow faster than {against}'s"]))
    broken = _report.failures(results)
    for line in broken:
        print(f"failed: {line}")
    if options.out and results:
        import growth_chart

        growth_chart.draw(_report.as_json(results, loops, against), options.out)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
