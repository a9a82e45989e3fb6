"""The listener: start and stop against descriptors that are accepted at any moment."""

import asyncio
import ctypes
import errno
import os
import sys
import threading

import pytest
from simulation import is_open

from uring_loop import _core
from uring_loop._internal.streams import StreamTransport

LISTENING = 10_000  # never used by a system call


@pytest.fixture
def listener(sim):
    accepted = []
    listener = _core.Listener(sim.loop, LISTENING, accepted.append)
    listener_and_accepted = listener, accepted
    yield listener_and_accepted
    for fd in accepted:
        if fd >= 0:
            os.close(fd)
    if not sim.loop.is_closed():
        listener.stop()
        sim.driver.cancel_mode = "later"
        sim.settle()
        assert listener.idle


def descriptor():
    """As the kernel gives one: a number that is open now."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def test_accepted_descriptors_reach_the_callback_in_order(sim, listener):
    listener, accepted = listener
    listener.start()
    listener.start()
    descriptors = [descriptor() for _ in range(5)]
    sim.driver.arrive(LISTENING, *descriptors)
    sim.settle()
    assert accepted == descriptors
    assert len(sim.driver.operations) == 1


def test_accept_stream_ended_by_driver_with_a_descriptor_is_armed_again(sim, listener):
    listener, accepted = listener
    listener.start()
    first = descriptor()
    sim.driver.complete(sim.driver.find("accept", LISTENING), first)
    sim.turns(1)
    second = descriptor()
    sim.driver.arrive(LISTENING, second)
    sim.settle()
    assert accepted == [first, second]


@pytest.mark.parametrize("mode", ["later", "race", "at_once"])
def test_descriptors_accepted_after_stop_are_closed(sim, listener, mode):
    listener, accepted = listener
    sim.driver.cancel_mode = mode
    listener.start()
    sim.turns(1)
    late = descriptor()
    listener.stop()
    sim.driver.arrive(LISTENING, late)
    sim.settle()
    assert accepted == []
    assert listener.idle
    if mode == "race":
        assert not is_open(late)
    else:
        os.close(late)  # it stayed in the kernel's queue


@pytest.mark.parametrize("mode", ["later", "race", "at_once"])
def test_stop_inside_the_callback_closes_the_rest_of_the_batch(sim, mode):
    """They are harvested already: nobody else will ever close them."""
    accepted = []

    def callback(fd):
        accepted.append(fd)
        listener.stop()

    listener = _core.Listener(sim.loop, LISTENING, callback)
    sim.driver.cancel_mode = mode
    listener.start()
    descriptors = [descriptor() for _ in range(4)]
    sim.driver.arrive(LISTENING, *descriptors)
    sim.settle()
    assert accepted == descriptors[:1]
    assert [is_open(fd) for fd in descriptors] == [True, False, False, False]
    assert listener.idle
    os.close(descriptors[0])


def test_stop_and_drop_inside_another_callback_of_the_batch_closes_the_descriptors(sim):
    """The listener is freed while the batch still names it."""
    _, protocol, wire = sim.connect()
    listeners = [_core.Listener(sim.loop, LISTENING, lambda fd: None)]
    sim.driver.cancel_mode = "at_once"

    def drop(data):
        listeners.pop().stop()

    protocol.hooks["data_received"] = drop
    listeners[0].start()
    late = descriptor()
    sim.driver.arrive(wire.fd, b"trigger")
    sim.driver.arrive(LISTENING, late)
    sim.settle()
    assert not is_open(late)


def test_start_before_the_cancel_has_completed_goes_on_accepting(sim, listener):
    listener, accepted = listener
    sim.driver.cancel_mode = "manual"
    listener.start()
    first = sim.driver.find("accept", LISTENING)
    listener.stop()
    listener.start()
    won = descriptor()
    sim.driver.arrive(LISTENING, won)
    sim.driver.end(first, race=True)
    sim.turns(1)
    after = descriptor()
    sim.driver.arrive(LISTENING, after)
    sim.turns(1)
    assert accepted == [won, after]


def test_start_before_the_cancel_has_completed_is_armed_again_after_it(sim, listener):
    listener, accepted = listener
    sim.driver.cancel_mode = "manual"
    listener.start()
    first = sim.driver.find("accept", LISTENING)
    listener.stop()
    listener.start()
    sim.driver.end(first)
    sim.turns(1)
    second = sim.driver.find("accept", LISTENING)
    assert second is not None and second is not first
    assert accepted == []


def test_start_and_stop_again_before_the_cancel_has_completed_stays_stopped(sim, listener):
    listener, accepted = listener
    sim.driver.cancel_mode = "manual"
    listener.start()
    first = sim.driver.find("accept", LISTENING)
    listener.stop()
    listener.start()
    listener.stop()
    sim.driver.end(first)
    sim.turns(2)
    assert listener.idle
    assert accepted == []


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOBUFS, errno.EBADF])
def test_accept_error_is_told_once_and_start_works_again(sim, listener, error):
    listener, accepted = listener
    listener.start()
    sim.driver.arrive(LISTENING, -error)
    sim.settle()
    assert accepted == [-error]
    assert listener.idle
    listener.start()
    fd = descriptor()
    sim.driver.arrive(LISTENING, fd)
    sim.settle()
    assert accepted == [-error, fd]
    accepted.remove(-error)


def test_refused_accept_raises_from_start(sim, listener):
    listener, _ = listener
    sim.driver.refusals["accept"] = -errno.EINVAL
    with pytest.raises(OSError):
        listener.start()
    assert listener.idle


def test_accept_refused_for_another_thread_is_told_to_the_callback(sim, listener):
    """What start() left for the loop's thread cannot raise there any more."""
    listener, accepted = listener
    sim.driver.refusals["accept"] = -errno.EMFILE

    def start_elsewhere():
        thread = threading.Thread(target=listener.start)
        thread.start()
        thread.join()

    sim.within(start_elsewhere)
    sim.settle()
    assert accepted == [-errno.EMFILE]
    assert listener.idle
    accepted.clear()
    del sim.driver.refusals["accept"]
    listener.start()
    assert not listener.idle


