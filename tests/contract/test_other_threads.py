"""What a thread that does not run the loop does to it, its transports and its servers.

asyncio forbids all but call_soon_threadsafe() and survives the rest. It wakes no sleeping loop
for that, so stock asyncio's is kept awake here; ours must wake by itself.
"""

import asyncio
import contextlib
import errno
import gc
import os
import random
import signal
import socket
import sys
import threading
import time

import harness
import pytest
from harness import (
    DATAGRAMS_PAUSE,
    PAIRS,
    PATIENCE_S,
    PIPES_LACK,
    PIPES_PAUSE,
    Condition,
    Peer,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    resource_warning,
    serving,
    small_buffers,
)


def run(loop, coroutine):
    """As the harness's, but what no timer of the loop's may hide is found out: that it slept on."""
    overslept = []

    def wake():
        overslept.append(True)
        loop.call_soon_threadsafe(loop.stop)

    watchdog = threading.Timer(PATIENCE_S / 2, wake)
    watchdog.start()
    try:
        return harness.run(loop, coroutine)
    finally:
        watchdog.cancel()
        watchdog.join()
        assert not overslept, "nothing has woken the loop"


@pytest.fixture
def soon_another_threads_turn():
    """A busy loop lets others have the GIL after 5 ms each time, which rounds of theirs add up."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(interval)


class Elsewhere:
    """A call in another thread, made when the loop is about to sleep; it wakes nobody."""

    def __init__(self, function, *arguments):
        self._outcome = []
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(function, arguments))
        self._thread.start()
        asyncio.get_running_loop().call_soon(self._begun.set)

    def _work(self, function, arguments):
        self._begun.wait()
        try:
            self._outcome.append((function(*arguments), None))
        except BaseException as error:
            self._outcome.append((None, error))

    def result(self):
        self._thread.join()
        ((result, error),) = self._outcome
        if error is not None:
            raise error
        return result


async def elsewhere(function, *arguments):
    """Call it in another thread, and wait for its result."""
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def in_loop_of_its_own(coroutine):
    """Run a coroutine in a loop of asyncio's, in the calling thread."""
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def awake(loop_kind, request):
    """Stock asyncio's loop goes on turning."""
    if loop_kind != "asyncio" or "loop" not in request.fixturenames:
        return
    loop = request.getfixturevalue("loop")

    def tick():
        loop.call_later(0.001, tick)

    tick()


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


# Streams.


@pytest.mark.parametrize("method", ["close", "abort"])
def test_stream_ended_in_another_thread_is_lost(loop, pair, method):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            call = Elsewhere(getattr(transport, method))
            await protocol.until_lost()
            call.result()
            assert protocol.lost is None
            assert transport.is_closing()
            assert await peer.recv() == b""

    run(loop, main())


@pytest.mark.parametrize("method", ["close", "abort"])
def test_paused_stream_ended_in_another_thread_is_lost(loop, pair, method):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send_all(b"unseen")
            await iterations(3)
            call = Elsewhere(getattr(transport, method))
            await protocol.until_lost()
            call.result()
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


def test_stream_written_and_closed_in_another_thread_sends_all_of_it(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):

            def work():
                for number in range(10):
                    transport.write(b"%d" % number)
                transport.writelines([b"a", bytearray(b"b")])
                transport.close()
                assert transport.is_closing()

            call = Elsewhere(work)
            assert await peer.recv_all() == b"0123456789ab"
            call.result()
            await protocol.until_lost()

    run(loop, main())


