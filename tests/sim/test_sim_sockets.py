"""sock_recv() and its family where a wait fails: who waits is told, and nobody waits for ever.

The socket pair is real, its readiness is the fake driver's to tell. Of orders and cancels the
machine sees to it.
"""

import asyncio
import errno
import select
import socket
import sys

import pytest

from uring_loop._internal import sockets


class Planned(Exception):
    """What a future of somebody's raises."""


class Future(asyncio.Future):
    """Whose method of this name raises."""

    raises = ""

    def done(self):
        if self.raises == "done":
            raise Planned
        return super().done()

    def set_result(self, result):
        if self.raises == "set_result":
            raise Planned
        return super().set_result(result)


@pytest.fixture
def pair(sim):
    """A socket under test, and its peer."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        sim.driver.reuse(one.fileno())
        yield one, other
        sim.settle()


def receive(sim, sock, size=10):
    return asyncio.Task(sockets.sock_recv(sim.loop, sock, size), loop=sim.loop)


def poll(sim, sock):
    return sim.driver.find("poll", sock.fileno())


@pytest.fixture
def unraisable(monkeypatch):
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda entry: found.append(entry.exc_type))
    return found


def test_receive_whose_wait_the_driver_refuses_raises_it_and_the_next_one_waits(sim, pair):
    sock, other = pair
    sim.driver.refusals["poll"] = -errno.ENOMEM
    task = receive(sim, sock)
    sim.turns(2)
    with pytest.raises(OSError) as caught:
        task.result()
    assert caught.value.errno == errno.ENOMEM
    sim.driver.refusals.clear()
    task = receive(sim, sock)
    sim.turns(2)
    other.send(b"x")
    sim.driver.complete(poll(sim, sock), select.POLLIN)
    sim.turns(3)
    assert task.result() == b"x"


def test_receive_for_which_the_loop_makes_no_future_raises_it_and_nobody_waits(sim, pair):
    sock, _ = pair

    def create_future():
        raise Planned

    sim.loop.create_future = create_future
    task = receive(sim, sock)
    sim.turns(2)
    with pytest.raises(Planned):
        task.result()
    assert not sim.loop._sock_is_waited(sock, False)
    assert poll(sim, sock) is None


def test_receive_whose_second_wait_the_driver_refuses_raises_it_and_lets_the_next_one_in(sim, pair):
    sock, _ = pair
    first, second = receive(sim, sock), receive(sim, sock)
    sim.turns(2)
    # Readiness that somebody else has used up.
    sim.driver.complete(poll(sim, sock), select.POLLIN)
    sim.driver.refusals["poll"] = -errno.ENOMEM
    sim.turns(3)
    with pytest.raises(OSError) as caught:
        first.result()
    assert caught.value.errno == errno.ENOMEM
    # Whose own wait was refused, too.
    with pytest.raises(OSError):
        second.result()
    assert poll(sim, sock) is None


def test_receive_behind_another_in_a_socket_closed_meanwhile_is_told_so(sim, pair):
    sock, _ = pair
    first, second = receive(sim, sock), receive(sim, sock)
    sim.turns(2)
    sock.close()
    first.cancel()
    sim.turns(4)
    assert first.cancelled()
    with pytest.raises(OSError) as caught:
        second.result()
    assert caught.value.errno == errno.EBADF


def test_receive_of_a_future_that_cannot_be_set_is_told_of_and_goes_on_by_its_next_one(
    sim, pair, unraisable
):
    sock, other = pair
    made = []

    def create_future():
        made.append(Future(loop=sim.loop))
        made[-1].raises = "set_result"
        return made[-1]

    sim.loop.create_future = create_future
    task = receive(sim, sock)
    sim.turns(2)
    other.send(b"x")
    sim.driver.complete(poll(sim, sock), select.POLLIN)
    sim.turns(2)
    assert unraisable == [Planned]
    assert not task.done()
    made[0].raises = ""
    made[0].set_result(None)
    sim.turns(3)
    assert task.result() == b"x"


def test_receive_behind_another_of_a_future_that_raises_when_its_turn_fails_is_told_of(
    sim, pair, unraisable
):
    sock, _ = pair
    first = receive(sim, sock)
    sim.turns(2)
    made = []

    def create_future():
        made.append(Future(loop=sim.loop))
        return made[-1]

    sim.loop.create_future = create_future
    second = receive(sim, sock)
    sim.turns(2)
    made[0].raises = "done"
    sim.driver.refusals["poll"] = -errno.ENOMEM
    first.cancel()
    sim.turns(3)
    assert unraisable == [Planned]
    made[0].raises = ""
    second.cancel()
    sim.turns(3)
    assert second.cancelled()
