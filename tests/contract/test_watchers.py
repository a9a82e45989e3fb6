"""add_reader, add_writer and their removal, on every kind of descriptor."""

import asyncio
import os
import pty
import select
import socket
import tty

import pytest
from harness import iterations, run


class Pair:
    """Two ends of something with descriptors: bytes written to `other` make `one` readable."""

    def __init__(self, one, other):
        self.one = one
        self.other = other

    def close(self):
        os.close(self.one)
        if self.other != self.one:
            os.close(self.other)


def pipe_pair():
    return Pair(*os.pipe())


def socket_pair():
    one, other = socket.socketpair()
    return Pair(one.detach(), other.detach())


def tty_pair():
    controller, terminal = pty.openpty()
    return Pair(terminal, controller)


PAIRS = {"pipe": pipe_pair, "socket": socket_pair, "tty": tty_pair}


@pytest.fixture(params=PAIRS)
def pair(request):
    pair = PAIRS[request.param]()
    yield pair
    pair.close()


@pytest.fixture
def sockets():
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


async def called(loop, add, descriptor, remove):
    """Wait until a watch of the descriptor calls back, then take it away."""
    ready = loop.create_future()
    assert add(descriptor, lambda: ready.done() or ready.set_result(None)) is None
    await ready
    assert remove(descriptor) is True
    assert remove(descriptor) is False


def test_add_reader_calls_back_when_readable(loop, pair):
    async def main():
        loop.call_soon(os.write, pair.other, b"line\n")
        await called(loop, loop.add_reader, pair.one, loop.remove_reader)
        assert os.read(pair.one, 100) == b"line\n"

    run(loop, main())


def test_add_reader_is_level_triggered(loop, pair):
    async def main():
        seen = []
        done = loop.create_future()

        def ready():
            seen.append(os.read(pair.one, 1))
            if len(seen) == 5:
                done.set_result(None)

        os.write(pair.other, b"line\n")
        loop.add_reader(pair.one, ready)
        await done
        await iterations(5)
        loop.remove_reader(pair.one)
        return b"".join(seen)

    if os.isatty(pair.one):
        tty.setraw(pair.one)
    assert run(loop, main()) == b"line\n"


def test_add_reader_not_reading_is_called_again_and_again(loop, sockets):
    async def main():
        count = 0
        done = loop.create_future()

        def ready():
            nonlocal count
            count += 1
            if count == 10:
                loop.remove_reader(sockets[0])
                done.set_result(None)

        loop.add_reader(sockets[0], ready)
        sockets[1].send(b"x")
        await done
        await iterations(5)
        return count

    assert run(loop, main()) == 10


def test_add_reader_is_called_at_most_once_an_iteration(loop, sockets):
    async def main():
        count = 0

        def ready():
            nonlocal count
            count += 1

        sockets[1].send(b"x")
        loop.add_reader(sockets[0], ready)
        await iterations(10)
        loop.remove_reader(sockets[0])
        return count

    assert 1 <= run(loop, main()) <= 11


def test_add_writer_calls_back_when_writable(loop, pair):
    async def main():
        await called(loop, loop.add_writer, pair.other, loop.remove_writer)

    run(loop, main())


def test_add_writer_waits_until_there_is_room(loop, sockets):
    async def main():
        one, other = sockets
        one.setblocking(False)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                one.send(bytes(65536))
        ready = loop.create_future()
        loop.add_writer(one, lambda: ready.done() or ready.set_result(None))
        await iterations(10)
        assert not ready.done()
        with pytest.raises(BlockingIOError):
            while True:
                other.recv(65536)
        await ready
        loop.remove_writer(one)

    run(loop, main())


def test_reader_and_writer_of_one_descriptor_work_side_by_side(loop, sockets):
    async def main():
        one, other = sockets
        writable = loop.create_future()
        readable = loop.create_future()
        loop.add_reader(one, lambda: readable.done() or readable.set_result(None))
        loop.add_writer(one, lambda: writable.done() or writable.set_result(None))
        await writable
        assert not readable.done()
        assert loop.remove_writer(one) is True
        other.send(b"x")
        await readable
        assert loop.remove_reader(one) is True
        assert loop.remove_writer(one) is False

    run(loop, main())


