"""Files that are not plain ones, and processes in which nothing is plain: io's outcome for each."""

import asyncio
import errno
import fcntl
import functools
import io
import os
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import tty
import types
import warnings
from pathlib import Path

import pytest
from harness import run

import uring_loop
from uring_loop._internal.files import calls, descriptor

# What the kernel refuses or ends at once must not be waited for; the rest is given this long.
SOON_S = 10
COMM = Path("/proc/self/comm")


def fifo_without_writer(folder):
    path = folder / "fifo"
    if not path.exists():
        os.mkfifo(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def listening(folder):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return sock.detach()


def epoll(folder):
    with select.epoll() as made:
        return os.dup(made.fileno())


def pipe_end(kept):
    ends = os.pipe()
    os.close(ends[1 - kept])
    return ends[kept]


def terminal_that_never_waits(folder):
    master, slave = pty.openpty()
    tty.setraw(slave)
    attributes = termios.tcgetattr(slave)
    attributes[6][termios.VMIN] = attributes[6][termios.VTIME] = 0
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    os.dup2(master, KEPT)
    os.close(master)
    return slave


# The other end of a terminal stays open under this number.
KEPT = 200

AT_ONCE = [
    (fifo_without_writer, "rb", 1),
    (fifo_without_writer, "wb", 1),
    (listening, "rb", 1),
    (listening, "wb", 1),
    (lambda folder: os.eventfd(0), "rb", 4),
    (lambda folder: os.eventfd(0), "wb", 4),
    (lambda folder: os.eventfd(7), "rb", 8),
    (lambda folder: pipe_end(0), "rb", 4),
    (lambda folder: pipe_end(1), "wb", 4),
    (lambda folder: pipe_end(0), "wb", 4),
    (lambda folder: pipe_end(1), "rb", 4),
    (lambda folder: socket.socket().detach(), "rb", 4),
    (epoll, "rb", 4),
    (terminal_that_never_waits, "rb", 4),
    (lambda folder: os.open("/dev/null", os.O_WRONLY), "rb", 4),
    (lambda folder: os.open("/dev/null", os.O_RDONLY), "wb", 4),
    (lambda folder: os.open("/dev/full", os.O_WRONLY), "wb", 4),
    (lambda folder: os.open(folder, os.O_TMPFILE | os.O_WRONLY), "rb", 4),
    (lambda folder: os.open("/dev/null", os.O_RDWR), "rb", 4),
]


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this C library has no eventfd()")
@pytest.mark.parametrize("nowait", [True, False], ids=["asked first", "cannot be asked"])
def test_what_the_kernel_answers_at_once_is_not_waited_for(loop, tmp_path, monkeypatch, nowait):
    """An error or an end is there also when no readiness ever comes."""
    if not nowait:
        monkeypatch.setattr(
            descriptor, "_read_now", lambda number, size, offset: (b"", errno.EOPNOTSUPP)
        )
        monkeypatch.setattr(
            descriptor, "file_write_now", lambda number, data: (-1, errno.EOPNOTSUPP)
        )

    def use(file, mode, size):
        return file.write(b"x" * size) if mode == "wb" else file.read(size)

    async def ours(number, mode, size):
        async with uring_loop.open(number, mode, buffering=0) as file:
            try:
                return await asyncio.wait_for(use(file, mode, size), SOON_S)
            except OSError as error:
                return error.errno

    def theirs(number, mode, size):
        with open(number, mode, buffering=0) as file:
            try:
                return use(file, mode, size)
            except OSError as error:
                return error.errno

    # Where the kernel cannot be asked, these two are ready only when they have something.
    only_asked = {listening, epoll}

    async def main():
        for make, mode, size in AT_ONCE:
            short = make is AT_ONCE[4][0]
            if not nowait and (make in only_asked or short):
                continue
            expected = theirs(make(tmp_path), mode, size)
            assert await ours(make(tmp_path), mode, size) == expected, (make, mode, size)

    try:
        run(loop, main())
    finally:
        os.close(KEPT)


@pytest.mark.skipif(not hasattr(os, "eventfd"), reason="this C library has no eventfd()")
def test_what_can_seek_and_knows_no_offsets_is_read_and_written_where_it_is(loop):
    async def main():
        name = COMM.read_text()
        for options in ({"mode": "w"}, {"mode": "wb", "buffering": 0}, {"mode": "wb"}):
            text = "renamed" if options["mode"] == "w" else b"renamed"
            async with uring_loop.open("/proc/self/comm", **options) as file:
                await file.write(text)
                await file.flush()
            assert COMM.read_text() == "renamed\n"
            async with uring_loop.open("/proc/self/comm", "r+") as file:
                assert await file.read() == "renamed\n"
                await file.seek(0)
                await file.write(name.strip())
            assert COMM.read_text() == name
        async with uring_loop.open(os.eventfd(3), "rb", buffering=0) as file:
            assert struct.unpack("Q", await file.read(8)) == (3,)
        number = os.eventfd(0)
        async with uring_loop.open(number, "r+b", buffering=0) as file:
            waiting = asyncio.ensure_future(file.read(8))
            await asyncio.sleep(0)
            os.eventfd_write(number, 9)
            assert struct.unpack("Q", await waiting) == (9,)
            await file.write(struct.pack("Q", 5))
            assert os.eventfd_read(number) == 5

    run(loop, main())


@pytest.fixture
def unseekable(tmp_path, monkeypatch):
    """A regular file that knows no places, as tracefs and FUSE have them: the kernel's answers."""

    def refuse(*_):
        raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))

    monkeypatch.setattr(descriptor, "_devices", {})
    monkeypatch.setattr(descriptor, "_local_devices", set())
    monkeypatch.setattr(descriptor, "file_is_local", lambda number: False)
    monkeypatch.setattr(descriptor, "_can_seek", lambda number: False)
    monkeypatch.setattr(descriptor, "pread", refuse)
    monkeypatch.setattr(descriptor, "pwrite", refuse)
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree\n")
    return path


