"""TLS over TLS, and TLS that begins in mid-stream: layers of the same loop on one connection."""

import asyncio
import ssl
import sys

import pytest
from harness import (
    BufferedRecorder,
    Echo,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    run,
    small_buffers,
    tcp_pair,
)
from tls_peer import NAME, TlsPeer


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


class Buffered(BufferedRecorder):
    """With a view for its buffer, of which stock asyncio fills no copies."""

    def __init__(self, size=1 << 16):
        super().__init__()
        self.buffer = memoryview(bytearray(size))


async def upgraded(loop, certificates, ends, version=None):
    """Both ends' next transports; ends: (transport, protocol) of the client and the server."""
    (client, client_protocol), (server, server_protocol) = ends
    made = await asyncio.gather(
        loop.start_tls(client, client_protocol, certificates.client(version), server_hostname=NAME),
        loop.start_tls(server, server_protocol, certificates.server(version), server_side=True),
    )
    return list(zip(made, (client_protocol, server_protocol), strict=True))


async def layered(loop, certificates, count, kinds=(Recorder, Recorder), small=False):
    """The topmost (transport, protocol) of the client and of the server."""
    socks = tcp_pair()
    if small:
        small_buffers(*socks)
    ends = []
    for sock, kind in zip(socks, kinds, strict=True):
        protocol = kind()
        transport, _ = await loop.create_connection(lambda made=protocol: made, sock=sock)
        ends.append((transport, protocol))
    for _ in range(count):
        ends = await upgraded(loop, certificates, ends)
    return ends


async def ended(ends):
    for transport, _ in ends:
        transport.abort()
    for _, protocol in ends:
        await protocol.until_lost()
    await iterations(5)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", [Recorder, Buffered, lambda: Buffered(100)])
def test_tls_layers_carry_bulk_both_ways_at_once(loop, certificates, count, kind):
    size = 100_000 if count == 3 else 1 << 20

    async def main():
        ends = await layered(loop, certificates, count, (kind, kind), small=True)
        data = pattern(size)
        for transport, _ in ends:
            transport.write(data)
        for _, protocol in ends:
            await protocol.until_size(size)
            assert protocol.data == data
        await ended(ends)

    run(loop, main())


def test_tls_layers_are_objects_of_their_own(loop, certificates):
    async def main():
        ends = await layered(loop, certificates, 2)
        (client, _), (server, _) = ends
        inner = client.get_extra_info("ssl_object")
        assert type(inner) is ssl.SSLObject
        assert inner is not server.get_extra_info("ssl_object")
        unique = inner.get_channel_binding("tls-unique")
        assert unique == server.get_extra_info("ssl_object").get_channel_binding("tls-unique")
        await ended(ends)

    run(loop, main())


@pytest.mark.parametrize("at", [0, 1], ids=["client", "server"])
def test_tls_topmost_layer_closed_ends_both_protocols_without_an_error(loop, certificates, at):
    async def main():
        ends = await layered(loop, certificates, 2)
        transport, protocol = ends[at]
        _, other = ends[1 - at]
        transport.write(b"last words")
        transport.close()
        await other.until_lost()
        await protocol.until_lost()
        assert other.data == b"last words"
        assert (protocol.lost, other.lost) == (None, None)
        assert "eof_received" in other.calls
        await iterations(5)

    run(loop, main())


def test_tls_paused_topmost_layer_lets_in_no_more_than_its_buffers_hold(loop, certificates):
    async def main():
        ends = await layered(loop, certificates, 2, small=True)
        (client, sender), (server, receiver) = ends
        server.pause_reading()
        written = 0
        while not sender.pauses:
            client.write(pattern(1 << 16))
            written += 1 << 16
            await iterations(2)
            assert written < 32 << 20
        assert receiver.data == b""
        server.resume_reading()
        await receiver.until_size(written)
        assert receiver.data == pattern(1 << 16) * (written >> 16)
        await sender.until_called("resume_writing")
        await ended(ends)

    run(loop, main())


