"""Write flow control: limits, pause_writing and resume_writing."""

import contextlib
import socket

import pytest
from harness import Peer, Recorder, attached, iterations, run, small_buffers, tcp_pair

HUGE = 4 << 20


def test_limits_default_to_64_kib_and_a_quarter(loop):
    async def main():
        async with attached() as (transport, _, _peer):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)

    run(loop, main())


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"high": 1000}, (250, 1000)),
        ({"low": 1000}, (1000, 4000)),
        ({"high": 1000, "low": 500}, (500, 1000)),
        ({"high": 0}, (0, 0)),
        ({"high": 0, "low": 0}, (0, 0)),
        ({"high": 5, "low": 5}, (5, 5)),
        ({}, (16 * 1024, 64 * 1024)),
        ({"high": None, "low": None}, (16 * 1024, 64 * 1024)),
    ],
)
def test_limits_set_are_returned(loop, options, expected):
    async def main():
        async with attached() as (transport, _, _peer):
            assert transport.set_write_buffer_limits(**options) is None
            assert transport.get_write_buffer_limits() == expected

    run(loop, main())


def test_limits_may_be_set_by_position(loop):
    async def main():
        async with attached() as (transport, _, _peer):
            transport.set_write_buffer_limits(100, 10)
            assert transport.get_write_buffer_limits() == (10, 100)

    run(loop, main())


