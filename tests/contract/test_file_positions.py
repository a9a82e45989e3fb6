"""One position for all who have a file's descriptor: children, duplicates, owners, forks.

io is the judge: what its files do, in order, ours do.
"""

import asyncio
import errno
import gc
import inspect
import os
import subprocess
import sys
import threading

import pytest
from harness import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import uring_loop
from uring_loop._internal.files import calls, descriptor

LINES = b"".join(b"line %d\n" % number for number in range(5000))


@pytest.fixture
def path(tmp_path):
    """A file of lines, larger than what is read ahead at once."""
    path = tmp_path / "file"
    path.write_bytes(LINES)
    return path


async def value(call):
    return await call if inspect.isawaitable(call) else call


async def echo(number, text):
    process = await asyncio.create_subprocess_exec("echo", text, stdout=number)
    await process.wait()


def opened_by(which):
    return open if which == "io" else uring_loop.open


@pytest.mark.parametrize("which", ["io", "ours"])
@pytest.mark.parametrize("mode", ["w", "wb", "r+", "w+b", "a", "ab"])
def test_children_and_parent_write_one_behind_the_other(loop, tmp_path, which, mode):
    path = tmp_path / "log"
    path.touch()

    async def main():
        file = await value(opened_by(which)(path, mode))
        for number in range(3):
            text = f"parent {number}\n"
            await value(file.write(text if "b" not in mode else text.encode()))
            await value(file.flush())
            await echo(file.fileno(), f"child {number}")
        await value(file.write("end" if "b" not in mode else b"end"))
        await value(file.close())

    run(loop, main())
    rows = [f"parent {number}\nchild {number}\n" for number in range(3)]
    assert path.read_text() == "".join(rows) + "end"


@pytest.mark.parametrize("which", ["io", "ours"])
def test_what_a_child_writes_before_the_parent_flushes_comes_first(loop, tmp_path, which):
    path = tmp_path / "log"

    async def main():
        file = await value(opened_by(which)(path, "wb"))
        await value(file.write(b"unflushed\n"))
        await echo(file.fileno(), "child")
        await value(file.write(b"more\n"))
        await value(file.close())

    run(loop, main())
    assert path.read_bytes() == b"child\nunflushed\nmore\n"


@pytest.mark.parametrize("which", ["io", "ours"])
@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("closefd", [False, True])
def test_adopted_descriptor_is_written_where_its_owner_left_it(
    loop, tmp_path, which, buffering, closefd
):
    path = tmp_path / "file"

    async def main():
        number = os.open(path, os.O_RDWR | os.O_CREAT)
        duplicate = os.dup(number)
        file = await value(opened_by(which)(number, "wb", buffering=buffering, closefd=closefd))
        for piece in (b"a", b"b", b"c"):
            await value(file.write(piece * 3))
            await value(file.flush())
            os.write(duplicate, piece.upper())
        assert await value(file.tell()) == 12
        await value(file.close())
        os.write(duplicate, b"end")
        os.close(duplicate)
        if not closefd:
            os.close(number)

    run(loop, main())
    assert path.read_bytes() == b"aaaAbbbBcccCend"


