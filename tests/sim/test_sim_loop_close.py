"""Closing the loop with everything still in flight: all is released, nobody is called."""

import ctypes
import errno
import gc
import os
import sys
import weakref

import pytest
from fake_driver import KEEP, FakeDriver, load_shim
from simulation import IORING_OP_READ

from uring_loop import _core

READ_OF_3 = (IORING_OP_READ, 3, 0, 0, 0, 0)


def test_close_with_operations_in_flight_releases_everything(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    data = os.urandom(100)
    before = sys.getrefcount(data)
    sim.within(transport.write, data)
    protocol.transport = None
    calls = list(protocol.calls)
    reference = weakref.ref(transport)
    del transport
    assert reference() is not None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        sim.loop._close()
        gc.collect()
    assert protocol.calls == calls
    assert reference() is None
    assert sys.getrefcount(data) == before
    assert sim.driver.operations == {}
    assert sim.driver.is_shut_down
    assert wire.is_closed or wire.received == b""


def test_close_with_data_on_the_way_drops_and_recycles_it(sim):
    transport, protocol, wire = sim.connect()
    receive = sim.driver.find("recv", wire.fd)
    sim.driver.complete(receive, 4, 2 | 1, b"late")
    sim.loop._close()
    assert protocol.received == b""
    assert sim.driver.lent == {}
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


@pytest.mark.parametrize("paused", [False, True])
def test_close_with_bulk_that_nobody_took_leaves_it_in_the_socket(sim, paused):
    transport, protocol, wire = sim.connect()
    sim.driver.bulk.add(wire.fd)
    sim.driver.arrive(wire.fd, b"late")
    if paused:
        protocol.pause()
        sim.settle()
    sim.loop._close()
    assert protocol.received == b""
    assert sim.driver.takes == 0
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


def test_close_while_a_transport_joins_closes_its_descriptor(sim):
    transport, protocol, wire = sim.connect()
    sim.driver.hold_sends = True
    sim.driver.cancel_mode = "manual"
    sim.within(transport.write, b"data")
    protocol.abort()
    sim.turns(2)
    assert transport._state == "joining"
    sim.loop._close()
    assert transport._state == "closed"
    assert wire.is_closed
    assert protocol.calls == ["connection_made", "connection_lost"]


def test_close_after_an_interrupt_dispatches_the_rest_of_the_batch_to_nobody(sim):
    first_transport, first, first_wire = sim.connect()
    second_transport, second, second_wire = sim.connect()

    def interrupt(data):
        raise KeyboardInterrupt

    first.hooks["data_received"] = interrupt
    sim.driver.arrive(first_wire.fd, b"a")
    sim.driver.arrive(second_wire.fd, b"b", 0)
    with pytest.raises(KeyboardInterrupt):
        sim.run()
    sim.loop._close()
    assert second.calls == ["connection_made"]
    assert sim.driver.lent == {}
    first.transport = second.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del first_transport, second_transport
        gc.collect()


def test_close_drops_ready_callbacks_and_timers(sim):
    class Thing:
        def call(self):
            raise AssertionError("called after close()")

    things = [Thing() for _ in range(3)]
    references = [weakref.ref(thing) for thing in things]
    sim.loop.call_soon(things[0].call)
    handle = sim.loop.call_later(1, things[1].call)
    sim.loop.call_soon_threadsafe(things[2].call)
    things.clear()
    sim.loop._close()
    sim.loop._close()
    assert sim.loop._ready_count == sim.loop._timer_count == 0
    assert [reference() is None for reference in references] == [True, False, True]
    handle.cancel()
    assert references[1]() is None


def test_close_calls_back_requests_and_releases_what_they_kept(sim):
    class Memory:
        pass

    results = []
    memories = [Memory(), Memory()]
    references = [weakref.ref(memory) for memory in memories]
    operations = [
        sim.request(lambda request: results.append(request.result), memories.pop(0))[1]
        for _ in range(2)
    ]
    # The ring was lost before the kernel let go of the first one's memory.
    sim.driver.complete(operations[0], -errno.ECANCELED, KEEP)
    sim.loop._close()
    assert results == [-errno.ECANCELED, -errno.ECANCELED]
    gc.collect()
    assert [reference() is None for reference in references] == [False, True]


def test_close_while_running_is_refused(sim):
    errors = []

    def close():
        try:
            sim.loop._close()
        except RuntimeError as error:
            errors.append(str(error))

    sim.loop.call_soon(close)
    sim.turns(1)
    assert errors == ["Cannot close a running event loop"]
    assert not sim.loop.is_closed()


@pytest.mark.parametrize(
    "method",
    ["call_soon", "call_soon_threadsafe", "call_later", "call_at", "_run"],
)
def test_closed_loop_refuses(sim, method):
    sim.loop._close()
    arguments = {"call_later": (1, print), "call_at": (1, print), "_run": ()}.get(method, (print,))
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(sim.loop, method)(*arguments)


def test_resume_reading_after_the_loop_was_closed_raises_as_asyncio(sim):
    transport, protocol, wire = sim.connect()
    protocol.pause()
    sim.loop._close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


def test_write_after_the_loop_was_closed_raises_when_the_kernel_is_full(sim):
    """Nobody would ever send it; and the transport must not stay on the dead loop's list."""
    transport, protocol, wire = sim.connect()
    sim.loop._close()
    transport.write(b"taken")
    wire.block()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.write(b"refused")
    reference = weakref.ref(transport)
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()
    assert reference() is None


@pytest.mark.parametrize("method", ["close", "abort"])
def test_ending_a_transport_after_the_loop_was_closed_raises_as_asyncio(sim, method):
    transport, protocol, wire = sim.connect()
    sim.loop._close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        getattr(transport, method)()
    protocol.transport = None
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


def test_closed_loop_and_all_around_it_is_freed(sim):
    transport, protocol, wire = sim.connect()
    sim.loop._add_reader(sim.wire().fd, protocol.resume)
    listener = _core.Listener(sim.loop, 10_000, protocol.calls.append)
    listener.start()
    sim.loop.call_later(1, transport.close)
    protocol.close()
    sim.settle()
    sim.loop._close()
    reference = weakref.ref(protocol)
    del transport, protocol, listener
    gc.collect()
    assert reference() is None


def test_attach_of_a_table_from_other_sources_is_refused(sim):
    size = ctypes.c_uint32.from_address(sim.driver.table_address)
    right = size.value
    loop = _core.Loop()
    size.value = right - 8
    try:
        with pytest.raises(RuntimeError, match="were built from different sources"):
            loop._attach(sim.driver, sim.driver.address, sim.driver.table_address)
    finally:
        size.value = right
    assert loop.is_closed()


def test_attach_of_a_second_driver_to_an_open_loop_is_refused(sim):
    with pytest.raises(RuntimeError, match="not made again"):
        sim.loop._attach(sim.driver, sim.driver.address, sim.driver.table_address)
    sim.turns(2)


class Owner:
    """Owns a driver, for a loop that nobody closes."""

    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


def test_core_that_nobody_closes_ends_what_is_in_flight_and_lets_the_driver_go():
    if load_shim() is None:
        pytest.skip("the fake driver's shim.c needs a C compiler")
    driver, owner = FakeDriver(), Owner()
    loop = _core.Loop()
    loop._attach(owner, driver.address, driver.table_address)
    request = loop._request(lambda request: pytest.fail("called"), bytearray(10), READ_OF_3)
    assert request.result == 0
    del request
    watch = _core.Poll(loop, 7, 1, print)
    # A cycle: the poll in flight holds the watch, and that the loop.
    del watch, loop
    gc.collect()
    assert owner.closed == 1
    assert driver.is_shut_down
    driver.check()
    assert driver.operations == {}
    driver.free()
