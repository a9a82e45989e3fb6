"""add_reader and add_writer against readiness that the test scripts."""

import errno
import fcntl
import os

import pytest

IN, OUT, ERR, HUP = 1, 4, 8, 0x10


@pytest.fixture
def fd(sim):
    return sim.wire().fd


def run_one(sim):
    sim.loop.call_soon(sim.loop.stop)
    sim.run()


def test_reader_of_ready_descriptor_is_called_each_turn(sim, fd):
    calls = []
    sim.loop._add_reader(fd, calls.append, "in")
    sim.driver.ready[fd] = IN
    sim.turns(3)
    assert calls == ["in"] * 3
    sim.driver.ready[fd] = 0
    sim.turns(2)
    assert calls == ["in"] * 3


def test_reader_and_writer_of_one_descriptor_are_called_for_their_events(sim, fd):
    calls = []
    sim.loop._add_reader(fd, calls.append, "in")
    sim.loop._add_writer(fd, calls.append, "out")
    for events, expected in ((IN, ["in"]), (OUT, ["out"]), (IN | OUT, ["in", "out"])):
        sim.driver.ready[fd] = events
        run_one(sim)
        assert calls == expected
        calls.clear()


@pytest.mark.parametrize("event", [ERR, HUP])
def test_error_or_hangup_wakes_reader_and_writer(sim, fd, event):
    calls = []
    sim.loop._add_reader(fd, calls.append, "in")
    sim.loop._add_writer(fd, calls.append, "out")
    sim.driver.ready[fd] = event
    run_one(sim)
    assert calls == ["in", "out"]


def test_reader_replaced_in_the_same_batch_is_not_called_for_the_old_event(sim):
    """asyncio: a new handler sees only what the next wait reports."""
    first, second = sim.wire().fd, sim.wire().fd
    calls = []

    def replace():
        calls.append("first")
        sim.loop._add_reader(second, calls.append, "new")
        sim.loop._remove_reader(first)

    sim.loop._add_reader(first, replace)
    sim.loop._add_reader(second, calls.append, "old")
    sim.driver.ready.update({first: IN, second: IN})
    run_one(sim)
    assert calls == ["first"]
    run_one(sim)
    assert calls == ["first", "new"]


def test_reader_removed_in_the_same_batch_is_not_called(sim):
    first, second = sim.wire().fd, sim.wire().fd
    calls = []

    def remove():
        calls.append("first")
        assert sim.loop._remove_reader(second) is True
        assert sim.loop._remove_reader(second) is False

    sim.loop._add_reader(first, remove)
    sim.loop._add_reader(second, calls.append, "second")
    sim.driver.ready.update({first: IN, second: IN})
    run_one(sim)
    assert calls == ["first"]


def test_writer_removed_by_the_reader_of_the_same_event_is_not_called(sim, fd):
    calls = []

    def readable():
        calls.append("in")
        sim.loop._remove_writer(fd)

    sim.loop._add_reader(fd, readable)
    sim.loop._add_writer(fd, calls.append, "out")
    sim.driver.ready[fd] = IN | OUT
    run_one(sim)
    assert calls == ["in"]


def test_descriptor_unwatched_and_watched_again_in_the_same_batch_waits_for_the_next_turn(sim):
    first, second = sim.wire().fd, sim.wire().fd
    calls = []

    def again():
        calls.append("first")
        sim.loop._remove_reader(first)
        sim.loop._remove_reader(second)
        sim.loop._add_reader(second, calls.append, "again")

    sim.loop._add_reader(first, again)
    sim.loop._add_reader(second, calls.append, "second")
    sim.driver.ready.update({first: IN, second: IN})
    sim.driver.harvest_limit = lambda: 64
    run_one(sim)
    assert calls == ["first"]
    run_one(sim)
    assert calls == ["first", "again"]


def test_reader_added_in_the_ready_phase_is_not_called_in_the_same_turn(sim, fd):
    calls = []
    sim.driver.ready[fd] = IN
    sim.loop._add_reader(fd, calls.append, "old")

    def replace():
        sim.loop._add_reader(fd, calls.append, "new")

    sim.loop.call_soon(replace)
    run_one(sim)
    assert calls == []
    run_one(sim)
    assert calls == ["new"]


def test_cancelled_handle_ends_the_watch_instead_of_spinning(sim, fd):
    """asyncio removes a reader whose handle was cancelled; the loop must not run hot."""
    calls = []
    handle = sim.loop._add_reader(fd, calls.append, "in")
    sim.loop._add_writer(fd, calls.append, "out")
    handle.cancel()
    sim.driver.ready[fd] = IN
    run_one(sim)
    assert calls == []
    assert sim.driver.watches[fd][1] == OUT
    assert sim.loop._remove_reader(fd) is False


def test_refused_watch_raises_and_changes_nothing(sim, fd):
    calls = []
    sim.driver.refusals["watch"] = -errno.EPERM
    with pytest.raises(PermissionError):
        sim.loop._add_reader(fd, calls.append, "in")
    assert sim.loop._remove_reader(fd) is False
    sim.driver.refusals.clear()
    sim.loop._add_reader(fd, calls.append, "in")
    sim.driver.ready[fd] = IN
    run_one(sim)
    assert calls == ["in"]


def test_reader_removed_where_the_driver_refuses_the_rest_is_removed(sim, fd):
    """The descriptor was closed meanwhile: of what is gone there is nothing to end."""
    sim.loop._add_reader(fd, pytest.fail)
    sim.loop._add_writer(fd, print)
    sim.driver.refusals["watch"] = -errno.EBADF
    assert sim.loop._remove_reader(fd) is True
    assert sim.loop._remove_reader(fd) is False
    assert sim.loop._remove_writer(fd) is True
    assert sim.driver.watches == {}


def test_reader_raising_is_reported_and_stays(sim, fd):
    def fail():
        raise ZeroDivisionError

    sim.loop._add_reader(fd, fail)
    sim.driver.ready[fd] = IN
    sim.turns(2)
    assert len(sim.loop.contexts) == 2
    sim.loop.contexts.clear()


def test_large_descriptor_numbers_are_watched(sim):
    """The table of readers grows, also while one of its entries is being called."""
    first = sim.wire().fd
    far = fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, 900)
    calls = []

    def grow():
        calls.append("first")
        sim.loop._add_reader(far, calls.append, "far")

    sim.loop._add_reader(first, grow)
    sim.loop._add_writer(first, calls.append, "out")
    sim.driver.ready.update({first: IN | OUT, far: IN})
    run_one(sim)
    assert calls == ["first", "out"]
    sim.loop._remove_reader(first)
    run_one(sim)
    assert calls == ["first", "out", "out", "far"]
    assert sim.loop._remove_reader(far) is True
    os.close(far)


def test_descriptor_number_that_is_not_open_is_refused(sim):
    with pytest.raises(OSError):
        sim.loop._add_reader(1 << 30, print)


def test_readers_are_gone_from_the_driver_when_the_loop_closes(sim, fd):
    sim.loop._add_reader(fd, print)
    sim.loop._close()
    assert sim.driver.watches == {}
    assert sim.loop._remove_reader(fd) is False
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        sim.loop._add_reader(fd, print)
