"""Descriptors that another thread gives up while the loop runs: its own thread closes them."""

import gc
import threading
import warnings

import pytest


def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def half_closed(sim):
    """A transport for which nothing is in flight, in a list, and its wire."""
    transport, protocol, wire = sim.connect()
    protocol.keep_open = True
    sim.driver.arrive(wire.fd, 0)
    sim.turns(2)
    assert sim.driver.on_descriptor(wire.fd) == []
    protocol.transport = None
    return [transport], wire


def test_descriptors_dropped_by_another_thread_are_closed_in_the_loops_own(sim):
    transports = [half_closed(sim) for _ in range(5)]

    def drop():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for holder, _ in transports:
                holder.clear()

    sim.loop.call_soon(in_thread, drop)
    sim.settle()
    assert all(wire.is_closed for _, wire in transports)


def test_descriptor_dropped_by_another_thread_is_closed_whatever_allocation_fails(
    sim, monkeypatch
):
    testcapi = pytest.importorskip("_testcapi", reason="made for CPython's own tests only")
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: None)
    for at in range(40):
        holder, wire = half_closed(sim)
        last = []

        def drop(holder=holder, at=at):
            transport = holder.pop()
            testcapi.set_nomemory(at, at + 1)
            try:
                del transport
            finally:
                testcapi.remove_mem_hooks()

        def dropped(drop=drop, last=last):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    drop()
                except MemoryError:
                    last.append("told")

        sim.loop.call_soon(in_thread, dropped)
        sim.turns(1)
        gc.collect()
        sim.settle()
        assert holder == []
        assert wire.is_closed, f"lost with allocation {at}"