def test_forgotten_adopted_descriptor_is_written_where_its_owner_left_it(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        number = os.open(path, os.O_RDWR | os.O_CREAT)
        file = await uring_loop.open(number, "wb", closefd=False)
        await file.write(b"ours")
        os.write(number, b"first ")
        del file
        gc.collect()
        os.write(number, b" last")
        os.close(number)

    run(loop, main())
    assert path.read_bytes() == b"first ours last"


@pytest.mark.parametrize("which", ["io", "ours"])
def test_what_an_opener_gives_may_be_shared(loop, tmp_path, which):
    path = tmp_path / "file"
    kept = []

    def opener(name, flags):
        number = os.open(name, flags)
        kept.append(os.dup(number))
        return number

    async def main():
        file = await value(opened_by(which)(path, "wb", buffering=0, opener=opener))
        await value(file.write(b"one "))
        os.write(kept[0], b"two ")
        await value(file.write(b"three"))
        await value(file.close())

    run(loop, main())
    os.close(kept[0])
    assert path.read_bytes() == b"one two three"


@pytest.mark.parametrize("which", ["io", "ours"])
def test_child_and_parent_read_one_behind_the_other(loop, path, which):
    async def main():
        file = await value(opened_by(which)(path, "rb", buffering=0))
        parts = []
        for _ in range(3):
            parts.append(await value(file.read(100)))
            process = await asyncio.create_subprocess_exec(
                "head", "-c", "50", stdin=file.fileno(), stdout=subprocess.PIPE
            )
            parts.append((await process.communicate())[0])
        assert await value(file.tell()) == 450
        parts.append(await value(file.read()))
        await value(file.close())
        return b"".join(parts)

    assert run(loop, main()) == LINES


@pytest.mark.parametrize("mode", ["rb", "r+b"])
def test_what_was_read_ahead_is_the_childs(loop, path, mode):
    """io keeps it to itself: a child that it is given to misses it."""

    async def main():
        file = await uring_loop.open(path, mode)
        rows = []
        for _ in range(3):
            rows.append(await file.readline())
            rows.append(os.read(file.fileno(), 7))
        await file.close()
        return rows

    assert run(loop, main()) == LINES.splitlines(keepends=True)[:6]


def test_what_was_read_ahead_is_not_given_back_to_who_has_moved_on(loop, path):
    async def main():
        number = os.open(path, os.O_RDONLY)
        file = await uring_loop.open(number, "rb", buffering=100)
        first = await file.read(10)
        assert os.lseek(number, 0, os.SEEK_CUR) == 100
        assert os.read(number, 20) == LINES[100:120]
        file.fileno()
        assert os.lseek(number, 0, os.SEEK_CUR) == 120
        rest = await file.read(90)
        await file.close()
        return first + rest

    assert run(loop, main()) == LINES[:100]


def test_close_gives_back_what_was_read_ahead(loop, path):
    async def main():
        with open(path, "rb", buffering=0) as owner:
            async with uring_loop.open(owner.fileno(), "rb", closefd=False) as file:
                await file.readline()
            assert owner.read(7) == b"line 1\n"
            duplicate = os.dup(owner.fileno())
            async with uring_loop.open(duplicate, "rb") as file:
                await file.readline()
            assert owner.read(7) == b"line 3\n"

    run(loop, main())


def test_text_goes_on_where_a_child_has_stopped(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("é" * 10)

    async def main():
        file = await uring_loop.open(path, "r+", encoding="utf-8")
        assert await file.read() == "é" * 10
        await echo(file.fileno(), "child")
        assert await file.tell() == 26
        assert await file.read() == ""
        await file.write("parent")
        await file.flush()
        await file.seek(20)
        assert await file.read() == "child\nparent"
        await file.close()

    run(loop, main())


def test_position_of_text_is_that_of_its_descriptor(loop, path):
    async def main():
        number = os.open(path, os.O_RDWR)
        file = await uring_loop.open(number, "r+", encoding="utf-8")
        os.lseek(number, 700, os.SEEK_SET)
        assert await file.readline() == LINES[700:].splitlines(keepends=True)[0].decode()
        place = await file.tell()
        assert place == 700 + LINES[700:].index(b"\n") + 1
        text = await file.read(5)
        await file.seek(place)
        assert await file.read(5) == text
        await file.close()

    run(loop, main())


@pytest.fixture
def held(monkeypatch):
    """Each write waits for this before it begins."""
    gate = asyncio.Event()
    write = descriptor.Descriptor.write
    begun = asyncio.Event()

    async def waiting(self, data, offset, late=None):
        begun.set()
        await gate.wait()
        return await write(self, data, offset, late)

    monkeypatch.setattr(descriptor.Descriptor, "write", waiting)
    return begun, gate


@pytest.mark.parametrize("mode", ["wb", "ab"])
@pytest.mark.parametrize("buffering", [0, -1])
def test_number_given_away_during_a_write_is_behind_it(loop, tmp_path, held, mode, buffering):
    """Nothing that is on its way to an offset is written over what comes from others."""
    begun, gate = held
    path = tmp_path / "log"

    async def main():
        file = await uring_loop.open(path, mode, buffering=buffering)
        writing = asyncio.ensure_future(write_and_flush(file))
        await begun.wait()
        number = file.fileno()
        if mode == "wb":
            os.write(number, b"child")
            gate.set()
            await writing
        else:
            gate.set()
            await writing
            os.write(number, b"child")
        await file.write(b" more")
        await file.close()

    async def write_and_flush(file):
        await file.write(b"parent ")
        await file.flush()

    run(loop, main())
    assert path.read_bytes() == b"parent child more"


def test_number_given_away_during_a_read_is_behind_it(loop, path, monkeypatch):
    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)

    async def main():
        file = await uring_loop.open(path, "rb")
        reading = asyncio.ensure_future(file.read(1000))
        seeking = asyncio.ensure_future(file.seek(10, os.SEEK_CUR))
        await asyncio.sleep(0)
        number = file.fileno()
        assert await reading == LINES[:1000]
        await seeking
        assert os.read(number, 10) == LINES[1010:1020]
        assert await file.read(10) == LINES[1020:1030]
        await file.close()

    run(loop, main())


def test_cancelled_read_at_a_shared_position_loses_no_byte(loop, path, monkeypatch):
    """The kernel may have moved by then: what came too late is the next read's."""
    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)
    begun, gate = threading.Event(), threading.Event()
    os_read = os.read

    def slow(number, size):
        begun.set()
        gate.wait()
        return os_read(number, size)

    async def main():
        file = await uring_loop.open(os.open(path, os.O_RDONLY), "rb")
        monkeypatch.setattr(os, "read", slow)
        reading = asyncio.ensure_future(file.read(100))
        while not begun.is_set():
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert reading.cancelled()
        gate.set()
        assert await file.tell() == 0
        data = await file.read()
        await file.close()
        return data

    assert run(loop, main()) == LINES


