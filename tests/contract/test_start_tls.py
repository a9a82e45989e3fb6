"""start_tls: plain connections that become TLS ones, on either side."""

import asyncio
import gc
import socket
import ssl
import sys

import pytest
from harness import (
    PAIRS,
    BufferedRecorder,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    run,
    small_buffers,
    tcp_pair,
)
from tls_peer import NAME, TlsPeer


def ends(certificates, server_side, version=None):
    """(context of the transport under test, its options, context of the peer)."""
    server, client = certificates.server(version), certificates.client(version)
    if server_side:
        return server, {"server_side": True}, client
    return client, {"server_hostname": NAME}, server


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_start_tls_after_plain_talk_goes_on_encrypted(
    loop, certificates, server_side, version, pair, kind
):
    context, options, peers = ends(certificates, server_side, version)

    async def main():
        async with attached(kind(), PAIRS[pair]) as (plain, protocol, peer):
            await peer.send_all(b"STARTTLS\n")
            await protocol.until_size(9)
            plain.write(b"go ahead\n")
            assert await peer.recv_exactly(9) == b"go ahead\n"
            tls = TlsPeer(peer.sock, peers, server_side=not server_side)
            upgraded, _ = await asyncio.gather(
                loop.start_tls(plain, protocol, context, **options), tls.handshake()
            )
            assert upgraded is not plain
            assert upgraded.get_protocol() is protocol
            assert upgraded.get_extra_info("sslcontext") is context
            assert upgraded.get_extra_info("socket") is plain.get_extra_info("socket")
            upgraded.write(b"secret")
            assert await tls.recv_exactly(6) == b"secret"
            await tls.send_all(b"answer")
            await protocol.until_size(15)
            assert protocol.data == b"STARTTLS\nanswer"
            upgraded.close()
            assert await tls.recv() == b""
            await tls.notify()
            await protocol.until_lost()
            # The same connection still: made once, lost once.
            assert protocol.names.count("connection_made") == 1
            assert protocol.names.count("connection_lost") == 1

    run(loop, main())


def test_start_tls_pending_plain_bytes_leave_before_the_handshake(
    loop, loop_kind, certificates, server_side
):
    oracle_lacks(loop_kind, True, "the protocol that was paused before is never resumed")
    context, options, peers = ends(certificates, server_side)
    size = 4 << 20

    async def main():
        async with attached(small=True) as (plain, protocol, peer):
            plain.write(bytes(size))
            assert protocol.pauses == 1
            upgrading = loop.create_task(loop.start_tls(plain, protocol, context, **options))
            await iterations(3)
            assert await peer.recv_exactly(size) == bytes(size)
            tls = TlsPeer(peer.sock, peers, server_side=not server_side)
            await tls.handshake()
            upgraded = await upgrading
            await protocol.until(lambda: protocol.resumes == 1)
            upgraded.write(b"secret")
            assert await tls.recv_exactly(6) == b"secret"
            upgraded.abort()
            await protocol.until_lost()
            assert (protocol.pauses, protocol.resumes) == (1, 1)

    run(loop, main())


def test_start_tls_by_stream_writers_of_both_sides_talk(loop, certificates):
    async def main():
        async def serve(reader, writer):
            assert await reader.readline() == b"STARTTLS\n"
            writer.write(b"OK\n")
            await writer.start_tls(certificates.server())
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"OK\n"
        await writer.start_tls(certificates.client(), server_hostname=NAME)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await iterations(5)
        await server.wait_closed()

    run(loop, main())


