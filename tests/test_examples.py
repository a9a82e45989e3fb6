"""The programs in examples/.

Four know nothing of us, and run unchanged on stock asyncio and under our policy; the others use us.
"""

import contextlib
import datetime
import http.client
import importlib.util
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading

import pytest
import trustme
from ports import free_port

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"

# Runs a program under our policy without a change in it.  The policy's name in asyncio is
# deprecated from Python 3.14 on, which is the policies' business and not the example's.
UNDER_OUR_POLICY = """
import asyncio, runpy, sys, warnings
import uring_loop
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(uring_loop.EventLoopPolicy())
made = []
policy_new = asyncio.new_event_loop
def new_event_loop():
    made.append(policy_new())
    return made[-1]
asyncio.new_event_loop = new_event_loop
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert made
assert all(isinstance(loop, uring_loop.EventLoop) for loop in made), made
assert all(loop.driver == sys.argv[-1] for loop in made), made
"""


@pytest.fixture
def start(loop_kind):
    """Starts an example on the kind of loop under test; kills what the test leaves running."""
    started = []

    def start(name, *arguments):
        program = [str(EXAMPLES / name), *arguments]
        if loop_kind == "asyncio":
            command = [sys.executable, "-W", "error", *program]
        else:
            command = [sys.executable, "-W", "error", "-c", UNDER_OUR_POLICY, *program, loop_kind]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


def output(child):
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert err == ""
    return out


def test_hello_says_hello_and_ends(start):
    assert output(start("hello.py")) == "Hello World\n"


def test_clock_prints_the_time_at_each_interval_and_ends(start):
    lines = output(start("clock.py", "0.05", "0.01")).splitlines()
    times = [datetime.datetime.fromisoformat(line) for line in lines]
    assert 2 <= len(times) <= 6
    pairs = zip(times, times[1:], strict=False)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairs]
    # The wall clock is not the loop's clock: a step of it may shorten a gap a little.
    assert min(gaps) >= 0.009


def test_watch_prints_what_came_and_ends(start):
    assert output(start("watch.py")) == "Received: abc\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_leaves_by_either_signal(start, name):
    child = start("signals.py")
    assert child.stdout.readline().startswith(f"pid {child.pid}: ")
    child.send_signal(getattr(signal, name))
    assert output(child) == f"got signal {name}: exit\n"


# ---- programs that use us -----------------------------------------------------------------


@pytest.fixture
def launch(loop_kind):
    """Starts a program that uses us; ends what the test leaves running."""
    if loop_kind == "asyncio":
        pytest.skip("these programs ask for our loop")
    with contextlib.ExitStack() as stack:

        def launch(*command, **options):
            child = subprocess.Popen(
                [sys.executable, "-W", "error", *map(str, command)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield launch


@pytest.fixture
def serve(launch, loop_kind):
    """Starts a server; gives its port. In the end a signal ends it, without a complaint."""
    started = []

    def serve(name, *arguments):
        child = launch(EXAMPLES / name, *arguments)
        line = child.stdout.readline()
        found = re.fullmatch(rf"listening on 127\.0\.0\.1:(\d+), driver {loop_kind}\n", line)
        assert found, line + child.stderr.read()
        started.append(child)
        return int(found[1])

    yield serve
    for child in started:
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=30)
        assert (child.returncode, errors) == (0, "")


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def port_of(sock):
    return sock.getsockname()[1]


def all_of(sock):
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


BULK = bytes(range(256)) * (1 << 14)


def test_echo_gives_back_what_it_gets_from_a_peer_that_reads_late(serve):
    with connect(serve("echo.py")) as sock:
        sender = threading.Thread(target=lambda: (sock.sendall(BULK), sock.shutdown(1)))
        sender.start()
        assert all_of(sock) == BULK
        sender.join()


class TestFileServer:
    @pytest.fixture
    def port(self, serve, tmp_path):
        root = tmp_path / "root"
        root.mkdir()
        (root / "large").write_bytes(BULK)
        (root / "empty name").write_bytes(b"")
        (tmp_path / "secret").write_bytes(b"secret")
        (root / "link").symlink_to(tmp_path / "secret")
        return serve("file_server.py", root)

    def test_files_come_whole_over_one_connection(self, port):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
            for path, body in (("/large", BULK), ("/empty%20name", b""), ("/large?x=1", BULK)):
                client.request("GET", path)
                answer = client.getresponse()
                assert (answer.status, answer.read()) == (200, body)
            client.request("HEAD", "/large")
            answer = client.getresponse()
            assert (answer.getheader("Content-Length"), answer.read()) == (str(len(BULK)), b"")

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/none", 404),
            ("GET", "/../secret", 403),
            ("GET", "/%2e%2e/secret", 403),
            ("GET", "/link", 403),
            ("GET", "/", 403),
            ("GET", "/a%00b", 403),
            ("POST", "/large", 405),
        ],
    )
    def test_what_is_not_to_be_had_is_refused(self, port, method, path, status):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
            client.request(method, path)
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (status, b"")