@pytest.mark.parametrize("shared", [False, True], ids=["own position", "shared position"])
@pytest.mark.parametrize("late", [False, True], ids=["before the rest", "with the rest"])
def test_cancelled_read_whose_beginning_was_in_memory_keeps_it_in_front_of_the_rest(
    loop, path, monkeypatch, late, shared
):
    """Where both moved the kernel's position the next read has both, in their order."""
    monkeypatch.setattr(descriptor.Descriptor, "read_now", beginning_only)
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)
    arrived = calls._Call._arrived
    begun, gate = threading.Event(), threading.Event()
    function = (os, "read") if shared else (descriptor, "pread")
    real = getattr(*function)

    def slow(*arguments):
        begun.set()
        gate.wait()
        return real(*arguments)

    def arrive_and_cancel(self, value):
        arrived(self, value)
        reading.cancel()

    async def main():
        nonlocal reading
        what = os.open(path, os.O_RDONLY) if shared else path
        file = await uring_loop.open(what, "rb", buffering=0)
        assert await file.read1(2) == LINES[:2]
        with monkeypatch.context() as held:
            held.setattr(*function, slow)
            reading = asyncio.ensure_future(file.read1(1000))
            while not begun.is_set():
                await asyncio.sleep(0)
            if late:
                held.setattr(calls._Call, "_arrived", arrive_and_cancel)
                gate.set()
            else:
                reading.cancel()
            await asyncio.wait([reading])
            gate.set()
            assert reading.cancelled()
            assert await file.tell() == 2
        data = await file.read(5) + await file.readall()
        await file.close()
        return data

    reading = None
    assert run(loop, main()) == LINES[2:]


def beginning_only(self, size, offset):
    """As of a file of which a few bytes are in memory wherever it is read."""
    place = None if offset is None else os.lseek(self.number, offset, os.SEEK_SET)
    data = read_plainly(self.number, min(size, 3))
    if place is not None:
        os.lseek(self.number, place, os.SEEK_SET)
    return data, errno.EAGAIN if data and len(data) < size else 0


read_plainly = os.read


