"""Where create_server listens: hosts, ports, families, and what becomes of a refusal."""

import errno
import socket
import sys

import pytest
from harness import Echo, Peer, Recorder, iterations, oracle_lacks, run
from ports import free_port


async def closed(server):
    server.close()
    await iterations(3)
    await server.wait_closed()


def names(server):
    return sorted(sock.getsockname()[0] for sock in server.sockets)


async def answers(server):
    """Whether each listening socket of the server answers."""
    for sock in server.sockets:
        host, port = sock.getsockname()[:2]
        address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port
        peer = Peer(socket.create_connection(address))
        await peer.send_all(b"ping")
        assert await peer.recv_exactly(4) == b"ping"
        peer.close()


@pytest.mark.parametrize("make", [list, tuple, iter, dict.fromkeys])
def test_create_server_hosts_of_any_iterable_type_are_listened_on(loop, make):
    async def main():
        hosts = make(["127.0.0.1", "127.0.0.2", "::1"])
        server = await loop.create_server(Echo, hosts, 0)
        assert names(server) == ["127.0.0.1", "127.0.0.2", "::1"]
        # Port 0 asks for any port, for each of them.
        assert all(sock.getsockname()[1] for sock in server.sockets)
        await answers(server)
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("host", [None, ""])
def test_create_server_any_host_listens_on_both_families(loop, host):
    async def main():
        server = await loop.create_server(Echo, host, 0)
        assert names(server) == ["0.0.0.0", "::"]
        await answers(server)
        await closed(server)

    run(loop, main())


def test_create_server_port_without_host_listens_on_both_families_at_that_port(loop):
    async def main():
        port = free_port()
        server = await loop.create_server(Echo, port=port)
        assert {sock.getsockname()[1] for sock in server.sockets} == {port}
        assert names(server) == ["0.0.0.0", "::"]
        await answers(server)
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("port", [None, "0", 0])
def test_create_server_host_with_any_port_gets_one(loop, port):
    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", port)
        assert server.sockets[0].getsockname()[1] > 0
        await answers(server)
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("family, name", [("AF_INET", "0.0.0.0"), ("AF_INET6", "::")])
def test_create_server_family_restricts_the_addresses(loop, family, name):
    async def main():
        server = await loop.create_server(Echo, None, 0, family=getattr(socket, family))
        assert names(server) == [name]
        await answers(server)
        await closed(server)

    run(loop, main())


def test_create_server_without_passive_flag_listens_on_the_loopback(loop):
    async def main():
        options = {"family": socket.AF_INET, "flags": 0}
        server = await loop.create_server(Echo, None, 0, **options)
        assert names(server) == ["127.0.0.1"]
        await closed(server)

    run(loop, main())


def test_create_server_family_that_the_host_does_not_have_raises(loop):
    with pytest.raises(socket.gaierror):
        run(loop, loop.create_server(pytest.fail, "::1", 0, family=socket.AF_INET))


def test_create_server_unknown_flag_reaches_getaddrinfo(loop):
    with pytest.raises(socket.gaierror):
        run(loop, loop.create_server(pytest.fail, "localhost", 0, flags=socket.AI_NUMERICHOST))


def test_create_server_names_of_one_address_are_bound_once(loop):
    async def main():
        port = free_port()
        options = {"family": socket.AF_INET}
        server = await loop.create_server(Echo, ["127.0.0.1", "localhost"], port, **options)
        assert names(server) == ["127.0.0.1"]
        await closed(server)

    run(loop, main())


def test_create_server_two_with_reuse_port_share_a_port(loop):
    async def main():
        one = await loop.create_server(Echo, "127.0.0.1", 0, reuse_port=True)
        port = one.sockets[0].getsockname()[1]
        two = await loop.create_server(Echo, "127.0.0.1", port, reuse_port=True)
        await answers(one)
        await answers(two)
        await closed(one)
        await answers(two)
        await closed(two)

    run(loop, main())


