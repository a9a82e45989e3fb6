"""TLS sessions: resumed ones, renegotiated ones of TLS 1.2, and the key updates of TLS 1.3."""

import gc
import socket
import ssl
import weakref

import pytest
from harness import Echo, Recorder, iterations, run, serving
from openssl_calls import allow_renegotiation, renegotiate, update_key
from tls_peer import NAME, TlsPeer, tls_attached
from tls_records import CLIENT_HELLO, HANDSHAKE, HELLO_REQUEST, Forger, message

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


async def echoed(peer, data):
    await peer.send_all(data)
    assert await peer.recv_exactly(len(data)) == data


# ---- resumed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tickets", [True, False])
def test_tls_server_resumes_a_session_by_ticket_and_by_its_own_memory(
    loop, certificates, version, tickets
):
    made = []

    class Served(Echo):
        def connection_made(self, transport):
            super().connection_made(transport)
            made.append(transport.get_extra_info("ssl_object").session_reused)

    async def main():
        server = certificates.server(version)
        if not tickets:
            server.options |= ssl.OP_NO_TICKET
        client = certificates.client(version)
        session = None
        async with serving(Served, ssl=server) as (_, address):
            for _ in range(3):
                peer = TlsPeer(socket.create_connection(address), client)
                if session is not None:
                    peer.ssl.session = session
                await peer.handshake()
                await echoed(peer, pattern(50_000))
                assert peer.ssl.session_reused is (session is not None)
                session = peer.ssl.session
                # Nobody resumes what was broken off.
                await peer.notify()
                assert await peer.recv() == b""
                peer.close()
        assert made == [False, True, True]

    run(loop, main())


def test_tls_session_of_a_clients_transport_can_be_resumed(loop, certificates, version):
    async def main():
        client = certificates.client(version)
        async with serving(Echo, ssl=certificates.server(version)) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=client, server_hostname=NAME
            )
            # TLS 1.3 sends its tickets after the handshake.
            transport.write(b"x")
            await protocol.until_size(1)
            session = transport.get_extra_info("ssl_object").session
            assert isinstance(session, ssl.SSLSession)
            assert session.id
            assert session.has_ticket
            assert session.timeout > 0
            transport.close()
            await protocol.until_lost()
            peer = TlsPeer(socket.create_connection(address), client)
            peer.ssl.session = session
            await peer.handshake()
            assert peer.ssl.session_reused is True
            await echoed(peer, b"again")
            peer.close()

    run(loop, main())


def test_tls_session_statistics_of_the_context_count_what_the_loop_has_done(loop, certificates):
    """SSLContext.session_stats() is of the SSL_CTX, whoever moves the records."""

    async def main():
        server = certificates.server(TLS_1_2)
        client = certificates.client(TLS_1_2)
        async with serving(Echo, ssl=server) as (_, address):
            session = None
            for _ in range(2):
                peer = TlsPeer(socket.create_connection(address), client)
                if session is not None:
                    peer.ssl.session = session
                await peer.handshake()
                await echoed(peer, b"x")
                session = peer.ssl.session
                await peer.notify()
                assert await peer.recv() == b""
                peer.close()
        stats = server.session_stats()
        assert (stats["accept"], stats["accept_good"], stats["hits"]) == (2, 2, 1)

    run(loop, main())


# ---- renegotiated -----------------------------------------------------------------------------


def contexts(certificates, server_side):
    """(of the transport, of the peer), of TLS 1.2, which let the peer renegotiate."""
    server = allow_renegotiation(certificates.server(TLS_1_2))
    client = certificates.client(TLS_1_2)
    own, peers = (server, client) if server_side else (client, server)
    return {"server_side": server_side, "version": TLS_1_2, "context": own, "peer_context": peers}


def handshakes(peer):
    """What distinguishes one handshake from the next: its Finished message."""
    return peer.ssl.get_channel_binding("tls-unique")