def test_stream_written_in_another_thread_sends_it(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            await peer.send_all(b"x")
            # Nothing but the write may wake the loop, so the peer waits in a thread of its own.
            peer.sock.setblocking(True)
            receiving = loop.run_in_executor(None, peer.sock.recv, 10)
            call = Elsewhere(transport.write, b"answer")
            assert await receiving == b"answer"
            call.result()

    run(loop, main())


def test_huge_write_and_close_of_another_thread_arrive(loop, loop_kind, pair):
    oracle_lacks(loop_kind, True, "its two threads race for the queue and the descriptor")
    blob = os.urandom(4 << 20)

    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, peer):

            def work():
                transport.write(blob)
                transport.close()

            call = Elsewhere(work)
            assert await peer.recv_all() == blob
            call.result()
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_huge_write_aborted_in_another_thread_is_lost(loop, pair):
    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, _):
            transport.write(bytes(4 << 20))
            await iterations(3)
            call = Elsewhere(transport.abort)
            await protocol.until_lost()
            call.result()
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_stream_ended_by_write_eof_in_another_thread_still_receives(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            call = Elsewhere(lambda: (transport.write(b"last"), transport.write_eof()))
            assert await peer.recv_all() == b"last"
            call.result()
            await peer.send_all(b"answer")
            await protocol.until_size(6)

    run(loop, main())


def test_stream_paused_and_resumed_in_another_thread_receives_all_in_order(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            for number in range(20):
                await elsewhere(transport.pause_reading)
                assert not transport.is_reading()
                await peer.send_all(b"%04d" % number)
                await iterations(number % 4)
                call = Elsewhere(transport.resume_reading)
                await protocol.until_size(4 * (number + 1))
                call.result()
            assert protocol.data == b"".join(b"%04d" % number for number in range(20))

    run(loop, main())


def test_protocol_set_in_another_thread_gets_what_comes_next(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, first, peer):
            second = Recorder()
            await elsewhere(transport.set_protocol, second)
            await peer.send_all(b"x")
            await second.until_size(1)
            assert first.data == b""
            transport.set_protocol(first)

    run(loop, main())


@pytest.mark.parametrize("method", ["close", "abort"])
def test_debug_mode_refuses_the_end_of_a_stream_in_another_thread(loop, method):
    def work(transport):
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            getattr(transport, method)()

    async def main():
        sock, other = socket.socketpair()
        with sock, other:
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
            loop.set_debug(True)
            await elsewhere(work, transport)
            loop.set_debug(False)
            if isinstance(loop, asyncio.SelectorEventLoop):
                # It is half closed now, and nobody can close the rest.
                transport._sock = None
            else:
                assert not transport.is_closing()
                transport.abort()
            await iterations(3)

    run(loop, main())


# Datagrams.


class Datagrams(asyncio.DatagramProtocol):
    """Notes what it gets."""

    def __init__(self):
        self.received = []
        self.lost = False
        self.condition = Condition()

    def datagram_received(self, data, address):
        self.received.append(data)
        self.condition.changed()

    def connection_lost(self, exc):
        self.lost = True
        self.condition.changed()


@contextlib.asynccontextmanager
async def datagrams(pair):
    """(transport, protocol, peer socket)"""
    sock, peer = pair()
    protocol = Datagrams()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: protocol, sock=sock
    )
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        if not protocol.lost:
            transport.abort()
        await protocol.condition.until(lambda: protocol.lost)
        await iterations(2)


def unix_datagrams():
    one, other = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    for sock in one, other:
        sock.bind("")  # an abstract name of the kernel's choice
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    return one, other


def udp_pair():
    one, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in one, other:
        sock.bind(("127.0.0.1", 0))
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    return one, other


@pytest.fixture(params=[unix_datagrams, udp_pair], ids=["unix", "udp"])
def datagram_pair(request):
    return request.param


@pytest.mark.parametrize("method", ["close", "abort"])
def test_datagram_transport_ended_in_another_thread_is_lost(loop, datagram_pair, method):
    async def main():
        async with datagrams(datagram_pair) as (transport, protocol, _):
            call = Elsewhere(getattr(transport, method))
            await protocol.condition.until(lambda: protocol.lost)
            call.result()

    run(loop, main())


def test_datagrams_of_another_thread_that_fill_the_socket_all_arrive(loop):
    """What the socket has no room for waits, and only the loop's thread can wait."""
    count = 2000

    async def main():
        async with datagrams(unix_datagrams) as (transport, _, peer):
            peer.setblocking(False)

            def work():
                for number in range(count):
                    transport.sendto(b"%d" % number)

            call = Elsewhere(work)
            received = []
            while len(received) < count:
                try:
                    received.append(peer.recv(100))
                except BlockingIOError:
                    await Peer(peer).readable()
            call.result()
            assert received == [b"%d" % number for number in range(count)]

    run(loop, main())


def test_datagram_transport_paused_and_resumed_in_another_thread_receives(
    loop, loop_kind, datagram_pair
):
    oracle_lacks(loop_kind, not DATAGRAMS_PAUSE, "datagram transports do not pause")

    async def main():
        async with datagrams(datagram_pair) as (transport, protocol, peer):
            for number in range(10):
                await elsewhere(transport.pause_reading)
                peer.send(b"%d" % number)
                call = Elsewhere(transport.resume_reading)
                await protocol.condition.until(
                    lambda number=number: len(protocol.received) > number
                )
                call.result()
            assert protocol.received == [b"%d" % number for number in range(10)]

    run(loop, main())


# Pipes.


@pytest.mark.parametrize("method", ["close", "abort"])
def test_writing_pipe_written_and_ended_in_another_thread(loop, method):
    async def main():
        reader, writer = os.pipe()
        protocol = Recorder()
        transport, _ = await loop.connect_write_pipe(lambda: protocol, open(writer, "wb", 0))

        def work():
            transport.write(b"one")
            transport.write(bytearray(b"two"))
            getattr(transport, method)()
            assert transport.is_closing()

        call = Elsewhere(work)
        await protocol.until_lost()
        call.result()
        assert os.read(reader, 100) == b"onetwo"
        os.close(reader)

    run(loop, main())


def test_huge_write_to_a_pipe_and_close_in_another_thread_arrive(loop):
    blob = os.urandom(1 << 20)

    async def main():
        reader, writer = os.pipe()
        protocol = Recorder()
        transport, _ = await loop.connect_write_pipe(lambda: protocol, open(writer, "wb", 0))
        receiving = Recorder()
        await loop.connect_read_pipe(lambda: receiving, open(reader, "rb", 0))

        def work():
            transport.write(blob)
            transport.close()

        call = Elsewhere(work)
        await receiving.until_lost()
        call.result()
        assert receiving.data == blob
        await protocol.until_lost()

    run(loop, main())


def test_reading_pipe_paused_resumed_and_closed_in_another_thread(loop, loop_kind):
    oracle_lacks(loop_kind, not PIPES_PAUSE, PIPES_LACK)

    async def main():
        reader, writer = os.pipe()
        protocol = Recorder()
        transport, _ = await loop.connect_read_pipe(lambda: protocol, open(reader, "rb", 0))
        for number in range(10):
            await elsewhere(transport.pause_reading)
            os.write(writer, b"%d" % number)
            call = Elsewhere(transport.resume_reading)
            await protocol.until_size(number + 1)
            call.result()
        call = Elsewhere(transport.close)
        await protocol.until_lost()
        call.result()
        assert protocol.data == b"0123456789"
        os.close(writer)

    run(loop, main())


# TLS.


@pytest.mark.parametrize("method", ["close", "abort"])
def test_tls_written_and_ended_in_another_thread(loop, certificates, method):
    from tls_peer import tls_attached

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):

            def work():
                transport.write(b"x" * 100_000)
                transport.writelines([b"y", bytearray(b"z")])

            call = Elsewhere(work)
            assert await peer.recv_exactly(100_002) == b"x" * 100_000 + b"yz"
            call.result()
            call = Elsewhere(getattr(transport, method))
            with contextlib.suppress(OSError):
                assert await peer.recv() == b""
            peer.close()
            await protocol.until_lost()
            call.result()

    run(loop, main())


