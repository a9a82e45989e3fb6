"""perf/growth.py: what it measures, draws, refuses, calls faster. No time is asserted."""

import dataclasses
import json
import pathlib
import resource
import subprocess
import sys
import xml.etree.ElementTree

import pytest
from marks import needs_compiler

from uring_loop._internal.bench import noise, report

PERF = pathlib.Path(__file__).parent.parent / "perf"


@pytest.fixture
def growth(monkeypatch):
    monkeypatch.syspath_prepend(str(PERF))
    import growth

    return growth


@pytest.fixture
def parts(growth):
    import growth_parts

    return growth_parts


def run(*arguments, **settings):
    return subprocess.run(
        [sys.executable, str(PERF / "growth.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        **settings,
    )


@needs_compiler
def test_tiny_growth_measures_all_curves_on_all_loops_with_a_control(tmp_path):
    done = run("--quick", "--most", 1000, "--loops", "asyncio,selector", "--json", tmp_path / "all")
    assert (done.returncode, done.stderr) == (0, "")
    assert "asyncio to itself" in done.stdout
    assert "= 1" in done.stdout and "1 to 100" in done.stdout
    written = json.loads((tmp_path / "all").read_text())
    assert [row["name"] for row in written["rows"]] == [
        "active_cpu_1",
        "active_cpu_10",
        "active_cpu_100",
        "active_p99_1",
        "active_p99_10",
        "active_p99_100",
        "timer_cancel_1000",
        "timer_fire_1000",
        "idle_memory_1000",
        "idle_accept_1000",
    ]
    for row in written["rows"]:
        assert sorted(row["loops"]) == ["asyncio", "selector"]
        cells = [*row["loops"].values(), row["control"]]
        assert [len(cell["values"]) for cell in cells] == [1, 1, 1]


def test_growth_takes_what_the_limit_of_open_files_allows_and_says_so_in_one_line(growth, parts):
    part = parts.PARTS["idle"]
    few = dataclasses.replace(
        part, possible=lambda size: (size, None) if size <= 19_000 else (19_000, "few files")
    )
    assert growth.chosen_sizes(few, False, None) == (
        [1_000, 10_000, 19_000],
        ["left out: 100,000 idle connections and more: few files; 19,000 instead"],
    )
    none = dataclasses.replace(
        part, possible=lambda size: (size, None) if size <= 1_000 else (0, "no memory")
    )
    assert growth.chosen_sizes(none, False, None) == (
        [1_000],
        ["left out: 10,000 idle connections and more: no memory"],
    )


def test_limit_of_open_files_is_raised_as_far_as_it_goes_and_told_beyond(growth, monkeypatch):
    import _limits

    asked = []

    def refuse(kind, wanted):
        asked.append(wanted)
        if wanted[1] > 5000:
            raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (64, 5000))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert _limits.files(500) == (500, None)
    assert asked == [(700, 5000)]
    assert _limits.files(10_000) == (4_000, "a process may open 5,000 files here (ulimit -n)")
    # All that may be, for those.
    assert asked[-1] == (5000, 5000)


def test_memory_that_there_is_not_is_told(growth):
    import _limits

    assert _limits.memory(1000, 1) == (1000, None)
    possible, reason = _limits.memory(1 << 40, 1 << 20)
    assert possible < 1 << 40
    assert reason.endswith("of memory are free")


# ---- what grows faster ---------------------------------------------------------------


def row(name, uvloop, uring, control):
    cells = {"uvloop": report.Cell(uvloop), "uring": report.Cell(uring)}
    return report.Result(name, "us", name, cells, report.Cell(control), "uvloop")


def two_sizes(uring_at_the_larger):
    """uvloop's cost doubles from 1 to 10, as it does in the control, give or take two percent."""
    return [
        row("active_cpu_1", [10.0, 10.0, 10.0], [5.0, 5.0, 5.0], [10.0, 10.0, 10.0]),
        row("active_cpu_10", [20.0, 20.0, 20.0], uring_at_the_larger, [20.0, 20.4, 19.8]),
    ]


@pytest.mark.parametrize(
    ("larger", "verdict"),
    [
        ([15.0, 15.5, 15.2], noise.MORE),
        ([8.0, 8.2, 8.1], noise.LESS),
        # It doubles, too; and one round of three is within the noise.
        ([10.0, 10.1, 9.9], noise.SAME),
        ([15.0, 10.1, 15.2], noise.SAME),
    ],
)
def test_growth_is_faster_only_where_every_round_is_beyond_the_controls(growth, larger, verdict):
    (found,) = growth.growths(two_sizes(larger), ["uvloop", "uring"], "uvloop")
    assert (found.curve, found.begin, found.end, found.loop) == ("active_cpu", 1, 10, "uring")
    assert found.verdict == verdict
    assert bool(growth.faster([found], "uvloop")) == (verdict == noise.MORE)


def test_growth_is_taken_from_end_to_end_and_from_size_to_size(growth):
    rows = [
        row(f"idle_memory_{size}", [1.0], [2.0], [1.0]) for size in (100_000, 1_000, 10_000)
    ]
    found = growth.growths(rows, ["uvloop", "uring"], "uvloop")
    spans = [(each.begin, each.end) for each in found]
    assert spans == [(1_000, 100_000), (1_000, 10_000), (10_000, 100_000)]


def test_growth_of_what_failed_or_came_to_nothing_is_left_out(growth):
    rows = [
        row("idle_memory_1000", [1.0], [0.0], [1.0]),
        row("idle_memory_10000", [1.0], [2.0], [1.0]),
    ]
    assert growth.growths(rows, ["uvloop", "uring"], "uvloop") == []


# ---- the chart -----------------------------------------------------------------------


def test_chart_has_each_curve_of_each_file_and_each_loop(growth, parts, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    files = []
    for curve in parts.CURVES:
        rows = [
            row(f"{curve}_{size}", [3.0, 4.0], [1.0, 2.0], [3.0, 4.0]) for size in (1_000, 10_000)
        ]
        files.append(tmp_path / f"{curve}.json")
        report.write_json(files[-1], rows, ["uvloop", "uring"], "uvloop")
    command = [sys.executable, PERF / "growth_chart.py", *files, "--out", tmp_path / "growth"]
    subprocess.run(command, check=True)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    root = xml.etree.ElementTree.parse(tmp_path / "growth.svg").getroot()
    # matplotlib writes the text of what it draws as a comment before its outlines.
    text = (tmp_path / "growth.svg").read_text()
    assert root.tag.endswith("svg")
    for _, _, note in parts.CURVES.values():
        assert note in text
    for label in ("uvloop (libuv on epoll)", "uring_loop on io_uring"):
        assert text.count(f"<!-- {label} -->") == 1
