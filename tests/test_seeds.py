"""Seeds: what a run in several processes draws is what its seed draws in one."""

import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent

CONFTEST = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import seeds

pytest_addoption = seeds.add_option
pytest_configure = seeds.choose
pytest_report_header = seeds.told
pytest_runtest_setup = seeds.sow
"""

TEST = """
import hypothesis
from hypothesis import strategies

def test_draws(request):
    drawn = []

    @hypothesis.settings(database=None, max_examples=5)
    @hypothesis.given(strategies.integers())
    def draw(number):
        drawn.append(number)

    draw()
    with open("drawn", "a") as file:
        print(request.node.nodeid, *drawn, file=file)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs two files of tests with these arguments: what was told, and what each test drew."""
    monkeypatch.delenv("URING_LOOP_TEST_SEED", raising=False)
    # What else is installed takes longer to import than these tests to run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")  # no pyproject.toml further up counts
    for name in ("test_one.py", "test_two.py"):
        (tmp_path / name).write_text(TEST)

    def run(*arguments):
        (tmp_path / "drawn").write_text("")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout, set((tmp_path / "drawn").read_text().splitlines())

    return run


@pytest.fixture
def workers():
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    return ["-p", "xdist.plugin", "--numprocesses=2", "--dist=loadfile"]


def test_seed_draws_the_same_in_workers_as_in_one_process(run, workers):
    told, drawn = run("--seed", "7", *workers)
    assert "seed: 7 (" in told
    assert len(drawn) == 2
    assert run("--seed", "7")[1] == drawn
    assert run("--seed", "8")[1] != drawn


def test_new_seed_that_is_told_is_what_workers_drew_from(run, workers):
    told, drawn = run(*workers)
    (seed,) = re.findall(r"--seed (\d+)", told)
    assert run("--seed", seed)[1] == drawn
