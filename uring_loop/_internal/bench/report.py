"""Results as records, as a table and as JSON. Owns the layout; measures nothing."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import measure as _measure


@dataclass
class Cell:
    """One row on one loop: a value per round, and what else was seen."""

    values: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    load_share: list[float] = field(default_factory=list)
    calls: float | None = None
    calls_how: str = ""
    error: str = ""

    @property
    def good(self) -> bool:
        return bool(self.values) and not self.error


@dataclass
class Result:
    """One row on every loop; smaller values are better."""

    name: str
    unit: str
    note: str
    cells: dict[str, Cell]

    def ratio(self, loop: str, against: str) -> _measure.Ratio | None:
        cell, other = self.cells.get(loop), self.cells.get(against)
        if cell is None or other is None or not cell.good or not other.good:
            return None
        if 0 in other.values:
            return None
        return _measure.ratio(cell.values, other.values)


def number(value: float) -> str:
    """Three or four figures, whatever the size."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def table(lines: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Columns as wide as their widest entry, the first one to the left."""
    every = [list(head), *map(list, lines)]
    widths = [max(len(line[i]) for line in every) for i in range(len(head))]
    out = []
    for line in every:
        cells = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "-" * max(map(len, out)))
    return "\n".join(out)


def values_table(results: Iterable[Result], loops: Sequence[str], against: str) -> str:
    """Medians, with the ratio to one loop and its spread over the rounds."""
    lines = []
    for result in results:
        line = [result.name, result.unit]
        for loop in loops:
            cell = result.cells.get(loop)
            if cell is None or not cell.good:
                line += ["-" if cell is None else "failed", ""]
                continue
            line.append(number(statistics.median(cell.values)))
            ratio = result.ratio(loop, against)
            if ratio is None or loop == against:
                line.append("")
            else:
                line.append(f"x{ratio.median:.2f} [{ratio.lowest:.2f}-{ratio.highest:.2f}]")
        lines.append(line)
    head = ["row", "unit"]
    for loop in loops:
        head += [loop, "" if loop == against else f"to {against}"]
    return table(lines, head)


def load_table(results: Iterable[Result], loops: Sequence[str]) -> str:
    """What the load saw: rate, latency, the server's system calls."""
    lines = []
    for result in results:
        for loop in loops:
            cell = result.cells.get(loop)
            if cell is None or not cell.good or not cell.per_second:
                continue
            lines.append(
                [
                    result.name,
                    loop,
                    number(statistics.median(cell.per_second)),
                    number(statistics.median(cell.p50_us)),
                    number(statistics.median(cell.p99_us)),
                    "-" if cell.calls is None else f"{cell.calls:.3f}",
                    f"{statistics.median(cell.load_share):.0%}",
                ]
            )
    head = ["row", "loop", "per s", "p50 us", "p99 us", "calls/message", "load's core"]
    return table(lines, head) if lines else ""


def failures(results: Iterable[Result]) -> list[str]:
    return [
        f"{result.name} on {loop}: {cell.error or 'no value'}"
        for result in results
        for loop, cell in result.cells.items()
        if not cell.good
    ]


def machine() -> dict[str, object]:
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "executable_build": " ".join(platform.python_build()),
        "platform": sys.platform,
    }


def write_json(path: Path, results: Iterable[Result], loops: Sequence[str], against: str) -> None:
    """Everything that was seen, every round of it."""
    rows = []
    for result in results:
        cells = {}
        for loop, cell in result.cells.items():
            ratio = result.ratio(loop, against)
            cells[loop] = {
                **{name: seen for name, seen in vars(cell).items() if seen not in ([], "", None)},
                "median": statistics.median(cell.values) if cell.values else None,
                "least": min(cell.values, default=None),
                "ratio": None if ratio is None else [ratio.median, ratio.lowest, ratio.highest],
            }
        rows.append(
            {"name": result.name, "unit": result.unit, "note": result.note, "loops": cells}
        )
    report = {"machine": machine(), "loops": list(loops), "against": against, "rows": rows}
    path.write_text(json.dumps(report, indent=1) + "\n")
