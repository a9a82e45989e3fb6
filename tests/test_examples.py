"""The programs in examples/ run unchanged on stock asyncio and under our policy."""

import datetime
import pathlib
import signal
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"

# Runs a program under our policy without a change in it.  The policy's name in asyncio is
# deprecated from Python 3.14 on, which is the policies' business and not the example's.
UNDER_OUR_POLICY = """
import asyncio, runpy, sys, warnings
import uring_loop
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(uring_loop.EventLoopPolicy())
made = []
policy_new = asyncio.new_event_loop
def new_event_loop():
    made.append(policy_new())
    return made[-1]
asyncio.new_event_loop = new_event_loop
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert made
assert all(isinstance(loop, uring_loop.EventLoop) for loop in made), made
assert all(loop.driver == sys.argv[-1] for loop in made), made
"""


@pytest.fixture
def start(loop_kind):
    """Starts an example on the kind of loop under test; kills what the test leaves running."""
    started = []

    def start(name, *arguments):
        program = [str(EXAMPLES / name), *arguments]
        if loop_kind == "asyncio":
            command = [sys.executable, "-W", "error", *program]
        else:
            command = [sys.executable, "-W", "error", "-c", UNDER_OUR_POLICY, *program, loop_kind]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def output(child):
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert err == ""
    return out


def test_hello_says_hello_and_ends(start):
    assert output(start("hello.py")) == "Hello World\n"


def test_clock_prints_the_time_at_each_interval_and_ends(start):
    lines = output(start("clock.py", "0.05", "0.01")).splitlines()
    times = [datetime.datetime.fromisoformat(line) for line in lines]
    assert 2 <= len(times) <= 6
    pairs = zip(times, times[1:], strict=False)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairs]
    # The wall clock is not the loop's clock: a step of it may shorten a gap a little.
    assert min(gaps) >= 0.009


def test_watch_prints_what_came_and_ends(start):
    assert output(start("watch.py")) == "Received: abc\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_leaves_by_either_signal(start, name):
    child = start("signals.py")
    assert child.stdout.readline().startswith(f"pid {child.pid}: ")
    child.send_signal(getattr(signal, name))
    assert output(child) == f"got signal {name}: exit\n"


def test_every_example_is_run_by_a_test():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert names == {"hello.py", "clock.py", "watch.py", "signals.py"}
