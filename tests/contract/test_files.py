"""Asynchronous files of bytes: reading, writing, positions, errors, closing."""

import asyncio
import concurrent.futures
import contextlib
import errno
import gc
import io
import os
import resource
import sys
import threading
import warnings

import pytest
from harness import (
    PATIENCE_S,
    descriptors_below,
    file_closings_end,
    iterations,
    resource_warning,
    run,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import uring_loop
from uring_loop import files
from uring_loop._internal.files import calls, descriptor

DATA = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path):
    """A file of 256,000 bytes."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def test_open_is_entered_or_awaited(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            first = await file.read()
        assert file.closed
        file = await uring_loop.open(path, "rb")
        async with file as same:
            assert same is file
            second = await file.read()
        return first, second

    assert run(loop, main()) == (DATA, DATA)


def test_read_in_pieces_gives_each_byte_once_in_order(loop, path):
    async def main():
        parts = []
        async with uring_loop.open(path, "rb") as file:
            for size in (0, 1, 2, 100, 5000, 70_000, 20_000):
                parts.append(await file.read(size))
                assert len(parts[-1]) == size
                assert await file.tell() == sum(map(len, parts))
            parts.append(await file.read())
            assert await file.read() == b""
            assert await file.read(1) == b""
        return b"".join(parts)

    assert run(loop, main()) == DATA


def test_read_that_is_not_in_memory_gives_the_same(loop, path, monkeypatch):
    """What RWF_NOWAIT refuses goes to the ring or a thread."""
    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)
    monkeypatch.setattr(descriptor.Descriptor, "read_into_now", lambda *_: None)
    monkeypatch.setattr(descriptor.Descriptor, "close_now", lambda self: self.number < 0)
    monkeypatch.setattr(descriptor, "file_open_now", None)

    async def main():
        async with uring_loop.open(path, "rb") as file:
            start = await file.read(10)
            buffer = bytearray(100_000)
            count = await file.readinto(buffer)
            return start + buffer[:count] + await file.read()

    assert run(loop, main()) == DATA


def test_readinto_fills_the_buffer_up_to_the_end(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            buffer = bytearray(len(DATA) - 10)
            assert await file.readinto(buffer) == len(buffer)
            assert buffer == DATA[:-10]
            small = bytearray(20)
            assert await file.readinto(small) == 10
            assert small == DATA[-10:] + bytes(10)
            assert await file.readinto(small) == 0

    run(loop, main())


def test_lines_end_behind_each_newline(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            return [line async for line in file]

    assert run(loop, main()) == io.BytesIO(DATA).readlines()


def test_readline_and_readlines_take_sizes(loop, tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\nthree")

    async def main():
        async with uring_loop.open(path, "rb") as file:
            assert await file.readline(2) == b"on"
            assert await file.readline() == b"e\n"
            assert await file.readlines(1) == [b"two\n"]
            assert await file.readlines() == [b"three"]
            assert await file.readline() == b""

    run(loop, main())


def test_what_is_written_is_there_after_close(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "new", "wb") as file:
            assert await file.write(b"abc") == 3
            assert await file.write(bytearray(b"def")) == 3
            await file.writelines([b"g", memoryview(b"hi")])
            assert await file.tell() == 9
            await file.write(b"x" * 1_000_000)

    run(loop, main())
    assert (tmp_path / "new").read_bytes() == b"abcdefghi" + b"x" * 1_000_000


def test_flush_hands_over_what_was_written(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "new", "wb") as file:
            await file.write(b"abc")
            await file.flush()
            assert (tmp_path / "new").read_bytes() == b"abc"
            await file.write(b"d")
            await file.fsync()
            assert (tmp_path / "new").read_bytes() == b"abcd"
            await file.write(b"e")
            await file.fdatasync()
            assert (tmp_path / "new").read_bytes() == b"abcde"

    run(loop, main())


def test_append_writes_at_the_end_and_says_where_that_is(loop, tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\n")

    async def main():
        async with uring_loop.open(path, "ab") as file:
            assert await file.tell() == 4
            await file.write(b"two\n")
            with open(path, "ab") as other:
                other.write(b"between\n")
            await file.flush()
            assert await file.tell() == 16
        async with uring_loop.open(path, "a+b") as file:
            await file.seek(0)
            assert await file.read(4) == b"one\n"
            await file.write(b"three\n")
            await file.flush()
            assert await file.tell() == 22

    run(loop, main())
    assert path.read_bytes() == b"one\nbetween\ntwo\nthree\n"


def test_unbuffered_files_write_at_once(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "raw", "w+b", buffering=0) as file:
            assert await file.write(b"abcdef") == 6
            assert (tmp_path / "raw").read_bytes() == b"abcdef"
            await file.seek(1)
            assert await file.read(2) == b"bc"
            assert await file.readall() == b"def"

    run(loop, main())


def test_unbuffered_write_of_nothing_writes_nothing(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "raw", "w+b", buffering=0) as file:
            await file.write(b"abc")
            await file.seek(1)
            assert await file.write(b"") == 0
            assert await file.tell() == 1
            assert await file.read() == b"bc"

    run(loop, main())


@pytest.mark.parametrize("size", [0, 1, 5])
def test_peek_shows_what_comes_next_and_moves_nothing(loop, path, size):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            first = await file.peek(size)
            assert first
            assert DATA.startswith(first)
            assert await file.read(3) == DATA[:3]
            assert await file.peek(size) == first[3:]
            assert await file.tell() == 3
            await file.seek(0, os.SEEK_END)
            assert await file.peek(size) == b""

    run(loop, main())


def test_pread_and_pwrite_leave_the_position(loop, path):
    async def main():
        async with uring_loop.open(path, "r+b") as file:
            await file.read(5)
            assert await file.pread(4, 100) == DATA[100:104]
            assert await file.pwrite(b"ABCD", 100) == 4
            assert await file.pread(4, 100) == b"ABCD"
            assert await file.pread(10, len(DATA) - 3) == DATA[-3:]
            assert await file.tell() == 5
            with pytest.raises(OSError) as caught:
                await file.pread(1, -1)
            assert caught.value.errno == errno.EINVAL

    run(loop, main())


def test_offsets_beyond_four_gigabytes(loop, tmp_path):
    far = 5 * 2**30

    async def main():
        async with uring_loop.open(tmp_path / "sparse", "w+b") as file:
            await file.seek(far)
            await file.write(b"far")
            assert await file.tell() == far + 3
            assert await file.seek(-3, os.SEEK_END) == far
            assert await file.read() == b"far"
            assert await file.pread(3, far) == b"far"
            assert await file.truncate(10) == 10
            assert await file.seek(0, os.SEEK_END) == 10

    run(loop, main())


def test_seek_refuses_as_io_does(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            with pytest.raises(OSError):
                await file.seek(-1)
            with pytest.raises(ValueError):
                await file.seek(0, 77)
            with pytest.raises(TypeError):
                await file.seek("0")
            assert await file.tell() == 0

    run(loop, main())


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("q", {}),
        ("rw", {}),
        ("", {}),
        ("rr", {}),
        ("rbt", {}),
        ("r+++", {}),
        ("rb", {"encoding": "utf-8"}),
        ("rb", {"errors": "strict"}),
        ("rb", {"newline": ""}),
        ("r", {"newline": "x"}),
        ("r", {"buffering": 0}),
        ("r", {"closefd": False}),
        ("r", {"encoding": "no such"}),
        (None, {}),
        ("r", {"buffering": None}),
        ("r", {"newline": 5}),
    ],
)
def test_open_refuses_arguments_as_the_builtin_does(loop, path, mode, options):
    async def main():
        with pytest.raises(Exception) as ours:
            await uring_loop.open(path, mode, **options)
        with pytest.raises(Exception) as theirs:
            open(path, mode, **options).close()
        assert type(ours.value) is type(theirs.value)
        assert str(ours.value) == str(theirs.value)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(loop, main())


@pytest.mark.parametrize("bad", [None, 1.5, b"a\0b", "a\0b", -1])
def test_open_refuses_names_as_the_builtin_does(loop, bad):
    async def main():
        with pytest.raises(Exception) as ours:
            await uring_loop.open(bad)
        with pytest.raises(Exception) as theirs:
            open(bad).close()
        assert type(ours.value) is type(theirs.value)

    run(loop, main())


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("missing", "r"),
        ("missing/x", "w"),
        ("", "r"),
        ("directory", "r"),
        ("directory", "w"),
        ("file", "x"),
        ("file/x", "r"),
        ("loop", "r"),
    ],
)
def test_open_fails_with_the_builtins_error_and_filename(loop, tmp_path, name, mode):
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    target = str(tmp_path / name) if name else ""

    async def main():
        with pytest.raises(OSError) as ours:
            await uring_loop.open(target, mode)
        with pytest.raises(OSError) as theirs:
            open(target, mode).close()
        for attribute in ("errno", "filename", "strerror"):
            assert getattr(ours.value, attribute) == getattr(theirs.value, attribute)
        assert type(ours.value) is type(theirs.value)

    run(loop, main())


def test_modes_and_names_are_told_as_io_tells_them(loop, tmp_path):
    path = tmp_path / "file"
    path.touch()

    async def main():
        for mode in ("rb", "wb", "ab", "r+b", "w+b", "a+b", "rb+"):
            async with uring_loop.open(path, mode) as ours:
                with open(path, mode) as theirs:
                    for attribute in ("name", "mode", "closed"):
                        assert getattr(ours, attribute) == getattr(theirs, attribute), mode
                    for method in ("readable", "writable", "seekable", "isatty"):
                        assert getattr(ours, method)() == getattr(theirs, method)(), mode

    run(loop, main())


def test_a_file_does_only_what_it_was_opened_for(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            for call in (file.write(b"x"), file.truncate(), file.pwrite(b"x", 0)):
                with pytest.raises(io.UnsupportedOperation):
                    await call
        async with uring_loop.open(path, "wb") as file:
            for call in (file.read(), file.readline(), file.readinto(bytearray(1))):
                with pytest.raises(io.UnsupportedOperation):
                    await call
            with pytest.raises(TypeError):
                await file.write("text")

    run(loop, main())


def test_a_closed_file_refuses_everything(loop, path):
    async def main():
        file = await uring_loop.open(path, "r+b")
        await file.close()
        await file.close()
        assert file.closed
        for call in (
            file.read(),
            file.write(b""),
            file.seek(0),
            file.tell(),
            file.flush(),
            file.pread(1, 0),
            file.truncate(),
            file.__aenter__(),
            file.__anext__(),
        ):
            with pytest.raises(ValueError):
                await call
        for call in (file.readable, file.writable, file.seekable, file.fileno, file.isatty):
            with pytest.raises(ValueError):
                call()

    run(loop, main())


@pytest.mark.parametrize("before", [0, 62, 63, 64, 65])
def test_calls_that_use_the_position_run_in_the_order_they_were_made(
    loop, path, before, monkeypatch
):
    # So many calls after which one lets the loop turn first.
    monkeypatch.setattr(calls, "_units", before)

    async def main():
        async with uring_loop.open(path, "r+b") as file:
            results = await asyncio.gather(
                file.read(100),
                file.seek(1000),
                file.read(50),
                file.write(b"HERE"),
                file.tell(),
                file.seek(1050),
                file.read(4),
            )
        return results

    assert run(loop, main()) == [
        DATA[:100], 1000, DATA[1000:1050], 4, 1054, 1050, b"HERE",
    ]  # fmt: skip


def test_close_comes_after_the_calls_made_before_it(loop, tmp_path):
    async def main():
        file = await uring_loop.open(tmp_path / "new", "wb")
        await asyncio.gather(file.write(b"a" * 600_000), file.write(b"b"), file.close())

    run(loop, main())
    assert (tmp_path / "new").read_bytes() == b"a" * 600_000 + b"b"


def test_many_preads_at_once(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            return await asyncio.gather(*[file.pread(100, at * 100) for at in range(500)])

    assert b"".join(run(loop, main())) == DATA[:50_000]


def test_many_files_at_once(loop, tmp_path):
    async def write(number):
        async with uring_loop.open(tmp_path / str(number), "wb") as file:
            await file.write(b"%d" % number)

    async def read(number):
        async with uring_loop.open(tmp_path / str(number), "rb") as file:
            return await file.read()

    async def main():
        await asyncio.gather(*map(write, range(200)))
        return await asyncio.gather(*map(read, range(200)))

    assert run(loop, main()) == [b"%d" % number for number in range(200)]


def test_no_free_descriptor_is_an_error_with_the_filename(loop, path):
    async def main():
        await (await uring_loop.open(path, "rb")).close()
        opened = []
        with descriptors_below(len(os.listdir("/proc/self/fd")) + 3):
            with pytest.raises(OSError) as caught:
                for _ in range(50):
                    opened.append(await uring_loop.open(path, "rb"))
        assert caught.value.errno == errno.EMFILE
        assert caught.value.filename == str(path)
        for file in opened:
            await file.close()

    run(loop, main())


def test_write_error_is_raised_and_close_still_closes(loop):
    async def main():
        file = await uring_loop.open("/dev/full", "wb")
        number = file.fileno()
        await file.write(b"x")
        with pytest.raises(OSError) as caught:
            await file.flush()
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError) as caught:
            await file.close()
        assert caught.value.errno == errno.ENOSPC
        assert file.closed
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())


def test_an_adopted_descriptor_keeps_its_place_and_its_owner(loop, path):
    async def main():
        with open(path, "rb", buffering=0) as owner:
            owner.seek(10)
            async with uring_loop.open(owner.fileno(), "rb", closefd=False) as file:
                assert await file.tell() == 10
                assert await file.read(5) == DATA[10:15]
                assert file.name == owner.fileno()
            assert owner.tell() == 15
        number = os.open(path, os.O_RDONLY)
        async with uring_loop.open(number, "rb") as file:
            assert await file.read() == DATA
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())


@pytest.mark.parametrize("closefd", [True, False])
def test_adopted_descriptor_that_is_refused_stays_its_owners(loop, closefd):
    async def main():
        ends = os.pipe()
        with pytest.raises(io.UnsupportedOperation, match="not seekable"):
            await uring_loop.open(ends[0], "r+b", closefd=closefd)
        os.write(ends[1], b"x")
        assert os.read(ends[0], 1) == b"x"
        for end in ends:
            os.close(end)

    run(loop, main())


def test_fileno_is_at_the_files_position(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            await file.read(7)
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 7

    run(loop, main())


def test_an_opener_is_used(loop, path):
    directory = os.open(path.parent, os.O_RDONLY)

    def opener(name, flags):
        return os.open(name, flags, dir_fd=directory)

    async def main():
        async with uring_loop.open(path.name, "rb", opener=opener) as file:
            assert await file.read() == DATA
            assert not os.get_inheritable(file.fileno())
        with pytest.raises(ValueError, match="opener returned -1"):
            await uring_loop.open("x", opener=lambda *_: -1)

    run(loop, main())
    os.close(directory)


@pytest.mark.parametrize("given", [None, "3", 1.5, -1, 10_000])
def test_opener_that_gives_no_descriptor_is_refused_as_the_builtin_does(loop, path, given):
    async def main():
        with pytest.raises(Exception) as ours:
            await uring_loop.open(path, "rb", opener=lambda *_: given)
        with pytest.raises(Exception) as theirs:
            open(path, "rb", opener=lambda *_: given).close()
        assert type(ours.value) is type(theirs.value)

    run(loop, main())


@pytest.mark.parametrize("given", ["a descriptor", "none"])
def test_opener_that_ends_when_its_caller_was_cancelled_leaves_no_descriptor(loop, path, given):
    gate, begun = threading.Event(), threading.Event()

    def opener(name, flags):
        begun.set()
        gate.wait()
        return os.open(name, flags) if given == "a descriptor" else None

    async def main():
        opening = asyncio.ensure_future(uring_loop.open(path, opener=opener).__aenter__())
        while not begun.is_set():
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        gate.set()
        await loop.shutdown_default_executor()

    run(loop, main())


def test_file_of_proc_that_was_adopted_or_is_read_into_gives_what_io_does(loop):
    """Nothing of such a file system is known to be in memory, and it is not asked twice."""
    name = "/proc/self/status"

    async def main():
        for named in (name, None):
            for mode, method in (("rb", "read"), ("rb", "readinto")):
                number = os.open(name, os.O_RDONLY) if named is None else named
                async with uring_loop.open(number, mode) as file:
                    if method == "read":
                        found = await file.read()
                    else:
                        buffer = bytearray(100_000)
                        found = bytes(buffer[: await file.readinto(buffer)])
                assert found.startswith(b"Name:\t"), (named, method)
                assert b"\nThreads:" in found, (named, method)

    run(loop, main())


def test_a_forgotten_file_warns_and_is_written_and_closed(loop, tmp_path):
    async def main():
        file = await uring_loop.open(tmp_path / "new", "wb")
        await file.write(b"kept")

    with resource_warning("unclosed file"):
        run(loop, main())
    assert (tmp_path / "new").read_bytes() == b"kept"


def test_a_forgotten_file_is_written_and_closed_where_warnings_are_errors(
    loop, tmp_path, monkeypatch
):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_type))

    async def main():
        file = await uring_loop.open(tmp_path / "new", "wb")
        await file.write(b"kept")

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        run(loop, main())
        gc.collect()
    assert unraisable == [ResourceWarning]
    assert (tmp_path / "new").read_bytes() == b"kept"


def test_a_forgotten_file_is_open_until_its_abandoned_call_has_ended(loop, tmp_path):
    """Or a thread would write to whoever has got the number of its descriptor."""
    gate = threading.Event()

    async def abandon_write():
        file = await uring_loop.open(tmp_path / "new", "wb")
        blocked = loop.run_in_executor(None, gate.wait)
        writing = loop.create_task(file.pwrite(b"late", 0))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
        return blocked

    async def main():
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        with resource_warning("unclosed file"):
            blocked = await abandon_write()
        with open(tmp_path / "other", "w+b") as other:
            gate.set()
            await blocked
            await loop.run_in_executor(None, os.getpid)
            return other.read()

    assert run(loop, main()) == b""


def test_close_that_is_cancelled_in_a_queue_of_the_kernels_still_closes(loop, tmp_path):
    """As asyncio.run() cancels all tasks; the fixtures find what is left open."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def occupy_a_worker():
        held, address = calls.borrow(os.fsencode(fifo) + b"\0")
        request = (calls.OP_OPENAT, -100, address, 0, 0, os.O_RDONLY)
        opened = await calls.of_loop().make(request, held, os.open, fifo, os.O_RDONLY)
        # A thread's is a number.
        os.close(opened) if isinstance(opened, int) else opened.close()

    async def main():
        ours = asyncio.all_tasks()
        file = await uring_loop.open(tmp_path / "new", "wb")
        occupied = [loop.create_task(occupy_a_worker()) for _ in range(40)]
        await iterations(4)
        closing = loop.create_task(file.close())
        await iterations(4)
        for task in asyncio.all_tasks() - {*ours, *occupied}:
            task.cancel()
        await iterations(4)
        with open(fifo, "r+b", buffering=0):
            await asyncio.wait([closing, *occupied])

    run(loop, main())


