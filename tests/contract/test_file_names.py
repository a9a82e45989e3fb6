"""What code written for aiofiles finds in uring_loop.files: modules, arguments, streams."""

import asyncio
import concurrent.futures
import gc
import importlib
import io
import os
import subprocess
import sys
import tempfile
import threading

import pytest
from harness import run

import uring_loop
from uring_loop import files

# Names that aiofiles exports, from its documentation.
OF_AIOFILES = {
    "": "open stdin stdout stderr stdin_bytes stdout_bytes stderr_bytes os ospath tempfile",
    ".os": "path stat rename renames replace remove unlink mkdir makedirs rmdir removedirs link"
    " symlink readlink listdir scandir access wrap getcwd sendfile statvfs",
    ".ospath": "abspath getatime getctime getmtime getsize exists isdir isfile islink ismount"
    " samefile sameopenfile",
    ".tempfile": "NamedTemporaryFile TemporaryFile SpooledTemporaryFile TemporaryDirectory",
}


@pytest.mark.parametrize("module", OF_AIOFILES)
def test_module_of_aiofiles_has_a_namesake_with_its_names_and_shows_no_others(module):
    found = importlib.import_module("uring_loop.files" + module)
    names = OF_AIOFILES[module].split()
    assert [name for name in names if not hasattr(found, name)] == []
    shown = {name for name in dir(found) if not name.startswith("_")}
    assert set(names) <= shown == set(found.__all__)


