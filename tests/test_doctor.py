"""loop.report() and `python -m uring_loop doctor`: what they say, and their exit status."""

import asyncio
import concurrent.futures
import json
import os
import subprocess
import sys

import pytest
from test_choice import REFUSE_RING, needs_ring, run_python

import uring_loop
from uring_loop._internal import doctor, features, selftest

# Without the privilege to lock memory beyond the limit, and with a limit of so many bytes.
UNPRIVILEGED = """
import ctypes, resource
def lock_no_more_than(limit):
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(1 << 14)
    assert libc.capset(header, sets) == 0
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, hard))
"""


def run_doctor(*arguments, prelude="", **environment):
    call = f"from uring_loop.__main__ import main\nsys.exit(main({list(arguments)!r}))"
    return run_python(f"import sys\n{prelude}\n{call}", **environment)


@needs_ring
def test_doctor_with_a_ring_exits_with_0_and_passes_its_self_test():
    done = run_doctor("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Driver: uring" in done.stdout
    for name in selftest.CHECKS:
        assert f"  {name:18} ok" in done.stdout


def test_doctor_with_the_selector_forced_exits_with_1_and_says_who_forced_it():
    done = run_doctor("doctor", URING_LOOP_DRIVER="selector")
    assert (done.returncode, done.stderr) == (1, "")
    assert "chosen by URING_LOOP_DRIVER=selector" in done.stdout


def test_doctor_with_the_selector_forced_makes_no_ring_call():
    done = run_doctor(
        "doctor", prelude=f"{REFUSE_RING}\nkill_ring()", URING_LOOP_DRIVER="selector"
    )
    assert (done.returncode, done.stderr) == (1, "")


@needs_ring
def test_doctor_under_a_filter_exits_with_1_and_names_cause_and_cure():
    done = run_doctor("doctor", prelude=f"{REFUSE_RING}\nrefuse_ring(1)")
    assert (done.returncode, done.stderr) == (1, "")
    assert "No ring: io_uring is forbidden" in done.stdout
    assert "Cure: allow io_uring_setup" in done.stdout
    assert "seccomp: filter" in done.stdout


@needs_ring
def test_doctor_with_a_ring_forced_that_cannot_be_exits_with_3_and_says_why():
    done = run_doctor("doctor", prelude=f"{REFUSE_RING}\nrefuse_ring(1)", URING_LOOP_DRIVER="uring")
    assert done.returncode == 3
    assert "No loop can be made: the uring driver cannot run" in done.stdout


@needs_ring
def test_doctor_says_whether_a_ring_is_charged_to_the_locked_memory_as_a_trial_shows():
    prelude = f"{UNPRIVILEGED}\nlock_no_more_than(1 << 20)"
    some = run_doctor("doctor", prelude=prelude)
    none = run_doctor("doctor", prelude=f"{UNPRIVILEGED}\nlock_no_more_than(0)")
    if none.returncode == 0:
        assert "(no ring of this process is charged to it: tried)" in some.stdout
        assert "(no ring of this process is charged to it: tried)" in none.stdout
    else:
        assert "1048576 (a ring of this process is charged to it: tried)" in some.stdout
        assert "No ring: no memory for a ring" in none.stdout
        assert "Cure: raise RLIMIT_MEMLOCK" in none.stdout
        assert "CAP_IPC_LOCK" in none.stdout
    assert "5.12" not in some.stdout + none.stdout


def test_cure_for_want_of_memory_is_what_the_trial_shows():
    assert features.room(True).startswith("raise RLIMIT_MEMLOCK")
    assert features.room(False).startswith("raise the container's memory limit")
    assert "should rings be charged" in features.room(None)


@needs_ring
def test_doctor_without_proc_says_that_it_is_missing_and_not_that_the_switch_is():
    prelude = """
import posix
def no_proc(path, flags, mode=0o777, *, dir_fd=None, real=posix.open):
    if str(path).startswith("/proc/"):
        raise FileNotFoundError(2, "No such file or directory", path)
    return real(path, flags, mode, dir_fd=dir_fd)
import os
os.open = no_proc
"""
    done = run_doctor("doctor", prelude=prelude)
    assert (done.returncode, done.stderr) == (0, "")
    assert "kernel.io_uring_disabled: unknown (there is no /proc)" in done.stdout
    assert "seccomp: unknown (there is no /proc)" in done.stdout
    refused = run_doctor("doctor", prelude=f"{prelude}\n{REFUSE_RING}\nrefuse_ring(1)")
    assert "or set kernel.io_uring_disabled to 0 (no /proc tells it)" in refused.stdout


def test_doctor_in_json_says_the_same_as_the_loops_report():
    done = run_doctor("doctor", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == (0 if facts["driver"] == "uring" else 1)
    loop = uring_loop.new_event_loop()
    try:
        report = loop.report()
    finally:
        loop.close()
    if not any(name.startswith("URING_LOOP_") for name in os.environ):
        assert {name: facts[name] for name in report} == json.loads(json.dumps(report))
    assert set(facts["self_test"]) == set(selftest.CHECKS)


@needs_ring
def test_doctor_names_features_that_are_switched_off_with_their_cure():
    done = run_doctor("doctor", URING_LOOP_DISABLE="defer_taskrun,buffer_ring")
    assert done.returncode == 0
    assert "switched off; cure: take it out of URING_LOOP_DISABLE" in done.stdout
    assert "it needs buffer_ring, which is not in use" in done.stdout


def test_doctor_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "uring_loop", "doctor", "--json"], capture_output=True, timeout=60
    )
    assert done.returncode in (0, 1)
    assert json.loads(done.stdout)["uring_loop"] == uring_loop.__version__