def test_debug_mode_refuses_the_end_of_tls_in_another_thread(loop, loop_kind, certificates):
    from tls_peer import tls_attached

    oracle_lacks(loop_kind, True, "it is half closed then, and nobody can close the rest")

    def work(transport):
        with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
            transport.close()

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            loop.set_debug(True)
            await elsewhere(work, transport)
            loop.set_debug(False)
            assert not transport.is_closing()
            transport.write(b"still there")
            assert await peer.recv_exactly(11) == b"still there"
            transport.close()
            assert await peer.recv() == b""

    run(loop, main())


def test_tls_paused_and_resumed_in_another_thread_receives(loop, certificates):
    from tls_peer import tls_attached

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            for number in range(10):
                await elsewhere(transport.pause_reading)
                await peer.send_all(b"%d" % number)
                call = Elsewhere(transport.resume_reading)
                await protocol.until_size(number + 1)
                call.result()
            assert protocol.data == b"0123456789"

    run(loop, main())


# Servers.


def refuses(address):
    with socket.socket() as sock:
        return sock.connect_ex(address) == errno.ECONNREFUSED


def test_server_closed_in_another_thread_listens_no_more(loop):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        waiting = asyncio.ensure_future(server.wait_closed())
        await iterations(2)

        def work():
            server.close()
            assert server.sockets == ()
            assert not server.is_serving()

        call = Elsewhere(work)
        await waiting
        call.result()
        await iterations(2)
        assert refuses(address)

    run(loop, main())


