"""Which driver a loop gets, what it says about that, and the ways to get a loop.

What a process may have of io_uring is decided once per process, so most of
these run in children, some under a seccomp filter that refuses the ring.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
import warnings

import pytest

import uring_loop
from uring_loop._internal import driver, features

# A filter as containers have it: io_uring_setup (425 everywhere) fails with this errno; or, as
# systemd's without an errno, any of the three calls (425 to 427) kills the process.
REFUSE_RING = """
import ctypes, errno, os, struct, sys
load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
def refuse_ring(number, call=425):
    install(
        (load, 0, 0, 0),
        (equal, 0, 1, call),
        (give, 0, 0, 0x00050000 | number),
        (give, 0, 0, 0x7FFF0000),
    )
def kill_ring():
    install(
        (load, 0, 0, 0),
        (at_least, 0, 2, 425),
        (at_least, 1, 0, 428),
        (give, 0, 0, 0x80000000),
        (give, 0, 0, 0x7FFF0000),
    )
def install(*lines):
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    program = Program(len(code) // 8, code)
    if libc.prctl(set_seccomp, filter_mode, ctypes.byref(program)) != 0:
        print("no filter:", os.strerror(ctypes.get_errno()))
        sys.exit(77)
"""

# A connection with bulk both ways, a timer, a call from a thread, a watched pipe.
EXERCISE = """
import asyncio, os, threading
async def exercise():
    loop = asyncio.get_running_loop()
    async def echo(reader, writer):
        while data := await reader.read(100_000):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    async def client(number):
        reader, writer = await asyncio.open_connection(*address)
        blob = os.urandom(300_000)
        sending = loop.create_task(send(writer, blob))
        assert await reader.readexactly(len(blob)) == blob
        await sending
        writer.close()
        await writer.wait_closed()
    async def send(writer, blob):
        writer.write(blob)
        await writer.drain()
    await asyncio.gather(*(client(number) for number in range(10)))
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.001)
    woken = asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
    thread.start()
    await woken.wait()
    thread.join()
    read, write = os.pipe()
    readable = loop.create_future()
    loop.add_reader(read, lambda: readable.done() or readable.set_result(None))
    os.write(write, b"x")
    await readable
    loop.remove_reader(read)
    os.close(read)
    os.close(write)
"""


def run_python(program, **environment):
    """A Python program that has ended, with these variables set, and no other of ours."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("URING_LOOP_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**variables, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    return done


