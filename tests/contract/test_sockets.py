"""The loop's sock_*() methods: what each gives, waits for and refuses."""

import array
import asyncio
import contextlib
import contextvars
import inspect
import os
import socket
import ssl

import pytest
from harness import (
    PAIRS,
    iterations,
    never_answering,
    oracle_lacks,
    run,
    small_buffers,
    tcp_pair,
)
from ports import free_port

HUGE = bytes(range(256)) * 4096  # 1 MiB: no socket buffer of these tests holds it

OTHERS_ARE_LOST = "a second waiter on a descriptor takes the place of the first, which hangs"


@contextlib.contextmanager
def closing(*socks):
    try:
        yield socks
    finally:
        for sock in socks:
            sock.close()


@pytest.fixture(params=sorted(PAIRS))
def pair(request):
    """Two connected non-blocking stream sockets."""
    one, other = PAIRS[request.param]()
    for sock in (one, other):
        sock.setblocking(False)
    with closing(one, other):
        yield one, other


@pytest.fixture
def small(pair):
    small_buffers(*pair)
    return pair


def datagram_socket(family=socket.AF_INET, address=("127.0.0.1", 0)):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind(address)
    return sock


def listener(family=socket.AF_INET, address=("127.0.0.1", 0), backlog=8):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.bind(address)
    sock.listen(backlog)
    return sock


def stream_socket(family=socket.AF_INET):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    return sock


async def recv_exactly(loop, sock, size):
    parts = bytearray()
    while len(parts) < size:
        part = await loop.sock_recv(sock, size - len(parts))
        assert part, f"end of stream after {len(parts)} of {size} bytes"
        parts += part
    return bytes(parts)


async def waiting(coroutine):
    """A task that has got as far as it can without the other side."""
    task = asyncio.ensure_future(coroutine)
    await iterations(4)
    assert not task.done()
    return task


# Each way to receive, as (name, coroutine of loop and socket giving the bytes).


async def by_recv(loop, sock):
    return await loop.sock_recv(sock, 100)


async def by_recv_into(loop, sock):
    buffer = bytearray(100)
    size = await loop.sock_recv_into(sock, buffer)
    return bytes(buffer[:size])


async def by_recvfrom(loop, sock):
    data, _ = await loop.sock_recvfrom(sock, 100)
    return data


async def by_recvfrom_into(loop, sock):
    buffer = bytearray(100)
    size, _ = await loop.sock_recvfrom_into(sock, buffer)
    return bytes(buffer[:size])


RECEIVERS = [by_recv, by_recv_into, by_recvfrom, by_recvfrom_into]


# Receiving from streams.


@pytest.mark.parametrize("receive", RECEIVERS)
def test_receive_of_what_is_there_gives_it(loop, pair, receive):
    one, other = pair
    other.send(b"abc")
    assert run(loop, receive(loop, one)) == b"abc"


@pytest.mark.parametrize("receive", RECEIVERS)
def test_receive_waits_for_what_comes_later(loop, pair, receive):
    one, other = pair

    async def main():
        task = await waiting(receive(loop, one))
        other.send(b"later")
        return await task

    assert run(loop, main()) == b"later"


@pytest.mark.parametrize("receive", RECEIVERS)
def test_receive_at_the_end_of_the_stream_is_empty(loop, pair, receive):
    one, other = pair

    async def main():
        task = await waiting(receive(loop, one))
        other.shutdown(socket.SHUT_WR)
        return await task, await receive(loop, one)

    assert run(loop, main()) == (b"", b"")


@pytest.mark.parametrize("receive", RECEIVERS)
def test_receive_from_a_reset_connection_raises(loop, receive):
    one, other = tcp_pair()
    one.setblocking(False)

    async def main():
        task = await waiting(receive(loop, one))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        other.close()
        with pytest.raises(ConnectionResetError):
            await task
        return await receive(loop, one)

    with closing(one, other):
        assert run(loop, main()) == b""