def test_doctor_whose_reader_has_left_ends_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "uring_loop", "doctor"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writer)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_doctor_with_a_check_that_fails_exits_with_3_and_says_which(monkeypatch, capsys):
    async def fails():
        raise selftest.CheckFailed("no timer came")

    monkeypatch.setitem(selftest.CHECKS, "timers", fails)
    assert doctor.main([]) == 3
    assert "FAILED: CheckFailed: no timer came" in capsys.readouterr().out


def test_doctor_with_a_check_that_hangs_says_so_in_time(monkeypatch, capsys):
    async def hangs():
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(selftest, "SECONDS_PER_CHECK", 0.01)
    monkeypatch.setattr(selftest, "CHECKS", {"timers": hangs})
    assert doctor.main([]) == 3
    assert "not done within 0.01 seconds" in capsys.readouterr().out


def test_report_of_a_closed_loop_still_names_its_driver():
    loop = uring_loop.new_event_loop()
    driver = loop.driver
    loop.close()
    assert loop.report()["driver"] == driver


def test_report_of_an_openssl_that_begins_no_handshake_says_so(tmp_path):
    """Connections with contexts of their own go on all the same, in Python."""
    config = tmp_path / "openssl.cnf"
    config.write_text(
        "openssl_conf = all\n[all]\nssl_conf = tls\n[tls]\nsystem_default = limits\n"
        "[limits]\nMaxProtocol = TLSv1.1\n"
    )
    code = "from uring_loop._internal import tls_records\nprint(tls_records.report()['reason'])"
    done = run_python(code, OPENSSL_CONF=str(config))
    assert (done.returncode, done.stderr) == (0, "")
    assert "does not begin a handshake" in done.stdout


def test_doctor_says_who_encrypts_and_why_it_is_not_c():
    assert doctor._tls(None) == "none (there is no ssl module)"
    said = doctor._tls({"openssl": "OpenSSL 9", "reason": "nobody knows it"})
    assert said == "records in Python, by OpenSSL 9: nobody knows it"


