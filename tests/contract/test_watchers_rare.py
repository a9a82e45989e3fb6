"""add_reader and add_writer where programs seldom go: odd descriptors, odd moments."""

import asyncio
import contextlib
import ctypes
import os
import select
import socket
import struct
import sys

import pytest
from harness import PATIENCE_S, iterations, oracle_lacks, run

LIBC = ctypes.CDLL(None, use_errno=True)
IN_CREATE = 0x100


@pytest.fixture
def sockets():
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        yield one, other


@contextlib.contextmanager
def descriptor(number):
    assert number >= 0, os.strerror(ctypes.get_errno())
    try:
        yield number
    finally:
        os.close(number)


async def ready_once(loop, add, remove, fd):
    ready = loop.create_future()
    add(fd, lambda: ready.done() or ready.set_result(None))
    try:
        await asyncio.wait_for(ready, PATIENCE_S)
    finally:
        remove(fd)


def test_timerfd_is_watched(loop):
    async def main(fd):
        soon = struct.pack("qqqq", 0, 0, 0, 1_000_000)
        assert LIBC.timerfd_settime(fd, 0, soon, None) == 0
        await ready_once(loop, loop.add_reader, loop.remove_reader, fd)
        return struct.unpack("Q", os.read(fd, 8))[0]

    with descriptor(LIBC.timerfd_create(1, os.O_NONBLOCK)) as fd:
        assert run(loop, main(fd)) >= 1


def test_inotify_is_watched(loop, tmp_path):
    async def main(fd):
        assert LIBC.inotify_add_watch(fd, os.fsencode(tmp_path), IN_CREATE) >= 0
        loop.call_soon((tmp_path / "file").touch)
        await ready_once(loop, loop.add_reader, loop.remove_reader, fd)
        return b"file" in os.read(fd, 4096)

    with descriptor(LIBC.inotify_init1(os.O_NONBLOCK)) as fd:
        assert run(loop, main(fd))


def test_pidfd_of_a_child_is_watched(loop):
    async def main(fd):
        await ready_once(loop, loop.add_reader, loop.remove_reader, fd)

    pid = os.posix_spawn("/bin/true", ["true"], {})
    try:
        with descriptor(os.pidfd_open(pid)) as fd:
            run(loop, main(fd))
    finally:
        os.waitpid(pid, 0)


def test_fifo_is_watched_in_both_directions(loop, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    async def main(reader, writer):
        await ready_once(loop, loop.add_writer, loop.remove_writer, writer)
        loop.call_soon(os.write, writer, b"x")
        await ready_once(loop, loop.add_reader, loop.remove_reader, reader)
        return os.read(reader, 10)

    with descriptor(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)) as reader:
        with descriptor(os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK)) as writer:
            assert run(loop, main(reader, writer)) == b"x"


@pytest.mark.parametrize("number", [2**31, 2**40, 2**80])
def test_number_too_large_for_a_descriptor_is_watched_by_nobody(loop, number):
    with pytest.raises(OverflowError):
        loop.add_reader(number, print)
    with pytest.raises(OverflowError):
        loop.add_writer(number, print)
    assert loop.remove_reader(number) is False
    assert loop.remove_writer(number) is False


@pytest.mark.parametrize("path", ["/dev/null", "."])
def test_what_epoll_refuses_is_refused(loop, path):
    with descriptor(os.open(path, os.O_RDONLY)) as fd:
        with select.epoll() as epoll, pytest.raises(PermissionError):
            epoll.register(fd, select.EPOLLIN)
        with pytest.raises(PermissionError):
            loop.add_reader(fd, print)
        assert loop.remove_reader(fd) is False


def test_epoll_of_the_users_own_shows_level_semantics(loop, sockets):
    one, other = sockets

    async def main(epoll):
        epoll.register(one, select.EPOLLIN)
        calls = []
        done = loop.create_future()

        def ready():
            calls.append(epoll.poll(0))
            if len(calls) == 3:
                done.set_result(None)

        loop.add_reader(epoll, ready)
        other.send(b"x")
        await done
        loop.remove_reader(epoll)
        return calls

    with select.epoll() as epoll:
        assert run(loop, main(epoll)) == [[(one.fileno(), select.EPOLLIN)]] * 3