def child(text, **environment):
    """(output, log) of a Python program that must succeed."""
    done = run_python(textwrap.dedent(text), **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


def has_ring():
    from uring_loop._internal.driver import ring_report

    return ring_report().reason is None


needs_ring = pytest.mark.skipif(
    sys.platform != "linux" or not has_ring(), reason="this machine offers no ring"
)

TELL_DRIVER = """
import uring_loop
loop = uring_loop.new_event_loop()
print(loop.driver)
loop.close()
"""


@needs_ring
@pytest.mark.parametrize("choice", ["auto", "uring", None, ""])
def test_driver_with_a_ring_available_is_the_ring(choice):
    environment = {} if choice is None else {"URING_LOOP_DRIVER": choice}
    assert child(TELL_DRIVER, **environment) == ("uring", "")


def test_driver_forced_to_the_selector_is_the_selector():
    assert child(TELL_DRIVER, URING_LOOP_DRIVER="selector") == ("selector", "")


@pytest.mark.parametrize("choice", ["epoll", "URING", "1"])
def test_driver_of_an_unknown_name_raises_value_error(monkeypatch, choice):
    monkeypatch.setenv("URING_LOOP_DRIVER", choice)
    with pytest.raises(ValueError, match=f"URING_LOOP_DRIVER must be .*, not '{choice}'"):
        uring_loop.new_event_loop()


def test_feature_of_an_unknown_name_raises_value_error():
    text = """
        import uring_loop
        try:
            uring_loop.new_event_loop()
        except ValueError as error:
            print(error)
    """
    out, _ = child(text, URING_LOOP_DISABLE="no_such_feature")
    assert "no_such_feature" in out


REFUSALS = [errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EINVAL, errno.ENOMEM, errno.EXFULL]


@needs_ring
@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_ring_refused_for_any_reason_means_the_selector_and_one_log_line(number):
    text = f"""
        refuse_ring({number})
        import asyncio, uring_loop
        for _ in range(3):
            loop = uring_loop.new_event_loop()
            print(loop.driver)
            loop.run_until_complete(exercise())
            loop.close()
    """
    out, log = child(REFUSE_RING + EXERCISE + textwrap.dedent(text))
    assert out == "selector\nselector\nselector"
    assert len(log.splitlines()) == 1
    assert "selector" in log
    assert errno.errorcode[number] in log


@needs_ring
@pytest.mark.parametrize("number", REFUSALS, ids=errno.errorcode.get)
def test_ring_refused_but_forced_raises_with_the_reason(number):
    text = f"""
        refuse_ring({number})
        import uring_loop
        try:
            uring_loop.new_event_loop()
        except RuntimeError as error:
            print(error)
    """
    out, log = child(REFUSE_RING + textwrap.dedent(text), URING_LOOP_DRIVER="uring")
    assert errno.errorcode[number] in out
    assert log == ""


@needs_ring
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", [pytest.param(426, id="enter"), pytest.param(427, id="register")])
def test_filter_put_on_after_the_loop_was_made_is_named_as_the_cause(call, number):
    text = f"""
        import asyncio, uring_loop
        loop = uring_loop.EventLoop("uring")
        refuse_ring({number}, {call})
        for _ in range(2):
            try:
                loop.run_until_complete(loop.create_task(asyncio.sleep(0.01)))
            except OSError as error:
                print(error.errno, error.strerror)
        loop.close()
        for driver in (None, "uring"):
            try:
                loop = uring_loop.EventLoop(driver)
                print(loop.driver)
                loop.run_until_complete(exercise())
                loop.close()
            except RuntimeError as error:
                print(error)
    """
    out, log = child(REFUSE_RING + EXERCISE + textwrap.dedent(text))
    first, second, fallback, forced = out.splitlines()
    assert first == second
    assert first.startswith(f"{number} ")
    assert "a seccomp filter was put on after the loop was made" in first
    # Whose loop is made after it learns of it as from the start.
    assert fallback == "selector"
    assert errno.errorcode[number] in log
    assert "the uring driver cannot run" in forced


def test_driver_forced_to_the_selector_under_a_filter_that_kills_makes_no_ring_call():
    text = """
        kill_ring()
        import uring_loop
        loop = uring_loop.new_event_loop()
        loop.run_until_complete(exercise())
        print(loop.driver)
        loop.close()
    """
    program = REFUSE_RING + EXERCISE + textwrap.dedent(text)
    assert child(program, URING_LOOP_DRIVER="selector") == ("selector", "")


@needs_ring
def test_filter_that_kills_does_kill_who_tries_a_ring():
    """Else the test above could not fail."""
    text = "kill_ring(); import uring_loop; uring_loop.new_event_loop()"
    done = subprocess.run([sys.executable, "-c", REFUSE_RING + text], capture_output=True)
    assert done.returncode in (-signal.SIGSYS, 77)


@needs_ring
def test_loop_with_the_sizes_of_the_environment_works_with_the_smallest_ring():
    text = """
        import uring_loop
        loop = uring_loop.new_event_loop()
        loop.run_until_complete(exercise())
        loop.close()
        print("done")
    """
    sizes = "sq_entries=2,cq_entries=4,buffer_count=2,buffer_size=16"
    assert child(EXERCISE + textwrap.dedent(text), URING_LOOP_SIZES=sizes) == ("done", "")


@pytest.mark.parametrize(
    "sizes", ["sq_entries", "sq_entries=0", "sq_entries=-1", "sq_entries=x", "unknown=3", "size=8"]
)
def test_sizes_that_are_none_raise_value_error(monkeypatch, sizes):
    monkeypatch.setenv("URING_LOOP_SIZES", sizes)
    with pytest.raises(ValueError, match="URING_LOOP_SIZES must be name=number"):
        uring_loop.new_event_loop()


@needs_ring
def test_features_disabled_by_argument_are_not_used():
    loop = uring_loop.EventLoop("uring", disable=["defer_taskrun", "buffer_ring"])
    try:
        assert "defer_taskrun" not in loop.features
        assert "multishot_recv" not in loop.features
        features = loop.report()["features"]
        assert features["defer_taskrun"]["why"] == "switched off"
        assert "buffer_ring" in features["multishot_recv"]["why"]
    finally:
        loop.close()


def test_feature_of_an_unknown_name_as_argument_raises_value_error():
    with pytest.raises(ValueError, match="disable names an unknown feature 'no_such'"):
        uring_loop.EventLoop(disable=["no_such"])


@needs_ring
def test_ring_without_any_one_feature_or_all_of_them_still_works():
    """Each kernel feature has a form for kernels that lack it."""
    from uring_loop._internal.driver import ring_report

    names = list(ring_report().features)
    assert names
    text = """
        import uring_loop
        loop = uring_loop.new_event_loop()
        loop.run_until_complete(exercise())
        loop.close()
        print(loop.driver)
    """
    program = EXERCISE + textwrap.dedent(text)
    for disabled in [*names, ",".join(names)]:
        out, _ = child(program, URING_LOOP_DISABLE=disabled, URING_LOOP_DRIVER="uring")
        assert out == "uring", disabled


def test_run_returns_the_result_on_our_loop():
    async def main():
        loop = asyncio.get_running_loop()
        return isinstance(loop, uring_loop.EventLoop), loop.get_debug()

    assert uring_loop.run(main()) == (True, False)
    assert uring_loop.run(main(), debug=True) == (True, True)


def test_run_with_a_factory_uses_it():
    made = []

    def factory():
        made.append(uring_loop.new_event_loop())
        return made[-1]

    async def main():
        return asyncio.get_running_loop()

    assert uring_loop.run(main(), loop_factory=factory) is made[0]
    assert made[0].is_closed()


def test_run_inside_a_running_loop_raises():
    async def inner():
        pass

    async def main():
        coroutine = inner()
        try:
            with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
                uring_loop.run(coroutine)
        finally:
            coroutine.close()

    uring_loop.run(main())


def test_new_event_loop_makes_event_loops_and_the_class_is_callable():
    for loop in (uring_loop.new_event_loop(), uring_loop.EventLoop()):
        assert isinstance(loop, uring_loop.EventLoop)
        assert isinstance(loop, asyncio.AbstractEventLoop)
        assert loop.driver in ("uring", "selector")
        loop.close()


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="asyncio of this Python has no policies")
def test_policy_and_install_make_our_loops():
    text = """
        import asyncio, warnings, uring_loop
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            uring_loop.install()
            assert isinstance(asyncio.get_event_loop_policy(), uring_loop.EventLoopPolicy)
            policy = uring_loop.EventLoopPolicy()
        loop = policy.new_event_loop()
        assert isinstance(loop, uring_loop.EventLoop)
        loop.close()
        async def main():
            print(isinstance(asyncio.get_running_loop(), uring_loop.EventLoop))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.run(main())
    """
    output, log = child(text)
    assert output == "True"
    # Where there is no ring the log says so.
    assert log == "" if has_ring() else "using the selector driver" in log


