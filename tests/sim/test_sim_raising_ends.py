"""The end of a run, and of a loop, in which one thing after the other raises.

What is left is done, and told: by the run while nothing else is, then by sys.unraisablehook.
"""

import contextlib
import contextvars
import ctypes
import errno
import gc
import logging
import os
import threading
import weakref

import pytest
from fake_driver import FakeDriver, load_shim

from uring_loop import _core
from uring_loop._internal import _stdlib


class Memory:
    """What a request borrows."""


class Ends(SystemExit):
    """What ends a run, as SystemExit and KeyboardInterrupt do."""


@pytest.fixture
def told(monkeypatch):
    """The types that sys.unraisablehook was given."""
    types = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: types.append(unraisable.exc_type))
    return types


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    thread.join()


class Script:
    """Called back, it notes its name and does what is next: raises a class, or calls."""

    def __init__(self, names, name, *acts):
        self.names = names
        self.name = name
        self.acts = list(acts)

    def __call__(self, request=None):
        self.names.append(self.name)
        act = self.acts.pop(0)
        if isinstance(act, type):
            raise act
        act()


def test_errands_that_raise_are_run_once_each_and_the_rest_before_the_loop_closes(sim, told):
    names = []
    errands = [
        Script(names, "ends the run", SystemExit),
        Script(names, "after it", Ends),
        Script(names, "at close", Ends),
        Script(names, "closes", sim.loop._close),
        Script(names, "too late"),
    ]

    def hand_over():
        for errand in errands:
            sim.loop._hand_over(errand)

    sim.loop.call_soon(in_thread, hand_over)
    with pytest.raises(SystemExit):
        sim.run()
    assert (names, told) == (["ends the run", "after it"], [Ends])
    sim.loop._close()
    assert names == ["ends the run", "after it", "at close", "closes"]
    assert told == [Ends, Ends]
    assert sim.driver.is_shut_down


def test_requests_that_wait_to_be_told_stay_in_order_behind_one_that_raises(sim, told):
    names, memory = [], Memory()
    reference = weakref.ref(memory)
    operations = [
        sim.request(Script(names, "a", MemoryError, Ends))[1],
        sim.request(Script(names, "b", MemoryError, Ends))[1],
        sim.request(Script(names, "c", MemoryError, MemoryError), memory)[1],
        sim.request(Script(names, "d", MemoryError, lambda: None))[1],
    ]
    del memory
    for operation in operations:
        sim.driver.complete(operation, 1)
    with pytest.raises(Ends):
        sim.run()
    assert (names, told) == ([*"abcd", *"ab"], [Ends])
    gc.collect()
    assert reference() is not None
    sim.loop._close()
    assert names == [*"abcd", *"abcd"]
    assert reference() is None


def test_cancel_of_another_thread_that_nobody_served_ends_with_the_loop(sim, told):
    transport, protocol, wire = sim.connect()
    names = []
    operations = [
        sim.request(Script(names, "a", MemoryError, Ends))[1],
        sim.request(Script(names, "b", MemoryError, Ends))[1],
        sim.request(Script(names, "c", MemoryError, sim.loop._close))[1],
    ]
    for operation in operations:
        sim.driver.complete(operation, 1)
    sim.loop.call_soon(in_thread, transport.abort)
    with pytest.raises(Ends):
        sim.run()
    assert not wire.is_closed
    sim.loop._close()
    assert names == [*"abc", *"abc"]
    assert transport._state == "lost"
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(wire.fd)


def test_request_that_raises_at_close_is_told_of_and_the_others_are_called_back(sim, told):
    names = []
    for name in "ab":
        sim.request(Script(names, name, Ends))
    sim.loop._close()
    assert sorted(names) == ["a", "b"]
    assert told == [Ends] * 2