def test_tls_garbage_within_tls_ends_the_connection_with_an_ssl_error(
    loop, loop_kind, certificates
):
    """The outer records are right; the inner layer's are none."""
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "cannot abort the outer for a reason")

    async def main():
        sock, other = tcp_pair()
        protocol = Recorder()
        peer = TlsPeer(other, certificates.server(), server_side=True)
        opening = loop.create_connection(
            lambda: protocol, sock=sock, ssl=certificates.client(), server_hostname=NAME
        )
        (outer, _), _ = await asyncio.gather(opening, peer.handshake())
        upgrading = loop.create_task(
            loop.start_tls(outer, protocol, certificates.client(), server_hostname=NAME)
        )
        hello = await peer.recv()
        assert hello[0] == 22
        await peer.send_all(b"220 speak friend and enter\r\n")
        with pytest.raises(ssl.SSLError):
            await upgrading
        peer.close()
        await iterations(10)

    run(loop, main())


# ---- in mid-stream ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Recorder, Buffered])
@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_start_tls_after_plain_bulk_both_ways_loses_none_of_it(loop, certificates, kind, size):
    async def main():
        ends = await layered(loop, certificates, 0, (kind, kind), small=True)
        for transport, _ in ends:
            transport.write(pattern(size))
        for _, protocol in ends:
            await protocol.until_size(size)
        ends = await upgraded(loop, certificates, ends)
        for transport, _ in ends:
            transport.write(pattern(size) + b"secret")
        for _, protocol in ends:
            await protocol.until_size(2 * size + 6)
            assert protocol.data == pattern(size) * 2 + b"secret"
        await ended(ends)

    run(loop, main())


def test_start_tls_from_a_task_that_data_received_began(loop, certificates):
    class Upgrading(Echo):
        def data_received(self, data):
            if data == b"STARTTLS\n":
                self.transport.write(b"OK\n")
                # Nothing of the handshake may reach the plain protocol meanwhile.
                self.transport.pause_reading()
                self.task = loop.create_task(self.upgrade())
            else:
                super().data_received(data)

        async def upgrade(self):
            self.transport = await loop.start_tls(
                self.transport, self, certificates.server(), server_side=True
            )

    async def main():
        protocol = Upgrading()
        async with attached(protocol) as (_, _, peer):
            await peer.send_all(b"STARTTLS\n")
            assert await peer.recv_exactly(3) == b"OK\n"
            tls = TlsPeer(peer.sock, certificates.client())
            await tls.handshake()
            # Until then it would answer through the transport below.
            await protocol.task
            for size in (1, 20_000):
                await tls.send_all(pattern(size))
                assert await tls.recv_exactly(size) == pattern(size)
            protocol.transport.abort()

    run(loop, main())


def test_start_tls_and_the_first_data_in_one_segment_are_both_understood(loop, certificates):
    """What follows the last flight of the handshake belongs to the protocol."""

    class Eager(TlsPeer):
        async def handshake(self):
            await self.handshake_first_flight()
            while True:
                self._incoming.write(await self.peer.recv())
                try:
                    self.ssl.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                else:
                    break
            self.ssl.write(b"GET /\n")
            await self._flush()

    async def main():
        async with attached() as (plain, protocol, peer):
            tls = Eager(peer.sock, certificates.client(ssl.TLSVersion.TLSv1_3))
            upgraded_transport, _ = await asyncio.gather(
                loop.start_tls(plain, protocol, certificates.server(), server_side=True),
                tls.handshake(),
            )
            await protocol.until_size(6)
            assert protocol.data == b"GET /\n"
            upgraded_transport.abort()
            await protocol.until_lost()

    run(loop, main())


def test_start_tls_gives_a_transport_of_the_same_socket_that_reads(loop, certificates):
    async def main():
        ends = await layered(loop, certificates, 0)
        plain = ends[0][0]
        plain.pause_reading()
        ends = await upgraded(loop, certificates, ends)
        (client, _), (_, receiver) = ends
        assert client.get_extra_info("socket") is plain.get_extra_info("socket")
        assert client.is_reading()
        client.write(b"over TLS")
        await receiver.until_size(8)
        await ended(ends)

    run(loop, main())