def test_names_are_found_in_a_fresh_interpreter_without_imports_of_their_modules():
    code = (
        "from uring_loop import files as aiofiles;"
        "print(aiofiles.os.stat, aiofiles.tempfile.TemporaryFile, aiofiles.stdout.write)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_loop_and_executor_are_taken_wherever_aiofiles_takes_them(loop, tmp_path):
    path = tmp_path / "file"

    async def main():
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            options = {"loop": loop, "executor": executor}
            async with files.open(path, "w", **options) as file:
                await file.write("text")
            assert (await files.os.stat(path, **options)).st_size == 4
            assert await files.os.path.getsize(path, **options) == 4
            await files.os.rename(path, tmp_path / "other", **options)
            assert await files.os.listdir(tmp_path, **options) == ["other"]
            async with files.tempfile.TemporaryFile(dir=tmp_path, **options):
                pass
            async with files.tempfile.TemporaryDirectory(dir=tmp_path, **options):
                pass

    run(loop, main())


def test_wrap_calls_in_the_executor_that_it_is_given(loop):
    async def main():
        with concurrent.futures.ThreadPoolExecutor(1, "given") as executor:
            name = files.os.wrap(lambda: threading.current_thread().name)
            assert (await name(executor=executor)).startswith("given")
            assert (await name(loop=loop)).startswith("asyncio")
            assert await files.os.wrap(divmod)(7, 2) == (3, 1)

    run(loop, main())


def test_sendfile_copies_between_descriptors(loop, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789")

    async def main():
        with open(source, "rb") as reader, open(target, "wb") as writer:
            sent = await files.os.sendfile(writer.fileno(), reader.fileno(), 2, 5)
        assert sent == 5

    run(loop, main())
    assert target.read_bytes() == b"23456"


def test_errors_are_those_of_os(loop, tmp_path):
    async def main():
        with pytest.raises(FileNotFoundError) as caught:
            await files.os.remove(tmp_path / "missing")
        assert caught.value.filename == str(tmp_path / "missing")
        with pytest.raises(FileNotFoundError):
            await files.os.path.getsize(tmp_path / "missing")

    run(loop, main())


# The standard streams.


def test_standard_streams_are_what_sys_has_at_that_moment(loop, monkeypatch):
    text, error = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\nthree"))
    monkeypatch.setattr(sys, "stdout", text)
    monkeypatch.setattr(sys, "stderr", error)

    async def main():
        assert await files.stdin.readline() == "one\n"
        assert [line async for line in files.stdin] == ["two\n", "three"]
        assert await files.stdout.write("written") == 7
        await files.stdout.writelines([" and", " more"])
        await files.stdout.flush()
        await files.stderr.write("wrong")
        assert await files.stdout.isatty() is False

    run(loop, main())
    assert (text.getvalue(), error.getvalue()) == ("written and more", "wrong")


def test_standard_streams_tell_what_they_are_as_sys_has_them(loop, monkeypatch, tmp_path):
    async def main():
        with open(tmp_path / "file", "w") as file:
            monkeypatch.setattr(sys, "stdout", file)
            assert repr(files.stdout) == "<asynchronous sys.stdout>"
            assert repr(files.stdout_bytes) == "<asynchronous sys.stdout.buffer>"
            for stream, theirs in ((files.stdout, file), (files.stdout_bytes, file.buffer)):
                for name in ("readable", "writable", "seekable", "isatty"):
                    assert await getattr(stream, name)() == getattr(theirs, name)()
                assert stream.fileno() == file.fileno()
                assert stream.name == str(theirs.name)
                assert stream.closed is False
        assert files.stdout.closed is True

    run(loop, main())


def test_standard_streams_of_bytes_are_the_buffers(loop, monkeypatch):
    received = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb")))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(received))

    async def main():
        assert await files.stdin_bytes.read(1) == b"a"
        assert await files.stdin_bytes.readlines() == [b"\n", b"b"]
        await files.stdout_bytes.write(b"\xff")
        await files.stdout_bytes.flush()

    run(loop, main())
    assert received.getvalue() == b"\xff"


# Temporary files.


@pytest.mark.parametrize("delete", [True, False])
def test_named_temporary_file_is_removed_when_it_is_closed_unless_told(loop, tmp_path, delete):
    async def main():
        async with files.tempfile.NamedTemporaryFile(
            "w+", suffix=".txt", prefix="pre", dir=tmp_path, delete=delete
        ) as file:
            assert os.path.dirname(file.name) == str(tmp_path)
            name = os.path.basename(file.name)
            assert (name[:3], name[-4:]) == ("pre", ".txt")
            assert os.stat(file.name).st_mode & 0o777 == 0o600
            await file.write("grüß")
            await file.seek(0)
            assert await file.read() == "grüß"
        assert os.path.exists(file.name) is not delete
        assert file.delete is delete

    run(loop, main())


def test_named_temporary_file_outlives_its_close_until_the_end_of_with_if_told(loop, tmp_path):
    async def main():
        opening = files.tempfile.NamedTemporaryFile(dir=tmp_path, delete_on_close=False)
        async with opening as file:
            await file.write(b"12")
            await file.close()
            async with uring_loop.open(file.name, "rb") as again:
                assert await again.read() == b"12"
        assert os.listdir(tmp_path) == []

    run(loop, main())


def test_named_temporary_file_that_somebody_else_removed_closes_in_peace(loop, tmp_path):
    async def main():
        async with files.tempfile.NamedTemporaryFile(dir=tmp_path) as file:
            os.unlink(file.name)

    run(loop, main())


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_named_temporary_file_that_is_forgotten_is_removed(loop, tmp_path):
    async def main():
        file = await files.tempfile.NamedTemporaryFile(dir=tmp_path)
        assert len(os.listdir(tmp_path)) == 1
        del file

    run(loop, main())
    gc.collect()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode, data", [("w+b", b"\x00one\ntwo"), ("w+", "öne\ntwo")])
def test_temporary_file_has_no_name_and_reads_what_was_written(loop, tmp_path, mode, data):
    async def main():
        async with files.tempfile.TemporaryFile(mode, dir=tmp_path, encoding=None) as file:
            assert os.listdir(tmp_path) == []
            await file.write(data)
            assert await file.seek(0) == 0
            assert [line async for line in file] == data.splitlines(keepends=True)

    run(loop, main())


def test_temporary_file_takes_the_arguments_of_open_and_refuses_as_it_does(loop, tmp_path):
    with pytest.raises(ValueError, match="encoding"):
        files.tempfile.TemporaryFile("w+b", encoding="utf-8")
    with pytest.raises(ValueError, match="mode"):
        files.tempfile.NamedTemporaryFile("q")
    with pytest.raises(LookupError):
        files.tempfile.SpooledTemporaryFile(mode="w+", encoding="no such")

    async def main():
        with pytest.raises(FileNotFoundError):
            await files.tempfile.TemporaryFile(dir=tmp_path / "missing")

    run(loop, main())


@pytest.mark.parametrize(
    "mode, newline, pieces",
    [
        ("w+b", None, [b"12345", b"67890", b"\n", b"rest"]),
        ("w+", None, ["1234é", "67890", "\n", "rest"]),
        ("w+", "", ["12\r\n5", "67890", "\n", "rest"]),
    ],
)
@pytest.mark.parametrize("max_size", [0, 3, 7, 100])
def test_spooled_file_reads_the_same_in_memory_and_on_the_disk(
    loop, tmp_path, mode, newline, pieces, max_size
):
    options = {"mode": mode, "newline": newline, "encoding": None if "b" in mode else "utf-8"}
    steps = [
        *[("write", piece) for piece in pieces],
        ("tell",),
        ("seek", 0),
        ("read", 3),
        ("readline",),
        ("read",),
        ("seek", 0),
        ("readlines",),
        ("seek", 2),
        ("truncate",),
        ("seek", 0),
        ("read",),
    ]
    expected = []
    with tempfile.SpooledTemporaryFile(**options) as file:
        for name, *arguments in steps:
            expected.append(getattr(file, name)(*arguments))

    async def main():
        async with files.tempfile.SpooledTemporaryFile(max_size, **options) as file:
            found = [await getattr(file, name)(*arguments) for name, *arguments in steps]
            assert os.fstat(await file.fileno()).st_nlink == 0
            assert await file.seek(0) == 0
            assert await file.read() == expected[-1]
        assert file.closed
        return found

    assert run(loop, main()) == expected


@pytest.mark.parametrize("rolled", [False, True])
def test_spooled_file_is_closed_by_close_in_memory_and_on_the_disk(loop, tmp_path, rolled):
    async def main():
        file = await files.tempfile.SpooledTemporaryFile(dir=tmp_path)
        async with file as same:
            assert same is file
            await file.write(b"12")
            if rolled:
                await file.rollover()
                await file.rollover()
                await file.seek(0)
                assert await file.read() == b"12"
            await file.close()
            assert file.closed
            with pytest.raises(ValueError):
                await file.write(b"3")

    run(loop, main())


@pytest.mark.parametrize("mode", ["w+b", "w+"])
def test_named_temporary_file_that_cannot_be_made_a_file_leaves_no_name(
    loop, tmp_path, monkeypatch, mode
):
    async def fail(*_):
        raise MemoryError

    monkeypatch.setattr("uring_loop._internal.files.tempfile.settle", fail)

    async def main():
        with pytest.raises(MemoryError):
            await files.tempfile.NamedTemporaryFile(mode, dir=tmp_path)

    run(loop, main())
    assert os.listdir(tmp_path) == []


def test_temporary_directory_gives_its_path_and_is_removed_with_what_is_in_it(loop, tmp_path):
    async def main():
        async with files.tempfile.TemporaryDirectory(prefix="d", dir=tmp_path) as name:
            async with uring_loop.open(os.path.join(name, "file"), "w") as file:
                await file.write("x")
        assert os.listdir(tmp_path) == []
        directory = await files.tempfile.TemporaryDirectory(dir=tmp_path)
        assert os.path.isdir(directory.name)
        await directory.cleanup()
        assert os.listdir(tmp_path) == []

    run(loop, main())


def test_cancelled_making_leaves_nothing_behind(loop, tmp_path):
    async def main():
        for make in (
            files.tempfile.NamedTemporaryFile,
            files.tempfile.TemporaryFile,
            files.tempfile.TemporaryDirectory,
        ):
            async def wait(make=make):
                await make(dir=tmp_path)

            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await loop.shutdown_default_executor()
        assert os.listdir(tmp_path) == []

    run(loop, main())
