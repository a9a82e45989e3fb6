"""TLS peers that leave without a word, in every phase, and handshakes that are given up."""

import asyncio
import gc
import socket
import ssl

import pytest
from harness import (
    Echo,
    Peer,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    run,
    serving,
    tcp_pair,
)
from tls_peer import CUT_IS_CLOSED, NAME, TlsPeer, echoed, tls_attached


@pytest.fixture(params=["close", "reset"])
def leave(request):
    """How the peer goes: with an end of file, or with a reset."""
    return request.param


def opening(loop, certificates, server_side, protocol, sock, **options):
    if server_side:
        return loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=certificates.server(), **options
        )
    return loop.create_connection(
        lambda: protocol, sock=sock, ssl=certificates.client(), server_hostname=NAME, **options
    )


def peer_of(certificates, server_side, other):
    context = certificates.client() if server_side else certificates.server()
    return TlsPeer(other, context, server_side=not server_side)


# ---- in the handshake -------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["before", "first flight", "half a record", "garbage"])
def test_tls_peer_leaving_in_the_handshake_fails_it(loop, certificates, server_side, leave, phase):
    async def main():
        sock, other = tcp_pair()
        protocol = Recorder()
        task = loop.create_task(opening(loop, certificates, server_side, protocol, sock))
        tls = peer_of(certificates, server_side, other)
        if phase == "first flight" and server_side:
            await tls.handshake_first_flight()
        elif phase == "first flight":
            await tls.peer.readable()
        elif phase == "half a record":
            await tls.peer.send_all(b"\x16\x03\x01\x02\x00\x01\x00")
        elif phase == "garbage":
            await tls.peer.send_all(b"\x00" * 100)
        await iterations(3)
        getattr(tls, leave)()
        with pytest.raises((ConnectionResetError, ssl.SSLError, BrokenPipeError)):
            await task
        assert protocol.calls == []
        assert sock.fileno() == -1

    run(loop, main())


@pytest.mark.parametrize("phase", ["before", "first flight"])
def test_tls_server_goes_on_after_a_client_left_in_the_handshake(loop, certificates, leave, phase):
    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            for _ in range(5):
                tls = TlsPeer(socket.create_connection(address), certificates.client())
                if phase == "first flight":
                    await tls.handshake_first_flight()
                await iterations(2)
                getattr(tls, leave)()
            await echoed(
                loop.create_connection(
                    Recorder, *address, ssl=certificates.client(), server_hostname=NAME
                )
            )

    run(loop, main())


def test_tls_silent_peer_times_out(loop, certificates, server_side):
    async def main():
        sock, other = tcp_pair()
        text = "^SSL handshake is taking longer than 0.01 seconds: aborting the connection$"
        with pytest.raises(ConnectionAbortedError, match=text):
            await opening(
                loop, certificates, server_side, Recorder(), sock, ssl_handshake_timeout=0.01
            )
        assert sock.fileno() == -1
        other.close()

    run(loop, main())


def test_tls_server_drops_a_silent_client_after_the_time_limit(loop, certificates):
    async def main():
        options = {"ssl": certificates.server(), "ssl_handshake_timeout": 0.01}
        async with serving(Echo, **options) as (_, address):
            silent = Peer(socket.create_connection(address))
            assert await silent.recv() == b""
            silent.close()

    run(loop, main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 10])
def test_tls_connect_cancelled_in_the_handshake_leaves_nothing(
    loop, certificates, server_side, turns
):
    async def main():
        sock, other = tcp_pair()
        protocol = Recorder()
        task = loop.create_task(opening(loop, certificates, server_side, protocol, sock))
        await iterations(turns)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if turns:
            peer = Peer(other)
            await peer.recv_all()
            assert protocol.calls == []
        sock.close()
        other.close()

    run(loop, main())


def test_tls_connect_to_a_host_cancelled_at_any_turn_leaves_nothing(loop, certificates):
    """Resolving, connecting, shaking hands: the descriptors are counted after the test."""

    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            for turns in range(25):
                task = loop.create_task(
                    loop.create_connection(
                        Recorder, *address, ssl=certificates.client(), server_hostname=NAME
                    )
                )
                await iterations(turns)
                task.cancel()
                try:
                    transport, protocol = await task
                except asyncio.CancelledError:
                    continue
                transport.abort()
                await protocol.until_lost()

    run(loop, main())
    gc.collect()


def test_tls_cancelling_all_tasks_ends_handshakes_of_a_server(loop, certificates):
    """As asyncio.run() does at its end."""

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=certificates.server())
        silent = Peer(socket.create_connection(server.sockets[0].getsockname()))
        own = asyncio.current_task()
        before = asyncio.all_tasks()
        while not asyncio.all_tasks() - before:
            await asyncio.sleep(0)
        await iterations(3)
        for task in asyncio.all_tasks() - before:
            assert task is not own
            task.cancel()
        assert await silent.recv() == b""
        silent.close()
        server.close()
        await iterations(3)
        await server.wait_closed()

    run(loop, main())


