"""create_connection with many addresses: orders, local addresses, races, and giving up."""

import asyncio
import errno
import gc
import re
import socket
import sys

import pytest
from harness import (
    Echo,
    Peer,
    Recorder,
    answer_with,
    iterations,
    never_answering,
    oracle_lacks,
    run,
    serving,
)
from ports import free_port

from uring_loop._internal._stdlib import closes_given_socket


async def ended(transport, protocol):
    transport.abort()
    await protocol.until_lost()


def tried(error):
    """The hosts an error message names, in order."""
    return re.findall(r"\('([^']+)', ", str(error))


# ---- orders -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, order",
    [
        ({}, ["::1", "::1", "127.0.0.1", "127.0.0.2"]),
        ({"interleave": 0}, ["::1", "::1", "127.0.0.1", "127.0.0.2"]),
        ({"interleave": 1}, ["::1", "127.0.0.1", "::1", "127.0.0.2"]),
        ({"interleave": 2}, ["::1", "::1", "127.0.0.1", "127.0.0.2"]),
        ({"happy_eyeballs_delay": 20}, ["::1", "127.0.0.1", "::1", "127.0.0.2"]),
        (
            {"happy_eyeballs_delay": 20, "interleave": 0},
            ["::1", "::1", "127.0.0.1", "127.0.0.2"],
        ),
    ],
)
def test_create_connection_tries_the_addresses_in_order(loop, options, order):
    async def main():
        port = free_port()
        answer_with(loop, [(host, port) for host in ("::1", "::1", "127.0.0.1", "127.0.0.2")])
        with pytest.raises(OSError, match="^Multiple exceptions: ") as got:
            await loop.create_connection(pytest.fail, "some.name", 1, **options)
        assert tried(got.value) == order

    run(loop, main())


@pytest.mark.parametrize("delay", [None, 20])
def test_create_connection_stops_at_the_first_that_answers(loop, delay):
    async def main():
        async with serving(Echo) as (_, address):
            never, fillers = never_answering()
            answer_with(loop, [("127.0.0.1", free_port()), address, never.getsockname()])
            transport, protocol = await loop.create_connection(
                Recorder, "some.name", 1, happy_eyeballs_delay=delay
            )
            assert transport.get_extra_info("peername") == address
            await ended(transport, protocol)
            for sock in (never, *fillers):
                sock.close()

    run(loop, main())


@pytest.mark.parametrize("delay", [None, 0.005])
def test_create_connection_error_of_each_kind_is_named(loop, delay):
    async def main():
        ports = free_port(), free_port()
        answer_with(loop, [("127.0.0.1", ports[0]), ("127.0.0.1", ports[1])])
        with pytest.raises(OSError) as got:
            await loop.create_connection(pytest.fail, "some.name", 1, happy_eyeballs_delay=delay)
        texts = [
            f"[Errno {errno.ECONNREFUSED}] Connect call failed ('127.0.0.1', {port})"
            for port in ports
        ]
        assert str(got.value) == f"Multiple exceptions: {', '.join(texts)}"

    run(loop, main())


def test_create_connection_all_errors_of_one_address_is_still_a_group(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "create_connection has no all_errors")

    async def main():
        with pytest.raises(ExceptionGroup, match="^create_connection failed") as got:
            await loop.create_connection(pytest.fail, "127.0.0.1", free_port(), all_errors=True)
        (error,) = got.value.exceptions
        assert isinstance(error, ConnectionRefusedError)

    run(loop, main())


def test_create_connection_family_that_the_host_does_not_have_raises(loop):
    with pytest.raises(socket.gaierror):
        run(loop, loop.create_connection(pytest.fail, "::1", 1, family=socket.AF_INET))


# ---- local addresses --------------------------------------------------------------------------