def test_read_whose_rest_cannot_be_read_gives_its_beginning_and_then_the_error(
    loop, path, monkeypatch
):
    async def fail(self, size, offset, late=None):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def main():
        async with uring_loop.open(path, "rb") as file:
            with monkeypatch.context() as failing:
                failing.setattr(descriptor.Descriptor, "read_now", beginning_only)
                failing.setattr(descriptor.Descriptor, "read", fail)
                assert await file.read1(10) == LINES[:3]
                failing.setattr(descriptor.Descriptor, "read_now", lambda *_: None)
                with pytest.raises(OSError) as caught:
                    await file.read1(10)
                assert caught.value.errno == errno.EIO
            assert await file.tell() == 3
            assert await file.read() == LINES[3:]

    run(loop, main())


@pytest.mark.parametrize("buffering", [0, -1])
def test_file_that_can_seek_and_be_read_at_no_offset_is_read_where_it_is(
    loop, path, monkeypatch, buffering
):
    def refuse(number, size, offset):
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)
    monkeypatch.setattr(descriptor.Descriptor, "read_into_now", lambda *_: None)
    monkeypatch.setattr(descriptor, "pread", refuse)
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)

    async def main():
        async with uring_loop.open(path, "rb", buffering) as file:
            await file.seek(5)
            assert await file.read(10) == LINES[5:15]
            assert await file.tell() == 15
            assert await file.seek(7) == 7
            assert await file.read() == LINES[7:]

    run(loop, main())


@pytest.mark.skipif(not hasattr(os, "SEEK_HOLE"), reason="this system knows no holes")
@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("given", [False, True], ids=["own position", "shared position"])
def test_seek_to_data_and_holes_goes_where_io_goes(loop, tmp_path, given, mode):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.seek(1 << 20)
        file.write(LINES)
    steps = [
        ("seek", 0, os.SEEK_DATA),
        ("read", 10),
        ("seek", 5, os.SEEK_CUR),
        ("seek", 4096, os.SEEK_HOLE),
        ("read", 10),
        ("seek", 1 << 20, os.SEEK_HOLE),
        ("read", 10),
        ("seek", 1 << 30, os.SEEK_DATA),
        ("tell",),
        ("seek", -30, os.SEEK_END),
        ("read", 3),
        ("seek", 1 << 19, os.SEEK_SET),
        ("read", 3),
        ("seek", 1 << 20, os.SEEK_CUR),
        ("tell",),
    ]

    async def main():
        async with uring_loop.open(path, mode) as ours:
            with open(path, mode) as theirs:
                if given:
                    ours.fileno()
                for name, *arguments in steps:
                    found = await outcome(getattr(ours, name), *arguments)
                    expected = await outcome(getattr(theirs, name), *arguments)
                    assert found == expected, (name, arguments)

    run(loop, main())


async def outcome(call, *arguments):
    try:
        return await value(call(*arguments))
    except OSError as error:
        return error.errno


@pytest.mark.skipif(not hasattr(os, "SEEK_DATA"), reason="this system knows no holes")
def test_number_given_away_during_a_seek_is_where_it_goes(loop, path):
    async def main():
        async with uring_loop.open(path, "rb") as file:
            assert await file.read(3) == LINES[:3]
            seeking = asyncio.ensure_future(file.seek(100, os.SEEK_DATA))
            await asyncio.sleep(0)
            assert not seeking.done()
            number = file.fileno()
            assert await seeking == 100
            assert os.read(number, 10) == LINES[100:110]
            assert await file.read(10) == LINES[110:120]

    run(loop, main())


@pytest.mark.parametrize("adopted", [False, True])
def test_number_given_away_twice_during_a_read_is_behind_it(loop, path, monkeypatch, adopted):
    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)

    async def main():
        what = os.open(path, os.O_RDONLY) if adopted else path
        async with uring_loop.open(what, "rb", buffering=0) as file:
            reading = asyncio.ensure_future(file.read(1000))
            await asyncio.sleep(0)
            number = file.fileno()
            assert file.fileno() == number
            assert await reading == LINES[:1000]
            assert os.read(number, 10) == LINES[1000:1010]
            assert await file.read(10) == LINES[1010:1020]

    run(loop, main())