def test_regular_file_that_cannot_seek_is_a_stream(loop, unseekable):
    async def main():
        for buffering in (0, -1):
            async with uring_loop.open(unseekable, "rb", buffering) as file:
                assert not file.seekable()
                assert await file.read(2) == b"on"
                assert await file.readline() == b"e\n"
                for call in (file.tell(), file.seek(0), file.pread(1, 0)):
                    with pytest.raises(io.UnsupportedOperation):
                        await call
                assert await file.read() == b"two\nthree\n"
        async with uring_loop.open(unseekable) as file:
            assert [line async for line in file] == ["one\n", "two\n", "three\n"]
        with pytest.raises(io.UnsupportedOperation, match="not seekable"):
            await uring_loop.open(unseekable, "r+b")
        async with uring_loop.open(unseekable, "ab") as file:
            await file.write(b"four\n")

    run(loop, main())
    assert unseekable.read_bytes().endswith(b"three\nfour\n")


def test_forgotten_file_of_proc_is_written(loop):
    async def main():
        name = COMM.read_text()
        for text in ("forgotten", name.strip()):
            file = await uring_loop.open("/proc/self/comm", "wb")
            await file.write(text.encode())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                del file
            assert COMM.read_text() == text + "\n"

    run(loop, main())


def test_late_bytes_of_a_stream_outlive_a_write(loop):
    """A socket that is read and written: its bytes come once."""
    here, there = socket.socketpair()

    async def main():
        file = await uring_loop.open(here.detach(), "r+b", buffering=0)
        reading = asyncio.ensure_future(file.read(10))
        await asyncio.sleep(0)
        there.send(b"early")
        reading.cancel()
        await asyncio.wait([reading])
        await file.write(b"answer")
        if reading.cancelled():
            assert await file.read(10) == b"early"
        await file.close()

    run(loop, main())
    there.close()


PROBE = """
import fcntl, sys
with open(sys.argv[1], "r+") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("free")
    except OSError:
        print("held")
"""


def test_opening_keeps_the_locks_of_the_process(loop, tmp_path, monkeypatch):
    """POSIX record locks end when any descriptor of the file is closed."""
    monkeypatch.setattr(descriptor, "_devices", {})
    monkeypatch.setattr(descriptor, "_local_devices", set())
    path = tmp_path / "lock"
    path.touch()

    def state():
        probe = [sys.executable, "-c", PROBE, path]
        return subprocess.run(probe, capture_output=True, text=True).stdout.strip()

    async def main():
        with open(path, "r+") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            async with uring_loop.open(path), uring_loop.open(path, "r+b"):
                assert state() == "held"
            with open(path):
                pass
            assert state() == "free"

    run(loop, main())


