"""What audit hooks hear of files and paths: the events of io and os, each once, none made up."""

import asyncio
import io
import os
import sys

import pytest
from harness import run

import uring_loop
from uring_loop import paths

_listeners = []


def _hook(event, arguments):
    for listener in _listeners:
        listener(event, arguments)


@pytest.fixture(scope="module", autouse=True)
def hooked():
    """There is no way to take a hook away."""
    assert uring_loop.open  # imports what lists folders to be found
    sys.addaudithook(_hook)


class Heard:
    """The events of files and paths while it is entered, names in one folder by their last part."""

    def __init__(self, folder):
        self._folder = folder
        self.events = []

    def __enter__(self):
        _listeners.append(self._listen)
        return self.events

    def __exit__(self, *raised):
        _listeners.remove(self._listen)

    def _listen(self, event, arguments):
        imported = event == "open" and str(arguments[0]).endswith((".py", ".pyc", ".so"))
        if (event == "open" and not imported) or event.startswith("os."):
            self.events.append((event, *map(self._name, arguments)))

    def _name(self, argument):
        assert not isinstance(argument, os.PathLike)
        if isinstance(argument, str | bytes):
            folder = os.fsencode(self._folder)
            found = os.fsencode(argument).replace(folder, b"")
            return found if isinstance(argument, bytes) else found.decode()
        return argument


@pytest.fixture
def folders(tmp_path):
    """Two empty folders: for our calls, and for those of io and os."""
    made = tmp_path / "ours", tmp_path / "theirs"
    for folder in made:
        folder.mkdir()
        (folder / "file").write_bytes(b"content")
    return made


@pytest.mark.parametrize("mode", ["r", "rb", "r+b", "w", "wb", "w+b", "x", "a", "ab", "a+"])
@pytest.mark.parametrize("kind", ["str", "bytes", "path"])
def test_opening_is_told_once_as_io_tells_it(loop, folders, mode, kind):
    make = {"str": str, "bytes": os.fsencode, "path": lambda path: path}[kind]
    names = [make(folder / ("new" if mode == "x" else "file")) for folder in folders]

    async def main():
        async with uring_loop.open(names[0], mode) as file:
            if "r" not in mode:
                await file.truncate(3)
            await file.seek(0)

    with Heard(folders[0]) as ours:
        run(loop, main())
    with Heard(folders[1]) as theirs, open(names[1], mode) as file:
        if "r" not in mode:
            file.truncate(3)
    assert ours == theirs
    assert len(ours) == 1


def test_adopting_and_openers_are_told_as_io_tells_them(loop, folders):
    def opener(name, flags):
        return os.open(name, flags)

    async def main():
        async with uring_loop.open(number, "rb", closefd=False):
            pass
        async with uring_loop.open(folders[0] / "file", opener=opener):
            pass

    number = os.open(folders[1] / "file", os.O_RDONLY)
    with Heard(folders[0]) as ours:
        run(loop, main())
    with Heard(folders[1]) as theirs:
        open(number, "rb", closefd=False).close()
        open(folders[1] / "file", opener=opener).close()
    os.close(number)
    assert ours == theirs


@pytest.mark.parametrize(
    ("mode", "options"),
    [("q", {}), ("rb", {"encoding": "utf-8"}), ("rb", {"buffering": 1}), ("r", {"newline": "x"})],
)
@pytest.mark.filterwarnings("ignore")
def test_arguments_that_open_refuses_are_no_event(loop, folders, mode, options):
    with Heard(folders[0]) as ours:
        try:
            # Not awaited: so nothing is opened.
            uring_loop.open(folders[0] / "file", mode, **options)
        except ValueError:
            pass
    assert ours == []


