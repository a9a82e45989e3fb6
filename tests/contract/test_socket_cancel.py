"""Cancelled sock_*() calls: nothing that had arrived is lost, nothing is leaked or left behind."""

import asyncio
import contextlib
import os
import socket

import pytest
from harness import PAIRS, Peer, Recorder, iterations, oracle_lacks, run, small_buffers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HUGE = bytes(range(256)) * 4096

TAKEN_TOO_EARLY = "it receives before its task is woken, and what it took goes with the task"
PAIR_IDS = sorted(PAIRS)


@contextlib.contextmanager
def connected(name="tcp", small=False):
    one, other = PAIRS[name]()
    with one, other:
        for sock in (one, other):
            sock.setblocking(False)
        if small:
            small_buffers(one, other)
        yield one, other


async def ended(task):
    """Wait for a cancelled task; whether it was cancelled rather than finished."""
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def by_recv(loop, sock, size):
    return await loop.sock_recv(sock, size)


async def by_recv_into(loop, sock, size):
    buffer = bytearray(size)
    return bytes(buffer[: await loop.sock_recv_into(sock, buffer)])


async def by_recvfrom(loop, sock, size):
    return (await loop.sock_recvfrom(sock, size))[0]


async def by_recvfrom_into(loop, sock, size):
    buffer = bytearray(size)
    return bytes(buffer[: (await loop.sock_recvfrom_into(sock, buffer))[0]])


async def by_plain_socket(_, sock, size):
    return await Peer(sock).recv(size)


async def by_transport(loop, sock, size):
    """A transport made on a duplicate of the socket, so that others can go on with it."""
    recorder = Recorder()
    duplicate = sock.dup()
    transport, _ = await loop.create_connection(lambda: recorder, sock=duplicate)
    await recorder.until_size(1)
    transport.pause_reading()
    data = bytes(recorder.data)
    transport.abort()
    await recorder.until_lost()
    return data


RECEIVERS = [by_recv, by_recv_into, by_recvfrom, by_recvfrom_into]


@pytest.mark.parametrize("pair", PAIR_IDS)
@pytest.mark.parametrize("receive", RECEIVERS)
@pytest.mark.parametrize("again", [*RECEIVERS, by_plain_socket, by_transport])
def test_receive_cancelled_while_waiting_leaves_what_comes_to_the_next(loop, pair, receive, again):
    with connected(pair) as (one, other):

        async def main():
            task = asyncio.ensure_future(receive(loop, one, 100))
            await iterations(3)
            task.cancel()
            other.send(b"kept")
            assert await ended(task)
            return await again(loop, one, 100)

        assert run(loop, main()) == b"kept"


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("again", [*RECEIVERS, by_plain_socket, by_transport])
def test_receive_cancelled_as_the_bytes_arrive_loses_none(loop, loop_kind, turns, again):
    oracle_lacks(loop_kind, True, TAKEN_TOO_EARLY)
    with connected() as (one, other):

        async def main():
            task = asyncio.ensure_future(loop.sock_recv(one, 100))
            await iterations(3)
            other.send(b"kept")
            await iterations(turns)
            task.cancel()
            if await ended(task):
                return await again(loop, one, 100)
            return task.result()

        assert run(loop, main()) == b"kept"


@pytest.mark.parametrize("turns", range(5))
def test_receive_cancelled_before_its_turn_passes_the_bytes_to_the_one_behind(
    loop, loop_kind, turns
):
    oracle_lacks(loop_kind, True, "a second waiter takes the place of the first")
    with connected() as (one, other):

        async def main():
            first = asyncio.ensure_future(loop.sock_recv(one, 100))
            second = asyncio.ensure_future(loop.sock_recv(one, 100))
            await iterations(3)
            other.send(b"kept")
            await iterations(turns)
            first.cancel()
            if await ended(first):
                return await second
            assert not second.done()
            second.cancel()
            await ended(second)
            return first.result()

        assert run(loop, main()) == b"kept"


