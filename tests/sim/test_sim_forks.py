"""A callback that forks, with completions of its turn behind it: what is the child's, and what not.

The child ends by _exit() with what it found as its status, and leaves the driver alone.
"""

import asyncio
import os
import socket
import traceback

import pytest
from fake_driver import LENT, MORE
from simulation import is_open

from uring_loop import _core
from uring_loop._internal.datagrams import DatagramTransport

LISTENING = 10_000  # never used by a system call


class Fork:
    """Called back, it forks; `child` tells which of the two this is."""

    def __init__(self, driver):
        self.driver = driver
        self.pid = None

    def __call__(self, request):
        self.pid = os.fork()
        if self.pid == 0:
            # As the ring's: no memory of its is the child's.
            self.driver.lent.clear()

    def in_child(self, sim, claims):
        """In the child: end with the number of the first claim that does not hold, or 0."""
        if self.pid != 0:
            assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0
            return
        code = 100
        try:
            sim.turns(2)
            held = [claim() for claim in claims]
            code = held.index(False) + 1 if False in held else 0
        finally:
            os._exit(code)


def fork_first(sim):
    """A request that is the first to end in the next turn, and forks."""
    made = Fork(sim.driver)
    _, operation = sim.request(made)
    sim.driver.complete(operation, 0)
    return made


def turn_then_child(sim, fork, *claims):
    """The turn of the fork, in both; then the child goes on, and ends."""
    try:
        sim.turns(1)
    except BaseException:
        if fork.pid == 0:
            os.write(2, traceback.format_exc().encode())
            os._exit(101)
        raise
    fork.in_child(sim, claims)


def test_request_that_ended_before_the_fork_has_ended_for_both(sim):
    results = []
    fork = fork_first(sim)
    _, operation = sim.request(lambda request: results.append(request.result))
    sim.driver.complete(operation, 7)
    turn_then_child(sim, fork, lambda: results == [7])
    assert results == [7]


def test_connection_that_came_before_the_fork_is_the_parents_alone_and_a_file_is_both(sim):
    accepted, results = [], []
    listener = _core.Listener(sim.loop, LISTENING, accepted.append)
    listener.start()
    numbers = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    fork = fork_first(sim)
    accept = sim.driver.find("accept", LISTENING)
    sim.driver.complete(accept, numbers[0], MORE)
    sim.driver.complete(accept, numbers[1])
    request, operation = sim.request(lambda request: results.append(request.result), opens=True)
    sim.driver.complete(operation, numbers[2])
    turn_then_child(
        sim,
        fork,
        lambda: [is_open(number) for number in numbers] == [False, False, True],
        lambda: accepted == [],
        lambda: results == numbers[2:],
        lambda: sim.driver.find("accept", LISTENING) is not None,
    )
    assert accepted == numbers[:2]
    assert results == numbers[2:]
    del request
    for number in accepted:
        os.close(number)
    listener.stop()
    sim.settle()


@pytest.mark.parametrize("flags", [LENT | MORE, LENT], ids=["going on", "ended"])
def test_bytes_that_came_before_the_fork_are_the_parents_and_both_receive_on(sim, flags):
    _, protocol, wire = sim.connect()
    fork = fork_first(sim)
    sim.driver.complete(sim.driver.find("recv", wire.fd), 4, flags, b"once")

    def receives():
        sim.driver.arrive(wire.fd, b"new")
        sim.turns(2)
        return protocol.received == b"new"

    turn_then_child(
        sim,
        fork,
        lambda: protocol.received == b"",
        lambda: protocol.calls == ["connection_made"],
        receives,
    )
    assert protocol.received == b"once"
    sim.driver.arrive(wire.fd, b"new")
    sim.settle()
    assert protocol.received == b"oncenew"


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.heard = []

    def datagram_received(self, data, addr):
        self.heard.append(data)

    def error_received(self, exc):
        self.heard.append(exc)


@pytest.mark.parametrize("flags", [LENT | MORE, LENT], ids=["going on", "ended"])
def test_datagram_that_came_before_the_fork_is_the_parents_and_both_receive_on(sim, flags):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    fd, protocol = sock.fileno(), Datagrams()
    sim.driver.reuse(fd)
    transport = DatagramTransport(sim.loop, sock, protocol)
    sim.turns(1)
    fork = fork_first(sim)
    sim.driver.complete(sim.driver.find("recv_from", fd), 4, flags, b"once", bytes(16))

    def receives():
        sim.driver.arrive(fd, (b"new", bytes(16)))
        sim.turns(2)
        return protocol.heard == [b"new"]

    turn_then_child(sim, fork, lambda: protocol.heard == [], receives)
    assert protocol.heard == [b"once"]
    transport.abort()
    sim.settle()
