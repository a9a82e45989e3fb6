"""TLS transports: how they carry bytes, how they pause, how they end, and what is left."""

import asyncio
import gc
import os
import socket
import sys
import weakref

import pytest
from harness import (
    BufferedRecorder,
    Echo,
    Recorder,
    iterations,
    oracle_lacks,
    resource_warning,
    run,
    serving,
    tcp_pair,
)
from tls_peer import NAME, TlsPeer, echoed, tls_attached


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_tls_bulk_both_ways_at_once_arrives_whole(loop, certificates, version, kind):
    size = 10 << 20
    data = pattern(size)

    async def main():
        server = kind()
        async with serving(lambda: server, ssl=certificates.server(version)) as (_, address):
            transport, client = await loop.create_connection(
                kind, *address, ssl=certificates.client(version), server_hostname=NAME
            )
            await server.until_called("connection_made")
            for start in range(0, size, 1 << 20):
                transport.write(data[start : start + (1 << 20)])
                server.transport.write(data[start : start + (1 << 20)])
            await server.until_size(size)
            await client.until_size(size)
            assert server.data == data
            assert client.data == data
            transport.close()
            await client.until_lost()
            await server.until_lost()

    run(loop, main())


def test_tls_many_small_writes_arrive_in_order(loop, certificates, version, server_side):
    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            expected = b"".join(b"%d," % number for number in range(5000))
            for number in range(5000):
                transport.write(b"%d," % number)
            assert await peer.recv_exactly(len(expected)) == expected

    run(loop, main())


@pytest.mark.parametrize("use", ["shutdown", "fileno", "dup"])
def test_tls_socket_that_is_used_finds_what_was_written(loop, certificates, use):
    """The last record is whole: the peer reads it, then the end that was put behind it."""

    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            transport.write(b"last words")
            if use == "shutdown":
                sock.shutdown(socket.SHUT_WR)
            else:
                twin = sock.dup() if use == "dup" else socket.socket(fileno=os.dup(sock.fileno()))
                with twin:
                    twin.shutdown(socket.SHUT_WR)
            assert await peer.recv_exactly(10) == b"last words"

    run(loop, main())