def test_reader_removed_keeps_the_writer(loop, sockets):
    async def main():
        one, _ = sockets
        loop.add_reader(one, pytest.fail)
        writable = loop.create_future()
        loop.add_writer(one, lambda: writable.done() or writable.set_result(None))
        assert loop.remove_reader(one) is True
        await writable
        assert loop.remove_writer(one) is True

    run(loop, main())


def test_add_reader_arguments_are_passed(loop, sockets):
    async def main():
        got = loop.create_future()
        loop.add_reader(
            sockets[0], lambda *arguments: got.done() or got.set_result(arguments), 1, "two", None
        )
        sockets[1].send(b"x")
        assert await got == (1, "two", None)
        loop.remove_reader(sockets[0])

    run(loop, main())


def test_add_reader_again_replaces_the_callback(loop, sockets):
    async def main():
        one, other = sockets
        loop.add_reader(one, pytest.fail)
        ready = loop.create_future()
        loop.add_reader(one, lambda: ready.done() or ready.set_result(None))
        other.send(b"x")
        await ready
        assert loop.remove_reader(one) is True
        assert loop.remove_reader(one) is False

    run(loop, main())


def test_add_reader_replaced_in_the_batch_it_is_due_the_old_is_not_called(loop):
    """Both descriptors are ready in one iteration; whoever is first replaces the other."""

    async def main():
        pairs = [socket.socketpair() for _ in range(2)]
        seen = []

        def first(number):
            seen.append(("first", number))
            other = 1 - number
            loop.add_reader(pairs[other][0], second, other)
            loop.remove_reader(pairs[number][0])

        def second(number):
            seen.append(("second", number))
            loop.remove_reader(pairs[number][0])

        for number in range(2):
            loop.add_reader(pairs[number][0], first, number)
            pairs[number][1].send(b"x")
        await iterations(10)
        for one, other in pairs:
            loop.remove_reader(one)
            one.close()
            other.close()
        return seen

    seen = run(loop, main())
    assert len(seen) == 2
    assert seen[0][0] == "first"
    assert seen[1] == ("second", 1 - seen[0][1])


def test_reader_removed_in_the_batch_it_is_due_is_not_called(loop):
    async def main():
        pairs = [socket.socketpair() for _ in range(10)]
        seen = []

        def ready(number):
            seen.append(number)
            for one, _ in pairs:
                loop.remove_reader(one)

        for number, (one, other) in enumerate(pairs):
            other.send(b"x")
            loop.add_reader(one, ready, number)
        await iterations(10)
        for one, other in pairs:
            one.close()
            other.close()
        return seen

    assert len(run(loop, main())) == 1


def test_descriptor_closed_and_its_number_reused_in_the_batch_calls_no_stranger(loop):
    async def main():
        pairs = [socket.socketpair() for _ in range(2)]
        fresh = []
        seen = []

        def ready(number):
            seen.append(number)
            other = 1 - number
            loop.remove_reader(pairs[other][0])
            pairs[other][0].close()
            fresh.extend(socket.socketpair())
            for sock in fresh:
                loop.add_reader(sock, seen.append, "stranger")
            loop.remove_reader(pairs[number][0])

        for number, (one, other) in enumerate(pairs):
            other.send(b"x")
            loop.add_reader(one, ready, number)
        await iterations(10)
        for sock in fresh:
            loop.remove_reader(sock)
            sock.close()
        for one, other in pairs:
            loop.remove_reader(one) if one.fileno() != -1 else None
            one.close()
            other.close()
        return seen

    seen = run(loop, main())
    assert len(seen) == 1
    assert seen[0] in (0, 1)


def test_remove_reader_of_an_unknown_descriptor_is_false(loop, sockets):
    assert loop.remove_reader(sockets[0]) is False
    assert loop.remove_writer(sockets[0].fileno()) is False
    assert loop.remove_reader(10_000) is False


def test_descriptor_closed_before_removal_can_still_be_removed(loop):
    async def main():
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(one, pytest.fail)
        one.close()
        assert loop.remove_reader(number) is True
        other.close()
        await iterations(3)

    run(loop, main())


