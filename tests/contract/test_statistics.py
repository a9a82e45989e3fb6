"""loop.statistics(): what is counted, by the same names on both drivers."""

import asyncio
import json
import socket
import threading

import pytest
from harness import Echo, Recorder, run, serving

import uring_loop

COUNTERS = {
    "turns",
    "waits",
    "enters",
    "submitted",
    "completed",
    "wakes",
    "rearmed",
    "buffers_exhausted",
    "cq_overflows",
    "rebuilt",
    "in_flight",
}
GROUPS = {"batches", "submissions", "time", "longest", "transports", "executor"}


@pytest.fixture
def ours(loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio counts nothing")
    return loop


def gained(after, before):
    """The counters of a group that have grown, and by how much."""
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value != before.get(name, 0)
    }


async def echo_rounds(loop, address, rounds):
    """Messages to and fro on one connection, one at a time."""
    reader, writer = await asyncio.open_connection(*address)
    for _ in range(rounds):
        writer.write(b"x" * 100)
        await reader.readexactly(100)
    writer.close()
    await writer.wait_closed()


def test_statistics_have_the_same_names_on_both_drivers_and_are_json(ours):
    found = ours.statistics()
    assert set(found) == COUNTERS | GROUPS
    assert all(type(found[name]) is int and found[name] >= 0 for name in COUNTERS)
    assert json.loads(json.dumps(found)) == found


def test_statistics_of_a_closed_loop_are_empty(make_loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio counts nothing")
    loop = make_loop()
    loop.close()
    assert loop.statistics() == {}


def test_statistics_are_documented_each_by_its_name():
    for name in COUNTERS | GROUPS:
        assert name in uring_loop.EventLoop.statistics.__doc__


def test_messages_are_counted_as_sends_and_their_connection_by_its_calls(ours):
    async def main():
        before = ours.statistics()
        async with serving(Echo) as (server, address):
            await echo_rounds(ours, address, 20)
        return before, ours.statistics()

    before, after = run(ours, main())
    calls = gained(after["submissions"], before["submissions"])
    assert calls["connect"] == 1
    assert calls["accept"] >= 1
    # A send that found no room is counted again.
    assert calls["send"] + calls.get("sendmsg", 0) >= 40
    assert calls["recv"] >= 2
    # Twenty there, twenty back, the connection on both sides.
    assert after["completed"] - before["completed"] >= 42
    assert after["submitted"] - before["submitted"] >= 44


def test_calls_that_were_never_made_are_not_listed(ours):
    run(ours, asyncio.sleep(0))
    assert "connect" not in ours.statistics()["submissions"]


def test_file_calls_are_counted_by_their_opcodes(ours, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "file", "wb") as file:
            await file.write(b"x" * 100_000)

    before = ours.statistics()["submissions"]
    run(ours, main())
    calls = gained(ours.statistics()["submissions"], before)
    assert calls.get("openat", 0) + calls.get("openat2", 0) == 1
    assert calls["close"] == 1


def test_batches_are_those_of_all_turns_and_of_no_more_than_was_completed(ours):
    async def main():
        async with serving(Echo) as (server, address):
            await asyncio.gather(*(echo_rounds(ours, address, 5) for _ in range(40)))

    run(ours, main())
    found = ours.statistics()
    batches = found["batches"]
    # The last turn's batch is not known before the next one begins.
    assert sum(batches.values()) == found["turns"]
    least = sum(int(size.split("-")[0].rstrip("+")) * turns for size, turns in batches.items())
    assert 0 < least <= found["completed"]
    assert any(int(size.split("-")[0].rstrip("+")) > 1 for size in batches)


def test_wait_is_counted_before_it_and_its_end_by_a_thread_as_a_wake(ours):
    async def main():
        before = ours.statistics()
        # A driver that doubts a descriptor sleeps in pieces: a slow thread may call between two.
        while ours.statistics()["wakes"] == before["wakes"]:
            woken = asyncio.Event()
            waits = ours.statistics()["waits"]

            def wake_sleeper(woken=woken, waits=waits):
                # Counted when the loop is about to sleep, and from then on a call has to wake it.
                while ours.statistics()["waits"] == waits:
                    pass
                ours.call_soon_threadsafe(woken.set)

            thread = threading.Thread(target=wake_sleeper)
            thread.start()
            await woken.wait()
            thread.join()
        return before, ours.statistics()

    before, after = run(ours, main())
    assert after["wakes"] == before["wakes"] + 1


def test_turn_that_need_not_sleep_is_no_wait(ours):
    async def main():
        before = ours.statistics()
        for _ in range(50):
            await asyncio.sleep(0)
        return before, ours.statistics()

    before, after = run(ours, main())
    assert after["turns"] - before["turns"] >= 50
    assert after["waits"] == before["waits"]


def test_receives_without_a_free_buffer_are_counted(make_loop, loop_kind, monkeypatch):
    if loop_kind != "uring":
        pytest.skip("only the ring's buffers are limited in number")
    monkeypatch.setenv("URING_LOOP_SIZES", "buffer_count=2,buffer_size=16")
    loop = make_loop()

    async def main():
        pairs = [socket.socketpair() for _ in range(8)]
        recorders = []
        for one, _ in pairs:
            _, recorder = await loop.create_connection(Recorder, sock=one)
            recorders.append(recorder)
        for _, other in pairs:
            other.send(bytes(64))
        for recorder in recorders:
            await recorder.until(lambda recorder=recorder: len(recorder.data) == 64)
        for recorder, (_, other) in zip(recorders, pairs, strict=True):
            recorder.transport.close()
            other.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(loop, main())
    assert loop.statistics()["buffers_exhausted"] > 0
    loop.close()