def test_listener_shared_twice_is_armed_anew_once(sim, listener):
    listener, accepted = listener
    sim.driver.cancel_mode = "at_once"
    listener.start()
    sim.turns(1)
    before = sim.driver.find("accept", LISTENING)
    listener.share()
    shared = sim.driver.find("accept", LISTENING)
    assert shared is not None and shared is not before
    listener.share()
    assert sim.driver.find("accept", LISTENING) is shared
    fd = descriptor()
    sim.driver.arrive(LISTENING, fd)
    sim.settle()
    assert accepted == [fd]


def test_accept_refused_as_the_listener_gets_shared_raises_and_start_works_again(sim, listener):
    listener, _ = listener
    sim.driver.cancel_mode = "at_once"
    listener.start()
    sim.turns(1)
    sim.driver.refusals["accept"] = -errno.ENOMEM
    with pytest.raises(OSError) as caught:
        listener.share()
    assert caught.value.errno == errno.ENOMEM
    assert listener.idle
    del sim.driver.refusals["accept"]
    listener.start()
    assert not listener.idle


def test_callback_that_raises_is_reported_and_accepting_goes_on(sim, monkeypatch):
    accepted, told = [], []

    def callback(fd):
        accepted.append(fd)
        os.close(fd)
        raise LookupError(len(accepted))

    listener = _core.Listener(sim.loop, LISTENING, callback)
    listener.start()
    descriptors = [descriptor() for _ in range(2)]
    sim.driver.arrive(LISTENING, *descriptors)
    with monkeypatch.context() as patch:
        patch.setattr(
            sys, "unraisablehook", lambda what: told.append((what.exc_type, what.object))
        )
        sim.settle()
    assert accepted == descriptors
    assert told == [(LookupError, callback)] * 2
    assert not listener.idle
    listener.stop()
    sim.settle()


PY_TP_CLEAR = 51


def test_listener_that_the_cycle_collector_has_emptied_starts_nothing(sim):
    """A finalizer of the same garbage may be called later, and start it."""
    listener = _core.Listener(sim.loop, LISTENING, print)
    slot = ctypes.pythonapi.PyType_GetSlot
    slot.restype, slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    clear = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(slot(type(listener), PY_TP_CLEAR))
    assert clear(listener) == 0
    listener.start()
    listener._begin()
    listener.stop()
    assert listener.idle
    assert sim.driver.operations == {}


@pytest.mark.parametrize("named", [{"shared": True}, {"loop": None}], ids=repr)
def test_listener_takes_no_keyword_arguments(sim, named):
    with pytest.raises(TypeError, match="no keyword arguments"):
        _core.Listener(sim.loop, LISTENING, print, **named)


