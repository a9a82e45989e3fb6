"""Asynchronous files of text: decoding, line ends, encoding, and positions among them."""

import asyncio
import io
import os
import struct

import pytest
from harness import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_files import awaited_outcome_of, outcome_of

import uring_loop

NEWLINES = [None, "", "\n", "\r", "\r\n"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "ascii", "shift_jis", "utf-7"]
TEXT = "one\ntwo\r\nthree\rfour\n\r\n\rend" * 900


@pytest.mark.parametrize("newline", NEWLINES)
def test_lines_end_where_io_ends_them(loop, tmp_path, newline):
    path = tmp_path / "text"
    path.write_text(TEXT, newline="")

    async def main():
        async with uring_loop.open(path, newline=newline) as file:
            lines = [line async for line in file]
            with open(path, newline=newline) as other:
                assert lines == other.readlines()
                assert file.newlines == other.newlines

    run(loop, main())


@pytest.mark.parametrize("newline", NEWLINES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_is_written_as_io_writes_it(loop, tmp_path, newline, encoding):
    options = {"encoding": encoding, "newline": newline}

    async def main():
        for mode in ("w", "a", "r+"):
            async with uring_loop.open(tmp_path / "ours", mode, **options) as file:
                assert await file.write("one\ntwo\r\n") == 9
                await file.writelines(["three\r", "four"])
            with open(tmp_path / "theirs", mode, **options) as other:
                other.write("one\ntwo\r\n")
                other.writelines(["three\r", "four"])
            assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()

    run(loop, main())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_position_that_was_told_is_found_again(loop, tmp_path, encoding):
    path = tmp_path / "text"
    letters = "aé漢b" if encoding.startswith("utf") else "ab"
    path.write_text(f"{letters}\r\n" * 4000, encoding=encoding, newline="")

    async def main():
        for newline in NEWLINES:
            async with uring_loop.open(path, encoding=encoding, newline=newline) as file:
                places = []
                while True:
                    place = await file.tell()
                    text = await file.read(997)
                    places.append((place, text))
                    if not text:
                        break
                for place, text in reversed(places):
                    await file.seek(place)
                    assert await file.tell() == place
                    assert await file.read(997) == text

    run(loop, main())


def test_positions_of_plain_encodings_are_those_of_io(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("aé漢\n" * 5000)

    async def main():
        async with uring_loop.open(path, encoding="utf-8") as file:
            with open(path, encoding="utf-8") as other:
                for size in (1, 2, 3, 1000, 8192, 5):
                    assert await file.read(size) == other.read(size)
                    assert await file.tell() == other.tell()

    run(loop, main())


def test_tell_works_between_lines(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("first\nsecond\nthird\n")

    async def main():
        async with uring_loop.open(path) as file:
            async for line in file:
                if line == "first\n":
                    place = await file.tell()
            await file.seek(place)
            return await file.readline()

    assert run(loop, main()) == "second\n"


def test_seek_refuses_as_io_does(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("text")

    async def main():
        async with uring_loop.open(path) as file:
            with pytest.raises(io.UnsupportedOperation):
                await file.seek(1, 1)
            with pytest.raises(io.UnsupportedOperation):
                await file.seek(1, 2)
            with pytest.raises(ValueError):
                await file.seek(-1)
            with pytest.raises(ValueError):
                await file.seek(0, 9)

    run(loop, main())


def test_what_cannot_be_coded_raises_and_takes_nothing(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "text", "w+", encoding="ascii") as file:
            await file.write("a")
            with pytest.raises(UnicodeEncodeError):
                await file.write("é")
            await file.write("b")
        assert (tmp_path / "text").read_bytes() == b"ab"
        (tmp_path / "bad").write_bytes(b"ab\xff")
        async with uring_loop.open(tmp_path / "bad", encoding="utf-8") as file:
            with pytest.raises(UnicodeDecodeError):
                await file.read()
        async with uring_loop.open(
            tmp_path / "bad", encoding="utf-8", errors="replace"
        ) as file:
            assert await file.read() == "ab�"

    run(loop, main())


def test_attributes_are_those_of_io(loop, tmp_path):
    path = tmp_path / "text"
    path.touch()

    async def main():
        for mode, options in (
            ("r", {}),
            ("w", {"encoding": "latin1"}),
            ("a+", {"encoding": "utf-8", "errors": "ignore", "buffering": 1}),
        ):
            async with uring_loop.open(path, mode, **options) as ours:
                with open(path, mode, **options) as theirs:
                    for name in ("name", "mode", "encoding", "errors", "line_buffering"):
                        assert getattr(ours, name) == getattr(theirs, name)
                    for name in ("readable", "writable", "seekable", "isatty"):
                        assert getattr(ours, name)() == getattr(theirs, name)()
                    what = f"name={str(path)!r} mode={mode!r} encoding={theirs.encoding!r}"
                    assert repr(ours) == f"<TextFile {what}>"
                    assert ours.buffer.mode == theirs.buffer.mode

    run(loop, main())


def test_positions_along_a_long_file_are_those_of_io(loop, tmp_path):
    """Its text is let go of piece by piece, in the middle of what was decoded."""
    path = tmp_path / "text"
    path.write_text("".join(f"line \u00e9 {number}\n" for number in range(5000)), encoding="utf-8")

    async def main():
        async with uring_loop.open(path, encoding="utf-8") as file:
            with open(path, encoding="utf-8") as other:
                while line := await file.readline():
                    assert line == other.readline()
                    assert await file.tell() == other.tell()
                assert other.readline() == ""
                for size in (70_000, 10, 5_000, 3):
                    assert await file.seek(0) == other.seek(0)
                    assert await file.read(size) == other.read(size)
                    assert await file.readline(4) == other.readline(4)
                    assert await file.readline(1) == other.readline(1)
                    told = await file.tell()
                    rest = await file.read()
                    assert rest == other.read()
                    await file.seek(told)
                    assert await file.read() == rest

    run(loop, main())


@pytest.mark.parametrize("size", [0, 1, 4, 6, 7, -1])
def test_line_without_an_end_is_read_by_so_many_characters(loop, tmp_path, size):
    path = tmp_path / "text"
    path.write_text("abcdef")

    async def main():
        async with uring_loop.open(path) as file:
            with open(path) as other:
                for _ in range(3):
                    assert await file.readline(size) == other.readline(size)
                    assert await file.tell() == other.tell()

    run(loop, main())


def test_text_is_read_behind_what_was_just_written(loop, tmp_path):
    """As io does after a flush(); without one it reads, and writes, somewhere else."""
    found = {}
    for name in ("ours", "theirs"):
        (tmp_path / name).write_text("one\ntwo\nthree\n")

    async def main():
        async with uring_loop.open(tmp_path / "ours", "r+") as file:
            await file.write("ONE\n")
            found["ours"] = [await file.readline(), await file.write("x"), await file.read()]

    run(loop, main())
    with open(tmp_path / "theirs", "r+") as file:
        file.write("ONE\n")
        file.flush()
        found["theirs"] = [file.readline(), file.write("x"), file.read()]
    assert found["ours"] == found["theirs"]
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_bytes_of_a_text_are_synced_read_and_written_at_offsets(loop, tmp_path):
    path = tmp_path / "text"

    async def main():
        async with uring_loop.open(path, "w+", encoding="utf-8") as file:
            for sync in (file.fsync, file.fdatasync, file.flush):
                await file.write("\u00e9")
                await sync()
                assert path.read_text("utf-8").endswith("\u00e9")
            assert await file.pread(2, 2) == b"\xc3\xa9"
            assert await file.pwrite(b"ab", 2) == 2
            assert await file.tell() == 6
            await file.seek(0)
            assert await file.read() == "\u00e9ab\u00e9"

    run(loop, main())


def test_close_comes_after_the_calls_made_before_it(loop, tmp_path):
    path = tmp_path / "text"

    async def main():
        file = await uring_loop.open(path, "w", buffering=1)
        calls = [file.write("one\n"), file.write("two\n"), file.close()]
        await asyncio.gather(*calls)
        assert file.closed
        with pytest.raises(ValueError):
            await file.write("three\n")

    run(loop, main())
    assert path.read_text() == "one\ntwo\n"


@pytest.mark.parametrize(
    "cookie",
    [
        2**200,
        2**168,
        -(2**200),
        2**63,
        # position, decoder's flags, bytes to feed it, characters to skip, whether to end it
        int.from_bytes(struct.pack("<qiiib", 0, 0, 3, 10, 0), "little"),
        int.from_bytes(struct.pack("<qiiib", 2, 0, 3, 2, 1), "little"),
        int.from_bytes(struct.pack("<qiiib", 0, 0, 3, 3, 0), "little"),
        int.from_bytes(struct.pack("<qiiib", 100, 0, 3, 1, 0), "little"),
    ],
)
@pytest.mark.parametrize("mode", ["r", "r+", "w"])
def test_position_that_nobody_told_is_refused_or_found_as_io_does(loop, tmp_path, cookie, mode):
    path = tmp_path / "text"
    path.write_bytes(b"one\ntwo\n")

    def outcome(error):
        return type(error), getattr(error, "errno", None)

    async def ours():
        async with uring_loop.open(path, mode) as file:
            try:
                return await file.seek(cookie), await file.read() if mode != "w" else ""
            except (OSError, ValueError, OverflowError) as error:
                return outcome(error)

    def theirs():
        with open(path, mode) as file:
            try:
                return file.seek(cookie), file.read() if mode != "w" else ""
            except (OSError, ValueError, OverflowError) as error:
                return outcome(error)

    assert run(loop, ours()) == theirs()


def test_text_of_a_pipe_knows_no_position(loop):
    async def main():
        theirs, ours = os.pipe()
        async with uring_loop.open(ours, "w") as file:
            assert not file.seekable()
            assert file.fileno() == ours
            for call in (file.tell(), file.seek(0), file.seek(0, os.SEEK_END)):
                with pytest.raises(io.UnsupportedOperation):
                    await call
            await file.write("text")
        assert os.read(theirs, 10) == b"text"
        os.close(theirs)

    run(loop, main())


def test_line_buffering_hands_over_each_line(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "text", "w", buffering=1) as file:
            await file.write("begun")
            assert (tmp_path / "text").read_text() == ""
            await file.write(" and ended\n")
            assert (tmp_path / "text").read_text() == "begun and ended\n"

    run(loop, main())


def test_a_file_does_only_what_it_was_opened_for(loop, tmp_path):
    path = tmp_path / "text"
    path.touch()

    async def main():
        async with uring_loop.open(path) as file:
            with pytest.raises(io.UnsupportedOperation, match="not writable"):
                await file.write("x")
            with pytest.raises(io.UnsupportedOperation):
                await file.truncate()
        async with uring_loop.open(path, "w") as file:
            with pytest.raises(io.UnsupportedOperation, match="not readable"):
                await file.read()
            with pytest.raises(TypeError):
                await file.write(b"bytes")
        with pytest.raises(ValueError):
            await file.write("x")

    run(loop, main())


def test_calls_run_in_the_order_they_were_made(loop, tmp_path):
    async def main():
        async with uring_loop.open(tmp_path / "text", "w+") as file:
            results = await asyncio.gather(
                file.write("one\n"), file.write("two\n"), file.seek(0), file.readline(), file.read()
            )
        return results

    assert run(loop, main()) == [4, 4, 0, "one\n", "two\n"]


def test_position_behind_what_was_appended_is_the_end(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("\u6f22\u5b57", encoding="utf-8")

    async def main():
        async with uring_loop.open(path, "a+", encoding="utf-8") as file:
            await file.seek(0)
            await file.write("a")
            told = await file.tell()
            await file.seek(0)
            await file.write("b")
            return told, await file.seek(0, os.SEEK_CUR), await file.read()

    assert run(loop, main()) == (7, 8, "")


@pytest.mark.parametrize("count", [3462, 3469, 3470, 3471, 3472])
def test_what_is_written_after_reading_into_a_line_end_is_where_io_writes_it(
    loop, tmp_path, count
):
    """Between the two characters of a line end there are two places for one text."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        path.write_text("aaaa\u00e9\u00e9\r\n\u6f22\r" * 400, encoding="utf-8", newline="")

    async def main():
        async with uring_loop.open(ours, "r+", encoding="utf-8") as file:
            await file.read(count)
            await file.seek(0, os.SEEK_CUR)
            await file.write("a")

    run(loop, main())
    with open(theirs, "r+", encoding="utf-8") as other:
        other.read(count)
        other.seek(0, os.SEEK_CUR)
        other.write("a")
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("newline", [None, ""])
def test_position_behind_a_last_carriage_return_is_the_end(loop, tmp_path, newline):
    path = tmp_path / "text"
    path.write_bytes(b"one\r")

    async def main():
        async with uring_loop.open(path, newline=newline) as file:
            text = await file.read(100)
            return text, await file.tell()

    assert run(loop, main()) == ("one\n" if newline is None else "one\r", 4)


# Any order of calls does what io's files do.

LETTERS = st.text(st.sampled_from("a\n\ré漢"), max_size=30)
READING = st.one_of(
    st.tuples(st.just("read"), st.integers(-1, 9000)),
    st.tuples(st.just("read"), st.integers(1, 20)),
    st.tuples(st.just("readline"), st.integers(-1, 30).filter(bool)),
    # With a hint io disables tell(), and the position is lost.
    st.tuples(st.just("readlines")),
    st.tuples(st.just("seek"), st.just(0), st.sampled_from([0, 2])),
)
WRITING = st.one_of(
    st.tuples(st.just("write"), LETTERS),
    st.tuples(st.just("seek"), st.just(0), st.sampled_from([0, 2])),
    st.tuples(st.just("flush")),
)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    content=LETTERS.map(lambda text: (text + "é\r\n漢\r") * 400),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    newline=st.sampled_from(NEWLINES),
    mode=st.sampled_from(["r", "r+", "a+", "w+"]),
    rounds=st.lists(
        st.one_of(st.lists(READING, max_size=6), st.lists(WRITING, max_size=6)), max_size=4
    ),
)
def test_any_order_of_calls_does_what_io_does(
    loop, tmp_path, content, encoding, newline, mode, rounds
):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path in (ours, theirs):
        path.write_text(content, encoding=encoding, newline="")
    options = {"encoding": encoding, "newline": newline}

    async def main():
        async with uring_loop.open(ours, mode, **options) as file:
            with open(theirs, mode, **options) as other:
                for steps in rounds:
                    for name, *arguments in [*steps, ("seek", 0, 1)]:
                        found = await awaited_outcome_of(getattr(file, name), *arguments)
                        expected = outcome_of(getattr(other, name), *arguments)
                        if name != "seek":
                            assert found == expected, (name, arguments)
                        if expected == (UnicodeDecodeError, None):
                            return  # where io is then depends on what it had buffered

    run(loop, main())
    assert ours.read_bytes() == theirs.read_bytes()


def test_appending_after_a_seek_is_known_to_end_at_the_end(loop, tmp_path):
    path = tmp_path / "text"
    path.write_text("é\nöö\n", encoding="utf-8")

    async def main():
        async with uring_loop.open(path, "a+", encoding="utf-8") as file:
            await file.seek(0)
            await file.write("a")
            return await file.seek(0, io.SEEK_CUR), await file.read(1)

    assert run(loop, main()) == (9, "")
