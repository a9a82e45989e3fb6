"""A file's way to a socket through a pipe: nothing lost, nothing doubled, no pipe used twice."""

import asyncio
import contextlib
import ctypes
import errno
import mmap
import os
import random
import select
import socket

import pytest
from file_sending import fifty_at_once, sent_by_socket, sockets
from harness import Recorder, attached, iterations, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uring_loop._internal import operations, splice

SIZE = (2 << 20) + 4097
CONTENT = random.Random(2).randbytes(SIZE)


@pytest.fixture
def ours(loop, loop_kind):
    """Our loop, on the ring, that takes every file for one that is not in memory."""
    if loop_kind != "uring":
        pytest.skip("files go through pipes on the ring only: the selector has no splice")
    loop._sender.close()
    loop._sender = cold_sender(loop)
    return loop


def cold_sender(loop, answers=None):
    """answers: what to say of each window that is asked about; by default that it is cold."""
    sender = splice.SplicingSender(loop)
    sender._in_memory = lambda *window: False if answers is None else next(answers)
    return sender


@pytest.fixture
def file(tmp_path):
    (tmp_path / "content").write_bytes(CONTENT)
    with open(tmp_path / "content", "rb") as opened:
        yield opened


@pytest.fixture
def taken(monkeypatch):
    """The pipes that were made, in order."""
    made = []

    class Noted(splice._Pipe):
        def __init__(self):
            super().__init__()
            made.append(self)

    monkeypatch.setattr(splice, "_Pipe", Noted)
    return made


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    offset=st.one_of(st.sampled_from([0, 1, 4095, 4096]), st.integers(0, len(CONTENT))),
    count=st.one_of(st.none(), st.integers(1, len(CONTENT))),
    small=st.booleans(),
    pipe_bytes=st.sampled_from([4096, 65536, 1 << 20]),
    seed=st.none() | st.integers(0, 100),
)
def test_any_part_by_any_mix_of_ways_arrives_exactly(
    ours, file, offset, count, small, pipe_bytes, seed
):
    rng = random.Random(seed)
    answers = iter(lambda: seed is not None and rng.random() < 0.5, None)
    previous, splice.PIPE_BYTES = splice.PIPE_BYTES, pipe_bytes
    ours._sender.close()
    ours._sender = cold_sender(ours, answers)
    try:
        result, received = run(ours, sent_by_socket(file, offset, count, small=small))
    finally:
        splice.PIPE_BYTES = previous
    expected = CONTENT[offset:] if count is None else CONTENT[offset : offset + count]
    assert received == expected
    assert result == len(expected)
    if result:
        assert file.tell() == offset + result


def test_pipe_that_was_emptied_is_used_again(ours, file, taken):
    for _ in range(3):
        assert run(ours, sent_by_socket(file, 0, 10_000))[1] == CONTENT[:10_000]
    assert len(taken) == 1
    assert ours._sender._pipes._idle == taken


def test_pipe_whose_socket_was_full_is_never_used_again(ours, file, taken):
    assert run(ours, sent_by_socket(file, small=True))[1] == CONTENT
    assert len(taken) > 2
    for pipe in ours._sender._pipes._idle:
        assert select.select([pipe.reading], [], [], 0)[0] == []


def test_no_pipe_is_held_while_a_socket_is_full(ours, file, taken, monkeypatch):
    monkeypatch.setattr(splice, "PIPES", 1)
    ours._sender.close()
    ours._sender = cold_sender(ours)

    async def main():
        async with attached(small=True) as (transport, _, peer):
            slow = asyncio.ensure_future(ours.sendfile(transport, file))
            await peer.readable()
            with open(file.name, "rb") as other:
                assert (await sent_by_socket(other))[1] == CONTENT
            assert not slow.done()
            received = asyncio.ensure_future(peer.recv_exactly(len(CONTENT)))
            assert await slow == len(CONTENT)
            assert await received == CONTENT

    run(ours, main())


@pytest.mark.parametrize("pipes", [1, 2, 8])
def test_fifty_share_few_pipes_and_get_their_own_bytes(ours, tmp_path, taken, monkeypatch, pipes):
    monkeypatch.setattr(splice, "PIPES", pipes)
    ours._sender.close()
    ours._sender = cold_sender(ours)
    run(ours, fifty_at_once(tmp_path, sent_by_socket))
    assert len(ours._sender._pipes._idle) <= pipes


@pytest.mark.parametrize("small", [False, True], ids=["ample", "small"])
@pytest.mark.parametrize("turns", range(8))
def test_cancelled_in_any_turn_position_says_what_was_sent(ours, file, turns, small):
    async def main():
        async with attached(small=small) as (transport, _, peer):
            task = asyncio.ensure_future(ours.sendfile(transport, file))
            await iterations(turns)
            if task.done():
                position = await task
            else:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                position = file.tell()
            transport.write(b"after")
            transport.close()
            assert await peer.recv_all() == CONTENT[:position] + b"after"

    run(ours, main())


