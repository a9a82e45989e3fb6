"""create_datagram_endpoint: every argument, alone and against the others."""

import asyncio
import inspect
import logging
import os
import socket
import sys

import pytest
from datagram_peers import (
    LOCAL,
    DatagramRecorder,
    endpoint,
    receive_all,
    udp_socket,
)
from harness import DATAGRAMS_PAUSE, iterations, oracle_lacks, run


def refused(loop, error, match, **options):
    async def main():
        with pytest.raises(error, match=match):
            await loop.create_datagram_endpoint(DatagramRecorder, **options)

    run(loop, main())


def test_signature_is_asyncios(loop):
    ours = inspect.signature(loop.create_datagram_endpoint)
    theirs = inspect.signature(asyncio.BaseEventLoop.create_datagram_endpoint)
    assert [*ours.parameters] == [*theirs.parameters][1:]
    for name, parameter in ours.parameters.items():
        assert parameter.kind == theirs.parameters[name].kind
        assert parameter.default == theirs.parameters[name].default


def test_reuse_address_is_refused_since_it_was_removed(loop):
    with pytest.raises(TypeError, match="reuse_address"):
        loop.create_datagram_endpoint(DatagramRecorder, local_addr=LOCAL, reuse_address=True)


def test_neither_address_nor_family_is_refused(loop):
    refused(loop, ValueError, "unexpected address family")


@pytest.mark.parametrize("address", ["localhost", ("localhost", 1, 2, 3), ["127.0.0.1", 0]])
@pytest.mark.parametrize("side", ["local_addr", "remote_addr"])
def test_address_that_is_no_pair_is_refused(loop, side, address):
    refused(loop, TypeError, "2-tuple is expected", **{side: address})


def test_addresses_of_two_families_are_refused(loop):
    refused(
        loop,
        ValueError,
        "can not get address information",
        local_addr=("127.0.0.1", 0),
        remote_addr=("::1", 1),
    )


@pytest.mark.parametrize(
    "option",
    [
        {"local_addr": LOCAL},
        {"remote_addr": LOCAL},
        {"family": socket.AF_INET},
        {"proto": 17},
        {"flags": 1},
        {"reuse_port": True},
        {"allow_broadcast": True},
    ],
    ids=lambda option: next(iter(option)),
)
def test_sock_together_with_what_makes_one_is_refused_by_name(loop, option):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        match = f"can not be used when sock.*{next(iter(option))}="
        refused(loop, ValueError, match, sock=sock, **option)
        assert sock.fileno() != -1


def test_stream_socket_is_refused(loop):
    with socket.socket() as sock:
        refused(loop, ValueError, "was expected, got <socket.socket", sock=sock)


def test_given_socket_is_made_non_blocking_and_used(loop):
    async def main():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(LOCAL)
        async with endpoint(sock=sock) as (transport, _):
            assert transport.get_extra_info("sockname") == sock.getsockname()
            assert sock.gettimeout() == 0
        assert sock.fileno() == -1

    run(loop, main())


def test_given_socket_is_the_callers_when_the_factory_fails(loop):
    def factory():
        raise ZeroDivisionError

    async def main():
        with udp_socket() as sock:
            with pytest.raises(ZeroDivisionError):
                await loop.create_datagram_endpoint(factory, sock=sock)
            assert sock.fileno() != -1

    run(loop, main())


def test_socket_that_we_made_is_closed_when_the_factory_fails(loop, loop_kind):
    oracle_lacks(loop_kind, True, "it leaves the socket to the collector")

    def factory():
        raise ZeroDivisionError

    async def main():
        with pytest.raises(ZeroDivisionError):
            await loop.create_datagram_endpoint(factory, local_addr=LOCAL)

    run(loop, main())


def test_family_alone_makes_an_unbound_socket_that_can_send(loop):
    async def main():
        async with endpoint(family=socket.AF_INET) as (transport, _):
            assert transport.get_extra_info("sockname") == ("0.0.0.0", 0)
            with udp_socket() as peer:
                transport.sendto(b"x", peer.getsockname())
                assert receive_all(peer) == [b"x"]

    run(loop, main())


def test_unix_family_alone_makes_an_unnamed_socket(loop):
    async def main():
        async with endpoint(family=socket.AF_UNIX) as (transport, _):
            assert transport.get_extra_info("sockname") == ""
            assert transport.get_extra_info("peername") is None

    run(loop, main())