def test_create_server_address_in_use_names_the_address(loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as sock:
            address = sock.getsockname()
            with pytest.raises(OSError) as got:
                await loop.create_server(pytest.fail, *address)
        assert got.value.errno == errno.EADDRINUSE
        text = f"error while attempting to bind on address {address!r}: "
        assert got.value.strerror.startswith(text)
        assert got.value.strerror.endswith("address already in use")

    run(loop, main())


def test_create_server_one_address_in_use_closes_the_others(loop):
    async def main():
        with socket.create_server(("127.0.0.2", 0)) as sock:
            port = sock.getsockname()[1]
            for hosts in (["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]):
                with pytest.raises(OSError, match="error while attempting to bind"):
                    await loop.create_server(pytest.fail, hosts, port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))

    run(loop, main())


def test_create_server_address_of_another_machine_is_refused_as_this_python_does(loop):
    async def main():
        with pytest.raises(OSError) as got:
            await loop.create_server(pytest.fail, "192.0.2.1", 0)
        if sys.version_info >= (3, 13):
            text = "could not bind on any address out of [('192.0.2.1', 0)]"
            assert str(got.value) == text
        else:
            assert got.value.errno == errno.EADDRNOTAVAIL
            assert "error while attempting to bind on address ('192.0.2.1', 0): " in str(got.value)

    run(loop, main())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio of this Python refuses them all")
def test_create_server_one_address_of_another_machine_is_passed_over(loop):
    async def main():
        server = await loop.create_server(Echo, ["192.0.2.1", "127.0.0.1"], 0)
        assert names(server) == ["127.0.0.1"]
        await answers(server)
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("debug", [False, True])
def test_create_server_passes_over_what_the_system_has_no_socket_for(loop, caplog, debug):
    """A resolver may know of a family, or a protocol, of which the kernel does not."""
    loop.set_debug(debug)
    loop.slow_callback_duration = 60

    async def main():
        port = free_port()

        async def getaddrinfo(*arguments, **options):
            stream = socket.SOCK_STREAM
            return [
                (socket.AF_INET, stream, 250, "", ("127.0.0.1", port)),
                (socket.AF_INET, stream, socket.IPPROTO_TCP, "", ("127.0.0.1", port)),
            ]

        loop.getaddrinfo = getaddrinfo
        server = await loop.create_server(Recorder, "some.name", port)
        (sock,) = server.sockets
        assert sock.getsockname() == ("127.0.0.1", port)
        server.close()
        await server.wait_closed()

    run(loop, main())
    said = [entry for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(said) == debug
    for entry in said:
        assert "create_server() failed to create socket.socket(" in entry.getMessage()
        assert entry.exc_info[0] is OSError


def test_create_server_resolver_finding_nothing_raises(loop):
    async def getaddrinfo(host, port, **options):
        return []

    loop.getaddrinfo = getaddrinfo
    text = r"^getaddrinfo\('some.name'\) returned empty list$"
    with pytest.raises(OSError, match=text):
        run(loop, loop.create_server(pytest.fail, "some.name", 0))


def test_create_server_backlog_reaches_listen(loop, monkeypatch):
    backlogs = []
    listen = socket.socket.listen

    def noting(self, backlog):
        backlogs.append(backlog)
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", noting)

    async def main():
        for options in ({}, {"backlog": 7}):
            server = await loop.create_server(Recorder, "127.0.0.1", 0, **options)
            await closed(server)

    run(loop, main())
    assert backlogs == [100, 7]


@pytest.mark.parametrize("backlog", [0, 1])
def test_create_server_with_the_smallest_backlog_serves(loop, loop_kind, backlog):
    oracle_lacks(
        loop_kind, backlog == 0 and sys.version_info < (3, 15), "accepts no connection at all"
    )

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=backlog)
        for _ in range(3):
            await answers(server)
        await closed(server)

    run(loop, main())


def test_create_server_of_a_blocking_socket_makes_it_nonblocking(loop):
    async def main():
        sock = socket.create_server(("127.0.0.1", 0))
        assert sock.getblocking()
        server = await loop.create_server(Echo, sock=sock)
        assert not sock.getblocking()
        await answers(server)
        await closed(server)
        assert sock.fileno() == -1

    run(loop, main())


def test_create_server_of_a_unix_socket_serves(loop, tmp_path):
    """asyncio asks only for a stream socket."""
    path = str(tmp_path / "socket")

    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        server = await loop.create_server(Echo, sock=sock)
        _, protocol = await loop.create_unix_connection(Recorder, path)
        protocol.transport.write(b"ping")
        await protocol.until_size(4)
        protocol.transport.close()
        await protocol.until_lost()
        await closed(server)

    run(loop, main())


def test_create_server_listen_refused_leaves_nothing(loop, loop_kind, monkeypatch):
    oracle_lacks(loop_kind, True, "leaves its sockets to the collector, and one accepting")
    listen = socket.socket.listen
    calls = []

    def refusing(self, backlog):
        calls.append(self)
        if len(calls) == 2:
            raise OSError(errno.EADDRINUSE, "refused")
        listen(self, backlog)

    monkeypatch.setattr(socket.socket, "listen", refusing)
    with pytest.raises(OSError, match="refused"):
        run(loop, loop.create_server(pytest.fail, ["127.0.0.1", "127.0.0.2"], 0))
    assert [sock.fileno() for sock in calls] == [-1, -1]
    calls.clear()


def test_start_serving_refused_can_be_tried_again(loop, loop_kind):
    oracle_lacks(loop_kind, True, "a server that failed to listen passes for one that serves")

    async def main():
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", 0))
            address = other.getsockname()
            server = await loop.create_server(Echo, *address, start_serving=False)
            other.listen()
            with pytest.raises(OSError) as got:
                await server.start_serving()
            assert got.value.errno == errno.EADDRINUSE
            assert not server.is_serving()
        await server.start_serving()
        assert server.is_serving()
        await answers(server)
        await closed(server)

    run(loop, main())


@pytest.mark.parametrize("turns", range(8))
def test_create_server_cancelled_at_any_turn_leaves_nothing(loop, loop_kind, turns):
    oracle_lacks(loop_kind, True, "a server that was cancelled while starting serves for ever")

    async def main():
        # A name is resolved by a thread; an address is not.
        for host in ("localhost", "127.0.0.1"):
            options = {"family": socket.AF_INET}
            task = loop.create_task(loop.create_server(Echo, host, 0, **options))
            await iterations(turns)
            task.cancel()
            try:
                server = await task
            except BaseException as exc:
                assert type(exc).__name__ == "CancelledError"
            else:
                await closed(server)

    run(loop, main())


@pytest.mark.parametrize("given", [False, True], ids=["made", "given"])
@pytest.mark.parametrize(
    ("host", "called"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.3"),
        ("::1", "::1"),
        ("::", "::1"),
    ],
)
def test_accepted_connection_has_its_own_names_and_sends_small_writes_at_once(
    loop, host, called, given
):
    """Whatever of this is asked of the listening socket instead: the kernel says the same."""

    async def main():
        protocol = Recorder()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if given:
            sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            sock.bind((host, 0))
            server = await loop.create_server(lambda: protocol, sock=sock)
        else:
            server = await loop.create_server(lambda: protocol, host, 0)
        port = server.sockets[0].getsockname()[1]
        client = Peer(socket.create_connection((called, port)))
        await protocol.until_called("connection_made")
        transport = protocol.transport
        accepted = transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == client.sock.getpeername()
        assert transport.get_extra_info("sockname") == accepted.getsockname()
        assert transport.get_extra_info("peername") == client.sock.getsockname()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
        await protocol.until_lost()
        await closed(server)

    run(loop, main())