def test_start_tls_client_that_did_not_wait_for_the_answer_is_understood(
    loop, loop_kind, certificates
):
    """Its handshake came together with its last plain line, into the stream reader."""
    oracle_lacks(loop_kind, sys.version_info < (3, 14), "what the reader holds is lost")

    async def main():
        done = loop.create_future()

        async def serve(reader, writer):
            assert await reader.readline() == b"PROXY\n"
            while not reader._buffer:
                await asyncio.sleep(0)
            await writer.start_tls(certificates.server())
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            done.set_result(None)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        sock = socket.create_connection(server.sockets[0].getsockname())
        tls = TlsPeer(sock, certificates.client())
        await tls.peer.send_all(b"PROXY\n")
        await tls.handshake()
        await tls.send_all(b"secret\n")
        assert await tls.recv_exactly(7) == b"secret\n"
        await tls.notify()
        await done
        tls.close()
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_start_tls_within_tls_talks(loop, certificates, server_side):
    context, options, _ = ends(certificates, server_side)
    other_context, other_options, _ = ends(certificates, not server_side)

    async def main():
        sock, other = tcp_pair()
        transports = []
        for end, its_context, its_options in (
            (sock, context, options),
            (other, other_context, other_options),
        ):
            protocol = Recorder()
            transport, _ = await loop.create_connection(lambda p=protocol: p, sock=end)
            transports.append([transport, protocol, its_context, its_options])
        for _ in range(2):
            upgraded = await asyncio.gather(
                *[
                    loop.start_tls(transport, protocol, its_context, **its_options)
                    for transport, protocol, its_context, its_options in transports
                ]
            )
            for entry, transport in zip(transports, upgraded, strict=True):
                entry[0] = transport
        (one, first, *_), (two, second, *_) = transports
        data = bytes(range(256)) * 4096
        one.write(data)
        two.write(data)
        await first.until_size(len(data))
        await second.until_size(len(data))
        assert first.data == second.data == data
        one.abort()
        await first.until_lost()
        await second.until_lost()

    run(loop, main())


def test_protocol_set_below_tls_gets_what_comes_and_what_was_written_leaves_encrypted(
    loop, certificates, server_side
):
    """The TLS above hears no more of its transport, and can still end it."""
    context, options, peers = ends(certificates, server_side)

    async def main():
        async with attached() as (plain, protocol, peer):
            tls = TlsPeer(peer.sock, peers, server_side=not server_side)
            upgraded, _ = await asyncio.gather(
                loop.start_tls(plain, protocol, context, **options), tls.handshake()
            )
            below = Recorder()
            upgraded.write(b"secret")
            plain.set_protocol(below)
            assert await tls.recv_exactly(6) == b"secret"
            plain.write(b"plain")
            assert await peer.recv_exactly(5) == b"plain"
            await peer.send_all(b"answer")
            await below.until_size(6)
            assert below.data == b"answer"
            upgraded.abort()
            await below.until_lost()
            assert protocol.names == ["connection_made"]

    run(loop, main())


# ---- refusals and failures --------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, True, "context", object()])
def test_start_tls_without_a_context_raises_type_error_and_changes_nothing(loop, wrong):
    async def main():
        async with attached() as (transport, protocol, peer):
            text = "^sslcontext is expected to be an instance of ssl.SSLContext, got "
            with pytest.raises(TypeError, match=text):
                await loop.start_tls(transport, protocol, wrong)
            await peer.send_all(b"plain")
            await protocol.until_size(5)

    run(loop, main())


@pytest.mark.parametrize("wrong", [None, object(), asyncio.Transport()])
def test_start_tls_of_what_is_no_stream_transport_raises_type_error(loop, certificates, wrong):
    with pytest.raises(TypeError, match=r"^transport .* is not supported by start_tls\(\)$"):
        run(loop, loop.start_tls(wrong, Recorder(), certificates.client()))


@pytest.mark.parametrize("timeout", [0, -1])
@pytest.mark.parametrize("option", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_start_tls_time_limit_not_positive_raises_and_changes_nothing(
    loop, certificates, option, timeout
):
    async def main():
        async with attached() as (transport, protocol, peer):
            with pytest.raises(ValueError, match=f"^{option} should be a positive number"):
                await loop.start_tls(
                    transport,
                    protocol,
                    certificates.client(),
                    server_hostname=NAME,
                    **{option: timeout},
                )
            await peer.send_all(b"plain")
            await protocol.until_size(5)

    run(loop, main())


def test_start_tls_silent_peer_times_out(loop, loop_kind, certificates, server_side):
    oracle_lacks(loop_kind, True, "the protocol never hears that its connection is lost")
    context, options, _ = ends(certificates, server_side)

    async def main():
        async with attached() as (transport, protocol, _):
            with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer"):
                await loop.start_tls(
                    transport, protocol, context, ssl_handshake_timeout=0.01, **options
                )
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionAbortedError)

    run(loop, main())


