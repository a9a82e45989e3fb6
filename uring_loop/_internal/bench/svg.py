"""A chart of a comparison, written as text: how much work a loop does with the same CPU time."""

import statistics
from collections.abc import Sequence
from xml.sax.saxutils import escape

from . import loops as _loops
from . import report as _report

COLOURS = {
    "asyncio": "#9aa5b1",
    "uvloop": "#f2b134",
    "selector": "#5b9bd5",
    "uring": "#1f5fa8",
}
OTHER_COLOURS = ("#7a5195", "#bc5090", "#ef5675", "#58815f")

_BAR = 11
_GAP = 9
_LEFT = 230
_WIDTH = 480
_RIGHT = 60


def _colour(loop: str, index: int) -> str:
    return COLOURS.get(loop, OTHER_COLOURS[index % len(OTHER_COLOURS)])


def _work(result: _report.Result, loop: str, against: str) -> float | None:
    """Of `against`'s work with the same CPU time."""
    cell, other = result.cells.get(loop), result.cells.get(against)
    if cell is None or other is None or not cell.good or not other.good:
        return None
    ratios = [theirs / ours for ours, theirs in zip(cell.values, other.values, strict=False)]
    return statistics.median(ratios)


def _text(x: float, y: float, text: str, size: int = 10, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def chart(results: Sequence[_report.Result], loops: Sequence[str], against: str) -> str:
    """An SVG document, the same for the same results."""
    shown = [r for r in results if any(_work(r, loop, against) is not None for loop in loops)]
    works = [_work(r, loop, against) or 0.0 for r in shown for loop in loops]
    most = max([1.0, *works])
    top = 28.0 + 15 * len(loops)
    height = top + len(shown) * (len(loops) * _BAR + _GAP) + 24
    width = _LEFT + _WIDTH + _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}"'
        ' font-family="sans-serif">',
        f'<rect width="{width}" height="{height:.0f}" fill="white"/>',
        _text(8, 16, f"Work with the same CPU time, {against} = 1 (more is better)", 12),
    ]
    for index, loop in enumerate(loops):
        y = 26.0 + 15 * index
        parts.append(
            f'<rect x="8" y="{y:.0f}" width="10" height="10" fill="{_colour(loop, index)}"/>'
        )
        recipe = _loops.RECIPES.get(loop)
        parts.append(_text(24, y + 9, recipe.description if recipe else loop))
    y = top
    for result in shown:
        middle = y + len(loops) * _BAR / 2 + 3
        parts.append(_text(_LEFT - 8, middle, result.note or result.name, 10, "end"))
        for index, loop in enumerate(loops):
            work = _work(result, loop, against)
            if work is not None:
                length = work / most * _WIDTH
                parts.append(
                    f'<rect x="{_LEFT}" y="{y:.1f}" width="{length:.1f}" height="{_BAR - 1}"'
                    f' fill="{_colour(loop, index)}"><title>{escape(loop)}</title></rect>'
                )
                parts.append(_text(_LEFT + length + 4, y + 8, f"{work:.2f}", 8))
            y += _BAR
        y += _GAP
    one = _LEFT + _WIDTH / most
    parts.append(
        f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{top}" y2="{y:.1f}" stroke="#444444"'
        ' stroke-width="0.6"/>'
    )
    facts = _report.machine()
    parts.append(_text(8, height - 8, f"Linux {facts['kernel']}, Python {facts['python']}", 8))
    return "\n".join([*parts, "</svg>"]) + "\n"