def test_receive_with_a_timeout_again_and_again_loses_nothing(loop):
    with connected() as (one, other):

        async def main():
            got = bytearray()

            async def send():
                for number in range(500):
                    other.send(b"%03d" % number)
                    await asyncio.sleep(0)

            sender = asyncio.ensure_future(send())
            while len(got) < 1500:
                task = asyncio.ensure_future(loop.sock_recv(one, 7))
                await iterations(len(got) % 3)
                task.cancel()
                if not await ended(task):
                    got += task.result()
                elif sender.done():
                    got += await loop.sock_recv(one, 7)
            await sender
            return bytes(got)

        if loop.__class__.__module__.startswith("asyncio"):
            pytest.skip(f"stock asyncio of this Python: {TAKEN_TOO_EARLY}")
        assert run(loop, main()) == b"".join(b"%03d" % number for number in range(500))


class Stream:
    """A connection driven step by step; what was sent must be what was received."""

    def __init__(self, loop, sock, peer):
        self.loop = loop
        self.sock = sock
        self.peer = peer
        self.sent = bytearray()
        self.got = bytearray()
        self.tasks = []

    def send(self, size):
        data = bytes((len(self.sent) + index) % 251 for index in range(size))
        self.peer.send(data)
        self.sent += data

    async def note(self, receive, size):
        # Nothing happens between the receive and the note of what it gave.
        self.got += await receive(self.loop, self.sock, size)

    def receive(self, kind, size):
        self.tasks.append(asyncio.ensure_future(self.note(RECEIVERS[kind], size)))

    def cancel(self, index):
        if self.tasks:
            self.tasks[index % len(self.tasks)].cancel()

    async def finish(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        while len(self.got) < len(self.sent):
            self.got += await self.loop.sock_recv(self.sock, 1000)
        assert self.got == self.sent


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 60)),
        st.tuples(st.just("receive"), st.integers(0, 3), st.integers(1, 80)),
        st.tuples(st.just("cancel"), st.integers(0, 5)),
        st.tuples(st.just("turns"), st.integers(1, 4)),
    ),
    max_size=40,
)