@pytest.mark.parametrize("how", ["close", "abort"])
def test_start_tls_of_a_transport_that_is_closing_raises(
    loop, loop_kind, certificates, server_side, how
):
    oracle_lacks(loop_kind, True, "None instead of a transport, as if it had succeeded")
    context, options, _ = ends(certificates, server_side)

    async def main():
        async with attached() as (transport, protocol, _):
            getattr(transport, how)()
            with pytest.raises(ConnectionError):
                await loop.start_tls(transport, protocol, context, **options)
            await protocol.until_lost()

    run(loop, main())


def test_start_tls_of_a_transport_that_is_closed_raises(loop, loop_kind, certificates, server_side):
    oracle_lacks(loop_kind, True, "waits until the time limit of the handshake")
    context, options, _ = ends(certificates, server_side)

    async def main():
        async with attached() as (transport, protocol, _):
            transport.abort()
            await protocol.until_lost()
            await iterations(3)
            with pytest.raises(ConnectionError):
                await loop.start_tls(transport, protocol, context, **options)

    run(loop, main())


def test_start_tls_transport_closed_meanwhile_raises(loop, loop_kind, certificates, server_side):
    oracle_lacks(loop_kind, True, "None instead of a transport, as if it had succeeded")
    context, options, _ = ends(certificates, server_side)

    async def main():
        async with attached() as (transport, protocol, _):
            upgrading = loop.create_task(loop.start_tls(transport, protocol, context, **options))
            await iterations(3)
            transport.close()
            with pytest.raises(ConnectionError):
                await upgrading
            await protocol.until_lost()

    run(loop, main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10])
def test_start_tls_cancelled_closes_the_transport(loop, certificates, server_side, turns):
    context, options, _ = ends(certificates, server_side)

    async def main():
        async with attached() as (transport, protocol, peer):
            upgrading = loop.create_task(loop.start_tls(transport, protocol, context, **options))
            await iterations(turns)
            upgrading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await upgrading
            if turns:
                await peer.recv_all()
                assert transport.is_closing()

    run(loop, main())


def test_start_tls_with_a_certificate_of_another_raises(loop, certificates):
    async def main():
        async with attached() as (transport, protocol, peer):
            tls = TlsPeer(peer.sock, certificates.server(), server_side=True)
            shaking = loop.create_task(tls.handshake())
            with pytest.raises(ssl.SSLCertVerificationError):
                await loop.start_tls(
                    transport, protocol, certificates.client(), server_hostname="other.test"
                )
            with pytest.raises((ssl.SSLError, OSError)):
                await shaking
            await protocol.until_lost()
            assert isinstance(protocol.lost, ssl.SSLCertVerificationError)

    run(loop, main())


def test_start_tls_on_a_paused_transport_reads_the_handshake(loop, certificates, server_side):
    context, options, peers = ends(certificates, server_side)

    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            tls = TlsPeer(peer.sock, peers, server_side=not server_side)
            upgraded, _ = await asyncio.gather(
                loop.start_tls(transport, protocol, context, **options), tls.handshake()
            )
            assert upgraded.is_reading()
            await tls.send_all(b"read")
            await protocol.until_size(4)
            upgraded.abort()
            await protocol.until_lost()

    run(loop, main())


def test_start_tls_of_an_accepted_socket_with_small_buffers_carries_bulk(loop, certificates):
    size = 4 << 20

    async def main():
        sock, other = tcp_pair()
        small_buffers(sock, other)
        protocol = Recorder()
        plain, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        tls = TlsPeer(other, certificates.client())
        transport, _ = await asyncio.gather(
            loop.start_tls(plain, protocol, certificates.server(), server_side=True),
            tls.handshake(),
        )
        for _ in range(size >> 16):
            transport.write(bytes(1 << 16))
        assert protocol.pauses == 1
        assert await tls.recv_exactly(size) == bytes(size)
        assert protocol.resumes == 1
        tls.close()
        await protocol.until_lost()

    run(loop, main())


def test_start_tls_of_a_stream_whose_reader_has_gone_talks(loop, certificates):
    async def main():
        sock, other = tcp_pair()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        plain, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        del reader
        gc.collect()
        tls = TlsPeer(other, certificates.client())
        transport, _ = await asyncio.gather(
            loop.start_tls(plain, protocol, certificates.server(), server_side=True),
            tls.handshake(),
        )
        transport.write(b"hello")
        assert await tls.recv_exactly(5) == b"hello"
        transport.abort()
        tls.close()
        await iterations(3)

    run(loop, main())
