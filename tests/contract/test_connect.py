"""create_connection and connect_accepted_socket: every way to a connection, and every refusal."""

import asyncio
import errno
import gc
import socket
import sys

import pytest
from harness import (
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


async def connected(loop, *arguments, **options):
    """Connect, check that bytes go both ways, close; the transport's sockname and peername."""
    transport, protocol = await loop.create_connection(Recorder, *arguments, **options)
    transport.write(b"ping")
    await protocol.until_size(4)
    assert protocol.data == b"ping"
    names = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    transport.close()
    await protocol.until_lost()
    assert protocol.names == ["connection_made", "data_received", "connection_lost"]
    return names


class EchoServer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


@pytest.mark.parametrize("port_type", [int, str])
def test_create_connection_by_address_connects(loop, port_type):
    async def main():
        async with serving(EchoServer) as (_, address):
            _, peername = await connected(loop, address[0], port_type(address[1]))
            assert peername == address

    run(loop, main())


def test_create_connection_by_name_connects(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            options = {"family": socket.AF_INET}
            _, peername = await connected(loop, "localhost", address[1], **options)
            assert peername == address

    run(loop, main())


def test_create_connection_over_ipv6_connects(loop):
    async def main():
        server = await loop.create_server(EchoServer, "::1", 0)
        port = server.sockets[0].getsockname()[1]
        _, peername = await connected(loop, "::1", port)
        assert peername[:2] == ("::1", port)
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_create_connection_returns_after_connection_made(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            transport, protocol = await loop.create_connection(Recorder, *address)
            assert protocol.calls == ["connection_made"]
            assert protocol.transport is transport
            assert isinstance(transport, asyncio.Transport)
            transport.abort()
            await protocol.until_lost()

    run(loop, main())


def test_create_connection_of_a_connected_socket_takes_it_over(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            sock = socket.create_connection(address)
            await connected(loop, sock=sock)
            assert sock.fileno() == -1

    run(loop, main())


def test_create_connection_sets_tcp_nodelay(loop):
    async def main():
        async with serving(Recorder) as (_, address):
            transport, protocol = await loop.create_connection(Recorder, *address)
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.abort()
            await protocol.until_lost()

    run(loop, main())


def test_create_connection_from_a_local_address_binds_to_it(loop):
    async def main():
        port = free_port()
        async with serving(EchoServer) as (_, address):
            sockname, _ = await connected(loop, *address, local_addr=("127.0.0.1", port))
            assert sockname == ("127.0.0.1", port)

    run(loop, main())


def test_create_connection_from_a_local_address_of_another_machine_raises(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            with pytest.raises(OSError, match="error while attempting to bind on address") as got:
                await loop.create_connection(Recorder, *address, local_addr=("192.0.2.1", 0))
            assert got.value.errno == errno.EADDRNOTAVAIL

    run(loop, main())


def test_create_connection_from_a_local_address_of_another_family_raises(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            with pytest.raises(OSError, match="no matching local address with family=.* found"):
                await loop.create_connection(Recorder, *address, local_addr=("::1", 0))

    run(loop, main())


def test_create_connection_refused_raises_and_makes_no_protocol(loop):
    async def main():
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(pytest.fail, "127.0.0.1", free_port())

    run(loop, main())


def test_create_connection_refused_error_is_in_no_reference_cycle(loop):
    """Its traceback shows frames; were it in their lists, only the collector would free them."""

    async def main():
        with pytest.raises(ConnectionRefusedError) as caught:
            await asyncio.get_running_loop().create_connection(
                Recorder, "127.0.0.1", free_port()
            )
        holders = [held for held in gc.get_referrers(caught.value) if isinstance(held, list)]
        assert holders == []

    run(loop, main())


def test_create_connection_first_address_refused_uses_the_second(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            answer_with(loop, [("127.0.0.1", free_port()), address])
            _, peername = await connected(loop, "some.name", 1)
            assert peername == address

    run(loop, main())


def test_create_connection_all_addresses_refused_raises_one_error_for_all(loop):
    async def main():
        ports = free_port(), free_port()
        answer_with(loop, [("127.0.0.1", ports[0]), ("127.0.0.2", ports[1])])
        with pytest.raises(OSError, match="^Multiple exceptions: ") as got:
            await loop.create_connection(Recorder, "some.name", 1)
        assert str(ports[0]) in str(got.value)
        assert str(ports[1]) in str(got.value)

    run(loop, main())


def test_create_connection_same_error_twice_raises_it_once(loop):
    async def main():
        port = free_port()
        answer_with(loop, [("127.0.0.1", port), ("127.0.0.1", port)])
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, "some.name", 1)

    run(loop, main())


def test_create_connection_all_errors_raises_a_group(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "create_connection has no all_errors")

    async def main():
        answer_with(loop, [("127.0.0.1", free_port()), ("127.0.0.2", free_port())])
        with pytest.raises(ExceptionGroup, match="create_connection failed") as got:
            await loop.create_connection(Recorder, "some.name", 1, all_errors=True)
        types = [type(error) for error in got.value.exceptions]
        assert types == [ConnectionRefusedError, ConnectionRefusedError]

    run(loop, main())


def test_create_connection_resolver_finding_nothing_raises(loop):
    async def main():
        answer_with(loop, [])
        with pytest.raises(OSError, match=r"^getaddrinfo\(\) returned empty list$"):
            await loop.create_connection(Recorder, "some.name", 1)

    run(loop, main())


def test_happy_eyeballs_dead_first_address_uses_the_second(loop):
    async def main():
        listener, fillers = never_answering()
        async with serving(EchoServer) as (_, address):
            answer_with(loop, [listener.getsockname(), address])
            _, peername = await connected(loop, "some.name", 1, happy_eyeballs_delay=0.005)
            assert peername == address
        for sock in (listener, *fillers):
            sock.close()

    run(loop, main())


def test_happy_eyeballs_refused_first_address_does_not_wait_for_the_delay(loop):
    async def main():
        async with serving(EchoServer) as (_, address):
            answer_with(loop, [("127.0.0.1", free_port()), address])
            start = loop.time()
            await connected(loop, "some.name", 1, happy_eyeballs_delay=20)
            assert loop.time() - start < 10

    run(loop, main())


def test_happy_eyeballs_all_refused_raises(loop):
    async def main():
        answer_with(loop, [("127.0.0.1", free_port()), ("127.0.0.2", free_port())])
        with pytest.raises(OSError, match="Multiple exceptions"):
            await loop.create_connection(Recorder, "some.name", 1, happy_eyeballs_delay=0.005)

    run(loop, main())


def test_happy_eyeballs_interleaves_the_families(loop):
    async def main():
        port = free_port()
        answer_with(loop, [("::1", port), ("::1", port), ("127.0.0.1", port), ("127.0.0.2", port)])
        with pytest.raises(OSError) as got:
            await loop.create_connection(Recorder, "some.name", 1, happy_eyeballs_delay=20)
        tried = [part for part in str(got.value).split("'") if part[:1] in (":", "1")]
        assert tried == ["::1", "127.0.0.1", "::1", "127.0.0.2"]

    run(loop, main())


def test_create_connection_cancelled_while_connecting_leaves_nothing(loop):
    async def main():
        listener, fillers = never_answering()
        task = loop.create_task(loop.create_connection(pytest.fail, *listener.getsockname()))
        await iterations(5)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for sock in (listener, *fillers):
            sock.close()

    run(loop, main())


def test_create_connection_cancelled_before_connection_made_closes_the_socket(loop):
    async def main():
        sock, other = socket.socketpair()
        protocol = Recorder()
        task = loop.create_task(loop.create_connection(lambda: protocol, sock=sock))
        await iterations(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        peer = Peer(other)
        assert await peer.recv() == b""
        peer.close()
        await iterations(2)
        assert protocol.calls in (["connection_made", "connection_lost"], [])

    run(loop, main())


def test_create_connection_factory_raising_propagates(loop):
    async def main():
        def factory():
            raise LookupError

        sock, other = socket.socketpair()
        with pytest.raises(LookupError):
            await loop.create_connection(factory, sock=sock)
        sock.close()
        other.close()

    run(loop, main())


def bad_arguments():
    text = "host/port and sock can not be specified at the same time"
    yield {"host": "127.0.0.1", "port": 1, "sock": True}, ValueError, text
    yield {"host": "127.0.0.1", "sock": True}, ValueError, text
    yield {"port": 1, "sock": True}, ValueError, text
    yield {}, ValueError, "host and port was not specified and no sock specified"
    text = "server_hostname is only meaningful with ssl"
    yield {"host": "127.0.0.1", "port": 1, "server_hostname": "x"}, ValueError, text
    text = "ssl_handshake_timeout is only meaningful with ssl"
    yield {"host": "127.0.0.1", "port": 1, "ssl_handshake_timeout": 1}, ValueError, text
    text = "ssl_shutdown_timeout is only meaningful with ssl"
    yield {"host": "127.0.0.1", "port": 1, "ssl_shutdown_timeout": 1}, ValueError, text
    text = "You must set server_hostname when using ssl without a host"
    yield {"sock": True, "ssl": True}, ValueError, text


@pytest.mark.parametrize("options, error, text", list(bad_arguments()))
def test_create_connection_bad_combination_raises(loop, options, error, text):
    with socket.socket() as sock:
        if "sock" in options:
            options = {**options, "sock": sock}
        with pytest.raises(error, match=f"^{text}$"):
            run(loop, loop.create_connection(pytest.fail, **options))


@pytest.mark.parametrize("port", [65536, -1, 10**6])
def test_create_connection_port_out_of_range_raises_overflow_error(loop, port):
    with pytest.raises(OverflowError):
        run(loop, loop.create_connection(pytest.fail, "127.0.0.1", port))


@pytest.mark.parametrize("port", ["no such service", "1.5"])
def test_create_connection_port_unknown_raises_gaierror(loop, port):
    with pytest.raises(socket.gaierror):
        run(loop, loop.create_connection(pytest.fail, "127.0.0.1", port))


def test_create_connection_datagram_socket_raises(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="^A Stream Socket was expected, got "):
            run(loop, loop.create_connection(pytest.fail, sock=sock))


def test_create_connection_socket_already_of_a_transport_raises(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "two transports may share a socket")

    async def main():
        sock, other = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.create_connection(Recorder, sock=sock)
        assert not transport.is_closing()
        transport.abort()
        await protocol.until_lost()
        other.close()

    run(loop, main())


def test_connect_accepted_socket_makes_a_transport_of_it(loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, address = listener.accept()
        transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
        assert transport.get_extra_info("peername") == address
        peer = Peer(client)
        transport.write(b"hello")
        assert await peer.recv_exactly(5) == b"hello"
        await peer.send_all(b"world")
        peer.close()
        await protocol.until_lost()
        assert protocol.data == b"world"

    run(loop, main())


def test_connect_accepted_socket_in_debug_mode_is_logged(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        accepted, other = socket.socketpair()
        transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
        other.close()
        await protocol.until_lost()
        return transport, protocol

    with caplog.at_level("DEBUG", "asyncio"):
        transport, protocol = run(loop, main())
    assert sum(" handled: (" in record.getMessage() for record in caplog.records) == 1


def test_connect_accepted_socket_of_a_datagram_socket_raises(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="^A Stream Socket was expected, got "):
            run(loop, loop.connect_accepted_socket(pytest.fail, sock))


@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_connect_accepted_socket_tls_options_without_tls_raise(loop, option):
    sock, other = socket.socketpair()
    with pytest.raises(ValueError, match=f"^{option} is only meaningful with ssl$"):
        run(loop, loop.connect_accepted_socket(pytest.fail, sock, **{option: 1}))
    sock.close()
    other.close()


def test_sock_connect_is_under_way_when_its_task_first_pauses(loop):
    """A listener of the same thread may then accept without the loop's help."""

    async def main():
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            listener.settimeout(5)
            client.setblocking(False)
            connecting = loop.create_task(loop.sock_connect(client, listener.getsockname()))
            await asyncio.sleep(0)
            listener.accept()[0].close()
            await connecting

    run(loop, main())
