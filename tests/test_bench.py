"""`python -m uring_loop bench`: what it measures, writes and leaves out. No time is asserted."""

import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest
from marks import needs_compiler

import uring_loop
from uring_loop._internal.bench import (
    build,
    command,
    comparison,
    loops,
    noise,
    pyperf_file,
    report,
    svg,
)


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "uring_loop", "bench", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def results():
    """Two rows on two loops, made up: the second loop takes half the time, then a fourth."""
    return [
        report.Result(
            "one",
            "ns",
            "first <row>",
            {"asyncio": report.Cell([100.0, 120.0]), "uring": report.Cell([50.0, 60.0])},
        ),
        report.Result(
            "two",
            "us",
            "second row",
            {"asyncio": report.Cell([8.0, 8.0]), "uring": report.Cell([2.0, 2.0])},
        ),
        report.Result(
            "three",
            "us",
            "failed row",
            {"asyncio": report.Cell([1.0]), "uring": report.Cell(error="it broke")},
        ),
    ]


def test_bench_prints_a_table_and_writes_what_was_asked_for(tmp_path):
    done = bench(
        "--rows",
        "call_soon,sleep_0",
        "--loops",
        "asyncio,selector",
        "--rounds",
        1,
        "--json",
        tmp_path / "all.json",
        "--pyperf",
        tmp_path / "pyperf",
        "--svg",
        tmp_path / "chart.svg",
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any(line.startswith("row ") and "asyncio to itself" in line for line in lines)
    # Of one round nothing can be said, whatever it was.
    assert any(line.startswith("call_soon ") and "= [" in line for line in lines)
    assert any(line.startswith("sleep_0 ") for line in lines)
    assert any("fewer than 3 rounds" in line for line in lines)
    written = json.loads((tmp_path / "all.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["call_soon", "sleep_0"]
    for row in written["rows"]:
        assert row["control"]["loop"] == "asyncio"
        assert len(row["control"]["values"]) == 1
        assert row["loops"]["selector"]["verdict"] == "same"
    assert sorted(os.listdir(tmp_path / "pyperf")) == ["asyncio.json", "selector.json"]
    xml.etree.ElementTree.parse(tmp_path / "chart.svg")


@needs_compiler
def test_bench_puts_a_server_under_load_and_every_byte_is_right():
    done = bench(
        "--rows", "echo_1k", "--loops", "selector", "--rounds", 1, "--seconds", 0.1, "--no-calls"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "failed" not in done.stdout
    # With what the load saw: per second, p50, p99.
    assert sum(line.startswith("echo_1k") for line in done.stdout.splitlines()) == 2


def test_bench_without_a_compiler_leaves_the_rows_under_load_out_and_says_why(tmp_path):
    done = bench(
        "--rows",
        "call_soon,echo_1k",
        "--loops",
        "selector",
        "--rounds",
        1,
        # Neither a compiler nor what was compiled before: as where the package is installed.
        PATH=str(tmp_path),
        CC=str(tmp_path / "none"),
        XDG_CACHE_HOME=str(tmp_path),
        URING_LOOP_BENCH_BUILD=str(tmp_path / "build"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "left out: echo_1k: " in done.stdout
    assert any(line.startswith("call_soon ") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rows", "no_such_row"],
        ["--loops", "no_such_loop"],
        ["--rounds", "0"],
        ["--loops", "selector", "--control", "asyncio"],
    ],
)
def test_bench_refuses_what_there_is_not(arguments):
    done = bench(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_steps_are_as_many_as_compare_tells():
    told = []
    names, loops = ["call_soon", "import"], ["asyncio", "selector"]
    comparison.compare(names, loops, 1, 0.1, False, told.append, control="asyncio")
    assert len(told) == comparison.steps(names, loops, 1, False, "asyncio")


# ---- what is noise -------------------------------------------------------------------


def ratio_of(*pairs):
    return noise.of_pairs(pairs)


@pytest.mark.parametrize(
    ("pairs", "control", "expected"),
    [
        # Every round is beyond anything that the control showed.
        ((0.90, 0.92, 0.91), (0.97, 1.00, 1.01), noise.LESS),
        ((1.10, 1.08, 1.09), (0.97, 1.00, 1.01), noise.MORE),
        # One round is within it.
        ((0.90, 0.98, 0.91), (0.97, 1.00, 1.01), noise.SAME),
        ((1.10, 1.02, 1.09), (0.97, 1.00, 1.01), noise.SAME),
        # Which of the two of the control was first is chance: 1.05 is as far as 1 / 1.05.
        ((0.96, 0.96, 0.96), (1.01, 1.05, 1.03), noise.SAME),
        ((0.94, 0.94, 0.94), (1.01, 1.05, 1.03), noise.LESS),
        # On both sides of it is no side.
        ((0.90, 1.10, 0.90), (1.00, 1.00, 1.00), noise.SAME),
        # A difference, but too few rounds to tell.
        ((0.50, 0.50), (1.00, 1.00, 1.00), noise.SAME),
        ((0.50, 0.50, 0.50), (1.00, 1.00), noise.SAME),
    ],
)
def test_verdict_calls_a_difference_only_where_no_round_is_within_the_noise(
    pairs, control, expected
):
    assert noise.verdict(ratio_of(*pairs), ratio_of(*control)) == expected


def test_verdict_without_a_control_that_worked_is_same():
    assert noise.verdict(ratio_of(0.5, 0.5, 0.5), None) == noise.SAME


def test_ratio_of_many_rounds_leaves_the_lowest_and_the_highest_sixth_out():
    bad_rounds = [0.2, 5.0]
    assert ratio_of(0.90, 0.91, 0.92, *bad_rounds) == noise.Ratio(0.91, 0.2, 5.0, 5)
    assert ratio_of(0.90, 0.91, 0.92, 0.93, *bad_rounds) == noise.Ratio(0.915, 0.90, 0.93, 6)


def controlled(ours, control):
    """A row on two loops, where asyncio takes 100 in each round, and asyncio once more."""
    cells = {"asyncio": report.Cell([100.0] * len(ours)), "uring": report.Cell(ours)}
    return report.Result("row", "us", "made up", cells, report.Cell(control), "asyncio")


def test_table_shows_what_is_noise_as_same_and_the_control_beside_it():
    told = controlled([50.0, 52.0, 51.0], [99.0, 101.0, 100.0])
    same = controlled([98.0, 101.0, 99.0], [99.0, 103.0, 100.0])
    _, _, first, second = report.values_table(
        [told, same], ["asyncio", "uring"], "asyncio"
    ).splitlines()
    assert "x0.51 [0.50-0.52]  " in first
    assert first.endswith("1.00 [0.99-1.01]")
    assert "  = [0.98-1.01]  " in second
    assert "x" not in second
    assert second.endswith("1.00 [0.99-1.03]")
    assert len(report.legend([told, same])) == 1


def test_table_without_a_control_calls_what_was_measured():
    plain = report.values_table(results()[:1], ["asyncio", "uring"], "asyncio")
    assert "x0.50 [0.50-0.50]" in plain
    assert "itself" not in plain
    assert report.legend(results()) == []


def test_control_that_failed_lets_no_difference_be_called_and_is_a_failure():
    row = controlled([50.0, 50.0, 50.0], [])
    row.control.error = "it broke"
    assert row.verdict("uring", "asyncio") == noise.SAME
    assert report.failures([row]) == ["row on asyncio: it broke"]


def test_json_keeps_the_control_and_the_verdicts(tmp_path):
    row = controlled([50.0, 52.0, 51.0], [99.0, 101.0, 100.0])
    report.write_json(tmp_path / "all.json", [row, *results()], ["asyncio", "uring"], "asyncio")
    first, second, *_ = json.loads((tmp_path / "all.json").read_text())["rows"]
    assert first["control"]["loop"] == "asyncio"
    assert first["control"]["values"] == [99.0, 101.0, 100.0]
    assert first["control"]["ratio"] == pytest.approx([1.0, 0.99, 1.01])
    assert first["loops"]["uring"]["verdict"] == "less"
    # Nobody asked for a control there, so nothing is judged.
    assert "control" not in second
    assert second["loops"]["uring"]["verdict"] is None


@pytest.mark.parametrize("control", ["asyncio", None])
def test_every_kind_of_row_measures_the_control_where_it_is_asked_for(control, monkeypatch):
    monkeypatch.setattr(comparison, "take_other", lambda name, loop: 1.0)
    monkeypatch.setattr(
        comparison,
        "load_sample",
        lambda loop, row, seconds, cell: cell.values.append(1.0),
    )
    rows = ["sleep_0", "echo_1k", "idle_connection_memory"]
    done = comparison.compare(rows, ["asyncio", "selector"], 2, 0.1, False, control=control)
    assert [row.name for row in done] == rows
    for row in done:
        assert list(row.cells) == ["asyncio", "selector"]
        assert row.control_loop == (control or "")
        assert (row.control is not None and len(row.control.values) == 2) == bool(control)


def test_progress_is_a_bar_on_a_terminal_and_nothing_elsewhere(capsys, monkeypatch):
    progress = command.Progress(2)
    progress.tell("first")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress.tell("second")
    assert "[############............]  50%  second" in capsys.readouterr().err


def test_pyperf_file_is_one_that_pyperf_loads(tmp_path):
    pyperf = pytest.importorskip("pyperf", reason="pyperf is not installed")
    path = tmp_path / "uring.json"
    path.write_text(json.dumps(pyperf_file.of(results(), "uring")))
    suite = pyperf.BenchmarkSuite.load(str(path))
    found = {each.get_name(): each for each in suite.get_benchmarks()}
    # What failed is not in it.
    assert set(found) == {"one", "two"}
    assert found["one"].get_values() == pytest.approx((50e-9, 60e-9))
    assert found["two"].median() == pytest.approx(2e-6)


def test_pyperf_file_has_the_rows_that_worked_in_seconds():
    found = pyperf_file.of(results(), "uring")["benchmarks"]
    values = {each["metadata"]["name"]: each["runs"][0]["values"] for each in found}
    assert values == {"one": [pytest.approx(50e-9)], "two": [pytest.approx(2e-6)]}


def test_chart_has_a_bar_for_each_value_as_long_as_the_work():
    text = svg.chart(results(), ["asyncio", "uring"], "asyncio")
    space = "{http://www.w3.org/2000/svg}"
    root = xml.etree.ElementTree.fromstring(text)
    bars = [
        (bar.find(f"{space}title").text, float(bar.get("width")))
        for bar in root.iter(f"{space}rect")
        if bar.find(f"{space}title") is not None
    ]
    assert [loop for loop, _ in bars] == ["asyncio", "uring", "asyncio", "uring", "asyncio"]
    (_, one), (_, twice), (_, same), (_, four), _ = bars
    assert one == same
    assert twice == pytest.approx(2 * one)
    assert four == pytest.approx(4 * one)
    words = [each.text for each in root.iter(f"{space}text")]
    assert "first <row>" in words
    assert "2.00" in words and "4.00" in words


def test_bench_knows_where_the_package_is_and_what_of_a_checkout_is_beside_it(monkeypatch):
    package = pathlib.Path(uring_loop.__file__).resolve().parent
    assert loops.ROOT == build.ROOT == package.parent
    monkeypatch.delenv("URING_LOOP_BENCH_BUILD", raising=False)
    if (package.parent / "csrc").is_dir():
        assert all(pathlib.Path(name).is_file() for name in build.FLOOR)
        assert build._build_directory() == package.parent / "build" / "perf"
