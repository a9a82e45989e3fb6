"""FIFOs as asynchronous files, and what any file has done when its caller was cancelled."""

import asyncio
import errno
import os
import threading

import pytest
from harness import file_closings_end, iterations, run

import uring_loop
from uring_loop._internal.files import calls, descriptor

SOON_S = 10


async def closings_end():
    """Wait for what goes on when close() was cancelled."""
    await file_closings_end()
    await iterations(2)


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@pytest.fixture
def fifo(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


async def cancelled(awaitable, when=None):
    """Start it, let it begin to wait, cancel it."""
    task = asyncio.ensure_future(awaitable)
    if when is None:
        await iterations(3)
    else:
        await when
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_both_ends_of_a_fifo_open_when_the_other_does(loop, fifo):
    async def main():
        reader = asyncio.ensure_future(uring_loop.open(fifo, "rb").__aenter__())
        await iterations(5)
        assert not reader.done()
        async with uring_loop.open(fifo, "wb") as writer:
            reader = await reader
            assert not reader.seekable()
            await writer.write(b"one\ntwo\n")
            await writer.flush()
            assert await reader.readline() == b"one\n"
        assert await reader.read() == b"two\n"
        await reader.close()

    run(loop, main())


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_cancelled_open_of_a_fifo_leaves_nothing(loop, fifo, mode):
    async def main():
        await cancelled(uring_loop.open(fifo, mode).__aenter__())
        # The thread that waited is let go.
        while fifo_threads():
            await asyncio.sleep(0.001)
        await iterations(2)

    run(loop, main())


def fifo_threads():
    """Of each open of a FIFO: who waits for the other end, and who lets that one go."""
    return [thread for thread in threading.enumerate() if "fifo" in thread.name]


@pytest.mark.parametrize("late", [False, True], ids=["before it is told", "when it is told"])
def test_open_of_a_fifo_that_is_cancelled_when_it_has_opened_leaves_nothing(loop, fifo, late):
    """The thread has the descriptor, and tells the loop of it in its next turn."""

    async def main():
        opening = asyncio.ensure_future(uring_loop.open(fifo, "rb").__aenter__())
        await iterations(3)
        (thread,) = fifo_threads()
        keeper = os.open(fifo, os.O_RDWR)
        thread.join()
        if late:
            loop.call_soon(opening.cancel)
        else:
            opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        os.close(keeper)

    run(loop, main())


def test_fifo_that_opens_when_its_loop_is_closed_is_closed_again(make_loop, fifo):
    loop = make_loop()

    async def begin():
        opening = asyncio.ensure_future(uring_loop.open(fifo, "rb").__aenter__())
        await iterations(3)
        return opening

    opening = loop.run_until_complete(begin())
    (thread,) = fifo_threads()
    opening._log_destroy_pending = False
    loop.close()
    keeper = os.open(fifo, os.O_RDWR)
    thread.join()
    os.close(keeper)


def test_cancelled_open_of_a_fifo_lets_its_thread_go_though_the_loop_is_closed(
    make_loop, fifo, monkeypatch
):
    """As asyncio.run() ends, when the thread has not even begun to open it."""
    loop = make_loop()
    gate = threading.Event()
    opened_plainly = descriptor._open_plain

    def late(path, *arguments):
        if threading.current_thread().name == "uring_loop-fifo":
            gate.wait()
        return opened_plainly(path, *arguments)

    monkeypatch.setattr(descriptor, "_open_plain", late)

    async def main():
        await cancelled(uring_loop.open(fifo, "rb").__aenter__())

    loop.run_until_complete(main())
    loop.close()
    gate.set()
    for thread in fifo_threads():
        thread.join(SOON_S)
        assert not thread.is_alive()


@pytest.mark.parametrize("told", [False, True], ids=["cancelled", "waited for"])
def test_fifo_that_is_gone_when_it_is_opened_is_an_error_with_its_name(
    loop, fifo, monkeypatch, told
):
    looked = descriptor.file_open_now

    def look_and_remove(*arguments):
        found = looked(*arguments)
        os.unlink(fifo)
        return found

    monkeypatch.setattr(descriptor, "file_open_now", look_and_remove)

    async def main():
        opening = asyncio.ensure_future(uring_loop.open(fifo, "rb").__aenter__())
        if told:
            with pytest.raises(FileNotFoundError) as caught:
                await opening
            assert caught.value.filename == str(fifo)
        else:
            await iterations(1)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            while fifo_threads():
                await asyncio.sleep(0.001)
            await iterations(2)

    run(loop, main())


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_stream_that_somebody_else_was_faster_at_is_waited_for_again(loop, monkeypatch, mode):
    """What was ready is not any more when the call is made; a descriptor may have become one
    that does not wait, for all who share it."""
    function = "read" if mode == "rb" else "write"
    real = getattr(os, function)
    refused = []

    def refuse_once(*arguments):
        if not refused:
            refused.append(arguments)
            raise BlockingIOError
        return real(*arguments)

    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)
    monkeypatch.setattr(descriptor, "_read_now", lambda *_: (b"", errno.EOPNOTSUPP))
    monkeypatch.setattr(descriptor, "file_write_now", lambda *_: (-1, errno.EOPNOTSUPP))

    async def main():
        ends = os.pipe()
        theirs, ours = ends if mode == "wb" else ends[::-1]
        async with uring_loop.open(ours, mode, buffering=0) as file:
            if mode == "rb":
                os.write(theirs, b"bytes")
            with monkeypatch.context() as contested:
                contested.setattr(os, function, refuse_once)
                if mode == "rb":
                    assert await file.read(10) == b"bytes"
                else:
                    assert await file.write(b"bytes") == 5
            if mode == "wb":
                assert os.read(theirs, 10) == b"bytes"
        os.close(theirs)

    run(loop, main())
    assert refused


