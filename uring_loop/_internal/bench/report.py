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
from . import noise as _noise


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

    def add(self, sample: _measure.Sample) -> None:
        """A round's window under load."""
        self.values.append(sample.cpu_us)
        self.per_second.append(sample.per_second)
        self.p50_us.append(sample.p50_us)
        self.p99_us.append(sample.p99_us)
        self.load_share.append(sample.load_share)


@dataclass
class Result:
    """One row on every loop; smaller values are better."""

    name: str
    unit: str
    note: str
    cells: dict[str, Cell]
    # One of the loops once more, in the same rounds; None when that was not asked for.
    control: Cell | None = None
    control_loop: str = ""

    def ratio(self, loop: str, against: str) -> _noise.Ratio | None:
        return _ratio(self.cells.get(loop), self.cells.get(against))

    def control_ratio(self) -> _noise.Ratio | None:
        """How far a loop is from itself."""
        return _ratio(self.control, self.cells.get(self.control_loop))

    def verdict(self, loop: str, against: str) -> str | None:
        """LESS, MORE or SAME of noise.py; None without a control, or nothing to compare."""
        ratio = self.ratio(loop, against)
        if ratio is None or self.control is None:
            return None
        return _noise.verdict(ratio, self.control_ratio())


def _ratio(cell: Cell | None, other: Cell | None) -> _noise.Ratio | None:
    if cell is None or other is None or not cell.good or not other.good:
        return None
    # Memory of few connections may come to nothing, or less.
    if min(*other.values, *cell.values) <= 0:
        return None
    return _noise.ratio(cell.values, other.values)


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


def compared(result: Result, loop: str, against: str) -> str:
    """The ratio to one loop with its spread; of a difference within the noise only the spread."""
    ratio = result.ratio(loop, against)
    if ratio is None or loop == against:
        return ""
    same = result.verdict(loop, against) == _noise.SAME
    return f"{'=' if same else f'x{ratio.median:.2f}'} [{ratio.low:.2f}-{ratio.high:.2f}]"


def values_table(results: Sequence[Result], loops: Sequence[str], against: str) -> str:
    """Medians, with the ratio to one loop and its spread; last what a loop is to itself."""
    lines = []
    controls = {result.control_loop for result in results if result.control is not None}
    for result in results:
        line = [result.name, result.unit]
        for loop in loops:
            cell = result.cells.get(loop)
            if cell is None or not cell.good:
                line += ["-" if cell is None else "failed", ""]
                continue
            line.append(number(statistics.median(cell.values)))
            line.append(compared(result, loop, against))
        if controls:
            again = result.control_ratio()
            line.append(
                f"{again.median:.2f} [{again.low:.2f}-{again.high:.2f}]" if again else "-"
            )
        lines.append(line)
    head = ["row", "unit"]
    for loop in loops:
        head += [loop, "" if loop == against else f"to {against}"]
    return table(lines, [*head, *(f"{loop} to itself" for loop in sorted(controls))])


def legend(results: Iterable[Result]) -> list[str]:
    """What has to be said below a table that has a control."""
    judged = [result for result in results if result.control is not None]
    if not judged:
        return []
    lines = [f"=  a difference within the noise: of {judged[0].control_loop}, measured twice"]
    rounds = max(len(cell.values) for result in judged for cell in result.cells.values())
    if rounds < _noise.LEAST_ROUNDS:
        lines.append(f"   fewer than {_noise.LEAST_ROUNDS} rounds tell no difference from noise")
    return lines


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
        for loop, cell in [*result.cells.items(), (result.control_loop, result.control)]
        if cell is not None and not cell.good
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


def _seen(cell: Cell, ratio: _noise.Ratio | None) -> dict[str, object]:
    return {
        **{name: seen for name, seen in vars(cell).items() if seen not in ([], "", None)},
        "median": statistics.median(cell.values) if cell.values else None,
        "least": min(cell.values, default=None),
        "ratio": None if ratio is None else [ratio.median, ratio.low, ratio.high],
    }


def as_json(
    results: Iterable[Result], loops: Sequence[str], against: str
) -> dict[str, object]:
    """Everything that was seen, every round of it."""
    rows = []
    for result in results:
        cells = {
            loop: {
                **_seen(cell, result.ratio(loop, against)),
                "verdict": result.verdict(loop, against),
            }
            for loop, cell in result.cells.items()
        }
        row = {"name": result.name, "unit": result.unit, "note": result.note, "loops": cells}
        if result.control is not None:
            again = _seen(result.control, result.control_ratio())
            row["control"] = {"loop": result.control_loop, **again}
        rows.append(row)
    return {"machine": machine(), "loops": list(loops), "against": against, "rows": rows}


def write_json(path: Path, results: Iterable[Result], loops: Sequence[str], against: str) -> None:
    """The same, into a file."""
    path.write_text(json.dumps(as_json(results, loops, against), indent=1) + "\n")
