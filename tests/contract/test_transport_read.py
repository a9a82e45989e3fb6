"""pause_reading and resume_reading: nothing comes while paused, nothing is lost."""

import os
import socket
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
)


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.fixture(params=[Recorder, BufferedRecorder])
def protocol(request):
    return request.param()


def test_paused_transport_delivers_nothing_until_resumed(loop, pair, protocol):
    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            assert transport.is_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            await peer.send_all(b"while paused")
            await iterations(20)
            assert protocol.data == b""
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until_size(12)
            assert protocol.data == b"while paused"

    run(loop, main())


def test_paused_with_data_arriving_at_that_moment_loses_and_leaks_nothing(loop, pair, protocol):
    """A receive that won the race against the pause is kept for resume, in order."""

    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            sent = bytearray()
            for number in range(200):
                data = b"%04d" % number
                sent += data
                peer.sock.send(data)
                # Pause 0, 1 or 2 iterations after the bytes are on their way.
                await iterations(number % 3)
                transport.pause_reading()
                at_pause = len(protocol.data)
                await iterations(number % 4)
                assert len(protocol.data) == at_pause
                transport.resume_reading()
            await protocol.until_size(len(sent))
            assert protocol.data == sent

    run(loop, main())


def test_paused_inside_data_received_gets_no_more_until_resumed(loop, pair):
    class Pausing(Recorder):
        def data_received(self, data):
            self.transport.pause_reading()
            super().data_received(data)

    async def main():
        blob = os.urandom(3 << 20)
        async with attached(Pausing(), pair) as (transport, protocol, peer):
            task = loop.create_task(peer.send_all(blob))
            while len(protocol.data) < len(blob):
                await protocol.until(lambda: not transport.is_reading())
                before = len(protocol.data)
                await iterations(5)
                assert len(protocol.data) == before
                transport.resume_reading()
            await task
            assert protocol.data == blob
            assert protocol.calls.count("data_received") > 1

    run(loop, main())


def test_paused_and_resumed_inside_data_received_goes_on(loop, pair):
    class Toggling(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            self.transport.resume_reading()

    async def main():
        blob = os.urandom(2 << 20)
        async with attached(Toggling(), pair) as (_, protocol, peer):
            await peer.send_all(blob)
            await protocol.until_size(len(blob))
            assert protocol.data == blob

    run(loop, main())


def test_paused_in_connection_made_starts_only_when_resumed(loop, loop_kind, pair):
    early = sys.version_info < (3, 11, 7)
    oracle_lacks(loop_kind, early, "in early 3.11 reading starts though it was paused")

    class Shy(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def main():
        async with attached(Shy(), pair) as (transport, protocol, peer):
            assert not transport.is_reading()
            await peer.send_all(b"data")
            await iterations(10)
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.until_size(4)

    run(loop, main())


def test_paused_transport_sees_eof_only_when_resumed(loop, pair, protocol):
    async def main():
        async with attached(protocol, pair) as (transport, _, peer):
            transport.pause_reading()
            await peer.send_all(b"last words")
            peer.close()
            await iterations(20)
            assert protocol.calls == ["connection_made"]
            assert not transport.is_closing()
            transport.resume_reading()
            await protocol.until_lost()
            assert protocol.data == b"last words"
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


def test_paused_at_the_moment_of_eof_delivers_it_once_after_resume(loop, pair):
    """The end of the stream races with the pause as data does."""

    async def main():
        for rounds in range(4):
            async with attached(pair=pair) as (transport, protocol, peer):
                peer.sock.shutdown(socket.SHUT_WR)
                await iterations(rounds)
                transport.pause_reading()
                seen = protocol.calls.count("eof_received")
                await iterations(5)
                assert protocol.calls.count("eof_received") == seen
                transport.resume_reading()
                await protocol.until_lost()
                assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]

    run(loop, main())


def test_paused_transport_lets_the_kernel_push_back(loop, pair):
    """Pausing stops the receiving itself: the peer's send blocks in the end."""

    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(3)
            sent = 0
            quiet = 0
            while quiet < 50:
                try:
                    sent += peer.sock.send(bytes(65536))
                    quiet = 0
                    assert sent < 64 << 20, "the paused transport goes on receiving"
                except BlockingIOError:
                    quiet += 1
                    await iterations(1)
            assert len(protocol.data) == 0
            transport.resume_reading()
            await protocol.until_size(sent)
            assert len(protocol.data) == sent

    run(loop, main())


def test_pause_reading_twice_and_resume_reading_twice_are_as_once(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            assert transport.pause_reading() is None
            assert transport.pause_reading() is None
            assert transport.resume_reading() is None
            assert transport.resume_reading() is None
            await peer.send_all(b"data")
            await protocol.until_size(4)
            await iterations(3)
            assert protocol.data == b"data"

    run(loop, main())


def test_pause_and_resume_on_a_closing_transport_do_nothing(loop):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.close()
            assert not transport.is_reading()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()
            await protocol.until_lost()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


def test_paused_transport_still_writes(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            transport.pause_reading()
            transport.write(bytes(1 << 20))
            assert await peer.recv_exactly(1 << 20) == bytes(1 << 20)

    run(loop, main())


def test_paused_transport_closed_ends_without_eof(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send_all(b"never read")
            await iterations(3)
            transport.close()
            await protocol.until_lost()
            assert protocol.calls == ["connection_made", "connection_lost"]
            assert protocol.lost is None

    run(loop, main())


def test_data_received_gets_immutable_bytes_of_its_own(loop):
    async def main():
        class Keeping(Recorder):
            def __init__(self):
                super().__init__()
                self.pieces = []

            def data_received(self, data):
                self.pieces.append(data)
                super().data_received(data)

        async with attached(Keeping()) as (_, protocol, peer):
            for number in range(100):
                await peer.send_all(b"%03d" % number)
                await protocol.until_size(3 * (number + 1))
            assert b"".join(protocol.pieces) == b"".join(b"%03d" % n for n in range(100))
            assert {type(piece) for piece in protocol.pieces} == {bytes}

    run(loop, main())


def test_data_that_arrived_before_close_by_the_peer_with_reset_is_not_reordered(loop):
    """After a reset the bytes may be gone, but never wrong, and the loss is told once."""

    async def main():
        async with attached() as (transport, protocol, peer):
            await peer.send_all(b"abc")
            peer.reset()
            await protocol.until_lost()
            assert b"abc".startswith(bytes(protocol.data))
            assert isinstance(protocol.lost, ConnectionResetError)
            assert protocol.calls.count("connection_lost") == 1
            assert "eof_received" not in protocol.calls

    run(loop, main())


def test_bytes_behind_an_urgent_byte_that_the_application_has_read_arrive(loop):
    """As a handler of SIGURG reads it, before the loop could see that there was one."""

    async def main():
        async with attached() as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            with socket.socket(fileno=os.dup(sock.fileno())) as handler:
                peer.sock.send(b"ab")
                peer.sock.send(b"U", socket.MSG_OOB)
                peer.sock.send(b"END")
                handler.setblocking(True)
                assert handler.recv(1, socket.MSG_OOB) == b"U"
            await protocol.until_size(5)
            assert protocol.data == b"abEND"

    run(loop, main())