def test_number_of_a_stream_given_away_keeps_what_was_read_ahead(loop, fifo):
    """Its bytes come once; there is no place to go back to."""

    async def main():
        keeper = os.open(fifo, os.O_RDWR)
        async with uring_loop.open(fifo, "rb") as reader:
            os.write(keeper, b"one\ntwo\n")
            assert await reader.readline() == b"one\n"
            assert not os.isatty(reader.fileno())
            assert await reader.readline() == b"two\n"
        os.close(keeper)

    run(loop, main())


def test_cancelled_read_of_a_stream_loses_no_byte(loop, fifo):
    async def main():
        keeper = os.open(fifo, os.O_RDWR)
        async with uring_loop.open(fifo, "rb") as reader:
            await cancelled(reader.read(3))
            task = asyncio.ensure_future(reader.read(3))
            await iterations(3)
            os.write(keeper, b"ab")
            await iterations(10)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            os.write(keeper, b"cd")
            assert await reader.read(4) == b"abcd"
        os.close(keeper)

    run(loop, main())


def test_read_and_cancel_in_the_same_turn_lose_no_byte(loop, fifo):
    async def main():
        keeper = os.open(fifo, os.O_RDWR)
        async with uring_loop.open(fifo, "rb") as reader:
            got = b""
            for number in range(50):
                task = asyncio.ensure_future(reader.read(1))
                await iterations(number % 4)
                os.write(keeper, b"%d" % (number % 10))
                await iterations(number % 3)
                task.cancel()
                try:
                    got += await task
                except asyncio.CancelledError:
                    pass
            got += await reader.read(50 - len(got))
        os.close(keeper)
        return got

    assert run(loop, main()) == b"0123456789" * 5


def test_text_comes_through_a_fifo_line_by_line(loop, fifo):
    async def main():
        keeper = os.open(fifo, os.O_RDWR)
        async with uring_loop.open(fifo, encoding="utf-8") as reader:
            os.write(keeper, "é\nx".encode())
            assert await reader.readline() == "é\n"
            await cancelled(reader.readline())
            os.write(keeper, b"y\n")
            assert await reader.readline() == "xy\n"
            with pytest.raises(OSError):
                await reader.tell()
        os.close(keeper)

    run(loop, main())


def test_cancelled_close_of_a_full_pipe_closes_it(loop):
    async def main():
        theirs, ours = os.pipe()
        os.set_blocking(ours, False)
        file = await uring_loop.open(ours, "wb")
        await file.write(b"x" * 200_000)
        await cancelled(file.close(), when=iterations(10))
        await closings_end()
        with pytest.raises(OSError):
            os.fstat(ours)
        os.close(theirs)

    run(loop, main())