class TestChat:
    @pytest.fixture
    def authority(self, tmp_path):
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        return authority

    @pytest.fixture
    def port(self, serve, authority, tmp_path):
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
        for number, part in enumerate(certificate.cert_chain_pems):
            part.write_to_path(tmp_path / "chain.pem", append=number > 0)
        return serve("chat.py", "serve", tmp_path / "chain.pem", tmp_path / "key.pem")

    def test_what_one_says_is_everybodys(self, port, authority, launch, tmp_path):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        authority.configure_trust(context)
        with context.wrap_socket(connect(port), server_hostname="127.0.0.1") as ann:
            lines = ann.makefile("rw", encoding="utf-8", newline="\n")
            print("ann", file=lines, flush=True)
            assert lines.readline() == "* ann is here (1)\n"
            bob = launch(
                *(EXAMPLES / "chat.py", "join", tmp_path / "authority.pem"),
                *("localhost", port, "bob"),
                stdin=subprocess.PIPE,
            )
            assert lines.readline() == "* bob is here (2)\n"
            bob.stdin.write("hello\n")
            bob.stdin.flush()
            assert lines.readline() == "bob: hello\n"
            print("good bye", file=lines, flush=True)
            assert lines.readline() == "ann: good bye\n"
            said = [bob.stdout.readline() for _ in range(3)]
            assert said == ["* bob is here (2)\n", "bob: hello\n", "ann: good bye\n"]
            bob.stdin.close()
            assert lines.readline() == "* bob has gone\n"
            assert (bob.wait(30), bob.stderr.read()) == (0, "")
            lines.close()


def query(name, kind=1, number=4711, flags=0x0100):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    header = struct.pack("!6H", number, flags, 1, 0, 0, 0)
    return header + labels + b"\0" + struct.pack("!2H", kind, 1)


def test_name_server_answers_what_its_file_knows(serve, tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("10.0.0.1 One.example one # first\n10.0.0.2 one.example\n::1 six\n\n")
    port = serve("name_server.py", hosts)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.connect(("127.0.0.1", port))

        def ask(message):
            sock.send(message)
            answer = sock.recv(512)
            number, flags, _, answers, _, _ = struct.unpack_from("!6H", answer)
            assert number == 4711 and flags & 0x8000
            return flags & 15, answers, answer

        status, answers, answer = ask(query("ONE.example"))
        assert (status, answers) == (0, 2)
        assert answer[-4:] == bytes([10, 0, 0, 2]) and bytes([10, 0, 0, 1]) in answer
        assert ask(query("one", kind=28))[:2] == (0, 0)
        assert ask(query("six"))[:2] == (3, 0)
        assert ask(query("one")[:-3])[:2] == (1, 0)
        assert ask(query("one", flags=0x2000))[:2] == (4, 0)
        # What is no query has no answer; the next one has.
        sock.send(b"short")
        sock.send(query("one", flags=0x8000))
        assert ask(query("one"))[:2] == (0, 1)


def test_indexer_finds_the_files_with_all_words(launch, tmp_path):
    for number in range(200):
        folder = tmp_path / f"{number % 7}" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(f"common word{number}\n" + "Rare\n" * (number == 42))
    (tmp_path / "binary").write_bytes(b"common rare\0")
    (tmp_path / "loop").symlink_to(tmp_path)
    child = launch(EXAMPLES / "indexer.py", tmp_path, "COMMON", "rare")
    assert output(child) == "0/deep/42.txt\n"
    assert len(output(launch(EXAMPLES / "indexer.py", tmp_path, "common")).splitlines()) == 200


class Backends:
    """Blocking servers of this process: each sends its number, then back what it gets."""

    def __init__(self, count):
        self.listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        self.addresses = [f"127.0.0.1:{port_of(sock)}" for sock in self.listeners]
        self.threads = [
            threading.Thread(target=self._serve, args=(number, sock))
            for number, sock in enumerate(self.listeners)
        ]
        for thread in self.threads:
            thread.start()

    def _serve(self, number, listener):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                data = all_of(connection)
                if data == b"end":
                    return
                connection.sendall(b"%d" % number + data)

    def end(self):
        for sock in self.listeners:
            with connect(port_of(sock)) as client:
                client.sendall(b"end")
        for thread in self.threads:
            thread.join()
        for sock in self.listeners:
            sock.close()


@pytest.fixture
def backends():
    backends = Backends(2)
    yield backends
    backends.end()


def through(port, data):
    with connect(port) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(1)))
        sender.start()
        answer = all_of(client)
        sender.join()
    return answer


