"""create_server and the Server object."""

import asyncio
import errno
import os
import socket
import sys
import weakref

import pytest
from harness import Peer, Recorder, descriptors_below, iterations, oracle_lacks, run, serving
from ports import free_port


class Collecting:
    """A protocol factory that keeps what it made."""

    def __init__(self):
        self.protocols = []
        self._waiters = []

    def __call__(self):
        factory = self

        class Counted(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                factory.protocols.append(self)
                for waiter in factory._waiters:
                    if not waiter.done():
                        waiter.set_result(None)

        return Counted()

    async def until_count(self, count):
        while len(self.protocols) < count:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
            self._waiters.remove(waiter)


def test_create_server_serves_at_once(loop):
    async def main():
        factory = Collecting()
        async with serving(factory) as (server, address):
            assert isinstance(server, asyncio.AbstractServer)
            assert server.is_serving()
            assert server.get_loop() is loop
            client = Peer(socket.create_connection(address))
            await factory.until_count(1)
            protocol = factory.protocols[0]
            assert protocol.transport.get_extra_info("peername") == client.sock.getsockname()
            assert protocol.transport.get_extra_info("sockname") == address
            await client.send_all(b"hello")
            await protocol.until_size(5)
            protocol.transport.write(b"back")
            assert await client.recv_exactly(4) == b"back"
            client.close()
            await protocol.until_lost()
            assert protocol.names == [
                "connection_made",
                "data_received",
                "eof_received",
                "connection_lost",
            ]

    run(loop, main())


def test_create_server_accepts_connections_made_before_it_started(loop):
    async def main():
        sock = socket.create_server(("127.0.0.1", 0))
        clients = [Peer(socket.create_connection(sock.getsockname())) for _ in range(5)]
        factory = Collecting()
        server = await loop.create_server(factory, sock=sock)
        await factory.until_count(5)
        for client in clients:
            client.close()
        for protocol in factory.protocols:
            await protocol.until_lost()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_create_server_accepted_sockets_are_nonblocking_and_not_inherited(loop):
    async def main():
        factory = Collecting()
        async with serving(factory) as (_, address):
            client = Peer(socket.create_connection(address))
            await factory.until_count(1)
            sock = factory.protocols[0].transport.get_extra_info("socket")
            assert os.get_blocking(sock.fileno()) is False
            assert os.get_inheritable(sock.fileno()) is False
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            client.close()
            await factory.protocols[0].until_lost()

    run(loop, main())


def test_create_server_several_hosts_listens_on_each(loop):
    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, ["127.0.0.1", "127.0.0.2"], 0)
        names = {sock.getsockname()[0] for sock in server.sockets}
        assert names == {"127.0.0.1", "127.0.0.2"}
        clients = [Peer(socket.create_connection(sock.getsockname())) for sock in server.sockets]
        await factory.until_count(2)
        for client in clients:
            client.close()
        for protocol in factory.protocols:
            await protocol.until_lost()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_create_server_same_host_twice_listens_once(loop):
    async def main():
        server = await loop.create_server(Recorder, ["127.0.0.1", "127.0.0.1"], free_port())
        assert len(server.sockets) == 1
        server.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("host", [None, ""])
def test_create_server_any_host_listens_on_all_interfaces(loop, host):
    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, host, 0, family=socket.AF_INET)
        (sock,) = server.sockets
        assert sock.getsockname()[0] == "0.0.0.0"
        client = Peer(socket.create_connection(("127.0.0.1", sock.getsockname()[1])))
        await factory.until_count(1)
        client.close()
        await factory.protocols[0].until_lost()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_create_server_over_ipv6_is_ipv6_only(loop):
    async def main():
        server = await loop.create_server(Recorder, "::1", 0)
        (sock,) = server.sockets
        assert sock.family == socket.AF_INET6
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_create_server_options_reach_the_sockets(loop, loop_kind):
    async def main():
        async with serving(Recorder, reuse_port=True) as (server, _):
            (sock,) = server.sockets
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        async with serving(Recorder, reuse_address=False) as (server, _):
            (sock,) = server.sockets
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)

    run(loop, main())


def test_create_server_keep_alive_reaches_the_socket(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "create_server has no keep_alive")

    async def main():
        async with serving(Recorder, keep_alive=True) as (server, _):
            (sock,) = server.sockets
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    run(loop, main())


def test_create_server_address_in_use_raises_and_leaves_nothing(loop):
    async def main():
        async with serving(Recorder) as (_, address):
            with pytest.raises(OSError, match="error while attempting to bind on address") as got:
                await loop.create_server(Recorder, *address)
            assert got.value.errno == errno.EADDRINUSE

    run(loop, main())


def test_create_server_address_of_another_machine_raises(loop):
    with pytest.raises(OSError):
        run(loop, loop.create_server(Recorder, "192.0.2.1", 0))