def test_python_without_ssl_has_loops_that_do_all_but_tls_and_doctor_says_so():
    prelude = """
sys.modules["_ssl"] = None
import asyncio, socket, uring_loop
async def main():
    loop = asyncio.get_running_loop()
    given, (one, other) = socket.socket(), socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
    other.close()
    for asked in (
        loop.create_connection(asyncio.Protocol, sock=given, ssl=True, server_hostname="x"),
        loop.start_tls(transport, transport.get_protocol(), None),
    ):
        try:
            await asked
        except Exception as error:
            print(type(error).__name__, error)
    transport.abort()
    given.close()
for make in (asyncio.SelectorEventLoop, uring_loop.new_event_loop):
    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())
"""
    done = run_doctor("doctor", prelude=prelude)
    assert (done.returncode in (0, 1), done.stderr) == (True, "")
    assert "TLS: none (there is no ssl module)" in done.stdout
    said = done.stdout.splitlines()[:4]
    assert said[:2] == said[2:]
    assert said[:2] == [
        "RuntimeError stdlib ssl module not available",
        "RuntimeError Python ssl module is not available",
    ]


# ---- a self-test finds what is broken ------------------------------------------------------


class Unordered(asyncio.SelectorEventLoop):
    def call_at(self, when, callback, *args, context=None):
        return super().call_at(0 if callback.__name__ == "append" else when, callback, *args)


class Early(asyncio.SelectorEventLoop):
    def call_at(self, when, callback, *args, context=None):
        return super().call_at(when - 1, callback, *args)


class InItsOwnThread(asyncio.SelectorEventLoop):
    def run_in_executor(self, executor, function, *args):
        done = self.create_future()
        done.set_result(function(*args))
        return done


class Forgetful(asyncio.SelectorEventLoop):
    """Takes what comes for who has gone."""

    async def sock_recv(self, sock, size):
        try:
            return await super().sock_recv(sock, size)
        except asyncio.CancelledError:
            self.gone = True
            raise

    async def sock_sendall(self, sock, data):
        await super().sock_sendall(sock, b"lost" if self.gone else data)


class Lacking(asyncio.SelectorEventLoop):
    def add_reader(self, *arguments):
        raise NotImplementedError("no readers")


@pytest.mark.parametrize(
    ("kind", "check", "problem"),
    [
        (Unordered, "timers", "CheckFailed: timers of 1, 2 and 3 ms came in the order [3, 1, 2]"),
        (Early, "timers", "CheckFailed: a timer of 5 ms came early"),
        (InItsOwnThread, "threads", "CheckFailed: the executor ran in the loop's own thread"),
        (Forgetful, "sockets", "CheckFailed: a cancelled receive took bytes with it"),
        (Lacking, "readers", "NotImplementedError: no readers"),
    ],
)
def test_self_test_says_what_is_wrong_with_a_loop(monkeypatch, kind, check, problem):
    monkeypatch.setattr(selftest, "CHECKS", {check: selftest.CHECKS[check]})
    with asyncio.Runner(loop_factory=kind) as runner:
        assert runner.run(selftest.run()) == {check: problem}


def test_self_test_says_when_other_bytes_come_back(monkeypatch):
    async def garble(reader, writer):
        writer.write(bytes(len(await reader.readexactly(300_000))))
        writer.close()

    monkeypatch.setattr(selftest, "_echo", garble)
    monkeypatch.setattr(selftest, "CHECKS", {"unix": selftest.CHECKS["unix"]})
    with asyncio.Runner(loop_factory=uring_loop.new_event_loop) as runner:
        found = runner.run(selftest.run())
    assert found == {"unix": "CheckFailed: what came back is not what was sent"}


def test_self_test_passes_in_another_thread_than_the_main_one():
    def check():
        with asyncio.Runner(loop_factory=uring_loop.new_event_loop) as runner:
            return runner.run(selftest.run())

    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert pool.submit(check).result() == dict.fromkeys(selftest.CHECKS)