def test_recv_gives_bytes_of_its_own_up_to_the_size(loop, pair):
    one, other = pair

    async def main():
        other.send(b"abcdef")
        first = await loop.sock_recv(one, 4)
        assert type(first) is bytes
        return first, await loop.sock_recv(one, 4)

    assert run(loop, main()) == (b"abcd", b"ef")


def test_recv_of_a_large_size_gives_what_is_there(loop, pair):
    one, other = pair
    other.send(b"x")
    assert run(loop, loop.sock_recv(one, 1 << 20)) == b"x"


def test_recv_of_size_zero_is_empty_at_once_on_a_connection_with_data(loop, pair):
    one, other = pair
    other.send(b"abc")
    assert run(loop, loop.sock_recv(one, 0)) == b""
    assert run(loop, loop.sock_recv(one, 10)) == b"abc"


def test_recv_size_may_be_any_index(loop, pair):
    class Size:
        def __index__(self):
            return 2

    one, other = pair
    other.send(b"abc")
    assert run(loop, loop.sock_recv(one, Size())) == b"ab"


def test_receive_of_a_bad_size_raises_what_the_socket_raises(loop, pair):
    one, _ = pair
    for size, error in [(-1, ValueError), ("1", TypeError), (1.5, TypeError), (None, TypeError)]:
        for method in (loop.sock_recv, loop.sock_recvfrom):
            with pytest.raises(error):
                run(loop, method(one, size))
    with pytest.raises(OverflowError):
        run(loop, loop.sock_recv(one, 1 << 100))
    with pytest.raises(ValueError):
        run(loop, loop.sock_recvfrom_into(one, bytearray(4), -1))
    with pytest.raises(ValueError):
        run(loop, loop.sock_recvfrom_into(one, bytearray(4), 5))


def test_recv_into_fills_any_writable_buffer(loop, pair):
    one, other = pair

    async def main():
        other.send(b"abcdefgh" * 3)
        view = memoryview(bytearray(b"-" * 12))[2:10]
        items = array.array("H", [0] * 4)
        whole = bytearray(8)
        sizes = [await loop.sock_recv_into(one, buffer) for buffer in (view, items, whole)]
        return sizes, bytes(view), items.tobytes(), bytes(whole)

    assert run(loop, main()) == ([8, 8, 8], b"abcdefgh", b"abcdefgh", b"abcdefgh")


def test_recv_into_a_buffer_that_waited_fills_it(loop, pair):
    one, other = pair

    async def main():
        items = array.array("I", [0, 0])
        task = await waiting(loop.sock_recv_into(one, items))
        other.send(b"12345678abc")
        return await task, items.tobytes(), await loop.sock_recv(one, 10)

    assert run(loop, main()) == (8, b"12345678", b"abc")


@pytest.mark.parametrize("method", ["sock_recv_into", "sock_recvfrom_into"])
@pytest.mark.parametrize("buffer", [b"constant", "text", None, 5, memoryview(b"constant")])
def test_receive_into_what_cannot_be_written_raises_type_error(loop, pair, method, buffer):
    with pytest.raises(TypeError):
        run(loop, getattr(loop, method)(pair[0], buffer))


def test_recv_into_an_empty_buffer_gives_zero_on_a_connection_with_data(loop, pair):
    one, other = pair
    other.send(b"abc")
    assert run(loop, loop.sock_recv_into(one, bytearray())) == 0
    assert run(loop, loop.sock_recv(one, 10)) == b"abc"


def test_recvfrom_into_with_a_size_fills_only_so_much(loop, pair):
    one, other = pair
    buffer = bytearray(b"......")

    async def main():
        task = await waiting(loop.sock_recvfrom_into(one, buffer, 3))
        other.send(b"abcdef")
        size, _ = await task
        return size, await loop.sock_recvfrom_into(one, memoryview(buffer)[3:], nbytes=0)

    size, (rest, _) = run(loop, main())
    assert (size, rest, bytes(buffer)) == (3, 3, b"abcdef")


