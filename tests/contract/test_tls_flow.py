"""TLS flow control: what a paused reader and a stalled writer may hold, and what they are told."""

import asyncio
import asyncio.sslproto
import io

import pytest
from harness import BufferedRecorder, Recorder, iterations, oracle_lacks, run
from tls_peer import tls_attached

# asyncio's limits (256 KiB to be read, 512 KiB to be written), a receive of each layer beyond them,
# and what the kernel takes between small sockets.
HELD_BYTES = 4 << 20


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


async def stalled(progress):
    """Until what `progress` gives stays the same: nobody takes anything any more."""
    last = None
    while last != progress():
        last = progress()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("chunk", [1000, 1 << 14, 1 << 18])
def test_tls_paused_reader_takes_no_more_than_its_buffers_hold(
    loop, certificates, version, server_side, chunk
):
    size = 16 << 20

    async def main():
        options = {"server_side": server_side, "version": version, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.pause_reading()
            sent = 0

            async def send():
                nonlocal sent
                while sent < size:
                    await peer.send_all(bytes(chunk))
                    sent += chunk

            sending = loop.create_task(send())
            await stalled(lambda: sent)
            assert sent < HELD_BYTES
            assert protocol.data == b""
            assert transport.get_read_buffer_size() < HELD_BYTES
            transport.resume_reading()
            await sending
            await protocol.until_size(sent)
            assert len(protocol.data) == sent

    run(loop, main())


def test_tls_reader_that_pauses_and_resumes_all_the_time_gets_every_byte(
    loop, certificates, version, server_side
):
    class Pausing(Recorder):
        def data_received(self, data):
            wrong.append(not self.transport.is_reading())
            super().data_received(data)
            self.transport.pause_reading()
            loop.call_soon(self.transport.resume_reading)

    wrong = []

    async def main():
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, Pausing(), **options) as (_, protocol, peer):
            data = pattern(2 << 20)
            await peer.send_all(data)
            await protocol.until_size(len(data))
            assert protocol.data == data
            assert not any(wrong)

    run(loop, main())