def test_tls_writelines_and_every_bytes_type_arrive(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            transport.writelines([b"one", bytearray(b"two"), memoryview(b"three")])
            transport.write(bytearray(b"four"))
            transport.write(memoryview(b"five"))
            transport.write(b"")
            assert await peer.recv_exactly(19) == b"onetwothreefourfive"
            with pytest.raises(TypeError):
                transport.write("text")

    run(loop, main())


def test_tls_write_eof_is_not_there(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, _, _):
            assert transport.can_write_eof() is False
            with pytest.raises(NotImplementedError):
                transport.write_eof()

    run(loop, main())


def test_tls_stalled_reader_pauses_the_writer_and_all_arrives(loop, certificates, version):
    size = 8 << 20

    async def main():
        options = {"version": version, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            data = pattern(size)
            for start in range(0, size, 1 << 16):
                transport.write(data[start : start + (1 << 16)])
            assert (protocol.pauses, protocol.resumes) == (1, 0)
            low, high = transport.get_write_buffer_limits()
            assert 0 <= low <= high
            assert transport.get_write_buffer_size() > high
            assert await peer.recv_exactly(size) == data
            await protocol.until_called("resume_writing")
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            assert transport.get_write_buffer_size() <= low

    run(loop, main())


def test_tls_write_buffer_limits_are_obeyed_and_checked(loop, certificates):
    async def main():
        options = {"small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=1 << 22, low=1 << 20)
            assert transport.get_write_buffer_limits() == (1 << 20, 1 << 22)
            for _ in range(32):
                transport.write(bytes(1 << 16))
            assert protocol.pauses == 0
            transport.set_write_buffer_limits(high=1024, low=512)
            assert protocol.pauses == 1
            await peer.recv_exactly(1 << 21)
            await protocol.until_called("resume_writing")
            with pytest.raises(ValueError):
                transport.set_write_buffer_limits(high=1, low=2)

    run(loop, main())


def test_tls_paused_reader_gets_nothing_until_it_resumes(loop, certificates, version):
    size = 2 << 20

    async def main():
        async with tls_attached(certificates, version=version) as (transport, protocol, peer):
            assert transport.is_reading() is True
            transport.pause_reading()
            assert transport.is_reading() is False
            data = pattern(size)
            sending = loop.create_task(peer.send_all(data))
            await iterations(50)
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.until_size(size)
            await sending
            assert protocol.data == data

    run(loop, main())


def test_tls_close_sends_what_is_pending_then_close_notify(loop, certificates, version):
    size = 4 << 20

    async def main():
        options = {"version": version, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            data = pattern(size)
            transport.write(data)
            transport.close()
            assert transport.is_closing()
            transport.write(b"after the end")
            assert await peer.recv_all() == data
            await peer.notify()
            await protocol.until_lost()
            assert protocol.lost is None
            assert "data_received" not in protocol.calls

    run(loop, main())


def test_tls_abort_behind_two_closes_does_nothing_more(loop, loop_kind, certificates):
    oracle_lacks(loop_kind, sys.version_info < (3, 11, 7), "abort() fails after a second close()")

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            transport.close()
            transport.close()
            transport.abort()
            transport.abort()
            assert transport.is_closing()
            peer.close()
            await protocol.until_lost()

    run(loop, main())


def test_tls_close_by_the_peer_calls_eof_received_then_connection_lost(loop, certificates, version):
    async def main():
        async with tls_attached(certificates, version=version) as (_, protocol, peer):
            await peer.send_all(b"last words")
            await peer.notify()
            await protocol.until_lost()
            assert protocol.names == [
                "connection_made",
                "data_received",
                "eof_received",
                "connection_lost",
            ]
            assert protocol.data == b"last words"
            assert protocol.lost is None
            assert await peer.recv() == b""

    run(loop, main())


def test_tls_half_open_is_refused_with_a_warning(loop, certificates, caplog):
    async def main():
        options = {"protocol": Recorder(keep_open=True)}
        async with tls_attached(certificates, **options) as (_, protocol, peer):
            await peer.notify()
            await protocol.until_lost()

    run(loop, main())
    assert "returning true from eof_received() has no effect when using ssl" in caplog.text


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 16])
@pytest.mark.parametrize("wrap", [bytearray, lambda size: memoryview(bytearray(size))])
def test_tls_buffered_protocol_with_any_buffer_gets_every_byte(
    loop, loop_kind, certificates, size, wrap
):
    oracle_lacks(loop_kind, wrap is bytearray, "fills copies of a bytearray's slices")

    async def main():
        protocol = BufferedRecorder()
        protocol.buffer = wrap(size)
        async with tls_attached(certificates, protocol) as (_, _, peer):
            data = pattern(20_000)
            await peer.send_all(data)
            await protocol.until_size(len(data))
            assert protocol.data == data

    run(loop, main())


@pytest.mark.parametrize("pausing", [False, True])
def test_tls_buffered_protocol_gets_all_that_came_before_the_end(
    loop, loop_kind, certificates, pausing
):
    oracle_lacks(loop_kind, True, "drops what small buffers have not taken at the end of file")

    class Pausing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            if pausing:
                self.transport.pause_reading()
                loop.call_soon(self.transport.resume_reading)

    async def main():
        protocol = Pausing(100)
        async with tls_attached(certificates, protocol) as (_, _, peer):
            data = pattern(20_000)
            await peer.send_all(data)
            peer.close()
            await protocol.until_lost()
            assert protocol.data == data

    run(loop, main())


def test_tls_buffered_protocol_with_an_empty_buffer_ends_the_connection(
    loop, loop_kind, certificates, errors
):
    oracle_lacks(loop_kind, True, "takes an empty buffer for the end of the stream")

    async def main():
        protocol = BufferedRecorder()
        async with tls_attached(certificates, protocol) as (_, _, peer):
            protocol.buffer = bytearray()
            await peer.send_all(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, RuntimeError)

    run(loop, main())
    assert "empty buffer" in str(errors.pop()["exception"])


def test_tls_buffered_protocol_replaced_between_buffers_loses_nothing(loop, certificates):
    class Replaced(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.set_protocol(second)

    second = Recorder()

    async def main():
        first = Replaced(100)
        first.buffer = memoryview(bytearray(100))
        async with tls_attached(certificates, first) as (_, _, peer):
            data = pattern(20_000)
            await peer.send_all(data)
            await second.until_size(len(data) - 100)
            assert bytes(first.data) + second.data == data

    run(loop, main())


def test_tls_closed_while_paused_after_the_peers_end_is_lost(loop, loop_kind, certificates):
    oracle_lacks(loop_kind, True, "a paused transport whose peer has gone can never be closed")

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send_all(b"never read")
            peer.close()
            # The end of file is behind the bytes: wait until the transport has seen it.
            await iterations(20)
            transport.close()
            await protocol.until_lost()
            assert protocol.data == b""
            assert protocol.lost is None

    run(loop, main())


def test_tls_paused_while_the_peer_ends_delivers_all_when_resumed(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            transport.pause_reading()
            data = pattern(20_000)
            await peer.send_all(data)
            peer.close()
            await iterations(20)
            assert protocol.names == ["connection_made"]
            transport.resume_reading()
            await protocol.until_lost()
            assert protocol.data == data
            assert protocol.names[-2:] == ["eof_received", "connection_lost"]

    run(loop, main())


def test_tls_aborted_inside_the_last_data_received_ends_quietly(loop, loop_kind, certificates):
    oracle_lacks(loop_kind, True, "reports that it cannot switch its state")

    class Aborting(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.abort()

    async def main():
        async with tls_attached(certificates, Aborting()) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send_all(b"last words")
            peer.close()
            await iterations(20)
            transport.resume_reading()
            await protocol.until_lost()
            assert protocol.data == b"last words"

    run(loop, main())


def test_tls_set_protocol_later_bytes_go_to_the_new_one(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, first, peer):
            await peer.send_all(b"first")
            await first.until_size(5)
            second = Recorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            await peer.send_all(b"second")
            await second.until_size(6)
            assert (first.data, second.data) == (b"first", b"second")
            await peer.notify()
            await second.until_lost()
            assert "connection_lost" not in first.calls

    run(loop, main())


def test_tls_fifty_handshakes_at_once_all_succeed(loop, certificates):
    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            context = certificates.client()
            await asyncio.gather(
                *[
                    echoed(
                        loop.create_connection(
                            Recorder, *address, ssl=context, server_hostname=NAME
                        )
                    )
                    for _ in range(50)
                ]
            )

    run(loop, main())


# ---- what is left -----------------------------------------------------------------------------


def test_tls_connection_ended_is_collected(loop, certificates):
    async def main():
        async with serving(Echo, ssl=certificates.server()) as (_, address):
            transport, protocol = await loop.create_connection(
                Recorder, *address, ssl=certificates.client(), server_hostname=NAME
            )
            references = [
                weakref.ref(transport),
                weakref.ref(protocol),
                weakref.ref(transport.get_extra_info("ssl_object")),
            ]
            transport.close()
            await protocol.until_lost()
            return references

    references = run(loop, main())
    run(loop, iterations(5))
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]


def test_tls_transport_left_open_warns_when_collected(make_unwatched_loop, certificates):
    """The loop goes first, as at the end of a program that forgot both."""
    loop = make_unwatched_loop()
    sock, other = tcp_pair()

    async def main():
        peer = TlsPeer(other, certificates.server(), server_side=True)
        opening = asyncio.get_running_loop().create_connection(
            asyncio.Protocol, sock=sock, ssl=certificates.client(), server_hostname=NAME
        )
        await asyncio.gather(opening, peer.handshake())

    loop.run_until_complete(main())
    with resource_warning("unclosed transport <asyncio._SSLProtocolTransport"):
        loop.close()
        del loop
        gc.collect()
    other.close()
    sock.close()


@pytest.mark.parametrize("empty", [bytearray(), memoryview(b""), memoryview(b"ab")[1:1]])
def test_tls_write_of_nothing_in_a_buffer_writes_nothing(loop, certificates, empty):
    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            transport.write(empty)
            transport.write(b"all")
            assert await peer.recv_exactly(3) == b"all"

    run(loop, main())


def test_tls_write_of_a_view_with_gaps_ends_the_connection(loop, certificates, errors):
    """OpenSSL takes no such buffer."""

    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            transport.write(memoryview(b"abcdef")[::2])
            await protocol.until_lost()
            assert isinstance(protocol.lost, BufferError)
            assert [type(context["exception"]) for context in errors] == [BufferError]
            errors.clear()

    run(loop, main())


def test_tls_write_of_a_released_view_is_refused_and_the_connection_goes_on(loop, certificates):
    view = memoryview(b"abc")
    view.release()

    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            with pytest.raises(ValueError, match="released memoryview"):
                transport.write(view)
            transport.write(b"all")
            assert await peer.recv_exactly(3) == b"all"

    run(loop, main())
