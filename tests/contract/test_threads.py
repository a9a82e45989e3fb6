"""A loop made in one thread, run in another, and later in yet another with connections open."""

import asyncio
import itertools
import os
import random
import resource
import socket
import threading
import time

import pytest
from harness import PAIRS, BufferedRecorder, Peer, Recorder, iterations, run, small_buffers

HUGE = 4 << 20


def in_thread(function, *arguments):
    """Call in a new thread that ends afterwards; its result or exception."""
    outcome = []

    def work():
        try:
            outcome.append((function(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


async def connect(protocol, pair, peers):
    sock, other = pair()
    peers.append(Peer(other))
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=sock)
    return transport


async def close(protocol, peer):
    protocol.transport.abort()
    await protocol.until_lost()
    peer.close()


def test_loop_made_here_and_run_elsewhere_works(loop):
    async def main():
        await asyncio.sleep(0.001)
        return threading.get_ident()

    assert in_thread(run, loop, main()) != threading.get_ident()
    assert run(loop, main()) == threading.get_ident()


def test_loop_made_elsewhere_and_run_here_works(make_loop):
    loop = in_thread(make_loop)
    assert run(loop, asyncio.sleep(0.001, "ran")) == "ran"
    loop.close()


def test_loop_run_in_ten_threads_one_after_the_other_works(loop):
    seen = []
    for number in range(10):
        loop.call_soon(seen.append, number)
        assert in_thread(run, loop, asyncio.sleep(0, number)) == number
    assert seen == list(range(10))


def test_loop_closed_in_another_thread_than_it_ran_in_is_closed(make_loop):
    loop = make_loop()
    in_thread(run, loop, asyncio.sleep(0))
    loop.close()
    loop = make_loop()
    run(loop, asyncio.sleep(0))
    in_thread(loop.close)
    assert loop.is_closed()


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_connection_goes_on_when_the_loop_changes_threads(loop, pair, kind):
    peers = []
    protocol = kind()
    transport = in_thread(run, loop, connect(protocol, pair, peers))
    (peer,) = peers

    async def exchange(number):
        await peer.send_all(b"%04d" % number)
        await protocol.until_size(4 * (number + 1))
        transport.write(b"%04d" % number)
        assert await peer.recv_exactly(4) == b"%04d" % number

    for number in range(6):
        if number % 3 == 2:
            run(loop, exchange(number))
        else:
            in_thread(run, loop, exchange(number))
    assert protocol.data == b"".join(b"%04d" % number for number in range(6))
    assert "eof_received" not in protocol.calls
    run(loop, close(protocol, peer))
    assert protocol.lost is None


def test_bytes_arriving_while_no_thread_runs_the_loop_are_not_lost(loop, pair):
    peers = []
    protocol = Recorder()
    in_thread(run, loop, connect(protocol, pair, peers))
    (peer,) = peers
    sent = b""
    for number in range(20):
        sent += b"%04d" % number
        peer.sock.send(b"%04d" % number)
        in_thread(run, loop, iterations(number % 3))
    run(loop, protocol.until_size(len(sent)))
    assert protocol.data == sent
    run(loop, close(protocol, peer))


def test_bytes_arriving_before_the_thread_that_received_ends_are_not_lost(loop):
    """The old thread's kernel side may already have taken them."""
    for rounds in range(10):
        peers = []
        protocol = Recorder()
        in_thread(run, loop, connect(protocol, socket.socketpair, peers))
        (peer,) = peers

        async def send_and_leave(peer=peer, rounds=rounds):
            await iterations(rounds % 3)
            peer.sock.send(b"first")
            loop.call_soon(peer.sock.send, b"second")
            await iterations(1)

        in_thread(run, loop, send_and_leave())
        peer.sock.send(b"third")
        run(loop, protocol.until_size(16))
        assert protocol.data == b"firstsecondthird"
        run(loop, close(protocol, peer))


def test_huge_write_begun_in_one_thread_ends_in_another(loop, pair):
    def small_pair():
        # Or the kernel lets them grow, until they hold all of it.
        socks = pair()
        small_buffers(*socks)
        return socks

    peers = []
    protocol = Recorder()
    transport = in_thread(run, loop, connect(protocol, small_pair, peers))
    (peer,) = peers
    blob = os.urandom(HUGE)

    async def begin():
        transport.write(blob)
        await iterations(3)

    in_thread(run, loop, begin())
    received = in_thread(run, loop, peer.recv_exactly(HUGE // 2))
    received += run(loop, peer.recv_exactly(HUGE - HUGE // 2))
    assert received == blob
    run(loop, iterations(3))
    assert (protocol.pauses, protocol.resumes) == (1, 1)
    run(loop, close(protocol, peer))


def test_end_of_stream_while_no_thread_runs_the_loop_is_seen_once(loop, pair):
    peers = []
    protocol = Recorder()
    in_thread(run, loop, connect(protocol, pair, peers))
    peers[0].close()
    run(loop, protocol.until_lost())
    assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]


def test_paused_connection_stays_paused_across_threads(loop):
    peers = []
    protocol = Recorder()
    transport = in_thread(run, loop, connect(protocol, socket.socketpair, peers))
    (peer,) = peers
    transport.pause_reading()
    peer.sock.send(b"data")
    in_thread(run, loop, iterations(5))
    assert protocol.data == b""
    transport.resume_reading()
    run(loop, protocol.until_size(4))
    run(loop, close(protocol, peer))


def test_server_and_watch_and_timer_go_on_in_another_thread(loop):
    accepted = []

    class Accepted(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            accepted.append(self)

    one, other = socket.socketpair()
    seen = []

    async def start():
        loop.add_reader(one, lambda: seen.append(one.recv(1)))
        loop.call_later(0.002, seen.append, "timer")
        await iterations(2)
        return await loop.create_server(Accepted, "127.0.0.1", 0)

    server = in_thread(run, loop, start())

    async def use():
        other.send(b"x")
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        count = len(accepted)
        while len(accepted) == count or "timer" not in seen or len(seen) < 2:
            await asyncio.sleep(0)
        client.close()
        await accepted[-1].until_lost()

    in_thread(run, loop, use())
    run(loop, use())
    assert set(seen) == {b"x", "timer"}

    async def stop():
        loop.remove_reader(one)
        server.close()
        await server.wait_closed()

    in_thread(run, loop, stop())
    one.close()
    other.close()


def test_loop_whose_last_watch_was_removed_in_another_thread_closes_without_waiting(make_loop):
    loop = make_loop()
    one, other = socket.socketpair()

    async def begin():
        loop.add_reader(one, pytest.fail)
        await iterations(2)

    async def end():
        loop.remove_reader(one)

    in_thread(run, loop, begin())
    in_thread(run, loop, end())
    run(loop, iterations(2))
    one.close()
    other.close()
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    loop.close()
    # Not again and again, for a poll that went with the old thread's ring.
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - slept < 100


def test_server_accepts_right_after_the_loop_changed_threads(loop):
    """What the last thread left armed in the kernel must not take the connection's wake-up."""

    async def start():
        return await loop.create_server(Accepted, "127.0.0.1", 0)

    accepted = []

    class Accepted(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            accepted.append(self)

    async def use(number):
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        deadline = loop.time() + 5
        while len(accepted) == number:
            assert loop.time() < deadline, f"connection {number} was not accepted"
            # Busy and sleeping turns in turn.
            await asyncio.sleep(0.001 * (number % 2))
        client.close()
        await accepted[-1].until_lost()

    server = in_thread(run, loop, start())
    for number in range(40):
        if number % 3 == 2:
            run(loop, use(number))
        else:
            in_thread(run, loop, use(number))

    async def stop():
        server.close()
        await server.wait_closed()

    run(loop, stop())


def test_loop_in_a_thread_driven_from_here_answers(loop):
    """The usual background loop: run_coroutine_threadsafe, then stop."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def answer(number):
        await asyncio.sleep(0)
        return number

    for number in range(100):
        assert asyncio.run_coroutine_threadsafe(answer(number), loop).result(20) == number
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert not loop.is_running()


def test_stop_and_run_again_between_threads_loses_no_threadsafe_call(loop):
    """Producers go on while the loop moves from thread to thread."""
    total = 2000
    seen = []

    def produce():
        for number in range(total):
            loop.call_soon_threadsafe(seen.append, number)

    producer = threading.Thread(target=produce)
    producer.start()
    while producer.is_alive():
        in_thread(run, loop, iterations(1))
    producer.join()
    run(loop, iterations(1))
    assert seen == list(range(total))


def test_two_loops_in_two_threads_talk_over_a_connection(make_loop):
    loops = make_loop(), make_loop()
    socks = socket.socketpair()
    rounds = 500
    results = []

    async def play(sock, begins):
        protocol = Recorder()
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: protocol, sock=sock
        )
        if begins:
            transport.write(b"x")
        for number in range(1, rounds + 1):
            await protocol.until_size(number)
            if number < rounds or not begins:
                transport.write(b"x")
        transport.close()
        await protocol.until_lost()
        results.append(bytes(protocol.data))

    threads = [
        threading.Thread(target=run, args=(loop, play(sock, begins)))
        for loop, sock, begins in zip(loops, socks, (True, False), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for loop in loops:
        loop.close()
    assert results == [b"x" * rounds] * 2


def test_loop_closed_by_one_thread_while_others_schedule_raises_there(make_loop):
    loop = make_loop()
    started = threading.Event()
    ended = []

    def produce():
        try:
            while True:
                loop.call_soon_threadsafe(int)
                started.set()
        except RuntimeError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=produce) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    run(loop, asyncio.sleep(0.001))
    loop.close()
    for thread in threads:
        thread.join()
    assert ended == ["Event loop is closed"] * 3


def test_threads_that_wake_cancel_and_stop_a_loop_until_it_is_closed_lose_nothing(make_loop, seed):
    for number in range(30):
        loop = make_loop()
        chance = random.Random(seed + number)
        seen = {"one": [], "two": []}
        everyone = Callers(loop)
        for name in seen:
            everyone.start(wake, seen[name], itertools.count())
        everyone.start(stop)
        cancelling = Callers(loop)
        cancelling.start(cancel, random.Random(chance.random()))
        more = chance.randrange(40)
        while more or not all(seen.values()):
            loop.run_forever()
            more = max(0, more - 1)
        # Whose task was never begun would be told of it: these end before the loop is closed.
        cancelling.end()
        begun = []
        loop.call_soon_threadsafe(begun.append, True)
        while not begun or asyncio.all_tasks(loop):
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_forever()
        loop.close()
        everyone.end()
        for numbers in seen.values():
            assert numbers == list(range(len(numbers)))


class Callers:
    """Threads that do a thing again and again, until the loop is closed or they are told to end."""

    def __init__(self, loop):
        self._loop = loop
        self._is_over = threading.Event()
        self._threads = []
        self._errors = []

    def start(self, do, *arguments):
        self._threads.append(threading.Thread(target=self._work, args=[do, arguments]))
        self._threads[-1].start()

    def _work(self, do, arguments):
        try:
            while not self._is_over.is_set():
                # A loop that sleeps is where another thread does harm.
                time.sleep(0.0001)
                do(self._loop, *arguments)
        except RuntimeError as error:
            if not (self._loop.is_closed() and str(error) == "Event loop is closed"):
                self._errors.append(error)
        except BaseException as error:
            self._errors.append(error)

    def end(self):
        # Those who are told by the loop's being closed must be.
        if not self._loop.is_closed():
            self._is_over.set()
        for thread in self._threads:
            thread.join()
        assert self._errors == []


def wake(loop, seen, numbers):
    loop.call_soon_threadsafe(seen.append, next(numbers))


def stop(loop):
    loop.call_soon_threadsafe(loop.stop)


def cancel(loop, chance):
    """A sleep that ends by itself at once or is cancelled, sooner or later."""
    future = asyncio.run_coroutine_threadsafe(asyncio.sleep(chance.choice((0, 1000))), loop)
    time.sleep(chance.choice((0, 0.0001)))
    future.cancel()