def test_tls_resumed_twice_and_paused_twice_changes_nothing(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            transport.resume_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert transport.is_reading() is False
            await peer.send_all(b"x")
            await iterations(10)
            assert protocol.data == b""
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading() is True
            await protocol.until_size(1)

    run(loop, main())


def test_tls_paused_again_before_the_resume_took_effect_delivers_nothing_more_for_ever(
    loop, certificates
):
    async def main():
        async with tls_attached(certificates) as (transport, protocol, peer):
            transport.pause_reading()
            await peer.send_all(b"kept")
            await iterations(10)
            transport.resume_reading()
            transport.pause_reading()
            await iterations(10)
            assert protocol.data == b""
            transport.resume_reading()
            await protocol.until_size(4)

    run(loop, main())


def test_tls_writer_that_is_paused_holds_what_it_says_and_is_resumed_once(
    loop, certificates, version, server_side
):
    async def main():
        options = {"server_side": server_side, "version": version, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            written = 0
            while not protocol.pauses:
                transport.write(pattern(1 << 14))
                written += 1 << 14
                assert written < 64 << 20
            size = transport.get_write_buffer_size()
            assert 0 < size <= HELD_BYTES
            await iterations(10)
            assert transport.get_write_buffer_size() <= size
            expected = pattern(1 << 14) * (written >> 14)
            assert await peer.recv_exactly(written) == expected
            await protocol.until_called("resume_writing")
            await protocol.until(lambda: transport.get_write_buffer_size() == 0)
            assert (protocol.pauses, protocol.resumes) == (1, 1)

    run(loop, main())


@pytest.mark.parametrize("small", [False, True])
def test_tls_write_buffer_is_empty_once_the_peer_has_all_whatever_the_pieces_were(
    loop, certificates, version, small
):
    """Of a piece of many records each is taken from its size as it leaves."""

    async def main():
        async with tls_attached(certificates, version=version, small=small) as (
            transport,
            protocol,
            peer,
        ):
            for size in (1, 16 * 1024, 16 * 1024 + 1, 100_000, 3 << 20):
                transport.write(pattern(size))
                transport.writelines([pattern(size), b"x", bytearray(pattern(size))])
                assert transport.get_write_buffer_size() <= 3 * size + 1
                await peer.recv_exactly(3 * size + 1)
                await protocol.until(lambda: protocol.pauses == protocol.resumes)
                assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_tls_limit_of_one_byte_pauses_with_the_first_that_is_kept(loop, certificates):
    async def main():
        async with tls_attached(certificates, small=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=1)
            assert transport.get_write_buffer_limits() == (0, 1)
            for turn in range(1, 4):
                # The first is all with the transport below, whose limit is its own.
                transport.write(bytes(4 << 20))
                transport.write(b"x")
                assert protocol.pauses == turn
                await peer.recv_exactly((4 << 20) + 1)
                await protocol.until(lambda: protocol.resumes == protocol.pauses)

    run(loop, main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_tls_protocol_raising_when_it_is_paused_or_resumed_is_reported_and_the_stream_goes_on(
    loop, certificates, errors, method
):
    def failing():
        raise LookupError(method)

    async def main():
        async with tls_attached(certificates, small=True) as (transport, protocol, peer):
            setattr(protocol, method, failing)
            for _ in range(64):
                transport.write(bytes(1 << 16))
            assert await peer.recv_exactly(4 << 20) == bytes(4 << 20)
            while not errors:
                await iterations(1)
            await peer.send_all(b"x")
            await protocol.until_size(1)

    run(loop, main())
    for told in errors:
        assert told["message"] == f"protocol.{method}() failed"
        assert isinstance(told["exception"], LookupError)
    errors.clear()


def test_tls_both_ends_stalled_at_once_go_on_when_one_reads(loop, certificates, version):
    """Each has more to send than fits, and reads nothing: no deadlock is left behind."""
    size = 4 << 20

    async def main():
        options = {"version": version, "small": True}
        async with tls_attached(certificates, **options) as (transport, protocol, peer):
            transport.pause_reading()
            data = pattern(size)
            transport.write(data)
            sending = loop.create_task(peer.send_all(data))
            await iterations(100)
            transport.resume_reading()
            await sending
            await protocol.until_size(size)
            assert protocol.data == data
            assert await peer.recv_exactly(size) == data

    run(loop, main())


@pytest.mark.parametrize("offset, count", [(0, None), (1000, 300_000), (5_000_000, 10)])
def test_tls_sendfile_falls_back_to_reading_between_what_is_written(
    loop, certificates, version, server_side, tmp_path, offset, count
):
    path = tmp_path / "file"
    path.write_bytes(pattern(1 << 20))
    expected = pattern(1 << 20)[offset : None if count is None else offset + count]

    async def main():
        options = {"server_side": server_side, "version": version, "small": True}
        async with tls_attached(certificates, **options) as (transport, _, peer):
            with open(path, "rb") as file:
                transport.write(b"before")
                sending = loop.create_task(loop.sendfile(transport, file, offset, count))
                assert await peer.recv_exactly(6 + len(expected)) == b"before" + expected
                assert await sending == len(expected)
                transport.write(b"behind")
                assert await peer.recv_exactly(6) == b"behind"

    run(loop, main())


def test_tls_sendfile_without_fallback_is_refused(loop, certificates):
    async def main():
        async with tls_attached(certificates) as (transport, _, _):
            with pytest.raises(RuntimeError):
                await loop.sendfile(transport, io.BytesIO(b"x"), fallback=False)

    run(loop, main())


@pytest.mark.parametrize("pieces", [1, 40])
def test_tls_interrupt_while_a_large_write_is_paused_loses_nothing_of_it(
    loop, certificates, monkeypatch, pieces
):
    size = 4_000_000
    pause_writing = asyncio.sslproto.SSLProtocol.pause_writing

    def interrupted(self):
        pause_writing(self)
        monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "pause_writing", pause_writing)
        raise KeyboardInterrupt

    async def main():
        async with tls_attached(certificates) as (transport, _, peer):
            monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "pause_writing", interrupted)
            with pytest.raises(KeyboardInterrupt):
                if pieces == 1:
                    transport.write(bytes(size))
                else:
                    transport.writelines([bytes(size // pieces)] * pieces)
            assert await peer.recv_exactly(size) == bytes(size)

    run(loop, main())


def test_tls_interrupt_as_a_write_behind_a_queue_pauses_loses_nothing_of_it(
    loop, certificates, monkeypatch
):
    """What is queued already takes it at once, and finds that it is too much."""
    size = 4 << 20
    pause_writing = asyncio.sslproto.SSLProtocol.pause_writing

    def interrupted(self):
        pause_writing(self)
        monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "pause_writing", pause_writing)
        raise KeyboardInterrupt

    opening = tls_attached(certificates, small=True)
    transport, protocol, peer = run(loop, opening.__aenter__())
    below = transport._ssl_protocol._transport

    async def fill():
        for each in (below, transport):
            each.set_write_buffer_limits(high=1 << 30)
        transport.write(bytes(size))
        await iterations(5)
        below.set_write_buffer_limits(high=below.get_write_buffer_size() + 100, low=0)

    run(loop, fill())
    assert protocol.pauses == 0
    monkeypatch.setattr(asyncio.sslproto.SSLProtocol, "pause_writing", interrupted)
    loop.call_soon(transport.write, bytes(200))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()

    async def rest():
        transport.write(b"last")
        assert await peer.recv_exactly(size + 204) == bytes(size + 200) + b"last"
        assert protocol.calls == ["connection_made"]
        await opening.__aexit__(None, None, None)

    run(loop, rest())


def test_tls_closed_with_something_unread_sends_what_was_written_before(
    loop, loop_kind, certificates, version, server_side
):
    """OpenSSL refuses to close while the peer's data waits in it."""
    oracle_lacks(loop_kind, True, "what the transport has queued is dropped")
    size = 4 << 20

    class Enough(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def main():
        options = {"server_side": server_side, "version": version, "small": True}
        async with tls_attached(certificates, Enough(4), **options) as (
            transport,
            protocol,
            peer,
        ):
            await peer.send_all(b"more than a buffer")
            await protocol.until_called("buffer_updated")
            transport.write(pattern(size))
            transport.close()
            assert await peer.recv_all() == pattern(size)
            peer.close()
            await protocol.until_lost()
            assert protocol.lost.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"

    run(loop, main())