def test_tls_peer_renegotiates_in_mid_stream_and_the_stream_goes_on(
    loop, certificates, server_side
):
    async def main():
        options = contexts(certificates, server_side)
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            tls = transport.get_extra_info("ssl_object")
            sent = 0
            for number in range(5):
                before = handshakes(peer)
                renegotiate(peer)
                # A client's write begins with the handshake; a server's asks the client for it.
                await peer.send_all(b"%d" % number)
                sent += 1
                await protocol.until_size(sent)
                transport.write(b"answer")
                assert await peer.recv_exactly(6) == b"answer"
                assert handshakes(peer) != before
                assert tls.get_channel_binding("tls-unique") == handshakes(peer)
            assert protocol.data == b"01234"
            await peer.notify()
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_tls_renegotiation_while_bulk_is_sent_both_ways_loses_nothing(
    loop, certificates, server_side
):
    size = 1 << 20

    async def main():
        options = contexts(certificates, server_side)
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            data = pattern(size)
            for start in range(0, size, 1 << 17):
                transport.write(data[start : start + (1 << 16)])
                await peer.recv_exactly(1 << 16)
                renegotiate(peer)
                await peer.send_all(data[start : start + (1 << 17)])
                transport.write(data[start + (1 << 16) : start + (1 << 17)])
                await peer.recv_exactly(1 << 16)
            await protocol.until_size(size)
            assert protocol.data == data

    run(loop, main())


def test_tls_renegotiation_that_the_context_forbids_is_answered_as_openssl_does(
    loop, certificates, server_side, tmp_path
):
    """What asks for it is passed over with a warning, and the data behind it arrives."""

    async def main():
        options = contexts(certificates, server_side)
        options["context"].options |= ssl.OP_NO_RENEGOTIATION
        options["peer_context"].keylog_filename = str(tmp_path / "keys")
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            forger = Forger(peer, tmp_path / "keys")
            if server_side:
                asking = message(CLIENT_HELLO, b"\3\3" + bytes(32) + b"\0\0\2\0\xff\1\0")
            else:
                asking = message(HELLO_REQUEST)
            await peer.peer.send_all(forger.seal(HANDSHAKE, asking))
            await iterations(5)
            await peer.peer.send_all(forger.data(b"behind"))
            await protocol.until(lambda: protocol.lost or len(protocol.data) == 6)
            assert (protocol.lost, protocol.data) == (None, b"behind")

    run(loop, main())


# ---- keys that OpenSSL changes ----------------------------------------------------------------


@pytest.mark.parametrize("requested", [False, True])
def test_tls_key_updates_by_openssl_in_mid_stream_lose_nothing(
    loop, certificates, server_side, requested
):
    async def main():
        options = {"server_side": server_side, "version": TLS_1_3}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            data = pattern(40_000)
            for number in range(1, 11):
                update_key(peer, requested)
                await peer.send_all(data)
                await protocol.until_size(number * len(data))
                transport.write(data)
                assert await peer.recv_exactly(len(data)) == data
            assert protocol.data == data * 10

    run(loop, main())


def test_tls_key_update_asked_for_while_reading_is_paused_is_answered_when_it_resumes(
    loop, certificates, server_side
):
    async def main():
        options = {"server_side": server_side, "version": TLS_1_3}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.pause_reading()
            update_key(peer, True)
            await peer.send_all(b"in")
            await iterations(10)
            transport.write(b"out")
            assert await peer.recv_exactly(3) == b"out"
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.until_size(2)
            transport.write(b"after")
            assert await peer.recv_exactly(5) == b"after"

    run(loop, main())


def test_tls_sessions_of_ended_connections_keep_no_connection(loop, certificates, version):
    """A session outlives its transport, and holds nothing of it."""

    async def main():
        async with serving(Echo, ssl=certificates.server(version)) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=certificates.client(version), server_hostname=NAME
            )
            transport.write(b"x")
            await protocol.until_size(1)
            tls = transport.get_extra_info("ssl_object")
            transport.close()
            await protocol.until_lost()
            return tls.session, weakref.ref(transport), weakref.ref(tls)

    session, transport, tls = run(loop, main())
    run(loop, iterations(5))
    gc.collect()
    assert (transport(), tls()) == (None, None)
    assert session.id is not None