@pytest.mark.skipif(
    not (3, 14) <= sys.version_info < (3, 16), reason="asyncio of this Python deprecates no policy"
)
def test_only_install_warns_of_policies_and_names_its_caller():
    text = """
        import warnings
        warnings.simplefilter("error")
        import uring_loop
        uring_loop.EventLoopPolicy().new_event_loop().close()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            uring_loop.install()
        (entry,) = caught
        print(entry.category.__name__, entry.filename)
    """
    assert child(text) == ("DeprecationWarning <string>", "")


def test_package_imports_nothing_of_asyncio_by_itself():
    text = "import sys, uring_loop; print('asyncio' in sys.modules)"
    assert child(text) == ("False", "")


def test_first_loop_imports_nothing_of_the_standard_library_beyond_asyncio():
    text = """
        import asyncio, sys
        before = set(sys.modules)
        import uring_loop
        uring_loop.new_event_loop().close()
        after = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(sorted(after - {"__future__", "_cffi_backend", "uring_loop"}))
    """
    assert child(text) == ("[]", "")


def test_package_lists_what_it_offers_and_nothing_unknown():
    for name in uring_loop.__all__:
        assert name in dir(uring_loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert getattr(uring_loop, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        uring_loop.unknown  # noqa: B018


# ---- what goes wrong on the way to a driver -------------------------------------------------


@pytest.fixture
def refusing_log():
    """Whatever is logged of loops raises; a filter of somebody's logging may."""

    def refuse(record):
        raise LookupError(record.getMessage())

    logger = logging.getLogger("uring_loop")
    logger.addFilter(refuse)
    before, logger.level = logger.level, logging.INFO
    driver._note.cache_clear()
    yield
    logger.removeFilter(refuse)
    logger.level = before
    driver._note.cache_clear()


def test_loop_that_cannot_be_announced_raises_that_and_leaves_no_driver(monkeypatch, refusing_log):
    monkeypatch.setattr(driver, "asked_by_environment", lambda: (True, ""))
    with pytest.raises(LookupError, match="^event loop on the selector driver"):
        uring_loop.EventLoop("selector")


@needs_ring
def test_loop_that_cannot_say_it_has_less_than_wanted_raises_that_and_leaves_no_ring(
    monkeypatch, refusing_log
):
    monkeypatch.setattr(driver.Driver, "shortage", "a ring of 2 entries")
    with pytest.raises(LookupError, match="^a ring of 2 entries; "):
        uring_loop.EventLoop("uring")


SWITCH = "/proc/sys/kernel/io_uring_disabled"


def test_ring_that_is_switched_off_is_not_asked_for(monkeypatch):
    monkeypatch.setattr(driver.procfs, "text", {SWITCH: "2\n"}.get)
    monkeypatch.setattr(driver, "_reports", {})
    report = driver.ring_report(0)
    assert report.explanation == (
        "io_uring is disabled (kernel.io_uring_disabled=2); "
        "enable it with sysctl kernel.io_uring_disabled=0"
    )
    assert not report.features
    assert driver.ring_report(0) is report


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        ("1\n", "kernel.io_uring_disabled is 1: join kernel.io_uring_group, or set it to 0"),
        ("0\n", features.PERMIT),
        ("nonsense", features.PERMIT),
    ],
)
def test_ring_that_is_not_permitted_has_the_cure_for_what_forbids_it(monkeypatch, text, cure):
    known = {SWITCH: text, "/proc/sys/kernel/osrelease": "6.12"}
    monkeypatch.setattr(driver.procfs, "text", known.get)
    assert driver._explain(-errno.EPERM, "no ring") == ("no ring (EPERM)", cure)


@needs_ring
def test_features_to_do_without_may_be_words_in_one_string():
    with contextlib.closing(uring_loop.EventLoop("uring", disable="no_iowait, poll_first")) as one:
        found = one.report()["features"]
    assert {found[name]["why"] for name in ("no_iowait", "poll_first")} == {"switched off"}


@pytest.mark.parametrize(
    ("error", "why", "cure"),
    [
        (errno.EPERM, "refused (EPERM)", features.PERMIT),
        (errno.EACCES, "refused (EACCES)", features.PERMIT),
        (errno.ENOMEM, "no memory for it (ENOMEM)", features.room(True)),
        (errno.EINVAL, f"not in Linux {os.uname().release}", "Linux 5.13 or newer"),
    ],
)
def test_feature_that_is_not_in_use_says_why_and_what_would_help(error, why, cure):
    found = features.describe("multishot_poll", False, error, is_charged=lambda: True)
    assert (found.used, found.since, found.why, found.cure) == (False, "5.13", why, cure)
