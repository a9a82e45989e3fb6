"""A write of the turn before has left: whatever is asked of the transport shows it."""

import asyncio
import socket

import pytest
from harness import Recorder, attached, iterations, run, tcp_pair

PAIRS = [tcp_pair, socket.socketpair]


def received_now(peer):
    """What the kernel has for the peer, without any help of the loop."""
    data = b""
    try:
        while part := peer.sock.recv(65536):
            data += part
    except BlockingIOError:
        return data, False
    return data, True


@pytest.mark.parametrize("pair", PAIRS)
def test_write_buffer_is_empty_in_each_turn_while_the_socket_has_room(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            for _ in range(10):
                transport.write(b"a" * 1000)
                await asyncio.sleep(0)
                assert transport.get_write_buffer_size() == 0
                transport.write(b"b" * 1000)
                await asyncio.sleep(0)
                transport.write(b"c" * 1000)
                assert transport.get_write_buffer_size() == 0
            expected = (b"a" * 1000 + b"b" * 1000 + b"c" * 1000) * 10
            assert await peer.recv_exactly(len(expected)) == expected

    run(loop, main())


def test_write_buffer_is_empty_when_data_comes_together_with_its_end(loop):
    class Asking(Recorder):
        def data_received(self, data):
            sizes.append(self.transport.get_write_buffer_size())
            super().data_received(data)

    sizes = []

    async def main():
        async with attached(Asking()) as (transport, protocol, peer):
            for turn in range(1, 21):
                if turn % 2:
                    peer.sock.send(b"ping")
                transport.write(b"pong")
                if not turn % 2:
                    peer.sock.send(b"ping")
                await protocol.until_size(4 * turn)
            assert set(sizes) == {0}

    run(loop, main())


@pytest.mark.parametrize("pair", PAIRS)
def test_small_writes_in_turns_never_pause_while_the_socket_has_room(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, _):
            transport.set_write_buffer_limits(high=15)
            for _ in range(10):
                transport.write(b"8 bytes.")
                await asyncio.sleep(0)
                transport.write(b"8 bytes.")
                assert protocol.pauses == 0

    run(loop, main())


@pytest.mark.parametrize("pair", PAIRS)
def test_abort_a_turn_after_a_write_loses_nothing_that_the_socket_takes(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.write(b"first")
            await asyncio.sleep(0)
            transport.write(b"second")
            transport.abort()
            await protocol.until_lost()
            assert received_now(peer) == (b"firstsecond", True)

    run(loop, main())


@pytest.mark.parametrize("pair", PAIRS)
def test_write_eof_a_turn_after_a_write_reaches_the_peer_at_once(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            transport.write(b"first")
            await asyncio.sleep(0)
            transport.write(b"second")
            transport.write_eof()
            assert received_now(peer) == (b"firstsecond", True)

    run(loop, main())


def test_close_a_turn_after_a_write_is_over_in_the_next(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(b"first")
            await asyncio.sleep(0)
            transport.write(b"second")
            transport.close()
            await asyncio.sleep(0)
            assert protocol.calls[-1] == "connection_lost"
            assert await peer.recv_exactly(11) == b"firstsecond"

    run(loop, main())


def test_buffer_asked_about_in_every_turn_of_a_blocked_write_only_shrinks(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            total = 1 << 20
            transport.write(bytes(total))
            sizes = [transport.get_write_buffer_size()]
            received = 0
            while received < total:
                received += len(await peer.recv_exactly(min(8192, total - received)))
                sizes.append(transport.get_write_buffer_size())
                assert sizes[-1] <= total - received
            await protocol.until_called("resume_writing")
            assert sizes == sorted(sizes, reverse=True)
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            await iterations(2)

    run(loop, main())