def test_reader_removing_itself_and_the_writer_is_the_last_call(loop, sockets):
    one, other = sockets

    async def main():
        calls = []

        def readable():
            calls.append("reader")
            assert loop.remove_reader(one) is True
            assert loop.remove_writer(one) is True

        other.send(b"x")
        loop.add_reader(one, readable)
        loop.add_writer(one, calls.append, "writer")
        await iterations(6)
        return calls

    # asyncio queues both sides of an event before it calls either; a removed one is not called.
    assert run(loop, main()) == ["reader"]


def test_reader_replacing_itself_hands_over(loop, sockets):
    one, other = sockets

    async def main():
        calls = []
        done = loop.create_future()

        def second():
            calls.append("second")
            loop.remove_reader(one)
            done.set_result(None)

        def first():
            calls.append("first")
            loop.add_reader(one, second)

        other.send(b"x")
        loop.add_reader(one, first)
        await done
        return calls

    assert run(loop, main()) == ["first", "second"]


def test_reader_removing_and_adding_itself_is_called_again(loop, sockets):
    one, other = sockets

    async def main():
        calls = []
        done = loop.create_future()

        def ready():
            calls.append(1)
            loop.remove_reader(one)
            if len(calls) < 5:
                loop.add_reader(one, ready)
            else:
                done.set_result(None)

        other.send(b"x")
        loop.add_reader(one, ready)
        await done
        return len(calls)

    assert run(loop, main()) == 5


def test_reader_removing_its_neighbours_stops_them_in_that_batch(loop):
    pairs = [socket.socketpair() for _ in range(5)]

    async def main():
        calls = []

        def ready(number):
            calls.append(number)
            for one, _ in pairs:
                loop.remove_reader(one)

        for number, (one, other) in enumerate(pairs):
            loop.add_reader(one, ready, number)
            other.send(b"x")
        await iterations(6)
        return calls

    try:
        assert len(run(loop, main())) == 1
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()


def test_reader_that_never_reads_does_not_starve_the_others(loop):
    pairs = [socket.socketpair() for _ in range(200)]

    async def main():
        counts = [0] * len(pairs)

        def ready(number):
            counts[number] += 1

        for number, (one, other) in enumerate(pairs):
            loop.add_reader(one, ready, number)
            other.send(b"x")
        while min(counts) < 5:
            await asyncio.sleep(0)
        for one, _ in pairs:
            loop.remove_reader(one)
        # 200 are ready all the time: each turn serves some, and nobody waits for ever.
        return max(counts) - min(counts)

    try:
        assert run(loop, main()) <= 5
    finally:
        for pair in pairs:
            for sock in pair:
                sock.close()


def test_hang_up_calls_reader_and_writer(loop, sockets):
    one, other = sockets

    async def main():
        calls = set()
        done = loop.create_future()

        def called(name):
            calls.add(name)
            if len(calls) == 2 and not done.done():
                done.set_result(None)

        loop.add_reader(one, called, "reader")
        loop.add_writer(one, called, "writer")
        other.close()
        await done
        loop.remove_reader(one)
        loop.remove_writer(one)
        return calls

    assert run(loop, main()) == {"reader", "writer"}


def test_file_outliving_its_watched_descriptor_calls_nobody_and_costs_no_turns(loop, loop_kind):
    oracle_lacks(loop_kind, True, "epoll wakes it for such a file for ever")
    one, other = socket.socketpair()
    duplicate = one.dup()

    async def main():
        calls = []
        number = one.fileno()
        loop.add_reader(one, calls.append, "stale")
        one.close()
        assert loop.remove_reader(number) is True
        other.send(b"x")
        before = loop.statistics()["turns"]
        await asyncio.sleep(0.02)
        return calls, loop.statistics()["turns"] - before

    with one, other, duplicate:
        calls, turns = run(loop, main())
    assert calls == []
    assert turns < 10


def test_descriptor_closed_and_reused_while_watched_is_not_the_new_ones_watch(loop, sockets):
    async def main():
        calls = []
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(number, calls.append, "old")
        one.close()
        other.close()
        new, new_other = socket.socketpair()
        assert number in (new.fileno(), new_other.fileno())
        new.send(b"x")
        new_other.send(b"x")
        await iterations(5)
        loop.remove_reader(number)
        new.close()
        new_other.close()
        return calls

    assert run(loop, main()) == []