def test_opening_of_a_leased_file_waits_and_the_loop_goes_on_to_end_the_lease(loop, tmp_path):
    """What was opened before on the same device is known to wait for no server."""
    path = tmp_path / "leased"
    path.write_bytes(b"leased")

    async def main():
        async with uring_loop.open(path, "rb"):
            pass
        number = os.open(path, os.O_RDONLY)
        try:
            fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            os.close(number)
            pytest.skip(f"no leases on this file system: {error}")
        ended = []

        def end():
            fcntl.fcntl(number, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            ended.append(True)

        loop.add_signal_handler(signal.SIGIO, end)
        try:
            async with uring_loop.open(path, "rb") as file:
                return await file.read(), ended
        finally:
            loop.remove_signal_handler(signal.SIGIO)
            os.close(number)

    assert run(loop, main()) == (b"leased", [True])


def test_opening_for_writing_of_a_program_that_runs_is_refused_as_open_does(loop, tmp_path):
    program = tmp_path / "program"
    shutil.copy(shutil.which("cat"), program)

    async def opened():
        try:
            async with uring_loop.open(program, "r+b") as file:
                return await file.read(4)
        except OSError as error:
            return type(error), error.errno, error.filename

    def expected():
        try:
            with open(program, "r+b") as file:
                return file.read(4)
        except OSError as error:
            return type(error), error.errno, error.filename

    assert run(loop, opened()) == expected()
    with subprocess.Popen([program], stdin=subprocess.PIPE) as running:
        assert run(loop, opened()) == expected()
        running.communicate()


def test_truncate_that_the_kernel_refuses_raises_as_io_does(loop):
    async def ours():
        async with uring_loop.open(os.devnull, "wb", buffering=0) as file:
            with pytest.raises(OSError) as caught:
                await file.truncate(10)
            return type(caught.value), caught.value.errno

    with open(os.devnull, "wb", buffering=0) as file, pytest.raises(OSError) as caught:
        file.truncate(10)
    assert run(loop, ours()) == (type(caught.value), caught.value.errno)


def test_cancelled_first_open_of_a_device_leaves_nothing(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(descriptor, "_devices", {})
    monkeypatch.setattr(descriptor, "_local_devices", set())
    gate, begun = threading.Event(), threading.Event()

    def ask(number):
        begun.set()
        gate.wait()
        return False

    monkeypatch.setattr(descriptor, "file_is_local", ask)
    path = tmp_path / "file"
    path.touch()

    async def main():
        opening = asyncio.ensure_future(uring_loop.open(path, "rb").__aenter__())
        while not begun.is_set():
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        gate.set()

    run(loop, main())


def child(loop_kind, program, **options):
    """What a program prints whose `factory` makes the loop under test."""
    name = "asyncio.SelectorEventLoop" if loop_kind == "asyncio" else "uring_loop.new_event_loop"
    head = f"import asyncio, os, sys, uring_loop\nfactory = {name}\n"
    program = head + textwrap.dedent(program)
    command = [sys.executable, *options.pop("flags", ()), "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    assert found.stderr == ""
    return found.stdout.strip()


def test_files_are_read_and_written_in_a_handler_of_atexit(loop_kind, tmp_path):
    """No thread may begin then, and io needs none."""
    path = tmp_path / "file"
    program = f"""
    import atexit

    async def main():
        async with uring_loop.open({str(path)!r}, "w") as file:
            await file.write("last words")
            await file.flush()
            file.fileno()
            await file.write(", really")
        async with uring_loop.open({str(path)!r}) as file:
            print(await file.read(), sorted(await uring_loop.paths.listdir({str(tmp_path)!r})))

    @atexit.register
    def last():
        loop = factory()
        loop.run_until_complete(main())
        loop.close()
    """
    assert child(loop_kind, program) == "last words, really ['file']"


def test_first_opens_from_many_threads_leave_the_warning_filters(monkeypatch):
    interval = sys.getswitchinterval()
    before = list(warnings.filters)

    def work(number):
        for index in range(300):
            uring_loop.open(__file__, "rb", 10 + number * 100_000 + index)
            uring_loop.open(__file__, "r", 10 + number * 100_000 + index, "utf-8")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert warnings.filters == before


def test_warnings_of_open_name_the_callers_line(tmp_path):
    path = tmp_path / "file"
    path.touch()
    program = (
        "import warnings, uring_loop\n"
        "warnings.simplefilter('always')\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        f"    uring_loop.open({str(path)!r})\n"
        f"    uring_loop.files.open_file({str(path)!r}, 'rb', 1)\n"
        f"    uring_loop.open({str(path)!r}, encoding='locale')\n"
        "for entry in caught:\n"
        "    print(entry.category.__name__, entry.filename, entry.lineno)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    command = [sys.executable, "-X", "warn_default_encoding", script]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.splitlines() == [
        f"EncodingWarning {script} 4", f"RuntimeWarning {script} 5",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["r", "rb", "w", "r+", "x+b", "a", "", "rw", "rr", "tb", "b", "+"])
def test_modes_are_told_apart_though_equal_numbers_came_before(tmp_path, mode):
    path = tmp_path / "file"

    def outcome(call):
        try:
            made = call()
        except Exception as error:
            return type(error), str(error)
        if hasattr(made, "close"):
            made.close()
        return None

    for buffering in (1, True, 1.0, 1.5):
        path.unlink(missing_ok=True)
        if "x" not in mode:
            path.touch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = outcome(functools.partial(uring_loop.open, path, mode, buffering))
            assert ours == outcome(functools.partial(open, path, mode, buffering))


def test_os_may_have_another_link(tmp_path):
    program = (
        "import os\n"
        "real = os.link\n"
        "os.link = lambda *args, **options: real(*args, **options)\n"
        "from uring_loop._internal.files import paths\n"
        "print(paths._LINK_FOLLOWS == ('os.name' in (real.__text_signature__ or '')))\n"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "True\n"


# No thread, no worker, no memory.


def refusing_threads(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_call_that_finds_no_thread_says_so_and_is_never_made(loop, tmp_path, monkeypatch):
    """The executor keeps what it could not begin, for a thread that it may get later."""
    made = []
    path = tmp_path / "file"
    path.touch()

    async def main():
        with monkeypatch.context() as refusing:
            refusing_threads(refusing)
            call = calls.of_loop().make(None, None, made.append, "late")
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await call
        await calls.of_loop().make(None, None, made.append, "next")

    run(loop, main())
    assert made == ["next"]


def test_close_that_finds_no_thread_closes(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)

    async def main():
        file = await uring_loop.open(tmp_path / "file", "wb")
        number = file._descriptor.number
        with monkeypatch.context() as refusing:
            refusing_threads(refusing)
            await file.close()
        assert file.closed
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())


def ended(loop, callback, result):
    """A request that ends in the next turn with this result."""
    request = types.SimpleNamespace(result=result, flags=0, opened=None)
    loop.call_soon(callback, request)
    return request


@pytest.mark.parametrize("failure", ["refused", "no memory", "never made"])
@pytest.mark.parametrize("operation", [calls.OP_WRITE, calls.OP_CLOSE], ids=["write", "close"])
@pytest.mark.parametrize("written", [False, True])
def test_close_whose_request_fails_closes(
    loop, loop_kind, tmp_path, monkeypatch, failure, operation, written
):
    if loop_kind == "asyncio":
        pytest.skip("only our loops have requests")
    request_of_the_loop = type(loop)._request
    failed = []

    def fail(self, callback, keep, request):
        if request[0] != operation or (operation == calls.OP_WRITE and failed):
            return request_of_the_loop(self, callback, keep, request)
        failed.append(request)
        if failure == "no memory":
            raise MemoryError
        if failure == "refused":
            return -errno.ENOMEM
        return ended(self, callback, -errno.ENOTBLK)

    async def main():
        file = await uring_loop.open(tmp_path / "file", "wb")
        number = file._descriptor.number
        if written:
            await file.write(b"content")
        with monkeypatch.context() as failing:
            failing.setattr(type(loop), "_request", fail)
            try:
                await file.close()
            except MemoryError:
                assert failure == "no memory"
        assert file.closed
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())
    assert bool(failed) is (written or operation == calls.OP_CLOSE)
    assert (tmp_path / "file").read_bytes() == (b"content" if written else b"")


@pytest.mark.parametrize(
    ("result", "expected"),
    [(-errno.EIO, errno.EIO), (-errno.EINTR, None), (-errno.ENOTBLK, errno.EBADF)],
)
def test_close_that_fails_in_the_kernel_raises_its_error_and_is_not_made_again(
    loop, loop_kind, tmp_path, monkeypatch, result, expected
):
    """The descriptor is closed then, whatever the kernel says (close(2))."""
    if loop_kind == "asyncio":
        pytest.skip("only our loops have requests")

    def close_and_fail(self, callback, keep, request):
        assert request[0] == calls.OP_CLOSE
        os.close(request[1])
        return ended(self, callback, result)

    async def main():
        file = await uring_loop.open(tmp_path / "file", "wb")
        with monkeypatch.context() as failing:
            failing.setattr(type(loop), "_request", close_and_fail)
            (outcome,) = await asyncio.gather(file.close(), return_exceptions=True)
        assert getattr(outcome, "errno", outcome) == expected
        assert file.closed

    run(loop, main())


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_close_that_finds_no_thread_writes_what_the_file_has_taken(
    loop, tmp_path, monkeypatch, mode
):
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)

    async def main():
        file = await uring_loop.open(tmp_path / "file", mode)
        await file.write(b"content")
        with monkeypatch.context() as refusing:
            refusing_threads(refusing)
            await file.close()
        assert file.closed

    run(loop, main())
    assert (tmp_path / "file").read_bytes() == b"content"


def test_close_of_a_pipe_that_finds_no_thread_says_so_and_closes(loop, monkeypatch):
    """It may be full: written by this thread, it could hold the loop for ever."""
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)
    monkeypatch.setattr(descriptor, "file_write_now", lambda number, data: (-1, errno.EOPNOTSUPP))

    async def never(*_, **__):
        return False

    monkeypatch.setattr(calls, "readiness", never)

    async def main():
        theirs, ours = os.pipe()
        file = await uring_loop.open(ours, "wb")
        await file.write(b"content")
        with monkeypatch.context() as refusing:
            refusing_threads(refusing)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await file.close()
        assert file.closed
        assert os.read(theirs, 10) == b""
        os.close(theirs)

    run(loop, main())


def test_process_that_may_have_no_more_threads_is_told_so_and_loses_nothing(loop_kind, tmp_path):
    """Of the ring's workers the kernel says nothing but that the call was cancelled."""
    program = f"""
    import concurrent.futures.thread, resource, threading
    uring_loop.open, uring_loop.paths

    async def begin():
        file = await uring_loop.open({str(tmp_path / "file")!r}, "wb")
        await file.write(b"taken")
        return file

    async def end(file):
        await file.close()

    async def outcome(call):
        try:
            return repr(await call)
        except Exception as error:
            return repr(error)

    def elsewhere():
        # The ring's workers are of the thread that enters it, and end with it.
        global file
        loop = factory()
        file = loop.run_until_complete(begin())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    number = file._descriptor.number
    loop = factory()
    if os.getuid() == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
        except OSError:
            print("nobody")
            os._exit(0)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    for call in (
        uring_loop.paths.mkdir({str(tmp_path / "new")!r}),
        uring_loop.paths.listdir({str(tmp_path)!r}),
    ):
        print(loop.run_until_complete(outcome(call)))
    loop.run_until_complete(end(file))
    try:
        os.fstat(number)
    except OSError:
        print("closed")
    loop.close()
    """
    found = child(loop_kind, program).splitlines()
    if found == ["nobody"]:
        pytest.skip("root of this user namespace cannot become anybody else")
    assert found == ['RuntimeError("can\'t start new thread")'] * 2 + ["closed"]
    assert (tmp_path / "file").read_bytes() == b"taken"
    assert not (tmp_path / "new").exists()