def test_create_connection_uses_the_first_local_address_that_can_be_bound(loop):
    async def main():
        async with serving(Echo) as (_, address):
            local = [("::1", 0), ("192.0.2.1", 0), ("127.0.0.3", 0), ("127.0.0.4", 0)]
            answer_with(loop, [address], local)
            transport, protocol = await loop.create_connection(
                Recorder, "some.name", 1, local_addr=("local", 0)
            )
            assert transport.get_extra_info("sockname")[0] == "127.0.0.3"
            await ended(transport, protocol)

    run(loop, main())


def test_create_connection_no_local_address_can_be_bound_raises(loop):
    async def main():
        async with serving(Echo) as (_, address):
            answer_with(loop, [address], [("192.0.2.1", 0), ("198.51.100.1", 0)])
            with pytest.raises(OSError) as got:
                await loop.create_connection(pytest.fail, "some.name", 1, local_addr=("local", 0))
            text = "error while attempting to bind on address ('192.0.2.1', 0): "
            assert text in str(got.value)
            assert "('198.51.100.1', 0)" in str(got.value)

    run(loop, main())


def test_create_connection_local_address_in_use_raises(loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            name = taken.getsockname()
            async with serving(Echo) as (_, address):
                with pytest.raises(OSError) as got:
                    await loop.create_connection(pytest.fail, *address, local_addr=name)
                assert got.value.errno == errno.EADDRINUSE
                assert f"attempting to bind on address {name!r}: " in str(got.value)

    run(loop, main())


def test_create_connection_local_name_without_address_raises(loop):
    async def main():
        answer_with(loop, [("127.0.0.1", 1)], [])
        with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
            await loop.create_connection(pytest.fail, "some.name", 1, local_addr=("local", 0))

    run(loop, main())


# ---- sockets ----------------------------------------------------------------------------------


def test_create_connection_of_an_unconnected_socket_is_lost_with_its_error(loop):
    async def main():
        sock = socket.socket()
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        assert transport.get_extra_info("peername") is None
        await protocol.until_lost()
        assert isinstance(protocol.lost, OSError)
        assert protocol.lost.errno == errno.ENOTCONN
        assert sock.fileno() == -1

    run(loop, main())


def test_create_connection_of_a_blocking_socket_makes_it_nonblocking(loop):
    async def main():
        sock, other = socket.socketpair()
        _, protocol = await loop.create_connection(Recorder, sock=sock)
        assert sock.gettimeout() == 0
        other.close()
        await protocol.until_lost()

    run(loop, main())


def test_create_connection_factory_raising_closes_the_socket(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 14), "the socket is left to the collector")

    async def main():
        def factory():
            raise LookupError

        with socket.create_server(("127.0.0.1", 0)) as listener:
            with pytest.raises(LookupError):
                await loop.create_connection(factory, *listener.getsockname())
            peer = Peer(listener.accept()[0])
        assert await peer.recv() == b""
        peer.close()

    run(loop, main())


@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
def test_factory_raising_closes_the_given_socket_where_asyncio_does(loop, method):
    def factory():
        raise LookupError

    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(LookupError):
            run(loop, getattr(loop, method)(factory, sock=one))
        assert (one.fileno() == -1) is closes_given_socket()


def test_given_socket_of_another_transport_is_refused_and_stays_open(loop, loop_kind):
    taken = closes_given_socket() or sys.version_info < (3, 12)
    oracle_lacks(loop_kind, taken, "two transports may share a socket, or one closes the other's")

    async def main():
        one, other = socket.socketpair()
        with other:
            transport, protocol = await loop.create_connection(Recorder, sock=one)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.create_connection(Recorder, sock=one)
            other.sendall(b"still there")
            await protocol.until_size(11)
            transport.close()
            await protocol.until_lost()

    run(loop, main())


@pytest.mark.parametrize("method", ["create_connection", "connect_accepted_socket"])
def test_closed_socket_is_refused(loop, method):
    sock = socket.socket()
    sock.close()
    with pytest.raises((OSError, ValueError)):
        run(loop, getattr(loop, method)(Recorder, sock=sock))