async def served(loop, number, calls):
    """A server of the loop's own gets the number, and a connection."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    owner = server.sockets[0].fileno()
    with socket.create_connection(server.sockets[0].getsockname()):
        await iterations(5)
    server.close()
    return owner


async def connected(loop, number, calls):
    """A transport gets the number, and bytes."""
    one, other = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
    owner = one.fileno()
    other.send(b"x")
    await iterations(5)
    transport.abort()
    other.close()
    return owner


async def received(loop, number, calls):
    """A plain socket gets the number, and is waited for."""
    one, other = socket.socketpair()
    one.setblocking(False)
    owner = one.fileno()
    task = loop.create_task(loop.sock_recv(one, 10))
    await asyncio.sleep(0)
    other.send(b"x")
    await iterations(5)
    task.cancel()
    one.close()
    other.close()
    return owner


@pytest.mark.parametrize("owner", [served, connected, received])
def test_watch_of_a_closed_descriptor_is_not_called_for_the_next_owner_of_its_number(loop, owner):
    async def main():
        calls = []
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(number, calls.append, "old")
        one.close()
        # What asyncio does is the judge of `calls` only: it registers the number no more.
        assert await owner(loop, number, calls) == number
        loop.remove_reader(number)
        other.close()
        return calls

    assert run(loop, main()) == []


@pytest.mark.parametrize("old, new", [("reader", "writer"), ("writer", "reader")])
def test_watch_of_a_reused_number_does_not_bring_back_its_old_other_side(loop, loop_kind, old, new):
    oracle_lacks(loop_kind, True, "its selector refuses such a number once, with ENOENT")

    async def main():
        calls = set()
        one, other = socket.socketpair()
        number = one.fileno()
        getattr(loop, f"add_{old}")(number, calls.add, old)
        one.close()
        other.close()
        one, other = socket.socketpair()
        mine, peer = (one, other) if one.fileno() == number else (other, one)
        peer.send(b"x")
        getattr(loop, f"add_{new}")(number, calls.add, new)
        await iterations(5)
        removed = getattr(loop, f"remove_{old}")(number), getattr(loop, f"remove_{new}")(number)
        mine.close()
        peer.close()
        return calls, removed

    assert run(loop, main()) == ({new}, (False, True))


def test_watch_of_a_number_reused_after_removal_is_the_new_ones(loop):
    async def main():
        calls = []
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(number, calls.append, "old")
        loop.remove_reader(number)
        one.close()
        other.close()
        new, new_other = socket.socketpair()
        mine, peer = (new, new_other) if new.fileno() == number else (new_other, new)
        done = loop.create_future()
        loop.add_reader(number, lambda: done.done() or done.set_result(mine.recv(10)))
        peer.send(b"new")
        result = await done
        loop.remove_reader(number)
        new.close()
        new_other.close()
        return calls, result

    assert run(loop, main()) == ([], b"new")


def test_watch_beside_a_waiting_receiver_serves_both(loop, loop_kind, sockets):
    oracle_lacks(loop_kind, True, "a receiver takes the place of the reader, or the reverse")
    one, other = sockets

    async def main():
        calls = []
        task = asyncio.ensure_future(loop.sock_recv(one, 10))
        await iterations(2)
        loop.add_reader(one, calls.append, 1)
        other.send(b"x")
        got = await task
        await iterations(2)
        assert loop.remove_reader(one) is True
        return got, bool(calls)

    got, _ = run(loop, main())
    assert got == b"x"


def test_watch_removed_by_another_callback_of_the_same_turn_is_not_called(loop, sockets):
    one, other = sockets

    async def main():
        calls = []
        other.send(b"x")
        loop.add_reader(one, calls.append, 1)
        loop.call_soon(loop.remove_reader, one)
        await iterations(5)
        return calls

    assert run(loop, main()) == []


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_loop_closed_while_it_adds_a_watch_refuses_it(make_loop, sockets, method):
    """In debug mode making the handle's traceback runs Python, and what signals run."""
    one, _ = sockets
    loop = make_loop()
    loop.set_debug(True)

    def profile(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "extract_stack":
            sys.setprofile(None)
            loop.close()

    sys.setprofile(profile)
    try:
        # AttributeError: stock asyncio's selector has gone.
        with pytest.raises((RuntimeError, AttributeError)):
            getattr(loop, method)(one, print)
    finally:
        sys.setprofile(None)
    assert loop.is_closed()