def test_receivers_on_one_socket_are_served_in_the_order_they_came(loop, loop_kind, pair):
    oracle_lacks(loop_kind, True, OTHERS_ARE_LOST)
    one, other = pair

    async def main():
        got = []

        async def receive(number):
            got.append((number, await loop.sock_recv(one, 1)))

        tasks = [asyncio.ensure_future(receive(number)) for number in range(10)]
        await iterations(3)
        for letter in range(10):
            other.send(bytes([letter]))
        await asyncio.gather(*tasks)
        return got

    assert run(loop, main()) == [(number, bytes([number])) for number in range(10)]


def test_receivers_by_turns_none_is_starved(loop, loop_kind, pair):
    oracle_lacks(loop_kind, True, OTHERS_ARE_LOST)
    one, other = pair

    async def main():
        counts = [0, 0, 0]

        async def receive(number):
            while await loop.sock_recv(one, 1):
                counts[number] += 1

        tasks = [asyncio.ensure_future(receive(number)) for number in range(3)]
        await iterations(3)
        for _ in range(30):
            before = sum(counts)
            other.send(b"x")
            while sum(counts) == before:
                await asyncio.sleep(0)
        other.shutdown(socket.SHUT_WR)
        await asyncio.gather(*tasks)
        return counts

    assert run(loop, main()) == [10, 10, 10]


# Sending to streams.


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"view"),
        memoryview(b"sliced view")[2:8],
        array.array("I", [1, 2, 3]),
        memoryview(array.array("d", [1.5, 2.5])),
    ],
)
def test_sendall_of_any_buffer_arrives_as_its_bytes(loop, loop_kind, pair, data):
    large_items = memoryview(data).itemsize > 1
    oracle_lacks(loop_kind, large_items, "it compares the bytes sent with the number of items")
    one, other = pair

    async def main():
        assert await loop.sock_sendall(one, data) is None
        one.shutdown(socket.SHUT_WR)
        parts = bytearray()
        while part := await loop.sock_recv(other, 100):
            parts += part
        return bytes(parts)

    assert run(loop, main()) == bytes(memoryview(data).cast("B"))


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_sendall_of_more_than_fits_waits_and_arrives_complete(loop, small, make):
    one, other = small

    async def main():
        task = await waiting(loop.sock_sendall(one, make(HUGE)))
        got = await recv_exactly(loop, other, len(HUGE))
        assert await task is None
        return got

    assert run(loop, main()) == HUGE


