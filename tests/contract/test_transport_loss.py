"""A loss is told once, by the error that says most, and nothing is told before it."""

import asyncio
import socket

import pytest
from harness import PAIRS, Recorder, attached, iterations, run


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.mark.parametrize("keep_open", [False, True])
def test_peer_that_closes_with_bytes_unread_while_a_queue_waits_is_a_reset(loop, pair, keep_open):
    async def main():
        protocol = Recorder(keep_open=keep_open)
        async with attached(protocol, pair, small=True) as (transport, _, peer):
            transport.write(bytes(4 << 20))
            await iterations(5)
            assert transport.get_write_buffer_size() > 0
            peer.close()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)
            assert "eof_received" not in protocol.calls

    run(loop, main())


@pytest.mark.parametrize("order", ["write first", "resume first"])
@pytest.mark.parametrize("turns", [0, 1, 3])
def test_loss_found_by_a_write_is_told_before_the_end_of_file(loop, pair, order, turns):
    """The transport was paused when its peer went, and is resumed around the write."""

    async def main():
        async with attached(Recorder(keep_open=True), pair) as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(3)
            if pair is socket.socketpair:
                peer.close()
            else:
                peer.reset()
            await iterations(turns)
            if order == "write first":
                transport.write(b"x")
            transport.resume_reading()
            transport.write(b"y")
            await protocol.until_lost()
            assert "eof_received" not in protocol.calls
            assert isinstance(protocol.lost, ConnectionError)

    run(loop, main())


def test_writelines_with_a_piece_that_cannot_be_sent_sends_none(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            failures = []
            loop.set_exception_handler(lambda _, context: failures.append(context["message"]))
            transport.write(b"before")
            refused = False
            try:
                transport.writelines([b"one", memoryview(b"abcdef")[::2], b"three"])
            except TypeError:
                # 3.11 joins the pieces: the caller is told, and the connection goes on.
                refused = True
                transport.write_eof()
            assert await peer.recv_all() == b"before"
            if not refused:
                await protocol.until_lost()
                assert isinstance(protocol.lost, BufferError)
                assert failures == ["Fatal write error on socket transport"]

    run(loop, main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_datagram_socket_is_closed_one_turn_after_its_transport(loop, ending):
    async def main():
        for turns in (0, 1, 3):
            transport, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
            )
            sock = transport.get_extra_info("socket")
            await iterations(turns)
            getattr(transport, ending)()
            await asyncio.sleep(0)
            assert sock.fileno() == -1

    run(loop, main())