def test_server_closed_in_another_thread_as_the_loop_ends_listens_no_more(make_loop):
    loop = make_loop()
    addresses = []

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        addresses.append(server.sockets[0].getsockname())
        thread = threading.Thread(target=server.close)
        thread.start()
        thread.join()

    run(loop, main())
    assert refuses(addresses[0])
    loop.close()


def test_server_that_serves_forever_closed_in_another_thread_ends(loop):
    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        serving = asyncio.ensure_future(server.serve_forever())
        await iterations(2)
        call = Elsewhere(server.close)
        with pytest.raises(asyncio.CancelledError):
            await serving
        call.result()

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="close_clients() came with Python 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_clients_closed_in_another_thread_are_lost(loop, method):
    async def main():
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        async with serving(factory) as (server, address):
            peers = [Peer(socket.create_connection(address)) for _ in range(3)]
            while len(protocols) < 3:
                await iterations(1)
            await protocols[-1].until_called("connection_made")
            call = Elsewhere(getattr(server, method))
            for protocol, peer in zip(protocols, peers, strict=True):
                await protocol.until_lost()
                peer.close()
            call.result()

    run(loop, main())


def test_server_started_by_a_loop_of_another_thread_serves(loop):
    async def main():
        protocol = Recorder()
        server = await loop.create_server(
            lambda: protocol, "127.0.0.1", 0, start_serving=False
        )
        await elsewhere(in_loop_of_its_own, server.start_serving())
        peer = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await peer.send_all(b"x")
        await protocol.until_size(1)
        peer.close()
        await protocol.until_lost()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_server_started_and_closed_by_a_loop_of_another_thread_does_not_serve(loop):
    """What starts it in the loop's thread comes when it is no longer wanted."""

    async def started_and_closed(server):
        await server.start_serving()
        server.close()

    async def main():
        server = await loop.create_server(
            asyncio.Protocol, "127.0.0.1", 0, start_serving=False
        )
        address = server.sockets[0].getsockname()
        thread = threading.Thread(target=in_loop_of_its_own, args=(started_and_closed(server),))
        thread.start()
        thread.join()
        await iterations(2)
        assert not server.is_serving()
        assert refuses(address)

    run(loop, main())


# The loop.


def test_watch_made_in_another_thread_calls_back(loop):
    async def main():
        sock, other = socket.socketpair()
        with sock, other:
            sock.setblocking(False)
            seen = Condition()
            threads = []

            def ready():
                sock.recv(10)
                threads.append(threading.get_ident())
                seen.changed()

            other.send(b"x")
            call = Elsewhere(loop.add_reader, sock, ready)
            await seen.until(lambda: threads)
            call.result()
            assert threads == [threading.get_ident()]
            assert await elsewhere(loop.remove_reader, sock)
            other.send(b"y")
            await iterations(5)
            assert len(threads) == 1
            assert not loop.remove_reader(sock)
            call = Elsewhere(loop.add_writer, sock, lambda: (threads.append(0), seen.changed()))
            await seen.until(lambda: len(threads) > 1)
            call.result()
            assert await elsewhere(loop.remove_writer, sock)
            count = len(threads)
            await iterations(5)
            assert len(threads) == count

    run(loop, main())