def test_objects_closed_before_removal_are_known_by_what_they_were(loop):
    async def main():
        socks = [*socket.socketpair(), *socket.socketpair()]
        for sock in socks[:2]:
            loop.add_reader(sock, pytest.fail)
        loop.add_writer(socks[2], pytest.fail)
        for sock in socks:
            sock.close()
        assert loop.remove_reader(socks[1]) is True
        assert loop.remove_writer(socks[2]) is True
        assert loop.remove_reader(socks[0]) is True
        for sock in (socks[0], socks[3]):
            with pytest.raises(ValueError, match="^Invalid file"):
                loop.remove_reader(sock)
        await iterations(3)

    run(loop, main())


def test_descriptor_closed_without_removal_and_reused_can_be_watched_anew(loop):
    async def main():
        one, other = socket.socketpair()
        number = one.fileno()
        loop.add_reader(one, pytest.fail)
        await iterations(1)
        one.close()
        other.close()
        fresh, peer = socket.socketpair()
        if fresh.fileno() != number:
            os.dup2(fresh.fileno(), number)
            fresh.close()
            fresh = socket.socket(fileno=number)
        loop.remove_reader(number)
        ready = loop.create_future()
        loop.add_reader(number, lambda: ready.done() or ready.set_result(None))
        peer.send(b"x")
        await ready
        assert loop.remove_reader(number) is True
        fresh.close()
        peer.close()

    run(loop, main())


def test_reader_sees_the_end_of_the_stream(loop, sockets):
    async def main():
        loop.call_soon(sockets[1].close)
        await called(loop, loop.add_reader, sockets[0], loop.remove_reader)
        assert sockets[0].recv(1) == b""

    run(loop, main())


def test_reader_of_a_pipe_sees_the_writer_go(loop):
    async def main():
        read, write = os.pipe()
        loop.call_soon(os.close, write)
        await called(loop, loop.add_reader, read, loop.remove_reader)
        assert os.read(read, 1) == b""
        os.close(read)

    run(loop, main())