def test_local_and_remote_address_bind_and_connect(loop):
    async def main():
        with udp_socket() as peer:
            remote = peer.getsockname()
            async with endpoint(local_addr=LOCAL, remote_addr=remote) as (transport, protocol):
                local = transport.get_extra_info("sockname")
                assert local[0] == "127.0.0.1" and local[1] != 0
                assert transport.get_extra_info("peername") == remote
                with udp_socket() as stranger:
                    stranger.sendto(b"not for you", local)
                peer.sendto(b"for you", local)
                await protocol.until_count(1)
                assert protocol.payloads == [b"for you"]

    run(loop, main())


def test_host_name_is_resolved_for_both_ends(loop):
    async def main():
        async with endpoint(local_addr=("localhost", 0), family=socket.AF_INET) as (one, protocol):
            port = one.get_extra_info("sockname")[1]
            async with endpoint(remote_addr=("localhost", port), family=socket.AF_INET) as (two, _):
                two.sendto(b"x")
                await protocol.until_count(1)

    run(loop, main())


def test_look_up_that_finds_nothing_is_an_os_error(loop):
    refused(loop, socket.gaierror, "not known", local_addr=("no such host.invalid", 0))


def test_address_in_use_is_the_first_attempts_error(loop):
    with udp_socket() as taken:
        refused(loop, OSError, "in use", local_addr=taken.getsockname())


def test_reuse_port_lets_two_endpoints_share_an_address(loop):
    async def main():
        async with endpoint(local_addr=LOCAL, reuse_port=True) as (one, _):
            where = one.get_extra_info("sockname")
            async with endpoint(local_addr=where, reuse_port=True) as (two, _):
                assert two.get_extra_info("sockname") == where
            for level_option in (socket.SO_REUSEPORT, socket.SO_REUSEADDR):
                sock = one.get_extra_info("socket")
                expected = level_option == socket.SO_REUSEPORT
                assert bool(sock.getsockopt(socket.SOL_SOCKET, level_option)) is expected

    run(loop, main())


def test_allow_broadcast_sends_to_the_remote_address_without_connecting(loop):
    async def main():
        with udp_socket() as peer:
            there = peer.getsockname()
            async with endpoint(remote_addr=there, allow_broadcast=True) as (transport, protocol):
                sock = transport.get_extra_info("socket")
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
                assert transport.get_extra_info("peername") is None
                transport.sendto(b"1")
                transport.sendto(b"2", there)
                with pytest.raises(ValueError, match="Invalid address"):
                    transport.sendto(b"3", ("127.0.0.1", 1))
                assert receive_all(peer) == [b"1", b"2"]
                with udp_socket() as anybody:
                    anybody.sendto(b"hello", ("127.0.0.1", sock.getsockname()[1]))
                    await protocol.until_count(1)

    run(loop, main())


# ---- UNIX ----


def test_stale_socket_file_is_replaced(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)

    async def main():
        async with endpoint(local_addr=path, family=socket.AF_UNIX) as (transport, protocol):
            async with endpoint(remote_addr=path, family=socket.AF_UNIX) as (client, _):
                assert client.get_extra_info("peername") == path
                client.sendto(b"x")
                client.sendto(b"y", path)
                await protocol.until_count(2)
                assert protocol.datagrams == [(b"x", None), (b"y", None)]

    run(loop, main())


def test_file_that_is_no_socket_is_left_alone(loop, tmp_path):
    path = tmp_path / "file"
    path.write_text("mine")
    refused(loop, OSError, "in use", local_addr=str(path), family=socket.AF_UNIX)
    assert path.read_text() == "mine"


def test_stale_socket_that_cannot_be_removed_is_logged(loop, tmp_path, caplog, monkeypatch):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(path)

    def remove(path):
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "remove", remove)
    with caplog.at_level(logging.ERROR, "asyncio"):
        refused(loop, OSError, "in use", local_addr=path, family=socket.AF_UNIX)
    assert caplog.messages[0].startswith("Unable to check or remove stale UNIX socket")


def test_abstract_name_is_bound_and_told_as_bytes(loop):
    name = f"\0uring_loop test {os.getpid()}"

    async def main():
        async with endpoint(local_addr=name, family=socket.AF_UNIX) as (transport, protocol):
            assert transport.get_extra_info("sockname") == name.encode()
            async with endpoint(family=socket.AF_UNIX) as (client, _):
                client.sendto(b"str", name)
                client.sendto(b"bytes", name.encode())
                await protocol.until_count(2)

    run(loop, main())


@pytest.mark.parametrize("address", [b"/bytes", ("127.0.0.1", 0), 5])
def test_unix_address_that_is_no_string_is_refused(loop, address):
    refused(loop, TypeError, "string is expected", local_addr=address, family=socket.AF_UNIX)


