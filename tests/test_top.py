"""`python -m uring_loop top`, the socket that it asks, and the line that names the driver."""

import errno
import json
import logging
import os
import pathlib
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

import pytest
from test_choice import child, run_python

import uring_loop
from uring_loop import metrics
from uring_loop._internal import driver, statistics_server, top

# Says its number when its loop runs, and runs until its standard input ends.
SERVED = """
import asyncio, os, sys, uring_loop
async def main():
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async def talk():
        while True:
            writer.write(bytes(1000))
            await reader.readexactly(1000)
    talking = asyncio.create_task(talk())
    print(os.getpid(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    talking.cancel()
    writer.close()
    server.close()
uring_loop.run(main())
"""


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A process whose statistics are served by the environment's wish: its number."""
    # A socket's path has 107 bytes at most, and pytest's are long.
    with_room = pathlib.Path(tempfile.gettempdir(), f"ul-{os.getpid()}")
    with_room.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(with_room))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVED],
        env={**os.environ, "URING_LOOP_STATISTICS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert int(process.stdout.readline()) == process.pid
        yield process.pid
        process.stdin.close()
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        left = [path.name for path in with_room.iterdir()]
        for path in with_room.iterdir():
            path.unlink()
        with_room.rmdir()
    assert left == []


def run_top(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "uring_loop", "top", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_top_shows_the_loop_of_another_process_by_its_number(served):
    done = run_top(served, "--once", "--interval", "0.05")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"process {served}" in done.stdout
    for shown in ("utilization", "delay", "turns", "batches", "system calls", "connections"):
        assert shown in done.stdout
    assert re.search(r"operations .*send [\d.,]+/s", done.stdout)
    assert "2 open" in done.stdout


def test_top_as_json_is_one_object_for_each_interval(served):
    done = run_top(served, "--count", "2", "--json", "--interval", "0.05")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 2
    for answer in answers:
        assert answer["pid"] == served
        assert answer["seconds"] > 0
        (loop,) = answer["loops"]
        assert loop["driver"] in ("uring", "selector")
        counted = loop["statistics"]
        assert counted["turns"] > 0
        assert counted["transports"]["bytes_in"] > 0
        assert counted["transports"]["connections_in"] == 0


def start_top(target):
    """One that goes on, and has said something."""
    process = subprocess.Popen(
        [sys.executable, "-m", "uring_loop", "top", str(target), "--interval", "0.01"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline()
    return process


def test_top_without_a_target_lists_the_processes_that_answer(served):
    assert re.search(rf"^ *{served}  ", run_top().stdout, re.MULTILINE)


def test_top_ends_without_a_traceback_when_it_is_interrupted_and_when_the_process_ends(served):
    process = start_top(served)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said) == (0, "")


def test_top_says_what_would_help_when_a_process_serves_nothing():
    done = run_top(os.getpid(), "--once")
    assert done.returncode == 1
    assert "URING_LOOP_STATISTICS=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_top_says_so_when_nobody_listens(tmp_path):
    done = run_top(tmp_path / "none.sock", "--once")
    assert done.returncode == 1
    assert "none.sock" in done.stderr


def test_top_shows_nothing_that_a_terminal_would_obey():
    found = {
        "pid": 1,
        "command": ["evil\033[2J\n"],
        "python": "3",
        "uring_loop": "0",
        "loops": [],
    }
    assert top.describe(found).splitlines()[0] == (
        "process 1: evil?[2J?  (Python 3, uring_loop 0)"
    )


# ---- the socket ----------------------------------------------------------------------------


@pytest.fixture
def path():
    """Short enough for a socket, and in a directory of its own."""
    directory = pathlib.Path(tempfile.gettempdir(), f"ul-{os.getpid()}-{threading.get_ident()}")
    directory.mkdir(mode=0o700)
    yield str(directory / "statistics.sock")
    for left in directory.iterdir():
        left.unlink()
    directory.rmdir()


def test_socket_is_for_this_user_alone_and_goes_with_the_server(path):
    before = os.umask(0)
    try:
        with uring_loop.serve_statistics(path) as server:
            assert server.address == path
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            assert top.ask(path)["pid"] == os.getpid()
    finally:
        os.umask(before)
    assert not os.path.exists(path)
    server.close()


def test_stranger_gets_no_answer(path, monkeypatch):
    monkeypatch.setattr(statistics_server, "_may_ask", lambda connection: False)
    with uring_loop.serve_statistics(path), pytest.raises(top.Unreachable, match="this user"):
        top.ask(path)


def test_peers_user_is_asked_of_the_kernel(monkeypatch):
    one, other = socket.socketpair()
    with one, other:
        assert statistics_server._may_ask(one)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert statistics_server._may_ask(one) == (os.getuid() == 0)


def test_socket_that_a_killed_process_left_is_taken_over(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with uring_loop.serve_statistics(path):
        assert top.ask(path)["pid"] == os.getpid()


def test_socket_that_is_served_and_file_that_is_none_are_left_alone(path):
    with uring_loop.serve_statistics(path):
        with pytest.raises(OSError):
            uring_loop.serve_statistics(path)
        assert top.ask(path)["pid"] == os.getpid()
    pathlib.Path(path).write_text("mine")
    with pytest.raises(OSError):
        uring_loop.serve_statistics(path)
    assert pathlib.Path(path).read_text() == "mine"


def test_file_that_is_anothers_by_now_is_not_removed(path):
    server = uring_loop.serve_statistics(path)
    os.unlink(path)
    pathlib.Path(path).write_text("mine")
    server.close()
    assert pathlib.Path(path).read_text() == "mine"


def test_directory_that_others_may_write_to_is_refused(path, monkeypatch):
    directory = os.path.dirname(path)
    os.chmod(directory, 0o777)
    monkeypatch.setattr(statistics_server, "directories", lambda uid: [directory])
    with pytest.raises(PermissionError, match="not this user's alone"):
        uring_loop.serve_statistics()


def test_address_with_a_port_is_tcp():
    with uring_loop.serve_statistics("127.0.0.1:0") as server:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", server.address)
        assert top.ask(server.address)["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:99", ("127.0.0.1", 99)),
        ("[::1]:99", ("::1", 99)),
        (":99", ("127.0.0.1", 99)),
        ("/run/a:99", None),
        ("name", None),
    ],
)
def test_address_is_a_path_unless_it_ends_with_a_port(text, expected):
    assert statistics_server.tcp_address(text) == expected


def test_loop_that_is_blocked_is_seen(path):
    loop = uring_loop.new_event_loop()
    answers = []

    async def main():
        # The thread that answers needs nothing of the loop.
        answers.append(top.ask(path))

    try:
        with uring_loop.serve_statistics(path):
            loop.run_until_complete(main())
    finally:
        loop.close()
    assert [each["driver"] for each in answers[0]["loops"]] == [loop.driver]


def test_reader_that_takes_nothing_or_has_gone_does_not_end_the_server(path):
    with uring_loop.serve_statistics(path):
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(path)
        assert top.ask(path)["pid"] == os.getpid()


def test_reader_for_whom_there_is_no_descriptor_waits_and_keeps_no_processor_busy(
    path, monkeypatch
):
    class Counted:
        """The listening socket, and how often it was asked."""

        def __init__(self, sock):
            self.sock = sock
            self.asked = 0

        def accept(self):
            self.asked += 1
            return self.sock.accept()

        def close(self):
            self.sock.close()

    monkeypatch.setattr(statistics_server, "_RETRY_MS", 20)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with uring_loop.serve_statistics(path) as server, socket.socket(socket.AF_UNIX) as reader:
        counted = server._sock = Counted(server._sock)
        with socket.socket() as lowest:
            number = lowest.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        try:
            reader.connect(path)
            while counted.asked < 3:
                time.sleep(0.001)
            began, asked = time.monotonic(), counted.asked
            time.sleep(0.05)
            # Without end it would be thousands.
            assert counted.asked - asked <= (time.monotonic() - began) / 0.02 + 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with reader.makefile("rb") as answer:
            assert json.loads(answer.readline())["pid"] == os.getpid()


def test_server_that_is_closed_while_there_is_no_descriptor_ends(path, monkeypatch):
    monkeypatch.setattr(statistics_server, "_RETRY_MS", 60_000)
    refused = threading.Event()

    class Refusing:
        def accept(self):
            refused.set()
            raise OSError(errno.EMFILE, "none left")

        def close(self):
            sock.close()

    server = uring_loop.serve_statistics(path)
    sock, server._sock = server._sock, Refusing()
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(path)
        refused.wait()
        server.close()
    assert not server._thread.is_alive()


def test_connection_that_is_gone_before_it_is_taken_is_nobodys(path):
    class Late:
        """There is nothing by the time it is asked."""

        def accept(self):
            sock.accept()[0].close()
            server._sock = sock
            raise BlockingIOError

    with uring_loop.serve_statistics(path) as server:
        sock, server._sock = server._sock, Late()
        with pytest.raises(top.Unreachable):
            top.ask(path)
        assert top.ask(path)["pid"] == os.getpid()


def test_every_peer_may_ask_where_no_kernel_tells_whose_it_is(monkeypatch):
    one, other = socket.socketpair()
    with one, other:
        monkeypatch.delattr(socket, "SO_PEERCRED")
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert statistics_server._may_ask(one)


def test_loop_that_is_closed_between_two_looks_is_left_out(monkeypatch):
    loop = uring_loop.new_event_loop()
    loop.close()
    monkeypatch.setattr(metrics, "running_loops", lambda: [loop])
    assert statistics_server.snapshot()["loops"] == []
    assert metrics._Looks().look() == []


def test_answer_in_another_format_is_not_shown(path, monkeypatch):
    monkeypatch.setattr(statistics_server, "snapshot", lambda: {"format": 0, "uring_loop": "0.0"})
    with uring_loop.serve_statistics(path):
        with pytest.raises(top.Unreachable, match="has uring_loop 0.0, whose answers are of anoth"):
            top.ask(path)


def test_interval_in_which_nothing_happened_is_shown_as_that():
    assert top._shares({"1": 0, "2": 0}) == "no turn"
    assert top._rates({}, 1.0) == "none"
    assert top._bytes(5 * 1024**4) == "5.12e+03 GiB"


def test_top_whose_reader_has_left_ends_without_a_word(served):
    process = start_top(served)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), said) == (0, "")


