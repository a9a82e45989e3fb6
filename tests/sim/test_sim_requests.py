"""Requests of Python's: each is owned before it is started, and owns what it brings."""

import errno
import functools
import gc
import os
import weakref

import pytest
from fake_driver import STARTED, FakeDriver, load_shim
from simulation import IORING_OP_OPENAT, is_open

from uring_loop import _core


class Memory:
    """What a request borrows."""


def opened():
    """A descriptor that nobody owns."""
    return os.open(os.devnull, os.O_RDONLY)


def test_request_calls_back_with_its_result_and_releases_what_it_kept(sim):
    memory = Memory()
    reference = weakref.ref(memory)
    results = []
    request, operation = sim.request(
        lambda request: results.append((request.result, request.flags, request.opened)), memory
    )
    del memory
    sim.turns(1)
    assert results == [] and reference() is not None
    sim.driver.complete(operation, 42)
    sim.turns(1)
    assert results == [(42, 0, None)]
    assert reference() is None
    assert request.cancel() == -errno.ENOENT


def test_request_that_nobody_refers_to_is_held_until_it_has_ended(sim):
    results = []
    request, operation = sim.request(lambda request: results.append(request.result))
    reference = id(request)
    del request
    gc.collect()
    sim.driver.complete(operation, 3)
    sim.turns(1)
    assert reference and results == [3]


def test_request_cancelled_calls_back_with_the_result_that_won(sim):
    results = []
    request, _ = sim.request(lambda request: results.append(request.result))
    assert request.cancel() == STARTED
    assert results == []
    sim.turns(1)
    assert results == [-errno.ECANCELED]
    assert request.cancel() == -errno.ENOENT
    assert len(results) == 1


def test_request_that_a_cancel_ends_at_once_calls_nobody_and_borrows_nothing(sim):
    memory = Memory()
    reference = weakref.ref(memory)
    request, _ = sim.request(pytest.fail, memory)
    del memory
    sim.driver.cancel_mode = "at_once"
    assert request.cancel() == 0
    assert reference() is None
    assert request.cancel() == -errno.ENOENT


@pytest.mark.parametrize("result", [7, -errno.EBADF])
def test_request_that_is_answered_at_once_is_none(sim, result):
    sim.driver.refusals["poll"] = result
    assert sim.loop._poll(pytest.fail, 5, 1) == result


def test_connect_is_a_request_as_any_other(sim):
    results = []
    request = sim.loop._connect(lambda request: results.append(request), 5, b"address")
    sim.driver.complete(sim.driver.find("connect", 5), 0)
    sim.turns(1)
    assert results == [request]
    assert request.result == 0


def test_request_interrupted_leaves_the_others(sim):
    results = []

    def first(request):
        results.append(request.result)
        raise KeyboardInterrupt

    operations = [sim.request(first)[1]]
    operations.append(sim.request(lambda request: results.append(request.result))[1])
    for operation in operations:
        sim.driver.complete(operation, -errno.ETIME)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    assert results == [-errno.ETIME]
    sim.settle()
    assert results == [-errno.ETIME, -errno.ETIME]


def test_descriptor_that_nobody_takes_is_closed_with_its_request(sim):
    number = opened()
    seen = []
    request, operation = sim.request(lambda request: seen.append(request.opened.number), opens=True)
    assert request.opened.number == -1
    sim.driver.complete(operation, number)
    sim.turns(1)
    assert seen == [number] and is_open(number)
    del request
    assert not is_open(number)


def test_descriptor_that_is_taken_stays_open(sim):
    number = opened()
    request, operation = sim.request(lambda request: request.opened.detach(), opens=True)
    sim.driver.complete(operation, number)
    sim.turns(1)
    del request
    assert is_open(number)
    os.close(number)


def test_descriptor_that_comes_when_the_callback_fails_is_closed(sim, monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: None)
    number = opened()

    def fails(request):
        raise MemoryError

    operation = sim.request(fails, opens=True)[1]
    sim.driver.complete(operation, number)
    sim.turns(1)
    assert not is_open(number)


@pytest.mark.skipif(load_shim() is None, reason="shim.c needs a C compiler")
def test_descriptor_that_comes_while_a_forgotten_loop_ends_is_closed():
    driver, number = FakeDriver(), opened()
    driver.close = lambda: None
    loop = _core.Loop()
    loop._attach(driver, driver.address, driver.table_address)
    loop._request(lambda request: pytest.fail("called"), None, (IORING_OP_OPENAT, 3, 0, 0, 0, 0))
    driver.complete(*driver.operations.values(), number)
    del loop
    gc.collect()
    assert not is_open(number)
    driver.check()
    driver.free()


def test_request_whose_callback_has_no_memory_is_told_in_the_next_turn(sim):
    results = []

    def callback(request):
        results.append(sim.loop._turn)
        if len(results) < 3:
            raise MemoryError

    number = opened()
    memory = Memory()
    reference = weakref.ref(memory)
    operation = sim.request(callback, memory, opens=True)[1]
    del memory
    sim.driver.complete(operation, number)
    sim.turns(4)
    assert results == [results[0], results[0] + 1, results[0] + 2]
    assert reference() is None
    assert not is_open(number)


def test_request_that_waits_to_be_told_keeps_its_order(sim):
    results = []
    failing = [True, True]

    def told(name, request):
        if failing and failing.pop():
            raise MemoryError
        results.append(name)

    for name in "ab":
        operation = sim.request(functools.partial(told, name))[1]
        sim.driver.complete(operation, 1)
    sim.turns(3)
    assert results == ["a", "b"]


def test_request_for_which_there_is_never_memory_is_reported_once_and_let_go(sim, monkeypatch):
    told, tries = [], []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    def callback(request):
        tries.append(request.result)
        raise MemoryError

    operation = sim.request(callback)[1]
    sim.driver.complete(operation, 5)
    sim.turns(200)
    assert told == [MemoryError]
    assert 1 < len(tries) < 100 and set(tries) == {5}


def test_request_that_waits_to_be_told_when_the_loop_is_closed_is_let_go(sim):
    def callback(request):
        sim.loop.stop()
        raise MemoryError

    number = opened()
    operation = sim.request(callback, opens=True)[1]
    sim.driver.complete(operation, number)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", lambda unraisable: None)
        sim.turns(1)
        sim.loop._close()
    assert not is_open(number)