def test_cancelled_while_it_waits_for_a_pipe_leaves_the_turn_to_the_next(ours, file, monkeypatch):
    monkeypatch.setattr(splice, "PIPES", 1)
    ours._sender.close()
    ours._sender = cold_sender(ours)

    async def main():
        async with ours._sender._turns:
            with sockets() as (sock, _):
                waiting = asyncio.ensure_future(ours.sock_sendfile(sock, file))
                await iterations(3)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert file.tell() == 0
        assert (await sent_by_socket(file))[1] == CONTENT

    run(ours, main())


@pytest.mark.parametrize("turns", range(6))
def test_peer_that_resets_in_any_turn_is_an_error_or_late(ours, tmp_path, turns):
    async def main():
        with open(tmp_path / "huge", "w+b") as huge:
            huge.truncate(64 << 20)
            async with attached() as (transport, protocol, peer):
                task = asyncio.ensure_future(ours.sendfile(transport, huge))
                await iterations(turns)
                peer.reset()
                with pytest.raises(ConnectionError):
                    await task
                await protocol.until_lost()
                assert huge.tell() < 64 << 20

    run(ours, main())


def test_transport_aborted_while_the_disk_is_read_ends_sendfile(ours, file, monkeypatch):
    async def main():
        reached, go_on = asyncio.Event(), asyncio.Event()
        run_to_end = operations.run_to_end

        async def slow(*arguments):
            reached.set()
            await go_on.wait()
            return await run_to_end(*arguments)

        monkeypatch.setattr(operations, "run_to_end", slow)
        async with attached() as (transport, protocol, peer):
            task = asyncio.ensure_future(ours.sendfile(transport, file))
            await reached.wait()
            transport.abort()
            await protocol.until_lost()
            go_on.set()
            with pytest.raises(ConnectionError):
                await task
            assert file.tell() == 0
            assert await peer.recv_all() == b""

    run(ours, main())


def test_no_descriptors_left_for_a_pipe_sends_all_the_same(ours, file, monkeypatch):
    def refuse(flags):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", refuse)
    assert run(ours, sent_by_socket(file))[1] == CONTENT


def test_pipes_of_a_process_are_not_its_forked_childs(monkeypatch):
    """Parent and child have the same pipes then; neither gets to read the other's bytes."""
    pipes = splice._Pipes()
    idle, lent = pipes.take(), pipes.take()
    pipes.give_back(idle)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    pipes.give_back(lent)
    fresh = pipes.take()
    assert fresh is not idle
    for pipe in (idle, lent):
        # Those of `fresh` may have the numbers of these.
        for number in {pipe.reading, pipe.writing} - {fresh.reading, fresh.writing}:
            with pytest.raises(OSError):
                os.fstat(number)
    pipes.give_back(fresh)
    assert pipes.take() is fresh
    fresh.close()


def test_pipes_that_may_not_grow_send_all_the_same(ours, file, monkeypatch):
    monkeypatch.setattr(splice.fcntl, "F_SETPIPE_SZ", -1)
    assert run(ours, sent_by_socket(file, small=True))[1] == CONTENT


def test_splice_that_fails_leaves_it_to_sendfile(ours, file, taken, monkeypatch):
    async def fail(*arguments):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(operations, "run_to_end", fail)
    assert run(ours, sent_by_socket(file))[1] == CONTENT
    assert ours._sender._pipes._idle == []


def test_file_that_shrinks_before_it_is_read_ends_early(ours, tmp_path):
    async def main():
        with open(tmp_path / "shrinking", "w+b") as shrinking:
            shrinking.write(CONTENT)
            shrinking.flush()
            async with attached(small=True) as (transport, _, peer):
                task = asyncio.ensure_future(ours.sendfile(transport, shrinking))
                await peer.readable()
                shrinking.truncate(1_500_000)
                received = asyncio.ensure_future(peer.recv_all())
                assert await task == 1_500_000
                transport.close()
                assert await received == CONTENT[:1_500_000]

    run(ours, main())


def test_closing_the_loop_closes_its_pipes(ours, file, taken):
    run(ours, sent_by_socket(file, 0, 1000))
    descriptor = taken[0].reading
    ours.run_until_complete(ours.shutdown_default_executor())
    ours.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_loop_closed_under_a_sendfile_leaves_no_descriptor(make_loop, loop_kind, file, taken):
    if loop_kind != "uring":
        pytest.skip("files go through pipes on the ring only: the selector has no splice")
    loop = make_loop()
    loop._sender = cold_sender(loop)
    with sockets(small=True) as (sock, _):

        async def main():
            task = asyncio.ensure_future(loop.sock_sendfile(sock, file))
            # The loop does not wait for it, nor tell that it was dropped.
            task._log_destroy_pending = False
            await iterations(2)

        loop.run_until_complete(main())
        loop.close()