def test_files_open_at_a_fork_are_shared_with_the_child(loop, tmp_path):
    path = tmp_path / "log"

    async def main():
        file = await uring_loop.open(path, "wb")
        await file.write(b"parent\n")
        await file.flush()
        child = os.fork()
        if child == 0:
            try:
                os.write(file.fileno(), b"child\n")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        await file.write(b"end\n")
        await file.close()

    run(loop, main())
    assert path.read_bytes() == b"parent\nchild\nend\n"


def test_who_was_told_the_number_may_move_the_position_at_any_time(loop, path):

    async def main():
        file = await uring_loop.open(path, "r+b")
        number = file.fileno()
        await file.seek(100)
        assert os.lseek(number, 0, os.SEEK_CUR) == 100
        os.lseek(number, 200, os.SEEK_SET)
        assert await file.tell() == 200
        assert await file.read(10) == LINES[200:210]
        await file.flush()
        assert os.lseek(number, 0, os.SEEK_CUR) == 210
        assert await file.truncate() == 210
        await file.close()

    run(loop, main())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 300)),
        st.tuples(st.just("readline")),
        st.tuples(st.just("write"), st.binary(min_size=1, max_size=50)),
        st.tuples(st.just("seek"), st.integers(0, 4000), st.just(0)),
        st.tuples(st.just("seek"), st.integers(-10, 10), st.just(1)),
        st.tuples(st.just("seek"), st.integers(-100, 10), st.just(2)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("tell")),
        st.tuples(st.just("truncate")),
        st.tuples(st.just("other writes"), st.binary(min_size=1, max_size=50)),
        st.tuples(st.just("other reads"), st.integers(1, 50)),
        st.tuples(st.just("other seeks"), st.integers(0, 4000)),
    ),
    max_size=15,
)


async def step(file, number, name, arguments):
    try:
        match name:
            case "other writes":
                return os.write(number, *arguments)
            case "other reads":
                return os.read(number, *arguments)
            case "other seeks":
                return os.lseek(number, *arguments, os.SEEK_SET)
        return await value(getattr(file, name)(*arguments))
    except (OSError, ValueError) as error:
        return type(error), getattr(error, "errno", None)


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(mode=st.sampled_from(["rb", "r+b", "wb", "w+b"]), given=st.booleans(), steps=STEPS)
def test_any_order_of_calls_of_two_owners_does_what_io_does(loop, tmp_path, mode, given, steps):
    """Unbuffered, where no guess of how much to read ahead shows."""
    paths = tmp_path / "ours", tmp_path / "theirs"
    for path in paths:
        path.write_bytes(LINES[:3000])

    async def main():
        files, others = [], []
        for path, opener in zip(paths, (uring_loop.open, open), strict=True):
            if given:
                flags = os.O_RDWR | (os.O_TRUNC if "w" in mode else 0)
                files.append(await value(opener(os.open(path, flags), mode, 0)))
            else:
                files.append(await value(opener(path, mode, 0)))
            others.append(os.dup(files[-1].fileno()))
        for name, *arguments in steps:
            results = [
                await step(file, other, name, arguments)
                for file, other in zip(files, others, strict=True)
            ]
            assert results[0] == results[1], (name, arguments)
        for file, other in zip(files, others, strict=True):
            await value(file.close())
            os.close(other)

    run(loop, main())
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_redirected_print_and_child_share_a_file(loop, tmp_path):
    """A standard output that is a file is adopted by its number."""
    path = tmp_path / "out"
    program = (
        "import asyncio, os, subprocess, uring_loop\n"
        "async def main():\n"
        "    out = await uring_loop.open(1, 'w', closefd=False)\n"
        "    for number in range(3):\n"
        "        print('print', number, flush=True)\n"
        "        await out.write(f'ours {number}\\n')\n"
        "        await out.flush()\n"
        "        subprocess.run(['echo', 'child'])\n"
        "    await out.close()\n"
        f"{'asyncio' if not hasattr(loop, 'driver') else 'uring_loop'}.new_event_loop()"
        ".run_until_complete(main())\n"
    )
    with open(path, "wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, timeout=60)
    rows = [f"print {number}\nours {number}\nchild\n" for number in range(3)]
    assert path.read_text() == "".join(rows)
