"""write, writelines and write_eof: what they take, what arrives, what they refuse."""

import array
import asyncio
import contextlib
import errno
import logging
import os
import socket
import sys

import pytest
from harness import PAIRS, Recorder, attached, iterations, oracle_lacks, run

# More than any socket buffer takes at once.
HUGE = 8 << 20


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(bytearray(b"writable view")),
        memoryview(b"a slice of a view")[2:9],
        memoryview(array.array("I", [1, 2, 0xFFFFFFFF])),
        memoryview(array.array("d", [0.5, -1.0])),
        memoryview(bytes(range(24))).cast("B", (2, 3, 4)),
        b"x" * 100_000,
    ],
    ids=lambda data: f"{type(data).__name__}-{getattr(data, 'format', '')}{len(bytes(data))}",
)
def test_write_any_bytes_like_object_arrives_as_its_bytes(loop, loop_kind, pair, data):
    itemsize = data.itemsize if isinstance(data, memoryview) else 1
    dimensions = data.ndim if isinstance(data, memoryview) else 1

    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            transport.write(data)
            transport.write(b"!")
            return await peer.recv_exactly(len(bytes(data)) + 1)

    oracle_lacks(
        loop_kind,
        itemsize > 1 or dimensions > 1,
        "the rest of a view is cut by items, not bytes, when not all is sent at once",
    )
    assert run(loop, main()) == bytes(data) + b"!"


