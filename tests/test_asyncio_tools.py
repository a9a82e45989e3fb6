"""`python -m asyncio ps` and `pstree` on a process that runs our loop: since Python 3.14."""

import subprocess
import sys

import pytest

import uring_loop

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="asyncio has had ps and pstree since Python 3.14"
)

# Two tasks, one of which waits for the other; says when both wait.
WAITING = """
import asyncio, sys, uring_loop
async def deepest():
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
async def waits_for_it():
    print("ready", flush=True)
    await asyncio.create_task(deepest(), name="the deepest")
async def main():
    await asyncio.create_task(waits_for_it(), name="the waiting")
loop = uring_loop.EventLoop(sys.argv[1])
loop.run_until_complete(main())
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""


def usable_drivers():
    for driver in ("uring", "selector"):
        try:
            uring_loop.EventLoop(driver).close()
        except RuntimeError as exc:
            yield pytest.param(driver, marks=pytest.mark.skip(reason=str(exc)))
        else:
            yield driver


@pytest.fixture(params=list(usable_drivers()))
def waiting(request):
    """The number of a process whose tasks wait."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, request.param],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def ask(command, pid):
    """What the command prints; skips where this process may not read another's memory."""
    done = subprocess.run(
        [sys.executable, "-m", "asyncio", command, str(pid)], capture_output=True, text=True
    )
    if done.returncode and "ermission" in done.stderr + done.stdout:
        pytest.skip("the kernel does not let one process read another's memory here")
    assert done.returncode == 0, done.stderr
    return done.stdout


def until_both_are_there(command, pid):
    """The tasks begin at their own time: ask until the second is there."""
    while "the deepest" not in (told := ask(command, pid)):
        pass
    return told


def test_ps_lists_the_tasks_of_our_loop_and_who_awaits_them(waiting):
    lines = until_both_are_there("ps", waiting).splitlines()
    of_the_deepest = next(line for line in lines if "the deepest" in line)
    assert "the waiting" in of_the_deepest
    assert "deepest" in of_the_deepest
    assert any("the waiting" in line and "main" in line for line in lines)


def test_pstree_shows_the_tasks_of_our_loop_as_a_tree(waiting):
    told = until_both_are_there("pstree", waiting)
    order = [told.index(name) for name in ("main", "the waiting", "the deepest")]
    assert order == sorted(order)
