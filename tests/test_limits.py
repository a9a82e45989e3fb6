"""Limits that are too low for a ring: a smaller one, then the selector, and it is said.

Each in a child process, whose limits and filters are its own.
"""

import errno
import json
import textwrap

import pytest
from test_choice import EXERCISE, REFUSE_RING, child, needs_ring
from test_doctor import run_doctor

from uring_loop._internal.driver import ring_is_charged
from uring_loop._internal.features import room

pytestmark = needs_ring

# Rings with more submission entries than this find no memory.
REFUSE_LARGE = (
    REFUSE_RING
    + """
def refuse_larger_than(entries):
    greater, first_argument = 0x25, 16
    install(
        (load, 0, 0, 0),
        (equal, 0, 3, 425),
        (load, 0, 0, first_argument),
        (greater, 0, 1, entries),
        (give, 0, 0, 0x00050000 | errno.ENOMEM),
        (give, 0, 0, 0x7FFF0000),
    )
"""
)

TELL = """
import asyncio, json, uring_loop
for _ in range(2):
    loop = uring_loop.new_event_loop()
    loop.run_until_complete(exercise())
    print(json.dumps([loop.driver, loop.report()["ring"], loop.report()["reason"]]))
    loop.close()
"""

# A filter is behind the want of memory here; what helps is said for the process as it is.
ROOM = room(ring_is_charged())


def told(prelude):
    """(driver, ring, reason, log) of two loops, which are the same."""
    out, log = child(REFUSE_LARGE + prelude + EXERCISE + TELL)
    first, second = (json.loads(line) for line in out.splitlines())
    assert first == second
    return *first, log


def test_ring_that_finds_its_memory_is_as_large_as_wanted_and_says_nothing():
    driver, ring, reason, log = told("")
    assert driver == "uring"
    assert ring == {"sq_entries": 256, "cq_entries": 2048, "reason": None, "cure": None}
    assert (reason, log) == (None, "")


@pytest.mark.parametrize("entries", [128, 64, 16])
def test_ring_that_finds_no_memory_is_smaller_and_says_so_once_with_the_cure(entries):
    driver, ring, reason, log = told(f"refuse_larger_than({entries})")
    assert driver == "uring"
    assert (ring["sq_entries"], ring["cq_entries"]) == (entries, entries * 8)
    assert f"{entries} and {entries * 8} entries instead of 256 and 2048" in ring["reason"]
    assert "ENOMEM" in ring["reason"]
    assert ROOM in ring["cure"]
    assert reason is None
    assert log == f"{ring['reason']}; {ring['cure']}"


@pytest.mark.parametrize("entries", [8, 1])
def test_no_memory_even_for_a_small_ring_means_the_selector_with_the_cure(entries):
    driver, ring, reason, log = told(f"refuse_larger_than({entries})")
    assert (driver, ring) == ("selector", None)
    assert "no memory for a ring" in reason
    assert "ENOMEM" in reason
    assert len(log.splitlines()) == 1
    assert log.startswith("using the selector driver: ")
    assert ROOM in log


def test_no_memory_for_a_ring_that_is_forced_raises_with_the_cure():
    text = """
        refuse_larger_than(8)
        import uring_loop
        try:
            uring_loop.new_event_loop()
        except RuntimeError as error:
            print(error)
    """
    out, log = child(REFUSE_LARGE + textwrap.dedent(text), URING_LOOP_DRIVER="uring")
    assert "no memory for a ring" in out
    assert ROOM in out
    assert log == ""


def test_doctor_tells_that_the_ring_is_smaller_and_the_cure():
    done = run_doctor("doctor", prelude=f"{REFUSE_LARGE}\nrefuse_larger_than(32)")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ring: 32 submissions, 256 completions" in done.stdout
    assert "Less than wanted: a ring of 32 and 256 entries instead of 256 and 2048" in done.stdout
    assert f"Cure: {ROOM}" in done.stdout


def test_ring_under_a_low_limit_of_locked_memory_is_there_or_says_why_not():
    """Some kernels charge a ring to it, for who has no CAP_IPC_LOCK; others do not."""
    text = """
        import json, logging, os, resource, uring_loop
        # What is imported late must be there before the user changes.
        loop = uring_loop.EventLoop("selector")
        loop.run_until_complete(exercise())
        loop.report()
        loop.close()
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        loop = uring_loop.new_event_loop()
        loop.run_until_complete(exercise())
        report = loop.report()
        print(json.dumps([loop.driver, report["ring"], report["reason"], report["cure"]]))
        loop.close()
    """
    out, log = child(EXERCISE + textwrap.dedent(text))
    driver, ring, reason, cure = json.loads(out)
    if driver == "selector":
        assert "ENOMEM" in reason
        assert cure == room(True)
        assert cure in log
    elif ring["reason"] is not None:
        assert ring["cure"] == room(True)
        assert ring["cure"] in log
    else:
        assert (driver, log) == ("uring", "")


# For each number of descriptors that may still be opened, a loop, or why there is none.
FEW_DESCRIPTORS = """
import asyncio, json, os, resource, uring_loop
def opened():
    return len(os.listdir("/proc/self/fd")) - 1
uring_loop.EventLoop("selector").close()
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
before = opened()
for room in range(12):
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, hard))
    try:
        loop = uring_loop.new_event_loop()
    except OSError as error:
        print(json.dumps(["none", error.errno, None, None]))
    else:
        loop.run_until_complete(asyncio.sleep(0.001))
        report = loop.report()
        print(json.dumps([loop.driver, report["reason"], report["cure"], len(loop.features)]))
        loop.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert opened() == before, (opened(), before)
loop = uring_loop.new_event_loop()
loop.run_until_complete(exercise())
print(json.dumps([loop.driver, loop.report()["reason"], None, len(loop.features)]))
loop.close()
"""


def test_few_descriptors_mean_the_selector_with_the_cure_and_later_a_ring_again():
    out, log = child(EXERCISE + FEW_DESCRIPTORS)
    found = [json.loads(line) for line in out.splitlines()]
    *limited, free = found
    drivers = [driver for driver, *_ in limited]
    # From none over the selector to the ring, as there is more room.
    assert drivers == sorted(drivers, key=["none", "selector", "uring"].index)
    assert set(drivers) == {"none", "selector", "uring"}
    assert free[0] == "uring"
    for driver, reason, cure, features in limited:
        if driver == "none":
            assert reason == errno.EMFILE
        elif driver == "selector":
            assert "EMFILE" in reason
            assert "raise the limit of open files" in cure
        else:
            # A ring that was found out about with few descriptors lacks nothing.
            assert (reason, features) == (None, free[3])
    assert log
    assert all(line.startswith("using the selector driver: ") for line in log.splitlines())
    assert "raise the limit of open files (ulimit -n)" in log