def test_write_huge_view_of_large_items_arrives_complete(loop, loop_kind):
    oracle_lacks(loop_kind, True, "the rest of a view is cut by items, not bytes")
    numbers = array.array("Q", range(HUGE // 8))

    async def main():
        async with attached() as (transport, _, peer):
            transport.write(memoryview(numbers))
            assert transport.get_write_buffer_size() <= HUGE
            return await peer.recv_exactly(HUGE)

    assert run(loop, main()) == numbers.tobytes()


def stock_refusal(data):
    """What write() of stock asyncio says to `data`; patch releases worded it differently."""

    async def main():
        one, other = socket.socketpair()
        with other:
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, sock=one
            )
            with pytest.raises(TypeError) as caught:
                transport.write(data)
            transport.close()
            await asyncio.sleep(0)
            return str(caught.value)

    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        return loop.run_until_complete(main())


@pytest.mark.parametrize("data", ["text", 1, None, [b"x"], object(), array.array("B", b"x")])
def test_write_of_another_type_raises_type_error(loop, data):
    text = stock_refusal(data)
    assert text.startswith("data argument must be a bytes")
    assert text.endswith(f" object, not '{type(data).__name__}'")

    async def main():
        async with attached() as (transport, protocol, _):
            with pytest.raises(TypeError) as caught:
                transport.write(data)
            assert str(caught.value) == text
            await iterations(2)
            assert not transport.is_closing()
            assert protocol.calls == ["connection_made"]

    run(loop, main())


@pytest.mark.parametrize("arguments", [(), (b"a", b"b")])
def test_write_with_a_wrong_number_of_arguments_raises_type_error(loop, arguments):
    async def main():
        async with attached() as (transport, _, _peer):
            with pytest.raises(TypeError):
                transport.write(*arguments)

    run(loop, main())


def test_write_of_a_view_with_gaps_sends_nothing_wrong(loop, errors):
    """asyncio fails the connection with BufferError; raising it at once is as good."""

    async def main():
        async with attached() as (transport, protocol, peer):
            try:
                transport.write(memoryview(b"abcdef")[::2])
            except (BufferError, ValueError, TypeError):
                assert not transport.is_closing()
                return
            await protocol.until_lost()
            assert isinstance(protocol.lost, BufferError)
            assert isinstance(errors.pop()["exception"], BufferError)
            assert await peer.recv() == b""

    run(loop, main())


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_write_of_nothing_does_nothing(loop, data):
    async def main():
        async with attached() as (transport, _, peer):
            transport.write(data)
            transport.write(b"x")
            transport.write(data)
            transport.close()
            assert await peer.recv_all() == b"x"

    run(loop, main())


def test_write_many_small_arrive_joined_in_order(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            for number in range(5000):
                transport.write(b"%06d" % number)
            got = await peer.recv_exactly(30_000)
            assert got == b"".join(b"%06d" % number for number in range(5000))

    run(loop, main())


def test_write_bytearray_changed_afterwards_sends_what_it_was(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            data = bytearray(b"before")
            transport.write(data)
            data[:] = b"after!"
            data += b"longer"
            assert await peer.recv_exactly(6) == b"before"
            transport.write(memoryview(data)[:5])
            data[:5] = b"AFTER"
            assert await peer.recv_exactly(5) == b"after"

    run(loop, main())


@pytest.mark.parametrize("view", [False, True])
def test_write_huge_bytearray_changed_afterwards_sends_what_it_was(loop, loop_kind, pair, view):
    oracle_lacks(
        loop_kind, sys.version_info >= (3, 12), "what is not sent at once is borrowed, not copied"
    )

    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            data = bytearray(b"a" * HUGE)
            transport.write(memoryview(data) if view else data)
            data[:] = b"b" * HUGE
            transport.write(b"!")
            got = await peer.recv_exactly(HUGE + 1)
            assert got.count(b"a") == HUGE
            assert got[-1:] == b"!"

    run(loop, main())


def test_write_huge_arrives_complete(loop, pair):
    async def main():
        blob = os.urandom(HUGE)
        async with attached(pair=pair) as (transport, _, peer):
            transport.write(blob)
            assert await peer.recv_exactly(HUGE) == blob
            await iterations(3)
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_write_huge_and_small_mixed_keep_their_order(loop, pair):
    async def main():
        parts = [os.urandom(size) for size in (10, HUGE // 2, 1, 70_000, HUGE // 4, 3, 3)]
        async with attached(pair=pair) as (transport, _, peer):
            for part in parts:
                transport.write(part)
            whole = b"".join(parts)
            assert await peer.recv_exactly(len(whole)) == whole

    run(loop, main())


@pytest.mark.parametrize("make", [list, tuple, iter])
def test_writelines_arrives_joined(loop, loop_kind, pair, make):
    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            transport.writelines(make([b"one", bytearray(b"two"), b"", memoryview(b"three")]))
            transport.write(b"!")
            assert await peer.recv_exactly(12) == b"onetwothree!"

    run(loop, main())


def test_writelines_more_than_iov_max_arrives_complete(loop, pair):
    async def main():
        parts = [b"%05d" % number for number in range(5000)]
        async with attached(pair=pair) as (transport, _, peer):
            transport.writelines(parts)
            assert await peer.recv_exactly(25_000) == b"".join(parts)

    run(loop, main())


def test_writelines_huge_arrives_complete_after_what_was_written(loop, pair):
    async def main():
        parts = [os.urandom(HUGE // 8) for _ in range(8)]
        async with attached(pair=pair) as (transport, _, peer):
            transport.write(b"first")
            transport.writelines(parts)
            transport.write(b"last")
            got = await peer.recv_exactly(HUGE + 9)
            assert got == b"first" + b"".join(parts) + b"last"

    run(loop, main())


# Since 3.14.8 writelines() skips what is false before it looks at its type.
SKIPS_FALSE = sys.version_info >= (3, 14, 8)


@pytest.mark.parametrize("data", [["text"], [1], [None], [b"fine", "text"], 5])
def test_writelines_of_another_type_raises_type_error(loop, loop_kind, data):
    if SKIPS_FALSE and data == [None]:
        pytest.skip("asyncio of this Python takes None for nothing")
    stuck = sys.version_info >= (3, 15) and isinstance(data, list) and len(data) > 1
    oracle_lacks(loop_kind, stuck, "what precedes the item stays in the buffer for ever")

    async def main():
        async with attached() as (transport, _, peer):
            with pytest.raises(TypeError):
                transport.writelines(data)
            transport.write(b"still fine")
            assert await peer.recv_exactly(10) == b"still fine"

    run(loop, main())


# Since 3.13.10 and 3.14.1 writelines() does not look at what it drops (gh-136234).
DROPS_UNSEEN = sys.version_info >= (3, 14, 1) or (3, 13, 10) <= sys.version_info < (3, 14)


@pytest.mark.parametrize("data", [["text"], [1], [b"fine", "text"], 5])
@pytest.mark.parametrize("ending", ["close", "abort"])
def test_writelines_of_another_type_after_the_end_raises_type_error_or_drops_it(
    loop, ending, data
):
    refused = contextlib.nullcontext if DROPS_UNSEEN else lambda: pytest.raises(TypeError)

    async def main():
        async with attached() as (transport, protocol, _):
            getattr(transport, ending)()
            with refused():
                transport.writelines(data)
            await protocol.until_lost()
            assert protocol.lost is None
            with refused():
                transport.writelines(data)

    run(loop, main())


@pytest.mark.skipif(not SKIPS_FALSE, reason="asyncio of this Python looks at the type first")
def test_writelines_skips_items_that_are_false_whatever_they_are(loop):
    async def main():
        async with attached() as (transport, _, peer):
            transport.writelines([None])
            transport.writelines([b"a", None, "", 0, b"", memoryview(b""), bytearray(b"b")])
            assert await peer.recv_exactly(2) == b"ab"

    run(loop, main())


def test_writelines_of_nothing_does_nothing(loop):
    async def main():
        async with attached() as (transport, _, peer):
            transport.writelines([])
            transport.writelines(())
            transport.write(b"x")
            transport.close()
            assert await peer.recv_all() == b"x"

    run(loop, main())


def test_write_eof_ends_the_peers_stream_and_keeps_reading(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.write(b"request")
            transport.write_eof()
            assert await peer.recv_all() == b"request"
            assert not transport.is_closing()
            await peer.send_all(b"response")
            await protocol.until_size(8)
            assert protocol.data == b"response"
            peer.close()
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_write_eof_after_a_huge_write_waits_for_it(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            transport.write_eof()
            assert len(await peer.recv_all()) == HUGE
            await peer.send_all(b"response")
            await protocol.until_size(8)

    run(loop, main())


def test_write_eof_twice_is_write_eof_once(loop):
    async def main():
        async with attached() as (transport, _, peer):
            assert transport.write_eof() is None
            assert transport.write_eof() is None
            assert await peer.recv() == b""

    run(loop, main())


@pytest.mark.parametrize("data", [b"x", b""])
def test_write_after_write_eof_raises(loop, data):
    async def main():
        async with attached() as (transport, _, peer):
            transport.write_eof()
            with pytest.raises(RuntimeError, match=r"^Cannot call write\(\) after write_eof\(\)$"):
                transport.write(data)
            with pytest.raises(RuntimeError, match=r"^Cannot call write.*\(\) after write_eof"):
                transport.writelines([b"x"])
            assert await peer.recv() == b""

    run(loop, main())


def test_write_of_a_wrong_type_after_write_eof_raises_type_error(loop):
    async def main():
        async with attached() as (transport, _, _peer):
            transport.write_eof()
            with pytest.raises(TypeError):
                transport.write("text")

    run(loop, main())


def test_write_eof_on_a_closing_transport_does_nothing(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(b"x")
            transport.close()
            transport.write_eof()
            assert await peer.recv_all() == b"x"
            await protocol.until_lost()
            transport.write_eof()

    run(loop, main())


def test_write_in_connection_made_arrives(loop, pair):
    class Greeting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")

    async def main():
        async with attached(Greeting(), pair) as (_, _protocol, peer):
            assert await peer.recv_exactly(5) == b"hello"

    run(loop, main())


def test_write_in_connection_lost_is_dropped_silently(loop, errors):
    class Late(Recorder):
        def connection_lost(self, exc):
            self.transport.write(b"too late")
            self.transport.write_eof()
            self.transport.close()
            self.transport.abort()
            super().connection_lost(exc)

    async def main():
        async with attached(Late()) as (transport, protocol, peer):
            transport.close()
            await protocol.until_lost()
            assert await peer.recv() == b""

    run(loop, main())
    assert errors == []


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_write_after_the_end_warns_from_the_fifth_time_on(loop, caplog, ending):
    async def main():
        async with attached() as (transport, protocol, peer):
            getattr(transport, ending)()
            counts = []
            for _ in range(7):
                transport.write(b"x")
                counts.append(len(caplog.records))
            await protocol.until_lost()
            assert protocol.lost is None
            assert await peer.recv() == b""
            return counts

    with caplog.at_level(logging.WARNING, "asyncio"):
        counts = run(loop, main())
    assert counts == [0, 0, 0, 0, 1, 2, 3]
    assert {record.getMessage() for record in caplog.records} == {"socket.send() raised exception."}


def test_write_to_a_reset_peer_ends_the_connection_with_the_error(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            peer.reset()
            while not transport.is_closing():
                transport.write(b"x" * 1000)
                await asyncio.sleep(0)
            await protocol.until_lost()
            assert isinstance(protocol.lost, (ConnectionResetError, BrokenPipeError))
            assert protocol.calls.count("connection_lost") == 1

    run(loop, main())


def test_write_to_a_reset_peer_while_paused_is_told_of_the_reset(loop):
    """The socket tells its error once; what noticed it meanwhile must not keep it for itself."""

    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(2)
            peer.reset()
            await iterations(3)
            assert not transport.is_closing()
            transport.write(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)

    run(loop, main())


def test_write_to_a_closed_peer_ends_the_connection_with_the_error(loop):
    """The peer of a UNIX pair is gone at once: the first write fails with EPIPE."""

    async def main():
        async with attached(pair=socket.socketpair) as (transport, protocol, peer):
            transport.pause_reading()
            await iterations(2)
            peer.close()
            transport.write(b"x")
            await protocol.until_lost()
            assert isinstance(protocol.lost, BrokenPipeError)

    run(loop, main())


def test_write_of_a_huge_bytearray_to_a_reset_peer_ends_the_connection_with_the_error(loop):
    """It is offered to the kernel before it is copied, inside write()."""

    async def main():
        async with attached() as (transport, protocol, peer):
            await iterations(2)
            peer.reset()
            transport.write(bytearray(1 << 20))
            assert transport.get_write_buffer_size() == 0
            transport.write(bytearray(1 << 20))
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


def test_write_eof_to_a_reset_peer_raises_and_the_loss_is_told_once(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            await iterations(2)
            peer.reset()
            with pytest.raises(OSError) as caught:
                transport.write_eof()
            assert caught.value.errno == errno.ENOTCONN
            await protocol.until_lost()
            assert isinstance(protocol.lost, ConnectionResetError)
            assert protocol.calls == ["connection_made", "connection_lost"]

    run(loop, main())


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        ({"high": 1000.5, "low": 10.5}, (10, 1000)),
        ({"high": 1e6}, (250_000, 1_000_000)),
        ({"high": 1 << 70, "low": 1}, (1, sys.maxsize)),
        ({"high": float("inf"), "low": 0}, (0, sys.maxsize)),
        ({"low": sys.maxsize}, (sys.maxsize, sys.maxsize)),
    ],
)
def test_write_buffer_limits_may_be_any_numbers(loop, loop_kind, given, whole):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.set_write_buffer_limits(**given)
            # Whole bytes are what can be queued; asyncio gives back what it was given.
            if loop_kind != "asyncio":
                assert transport.get_write_buffer_limits() == whole
            if whole[1] < 1 << 20:
                transport.write(bytes(HUGE * 2))
                assert "pause_writing" in protocol.calls
            transport.abort()

    run(loop, main())


def test_write_returns_none(loop):
    async def main():
        async with attached() as (transport, _, _peer):
            assert transport.write(b"x") is None
            assert transport.writelines([b"x"]) is None
            assert transport.write_eof() is None

    run(loop, main())


def test_write_does_not_block_a_full_socket(loop):
    """With a peer that never reads, write returns and the rest is kept."""

    async def main():
        async with attached(small=True) as (transport, _, _peer):
            transport.write(bytes(HUGE))
            await iterations(3)
            assert transport.get_write_buffer_size() > HUGE // 2
            transport.abort()
            assert transport.get_write_buffer_size() == 0

    run(loop, main())
