"""Many connections, one after another and at once."""

import asyncio
import os
import resource
import socket

import pytest
from harness import Echo, Peer, Recorder, iterations, run, serving


@pytest.fixture
def many_descriptors():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("the hard limit of open descriptors is below 4096")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_load_thousands_of_short_connections_leave_nothing(loop):
    async def main():
        async with serving(Echo) as (_, address):

            async def client(count):
                for _ in range(count):
                    transport, protocol = await loop.create_connection(Recorder, *address)
                    transport.write(b"hello")
                    await protocol.until_size(5)
                    transport.close()
                    await protocol.until_lost()

            await client(10)
            before = len(os.listdir("/proc/self/fd"))
            await asyncio.gather(*(client(100) for _ in range(20)))
            # The server's ends follow when the loop has seen their end of stream.
            while len(os.listdir("/proc/self/fd")) > before:
                await asyncio.sleep(0)

    run(loop, main())


def test_load_connections_aborted_at_once_by_the_client_harm_nothing(loop):
    async def main():
        async with serving(Echo) as (_, address):
            for _ in range(300):
                Peer(socket.create_connection(address)).reset()
                await iterations(1)
            transport, protocol = await loop.create_connection(Recorder, *address)
            transport.write(b"still serving")
            await protocol.until_size(13)
            transport.close()
            await protocol.until_lost()

    run(loop, main())


def test_load_a_thousand_connections_at_once_all_echo(loop, many_descriptors):
    async def main():
        async with serving(Echo, backlog=1024) as (_, address):
            pairs = await asyncio.gather(
                *(loop.create_connection(Recorder, *address) for _ in range(1000))
            )
            for rounds in range(1, 4):
                for number, (transport, _) in enumerate(pairs):
                    transport.write(b"%04d" % number * 25)
                for number, (_, protocol) in enumerate(pairs):
                    await protocol.until_size(100 * rounds)
                    assert protocol.data == b"%04d" % number * 25 * rounds
            for transport, _ in pairs:
                transport.close()
            for _, protocol in pairs:
                await protocol.until_lost()
                assert protocol.lost is None

    run(loop, main())


def test_load_many_connections_with_bulk_both_ways_lose_nothing(loop):
    size = 1 << 20

    async def main():
        async with serving(Echo) as (_, address):
            blob = os.urandom(size)

            async def client():
                transport, protocol = await loop.create_connection(Recorder, *address)
                for start in range(0, size, 50_000):
                    transport.write(blob[start : start + 50_000])
                    await asyncio.sleep(0)
                await protocol.until_size(size)
                assert protocol.data == blob
                transport.close()
                await protocol.until_lost()

            await asyncio.gather(*(client() for _ in range(20)))

    run(loop, main())


def test_load_burst_of_accepts_larger_than_the_backlog_is_served(loop):
    async def main():
        async with serving(Echo, backlog=5) as (_, address):

            async def client(number):
                transport, protocol = await loop.create_connection(Recorder, *address)
                transport.write(b"%04d" % number)
                await protocol.until_size(4)
                assert protocol.data == b"%04d" % number
                transport.close()
                await protocol.until_lost()

            await asyncio.gather(*(client(number) for number in range(5)))
            for batch in range(20):
                await asyncio.gather(*(client(batch * 5 + number) for number in range(5)))

    run(loop, main())


def test_load_more_bytes_in_flight_than_any_pool_of_buffers_holds(loop):
    """All connections have data ready in one turn, more than fits any fixed pool."""

    async def main():
        count, size = 200, 100_000
        protocols, others = [], []
        for _ in range(count):
            sock, other = socket.socketpair()
            protocol = Recorder()
            await loop.create_connection(lambda protocol=protocol: protocol, sock=sock)
            protocols.append(protocol)
            others.append(Peer(other))
        blob = os.urandom(size)
        senders = [loop.create_task(other.send_all(blob)) for other in others]
        for protocol in protocols:
            await protocol.until_size(size)
            assert protocol.data == blob
        await asyncio.gather(*senders)
        for protocol in protocols:
            protocol.transport.close()
        for protocol in protocols:
            await protocol.until_lost()
        for other in others:
            other.close()

    run(loop, main())


def test_load_paused_connections_hold_no_buffers_that_others_need(loop):
    """Hundreds of paused transports with bytes waiting must not starve one that reads."""

    async def main():
        count = 300
        transports, others = [], []
        for _ in range(count):
            sock, other = socket.socketpair()
            transport, _ = await loop.create_connection(Recorder, sock=sock)
            transports.append(transport)
            others.append(other)
        for other in others:
            other.send(bytes(60_000))
        for transport in transports:
            transport.pause_reading()
        await iterations(3)
        async with serving(Echo) as (_, address):
            transport, protocol = await loop.create_connection(Recorder, *address)
            transport.write(bytes(1 << 20))
            await protocol.until_size(1 << 20)
            transport.close()
            await protocol.until_lost()
        for transport in transports:
            transport.resume_reading()
        for transport in transports:
            await transport.get_protocol().until_size(60_000)
        for transport in transports:
            transport.abort()
        await iterations(3)
        for other in others:
            other.close()

    run(loop, main())