def bad_arguments():
    text = "host/port and sock can not be specified at the same time"
    yield {"host": "127.0.0.1", "port": 0, "sock": True}, ValueError, text
    yield {}, ValueError, "Neither host/port nor sock were specified"
    text = "ssl argument must be an SSLContext or None"
    yield {"host": "127.0.0.1", "port": 0, "ssl": True}, TypeError, text
    yield {"host": "127.0.0.1", "port": 0, "ssl": False}, TypeError, text
    for option in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
        text = f"{option} is only meaningful with ssl"
        yield {"host": "127.0.0.1", "port": 0, option: 1}, ValueError, text


@pytest.mark.parametrize("options, error, text", list(bad_arguments()))
def test_create_server_bad_combination_raises(loop, options, error, text):
    with socket.socket() as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(error, match=f"^{text}$"):
            run(loop, loop.create_server(pytest.fail, **options))


@pytest.mark.parametrize("port", [65536, -1])
def test_create_server_port_out_of_range_raises_overflow_error(loop, port):
    with pytest.raises(OverflowError):
        run(loop, loop.create_server(pytest.fail, "127.0.0.1", port))


def test_create_server_datagram_socket_raises(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="^A Stream Socket was expected, got "):
            run(loop, loop.create_server(pytest.fail, sock=sock))


def test_server_not_started_accepts_nothing_until_start_serving(loop):
    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
        assert server.is_serving() is False
        address = server.sockets[0].getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving() is True
        client = Peer(socket.create_connection(address))
        await factory.until_count(1)
        client.close()
        await factory.protocols[0].until_lost()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_server_sockets_are_views_and_empty_after_close(loop):
    async def main():
        async with serving(Recorder) as (server, _):
            sockets = server.sockets
            assert isinstance(sockets, tuple)
            assert all(isinstance(sock, asyncio.trsock.TransportSocket) for sock in sockets)
            assert repr(server).startswith("<Server sockets=")
        assert server.sockets == ()
        assert not server.is_serving()

    run(loop, main())


def test_server_closed_refuses_new_connections_and_keeps_the_old(loop):
    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        client = Peer(socket.create_connection(address))
        await factory.until_count(1)
        server.close()
        server.close()
        await iterations(2)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        protocol = factory.protocols[0]
        await client.send_all(b"still here")
        await protocol.until_size(10)
        protocol.transport.write(b"me too")
        assert await client.recv_exactly(6) == b"me too"
        client.close()
        await protocol.until_lost()
        await server.wait_closed()

    run(loop, main())


def test_server_closed_at_once_can_listen_on_the_same_port_again(loop):
    async def main():
        port = 0
        for _ in range(20):
            server = await loop.create_server(Recorder, "127.0.0.1", port)
            port = server.sockets[0].getsockname()[1]
            server.close()
            await iterations(1)
            await server.wait_closed()

    run(loop, main())


def test_wait_closed_waits_for_the_connections(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "wait_closed() of a closed server returns")

    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await factory.until_count(1)
        waiting = loop.create_task(server.wait_closed())
        await iterations(3)
        assert not waiting.done()
        server.close()
        await iterations(3)
        assert not waiting.done()
        client.close()
        await waiting
        assert factory.protocols[0].calls[-1] == "connection_lost"
        await server.wait_closed()

    run(loop, main())


def test_wait_closed_without_connections_returns_when_closed(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        waiting = [loop.create_task(server.wait_closed()) for _ in range(3)]
        await iterations(3)
        assert not any(task.done() for task in waiting)
        server.close()
        await asyncio.gather(*waiting)

    run(loop, main())


def test_server_async_with_closes_it(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        async with server as entered:
            assert entered is server
            assert server.is_serving()
        assert not server.is_serving()
        assert server.sockets == ()

    run(loop, main())


def test_serve_forever_serves_until_cancelled(loop):
    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0, start_serving=False)
        address = server.sockets[0].getsockname()
        task = loop.create_task(server.serve_forever())
        await iterations(3)
        assert server.is_serving()
        client = Peer(socket.create_connection(address))
        await factory.until_count(1)
        client.close()
        await factory.protocols[0].until_lost()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not server.is_serving()

    run(loop, main())


def test_serve_forever_twice_raises(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        task = loop.create_task(server.serve_forever())
        await iterations(2)
        with pytest.raises(RuntimeError, match=r"is already being awaited on serve_forever\(\)$"):
            await server.serve_forever()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop, main())


def test_serve_forever_of_a_closed_server_raises(loop):
    async def main():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        server.close()
        with pytest.raises(RuntimeError, match="is closed$"):
            await server.serve_forever()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_server_close_clients_ends_every_connection(loop, loop_kind, method):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), f"Server has no {method}()")

    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = [
            Peer(socket.create_connection(server.sockets[0].getsockname())) for _ in range(5)
        ]
        await factory.until_count(5)
        server.close()
        getattr(server, method)()
        await server.wait_closed()
        if sys.version_info < (3, 12):
            # There wait_closed() waits for no client of a server that is closed already.
            for protocol in factory.protocols:
                await protocol.until_lost()
        for protocol in factory.protocols:
            assert protocol.names == ["connection_made", "connection_lost"]
            assert protocol.lost is None
        for client in clients:
            assert await client.recv() == b""
            client.close()

    run(loop, main())


