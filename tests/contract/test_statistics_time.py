"""loop.statistics(): where the time of a loop went, and what its transports did."""

import asyncio
import ctypes
import json
import signal
import socket
import threading
import time

import pytest
from harness import Echo, Recorder, run, serving

BLOCK_SECONDS = 0.03
BLOCK_NS = int(BLOCK_SECONDS * 1e9)


@pytest.fixture
def ours(loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio times nothing")
    return loop


def block():
    time.sleep(BLOCK_SECONDS)


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


def test_turn_that_blocks_is_the_longest_and_its_time_is_busy(ours):
    async def main():
        await asyncio.sleep(0.001)
        before = ours.statistics()
        block()
        await turns(200)
        return ours.statistics(since=before)["time"]

    found = run(ours, main())
    assert found["turns"]["max_ns"] >= BLOCK_NS
    assert found["delay"]["max_ns"] == found["turns"]["max_ns"]
    assert found["busy_ns"] >= BLOCK_NS
    assert found["delay"]["mean_ns"] > 0


def test_sleep_is_idle_and_no_turn(ours):
    async def main():
        before = ours.statistics()
        await asyncio.sleep(BLOCK_SECONDS)
        return ours.statistics(since=before)["time"]

    found = run(ours, main())
    assert found["idle_ns"] > 0
    assert found["utilization"] < 1
    running = found["busy_ns"] + found["idle_ns"]
    assert running >= BLOCK_NS
    assert found["utilization"] == pytest.approx(found["busy_ns"] / running)


def test_sleep_that_goes_on_is_idle_for_another_thread(ours):
    seen = []

    async def main():
        woken = asyncio.Event()

        def look():
            before = ours.statistics()
            # Looks until the loop sleeps; ends, or the test hangs, because time goes on.
            while not (found := ours.statistics(since=before)["time"])["idle_ns"]:
                pass
            seen.append(found)
            ours.call_soon_threadsafe(woken.set)

        thread = threading.Thread(target=look)
        thread.start()
        await woken.wait()
        thread.join()

    run(ours, main())
    assert seen[0]["idle_ns"] > 0


def test_time_between_two_runs_is_neither_busy_nor_idle(ours):
    run(ours, turns(1))
    before = ours.statistics()
    block()
    assert ours.statistics() == before


def test_every_turn_is_in_the_histogram_and_its_sum_is_busy(ours):
    async def main():
        await turns(3000)
        await asyncio.sleep(0.001)
        block()
        await turns(3000)

    run(ours, main())
    found = ours.statistics()
    histogram = found["time"]["histogram"]
    # The last turn of a run, in which stop() was called, has no wait after it.
    assert found["turns"] <= sum(count for _, count, _ in histogram) <= found["turns"] + 1
    total = sum(ns for _, _, ns in histogram)
    # What a wait did for us is busy, and no turn; a group's mean is rounded down.
    assert total <= found["time"]["busy_ns"]
    assert found["time"]["turns"]["count"] >= 6000
    for least, count, ns in histogram:
        assert ns >= least * count
    assert json.loads(json.dumps(found)) == found


def test_percentiles_rise(ours):
    async def main():
        for _ in range(20):
            await asyncio.sleep(0)
            time.sleep(0.0001)

    run(ours, main())
    for kind in ("turns", "delay"):
        found = ours.statistics()["time"][kind]
        names = ["p50_ns", "p90_ns", "p99_ns", "p99.9_ns", "max_ns"]
        values = [found[name] for name in names]
        assert values == sorted(values)


def test_callback_that_blocks_again_after_a_long_turn_is_named(ours):
    async def main():
        ours.call_soon(block)
        await turns(300)
        ours.call_soon(block)
        await turns(300)

    run(ours, main())
    longest = ours.statistics()["longest"][0]
    assert longest["callback"] == f"{__name__}.block"
    assert longest["ns"] >= BLOCK_NS
    assert longest["count"] == 1


def test_callback_that_blocks_between_sleeps_is_named_the_second_time(ours):
    async def main():
        blocks = 0
        # Twice, where a second does not pass in between.
        while not ours.statistics()["longest"]:
            blocks += 1
            ours.call_soon(block)
            # Longer than the block: the loop sleeps between the two.
            await asyncio.sleep(3 * BLOCK_SECONDS)
        return blocks

    assert run(ours, main()) >= 2
    longest = ours.statistics()["longest"][0]
    assert (longest["callback"], longest["count"]) == (f"{__name__}.block", 1)


def test_first_long_callback_is_named_when_callbacks_are_timed(ours):
    async def slow_child():
        block()

    async def main():
        ours.time_callbacks()
        ours.call_soon(block)
        await turns(2)
        await asyncio.create_task(slow_child())
        ours.time_callbacks(False)

    run(ours, main())
    names = [entry["callback"] for entry in ours.statistics()["longest"]]
    assert f"{__name__}.block" in names
    assert any("slow_child" in name and __file__ in name for name in names)


def test_protocol_that_blocks_is_named(ours):
    class Blocks(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            block()
            self.transport.write(data)

    async def main():
        ours.time_callbacks()
        async with serving(Blocks) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"x")
            await reader.readexactly(1)
            writer.close()
            await writer.wait_closed()

    run(ours, main())
    assert any("Blocks" in entry["callback"] for entry in ours.statistics()["longest"])


def test_callback_that_cancels_itself_and_blocks_is_named(ours):
    def cancel_and_block():
        handle.cancel()
        block()

    ours.time_callbacks()
    handle = ours.call_soon(cancel_and_block)
    run(ours, turns(2))
    assert any("cancel_and_block" in entry["callback"] for entry in ours.statistics()["longest"])


def test_ctrl_c_during_a_long_callback_of_c_ends_the_run_though_callbacks_are_timed(ours):
    """Who notes the callback is the first Python to run after it, and so raises."""
    told = []
    ours.time_callbacks()
    ours._long_callback_ns = 0
    ours.call_soon(getattr(ctypes.PyDLL(None), "raise"), int(signal.SIGINT))
    ours.call_soon(told.append, "the next run's")
    with pytest.raises(KeyboardInterrupt):
        ours.run_forever()
    ours.call_soon(ours.stop)
    ours.run_forever()
    assert told == ["the next run's"]


def test_long_callback_that_cannot_be_noted_is_told_of_and_the_loop_goes_on(ours, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    ours.time_callbacks()
    ours._long_callback_ns = 0
    ours._note_long = lambda callback, ns: 1 / 0
    ours.call_soon(ours.stop)
    ours.run_forever()
    del ours._note_long
    assert told == [ZeroDivisionError]


def test_longest_callbacks_are_a_few_names_and_the_longest_of_them(ours):
    def make(number):
        def callback():
            time.sleep(0.001 + number * 0.0001)

        callback.__qualname__ = f"callback_{number}"
        return callback

    ours.time_callbacks()
    for number in range(40):
        ours.call_soon(make(number))
    run(ours, turns(2))
    longest = ours.statistics()["longest"]
    assert 0 < len(longest) <= 16
    values = [entry["ns"] for entry in longest]
    assert values == sorted(values, reverse=True)


def test_bytes_and_connections_are_counted_on_both_sides(ours):
    async def main():
        async with serving(Echo) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            for size in (1, 1000, 300_000):
                writer.write(bytes(size))
                await reader.readexactly(size)
            open_now = ours.statistics()["transports"]["transports"]
            writer.close()
            await writer.wait_closed()
        return open_now

    assert run(ours, main()) == 2
    found = ours.statistics()["transports"]
    # To the server and back: each byte leaves twice and comes twice.
    assert found["bytes_in"] == found["bytes_out"] == 2 * 301_001
    assert (found["connections_in"], found["connections_out"]) == (1, 1)
    assert found["transports"] == 0


def test_bytes_into_a_protocols_buffer_are_counted(ours):
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(1000)
            self.left = 50_000
            self.done = ours.create_future()

        def get_buffer(self, hint):
            return self.buffer

        def buffer_updated(self, count):
            self.left -= count
            if self.left == 0:
                self.done.set_result(None)

    async def main():
        one, other = socket.socketpair()
        with other:
            transport, protocol = await ours.create_connection(Buffered, sock=one)
            other.sendall(bytes(50_000))
            await protocol.done
            transport.close()

    run(ours, main())
    assert ours.statistics()["transports"]["bytes_in"] == 50_000


@pytest.mark.parametrize("size", [100, 300_000])
def test_bytes_of_tls_are_counted_as_they_are_on_the_wire(ours, certificates, size):
    async def main():
        async with serving(Echo, ssl=certificates.server()) as (server, address):
            reader, writer = await asyncio.open_connection(
                *address, ssl=certificates.client(), server_hostname="localhost"
            )
            for _ in range(3):
                writer.write(bytes(size))
                await reader.readexactly(size)
            # Before the end, of which nobody reads the last record.
            found = ours.statistics()["transports"]
            writer.close()
            await writer.wait_closed()
        return found

    found = run(ours, main())
    assert found["bytes_in"] == found["bytes_out"] > 2 * 3 * size


def test_datagrams_are_counted_by_their_bytes(ours):
    class Once(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = ours.create_future()

        def datagram_received(self, data, address):
            self.received.set_result(data)

    async def main():
        transport, protocol = await ours.create_datagram_endpoint(
            Once, local_addr=("127.0.0.1", 0)
        )
        transport.sendto(b"x" * 77, transport.get_extra_info("sockname"))
        await protocol.received
        transport.close()

    run(ours, main())
    found = ours.statistics()["transports"]
    assert (found["bytes_in"], found["bytes_out"]) == (77, 77)


def test_pauses_are_counted(ours):
    async def main():
        one, other = socket.socketpair()
        with other:
            transport, recorder = await ours.create_connection(Recorder, sock=one)
            transport.pause_reading()
            transport.pause_reading()
            transport.resume_reading()
            transport.set_write_buffer_limits(high=1000)
            # More than the kernel takes.
            transport.write(bytes(10_000_000))
            transport.abort()
            await turns(3)

    run(ours, main())
    found = ours.statistics()["transports"]
    assert (found["reading_pauses"], found["writing_pauses"]) == (1, 1)


def test_transport_that_could_not_be_opened_is_not_open(ours):
    class Bare:
        """No connection_made()."""

    async def main():
        one, other = socket.socketpair()
        with one, other, pytest.raises(AttributeError):
            await ours.create_connection(Bare, sock=one)

    run(ours, main())
    assert ours.statistics()["transports"]["transports"] == 0


def test_executors_calls_that_wait_for_a_thread_are_counted(ours):
    async def main():
        gate = threading.Event()
        calls = [ours.run_in_executor(None, gate.wait) for _ in range(100)]
        found = ours.statistics()["executor"]
        gate.set()
        await asyncio.gather(*calls)
        return found

    found = run(ours, main())
    assert found["threads"] > 0
    assert found["queued"] >= 100 - found["threads"]


def test_difference_counts_what_came_after_the_first_answer(ours):
    run(ours, turns(10))
    before = ours.statistics()
    run(ours, turns(20))
    found = ours.statistics(since=before)
    assert set(found) == set(before)
    assert 20 <= found["turns"] < before["turns"] + 20
    assert sum(found["batches"].values()) == found["turns"]
    assert sum(count for _, count, _ in found["time"]["histogram"]) < 30
