"""Draws what growth.py has measured: python perf/growth_chart.py RESULTS.json... --out NAME.

Writes NAME.svg and NAME.png: a small chart for each curve, both axes logarithmic, so that what
grows as fast is as steep. Of several files each has its own parts. Needs matplotlib.
"""

import argparse
import json
from pathlib import Path

import _checkout  # noqa: F401
from growth_parts import CURVES, split_name

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import noise as _noise
from uring_loop._internal.bench.svg import COLOURS, OTHER_COLOURS

COLUMNS = 3
CLOSE = 200
UNITS = {"us": "µs", "ns": "ns", "B": "bytes"}


def points(rows: list[dict], curve: str, loop: str) -> list[tuple[int, float, float, float]]:
    """(size, median, lowest, highest) of one curve, by size; the ends as in a table's brackets."""
    found = []
    for row in rows:
        name, size = split_name(row["name"])
        cell = row["loops"].get(loop, {})
        values = [value for value in cell.get("values", []) if value > 0]
        if name == curve and values and "error" not in cell:
            seen = _noise.of_pairs(values)
            found.append((size, seen.median, seen.low, seen.high))
    return sorted(found)


def draw(results: dict, out: Path) -> None:
    """results: as growth.py's --json."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    rows = results["rows"]
    measured = {split_name(row["name"])[0] for row in rows}
    # By columns: what belongs to one part stands one above the other.
    curves = [name for name in CURVES if name in measured]
    curves = [*curves[::2], *curves[1::2]]
    columns = min(COLUMNS, max(1, len(curves) // 2))
    lines = -(-len(curves) // columns)
    matplotlib.rcParams["svg.hashsalt"] = "uring_loop"
    figure, grid = pyplot.subplots(
        lines, columns, figsize=(3.3 * columns, 2.6 * lines + 0.5), squeeze=False
    )
    for axes, curve in zip(grid.flat, curves, strict=False):
        of, unit, note = CURVES[curve]
        for index, loop in enumerate(results["loops"]):
            found = points(rows, curve, loop)
            if not found:
                continue
            sizes, middles, lows, highs = zip(*found, strict=True)
            colour = COLOURS.get(loop, OTHER_COLOURS[index % len(OTHER_COLOURS)])
            description = _loops.RECIPES[loop].description
            axes.plot(sizes, middles, color=colour, marker="o", markersize=3, label=description)
            axes.fill_between(sizes, lows, highs, color=colour, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_title(f"{note}, {UNITS[unit]}", fontsize=8)
        axes.set_xlabel(of, fontsize=7)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        low, high = axes.get_ylim()
        # Of few decades more than the powers of ten are named.
        if high / low < CLOSE:
            axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
        axes.grid(which="major", linewidth=0.3, color="#cccccc")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="upper center", ncols=4, frameon=False)
    machine = results["machine"]
    figure.text(
        0.01,
        0.005,
        f"Linux {machine['kernel']}, CPython {machine['python']}; medians and spread of rounds;"
        " less is better",
        fontsize=6,
    )
    figure.tight_layout(rect=(0, 0.01, 1, 0.95))
    # Without a date, so that the same results give the same file.
    figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=150)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="written by growth.py --json")
    parser.add_argument("--out", type=Path, required=True, help="the files' name without ending")
    options = parser.parse_args()
    files = [json.loads(path.read_text()) for path in options.results]
    draw({**files[0], "rows": [row for file in files for row in file["rows"]]}, options.out)


if __name__ == "__main__":
    main()
