"""Free-threaded builds of CPython: the core needs the GIL, and nobody is left in doubt of that."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ASK = """
import sys, uring_loop
loop = uring_loop.new_event_loop()
loop.run_until_complete(loop.create_task(__import__("asyncio").sleep(0)))
loop.close()
print(sys._is_gil_enabled())
"""


@pytest.fixture
def free_threaded(monkeypatch):
    """Runs Python with these options and a program, with the GIL off unless somebody needs it."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python always has a GIL")
    monkeypatch.delenv("PYTHON_GIL", raising=False)

    def run(*options):
        command = [sys.executable, *options, "-c", ASK]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)

    return run


def test_interpreter_turns_the_gil_on_for_the_core_and_says_so(free_threaded):
    done = free_threaded()
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "RuntimeWarning: The global interpreter lock (GIL) has been enabled" in done.stderr
    assert "'uring_loop._core'" in done.stderr


def test_gil_that_is_on_already_is_worth_no_word(free_threaded):
    done = free_threaded("-X", "gil=1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_gil_that_must_stay_off_makes_the_import_fail(free_threaded):
    done = free_threaded("-X", "gil=0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ImportError: uring_loop needs the GIL, which PYTHON_GIL=0 or -X gil=0" in done.stderr