def test_environment_asks_once_for_all_loops_of_a_process_and_failure_is_a_warning(path):
    program = """
    import logging, os, uring_loop
    logging.basicConfig(format="%(levelname)s")
    for _ in range(2):
        uring_loop.new_event_loop().close()
    """
    output, log = child(program, URING_LOOP_STATISTICS="/nowhere/at/all")
    assert log.split() == ["WARNING", "WARNING"]
    program += "    print(os.listdir(os.path.dirname(os.environ['URING_LOOP_STATISTICS'])))\n"
    output, log = child(program, URING_LOOP_STATISTICS=path + ".%p")
    assert log == ""
    # The second loop finds what the first has made.
    assert re.fullmatch(r"(\['statistics\.sock\.\d+'\])\n\1", output)
    assert os.listdir(os.path.dirname(path)) == []


def test_child_of_a_fork_serves_its_own_and_leaves_its_parents_socket(path):
    program = """
    import os, sys, uring_loop
    from uring_loop._internal import top
    uring_loop.new_event_loop().close()
    pattern = os.environ["URING_LOOP_STATISTICS"]
    parent = pattern.replace("%p", str(os.getpid()))
    child = os.fork()
    if child == 0:
        uring_loop.new_event_loop().close()
        own = top.ask(pattern.replace("%p", str(os.getpid())))["pid"] == os.getpid()
        sys.exit(0 if own else 1)
    assert os.waitpid(child, 0)[1] == 0
    print(top.ask(parent)["pid"] == os.getpid())
    """
    if sys.version_info >= (3, 12):
        program = program.replace(
            "    import os, sys, uring_loop",
            "    import os, sys, uring_loop, warnings\n"
            "    warnings.simplefilter('ignore', DeprecationWarning)",
            1,
        )
    output, _ = child(program, URING_LOOP_STATISTICS=path + ".%p")
    assert output == "True"