def test_watch_removed_in_another_thread_lets_the_number_be_used_again(loop):
    async def main():
        seen = Condition()
        calls = []
        for number in range(20):
            sock, other = socket.socketpair()
            with sock, other:
                if number % 2:
                    await elsewhere(loop.add_reader, sock, calls.append, "stale")
                else:
                    loop.add_reader(sock, calls.append, "stale")
                    await iterations(number % 3)
                assert await elsewhere(loop.remove_reader, sock)
            sock, other = socket.socketpair()
            with sock, other:
                loop.add_reader(sock, lambda: (calls.append("fresh"), seen.changed()))
                other.send(b"x")
                await seen.until(lambda: calls)
                loop.remove_reader(sock)
            assert set(calls) == {"fresh"}
            calls.clear()

    run(loop, main())


def test_watch_of_a_file_is_refused_in_another_thread_at_once(loop, tmp_path):
    def work():
        with open(tmp_path / "file", "wb") as file, pytest.raises(PermissionError):
            loop.add_reader(file, print)

    run(loop, elsewhere(work))


def test_watch_made_in_another_thread_of_a_descriptor_closed_meanwhile_calls_nobody(
    loop, loop_kind
):
    oracle_lacks(loop_kind, True, "it watches at once, and knows nothing of the close")

    async def main():
        sock, other = socket.socketpair()
        with other:
            number = sock.fileno()
            # While the loop's thread is here, it cannot tell its driver.
            await asyncio.sleep(0)
            thread = threading.Thread(target=loop.add_reader, args=(number, pytest.fail))
            thread.start()
            thread.join()
            sock.close()
            other.close()
            await iterations(5)
        assert loop.remove_reader(number)
        assert not loop.remove_reader(number)
        # The number is the next one's.
        sock, other = socket.socketpair()
        with sock, other:
            assert number in (sock.fileno(), other.fileno())
            await iterations(3)

    run(loop, main())


def test_what_another_thread_schedules_without_leave_runs(loop):
    async def main():
        seen = Condition()
        calls = []

        def called(what):
            calls.append(what)
            seen.changed()

        def work():
            loop.call_soon(called, "soon")
            loop.call_later(0.001, called, "later")
            loop.call_at(loop.time() + 0.002, called, "at")
            loop.call_later(1000, called, "never").cancel()

        call = Elsewhere(work)
        await seen.until(lambda: len(calls) == 3)
        call.result()
        future = loop.create_future()
        call = Elsewhere(future.set_result, "set")
        assert await future == "set"
        call.result()

    run(loop, main())


def test_task_cancelled_in_another_thread_ends(loop):
    async def main():
        task = asyncio.ensure_future(asyncio.sleep(1000))
        await iterations(2)
        call = Elsewhere(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        call.result()

    run(loop, main())


def test_loop_stopped_by_another_thread_ends_its_run(loop):
    async def begin():
        return Elsewhere(loop.stop)

    task = loop.create_task(begin())
    watchdog = threading.Timer(PATIENCE_S, loop.call_soon_threadsafe, [pytest.fail])
    watchdog.start()
    loop.run_forever()
    watchdog.cancel()
    watchdog.join()
    task.result().result()


def test_loop_that_another_thread_runs_cannot_be_run_or_closed(loop, loop_kind):
    oracle_lacks(
        loop_kind, sys.version_info >= (3, 13), "a second run that is refused breaks the first"
    )

    def work():
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="Cannot close a running"):
            loop.close()
        assert asyncio._get_running_loop() is None

    run(loop, elsewhere(work))
    assert not loop.is_closed()


def test_signal_handler_added_while_another_thread_runs_the_loop_is_called(make_loop):
    loop = make_loop()
    called = threading.Event()
    if isinstance(loop, asyncio.SelectorEventLoop):
        loop.call_soon(lambda: tick(loop))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.add_signal_handler(signal.SIGUSR1, called.set)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert called.wait(PATIENCE_S)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def tick(loop):
    loop.call_later(0.001, tick, loop)


