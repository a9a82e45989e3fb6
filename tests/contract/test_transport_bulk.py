"""Large messages: a driver may receive them another way, and nobody must notice."""

import asyncio
import os
import socket
import struct

import pytest
from harness import PAIRS, BufferedRecorder, Recorder, attached, iterations, run

MIB = 1 << 20


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.fixture(params=["plain", "small buffer", "large buffer"])
def protocol(request):
    sizes = {"small buffer": 1000, "large buffer": MIB}
    if request.param == "plain":
        return Recorder()
    return BufferedRecorder(sizes[request.param])


def test_messages_of_any_size_by_turns_arrive_in_order(loop, pair, protocol):
    async def main():
        async with attached(protocol, pair) as (_, _, peer):
            sent = bytearray()
            for size in [1, MIB, 1, 100_000, 4096, 4097, 262_144, 262_145, *[10] * 40, MIB]:
                data = os.urandom(size)
                sent += data
                await peer.send_all(data)
                await protocol.until_size(len(sent))
            assert protocol.data == sent

    run(loop, main())


def test_bulk_then_end_of_file_arrives_in_order(loop, pair, protocol):
    async def main():
        async with attached(protocol, pair) as (_, _, peer):
            data = os.urandom(3 * MIB)
            await peer.send_all(data)
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            assert protocol.data == data
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


def test_bulk_paused_again_and_again_loses_nothing(loop, pair, protocol):
    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            data = os.urandom(4 * MIB)
            sending = asyncio.ensure_future(peer.send_all(data))
            number = 0
            while len(protocol.data) < len(data):
                number += 1
                transport.pause_reading()
                size = len(protocol.data)
                await iterations(number % 5)
                assert len(protocol.data) == size
                transport.resume_reading()
                await protocol.until(lambda size=size: len(protocol.data) > size)
            await sending
            assert protocol.data == data

    run(loop, main())


def test_bulk_paused_inside_each_delivery_comes_once_per_resume(loop, pair, protocol):
    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            data = os.urandom(MIB)
            name = "buffer_updated" if isinstance(protocol, BufferedRecorder) else "data_received"
            original = getattr(protocol, name)

            def pausing(argument):
                assert transport.is_reading()
                transport.pause_reading()
                original(argument)

            await peer.send_all(data[: MIB // 2])
            await protocol.until_size(MIB // 2)
            setattr(protocol, name, pausing)
            sending = asyncio.ensure_future(peer.send_all(data[MIB // 2 :]))
            while len(protocol.data) < MIB:
                size = len(protocol.data)
                transport.resume_reading()
                await protocol.until(lambda size=size: len(protocol.data) > size)
                calls = len(protocol.calls)
                await iterations(3)
                assert len(protocol.calls) == calls
            await sending
            assert protocol.data == data

    run(loop, main())


def test_bulk_to_a_paused_transport_stays_with_the_kernel(loop, pair):
    """Only what sockets hold is accepted from the peer, however often reading was bulk."""
    protocol = Recorder()

    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            await peer.send_all(bytes(MIB))
            await protocol.until_size(MIB)
            transport.pause_reading()
            sent = 0
            for _ in range(100):
                try:
                    while True:
                        sent += peer.sock.send(bytes(65536))
                except BlockingIOError:
                    await iterations(3)
            assert sent < 64 * MIB
            transport.resume_reading()
            await protocol.until_size(MIB + sent)

    run(loop, main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_bulk_ended_inside_a_delivery_delivers_no_more(loop, pair, protocol, ending):
    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            await peer.send_all(bytes(MIB))
            await protocol.until_size(MIB)
            name = "buffer_updated" if isinstance(protocol, BufferedRecorder) else "data_received"
            original = getattr(protocol, name)

            def ends(argument):
                original(argument)
                getattr(transport, ending)()

            calls = len(protocol.calls)
            setattr(protocol, name, ends)
            peer.sock.send(bytes(65536))
            await protocol.until_lost()
            assert protocol.calls[calls:] == [name, "connection_lost"]

    run(loop, main())


def test_bulk_then_reset_ends_with_the_error(loop):
    protocol = Recorder()

    async def main():
        async with attached(protocol, PAIRS["tcp"]) as (_, _, peer):
            await peer.send_all(bytes(MIB))
            await protocol.until_size(MIB)
            await iterations(5)
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)

    run(loop, main())


def test_bulk_with_protocols_that_change_arrives_in_order(loop, pair):
    async def main():
        protocols = [Recorder(), BufferedRecorder(5000), BufferedRecorder(MIB), Recorder()]
        async with attached(protocols[0], pair) as (transport, _, peer):
            data = os.urandom(4 * MIB)
            sending = asyncio.ensure_future(peer.send_all(data))
            got = bytearray()
            for following in [*protocols[1:], None]:
                current = transport.get_protocol()
                await current.until_size(MIB if following else len(data) - len(got))
                if following is not None:
                    transport.set_protocol(following)
                got += current.data
            await sending
            assert got == data

    run(loop, main())


class Framed(asyncio.BufferedProtocol):
    """A header of four bytes, then so many bytes: each into a buffer of just that size."""

    def __init__(self):
        self.messages = []
        self.expect(4)
        self.in_header = True
        self.lost = asyncio.get_running_loop().create_future()

    def expect(self, size):
        self.view, self.filled = memoryview(bytearray(size)), 0

    def get_buffer(self, sizehint):
        return self.view[self.filled :]

    def buffer_updated(self, nbytes):
        self.filled += nbytes
        if self.filled < len(self.view):
            return
        if self.in_header:
            self.expect(struct.unpack("!I", self.view)[0])
        else:
            self.messages.append(bytes(self.view))
            self.expect(4)
        self.in_header = not self.in_header

    def connection_lost(self, exc):
        self.lost.set_result(exc)


def test_frames_into_buffers_of_their_size_arrive_whole(loop, pair):
    async def main():
        protocol = Framed()
        async with attached(protocol, pair) as (_, _, peer):
            sizes = [1, 300_000, 2, 70_000, 70_000, MIB, 3, 3, 3, 500_000]
            messages = [os.urandom(size) for size in sizes]
            for message in messages:
                await peer.send_all(struct.pack("!I", len(message)) + message)
            peer.sock.shutdown(socket.SHUT_WR)
            assert await protocol.lost is None
            assert protocol.messages == messages

    run(loop, main())


def test_bulk_data_is_immutable_bytes_of_its_own(loop, pair):
    """What a protocol keeps must never change, whatever is received later."""
    kept = []

    class Keeping(Recorder):
        def data_received(self, data):
            kept.append(data)
            super().data_received(data)

    async def main():
        protocol = Keeping()
        async with attached(protocol, pair) as (_, _, peer):
            data = os.urandom(2 * MIB)
            await peer.send_all(data)
            await protocol.until_size(len(data))
            assert b"".join(kept) == data
            assert len({hash(part) for part in kept}) == len(kept)

    run(loop, main())


def test_many_bulk_streams_at_once_have_their_turns(loop):
    """None is served out before the others: all are under way before one is done."""

    async def main():
        recorders = [Recorder(), Recorder()]
        async with (
            attached(recorders[0], PAIRS["tcp"]) as one,
            attached(recorders[1], PAIRS["tcp"]) as two,
        ):
            data = os.urandom(8 * MIB)
            sending = [asyncio.ensure_future(peer.send_all(data)) for _, _, peer in (one, two)]
            await recorders[0].until_size(len(data))
            assert len(recorders[1].data) > 0
            await recorders[1].until_size(len(data))
            await asyncio.gather(*sending)
            assert recorders[0].data == recorders[1].data == data

    run(loop, main())
