"""TLS and BufferedProtocol: buffers of every size and kind, and protocols of two kinds in turn."""

import array
import asyncio
import random

import pytest
from harness import BufferedRecorder, Recorder, iterations, oracle_lacks, run
from tls_peer import tls_attached


def pattern(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


class Varied(BufferedRecorder):
    """Offers what `make` makes, another each time."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def get_buffer(self, sizehint):
        assert sizehint == -1 or sizehint >= 0
        self.buffer = self.make()
        return self.buffer

    def buffer_updated(self, nbytes):
        taken = memoryview(self.buffer).cast("B")
        assert 0 < nbytes <= len(taken)
        self.data += taken[:nbytes]
        taken.release()
        self.buffer = None
        self._note("buffer_updated")


@pytest.mark.parametrize("largest", [3, 300, 1 << 14, 1 << 20])
def test_tls_buffers_of_changing_sizes_get_every_byte(
    loop, certificates, version, server_side, largest
):
    chosen = random.Random(largest)
    size = 2_000 if largest == 3 else 200_000

    async def main():
        protocol = Varied(lambda: memoryview(bytearray(chosen.randint(1, largest))))
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, protocol, **options) as (_, _, peer):
            await peer.send_all(pattern(size))
            await protocol.until_size(size)
            assert protocol.data == pattern(size)

    run(loop, main())


@pytest.mark.parametrize(
    "make",
    [
        lambda: bytearray(1000),
        lambda: array.array("I", bytes(4000)),
        lambda: memoryview(array.array("d", bytes(8000))),
        lambda: memoryview(bytearray(2000))[500:700],
    ],
    ids=["bytearray", "array", "view of doubles", "slice"],
)
def test_tls_buffers_of_every_kind_get_every_byte(loop, loop_kind, certificates, make):
    oracle_lacks(loop_kind, type(make()[:1]) is not memoryview or make().itemsize > 1, LACK)

    async def main():
        protocol = Varied(make)
        async with tls_attached(certificates, protocol) as (_, _, peer):
            await peer.send_all(pattern(20_000))
            await protocol.until_size(20_000)
            assert protocol.data == pattern(20_000)

    run(loop, main())


LACK = "fills copies of slices, and counts items for bytes"


def test_tls_bytearray_that_is_resized_in_buffer_updated_is_not_held(loop, loop_kind, certificates):
    """Whoever keeps an export of it makes this raise."""
    oracle_lacks(loop_kind, True, LACK)

    class Resizing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.buffer.extend(bytes(10))
            self.buffer.clear()
            self.buffer.extend(bytes(100))

    async def main():
        protocol = Resizing(100)
        async with tls_attached(certificates, protocol) as (_, _, peer):
            for _ in range(3):
                await peer.send_all(pattern(5_000))
            await protocol.until_size(15_000)
            assert protocol.data == pattern(5_000) * 3

    run(loop, main())


class Wrong(Exception):
    """What get_buffer() raises."""


def raising():
    raise Wrong


@pytest.mark.parametrize(
    "make",
    [lambda: None, lambda: b"read only", lambda: 17, lambda: memoryview(b"read only"), raising],
    ids=["None", "bytes", "number", "read-only view", "raises"],
)
def test_tls_buffer_that_is_none_ends_the_connection_as_on_stock_asyncio(loop, certificates, make):
    async def main():
        protocol = Varied(lambda: memoryview(bytearray(100)))
        async with tls_attached(certificates, protocol) as (_, _, peer):
            # Up to 3.12 it is asked for one as soon as the handshake is over.
            protocol.make = make
            await peer.send_all(b"x")
            await protocol.until_called("connection_lost")
        return type(protocol.lost), protocol.calls

    def play(on):
        told = []
        on.set_exception_handler(lambda _, context: told.append(context))
        ended = run(on, main())
        return ended, [context["message"] for context in told]

    stock = asyncio.SelectorEventLoop()
    try:
        expected = play(stock)
    finally:
        stock.close()
    assert expected[0][1] == ["connection_made", "connection_lost"]
    assert play(loop) == expected


class Alternating:
    """After so many calls puts the next protocol, of the other kind, in its place."""

    def __init__(self, all_data, left):
        super().__init__()
        self.data = all_data
        self.left = left

    def _note(self, name):
        super()._note(name)
        if name in ("data_received", "buffer_updated") and self.left:
            kind = AlternatingBuffered if name == "data_received" else AlternatingPlain
            successor = kind(self.data, self.left - 1)
            successor.transport = self.transport
            successor._condition = self._condition
            self.transport.set_protocol(successor)


class AlternatingPlain(Alternating, Recorder):
    pass


class AlternatingBuffered(Alternating, BufferedRecorder):
    def __init__(self, all_data, left):
        super().__init__(all_data, left)
        self.buffer = memoryview(bytearray(700))


@pytest.mark.parametrize("first", [AlternatingPlain, AlternatingBuffered])
def test_tls_protocols_of_both_kinds_taking_turns_get_every_byte_in_order(
    loop, certificates, version, server_side, first
):
    async def main():
        protocol = first(bytearray(), 1000)
        options = {"server_side": server_side, "version": version}
        async with tls_attached(certificates, protocol, **options) as (_, _, peer):
            sent = 0
            for size in (1, 699, 700, 701, 20_000, 3, 100_000):
                await peer.send_all(pattern(size))
                sent += size
                await protocol.until_size(sent)
            expected = b"".join(map(pattern, (1, 699, 700, 701, 20_000, 3, 100_000)))
            assert protocol.data == expected

    run(loop, main())


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_tls_protocol_set_between_turns_gets_what_comes_from_then_on(
    loop, certificates, version, kind
):
    async def main():
        first = Recorder()
        async with tls_attached(certificates, first, version=version) as (transport, _, peer):
            await peer.send_all(b"first")
            await first.until_size(5)
            second = kind()
            if kind is BufferedRecorder:
                second.buffer = memoryview(bytearray(10))
            transport.set_protocol(second)
            await peer.send_all(pattern(5_000))
            await second.until_size(5_000)
            third = Recorder()
            transport.set_protocol(third)
            await peer.send_all(b"third")
            await peer.notify()
            await third.until_lost()
            assert (first.data, second.data, third.data) == (b"first", pattern(5_000), b"third")

    run(loop, main())


@pytest.mark.parametrize("size", [1, 100, 1 << 18])
def test_tls_buffered_protocol_that_pauses_after_each_buffer_gets_every_byte(
    loop, certificates, version, size
):
    class Pausing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            wrong.append(not self.transport.is_reading())
            super().buffer_updated(nbytes)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    wrong = []

    async def main():
        protocol = Pausing()
        protocol.buffer = memoryview(bytearray(size))
        async with tls_attached(certificates, protocol, version=version) as (_, _, peer):
            count = 300 if size == 1 else 50_000
            await peer.send_all(pattern(count))
            await protocol.until_size(count)
            assert protocol.data == pattern(count)
            assert not any(wrong)
            await iterations(3)

    run(loop, main())


class Interrupting(BufferedRecorder):
    """Raises KeyboardInterrupt when it has got its second buffer."""

    def buffer_updated(self, nbytes):
        super().buffer_updated(nbytes)
        if self.calls.count("buffer_updated") == 2:
            raise KeyboardInterrupt


def test_tls_interrupt_in_buffer_updated_keeps_the_records_that_came_together(
    loop, certificates, version
):
    """What came behind is delivered with what comes next."""
    protocol = Interrupting(size=100)
    record = pattern(256)[:100]
    attached = tls_attached(certificates, protocol, version=version)
    _, _, peer = run(loop, attached.__aenter__())

    async def together():
        await peer.peer.send_all(b"".join([peer.seal(record) for _ in range(5)]))
        await protocol.until_size(500)

    async def behind():
        await peer.send_all(b"next")
        await protocol.until_size(504)

    task = loop.create_task(together())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert protocol.data == record * 2
    run(loop, behind())
    run(loop, task)
    assert protocol.data == record * 5 + b"next"
    run(loop, attached.__aexit__(None, None, None))
