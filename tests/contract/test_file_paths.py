"""What `os` does with paths and descriptors, awaited: results and errors are those of `os`."""

import os

import pytest
from harness import run

import uring_loop
from uring_loop import paths


def test_stat_gives_what_os_stat_gives(loop, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(-1_500_000_000, 1_234_567_890_123_456_789))
    (tmp_path / "link").symlink_to("file")
    directory = os.open(tmp_path, os.O_RDONLY)

    def fields(result):
        return {name: getattr(result, name) for name in dir(result) if name.startswith("st_")}

    async def main():
        for target in (path, str(path), os.fsencode(path), tmp_path, "/dev/null", "/"):
            ours, theirs = await paths.stat(target), os.stat(target)
            assert type(ours) is os.stat_result
            assert ours == theirs
            assert fields(ours) == fields(theirs)
        link = tmp_path / "link"
        assert await paths.stat(link) == os.stat(link)
        assert await paths.lstat(link) == os.lstat(link)
        assert await paths.stat("file", dir_fd=directory) == os.stat(path)
        assert await paths.stat(directory) == await paths.fstat(directory) == os.stat(directory)

    run(loop, main())
    os.close(directory)


def test_names_are_made_moved_and_removed(loop, tmp_path):
    async def main():
        await paths.mkdir(tmp_path / "d", 0o700)
        assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
        async with uring_loop.open(tmp_path / "d" / "a", "w") as file:
            await file.write("x")
        await paths.link(tmp_path / "d" / "a", tmp_path / "d" / "b")
        assert (tmp_path / "d" / "b").stat().st_nlink == 2
        await paths.symlink("b", tmp_path / "d" / "c")
        assert await paths.readlink(tmp_path / "d" / "c") == "b"
        await paths.rename(tmp_path / "d" / "a", tmp_path / "d" / "e")
        await paths.replace(tmp_path / "d" / "e", tmp_path / "d" / "b")
        assert sorted(await paths.listdir(tmp_path / "d")) == ["b", "c", "e"]
        await paths.unlink(tmp_path / "d" / "c")
        await paths.remove(tmp_path / "d" / "b")
        await paths.remove(tmp_path / "d" / "e")
        await paths.rmdir(tmp_path / "d")
        assert not await paths.path.exists(tmp_path / "d")
        await paths.makedirs(tmp_path / "x" / "y")
        assert await paths.path.isdir(tmp_path / "x" / "y")

    run(loop, main())


def test_a_link_to_a_symbolic_link_is_what_os_makes(loop, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "symlink").symlink_to("file")

    async def main():
        for number, options in enumerate(({}, {"follow_symlinks": False})):
            await paths.link(tmp_path / "symlink", tmp_path / f"ours{number}", **options)
            os.link(tmp_path / "symlink", tmp_path / f"theirs{number}", **options)
            assert (tmp_path / f"ours{number}").is_symlink() == (
                tmp_path / f"theirs{number}"
            ).is_symlink()

    run(loop, main())


def test_names_relative_to_a_directory(loop, tmp_path):
    directory = os.open(tmp_path, os.O_RDONLY)

    async def main():
        await paths.mkdir("d", dir_fd=directory)
        await paths.symlink("d", "s", dir_fd=directory)
        await paths.rename("s", "t", src_dir_fd=directory, dst_dir_fd=directory)
        assert (tmp_path / "t").is_symlink()
        await paths.unlink("t", dir_fd=directory)
        await paths.rmdir("d", dir_fd=directory)

    run(loop, main())
    os.close(directory)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("stat", ("missing",)),
        ("lstat", ("file/x",)),
        ("rename", ("missing", "other")),
        ("replace", ("file", "directory")),
        ("unlink", ("missing",)),
        ("unlink", ("directory",)),
        ("remove", ("missing",)),
        ("mkdir", ("directory",)),
        ("mkdir", ("missing/x",)),
        ("rmdir", ("file",)),
        ("rmdir", ("missing",)),
        ("link", ("missing", "other")),
        ("link", ("file", "directory")),
        ("symlink", ("x", "file")),
        ("listdir", ("missing",)),
        ("unlink", ("nul\0",)),
        ("stat", (1.5,)),
        ("rename", (None, "x")),
    ],
)
def test_errors_are_those_of_os_with_their_filenames(
    loop, tmp_path, monkeypatch, name, arguments
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()

    async def main():
        with pytest.raises(Exception) as theirs:
            getattr(os, name)(*arguments)
        with pytest.raises(Exception) as ours:
            await getattr(paths, name)(*arguments)
        assert type(ours.value) is type(theirs.value)
        if isinstance(ours.value, OSError):
            for attribute in ("errno", "strerror", "filename", "filename2"):
                assert getattr(ours.value, attribute) == getattr(theirs.value, attribute)

    run(loop, main())


def test_what_threads_do_with_paths_is_what_os_does(loop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def prepare(folder):
        (tmp_path / folder / "a" / "b").mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(b"12345")
        os.utime(tmp_path / folder / "file", ns=(5, 6))

    steps = [
        ("access", ("file", os.R_OK), {}),
        ("access", ("missing", os.R_OK), {"follow_symlinks": False}),
        ("utime", ("file", (1, 2)), {}),
        ("utime", ("file",), {"ns": (3_000_000_001, 4_000_000_002)}),
        ("utime", ("file", (1, 2)), {"ns": (3, 4)}),
        ("utime", ("missing",), {}),
        ("truncate", ("file", 2), {}),
        ("truncate", ("missing", 2), {}),
        ("renames", ("a/b", "c/d/e"), {}),
        ("removedirs", ("c/d/e",), {}),
        ("removedirs", ("c/d/e",), {}),
        ("renames", ("missing", "x/y"), {}),
    ]

    def state():
        file = os.stat("file")
        names = sorted(name for folder in os.walk(".") for name in (*folder[1], *folder[2]))
        # Of when it was cut only that it was then.
        return names, file.st_size, file.st_mtime_ns if file.st_size == 5 else None

    async def main():
        for name, arguments, options in steps:
            os.chdir(tmp_path / "ours")
            try:
                found = await getattr(paths, name)(*arguments, **options)
            except (OSError, ValueError) as error:
                found = type(error), str(error)
            after = state()
            os.chdir(tmp_path / "theirs")
            try:
                expected = getattr(os, name)(*arguments, **options)
            except (OSError, ValueError) as error:
                expected = type(error), str(error)
            assert (found, after) == (expected, state()), (name, arguments)
        assert await paths.getcwd() == os.getcwd()
        assert (await paths.statvfs(tmp_path)).f_bsize == os.statvfs(tmp_path).f_bsize

    prepare("ours")
    prepare("theirs")
    run(loop, main())


def test_open_descriptors_are_synced_cut_and_given_room(loop, tmp_path):
    async def main():
        with open(tmp_path / "file", "wb") as file:
            file.write(b"12345")
            file.flush()
            await paths.fsync(file)
            await paths.fdatasync(file.fileno())
            await paths.ftruncate(file, 3)
            assert os.stat(file.fileno()).st_size == 3
            await paths.fallocate(file, 0, 8192)
            assert os.stat(file.fileno()).st_size == 8192
            for call in (paths.ftruncate(file, -1), paths.fallocate(file, 0, 0)):
                with pytest.raises(OSError):
                    await call
        with pytest.raises(OSError):
            await paths.fsync(10_000)
        with pytest.raises(ValueError):
            await paths.fsync(-1)

    run(loop, main())