def test_loop_closed_with_descriptors_on_the_way_closes_them(sim):
    accepted = []
    listener = _core.Listener(sim.loop, LISTENING, accepted.append)
    listener.start()
    late = descriptor()
    sim.driver.complete(sim.driver.find("accept", LISTENING), late)
    sim.loop._close()
    assert accepted == []
    assert not is_open(late)
    assert listener.idle
    listener.stop()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        listener.start()


class Clients(_core.ClientList):
    """As Server: what the core calls of it."""

    detached = 0

    def _detach(self):
        self.detached += 1


class Connected(asyncio.Protocol):
    """A protocol factory that keeps the transports."""

    def __init__(self):
        self.transports = []

    def __call__(self):
        return self

    def connection_made(self, transport):
        self.transports.append(transport)


def opening(sim, factory, server, told):
    """A listener that opens connections by itself."""
    return _core.Listener(
        sim.loop, LISTENING, lambda *what: told.append(what), False, None, factory, server
    )


def test_listener_with_a_factory_opens_transports_that_are_clients_of_its_server(sim):
    told, factory, server = [], Connected(), Clients()
    listener = opening(sim, factory, server, told)
    listener.start()
    wires = [sim.wire() for _ in range(3)]
    descriptors = [wire.sock.detach() for wire in wires]
    sim.driver.arrive(LISTENING, *descriptors)
    sim.settle()
    assert [type(transport) for transport in factory.transports] == [StreamTransport] * 3
    assert server._clients == factory.transports
    assert [sim.loop._owner_of(fd) for fd in descriptors] == factory.transports
    assert told == []
    factory.transports[1].abort()
    sim.settle()
    assert server._clients == [factory.transports[0], factory.transports[2]]
    assert sim.loop._owner_of(descriptors[1]) is None
    server._clients_closed = True
    factory.transports[0].abort()
    sim.settle()
    assert server.detached == 0
    factory.transports[2].abort()
    sim.settle()
    assert server.detached == 1
    assert server._clients == []
    listener.stop()
    sim.settle()


def test_server_whose_detach_raises_is_told_and_its_last_client_is_closed(sim, monkeypatch):
    class Failing(Clients):
        def _detach(self):
            raise LookupError("detach")

    told, factory, server = [], Connected(), Failing()
    listener = opening(sim, factory, server, [])
    listener.start()
    fd = sim.wire().sock.detach()
    sim.driver.arrive(LISTENING, fd)
    sim.settle()
    server._clients_closed = True
    factory.transports[0].abort()
    with monkeypatch.context() as patch:
        patch.setattr(
            sys, "unraisablehook", lambda what: told.append((what.exc_type, what.object))
        )
        sim.settle()
    assert told == [(LookupError, server)]
    told.clear()
    assert factory.transports[0]._state == "closed"
    assert fd in sim.driver.closed
    listener.stop()
    sim.settle()


def test_listener_tells_of_each_connection_in_debug_mode(sim):
    told, factory, server = [], Connected(), Clients()
    sim.loop._set_core_debug(True)
    listener = opening(sim, factory, server, told)
    listener.start()
    fd = sim.wire().sock.detach()
    sim.driver.arrive(LISTENING, fd)
    sim.settle()
    assert told == [(fd, factory, factory.transports[0], None)]
    factory.transports[0].abort()
    listener.stop()
    sim.settle()


def closed_server():
    server = Clients()
    server._clients_closed = True
    return server


def raising():
    raise LookupError("no protocol today")


@pytest.mark.parametrize(
    ("factory", "server", "exception"),
    [
        (raising, Clients, LookupError),
        (Connected(), object, TypeError),
        (Connected(), closed_server, AssertionError),
        (len, Clients, TypeError),
    ],
    ids=["factory raises", "no server", "closed server", "factory wants arguments"],
)
def test_connection_that_cannot_be_opened_is_told_and_its_descriptor_left_to_the_callback(
    sim, factory, server, exception
):
    told = []
    listener = opening(sim, factory, server(), told)
    listener.start()
    fd = descriptor()
    sim.driver.arrive(LISTENING, fd)
    sim.settle()
    [(result, protocol, transport, exc)] = told
    assert (result, transport) == (fd, None)
    assert protocol is (factory if isinstance(factory, Connected) else None)
    assert isinstance(exc, exception)
    assert is_open(fd)
    assert sim.loop._owner_of(fd) is None
    os.close(fd)
    listener.stop()
    sim.settle()