def test_a_pipe_takes_all_that_is_written_in_order(loop):
    data = bytes(range(256)) * 4000

    async def main():
        theirs, ours = os.pipe()
        async with uring_loop.open(theirs, "rb") as reader:

            async def write():
                async with uring_loop.open(ours, "wb") as writer:
                    await writer.write(data[:10])
                    await writer.write(data[10:])

            _, got = await asyncio.gather(write(), reader.read())
        return got

    assert run(loop, main()) == data


@pytest.fixture
def slow(monkeypatch):
    """Nothing is answered from memory: each read and write is a call that waits."""
    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)
    monkeypatch.setattr(descriptor.Descriptor, "read_into_now", lambda *_: None)
    monkeypatch.setattr(descriptor.Descriptor, "close_now", lambda self: self.number < 0)
    monkeypatch.setattr(descriptor, "file_open_now", None)


def test_cancelled_read_leaves_the_position(loop, tmp_path, slow):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 100)

    async def main():
        async with uring_loop.open(path, "rb") as file:
            await file.seek(100)
            for turns in range(4):
                task = asyncio.ensure_future(file.read(20_000))
                await iterations(turns)
                task.cancel()
                try:
                    assert len(await task) == 20_000
                    await file.seek(100)
                except asyncio.CancelledError:
                    assert await file.tell() == 100
                buffer = bytearray(20_000)
                task = asyncio.ensure_future(file.readinto(buffer))
                await iterations(turns)
                task.cancel()
                try:
                    await task
                    await file.seek(100)
                except asyncio.CancelledError:
                    assert await file.tell() == 100
                    assert buffer == bytes(20_000)
            assert await file.read(3) == bytes((100, 101, 102))

    run(loop, main())


def test_cancelled_write_is_all_there_or_not_at_all(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        expected = b""
        async with uring_loop.open(path, "wb") as file:
            for number in range(40):
                data = b"%c" % (65 + number % 26) * 300_000
                task = asyncio.ensure_future(file.write(data))
                await iterations(number % 5)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass
                if await file.tell() == len(expected) + len(data):
                    expected += data
                else:
                    assert await file.tell() == len(expected)
        return expected

    expected = run(loop, main())
    assert expected
    assert path.read_bytes() == expected


def test_cancelled_append_writes_nothing_twice(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        async with uring_loop.open(path, "ab") as file:
            for number in range(26):
                await file.write(b"%c" % (65 + number) * 1000)
                task = asyncio.ensure_future(file.flush())
                await iterations(number % 4)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    pass

    run(loop, main())
    assert path.read_bytes() == b"".join(b"%c" % (65 + number) * 1000 for number in range(26))


def test_cancelled_open_leaves_no_descriptor(loop, tmp_path, slow):
    path = tmp_path / "file"

    async def main():
        for number in range(20):
            task = asyncio.ensure_future(uring_loop.open(path, "w").__aenter__())
            await iterations(number % 5)
            task.cancel()
            try:
                await (await task).close()
            except asyncio.CancelledError:
                pass
        await asyncio.get_running_loop().shutdown_default_executor()

    run(loop, main())


def test_cancelled_close_of_a_file_still_writes_and_closes_it(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        file = await uring_loop.open(path, "wb")
        number = file.fileno()
        await file.write(b"x" * 1000)
        task = asyncio.ensure_future(file.close())
        await iterations(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while is_open(number):
            await asyncio.sleep(0.001)

    run(loop, main())
    assert path.read_bytes() == b"x" * 1000


def test_loop_closed_with_a_read_under_way_lets_the_file_be_closed(make_loop, fifo):
    first, second = make_loop(), make_loop()
    keeper = os.open(fifo, os.O_RDWR)

    async def begin():
        file = await uring_loop.open(fifo, "rb")
        task = asyncio.ensure_future(file.read(1))
        await iterations(3)
        return file, task

    file, task = first.run_until_complete(begin())
    task.cancel()
    first.run_until_complete(iterations(3))
    first.run_until_complete(first.shutdown_default_executor())
    first.close()
    second.run_until_complete(file.close())
    second.run_until_complete(second.shutdown_default_executor())
    second.close()
    os.close(keeper)
