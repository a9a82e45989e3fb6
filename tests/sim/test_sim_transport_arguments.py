"""What the core's transports and listeners are made of, and what they are called with: refused."""

import socket

import pytest
from simulation import Recorder, StreamTransport

from uring_loop import _core


class WithoutTruth:
    """Of which nobody can say whether it is one."""

    def __bool__(self):
        raise LookupError("truth")


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


# What is wrong with the arguments of a transport, and what it raises.
MADE = {
    "no loop": ({"loop": None}, TypeError),
    "no descriptor": ({"sock": object()}, TypeError),
    "closed socket": ({"sock": closed_socket()}, ValueError),
    "no protocol": ({"protocol": object()}, AttributeError),
    "more": ({"more": 1}, TypeError),
}
STREAM = MADE | {
    "negative descriptor": ({"sock": -1}, ValueError),
    "large descriptor": ({"sock": 1 << 40}, OverflowError),
    "no server": ({"server": object()}, TypeError),
}
DATAGRAM = MADE | {
    "address without truth": ({"address": WithoutTruth()}, LookupError),
    "size that is none": ({"header_bytes": "8"}, TypeError),
}


@pytest.mark.parametrize(
    ("kind", "table"),
    [(_core.Stream, STREAM), (_core.Datagram, DATAGRAM)],
    ids=["stream", "datagram"],
)
def test_transport_of_wrong_arguments_is_refused_and_takes_nothing(sim, kind, table):
    one, other = socket.socketpair()
    with one, other:
        for name, (wrong, error) in table.items():
            right = {"loop": sim.loop, "sock": one, "protocol": Recorder(sim.driver)}
            with pytest.raises(error):
                kind(**right | wrong)
            assert sim.loop._owner_of(one.fileno()) is None, name
        other.send(b"still there")
        assert one.recv(100) == b"still there"
    assert sim.driver.operations == {}


def test_transport_is_made_only_once(sim):
    transport, protocol, wire = sim.connect()
    with socket.socket() as another, pytest.raises(RuntimeError, match="made only once"):
        transport.__init__(sim.loop, another, Recorder(sim.driver))
    sim.driver.arrive(wire.fd, b"data")
    sim.settle()
    assert protocol.received == b"data"
    assert sim.loop._owner_of(wire.fd) is transport


def test_transport_of_a_closed_loop_is_refused(sim):
    sim.loop._close()
    with socket.socket() as sock, pytest.raises(RuntimeError, match="Event loop is closed"):
        StreamTransport(sim.loop, sock, Recorder(sim.driver))


def test_transport_of_a_loop_that_schedules_nothing_is_given_up(sim):
    wire = sim.wire()
    sim.loop.call_soon = None
    with pytest.raises(TypeError):
        StreamTransport(sim.loop, wire.fd, Recorder(sim.driver))
    del sim.loop.call_soon
    assert sim.loop._owner_of(wire.fd) is None
    # The descriptor stays the caller's.
    wire.peer.send(b"still there")
    assert wire.sock.recv(100) == b"still there"


def calls(transport, loop):
    """(what is called with wrong arguments, the arguments, what it raises)"""
    return [
        (transport._set_limits, ("high", 1), TypeError),
        (transport._set_limits, (1,), TypeError),
        (transport._fatal_error, (), TypeError),
        (transport._fatal_error, (OSError(), 5), TypeError),
        (delattr, (transport, "_protocol"), AttributeError),
        (loop._owner_of, ("3",), TypeError),
        (_core.Listener, (), TypeError),
        (_core.Listener, (None, 3, print), TypeError),
        (_core.Listener, (loop, "3", print), TypeError),
        (_core.Listener, (loop, 1 << 40, print), OverflowError),
    ]


def test_wrong_arguments_are_refused_and_nothing_happens(sim):
    transport, protocol, _ = sim.connect()
    for function, arguments, error in calls(transport, sim.loop):
        with pytest.raises(error):
            function(*arguments)
    assert transport.get_protocol() is protocol
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    sim.settle()
    assert protocol.calls == ["connection_made"]


@pytest.mark.parametrize("descriptor", [-1, 1 << 20, 1 << 40, 1 << 70])
def test_number_that_is_no_descriptor_has_no_owner(sim, descriptor):
    assert sim.loop._owner_of(descriptor) is None
