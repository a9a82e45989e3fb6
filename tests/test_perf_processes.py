"""perf/processes.py: who served what, of several processes. No time is asserted."""

import json
import pathlib
import subprocess
import sys

import pytest
from marks import needs_compiler

PERF = pathlib.Path(__file__).parent.parent / "perf"


@pytest.fixture
def processes(monkeypatch):
    monkeypatch.syspath_prepend(str(PERF))
    import processes

    return processes


@needs_compiler
def test_tiny_run_counts_what_each_process_served_both_ways(tmp_path):
    command = [sys.executable, PERF / "processes.py", "--quick", "--loops", "asyncio,selector"]
    done = subprocess.run(
        [*command, "--counts", "2", "--json", tmp_path / "all"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    # It never pretends to have cores that it does not have.
    assert "core" in done.stdout.splitlines()[0]
    written = json.loads((tmp_path / "all").read_text())
    names = ["echo_1k_reuse_port_2", "echo_1k_inherited_2"]
    names += ["connect_close_reuse_port_2", "connect_close_inherited_2"]
    assert [row["name"] for row in written["rows"]] == names
    for name in names:
        for loop in ("asyncio", "selector"):
            shares = written["shares"][name][loop]
            for (most, least), in (shares["connections"], shares["messages"]):
                assert most >= least
                assert most + least == pytest.approx(1)


def test_servers_count_each_connection_and_byte_of_their_own(processes):
    row = processes.LOADS["echo_1k"]
    with processes.Processes("selector", row, "reuse_port", 2) as servers:
        servers.load(seconds=10, warm_up=0, messages=1000)
        counts = servers.counts()
    assert sum(connections for connections, _ in counts) == row.connections
    # What was on its way at the end of the window came back, too.
    total = sum(size for _, size in counts)
    assert total % row.size == 0
    assert total >= 1000 * row.size


@pytest.mark.parametrize(
    ("shares", "index"), [([5, 5], 1.0), ([1, 0], 0.5), ([1, 0, 0, 0], 0.25), ([3, 1], 0.8)]
)
def test_fairness_is_jains_index(processes, shares, index):
    assert processes.fairness(shares) == pytest.approx(index)


def test_report_says_that_more_processes_on_one_core_show_no_throughput(processes, monkeypatch):
    monkeypatch.setattr(processes, "server_cores", lambda: [0])
    assert "not how throughput grows" in processes.cores_line()
    monkeypatch.setattr(processes, "server_cores", lambda: [0, 1, 2])
    assert "share 3" in processes.cores_line()
    assert "not how" not in processes.cores_line()