@pytest.mark.parametrize("closes", [False, True])
def test_logging_that_raises_where_close_sends_the_last_bytes_is_told_of(sim, told, closes):
    """Debug mode tells of a send that failed."""
    transport, protocol, wire = sim.connect()
    errand = Script([], "keeps the run's end from sending", Ends)
    records = []

    class Raising(logging.Handler):
        def emit(self, record):
            records.append(record)
            if closes:
                sim.loop._close()
            raise Ends

    def last(transport):
        transport.write(b"last")
        in_thread(sim.loop._hand_over, errand)
        raise Ends

    sim.loop.call_soon(last, transport)
    with pytest.raises(Ends):
        sim.run()
    told.clear()
    wire.peer.close()
    sim.loop._set_core_debug(True)
    handler, logger = Raising(), logging.getLogger("asyncio")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        sim.loop._close()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert [record.exc_info[0] for record in records] == [BrokenPipeError]
    assert told == ([] if closes else [Ends])
    assert sim.driver.is_shut_down
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        records.clear()
        gc.collect()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(wire.fd)


@pytest.mark.parametrize("ends", [False, True])
def test_protocol_that_leaves_another_context_behind_is_told_of(sim, told, ends):
    transport, protocol, wire = sim.connect()
    other = contextvars.copy_context()

    def data_received(data):
        protocol.hooks.clear()
        ctypes.pythonapi.PyContext_Enter(ctypes.py_object(other))
        if ends:
            raise Ends

    protocol.hooks["data_received"] = data_received
    sim.driver.arrive(wire.fd, b"data")
    own = [found for found in gc.get_referents(transport) if type(found) is contextvars.Context]
    assert len(own) == 1
    with pytest.raises(Ends) if ends else contextlib.nullcontext():
        sim.turns(1)
    for context in (other, *own):
        ctypes.pythonapi.PyContext_Exit(ctypes.py_object(context))
    assert told == [RuntimeError]
    assert protocol.received == b"data"
    sim.driver.arrive(wire.fd, b" and more")
    sim.settle()
    assert protocol.received == b"data and more"


def test_thread_that_cannot_be_told_that_no_loop_runs_is_told_of(sim, told, monkeypatch):
    module = _stdlib.running_loop_module()
    original, tries = module._set_running_loop, []

    def fails(loop):
        if loop is not None:
            return original(loop)
        tries.append(loop)
        raise MemoryError

    monkeypatch.setattr(module, "_set_running_loop", fails)
    try:
        sim.turns(1)
    finally:
        original(None)
    assert told == [MemoryError] and len(tries) > 1
    monkeypatch.undo()
    sim.turns(1)


def test_owner_of_a_forgotten_core_that_fails_to_close_is_told_of(told):
    if load_shim() is None:
        pytest.skip("the fake driver's shim.c needs a C compiler")
    driver = FakeDriver()

    class Owner:
        def close(self):
            raise ZeroDivisionError

    loop = _core.Loop()
    loop._attach(Owner(), driver.address, driver.table_address)
    del loop
    assert told == [ZeroDivisionError]
    assert driver.is_shut_down
    driver.check()
    driver.free()


def test_submit_that_the_driver_fails_raises_and_the_next_one_works(sim):
    def broken(timeout):
        raise OSError(errno.EIO, "the ring is gone")

    sim.driver.on_turn.append(broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sim.loop._submit()
    sim.driver.violations.clear()
    sim.loop._submit()
    assert not sim.driver.running


def test_submit_of_another_thread_leaves_the_driver_to_the_loops_own(sim):
    turns = []

    def submit():
        turns.append(sim.driver.turns)
        in_thread(sim.loop._submit)
        turns.append(sim.driver.turns)

    sim.loop.call_soon(submit)
    sim.turns(1)
    assert turns[0] == turns[1]


def test_loop_is_found_as_what_holds_a_transport_that_has_bytes_to_send(sim):
    transport, protocol, wire = sim.connect()
    protocol.keep_open = True
    sim.driver.arrive(wire.fd, 0)
    sim.turns(2)
    assert sim.driver.on_descriptor(wire.fd) == []
    found = []

    def look():
        found.append(any(holder is sim.loop for holder in gc.get_referrers(transport)))

    sim.loop.call_soon(look)
    sim.loop.call_soon(transport.write, b"data")
    sim.loop.call_soon(look)
    sim.turns(1)
    assert found == [False, True]
