"""Hypothesis looks for sizes, pauses and orders that lose, double or reorder bytes."""

import asyncio
import os
import socket

from harness import BufferedRecorder, Recorder, attached, iterations, run, tcp_pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

quick = settings(
    max_examples=40,
    # The loop is shared by all examples on purpose: what one leaves, the next meets.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

sizes = st.one_of(st.integers(0, 100), st.integers(0, 70_000), st.integers(0, 600_000))
pairs = st.sampled_from([tcp_pair, socket.socketpair])

# What the sender does next.
write = st.tuples(st.just("write"), sizes)
writelines = st.tuples(st.just("writelines"), st.lists(st.integers(0, 30_000), max_size=5))
let_run = st.tuples(st.just("let run"), st.integers(0, 3))
sending = st.lists(st.one_of(write, writelines, let_run), max_size=20)

POOL = os.urandom(1 << 20)


def piece(position, size):
    start = position % (len(POOL) // 4)
    return POOL[start : start + size]


@quick
@given(steps=sending, pair=pairs, ending=st.sampled_from(["close", "write_eof"]))
def test_written_in_any_pieces_arrives_whole_before_the_end(loop, steps, pair, ending):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            expected = bytearray()
            receiving = loop.create_task(peer.recv_all())
            for action, argument in steps:
                if action == "write":
                    data = piece(len(expected), argument)
                    transport.write(data)
                    expected += data
                elif action == "writelines":
                    datas = [piece(len(expected) + size, size) for size in argument]
                    transport.writelines(datas)
                    expected += b"".join(datas)
                else:
                    await iterations(argument)
            getattr(transport, ending)()
            assert await receiving == expected
            if ending == "close":
                await protocol.until_lost()
                assert protocol.lost is None

    run(loop, main())


# A buffer that is smaller than what is sent costs a turn for each time that it is filled.
FILLED_MAX = 1000

reading = st.lists(
    st.one_of(
        st.tuples(st.just("send"), sizes),
        st.tuples(st.just("pause"), st.integers(0, 3)),
        st.tuples(st.just("resume"), st.integers(0, 3)),
        st.tuples(st.just("swap"), st.integers(1, 5000)),
        st.tuples(st.just("let run"), st.integers(0, 3)),
    ),
    max_size=25,
)


@quick
@given(steps=reading, pair=pairs, buffer=st.one_of(st.none(), st.integers(1, 5000)))
def test_received_with_any_pauses_and_protocols_is_whole(loop, steps, pair, buffer):
    """Pauses, resumes and changes of protocol between sends of any size."""
    buffers = [argument for action, argument in steps if action == "swap" and argument % 2 == 0]
    size_max = FILLED_MAX * min(size for size in (buffer, *buffers, 5000) if size is not None)

    async def main():
        protocol = Recorder() if buffer is None else BufferedRecorder(buffer)
        protocols = [protocol]
        async with attached(protocol, pair) as (transport, _, peer):
            expected = bytearray()
            tasks = []

            async def send(previous, data):
                if previous is not None:
                    await previous
                await peer.send_all(data)

            for action, argument in steps:
                if action == "send":
                    data = piece(len(expected), min(argument, size_max))
                    expected += data
                    tasks.append(loop.create_task(send(tasks[-1] if tasks else None, data)))
                elif action == "pause":
                    transport.pause_reading()
                    size = sum(len(each.data) for each in protocols)
                    await iterations(argument)
                    assert sum(len(each.data) for each in protocols) == size
                elif action == "resume":
                    transport.resume_reading()
                    await iterations(argument)
                elif action == "swap":
                    swapped = Recorder() if argument % 2 else BufferedRecorder(argument)
                    protocols.append(swapped)
                    transport.set_protocol(swapped)
                else:
                    await iterations(argument)
            transport.resume_reading()
            await asyncio.gather(*tasks)
            peer.sock.shutdown(socket.SHUT_WR)
            await protocols[-1].until_lost()
            assert b"".join(bytes(each.data) for each in protocols) == expected
            for each in protocols[:-1]:
                assert "eof_received" not in each.calls
            assert protocols[-1].calls[-2:] == ["eof_received", "connection_lost"]

    run(loop, main())


@quick
@given(
    first=st.integers(0, 300_000),
    second=st.integers(0, 300_000),
    pair=pairs,
    paused=st.booleans(),
    turns=st.integers(0, 4),
)
def test_half_closed_in_either_order_each_way_arrives_whole(
    loop, first, second, pair, paused, turns
):
    async def main():
        async with attached(Recorder(keep_open=True), pair) as (transport, protocol, peer):
            if paused:
                transport.pause_reading()
            sending = loop.create_task(peer.send_all(piece(0, first)))
            receiving = loop.create_task(peer.recv_all())
            transport.write(piece(7, second))
            await iterations(turns)
            transport.write_eof()
            transport.resume_reading()
            assert await receiving == piece(7, second)
            await sending
            peer.sock.shutdown(socket.SHUT_WR)
            await protocol.until_called("eof_received")
            assert protocol.data == piece(0, first)
            transport.close()
            await protocol.until_lost()
            assert protocol.lost is None

    run(loop, main())


timers = st.lists(
    st.tuples(st.integers(-50, 50), st.booleans(), st.integers(0, 30)), min_size=1, max_size=40
)


@quick
@given(plan=timers)
def test_timers_cancelled_in_any_pattern_the_rest_run_in_order(loop, plan):
    """Each (deadline, cancelled, when cancelled): equal deadlines have no defined order."""

    async def main():
        seen = []
        base = loop.time() - 1000
        handles = [loop.call_at(base + due, seen.append, due) for due, _, _ in plan]
        for (_, cancelled, _), handle in sorted(
            zip(plan, handles, strict=True), key=lambda entry: entry[0][2]
        ):
            if cancelled:
                handle.cancel()
        await iterations(3)
        assert seen == sorted(due for due, cancelled, _ in plan if not cancelled)

    run(loop, main())