def test_fifo_is_told_once(loop, folders):
    fifo = folders[0] / "fifo"
    os.mkfifo(fifo)

    async def main():
        async def opened(mode):
            async with uring_loop.open(fifo, mode, buffering=0):
                pass

        await asyncio.gather(opened("rb"), opened("wb"))

    with Heard(folders[0]) as ours:
        run(loop, main())
    cloexec = os.O_CLOEXEC
    assert sorted(ours) == [
        ("open", "/fifo", "r", cloexec),
        ("open", "/fifo", "w", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | cloexec),
    ]


async def steps_of(calls, folder, number, directory):
    """Every call of os that has an event and is a request of the driver's, with each argument."""
    for name, arguments, options in (
        ("mkdir", (folder / "a",), {}),
        ("mkdir", (str(folder / "b"), 0o700), {}),
        ("mkdir", ("c",), {"dir_fd": directory, "mode": 0o750}),
        ("rename", (folder / "a", os.fsencode(folder / "d")), {}),
        ("rename", ("b", "e"), {"src_dir_fd": directory, "dst_dir_fd": directory}),
        ("replace", (folder / "file", folder / "f"), {}),
        ("link", (folder / "f", folder / "g"), {}),
        ("link", ("f", folder / "h"), {"src_dir_fd": directory}),
        ("symlink", ("f", folder / "i"), {}),
        ("symlink", ("f", "j"), {"dir_fd": directory}),
        ("remove", (folder / "g",), {}),
        ("unlink", ("h",), {"dir_fd": directory}),
        ("rmdir", (folder / "d",), {}),
        ("rmdir", ("c",), {"dir_fd": directory}),
        ("ftruncate", (number, 2), {}),
        ("truncate", (folder / "f", 1), {}),
        ("fsync", (number,), {}),
        ("stat", (folder / "f",), {}),
        ("listdir", (folder,), {}),
        ("makedirs", (folder / "k" / "l",), {}),
    ):
        made = getattr(calls, name)(*arguments, **options)
        if calls is paths:
            await made


def test_paths_are_told_as_os_tells_them(loop, folders):
    number = os.open(folders[0] / "file", os.O_RDWR)
    directory, other = (os.open(folder, os.O_RDONLY) for folder in folders)
    with Heard(folders[0]) as ours:
        run(loop, steps_of(paths, folders[0], number, directory))
    # Both are told by the same number.
    os.dup2(other, directory)
    with Heard(folders[1]) as theirs:
        asyncio.run(steps_of(os, folders[1], number, directory))
    for descriptor in (number, directory, other):
        os.close(descriptor)
    assert ours == theirs
    assert {event[0] for event in ours} >= {
        "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate",
    }  # fmt: skip


class Refused(Exception):
    """What a hook says of a call that must not be made."""


def test_hook_that_refuses_keeps_the_call_from_being_made(loop, folders):
    folder = folders[0]
    before = sorted(os.listdir(folder))

    def refuse(event, arguments):
        if event == "open" or event.startswith("os."):
            raise Refused(event)

    async def main():
        for call in (
            lambda: paths.mkdir(folder / "x"),
            lambda: paths.remove(folder / "file"),
            lambda: paths.rename(folder / "file", folder / "x"),
            lambda: paths.link(folder / "file", folder / "x"),
            lambda: paths.symlink("file", folder / "x"),
        ):
            with pytest.raises(Refused):
                await call()
        with pytest.raises(Refused):
            await uring_loop.open(folder / "x", "w")

    _listeners.append(refuse)
    try:
        run(loop, main())
    finally:
        _listeners.remove(refuse)
    assert sorted(os.listdir(folder)) == before


def test_io_has_no_event_for_what_its_files_do(loop, folders):
    """So ours have none, whoever makes their calls."""

    async def main():
        async with uring_loop.open(folders[0] / "file", "r+b") as file:
            with Heard(folders[0]) as ours:
                await file.write(b"x")
                await file.truncate(5)
                await file.seek(0, io.SEEK_END)
                await file.fsync()
                await file.close()
        assert ours == []

    run(loop, main())