def test_proxy_deals_out_connections_and_passes_on_ends(serve, backends):
    port = serve("proxy.py", *backends.addresses)
    assert [through(port, b"x") for _ in range(4)] == [b"0x", b"1x", b"0x", b"1x"]
    assert through(port, BULK) == b"0" + BULK


def test_proxy_leaves_out_a_backend_that_refuses_and_hangs_up_when_all_do(serve, backends):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        closed = f"127.0.0.1:{port_of(gone)}"
    port = serve("proxy.py", closed, backends.addresses[1])
    assert [through(port, b"x") for _ in range(3)] == [b"1x"] * 3
    port = serve("proxy.py", closed)
    with connect(port) as client:
        assert client.recv(1) == b""


def needs(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def test_service_tells_its_health_and_is_scraped(launch, loop_kind):
    needs("uvicorn", "prometheus_client")
    port = free_port()
    child = launch(EXAMPLES / "service.py", port)
    for line in child.stderr:
        if "Uvicorn running on" in line:
            break
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:

        def get(path):
            client.request("GET", path)
            answer = client.getresponse()
            return answer.status, answer.read()

        assert get("/") == (200, json.dumps({"driver": loop_kind}).encode())
        for _ in range(2):
            status, body = get("/health")
            facts = json.loads(body)
            assert (status, facts["driver"], facts["connections"]) == (200, loop_kind, 1)
            assert 0 <= facts["utilization"] <= 1
        status, body = get("/metrics")
        assert status == 200
        assert b'requests_total{path="/health"} 2.0' in body
        assert b"asyncio_eventloop_delay_p99_seconds" in body
        assert get("/none")[0] == 404
    child.send_signal(signal.SIGTERM)
    errors = child.stderr.read()
    assert "Application shutdown complete" in errors
    assert "Traceback" not in errors


def test_dask_pools_workers_are_on_our_loop(tmp_path):
    """On the driver that there is; tests/apps has Dask on both."""
    needs("distributed")
    done = subprocess.run(
        [sys.executable, "-m", "uring_loop", "run", EXAMPLES / "dask_pool.py", "2"],
        env={
            **os.environ,
            "DASK_TEMPORARY_DIRECTORY": str(tmp_path),
            "PYTHONPATH": str(EXAMPLES.parent),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    drivers = [line.rsplit(": ")[-1] for line in lines[:-1]]
    assert len(drivers) == 2 and set(drivers) <= {"uring", "selector"}
    assert lines[-1] == "5133 primes below 50000"


def test_every_example_is_run_by_a_test():
    text = pathlib.Path(__file__).read_text()
    names = {path.name for path in EXAMPLES.glob("*.py")}
    assert len(names) == 12
    assert names == {name for name in names if f'"{name}"' in text}