def test_writer_of_a_pipe_sees_the_reader_go(loop):
    async def main():
        read, write = os.pipe()
        os.set_blocking(write, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(write, bytes(65536))
        loop.call_soon(os.close, read)
        await called(loop, loop.add_writer, write, loop.remove_writer)
        with pytest.raises(BrokenPipeError):
            os.write(write, b"x")
        os.close(write)

    run(loop, main())


def test_listening_socket_is_readable_when_someone_connects(loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            await called(loop, loop.add_reader, listener, loop.remove_reader)
            listener.accept()[0].close()
            client.close()

    run(loop, main())


def test_eventfd_is_watched(loop):
    async def main():
        descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        loop.call_soon(os.eventfd_write, descriptor, 5)
        await called(loop, loop.add_reader, descriptor, loop.remove_reader)
        assert os.eventfd_read(descriptor) == 5
        await called(loop, loop.add_writer, descriptor, loop.remove_writer)
        os.close(descriptor)

    run(loop, main())


def test_epoll_inside_is_watched(loop, sockets):
    async def main():
        with select.epoll() as inner:
            inner.register(sockets[0], select.EPOLLIN)
            loop.call_soon(sockets[1].send, b"x")
            await called(loop, loop.add_reader, inner, loop.remove_reader)
            assert inner.poll(0) == [(sockets[0].fileno(), select.EPOLLIN)]

    run(loop, main())


def test_loop_inside_another_loops_descriptors_is_no_matter(loop, make_loop, sockets):
    """Two loops watch the same descriptor, one after the other."""
    other_loop = make_loop()
    sockets[1].send(b"x")
    for each in (loop, other_loop, loop):
        run(each, called(each, each.add_reader, sockets[0], each.remove_reader))
    other_loop.close()


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_regular_file_raises_permission_error(loop, tmp_path, method):
    with open(tmp_path / "file", "w+") as file:
        with pytest.raises(PermissionError):
            getattr(loop, method)(file, print)
        remove = getattr(loop, method.replace("add", "remove"))
        assert remove(file) is False
    run(loop, iterations(2))


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_closed_descriptor_raises_os_error(loop, method):
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        getattr(loop, method)(read, print)
    run(loop, iterations(2))


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("thing", ["text", None, 1.5, object()])
def test_descriptor_of_a_wrong_type_raises_value_error(loop, method, thing):
    arguments = (print,) if method.startswith("add") else ()
    with pytest.raises(ValueError, match="^Invalid file object: "):
        getattr(loop, method)(thing, *arguments)


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_descriptor_negative_raises_value_error(loop, method):
    arguments = (print,) if method.startswith("add") else ()
    with pytest.raises(ValueError, match="[Ii]nvalid file descriptor: -1"):
        getattr(loop, method)(-1, *arguments)


def test_closed_loop_refuses_watches_and_removes_nothing(make_loop, sockets):
    loop = make_loop()
    loop.add_reader(sockets[0], print)
    loop.close()
    for method in (loop.add_reader, loop.add_writer):
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            method(sockets[0], print)
    assert loop.remove_reader(sockets[0]) is False
    assert loop.remove_writer(sockets[0]) is False


def test_closed_loop_leaves_watched_descriptors_open(make_loop, sockets):
    loop = make_loop()
    loop.add_reader(sockets[0], print)
    loop.add_writer(sockets[0], print)
    loop.close()
    sockets[1].send(b"x")
    assert sockets[0].recv(1) == b"x"


def test_reader_raising_reaches_the_handler_and_stays(loop, sockets, errors):
    async def main():
        def ready():
            raise LookupError

        sockets[1].send(b"x")
        loop.add_reader(sockets[0], ready)
        while len(errors) < 3:
            await asyncio.sleep(0)
        assert loop.remove_reader(sockets[0]) is True

    run(loop, main())
    assert {type(context["exception"]) for context in errors} == {LookupError}
    errors.clear()


def test_watch_added_while_not_running_works_when_run(loop, sockets):
    seen = []

    def ready():
        seen.append(sockets[0].recv(1))
        loop.stop()

    loop.add_reader(sockets[0], ready)
    sockets[1].send(b"x")
    loop.run_forever()
    assert seen == [b"x"]
    assert loop.remove_reader(sockets[0])


def test_watch_survives_from_run_to_run(loop, sockets):
    seen = []
    loop.add_reader(sockets[0], lambda: (seen.append(sockets[0].recv(1)), loop.stop()))
    for _ in range(3):
        sockets[1].send(b"x")
        loop.run_forever()
    assert len(seen) == 3
    assert loop.remove_reader(sockets[0])


def test_watches_by_the_hundred_each_get_their_own(loop):
    async def main():
        pairs = [socket.socketpair() for _ in range(300)]
        seen = []
        done = loop.create_future()

        def ready(number):
            loop.remove_reader(pairs[number][0])
            seen.append((number, pairs[number][0].recv(10)))
            if len(seen) == len(pairs):
                done.set_result(None)

        for number, (one, other) in enumerate(pairs):
            loop.add_reader(one, ready, number)
            other.send(b"%d" % number)
        await done
        for one, other in pairs:
            one.close()
            other.close()
        return seen

    assert sorted(run(loop, main())) == [(number, b"%d" % number) for number in range(300)]


def test_duplicate_of_a_watched_descriptor_is_watched_apart(loop, sockets):
    async def main():
        duplicate = sockets[0].dup()
        one, other = loop.create_future(), loop.create_future()
        loop.add_reader(sockets[0], lambda: one.done() or one.set_result(None))
        loop.add_reader(duplicate, lambda: other.done() or other.set_result(None))
        sockets[1].send(b"x")
        await asyncio.gather(one, other)
        assert loop.remove_reader(duplicate)
        duplicate.close()
        again = loop.create_future()
        loop.add_reader(sockets[0], lambda: again.done() or again.set_result(None))
        await again
        assert loop.remove_reader(sockets[0])

    run(loop, main())


def test_object_with_fileno_is_accepted_everywhere(loop):
    class File:
        def __init__(self, number):
            self.number = number

        def fileno(self):
            return self.number

    async def main():
        read, write = os.pipe()
        os.write(write, b"x")
        await called(loop, loop.add_reader, File(read), loop.remove_reader)
        await called(loop, loop.add_writer, File(write), loop.remove_writer)
        os.close(read)
        os.close(write)

    run(loop, main())