@pytest.mark.parametrize("leavers", [[0], [1], [2], [0, 1], [1, 2], [0, 2]], ids=str)
def test_server_close_clients_after_some_have_left_ends_the_others(loop, loop_kind, leavers):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "Server has no close_clients()")

    async def main():
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        clients = []
        for count in range(1, 4):
            clients.append(Peer(socket.create_connection(server.sockets[0].getsockname())))
            await factory.until_count(count)
        for index in leavers:
            clients[index].close()
            await factory.protocols[index].until_lost()
        server.close()
        closed = loop.create_task(server.wait_closed())
        await iterations(2)
        # Until 3.12 asyncio did not wait for the clients of a server that was closed already.
        assert closed.done() is (sys.version_info < (3, 12))
        server.close_clients()
        await closed
        for index in set(range(3)) - set(leavers):
            await factory.protocols[index].until_lost()
            assert await clients[index].recv() == b""
            clients[index].close()

    run(loop, main())


def test_close_clients_flushes_and_abort_clients_does_not(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "Server has no close_clients()")
    size = 8 << 20

    async def received(method):
        factory = Collecting()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        await factory.until_count(1)
        factory.protocols[0].transport.write(bytes(size))
        getattr(server, method)()
        got = len(await client.recv_all())
        client.close()
        server.close()
        await server.wait_closed()
        return got

    assert run(loop, received("close_clients")) == size
    assert run(loop, received("abort_clients")) < size


def test_server_factory_raising_closes_the_connection_and_serves_on(loop, loop_kind):
    oracle_lacks(loop_kind, True, "the accepted socket is left to the garbage collector")

    async def main():
        inner = Collecting()
        outcomes = [LookupError]

        def factory():
            if outcomes:
                raise outcomes.pop()
            return inner()

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        first = Peer(socket.create_connection(address))
        assert await first.recv() == b""
        first.close()
        second = Peer(socket.create_connection(address))
        await inner.until_count(1)
        second.close()
        await inner.protocols[0].until_lost()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_server_factory_raising_in_debug_mode_reaches_the_handler(loop, loop_kind, errors):
    oracle_lacks(loop_kind, True, "the accepted socket is left to the garbage collector")
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        def factory():
            raise LookupError

        server = await loop.create_server(factory, "127.0.0.1", 0)
        client = Peer(socket.create_connection(server.sockets[0].getsockname()))
        assert await client.recv() == b""
        client.close()
        server.close()
        await server.wait_closed()

    run(loop, main())
    context = errors.pop()
    assert context["message"] == "Error on transport creation for incoming connection"
    assert isinstance(context["exception"], LookupError)


@pytest.fixture
def few_descriptors():
    """A low limit of open descriptors, set before any accept: a ring remembers it from then."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    with descriptors_below(highest + 20):
        yield


def test_server_out_of_descriptors_reports_and_recovers(few_descriptors, loop, loop_kind, errors):
    """accept's EMFILE is reported, and all who waited are served once descriptors are free."""

    async def main():
        factory = Collecting()
        async with serving(factory) as (_, address):
            clients = [socket.socket() for _ in range(5)]
            fillers = []
            try:
                while True:
                    try:
                        fillers.append(os.dup(0))
                    except OSError:
                        break
                for client in clients:
                    client.connect(address)
                while not errors:
                    await asyncio.sleep(0)
                await iterations(20)
                assert not factory.protocols
            finally:
                for descriptor in fillers:
                    os.close(descriptor)
            await factory.until_count(5)
            for client, protocol in zip(clients, factory.protocols, strict=True):
                client.close()
                await protocol.until_lost()

    run(loop, main())
    # asyncio reports it as often in a row as its backlog is long.
    assert loop_kind == "asyncio" or len(errors) == 1
    assert {context["message"] for context in errors} == {"socket.accept() out of system resource"}
    assert {context["exception"].errno for context in errors} == {errno.EMFILE}
    assert isinstance(errors[0]["socket"], asyncio.trsock.TransportSocket)
    errors.clear()


def test_server_dropped_without_close_still_serves(loop):
    async def main():
        factory = Collecting()
        sock = socket.create_server(("127.0.0.1", 0))
        server = await loop.create_server(factory, sock=sock)
        address = sock.getsockname()
        reference = weakref.ref(server)
        del server
        client = Peer(socket.create_connection(address))
        await factory.until_count(1)
        client.close()
        await factory.protocols[0].until_lost()
        reference().close()
        await reference().wait_closed() if reference() else None

    run(loop, main())


def test_server_loop_closed_with_server_open_closes_nothing_twice(make_loop):
    """asyncio leaves the listening socket to its owner when the loop closes."""
    loop = make_loop()
    sock = socket.create_server(("127.0.0.1", 0))
    server = loop.run_until_complete(loop.create_server(Recorder, sock=sock))
    loop.close()
    server.close()
    sock.close()