@pytest.mark.parametrize("options", [{"high": 1, "low": 2}, {"high": -1}, {"high": 5, "low": -1}])
def test_limits_out_of_order_raise_value_error_and_change_nothing(loop, options):
    async def main():
        async with attached() as (transport, _, _peer):
            with pytest.raises(ValueError, match=r"high \(.*\) must be >= low \(.*\) must be >= 0"):
                transport.set_write_buffer_limits(**options)
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)

    run(loop, main())


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
def test_huge_write_pauses_once_and_resumes_once_when_drained(loop, pair):
    async def main():
        async with attached(pair=pair, small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            assert protocol.pauses == 1, "pause_writing comes inside write()"
            transport.write(bytes(HUGE))
            assert protocol.pauses == 1
            await iterations(3)
            assert protocol.resumes == 0
            await peer.recv_exactly(2 * HUGE)
            await protocol.until_called("resume_writing")
            await iterations(3)
            assert (protocol.pauses, protocol.resumes) == (1, 1)
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
def test_closed_between_runs_with_its_queue_emptied_resumes_and_is_lost_in_the_next(loop, pair):
    """Each write between two runs is offered to the kernel, as nothing else would send it."""
    received = bytearray()

    async def connect():
        one, other = pair()
        small_buffers(one, other)
        other.setblocking(False)
        return *await loop.create_connection(Recorder, sock=one), other

    transport, protocol, other = run(loop, connect())
    transport.set_write_buffer_limits(high=0)
    transport.write(bytes(1 << 20))
    assert protocol.calls == ["connection_made", "pause_writing"]
    size = 1 << 20
    # Stock asyncio's waits for the run.
    for _ in range(1000):
        with contextlib.suppress(BlockingIOError):
            received += other.recv(1 << 20)
        if len(received) == size:
            break
        transport.write(b"x")
        size += 1
    transport.close()
    assert protocol.calls == ["connection_made", "pause_writing"]

    async def rest():
        return await Peer(other).recv_all()

    with other:
        received += run(loop, rest())
        run(loop, protocol.until_lost())
    assert received == bytes(1 << 20) + b"x" * (size - (1 << 20))
    assert protocol.calls[1:] == ["pause_writing", "resume_writing", "connection_lost"]
    assert protocol.lost is None


def test_resume_comes_at_the_low_limit_not_at_the_end(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            low = HUGE // 2
            transport.set_write_buffer_limits(high=HUGE // 2 + 1, low=low)
            sizes = []
            resumed = protocol.resume_writing

            def resume_writing():
                sizes.append(transport.get_write_buffer_size())
                resumed()

            protocol.resume_writing = resume_writing
            transport.write(bytes(HUGE))
            assert protocol.pauses == 1
            await peer.recv_exactly(HUGE)
            await protocol.until_called("resume_writing")
            assert len(sizes) == 1
            assert 0 < sizes[0] <= low

    run(loop, main())


def test_write_up_to_the_high_limit_does_not_pause(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, _):
            # Fill what the kernel takes, so that all the rest is buffered.
            transport.set_write_buffer_limits(high=2 * HUGE)
            transport.write(bytes(HUGE))
            await iterations(10)
            buffered = transport.get_write_buffer_size()
            assert buffered > 0
            transport.set_write_buffer_limits(high=buffered + 100)
            transport.write(bytes(100))
            assert transport.get_write_buffer_size() == buffered + 100
            assert protocol.pauses == 0
            transport.write(b"x")
            assert protocol.pauses == 1

    run(loop, main())


def test_limits_lowered_below_what_is_buffered_pause_at_once(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, _):
            transport.set_write_buffer_limits(high=2 * HUGE)
            transport.write(bytes(HUGE))
            await iterations(3)
            assert protocol.pauses == 0
            transport.set_write_buffer_limits(high=1000)
            assert protocol.pauses == 1

    run(loop, main())


def test_limits_of_zero_pause_for_any_byte_left_and_resume_when_empty(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            sizes = []
            resumed = protocol.resume_writing

            def resume_writing():
                sizes.append(transport.get_write_buffer_size())
                resumed()

            protocol.resume_writing = resume_writing
            transport.write(bytes(HUGE))
            assert protocol.pauses == 1
            await peer.recv_exactly(HUGE)
            await protocol.until_called("resume_writing")
            assert sizes == [0]

    run(loop, main())


def test_producer_obeying_flow_control_sends_everything_and_buffers_little(loop):
    async def main():
        high = 64 * 1024
        chunk = bytes(10_000)
        total = 400

        class Producer(Recorder):
            sent = 0
            highest = 0
            paused = False

            def produce(self):
                while not self.paused and self.sent < total:
                    self.sent += 1
                    self.transport.write(chunk)
                    self.highest = max(self.highest, self.transport.get_write_buffer_size())

            def pause_writing(self):
                assert not self.paused
                self.paused = True
                super().pause_writing()

            def resume_writing(self):
                assert self.paused
                self.paused = False
                super().resume_writing()
                self.produce()

        async with attached(Producer(), socket.socketpair, small=True) as (_, protocol, peer):
            protocol.produce()
            assert await peer.recv_exactly(total * len(chunk)) == chunk * total
            assert protocol.sent == total
            assert protocol.pauses > 1
            assert protocol.pauses - protocol.resumes in (0, 1)
            assert protocol.highest <= high + len(chunk)

    run(loop, main())


def test_write_inside_resume_writing_is_sent(loop):
    async def main():
        class Refilling(Recorder):
            def resume_writing(self):
                super().resume_writing()
                if self.resumes <= 3:
                    self.transport.write(bytes(HUGE))

        async with attached(Refilling(), small=True) as (transport, protocol, peer):
            transport.write(bytes(HUGE))
            await peer.recv_exactly(4 * HUGE)
            await protocol.until(lambda: protocol.resumes == 4)
            assert protocol.pauses == 4

    run(loop, main())


def test_close_inside_resume_writing_flushes_the_rest(loop):
    async def main():
        class Closing(Recorder):
            def resume_writing(self):
                super().resume_writing()
                self.transport.write(b"the end")
                self.transport.close()

        async with attached(Closing(), small=True) as (transport, protocol, peer):
            # Resumed with nothing left, stock asyncio may call connection_lost() twice.
            transport.set_write_buffer_limits(high=HUGE // 2 + 1, low=HUGE // 2)
            transport.write(bytes(HUGE))
            got = await peer.recv_all()
            assert len(got) == HUGE + 7
            assert got.endswith(b"the end")
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


def test_get_write_buffer_size_counts_bytes_of_every_piece(loop):
    async def main():
        async with attached(small=True) as (transport, _, peer):
            transport.write(bytes(HUGE))
            await iterations(10)
            before = transport.get_write_buffer_size()
            transport.write(b"abc")
            transport.write(bytearray(7))
            transport.write(memoryview(bytes(90)))
            assert transport.get_write_buffer_size() == before + 100
            await peer.recv_exactly(HUGE + 100)
            await iterations(5)
            assert transport.get_write_buffer_size() == 0

    run(loop, main())


def test_abort_while_paused_ends_without_resume(loop):
    async def main():
        async with attached(small=True) as (transport, protocol, _):
            transport.write(bytes(HUGE))
            transport.abort()
            await protocol.until_lost()
            assert protocol.calls == ["connection_made", "pause_writing", "connection_lost"]

    run(loop, main())
