"""Draws what compare.py has measured: python perf/chart.py RESULTS.json... [--rows ...] --out NAME.

Writes NAME.svg and NAME.png: for each row how much work a loop does with the same CPU
time, uvloop's being 1. Of several files, of one machine, the first says which loops. Needs
matplotlib.
"""

import argparse
import json
import statistics
from pathlib import Path

import _checkout  # noqa: F401

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench.svg import COLOURS, OTHER_COLOURS

BAR = 0.8


def ratios(row: dict[str, object], loop: str, against: str) -> list[float]:
    """Work with the same CPU time, round by round."""
    cells = row["loops"]
    assert isinstance(cells, dict)
    values = cells.get(loop, {}).get("values", [])
    others = cells.get(against, {}).get("values", [])
    return [other / value for value, other in zip(values, others, strict=False) if value]


def draw(results: dict[str, object], names: list[str], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    loops = results["loops"]
    against = str(results["against"])
    rows = results["rows"]
    assert isinstance(loops, list) and isinstance(rows, list)
    if names:
        rows = sorted(
            (row for row in rows if row["name"] in names), key=lambda row: names.index(row["name"])
        )
    matplotlib.rcParams["svg.hashsalt"] = "uring_loop"
    figure, axes = pyplot.subplots(figsize=(9, 0.8 + 0.16 * len(rows) * (len(loops) + 1)))
    height = BAR / len(loops)
    for index, loop in enumerate(loops):
        places, lengths, spreads = [], [], [[], []]
        for number, row in enumerate(rows):
            values = ratios(row, loop, against)
            if not values:
                continue
            middle = statistics.median(values)
            places.append(number - BAR / 2 + (index + 0.5) * height)
            lengths.append(middle)
            spreads[0].append(middle - min(values))
            spreads[1].append(max(values) - middle)
        colour = COLOURS.get(loop, OTHER_COLOURS[index % len(OTHER_COLOURS)])
        bars = axes.barh(
            places,
            lengths,
            height,
            color=colour,
            label=_loops.RECIPES[loop].description,
            xerr=spreads if loop != against else None,
            error_kw={"elinewidth": 0.6, "ecolor": "#444444"},
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=6, padding=2)
    axes.axvline(1, color=COLOURS["uvloop"], linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row["note"] for row in rows], fontsize=8)
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.set_xlabel(f"work with the same CPU time, {against} = 1 (more is better)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, loc="lower right")
    machine = results["machine"]
    assert isinstance(machine, dict)
    figure.text(
        0.01,
        0.003,
        f"Linux {machine['kernel']}, CPython {machine['python']}; medians and spread of rounds",
        fontsize=6,
    )
    figure.tight_layout()
    # Without a date, so that the same results give the same file.
    figure.savefig(out.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(out.with_suffix(".png"), dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, nargs="+", help="written by compare.py --json")
    parser.add_argument("--rows", default="", help="only these, separated by commas, in this order")
    parser.add_argument("--out", type=Path, required=True, help="the files' name without ending")
    options = parser.parse_args()
    names = options.rows.split(",") if options.rows else []
    files = [json.loads(path.read_text()) for path in options.results]
    draw({**files[0], "rows": [row for file in files for row in file["rows"]]}, names, options.out)


if __name__ == "__main__":
    main()
