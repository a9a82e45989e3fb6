"""loop.report() and `python -m uring_loop doctor`: what they say, and their exit status."""

import json
import os
import subprocess
import sys

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
        import asyncio

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
