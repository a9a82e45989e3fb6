"""A short soak in every run; `make soak SECONDS=` soaks for longer."""

import pathlib
import subprocess
import sys
import types

import pytest

HERE = pathlib.Path(__file__).parent

pytest.importorskip("trustme", reason="trustme, which makes certificates, is missing")


@pytest.mark.timeout(300)
def test_everything_at_once_loses_no_byte_and_leaves_nothing(loop_kind, seed):
    if loop_kind == "asyncio":
        pytest.skip("the soak counts what our drivers have in flight; asyncio has no such count")
    ended = subprocess.run(
        [sys.executable, HERE / "run.py", "--seconds", "3", "--loop", loop_kind]
        + ["--seed", str(seed)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    assert "violations 0" in ended.stdout


@pytest.mark.parametrize(
    "what, growth",
    [
        ("descriptors", 1),
        ("threads", 5),
        ("tasks", 1),
        ("in flight", 1),
        ("objects", 2001),
        ("rss", 13 << 20),
    ],
)
def test_growth_of_what_the_process_holds_is_an_error(monkeypatch, what, growth):
    monkeypatch.syspath_prepend(str(HERE.parent))
    from soak import run

    before = dict.fromkeys(("descriptors", "threads", "tasks", "in flight", "objects", "rss"), 7)
    soak = types.SimpleNamespace(errors=[])
    run.Soak.compare(soak, before, before)
    assert soak.errors == []
    run.Soak.compare(soak, before, {**before, what: 7 + growth})
    assert soak.errors == [f"{what} grew from 7 to {7 + growth}"]