def test_open_without_any_thread_leaves_no_descriptor(loop, path, monkeypatch):
    """A driver needs none: a thread would only be asked about the file's device."""
    monkeypatch.setattr(descriptor, "_devices", {})
    monkeypatch.setattr(descriptor, "_local_devices", set())

    async def main():
        await loop.shutdown_default_executor()
        if hasattr(loop, "driver"):
            async with uring_loop.open(path, "rb") as file:
                assert await file.read() == DATA
            return
        with pytest.raises(RuntimeError, match="Executor shutdown has been called"):
            await uring_loop.open(path, "rb")

    run(loop, main())


def test_a_file_outlives_its_loop(make_loop, path):
    first, second = make_loop(), make_loop()

    async def begin():
        file = await uring_loop.open(path, "r+b")
        assert await file.read(3) == DATA[:3]
        return file

    async def end(file):
        assert await file.read(3) == DATA[3:6]
        await file.write(b"!")
        await file.close()

    file = first.run_until_complete(begin())
    first.close()
    second.run_until_complete(end(file))
    second.run_until_complete(second.shutdown_default_executor())
    second.close()
    assert path.read_bytes()[6:7] == b"!"


def test_files_without_a_size_are_read_to_their_end(loop):
    async def main():
        async with uring_loop.open("/proc/self/maps", "rb") as file:
            assert (await file.read()).count(b"\n") > 5
        async with uring_loop.open("/dev/null", "r+b", buffering=0) as file:
            assert await file.read() == b""
            assert await file.write(b"x") == 1
        async with uring_loop.open("/dev/zero", "rb") as file:
            assert await file.read(10) == bytes(10)

    run(loop, main())