@pytest.mark.parametrize("pair", PAIR_IDS)
@given(steps=STEPS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_receives_and_cancels_in_any_order_keep_every_byte_in_order(
    loop, loop_kind, pair, steps
):
    oracle_lacks(loop_kind, True, TAKEN_TOO_EARLY)
    with connected(pair) as (one, other):

        async def main():
            stream = Stream(loop, one, other)
            for name, *arguments in steps:
                if name == "turns":
                    await iterations(*arguments)
                else:
                    getattr(stream, name)(*arguments)
            await stream.finish()

        run(loop, main())


# Sending.


@pytest.mark.parametrize("pair", PAIR_IDS)
def test_sendall_cancelled_has_sent_a_beginning_and_sends_no_more(loop, pair):
    with connected(pair, small=True) as (one, other):

        async def main():
            data = bytearray(HUGE)
            task = asyncio.ensure_future(loop.sock_sendall(one, data))
            await iterations(4)
            task.cancel()
            assert await ended(task)
            # Whoever cancelled it may do with the buffer what he likes.
            data[:] = bytes(len(data))
            data.clear()
            await iterations(3)
            one.shutdown(socket.SHUT_WR)
            got = await Peer(other).recv_all()
            return 0 < len(got) < len(HUGE) and HUGE.startswith(got)

        assert run(loop, main())


def test_sendall_cancelled_in_the_queue_sends_nothing(loop, loop_kind):
    oracle_lacks(loop_kind, True, "a second waiter takes the place of the first")
    with connected(small=True) as (one, other):

        async def main():
            tasks = [
                asyncio.ensure_future(loop.sock_sendall(one, data))
                for data in (HUGE, b"never", b"last")
            ]
            await iterations(4)
            tasks[1].cancel()
            assert await ended(tasks[1])
            got = bytearray()
            while len(got) < len(HUGE) + 4:
                got += await loop.sock_recv(other, 1 << 16)
            await asyncio.gather(tasks[0], tasks[2])
            return bytes(got)

        assert run(loop, main()) == HUGE + b"last"


def test_sendall_after_a_cancelled_one_works(loop):
    with connected(small=True) as (one, other):

        async def main():
            task = asyncio.ensure_future(loop.sock_sendall(one, HUGE))
            await iterations(4)
            task.cancel()
            assert await ended(task)
            peer = asyncio.ensure_future(Peer(other).recv_all())
            await loop.sock_sendall(one, b"the end")
            one.shutdown(socket.SHUT_WR)
            return await peer

        assert run(loop, main()).endswith(b"the end")


# Accepting and connecting.


def listener():
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("turns", range(5))
def test_accept_cancelled_as_somebody_connects_leaves_him_to_the_next(loop, loop_kind, turns):
    oracle_lacks(loop_kind, True, "it accepts before its task is woken, and drops the socket")
    with listener() as server, socket.socket() as client:

        async def main():
            task = asyncio.ensure_future(loop.sock_accept(server))
            await iterations(3)
            client.connect(server.getsockname())
            await iterations(turns)
            task.cancel()
            if await ended(task):
                connection, address = await loop.sock_accept(server)
            else:
                connection, address = task.result()
            connection.close()
            return address == client.getsockname()

        assert run(loop, main())


def test_accept_cancelled_again_and_again_leaks_nothing(loop):
    with listener() as server:

        async def main():
            before = len(os.listdir("/proc/self/fd"))
            for turns in range(50):
                task = asyncio.ensure_future(loop.sock_accept(server))
                await iterations(turns % 4)
                task.cancel()
                assert await ended(task)
            return len(os.listdir("/proc/self/fd")) - before

        assert run(loop, main()) == 0


@pytest.mark.parametrize("turns", range(4))
def test_connect_cancelled_leaves_a_socket_to_close(loop, turns):
    # A listener whose backlog is full answers nobody: the connection stays on its way.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        client = socket.socket()
        client.setblocking(False)

        async def main():
            task = asyncio.ensure_future(loop.sock_connect(client, server.getsockname()))
            await iterations(turns)
            task.cancel()
            assert await ended(task)
            client.close()
            await iterations(3)

        run(loop, main())
        for filler in fillers:
            filler.close()


def test_connect_cancelled_and_done_again_connects(loop):
    with listener() as server, socket.socket() as client:
        client.setblocking(False)

        async def main():
            task = asyncio.ensure_future(loop.sock_connect(client, server.getsockname()))
            await asyncio.sleep(0)
            task.cancel()
            await ended(task)
            with contextlib.suppress(OSError):
                # EISCONN, where the first had got through already.
                await loop.sock_connect(client, server.getsockname())
            return client.getpeername() == server.getsockname()

        assert run(loop, main())


# Closed meanwhile.


@pytest.mark.parametrize("receive", RECEIVERS)
def test_socket_closed_right_after_its_receiver_was_cancelled_is_closed(loop, receive):
    with connected() as (one, other):

        async def main():
            task = asyncio.ensure_future(receive(loop, one, 100))
            await iterations(3)
            task.cancel()
            one.close()
            assert await ended(task)
            return await Peer(other).recv()

        assert run(loop, main()) == b""


def test_socket_closed_under_its_receiver_lets_the_receiver_be_cancelled(loop):
    with connected() as (one, other):

        async def main():
            task = asyncio.ensure_future(loop.sock_recv(one, 100))
            await iterations(3)
            one.close()
            await iterations(3)
            task.cancel()
            assert await ended(task)
            return await Peer(other).recv()

        assert run(loop, main()) == b""


def test_number_of_a_socket_closed_under_its_receiver_can_be_used_again(loop, loop_kind):
    oracle_lacks(loop_kind, True, "it takes the number for watched and never asks epoll")
    with connected() as (one, other):

        async def main():
            number = one.fileno()
            task = asyncio.ensure_future(loop.sock_recv(one, 100))
            await iterations(3)
            one.close()
            with connected("unix") as (new, new_peer):
                # The lowest free number is the one that was just closed.
                assert number in (new.fileno(), new_peer.fileno())
                mine, peer = (new, new_peer) if new.fileno() == number else (new_peer, new)
                received = asyncio.ensure_future(loop.sock_recv(mine, 100))
                await iterations(3)
                peer.send(b"for the new one")
                got = await asyncio.wait_for(received, 10)
                task.cancel()
                with contextlib.suppress(OSError):
                    # Where the wait saw the close, there is a bad descriptor to report.
                    await ended(task)
            return got

        assert run(loop, main()) == b"for the new one"
