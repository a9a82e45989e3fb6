"""close and abort in every state, and resets by the peer in every state."""

import asyncio
import gc
import logging
import os
import socket
import struct
import warnings

import pytest
from harness import (
    PAIRS,
    PATIENCE_S,
    BufferedRecorder,
    Peer,
    Recorder,
    attached,
    iterations,
    oracle_lacks,
    resource_warning,
    run,
    tcp_pair,
)

HUGE = 4 << 20


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_tells_the_protocol_once_and_later(loop, pair, ending):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            assert getattr(transport, ending)() is None
            assert transport.is_closing()
            assert "connection_lost" not in protocol.calls
            assert getattr(transport, ending)() is None
            await protocol.until_lost()
            assert protocol.calls == ["connection_made", "connection_lost"]
            assert protocol.lost is None
            assert await peer.recv() == b""

    run(loop, main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_socket_is_closed_when_connection_lost_has_returned(loop, pair, ending):
    """Whoever closes and then blocks the thread until the peer has noticed is not kept waiting."""

    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            transport.write(b"last")
            # Until here the receive is under way.
            assert await peer.recv_exactly(4) == b"last"
            getattr(transport, ending)()
            await iterations(1)
            assert protocol.names == ["connection_made", "connection_lost"]
            assert sock.fileno() == -1
            peer.sock.settimeout(PATIENCE_S)
            assert peer.sock.recv(1) == b""
            peer.sock.setblocking(False)

    run(loop, main())


def on_descriptor(descriptor, pair):
    """As `pair`, with the first socket on this descriptor, which is free."""

    def make():
        one, other = pair()
        if other.fileno() == descriptor:
            return other, one
        if one.fileno() != descriptor:
            os.dup2(one.fileno(), descriptor, inheritable=False)
            one.close()
            one = socket.socket(fileno=descriptor)
        return one, other

    return make


def test_descriptor_of_a_closed_transport_serves_the_next_one(loop, pair):
    """What is left of the old one's receive touches neither the new one's bytes nor its end."""

    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            descriptor = transport.get_extra_info("socket").fileno()
            transport.write(b"ready")
            assert await peer.recv_exactly(5) == b"ready"
            await peer.send_all(b"too late for the old one")
            transport.abort()
            await iterations(1)
            again = on_descriptor(descriptor, pair)
            async with attached(pair=again) as (second, recorder, other):
                assert second.get_extra_info("socket").fileno() == descriptor
                await other.send_all(b"for the new one")
                await recorder.until_size(15)
                assert bytes(recorder.data) == b"for the new one"
                second.write(b"answer")
                assert await other.recv_exactly(6) == b"answer"
                assert recorder.names == ["connection_made", "data_received"]
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


def test_close_flushes_what_was_written(loop, pair):
    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            transport.close()
            await iterations(5)
            assert "connection_lost" not in protocol.calls
            assert len(await peer.recv_all()) == HUGE
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_close_after_a_small_write_delivers_it(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.write(b"last words")
            transport.close()
            assert await peer.recv_all() == b"last words"
            await protocol.until_lost()

    run(loop, main())


def test_close_while_flushing_receives_no_more_data(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            transport.close()
            await peer.send_all(b"unheard")
            # TCP resets a connection closed with unread bytes: read only part of the answer.
            assert await peer.recv_exactly(HUGE // 2) == bytes(HUGE // 2)
            await iterations(5)
            assert protocol.names == ["connection_made", "pause_writing"]
            transport.abort()
            await protocol.until_lost()
            assert "data_received" not in protocol.calls

    run(loop, main())


def test_close_while_flushing_and_the_peer_goes_ends_with_the_error(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            transport.close()
            await iterations(3)
            peer.reset()
            await protocol.until_lost()
            assert isinstance(protocol.lost, (ConnectionResetError, BrokenPipeError))
            assert protocol.calls.count("connection_lost") == 1

    run(loop, main())


def test_abort_drops_what_was_written(loop, pair):
    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            await protocol.until_lost()
            assert protocol.lost is None
            try:
                assert len(await peer.recv_all()) < HUGE
            except ConnectionResetError:
                pass

    run(loop, main())


def test_abort_after_close_with_bytes_pending_ends_at_once(loop, pair):
    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, _):
            transport.write(bytes(HUGE))
            transport.close()
            await iterations(3)
            assert "connection_lost" not in protocol.calls
            transport.abort()
            await protocol.until_lost()
            assert protocol.lost is None
            assert protocol.calls.count("connection_lost") == 1

    run(loop, main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_of_a_transport_that_is_through_does_nothing(loop, loop_kind, ending):
    oracle_lacks(loop_kind, ending == "abort", "abort() after a flushed close() fails inside")

    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            transport.close()
            await peer.recv_all()
            await protocol.until_lost()
            getattr(transport, ending)()
            await iterations(3)
            assert protocol.calls.count("connection_lost") == 1

    run(loop, main())


@pytest.mark.parametrize("ending", ["close", "abort"])
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
def test_ending_inside_a_callback_is_the_last_but_connection_lost(loop, pair, ending, where):
    class Ending(Recorder):
        def _note(self, name):
            super()._note(name)
            if name == where:
                getattr(self.transport, ending)()

    async def main():
        sock, other = pair()
        other.sendall(b"data")
        other.shutdown(socket.SHUT_WR)
        protocol = Ending()
        await loop.create_connection(lambda: protocol, sock=sock)
        await protocol.until_lost()
        assert protocol.names[-2:] == [where, "connection_lost"]
        assert protocol.lost is None
        peer = Peer(other)
        try:
            assert await peer.recv() == b""
        except ConnectionResetError:
            assert where == "connection_made"
        peer.close()

    run(loop, main())


def test_close_inside_data_received_delivers_no_second_piece(loop):
    class Once(Recorder):
        def data_received(self, data):
            assert not self.data
            super().data_received(data)
            self.transport.close()

    async def main():
        async with attached(Once(), small=True) as (_, protocol, peer):
            try:
                await peer.send_all(bytes(HUGE))
            except (BrokenPipeError, ConnectionResetError):
                pass
            await protocol.until_lost()

    run(loop, main())


def test_close_inside_buffer_updated_asks_for_no_further_buffer(loop):
    class Once(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.close()

        def get_buffer(self, sizehint):
            assert not self.data
            return super().get_buffer(sizehint)

    async def main():
        async with attached(Once(size=10)) as (_, protocol, peer):
            await peer.send_all(bytes(1000))
            await protocol.until_lost()
            assert len(protocol.data) == 10

    run(loop, main())


def test_write_inside_connection_made_then_close_delivers(loop, pair):
    class Brief(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(bytes(HUGE))
            transport.close()

    async def main():
        async with attached(Brief(), pair) as (_, protocol, peer):
            assert len(await peer.recv_all()) == HUGE
            await protocol.until_lost()

    run(loop, main())


def test_close_closes_the_descriptor_after_connection_lost(loop):
    async def main():
        class Looking(Recorder):
            def connection_lost(self, exc):
                self.descriptor = self.transport.get_extra_info("socket").fileno()
                super().connection_lost(exc)

        async with attached(Looking()) as (transport, protocol, _):
            descriptor = transport.get_extra_info("socket").fileno()
            transport.close()
            await protocol.until_lost()
            assert protocol.descriptor == descriptor
            await iterations(2)
            assert transport.get_extra_info("socket").fileno() == -1

    run(loop, main())


def test_reset_by_the_peer_while_idle_ends_with_connection_reset(loop):
    async def main():
        async with attached() as (_, protocol, peer):
            peer.reset()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


def test_reset_by_the_peer_in_buffered_mode_ends_with_connection_reset(loop):
    async def main():
        async with attached(BufferedRecorder()) as (_, protocol, peer):
            peer.reset()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


def test_reset_by_the_peer_while_writing_ends_once_with_the_error(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            await iterations(3)
            peer.reset()
            await protocol.until_lost()
            assert isinstance(protocol.lost, (ConnectionResetError, BrokenPipeError))
            assert protocol.calls.count("connection_lost") == 1
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_reset_by_the_peer_while_paused_is_seen_after_resume(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(3)
            peer.reset()
            await iterations(10)
            assert protocol.calls == ["connection_made"]
            transport.resume_reading()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)

    run(loop, main())


def test_reset_by_the_peer_after_write_eof_ends_with_the_error(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write_eof()
            assert await peer.recv() == b""
            peer.reset()
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)

    run(loop, main())


def test_reset_by_the_peer_after_its_eof_is_seen_by_the_next_write(loop):
    async def main():
        async with attached(Recorder(keep_open=True)) as (transport, protocol, peer):
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_called("eof_received")
            peer.reset()
            while not transport.is_closing():
                transport.write(b"x" * 1000)
                await asyncio.sleep(0)
            await protocol.until_lost()
            assert isinstance(protocol.lost, (ConnectionResetError, BrokenPipeError))

    run(loop, main())


def test_reset_before_connection_made_still_makes_and_loses_the_connection(loop):
    async def main():
        sock, other = tcp_pair()
        Peer(other).reset()
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=sock)
        await protocol.until_lost()
        assert protocol.calls[0] == "connection_made"
        assert isinstance(protocol.lost, ConnectionResetError)

    run(loop, main())


def test_close_many_in_one_iteration_loses_each_once(loop):
    async def main():
        protocols, peers = [], []
        for _ in range(100):
            sock, other = socket.socketpair()
            protocol = Recorder()
            await loop.create_connection(lambda protocol=protocol: protocol, sock=sock)
            protocols.append(protocol)
            peers.append(other)
        for number, protocol in enumerate(protocols):
            protocol.transport.write(b"bye")
            protocol.transport.close() if number % 2 else protocol.transport.abort()
        for protocol in protocols:
            await protocol.until_lost()
        assert all(protocol.calls.count("connection_lost") == 1 for protocol in protocols)
        for other in peers:
            other.close()

    run(loop, main())


def test_close_of_the_loop_with_open_transports_leaves_their_descriptors_to_them(make_loop):
    """The transports are dropped afterwards with a warning, as on stock asyncio."""
    loop = make_loop()

    async def main():
        sock, other = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        transport.write(b"x")
        return transport, protocol, other

    transport, protocol, other = loop.run_until_complete(main())
    loop.close()
    assert "connection_lost" not in protocol.calls
    other.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del transport, protocol
        gc.collect()


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_ending_scheduled_just_before_the_loop_closes_harms_nothing(make_loop, ending):
    loop = make_loop()

    async def main():
        sock, other = socket.socketpair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
        transport.write(b"x")
        getattr(transport, ending)()
        return other

    other = loop.run_until_complete(main())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop.close()
        gc.collect()
    other.close()


@pytest.mark.parametrize("again", ["close", "abort"])
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_transport_that_was_ended_after_its_loop_says_so_once(make_loop, ending, again):
    loop = make_loop()
    one, other = socket.socketpair()
    with other:
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=one))
        loop.close()
        with pytest.raises(RuntimeError, match="^Event loop is closed$"):
            getattr(transport, ending)()
        assert transport.is_closing()
        assert getattr(transport, again)() is None
        with resource_warning("unclosed transport"):
            del transport
        one.close()


def test_loop_that_a_log_handler_closes_while_it_closes_is_closed_once(make_loop):
    """In debug mode the last bytes for a connection that was reset are a line in the log."""
    loop = make_loop()
    loop.set_debug(True)
    logger = logging.getLogger("asyncio")

    class Closer(logging.Handler):
        def emit(self, record):
            if "Fatal write error" in record.getMessage():
                loop.close()

    async def connect():
        ours, peer = tcp_pair()
        return (await loop.create_connection(Recorder, sock=ours))[0], peer

    connections = [run(loop, connect()) for _ in range(3)]
    for transport, peer in connections:
        transport.write(bytes(HUGE))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
    closer, level = Closer(), logger.level
    logger.addHandler(closer)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # pytest would keep the transports
    try:
        loop.close()
    finally:
        logger.removeHandler(closer)
        logger.setLevel(level)
        logger.propagate = True
    assert loop.is_closed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del connections, transport
        gc.collect()