def test_a_long_row_of_reads_lets_others_run(loop, path):
    async def main():
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        async with uring_loop.open(path, "rb") as file:
            for _ in range(2000):
                await file.read(100)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return turns

    assert run(loop, main()) > 5


def test_names_of_aiofiles_and_anyio(loop, path):
    aiofiles = files

    async def main():
        async with aiofiles.open(path, mode="rb") as file:
            assert await file.read(2) == DATA[:2]
        assert (await aiofiles.os.stat(path)).st_size == len(DATA)
        assert await aiofiles.os.path.exists(path)
        async with await files.open_file(path, "rb") as file:
            assert await file.read1(2) == DATA[:2]
            buffer = bytearray(2)
            assert await file.readinto1(buffer) == 2
            await file.aclose()

    run(loop, main())


# Any order of calls does what io's files do.

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 40_000)),
        st.tuples(st.just("readline"), st.integers(-1, 300).filter(bool)),
        st.tuples(st.just("readinto"), st.integers(0, 40_000)),
        st.tuples(st.just("write"), st.binary(max_size=50)),
        st.tuples(st.just("write"), st.integers(0, 300_000).map(lambda n: b"\nw" * (n // 2))),
        st.tuples(st.just("seek"), st.integers(0, 40_000), st.just(0)),
        st.tuples(st.just("seek"), st.integers(-10, 10), st.just(1)),
        st.tuples(st.just("seek"), st.integers(-100, 10), st.just(2)),
        st.tuples(st.just("tell")),
        st.tuples(st.just("flush")),
        st.tuples(st.just("truncate"), st.integers(0, 50_000)),
        st.tuples(st.just("truncate")),
        st.tuples(st.just("readlines"), st.integers(-1, 200)),
    ),
    max_size=15,
)
MODES = st.sampled_from(["rb", "wb", "ab", "r+b", "w+b", "a+b"])


def outcome_of(call, *arguments):
    """What a call of an io file gives, buffers by their content."""
    try:
        if call.__name__ == "readinto":
            buffer = bytearray(arguments[0])
            return call(buffer), bytes(buffer)
        return call(*arguments)
    except (OSError, ValueError) as error:
        return type(error), getattr(error, "errno", None)


async def awaited_outcome_of(call, *arguments):
    try:
        if call.__name__ == "readinto":
            buffer = bytearray(arguments[0])
            return await call(buffer), bytes(buffer)
        return await call(*arguments)
    except (OSError, ValueError) as error:
        return type(error), getattr(error, "errno", None)


@pytest.mark.parametrize("shared", [False, True], ids=["own position", "shared position"])
@pytest.mark.parametrize("name", ["read", "read1", "readinto", "readline", "readall"])
@pytest.mark.parametrize("buffering", [0, -1, 20_000])
def test_file_whose_beginning_alone_is_in_memory_gives_what_io_does(
    loop, tmp_path, buffering, name, shared
):
    """The second truncate() drops the last page from memory: RWF_NOWAIT gives what is before."""
    if name == "readall" and buffering != 0 or name == "read1" and buffering == 0:
        pytest.skip("io has no such method of such a file")
    size = 40_000
    files = []
    for path in (tmp_path / "ours", tmp_path / "theirs"):
        path.write_bytes(b"beginning")
        for _ in range(2):
            os.truncate(path, size)
        files.append(path)
    arguments = [] if name in ("readline", "readall") else [size]

    async def main():
        async with uring_loop.open(files[0], "r+b", buffering) as file:
            with open(files[1], "r+b", buffering) as other:
                if shared:
                    file.fileno()
                found = await awaited_outcome_of(getattr(file, name), *arguments)
                assert found == outcome_of(getattr(other, name), *arguments)
                assert await file.tell() == other.tell()
                assert await file.read(7) == other.read(7)

    run(loop, main())


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mode=MODES, buffering=st.sampled_from([-1, -1, 0, 7, 4096]), steps=STEPS)
def test_any_order_of_calls_does_what_io_does(loop, tmp_path, mode, buffering, steps):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    content = b"line\nanother line\r\n\n" * 700
    ours.write_bytes(content)
    theirs.write_bytes(content)

    async def main():
        async with uring_loop.open(ours, mode, buffering) as file:
            with open(theirs, mode, buffering) as other:
                for name, *arguments in steps:
                    found = await awaited_outcome_of(getattr(file, name), *arguments)
                    expected = outcome_of(getattr(other, name), *arguments)
                    assert found == expected, (name, arguments)
                    if name == "write" and "a" in mode:
                        # Where it goes shows when it goes, and buffers differ in size.
                        await file.flush()
                        other.flush()
                assert await file.tell() == other.tell()

    run(loop, main())
    assert ours.read_bytes() == theirs.read_bytes()