# ---- giving up --------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [None, 0.0001, 20])
def test_create_connection_cancelled_at_any_turn_leaves_nothing(loop, loop_kind, delay):
    oracle_lacks(
        loop_kind,
        delay is not None and sys.version_info < (3, 14),
        "its race may lose a cancellation, or a socket that connected meanwhile",
    )

    async def main():
        async with serving(Echo) as (_, address):
            never, fillers = never_answering()
            addresses = [("127.0.0.1", free_port()), never.getsockname(), address]
            answer_with(loop, addresses)
            for turns in range(20):
                task = loop.create_task(
                    loop.create_connection(Recorder, "some.name", 1, happy_eyeballs_delay=delay)
                )
                await iterations(turns)
                task.cancel()
                try:
                    transport, protocol = await task
                except asyncio.CancelledError:
                    await iterations(3)
                    continue
                await ended(transport, protocol)
            for sock in (never, *fillers):
                sock.close()

    run(loop, main())
    gc.collect()


def test_create_connection_cancelled_while_resolving_leaves_nothing(loop):
    async def main():
        resolving = loop.create_future()

        async def getaddrinfo(host, port, **options):
            resolving.set_result(None)
            await asyncio.Event().wait()

        loop.getaddrinfo = getaddrinfo
        task = loop.create_task(loop.create_connection(pytest.fail, "some.name", 1))
        await resolving
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop, main())


def test_happy_eyeballs_winner_alone_keeps_its_socket(loop):
    """All attempts start at once and all succeed: every socket but one must be closed."""

    async def main():
        served = []

        class Served(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                served.append(self)

        async with serving(Served) as (_, address):
            answer_with(loop, [address] * 10)
            for _ in range(5):
                transport, protocol = await loop.create_connection(
                    Recorder, "some.name", 1, happy_eyeballs_delay=0
                )
                await ended(transport, protocol)
            for one in served:
                await one.until_lost()

    run(loop, main())


def test_happy_eyeballs_slow_loser_is_cancelled(loop):
    async def main():
        never, fillers = never_answering()
        async with serving(Echo) as (_, address):
            answer_with(loop, [never.getsockname()] * 3 + [address])
            before = asyncio.all_tasks()
            transport, protocol = await loop.create_connection(
                Recorder, "some.name", 1, happy_eyeballs_delay=0.001
            )
            await iterations(3)
            assert asyncio.all_tasks() == before
            await ended(transport, protocol)
        for sock in (never, *fillers):
            sock.close()

    run(loop, main())


def test_happy_eyeballs_cancelled_as_an_attempt_succeeds_closes_its_socket(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 14), "the socket that connected is lost")

    async def main():
        connected = []
        connect = loop.sock_connect

        async def cancelling(sock, address):
            await connect(sock, address)
            connected.append(sock)
            task.cancel()

        loop.sock_connect = cancelling
        async with serving(Echo) as (_, address):
            answer_with(loop, [address])
            task = loop.create_task(
                loop.create_connection(pytest.fail, "some.name", 1, happy_eyeballs_delay=20)
            )
            with pytest.raises(asyncio.CancelledError):
                await task
            (sock,) = connected
            assert sock.fileno() == -1

    run(loop, main())


def test_happy_eyeballs_attempts_that_fail_otherwise_than_by_the_network_end_it(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 14), "it stumbles over having no error to tell")

    async def main():
        async def sock_connect(sock, address):
            raise LookupError("no proxy for it")

        loop.sock_connect = sock_connect
        answer_with(loop, [("127.0.0.1", 1), ("127.0.0.2", 1)])
        with pytest.raises(TimeoutError, match="^create_connection failed$"):
            await loop.create_connection(pytest.fail, "some.name", 1, happy_eyeballs_delay=0)

    run(loop, main())