def test_tls_server_closed_with_its_clients_in_the_handshake_waits_for_nobody(
    loop, loop_kind, certificates
):
    oracle_lacks(loop_kind, not hasattr(asyncio.Server, "abort_clients"), "no abort_clients()")

    async def main():
        server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=certificates.server())
        before = asyncio.all_tasks()
        silent = Peer(socket.create_connection(server.sockets[0].getsockname()))
        while not asyncio.all_tasks() - before:
            await asyncio.sleep(0)
        await iterations(3)
        server.close()
        server.abort_clients()
        await server.wait_closed()
        assert await silent.recv() == b""
        silent.close()

    run(loop, main())


# ---- afterwards -------------------------------------------------------------------------------


def test_tls_end_of_file_without_close_notify_ends_as_any_other(
    loop, certificates, server_side, version
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            await peer.send_all(b"last words")
            await protocol.until_size(10)
            # A close would reset the connection if there are session tickets to read.
            peer.peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            assert protocol.data == b"last words"
            assert protocol.names[-2:] == ["eof_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


def test_tls_reset_after_the_handshake_tells_the_protocol(loop, certificates, server_side, version):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            await peer.send_all(b"last words")
            await protocol.until_size(10)
            peer.reset()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)
            assert "eof_received" not in protocol.calls
            assert transport.is_closing()
            transport.write(b"into the void")

    run(loop, main())


def test_tls_garbage_after_the_handshake_ends_the_connection_with_an_ssl_error(
    loop, certificates, server_side
):
    async def main():
        options = {"server_side": server_side}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            await peer.peer.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLError)

    run(loop, main())


def test_tls_peer_leaving_with_bytes_pending_ends_the_connection(
    loop, certificates, server_side, leave
):
    async def main():
        options = {"server_side": server_side, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            for _ in range(64):
                transport.write(bytes(1 << 16))
            assert protocol.pauses == 1
            getattr(peer, leave)()
            await protocol.until_lost()
            assert isinstance(protocol.lost, OSError | None)

    run(loop, main())


def test_tls_peer_leaving_during_the_shutdown_ends_it(
    loop, certificates, server_side, version, leave
):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.close()
            await peer.peer.readable()
            getattr(peer, leave)()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError | ssl.SSLError | None)

    run(loop, main())


def test_tls_peer_that_never_answers_close_notify_is_given_up(loop, certificates, server_side):
    async def main():
        options = {"server_side": server_side, "ssl_shutdown_timeout": 0.01}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.close()
            await protocol.until_lost()
            assert isinstance(protocol.lost, TimeoutError)
            assert str(protocol.lost) == "SSL shutdown timed out"
            assert await peer.recv() == b""

    run(loop, main())


def test_tls_peer_that_never_reads_is_given_up_at_close(loop, certificates):
    async def main():
        options = {"ssl_shutdown_timeout": 0.01, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, _):
            transport.write(bytes(4 << 20))
            transport.close()
            await protocol.until_lost()
            assert isinstance(protocol.lost, TimeoutError)

    run(loop, main())


def test_tls_abort_ends_at_once_without_close_notify(loop, certificates, server_side):
    async def main():
        options = {"server_side": server_side}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.abort()
            transport.abort()
            await protocol.until_lost()
            assert protocol.lost is None
            assert protocol.names == ["connection_made", "connection_lost"]
            if CUT_IS_CLOSED:
                assert await peer.recv() == b""
                return
            with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
                await peer.recv()

    run(loop, main())


def test_start_tls_peer_leaving_in_the_handshake_is_told_to_everybody(
    loop, loop_kind, certificates, server_side, leave
):
    oracle_lacks(loop_kind, True, "the protocol never hears of a reset during the handshake")

    async def main():
        context = certificates.server() if server_side else certificates.client()
        name = None if server_side else NAME
        async with attached() as (transport, protocol, peer):
            upgrading = loop.create_task(
                loop.start_tls(
                    transport, protocol, context, server_side=server_side, server_hostname=name
                )
            )
            await iterations(5)
            getattr(peer, leave)()
            with pytest.raises(ConnectionResetError):
                await upgrading
            await protocol.until_lost()
            assert protocol.names.count("connection_lost") == 1

    run(loop, main())


def test_tls_handshake_that_cannot_be_timed_ends_the_connection(
    loop, loop_kind, errors, certificates, server_side
):
    oracle_lacks(loop_kind, True, "nobody hears of it, and the connection stays for ever")

    def refuse(*arguments, **options):
        loop.call_later = call_later
        raise LookupError("no timers")

    async def main():
        sock, other = tcp_pair()
        peer, protocol = Peer(other), Recorder()
        loop.call_later = refuse
        with pytest.raises(LookupError, match="no timers"):
            await opening(loop, certificates, server_side, protocol, sock)
        assert await peer.recv() == b""
        assert protocol.calls == []
        peer.close()

    call_later = loop.call_later
    run(loop, asyncio.wait_for(main(), 5))
    errors.clear()