def test_close_that_cannot_write_all_says_so_to_each_caller_and_closes(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        file = await uring_loop.open(path, "wb")
        number = file.fileno()
        await file.write(b"x" * 10_000)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            results = await asyncio.gather(file.close(), file.close(), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [result.errno for result in results] == [errno.EFBIG] * 2
        assert file.closed
        await file.close()
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())
    assert path.read_bytes() == b"x" * 4096


def test_closing_that_is_cancelled_with_all_tasks_writes_what_the_file_has_taken(
    loop, tmp_path, monkeypatch
):
    """As asyncio.run() ends, while the close is a task that has begun to write."""
    path = tmp_path / "file"
    write = descriptor.Descriptor.write
    begun, gate = asyncio.Event(), asyncio.Event()

    async def waiting(self, data, offset, late=None):
        begun.set()
        await gate.wait()
        return await write(self, data, offset, late)

    monkeypatch.setattr(descriptor.Descriptor, "write", waiting)
    monkeypatch.setattr(descriptor.Descriptor, "closes_by_requests", lambda self: False)

    async def main():
        ours = asyncio.all_tasks()
        file = await uring_loop.open(path, "ab")
        await file.write(b"x" * 1000)
        closing = asyncio.ensure_future(file.close())
        await begun.wait()
        tasks = asyncio.all_tasks() - ours
        for task in tasks:
            task.cancel()
        gate.set()
        await asyncio.wait(tasks)
        assert closing.cancelled()
        assert file.closed

    run(loop, main())
    assert path.read_bytes() == b"x" * 1000


def test_close_whose_task_is_cancelled_is_not_taken_for_done(
    loop, loop_kind, tmp_path, monkeypatch
):
    if loop_kind == "asyncio":
        pytest.skip("only our loops close by requests")
    gate = asyncio.Event()
    monkeypatch.setattr(files.BinaryFile, "_flush_last", lambda self: gate.wait())

    async def main():
        ours = asyncio.all_tasks()
        file = await uring_loop.open(tmp_path / "file", "wb")
        monkeypatch.setattr(type(loop), "_request", lambda *_: -errno.ENOMEM)
        closing = asyncio.ensure_future(file.close())
        await iterations(2)
        (inner,) = asyncio.all_tasks() - ours - {closing}
        inner.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert file.closed

    run(loop, main())


def test_close_by_requests_that_cannot_write_all_says_so_to_each_caller_and_closes(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        file = await uring_loop.open(path, "wb")
        number = file._descriptor.number
        await file.write(b"x" * 10_000)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        try:
            with pytest.raises(OSError) as flushing:
                await file.flush()
            results = await asyncio.gather(file.close(), file.close(), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [error.errno for error in (flushing.value, *results)] == [errno.EFBIG] * 3
        assert file.closed
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())
    assert path.read_bytes() == b"x" * 4096


def test_forgotten_file_that_cannot_be_written_says_so_and_is_closed(loop, tmp_path, monkeypatch):
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(args.exc_value.errno))

    async def main():
        file = await uring_loop.open(tmp_path / "file", "wb")
        await file.write(b"x" * 10_000)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with resource_warning("unclosed file"):
            run(loop, main())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert unraisable == [errno.EFBIG]


def test_many_chunks_and_a_close_leave_them_in_order(loop, tmp_path):
    async def write(number):
        file = await uring_loop.open(tmp_path / f"{number}", "wb")
        for part in range(20):
            await file.write(b"%d," % part)
        await asyncio.gather(file.close(), file.close())

    async def main():
        await asyncio.gather(*[write(number) for number in range(100)])

    run(loop, main())
    expected = b"".join(b"%d," % part for part in range(20))
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {expected}


def test_loop_that_ends_while_a_file_closes_loses_nothing(make_loop, tmp_path):
    path = tmp_path / "file"
    loop = make_loop()
    # Where the close is a task, asyncio says that it was destroyed; to this handler.
    loop.set_exception_handler(lambda loop, context: None)

    async def main():
        file = await uring_loop.open(path, "wb")
        await file.write(b"x" * 1000)
        closing = asyncio.ensure_future(file.close())
        await asyncio.sleep(0)
        closing.cancel()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        threads = set(threading.enumerate())
        run(loop, main())
        loop.close()
        # Where the close is a thread's, it may still be at it, and hold the file.
        for thread in set(threading.enumerate()) - threads:
            thread.join(PATIENCE_S)
        gc.collect()
    assert path.read_bytes() == b"x" * 1000


def test_cancelled_close_of_a_file_that_nobody_holds_goes_on(loop, tmp_path):
    path = tmp_path / "file"

    async def begin():
        file = await uring_loop.open(path, "wb")
        await file.write(b"x" * 1000)
        closings = [asyncio.ensure_future(file.close()) for _ in range(2)]
        await asyncio.sleep(0)
        for closing in closings:
            closing.cancel()

    async def main():
        await begin()
        while path.stat().st_size < 1000:
            gc.collect()
            await asyncio.sleep(0.001)
        await file_closings_end(meanwhile=gc.collect)

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        run(loop, main())
    assert path.read_bytes() == b"x" * 1000


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_loop_closed_while_a_call_of_a_file_hangs_goes_on_and_says_what_it_keeps(
    make_unwatched_loop, loop_kind, caplog
):
    """As of a server that is gone: the kernel's log, which waits for more, is a regular file."""
    if loop_kind == "asyncio":
        pytest.skip("asyncio waits for its executor's threads in shutdown_default_executor() only")
    try:
        with open("/proc/kmsg", "rb", buffering=0):
            pass
    except OSError as exc:
        pytest.skip(f"a file whose read waits for ever takes CAP_SYSLOG here: {exc}")

    async def main():
        file = await uring_loop.open("/proc/kmsg", "rb", buffering=0)
        # What there is already comes at once; the read that follows it hangs.
        with contextlib.suppress(TimeoutError):
            while True:
                await asyncio.wait_for(file.read(1 << 16), 0.3)

    loop = make_unwatched_loop()
    loop.run_until_complete(main())
    with caplog.at_level("WARNING", logger="uring_loop"):
        loop.close()
    assert loop.is_closed()
    # The ring's worker is interrupted by the kernel, a thread cannot be.
    told = [record.message for record in caplog.records if "hung" in record.message]
    assert len(told) == (loop_kind == "selector")