def test_sendall_of_large_items_that_do_not_fit_arrives_complete(loop, loop_kind, small):
    oracle_lacks(loop_kind, True, "it takes the sent bytes for items")
    one, other = small
    items = array.array("Q", range(len(HUGE) // 8))

    async def main():
        task = await waiting(loop.sock_sendall(one, items))
        got = await recv_exactly(loop, other, len(HUGE))
        await task
        return got

    assert run(loop, main()) == items.tobytes()


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_sendall_of_nothing_returns(loop, pair, data):
    assert run(loop, loop.sock_sendall(pair[0], data)) is None


@pytest.mark.parametrize("data", ["text", 5, None, [b"list"], object()])
def test_sendall_of_what_is_no_buffer_raises_type_error(loop, pair, data):
    with pytest.raises(TypeError):
        run(loop, loop.sock_sendall(pair[0], data))


def test_sendall_to_a_peer_that_is_gone_raises(loop, pair):
    one, other = pair
    other.close()

    async def main():
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                await loop.sock_sendall(one, b"x" * 1000)

    run(loop, main())


def test_sendall_waiting_when_the_peer_goes_raises(loop, small):
    one, other = small

    async def main():
        task = await waiting(loop.sock_sendall(one, HUGE))
        other.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task

    run(loop, main())


def test_sendall_of_several_tasks_sends_each_whole_without_waiting(loop, pair):
    one, other = pair

    async def main():
        parts = [bytes([65 + number]) * 100 for number in range(20)]
        await asyncio.gather(*(loop.sock_sendall(one, part) for part in parts))
        return await recv_exactly(loop, other, 2000), b"".join(parts)

    got, sent = run(loop, main())
    assert got == sent


def test_sendall_of_several_tasks_that_wait_sends_one_after_the_other(loop, loop_kind, small):
    oracle_lacks(loop_kind, True, OTHERS_ARE_LOST)
    one, other = small

    async def main():
        parts = [bytes([65 + number]) * 200_000 for number in range(4)]
        tasks = [asyncio.ensure_future(loop.sock_sendall(one, part)) for part in parts]
        got = await recv_exactly(loop, other, 800_000)
        await asyncio.gather(*tasks)
        return got, b"".join(parts)

    got, sent = run(loop, main())
    assert got == sent


def test_stream_both_ways_at_once_arrives_complete(loop, small):
    one, other = small

    async def main():
        return await asyncio.gather(
            loop.sock_sendall(one, HUGE),
            loop.sock_sendall(other, HUGE[::-1]),
            recv_exactly(loop, one, len(HUGE)),
            recv_exactly(loop, other, len(HUGE)),
        )

    assert run(loop, main()) == [None, None, HUGE[::-1], HUGE]


# Datagrams.


@pytest.mark.parametrize(
    "family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_datagrams_tell_their_sender(loop, family, host):
    one = datagram_socket(family, (host, 0))
    other = datagram_socket(family, (host, 0))

    async def main():
        task = await waiting(loop.sock_recvfrom(one, 100))
        assert await loop.sock_sendto(other, b"hello", one.getsockname()) == 5
        first = await task
        buffer = bytearray(10)
        into = await waiting(loop.sock_recvfrom_into(one, buffer))
        await loop.sock_sendto(other, memoryview(b"again"), one.getsockname())
        return first, await into, bytes(buffer[:5])

    with closing(one, other):
        name = other.getsockname()
        assert run(loop, main()) == ((b"hello", name), (5, name), b"again")


def test_datagrams_over_unix_tell_their_sender(loop, tmp_path):
    one = datagram_socket(socket.AF_UNIX, str(tmp_path / "one"))
    other = datagram_socket(socket.AF_UNIX, str(tmp_path / "other"))

    async def main():
        task = await waiting(loop.sock_recvfrom(one, 100))
        await loop.sock_sendto(other, b"hello", str(tmp_path / "one"))
        return await task

    with closing(one, other):
        assert run(loop, main()) == (b"hello", str(tmp_path / "other"))


def test_datagram_to_a_full_unix_socket_waits_for_room(loop, tmp_path):
    one = datagram_socket(socket.AF_UNIX, str(tmp_path / "one"))
    other = datagram_socket(socket.AF_UNIX, str(tmp_path / "other"))

    async def main():
        with pytest.raises(BlockingIOError):
            for number in range(1000):
                other.sendto(b"%d" % number, str(tmp_path / "one"))
        task = asyncio.ensure_future(loop.sock_sendto(other, b"last", str(tmp_path / "one")))
        got = []
        while b"last" not in got:
            got.append(await loop.sock_recv(one, 100))
        assert await task == 4
        return got[:-1] == [b"%d" % number for number in range(len(got) - 1)]

    with closing(one, other):
        assert run(loop, main())


@pytest.mark.parametrize("receive", [by_recv, by_recv_into, by_recvfrom, by_recvfrom_into])
def test_datagram_larger_than_the_buffer_is_cut(loop, receive):
    one, other = datagram_socket(), datagram_socket()

    async def main():
        other.sendto(b"x" * 150, one.getsockname())
        other.sendto(b"y", one.getsockname())
        return await receive(loop, one), await receive(loop, one)

    with closing(one, other):
        assert run(loop, main()) == (b"x" * 100, b"y")


@pytest.mark.parametrize("receive", RECEIVERS)
def test_empty_datagram_is_received_as_empty(loop, receive):
    one, other = datagram_socket(), datagram_socket()

    async def main():
        task = await waiting(receive(loop, one))
        assert await loop.sock_sendto(other, b"", one.getsockname()) == 0
        return await task

    with closing(one, other):
        assert run(loop, main()) == b""


def test_connected_datagram_sockets_talk_by_recv_and_sendall(loop):
    one, other = datagram_socket(), datagram_socket()

    async def main():
        await loop.sock_connect(one, other.getsockname())
        await loop.sock_connect(other, one.getsockname())
        await loop.sock_sendall(one, b"hello")
        return await loop.sock_recv(other, 10)

    with closing(one, other):
        assert run(loop, main()) == b"hello"


def test_sendto_without_a_destination_raises(loop):
    with closing(datagram_socket()) as (sock,):
        for address in (None, 5, "127.0.0.1"):
            with pytest.raises(TypeError):
                run(loop, loop.sock_sendto(sock, b"x", address))
        with pytest.raises(OverflowError):
            run(loop, loop.sock_sendto(sock, b"x", ("127.0.0.1", 1 << 17)))


# Connecting and accepting.


@pytest.mark.parametrize(
    "family, host", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_connect_and_accept_give_the_two_ends(loop, family, host):
    async def main():
        task = await waiting(loop.sock_accept(server))
        assert await loop.sock_connect(client, server.getsockname()) is None
        connection, address = await task
        with connection:
            assert isinstance(connection, socket.socket)
            assert connection.gettimeout() == 0
            assert not os.get_inheritable(connection.fileno())
            assert address == client.getsockname()
            await loop.sock_sendall(client, b"hello")
            return await loop.sock_recv(connection, 10)

    with closing(listener(family, (host, 0)), stream_socket(family)) as (server, client):
        assert run(loop, main()) == b"hello"


def test_connect_and_accept_over_unix(loop, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        await loop.sock_connect(client, path)
        connection, address = await loop.sock_accept(server)
        with connection:
            assert address == ""
            await loop.sock_sendall(connection, b"hello")
            return await loop.sock_recv(client, 10)

    pair = listener(socket.AF_UNIX, path), stream_socket(socket.AF_UNIX)
    with closing(*pair) as (server, client):
        assert run(loop, main()) == b"hello"


def test_connect_to_a_full_unix_backlog_fails_or_succeeds_when_accepted(
    loop, loop_kind, tmp_path
):
    oracle_lacks(loop_kind, True, "it takes a connection for made that was never begun")
    path = str(tmp_path / "socket")
    server = listener(socket.AF_UNIX, path, backlog=0)
    clients = [stream_socket(socket.AF_UNIX) for _ in range(4)]

    async def main():
        tasks = [asyncio.ensure_future(loop.sock_connect(client, path)) for client in clients]
        for _ in clients:
            connection, _ = await loop.sock_accept(server)
            connection.close()
        await asyncio.gather(*tasks)
        return [client.getpeername() for client in clients]

    with closing(server, *clients):
        assert run(loop, main()) == [path] * 4


def test_connect_resolves_a_host_name(loop):
    async def main():
        await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
        return client.getpeername() == server.getsockname()

    with closing(listener(), stream_socket()) as (server, client):
        assert run(loop, main())


def test_connect_to_a_name_that_does_not_exist_raises_gaierror(loop):
    async def main():
        with pytest.raises(socket.gaierror):
            await loop.sock_connect(client, ("no such name.invalid", 80))

    with closing(stream_socket()) as (client,):
        run(loop, main())


def test_connect_refused_says_where(loop):
    port = free_port()
    with closing(stream_socket()) as (client,):
        with pytest.raises(ConnectionRefusedError) as caught:
            run(loop, loop.sock_connect(client, ("127.0.0.1", port)))
    assert str(caught.value) == f"[Errno 111] Connect call failed ('127.0.0.1', {port})"


def test_connect_to_a_missing_unix_path_raises(loop, tmp_path):
    with closing(stream_socket(socket.AF_UNIX)) as (client,):
        with pytest.raises(FileNotFoundError):
            run(loop, loop.sock_connect(client, str(tmp_path / "nothing")))


def test_connect_again_and_again_raises_is_connected(loop):
    async def main():
        await loop.sock_connect(client, server.getsockname())
        # The kernel may answer the first one with the success of the one before it.
        with contextlib.suppress(OSError):
            await loop.sock_connect(client, server.getsockname())
        with pytest.raises(OSError) as caught:
            await loop.sock_connect(client, server.getsockname())
        return caught.value.errno

    with closing(listener(), stream_socket()) as (server, client):
        assert run(loop, main()) == 106


@pytest.mark.parametrize(
    "address, error",
    [
        (None, TypeError),
        (5, TypeError),
        (("127.0.0.1",), ValueError),
        (("127.0.0.1", 1 << 17), OverflowError),
    ],
)
def test_connect_to_a_bad_address_raises(loop, address, error):
    with closing(stream_socket()) as (client,):
        with pytest.raises(error):
            run(loop, loop.sock_connect(client, address))


@pytest.mark.skipif(not socket.has_ipv6, reason="this Python knows no IPv6")
def test_connect_with_more_than_a_flow_label_raises(loop):
    with closing(socket.socket(socket.AF_INET6)) as (client,):
        client.setblocking(False)
        with pytest.raises(OverflowError, match="flowinfo must be 0-1048575"):
            run(loop, loop.sock_connect(client, ("::1", 9, 1 << 20, 0)))


def test_accept_of_what_does_not_listen_raises(loop):
    with closing(stream_socket()) as (sock,):
        with pytest.raises(OSError):
            run(loop, loop.sock_accept(sock))


def test_accept_of_many_gives_each_once(loop):
    clients = [stream_socket() for _ in range(20)]

    async def main():
        await asyncio.gather(*(loop.sock_connect(one, server.getsockname()) for one in clients))
        accepted = [await loop.sock_accept(server) for _ in clients]
        for connection, _ in accepted:
            connection.close()
        return sorted(address for _, address in accepted)

    with closing(listener(backlog=20), *clients) as (server, *_):
        assert run(loop, main()) == sorted(client.getsockname() for client in clients)


def test_accepters_of_one_socket_each_get_a_connection(loop, loop_kind):
    oracle_lacks(loop_kind, True, OTHERS_ARE_LOST)
    clients = [stream_socket() for _ in range(3)]

    async def main():
        tasks = [asyncio.ensure_future(loop.sock_accept(server)) for _ in clients]
        await iterations(3)
        for client in clients:
            await loop.sock_connect(client, server.getsockname())
        for connection, _ in await asyncio.gather(*tasks):
            connection.close()

    with closing(listener(), *clients) as (server, *_):
        run(loop, main())


# What every method refuses.


def calls(loop, sock):
    """One call of each method, as (name, coroutine)."""
    return [
        ("sock_recv", loop.sock_recv(sock, 1)),
        ("sock_recv_into", loop.sock_recv_into(sock, bytearray(1))),
        ("sock_recvfrom", loop.sock_recvfrom(sock, 1)),
        ("sock_recvfrom_into", loop.sock_recvfrom_into(sock, bytearray(1))),
        ("sock_sendall", loop.sock_sendall(sock, b"x")),
        ("sock_sendto", loop.sock_sendto(sock, b"x", ("127.0.0.1", 1))),
        ("sock_connect", loop.sock_connect(sock, ("127.0.0.1", 1))),
        ("sock_accept", loop.sock_accept(sock)),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "sock_recv",
        "sock_recv_into",
        "sock_recvfrom",
        "sock_recvfrom_into",
        "sock_sendall",
        "sock_sendto",
        "sock_connect",
        "sock_accept",
    ],
)
def test_method_is_a_coroutine_function(loop, name):
    assert inspect.iscoroutinefunction(getattr(loop, name))


def test_blocking_sockets_are_refused_in_debug_mode(loop, pair):
    one, _ = pair
    loop.set_debug(True)
    for timeout in (None, 5.0):
        one.settimeout(timeout)
        for _name, coroutine in calls(loop, one):
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                run(loop, coroutine)


@pytest.mark.parametrize("method", ["sock_recv", "sock_recv_into", "sock_sendall"])
def test_blocking_sockets_work_outside_debug_mode(loop, pair, method):
    one, other = pair
    one.setblocking(True)
    other.send(b"abc")
    argument = {"sock_recv": 3, "sock_recv_into": bytearray(3), "sock_sendall": b"abc"}[method]
    result = run(loop, getattr(loop, method)(one, argument))
    assert result == {"sock_recv": b"abc", "sock_recv_into": 3, "sock_sendall": None}[method]


def test_tls_sockets_are_refused(loop, pair):
    context = ssl.create_default_context()
    context.check_hostname = False
    one = context.wrap_socket(pair[0], do_handshake_on_connect=False)
    with closing(one):
        for _name, coroutine in calls(loop, one):
            with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                run(loop, coroutine)


@pytest.mark.parametrize("thing", [None, 5, "socket", object()])
def test_what_is_no_socket_raises_attribute_error(loop, thing):
    for _name, coroutine in calls(loop, thing):
        with pytest.raises(AttributeError):
            run(loop, coroutine)


def test_closed_sockets_raise_bad_descriptor(loop):
    sock = stream_socket()
    sock.close()
    for _name, coroutine in calls(loop, sock):
        with pytest.raises(OSError) as caught:
            run(loop, coroutine)
        assert caught.value.errno == 9


def test_socket_of_a_transport_is_refused_where_it_would_wait(loop, small):
    one, other = small

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
        await iterations(2)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.send(HUGE)
        for coroutine in (
            loop.sock_recv(one, 1),
            loop.sock_recv_into(one, bytearray(1)),
            loop.sock_recvfrom(one, 1),
            loop.sock_recvfrom_into(one, bytearray(1)),
            loop.sock_sendall(one, b"x"),
        ):
            with pytest.raises(RuntimeError, match="is used by transport"):
                await coroutine
        transport.abort()
        await iterations(3)

    run(loop, main())


def test_subclass_of_socket_has_its_own_methods_called(loop, pair):
    class Shouting(socket.socket):
        def recv(self, *args):
            return super().recv(*args).upper()

        def send(self, data, *args):
            return super().send(bytes(data).upper(), *args)

    one, other = pair
    shouting = Shouting(fileno=one.detach())
    shouting.setblocking(False)

    async def main():
        task = await waiting(loop.sock_recv(shouting, 10))
        other.send(b"abc")
        await loop.sock_sendall(shouting, b"def")
        return await task, await loop.sock_recv(other, 10)

    with closing(shouting):
        assert run(loop, main()) == (b"ABC", b"DEF")


class Reluctant(socket.socket):
    """Would block as often as it is told to, and sends at most a byte at a time."""

    refusals = 0

    def _refuse(self):
        if self.refusals > 0:
            self.refusals -= 1
            raise BlockingIOError

    def recv_into(self, *args):
        self._refuse()
        return super().recv_into(*args)

    def send(self, data, *args):
        self._refuse()
        with memoryview(data) as view:
            return super().send(view[:1], *args)


@pytest.mark.parametrize("refusals", [0, 1, 3])
def test_own_send_that_takes_little_or_would_block_is_called_until_all_is_sent(
    loop, pair, refusals
):
    one, other = pair
    with Reluctant(fileno=one.detach()) as reluctant:
        reluctant.setblocking(False)
        reluctant.refusals = refusals
        run(loop, loop.sock_sendall(reluctant, b"abc"))
        assert reluctant.refusals == 0
        assert run(loop, recv_exactly(loop, other, 3)) == b"abc"


def test_own_sends_of_several_tasks_that_wait_are_one_after_the_other(loop, loop_kind, pair):
    oracle_lacks(loop_kind, True, OTHERS_ARE_LOST)
    one, other = pair

    async def main():
        sending = [
            asyncio.ensure_future(loop.sock_sendall(reluctant, text)) for text in (b"abc", b"def")
        ]
        await asyncio.gather(*sending)
        return await recv_exactly(loop, other, 6)

    with Reluctant(fileno=one.detach()) as reluctant:
        reluctant.setblocking(False)
        reluctant.refusals = 1
        assert run(loop, main()) == b"abcdef"


def test_own_receive_that_would_block_though_there_is_something_is_called_again(loop, pair):
    one, other = pair
    with Reluctant(fileno=one.detach()) as reluctant:
        reluctant.setblocking(False)
        other.send(b"abc")
        reluctant.refusals = 3
        assert run(loop, by_recv_into(loop, reluctant)) == b"abc"
        assert reluctant.refusals == 0


def test_own_connect_whose_connection_fails_later_says_where(loop):
    """Of a plain one only the driver knows that it has to wait."""

    class Own(socket.socket):
        def connect(self, address):
            super().connect(address)

    never, fillers = never_answering()
    address = never.getsockname()

    async def main():
        task = await waiting(loop.sock_connect(client, address))
        # The kernel resets a connection that is shut down before it is made.
        client.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ConnectionResetError) as caught:
            await task
        return str(caught.value)

    with closing(Own(), never, *fillers) as (client, *_):
        client.setblocking(False)
        assert run(loop, main()) == f"[Errno 104] Connect call failed {address}"


# Around them.


def test_methods_run_in_the_context_of_their_task(loop, pair):
    one, other = pair
    variable = contextvars.ContextVar("variable", default="unset")

    async def receive(value):
        variable.set(value)
        await loop.sock_recv(one, 1)
        return variable.get()

    async def main():
        task = await waiting(receive("mine"))
        other.send(b"x")
        return await task, variable.get()

    assert run(loop, main()) == ("mine", "unset")


def test_receive_and_watch_of_the_other_direction_work_side_by_side(loop, pair):
    one, other = pair

    async def main():
        writable = loop.create_future()
        task = await waiting(loop.sock_recv(one, 1))
        loop.add_writer(one, lambda: writable.done() or writable.set_result(None))
        await writable
        loop.remove_writer(one)
        other.send(b"x")
        return await task

    assert run(loop, main()) == b"x"


def test_receive_waiting_goes_on_in_the_next_run_of_the_loop(loop, pair):
    one, other = pair
    task = loop.create_task(loop.sock_recv(one, 10))
    run(loop, iterations(3))
    other.send(b"between")
    assert run(loop, asyncio.wait_for(task, 10)) == b"between"


def test_loop_closed_with_a_receiver_waiting_leaves_its_socket_open(make_loop):
    one, other = tcp_pair()
    one.setblocking(False)
    loop = make_loop()

    async def main():
        return await waiting(loop.sock_recv(one, 1))

    with closing(one, other):
        task = run(loop, main())
        loop.close()
        other.send(b"x")
        one.setblocking(True)
        assert one.recv(1) == b"x"
        task._log_destroy_pending = False


def test_coroutine_dropped_while_it_waits_takes_nothing(loop, pair):
    one, other = pair

    async def main():
        coroutine = loop.sock_recv(one, 10)
        coroutine.send(None)
        await iterations(2)
        coroutine.close()
        other.send(b"kept")
        return await loop.sock_recv(one, 10)

    assert run(loop, main()) == b"kept"


def test_thousand_round_trips_lose_nothing(loop, pair):
    one, other = pair

    async def echo():
        while data := await loop.sock_recv(other, 100):
            await loop.sock_sendall(other, data)

    async def main():
        task = asyncio.ensure_future(echo())
        for number in range(1000):
            message = b"%d" % number
            await loop.sock_sendall(one, message)
            assert await loop.sock_recv(one, 100) == message
        one.shutdown(socket.SHUT_WR)
        await task

    run(loop, main())


@pytest.mark.parametrize("when", range(1, 6))
def test_loop_closed_by_the_sockets_fileno_is_told_or_unharmed(make_loop, when):
    loop = make_loop()
    asked = []

    class Closing(socket.socket):
        def fileno(self):
            asked.append(1)
            if len(asked) == when:
                loop.close()
            return super().fileno()

    one, other = socket.socketpair()
    with other, Closing(fileno=one.detach()) as sock:
        sock.setblocking(False)
        receiving = loop.sock_recv(sock, 10)
        # What it waits for needs a loop that still runs; asyncio's selector has gone.
        with contextlib.suppress(RuntimeError, AttributeError):
            receiving.send(None)
        loop.close()
        receiving.close()
