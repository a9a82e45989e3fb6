"""What the tests of real programs share: child processes, certificates, time to wait.

Each program's package is asked for by the test module that uses it, which is
skipped as a whole where the package is not installed.
"""

import asyncio
import os
import pathlib
import signal
import ssl
import subprocess
import sys
import threading

import pytest
import trustme

import uring_loop

# Long enough for a loaded machine; only a lost wake-up or a lost byte reaches it.
PATIENCE_S = 40

HERE = pathlib.Path(__file__).parent
PACKAGE = pathlib.Path(uring_loop.__file__).parent.parent


@pytest.fixture
def run(loop):
    """Run a coroutine on the loop under test, to its end and within PATIENCE_S."""

    def run(coroutine):
        async def within_patience():
            return await asyncio.wait_for(coroutine, PATIENCE_S)

        return loop.run_until_complete(within_patience())

    return run


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(authority):
    """Of a server on the loopback."""
    return authority.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def server_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


class Program:
    """A child whose lines (of both outputs) are read as they come."""

    def __init__(self, command, environment, **options):
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        # A session of its own: what it leaves behind can be ended with it.
        self._child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self._child.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self):
        return "\n".join(self.lines)

    @property
    def pid(self):
        return self._child.pid

    def until(self, text, times=1):
        """The last of the first `times` lines that contain `text`."""

        def found():
            return [line for line in self.lines if text in line]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= times or self._ended, PATIENCE_S)
            assert len(found()) >= times, f"{text!r} did not come:\n{self.output}"
            return found()[times - 1]

    def is_alive(self):
        return self._child.poll() is None

    def signal(self, number):
        self._child.send_signal(number)

    def wait(self):
        """The exit status; everything that was said is in `output` then."""
        status = self._child.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert not self._reader.is_alive(), f"something still writes:\n{self.output}"
        return status

    def end(self):
        """Kill what is left of it and of its children."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait()
        self._reader.join()
        self._child.stdout.close()


@pytest.fixture
def start():
    """Starts programs that can import this package and this directory; ends what is left."""
    started = []

    def start(*command, environment=None, **options):
        paths = [str(PACKAGE), str(HERE), os.environ.get("PYTHONPATH", "")]
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        program = Program([*map(str, command)], variables, **options)
        started.append(program)
        return program

    yield start
    for program in started:
        program.end()


@pytest.fixture
def start_python(start):
    """start() with this Python and its arguments."""

    def start_python(*arguments, **options):
        return start(sys.executable, *arguments, **options)

    return start_python
