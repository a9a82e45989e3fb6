"""Asynchronous files of text: decoding, line ends, encoding, and positions among them."""

import asyncio
import io
import os

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
                    assert ours.buffer.mode == theirs.buffer.mode

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
