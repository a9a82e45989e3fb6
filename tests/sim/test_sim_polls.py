"""The watch of a descriptor of the loop's own: what it is told, and what it makes of the end."""

import errno
import select
import sys

import pytest
from fake_driver import MORE

from uring_loop import _core

DESCRIPTOR = 10_000  # never used by a system call


@pytest.fixture
def watch(sim):
    """Gives a watch, and the list of what it was told."""
    told = []

    def ready():
        told.append(watch.ready)

    watch = _core.Poll(sim.loop, DESCRIPTOR, select.POLLIN, ready)
    yield watch, told
    watch.cancel()
    sim.driver.cancel_mode = "later"
    sim.settle()


def poll(sim):
    return sim.driver.find("poll", DESCRIPTOR)


def test_watch_is_told_in_each_turn_in_which_the_driver_reports(sim, watch):
    watch, told = watch
    for number in range(1, 4):
        sim.driver.complete(poll(sim), select.POLLIN, MORE)
        sim.turns(1)
        assert told == [select.POLLIN] * number


def test_watch_that_is_ended_by_nobody_begins_again_and_tells_nothing(sim, watch):
    """A thread that has driven the ring takes its requests along, on some kernels."""
    watch, told = watch
    first = poll(sim)
    sim.driver.complete(first, -errno.ECANCELED)
    sim.turns(1)
    assert told == []
    assert poll(sim) not in (None, first)
    sim.driver.complete(poll(sim), select.POLLIN, MORE)
    sim.turns(1)
    assert told == [select.POLLIN]


def test_watch_of_a_descriptor_that_cannot_be_polled_is_told_once_and_ends(sim, watch):
    watch, told = watch
    sim.driver.complete(poll(sim), -errno.EBADF)
    sim.turns(2)
    assert told == [-errno.EBADF]
    assert poll(sim) is None
    assert not watch.in_flight


def test_watch_that_was_cancelled_is_told_nothing_and_does_not_begin_again(sim, watch):
    watch, told = watch
    sim.driver.cancel_mode = "later"
    watch.cancel()
    sim.settle()
    assert told == []
    assert poll(sim) is None


def test_watch_that_the_driver_refuses_at_once_is_told_in_the_next_turn(sim):
    told = []
    sim.driver.refusals["poll"] = -errno.EBADF
    watch = _core.Poll(sim.loop, DESCRIPTOR, select.POLLIN, lambda: told.append(watch.ready))
    assert told == []
    sim.turns(2)
    assert told == [-errno.EBADF]
    assert not watch.in_flight
    watch.cancel()


def test_watch_that_the_driver_refuses_and_somebody_cancels_is_told_nothing(sim):
    sim.driver.refusals["poll"] = -errno.EBADF
    watch = _core.Poll(sim.loop, DESCRIPTOR, select.POLLIN, lambda: pytest.fail("called"))
    watch.cancel()
    sim.turns(2)


def test_watch_of_a_loop_that_its_making_closes_is_refused(sim):
    """In debug mode making the handle's traceback runs Python, and what signals run."""
    sim.loop._set_core_debug(True)

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "extract_stack":
            sys.setprofile(None)
            sim.loop._close()

    sys.setprofile(profile)
    try:
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            _core.Poll(sim.loop, DESCRIPTOR, select.POLLIN, print)
    finally:
        sys.setprofile(None)
    assert sim.driver.operations == {}