def test_child_of_a_fork_has_no_running_loop_of_its_parents_other_threads():
    program = """
    import asyncio, os, sys, threading, warnings, uring_loop
    from uring_loop import metrics
    warnings.simplefilter("ignore", DeprecationWarning)
    ready, done = threading.Event(), asyncio.Event()
    async def wait():
        ready.set()
        await done.wait()
    other = uring_loop.new_event_loop()
    thread = threading.Thread(target=other.run_until_complete, args=(wait(),))
    thread.start()
    ready.wait()
    async def main():
        mine = asyncio.get_running_loop()
        assert set(metrics.running_loops()) == {mine, other}
        child = os.fork()
        if child == 0:
            os._exit(0 if metrics.running_loops() == [mine] else 1)
        return os.waitpid(child, 0)[1]
    print(uring_loop.run(main()))
    other.call_soon_threadsafe(done.set)
    thread.join()
    other.close()
    """
    assert child(program) == ("0", "")


# ---- the line that names the driver --------------------------------------------------------


def test_no_line_names_the_driver_unless_it_is_asked_for(caplog):
    with caplog.at_level(logging.INFO, "uring_loop"):
        uring_loop.EventLoop("selector").close()
    assert caplog.records == []


def test_line_names_the_driver_at_level_info(caplog, monkeypatch):
    monkeypatch.setattr(driver, "asked_by_environment", lambda: (True, ""))
    with caplog.at_level(logging.INFO, "uring_loop"):
        uring_loop.EventLoop("selector").close()
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "event loop on the selector driver (chosen by argument)"


def test_line_is_seen_where_nobody_has_set_up_logging():
    done = run_python(
        textwrap.dedent("import uring_loop; uring_loop.new_event_loop().close()"),
        URING_LOOP_ANNOUNCE="1",
        URING_LOOP_DRIVER="selector",
    )
    assert re.fullmatch(
        r"[-\d]+ [:,\d]+ INFO uring_loop: event loop on the selector driver"
        r" \(chosen by URING_LOOP_DRIVER\)\n",
        done.stderr,
    )
