"""A paused transport leaves the socket alone: what comes meanwhile may be somebody else's."""

import asyncio
import socket
import struct
import tempfile

import pytest
from harness import PAIRS, BufferedRecorder, Recorder, attached, iterations, run

# A few bytes, and more than any buffer of ours.
SIZES = (12, 300_000)


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


class Pausing(Recorder):
    """Pauses inside each call."""

    def data_received(self, data):
        self.transport.pause_reading()
        super().data_received(data)


class BufferedPausing(BufferedRecorder):
    def __init__(self, size=4):
        super().__init__(size)

    def buffer_updated(self, nbytes):
        self.transport.pause_reading()
        super().buffer_updated(nbytes)


class RoomyPausing(BufferedPausing):
    def __init__(self):
        super().__init__(1 << 20)


def duplicate(transport):
    """Whoever the connection was handed over to."""
    heir = transport.get_extra_info("socket").dup()
    heir.setblocking(True)
    heir.settimeout(10)
    return heir


def read_to_end(sock):
    data = bytearray()
    while piece := sock.recv(65536):
        data += piece
    return bytes(data)


async def all_arrived(transport, peer, data):
    """Send; done when the whole of it waits in the socket, or has left it."""
    peer.sock.setblocking(True)
    await asyncio.get_running_loop().run_in_executor(None, peer.sock.sendall, data)
    peer.sock.setblocking(False)
    await iterations(20)


@pytest.mark.parametrize("kind", [Pausing, BufferedPausing, RoomyPausing])
def test_data_after_a_pause_inside_a_delivery_is_for_who_takes_over(loop, pair, kind):
    async def main():
        async with attached(kind(), pair) as (transport, protocol, peer):
            await peer.send_all(b"cat\n")
            await protocol.until(lambda: not transport.is_reading())
            with duplicate(transport) as heir:
                await all_arrived(transport, peer, b"for the heir")
                assert protocol.data == b"cat\n"
                transport.abort()
                peer.sock.shutdown(socket.SHUT_WR)
                assert read_to_end(heir) == b"for the heir"

    run(loop, main())


@pytest.mark.parametrize("rounds", [1, 3, 40])
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_data_after_a_pause_between_deliveries_stays_in_the_socket(loop, pair, kind, rounds):
    """However often it was paused and resumed, and had messages, before."""

    async def main():
        async with attached(kind(), pair) as (transport, protocol, peer):
            sent = 0
            for number in range(rounds):
                await peer.send_all(b"a message")
                sent += 9
                await protocol.until_size(sent)
                transport.pause_reading()
                await iterations(number % 3)
                transport.resume_reading()
            transport.pause_reading()
            await peer.send_all(b"left alone")
            await iterations(20)
            assert len(protocol.data) == sent
            with duplicate(transport) as heir:
                assert heir.recv(100, socket.MSG_PEEK) == b"left alone"
                # The protocol sees what the heir has left.
                assert heir.recv(5) == b"left "
            transport.resume_reading()
            await protocol.until_size(sent + 5)
            assert protocol.data.endswith(b"alone")

    run(loop, main())


def test_bulk_that_is_paused_inside_a_delivery_is_divided_without_loss(loop, pair):
    async def main():
        blob = bytes(range(256)) * 8000
        async with attached(Pausing(), pair) as (transport, protocol, peer):
            sending = loop.create_task(peer.send_all(blob))
            for _ in range(4):
                seen = len(protocol.data)
                await protocol.until(lambda seen=seen: len(protocol.data) > seen)
                await iterations(3)
                transport.resume_reading()
            transport.pause_reading()
            await iterations(20)
            with duplicate(transport) as heir:
                transport.abort()

                def rest():
                    data = bytearray()
                    while len(protocol.data) + len(data) < len(blob):
                        data += heir.recv(65536)
                    return data

                data = await loop.run_in_executor(None, rest)
                await sending
                assert protocol.data + data == blob

    run(loop, main())


@pytest.mark.parametrize("size", SIZES)
def test_close_with_bytes_unread_while_paused_is_a_reset(loop, size):
    """An orderly end would say that everything was read."""

    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(3)
            sending = loop.create_task(peer.send_all(b"x" * size))
            await iterations(20)
            transport.close()
            await protocol.until_lost()
            with pytest.raises(ConnectionResetError):
                await peer.recv()
                await peer.send_all(b"again")
            await asyncio.gather(sending, return_exceptions=True)

    run(loop, main())


def test_reset_while_paused_is_left_for_the_write_that_finds_it(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(3)
            peer.reset()
            await iterations(20)
            assert "connection_lost" not in protocol.calls
            transport.write(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)

    run(loop, main())


def test_reset_while_paused_is_told_by_the_socket_itself(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(3)
            peer.reset()
            await iterations(20)
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
            transport.abort()
            await protocol.until_lost()

    run(loop, main())


def test_sendfile_to_a_peer_that_resets_raises_the_reset(loop):
    async def main():
        async with attached(Recorder(keep_open=True), small=True) as (transport, protocol, peer):
            with tempfile.TemporaryFile() as file:
                file.truncate(50 << 20)
                sending = loop.create_task(loop.sendfile(transport, file))
                await peer.readable()
                await iterations(20)
                linger = struct.pack("ii", 1, 0)
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                peer.close()
                with pytest.raises(ConnectionResetError):
                    await sending

    run(loop, main())


def test_pause_that_is_resumed_in_the_same_callback_loses_nothing(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            for number in range(50):
                transport.pause_reading()
                await peer.send_all(b"x")
                transport.resume_reading()
                if number % 2:
                    await iterations(1)
            await protocol.until_size(50)

    run(loop, main())


def test_end_of_file_is_told_to_the_protocol_that_resumes_reading_after_it(loop, pair):
    """start_tls() and everybody who takes a connection over relies on it."""

    async def main():
        async with attached(Recorder(keep_open=True), pair) as (transport, protocol, peer):
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_called("eof_received")
            late = Recorder(keep_open=True)
            transport.pause_reading()
            transport.set_protocol(late)
            transport.resume_reading()
            await late.until_called("eof_received")
            transport.pause_reading()
            transport.resume_reading()
            await late.until(lambda: late.calls.count("eof_received") == 2)
            assert protocol.calls.count("eof_received") == 1
            transport.write(b"still here")
            assert await peer.recv_exactly(10) == b"still here"

    run(loop, main())


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_end_of_file_whose_telling_is_interrupted_is_told_in_the_next_run(
    loop, pair, kind, interruption
):
    class Interrupted(kind):
        def eof_received(self):
            super().eof_received()
            if self.calls.count("eof_received") == 1:
                raise interruption

    async def open_one():
        sock, other = pair()
        protocol = Interrupted()
        await loop.create_connection(lambda: protocol, sock=sock)
        return protocol, other

    protocol, other = run(loop, open_one())
    other.close()
    with pytest.raises(interruption):
        loop.run_until_complete(protocol.until_lost())
    run(loop, protocol.until_lost())
    assert protocol.calls.count("eof_received") == 2
    # What the interrupted run left of the first task.
    for task in asyncio.all_tasks(loop):
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