def test_unix_peer_that_is_not_there_is_an_error_of_the_call(loop, tmp_path):
    path = str(tmp_path / "nobody")
    refused(loop, FileNotFoundError, "No such file", remote_addr=path, family=socket.AF_UNIX)


def test_sendto_a_unix_path_that_is_not_there_is_told(loop, tmp_path):
    async def main():
        async with endpoint(family=socket.AF_UNIX) as (transport, protocol):
            transport.sendto(b"x", str(tmp_path / "nobody"))
            transport.sendto(b"x", "x" * 200)
            assert [type(error) for error in protocol.errors] == [FileNotFoundError, OSError]
            assert str(protocol.errors[1]) == "AF_UNIX path too long"

    run(loop, main())


# ---- other kinds of sockets ----


def test_sequenced_packets_keep_their_limits(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "it takes SOCK_DGRAM only before 3.13")

    async def main():
        sock, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        async with endpoint(sock=sock) as (_, protocol):
            for data in (b"one", b"two", b"three"):
                peer.send(data)
            await protocol.until_count(3)
            assert protocol.datagrams == [(b"one", None), (b"two", None), (b"three", None)]
        peer.close()

    run(loop, main())


def test_addresses_of_a_family_that_only_the_socket_module_knows(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "it takes SOCK_DGRAM only before 3.13")

    async def main():
        one, other = (socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) for _ in "12")
        for sock in (one, other):
            sock.bind((0, 0))
        async with endpoint(sock=one) as (transport, protocol):
            assert transport.get_extra_info("sockname") == one.getsockname()
            for data in (b"a" * 20, b"b" * 20):
                other.sendto(data, one.getsockname())
            await protocol.until_count(2)
            assert protocol.datagrams == [
                (b"a" * 20, other.getsockname()),
                (b"b" * 20, other.getsockname()),
            ]
        other.close()

    run(loop, main())


def test_interrupt_by_what_waited_in_such_a_socket_ends_no_reading(loop, loop_kind):
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "it takes SOCK_DGRAM only before 3.13")

    class Interrupting(DatagramRecorder):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if len(self.datagrams) == 1:
                raise KeyboardInterrupt

    one, other = (socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2) for _ in "12")
    for sock in (one, other):
        sock.bind((0, 0))
    for data in (b"a" * 20, b"b" * 20):
        other.sendto(data, one.getsockname())
    protocol = Interrupting()

    async def main():
        await loop.create_datagram_endpoint(lambda: protocol, sock=one)
        await protocol.until_count(2)

    with pytest.raises(KeyboardInterrupt):
        run(loop, main())
    run(loop, protocol.until_count(2))
    assert protocol.payloads == [b"a" * 20, b"b" * 20]
    protocol.transport.close()
    run(loop, protocol.until_called("connection_lost"))
    other.close()


# ---- what happens around it ----


def test_descriptor_of_an_open_endpoint_is_refused_to_others(loop):
    async def main():
        async with endpoint(local_addr=LOCAL) as (transport, _):
            descriptor = transport.get_extra_info("socket").fileno()
            with pytest.raises(RuntimeError, match="is used by transport"):
                loop.add_reader(descriptor, print)
            sock = transport.get_extra_info("socket")
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(sock._sock, 10)

    run(loop, main())


def test_cancelled_creation_closes_the_socket(loop):
    async def main():
        protocol = DatagramRecorder()
        task = asyncio.create_task(
            loop.create_datagram_endpoint(lambda: protocol, local_addr=LOCAL)
        )
        await iterations(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await protocol.until_called("connection_lost")
        await iterations(2)

    run(loop, main())


@pytest.mark.parametrize("side", ["local_addr", "remote_addr"])
def test_creation_is_logged_in_debug_mode(loop, loop_kind, caplog, side):
    oracle_lacks(loop_kind, not DATAGRAMS_PAUSE, "datagram transports cannot pause")

    async def main():
        with udp_socket() as peer:
            address = LOCAL if side == "local_addr" else peer.getsockname()
            async with endpoint(**{side: address}) as (transport, _):
                transport.pause_reading()
                transport.resume_reading()

    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    text = "\n".join(caplog.messages)
    assert f"{side}=" in text and "created: (" in text
    assert "pauses reading" in text and "resumes reading" in text


def test_addresses_of_such_a_family_are_none_once_the_transport_is_closed(loop, loop_kind):
    oracle_lacks(loop_kind, True, "it has asked for them at the beginning")

    async def main():
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 2)
        sock.bind((0, 0))
        async with endpoint(sock=sock) as (transport, protocol):
            transport.abort()
            await iterations(3)
            assert transport.get_extra_info("sockname") is None
            assert transport.get_extra_info("sockname", "nothing") is None

    run(loop, main())