def test_operation_of_a_loop_awaited_in_another_is_refused(loop):
    """asyncio: the future belongs to a different loop; of the socket's nothing was taken."""

    async def wait(sock):
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(loop.sock_recv(sock, 10), PATIENCE_S)

    async def connect(sock, address):
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(loop.sock_connect(sock, address), PATIENCE_S)

    async def main():
        sock, other = socket.socketpair()
        with sock, other, socket.socket() as listener, socket.socket() as client:
            sock.setblocking(False)
            client.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            await elsewhere(in_loop_of_its_own, wait(sock))
            # Loopback answers at once; nobody listens, or the queue is full: either way it waits.
            if not isinstance(loop, asyncio.SelectorEventLoop):
                listener.listen()
                address = listener.getsockname()
                await elsewhere(in_loop_of_its_own, connect(client, address))
            # asyncio has left its reader behind.
            loop.remove_reader(sock)
            other.send(b"x")
            assert await loop.sock_recv(sock, 10) == b"x"

    run(loop, main())


def test_bytes_that_are_there_are_received_in_a_loop_of_another_thread(loop):
    async def main():
        sock, other = socket.socketpair()
        with sock, other:
            sock.setblocking(False)
            other.send(b"x" * 5000)
            received = await elsewhere(in_loop_of_its_own, loop.sock_recv(sock, 10_000))
            assert received == b"x" * 5000

    run(loop, main())


def test_wait_for_a_socket_dropped_in_another_thread_lets_the_next_one_in(loop, loop_kind):
    oracle_lacks(loop_kind, True, "who waits for a socket does not stand in a queue")

    async def main():
        sock, other = socket.socketpair()
        with sock, other:
            sock.setblocking(False)
            first = loop.sock_recv(sock, 1)
            first.send(None)
            second = asyncio.ensure_future(loop.sock_recv(sock, 1))
            await iterations(2)
            call = Elsewhere(first.close)
            other.send(b"x")
            assert await second == b"x"
            call.result()

    run(loop, main())


# All at once.


def test_threads_that_meddle_with_everything_break_nothing(
    loop, loop_kind, soon_another_threads_turn
):
    oracle_lacks(loop_kind, True, "a connection that two threads end at once may stay for ever")
    rounds = 1500
    live = []
    ended = []

    class Client(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
            transport.write(b"x" * 3000)
            live.append(transport)

        def data_received(self, data):
            self.transport.write(data)

        def connection_lost(self, exc):
            live.remove(self.transport)

    class Server(Client):
        def connection_made(self, transport):
            self.transport = transport

        def connection_lost(self, exc):
            pass

    def meddle(seed):
        choose = random.Random(seed).choice
        methods = ["close", "abort", "pause_reading", "resume_reading", "write_eof", "flood"]
        for _ in range(rounds):
            # A loop that sleeps is where another thread does harm.
            time.sleep(choose([0, 0.0002]))
            with contextlib.suppress(IndexError, RuntimeError):
                transport = choose(live)
                method = choose(methods)
                if method == "flood":
                    transport.write(bytes(100_000))
                else:
                    getattr(transport, method)()
        ended.append(seed)

    async def main():
        async with serving(Server) as (_, address):
            threads = [threading.Thread(target=meddle, args=(seed,)) for seed in range(2)]
            for thread in threads:
                thread.start()
            while len(ended) < len(threads):
                while len(live) < 20:
                    with contextlib.suppress(OSError):
                        await loop.create_connection(Client, *address)
                await asyncio.sleep(0.001)
            for thread in threads:
                thread.join()
            for transport in list(live):
                transport.abort()
            while live:
                await iterations(1)

    loop.set_exception_handler(lambda loop, context: None)
    run(loop, main())


def test_stream_dropped_in_another_thread_while_it_is_paused_is_closed(loop):
    async def main():
        sock, other = socket.socketpair()
        small_buffers(sock, other)
        protocol = asyncio.Protocol()
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        del sock
        transport.pause_reading()
        await iterations(3)
        kept = [transport]
        del transport
        with resource_warning("unclosed transport"):
            # asyncio's is part of a cycle.
            call = Elsewhere(lambda: (kept.clear(), gc.collect()))
            assert await Peer(other).recv() == b""
            call.result()
        other.close()

    run(loop, main())