def test_cancelled_operation_is_waited_for_to_its_end(ours):
    """The descriptors of a splice may be closed as soon as its waiter is told anything."""
    source, sink = socket.socketpair(), os.pipe()

    async def main():
        for sock in source:
            sock.setblocking(False)
        splicing = asyncio.ensure_future(
            operations.splice(
                ours, source[0].fileno(), -1, sink[1], 4096, os.SPLICE_F_NONBLOCK
            )
        )
        await iterations(3)
        before = ours.statistics()["in_flight"]
        splicing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await splicing
        assert ours.statistics()["in_flight"] < before
        # What comes now is for whoever reads next.
        source[1].send(b"later")
        assert await ours.sock_recv(source[0], 10) == b"later"

    with source[0], source[1]:
        run(ours, main())
    for descriptor in sink:
        os.close(descriptor)


# What is in memory.


# A flag of mmap(2): the pages are read when they are mapped, and stay until they are unmapped.
MAP_LOCKED = 0x2000


@pytest.fixture(params=[0, 1], ids=["quickly", "thoroughly"])
def in_memory(request, loop, loop_kind):
    if loop_kind != "uring":
        pytest.skip("the driver's function is the same for all loops: asked once")

    # Only one way for each file: without cachestat(2), asking makes the kernel read.
    def ask(file, offset=0, size=SIZE):
        return operations.in_memory(loop, file.fileno(), offset, size, request.param)

    return ask


@contextlib.contextmanager
def kept(file, offset=0, size=0):
    """This piece of the file is in memory, by default all of it from `offset` on.

    Having been read does not suffice: the kernel drops what it likes when it likes, and on some
    systems (DAMON's proactive reclaim) pages that were read a second ago, with much memory free.
    """
    try:
        mapped = mmap.mmap(
            file.fileno(), size, mmap.MAP_SHARED | MAP_LOCKED, mmap.PROT_READ, offset=offset
        )
    except (BlockingIOError, PermissionError):
        pytest.skip("this process may not lock 2 MiB in memory (ulimit -l)")
    with mapped:
        yield


def drop(file, offset=0, size=0):
    os.fsync(file.fileno())
    os.posix_fadvise(file.fileno(), offset, size, os.POSIX_FADV_DONTNEED)


def on_disk(file, in_memory):
    """Drop the file from memory, or skip where that cannot be."""
    # The kernel leaves a page that somebody else holds just then (its writer, another reader).
    for _ in range(10):
        drop(file)
        # The tests look elsewhere: the question itself may bring in what it asks about.
        if not in_memory(file, SIZE // 2, 1):
            return
    pytest.skip("this file system keeps its files in memory only (tmpfs), or cannot drop them")


def needs_telling(file):
    """Skip where the kernel cannot tell what of the file is in memory; we then go by a pipe."""
    try:
        os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        pass
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        cachestat = 451
        everything = (ctypes.c_uint64 * 2)(0, 0)
        counts = (ctypes.c_uint64 * 5)()
        ctypes.CDLL(None).syscall(cachestat, file.fileno(), everything, counts, 0)
        # An overlay's pages are another file's, and are not counted.
        if counts[0] == 0:
            pytest.skip("RWF_NOWAIT is not for this file, and no cachestat counts its pages")


def test_file_that_is_kept_in_memory_is_in_memory(in_memory, file):
    needs_telling(file)
    with kept(file):
        assert in_memory(file)
        assert in_memory(file, 4095, 2)
        assert in_memory(file, len(CONTENT) - 1, 1)


def test_what_nobody_waits_for_counts_as_in_memory(in_memory, file):
    assert in_memory(file, len(CONTENT), 4096)
    assert in_memory(file, 0, 0)
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb"):
        assert in_memory(pipe)


def test_file_that_was_dropped_is_not_in_memory(in_memory, file):
    on_disk(file, in_memory)
    assert not in_memory(file, 0, 1)
    assert not in_memory(file, len(CONTENT) - 1, 100)


def test_hole_in_what_is_in_memory_is_found(in_memory, file):
    needs_telling(file)
    on_disk(file, in_memory)
    before, behind = 1 << 20, (1 << 20) + (1 << 16)
    with kept(file, 0, before), kept(file, behind):
        drop(file, before, behind - before)
        assert not in_memory(file)
        assert in_memory(file, 0, before)
        assert in_memory(file, behind)


def test_cold_file_goes_through_a_pipe_and_a_warm_one_does_not(loop, in_memory, file, taken):
    needs_telling(file)
    on_disk(file, in_memory)
    result, received = run(loop, sent_by_socket(file))
    assert (result, received) == (len(CONTENT), CONTENT)
    assert taken
    taken.clear()
    loop._sender.close()
    with kept(file):
        assert run(loop, sent_by_socket(file, small=True))[1] == CONTENT
    assert not taken


def test_echo_beside_a_cold_file_is_answered(loop, in_memory, file):
    on_disk(file, in_memory)

    async def main():
        async with attached(Recorder()) as (transport, protocol, peer):
            sending = asyncio.ensure_future(sent_by_socket(file))
            for number in range(1, 20):
                await peer.send_all(b"x")
                await protocol.until_size(number)
            assert (await sending)[1] == CONTENT
            transport.close()

    run(loop, main())
