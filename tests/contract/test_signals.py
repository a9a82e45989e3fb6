"""Signals: Ctrl-C on a blocked loop, add_signal_handler, EINTR."""

import asyncio
import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from harness import iterations, run

MAKE_LOOP = """
import asyncio, os, signal, sys, threading, time
def new_loop():
    if os.environ.get("URING_LOOP_DRIVER"):
        import uring_loop
        return uring_loop.new_event_loop()
    return asyncio.SelectorEventLoop()
"""


def in_child(text, *, interrupt=None, timeout=60):
    """Run a program that prints `ready` when a signal may come; what it printed afterwards."""
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", MAKE_LOOP + textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stdout.readline() == "ready\n", child.stderr.read()
            if interrupt is not None:
                child.send_signal(interrupt)
            out, err = child.communicate(timeout=timeout)
        finally:
            child.kill()
    assert child.returncode == 0, err
    return out


def test_ctrl_c_on_a_loop_asleep_without_timers_raises_keyboard_interrupt(loop_kind):
    out = in_child(
        """
        loop = new_loop()
        # The descriptor of nothing: only the signal can end the wait.
        loop.call_soon(print, "ready")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted", loop.is_running())
        print(loop.run_until_complete(asyncio.sleep(0, "again")))
        loop.close()
        """,
        interrupt=signal.SIGINT,
    )
    assert out == "interrupted False\nagain\n"


def test_ctrl_c_on_a_loop_asleep_until_a_timer_raises_keyboard_interrupt(loop_kind):
    out = in_child(
        """
        loop = new_loop()
        handle = loop.call_later(3600, print)
        loop.call_soon(print, "ready")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
        interrupt=signal.SIGINT,
    )
    assert out == "interrupted\n"


def test_ctrl_c_on_a_busy_loop_raises_keyboard_interrupt(loop_kind):
    out = in_child(
        """
        loop = new_loop()
        def again():
            loop.call_soon(again)
        loop.call_soon(print, "ready")
        loop.call_soon(again)
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
        loop.close()
        """,
        interrupt=signal.SIGINT,
    )
    assert out == "interrupted\n"


def test_ctrl_c_under_a_runner_cancels_the_main_task(loop_kind):
    out = in_child(
        """
        async def main():
            try:
                print("ready")
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                print("cancelled")
                raise
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """,
        interrupt=signal.SIGINT,
    )
    assert out == "cancelled\ninterrupted\n"


def test_signal_python_handler_that_does_not_raise_runs_and_the_loop_goes_on(loop_kind):
    out = in_child(
        """
        loop = new_loop()
        def handler(number, frame):
            print("handled")
            loop.call_soon_threadsafe(loop.stop)
        signal.signal(signal.SIGUSR1, handler)
        loop.call_soon(print, "ready")
        loop.run_forever()
        print("stopped")
        loop.close()
        """,
        interrupt=signal.SIGUSR1,
    )
    assert out == "handled\nstopped\n"


def test_signal_handler_of_the_loop_on_a_sleeping_loop_is_called(loop_kind):
    out = in_child(
        """
        loop = new_loop()
        def handler(*arguments):
            print("handled", arguments)
            loop.stop()
        loop.add_signal_handler(signal.SIGTERM, handler, 1, "two")
        loop.call_soon(print, "ready")
        loop.run_forever()
        loop.close()
        print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        """,
        interrupt=signal.SIGTERM,
    )
    assert out == "handled (1, 'two')\nTrue\n"


def test_signal_handler_of_the_loop_for_sigint_replaces_keyboard_interrupt(loop_kind):
    out = in_child(
        """
        loop = new_loop()
        loop.add_signal_handler(signal.SIGINT, lambda: (print("handled"), loop.stop()))
        loop.call_soon(print, "ready")
        loop.run_forever()
        loop.remove_signal_handler(signal.SIGINT)
        print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
        loop.close()
        """,
        interrupt=signal.SIGINT,
    )
    assert out == "handled\nTrue\n"


def test_signal_ignored_does_not_disturb_a_waiting_loop(loop):
    """SIGWINCH interrupts the wait (EINTR); the timer still comes, not early."""
    previous = signal.signal(signal.SIGWINCH, lambda *_: None)
    try:

        async def main():
            start = loop.time()
            thread = threading.Thread(target=lambda: os.kill(os.getpid(), signal.SIGWINCH))
            thread.start()
            await asyncio.sleep(0.02)
            thread.join()
            return loop.time() - start

        assert run(loop, main()) >= 0.0199
    finally:
        signal.signal(signal.SIGWINCH, previous)


def test_add_signal_handler_is_called_through_the_loop_many_times(loop):
    async def main():
        count = 0
        came = asyncio.Event()

        def handler(argument):
            nonlocal count
            assert argument == "argument"
            assert asyncio.get_running_loop() is loop
            count += 1
            came.set()

        loop.add_signal_handler(signal.SIGUSR1, handler, "argument")
        for _ in range(5):
            came.clear()
            os.kill(os.getpid(), signal.SIGUSR1)
            await came.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1) is True
        assert loop.remove_signal_handler(signal.SIGUSR1) is False
        return count

    assert run(loop, main()) == 5
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_add_signal_handler_twice_replaces_the_first(loop):
    async def main():
        seen = []
        came = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
        loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("second"), came.set()))
        os.kill(os.getpid(), signal.SIGUSR1)
        await came.wait()
        loop.remove_signal_handler(signal.SIGUSR1)
        return seen

    assert run(loop, main()) == ["second"]


def test_add_signal_handler_two_signals_each_gets_its_own(loop):
    async def main():
        seen = []
        both = loop.create_future()

        def handler(name):
            seen.append(name)
            if len(seen) == 2:
                both.set_result(None)

        loop.add_signal_handler(signal.SIGUSR1, handler, "one")
        loop.add_signal_handler(signal.SIGUSR2, handler, "two")
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        await both
        loop.remove_signal_handler(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR2)
        return sorted(seen)

    assert run(loop, main()) == ["one", "two"]


def test_signal_handler_raising_reaches_the_exception_handler(loop, errors):
    async def main():
        def handler():
            raise LookupError

        loop.add_signal_handler(signal.SIGUSR1, handler)
        os.kill(os.getpid(), signal.SIGUSR1)
        while not errors:
            await asyncio.sleep(0)
        loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())
    assert isinstance(errors.pop()["exception"], LookupError)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_add_signal_handler_of_an_uncatchable_signal_raises(loop, number):
    with pytest.raises(RuntimeError, match=f"^sig {number:d} cannot be caught$"):
        loop.add_signal_handler(number, print)


@pytest.mark.parametrize("number", [0, -1, 10_000])
@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_signal_number_out_of_range_raises_value_error(loop, method, number):
    arguments = (print,) if method.startswith("add") else ()
    text = f"invalid signal number {number}|signal number {number} out of range"
    with pytest.raises(ValueError, match=text):
        getattr(loop, method)(number, *arguments)


@pytest.mark.parametrize("number", ["SIGINT", None, 1.5])
def test_signal_number_of_a_wrong_type_raises_type_error(loop, number):
    with pytest.raises(TypeError, match="sig must be an int, not "):
        loop.add_signal_handler(number, print)


def test_add_signal_handler_of_a_coroutine_function_raises_type_error(loop):
    async def handler():
        pass

    text = r"^coroutines cannot be used with add_signal_handler\(\)$"
    with pytest.raises(TypeError, match=text):
        loop.add_signal_handler(signal.SIGUSR1, handler)
    coroutine = handler()
    with pytest.raises(TypeError, match=text):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    coroutine.close()


def test_add_signal_handler_on_a_closed_loop_raises(make_loop):
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.add_signal_handler(signal.SIGUSR1, print)


def test_add_signal_handler_outside_the_main_thread_raises(loop):
    async def main():
        with pytest.raises(RuntimeError):
            await loop.run_in_executor(None, loop.add_signal_handler, signal.SIGUSR1, print)

    run(loop, main())
    run(loop, iterations(1))


def test_close_restores_default_handlers_and_the_wake_up_descriptor(make_loop):
    loop = make_loop()
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    after = signal.set_wakeup_fd(-1)
    assert after == -1


def test_run_restores_the_wake_up_descriptor_of_someone_else(loop):
    """A loop without signal handlers must leave another library's wake-up descriptor alone."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    try:
        run(loop, iterations(2))
        assert signal.set_wakeup_fd(-1) == write
    finally:
        signal.set_wakeup_fd(-1)
        os.close(read)
        os.close(write)


@pytest.fixture
def stale_wakeup():
    """A wake-up descriptor of somebody who has closed it and forgotten it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stale = fcntl.fcntl(writer, fcntl.F_DUPFD_CLOEXEC, 200)
    signal.set_wakeup_fd(stale)
    for descriptor in (reader, writer, stale):
        os.close(descriptor)
    yield stale
    signal.set_wakeup_fd(-1)


def test_loop_runs_where_somebody_left_a_closed_wakeup_descriptor(loop, stale_wakeup):
    for _ in range(3):
        run(loop, iterations(2))


def test_signal_is_handled_where_somebody_left_a_closed_wakeup_descriptor(loop, stale_wakeup):
    async def main():
        called = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, called.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await called.wait()
        assert loop.remove_signal_handler(signal.SIGUSR1)

    run(loop, main())


def test_wakeup_descriptor_of_somebody_else_is_left_to_them(loop):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        run(loop, iterations(2))
        assert signal.set_wakeup_fd(-1) == writer
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def test_wakeup_descriptor_that_somebody_sets_meanwhile_is_theirs_afterwards(loop, loop_kind):
    if loop_kind == "asyncio":
        pytest.skip("asyncio takes it away from them")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    async def main():
        signal.set_wakeup_fd(writer)

    try:
        run(loop, main())
        assert signal.set_wakeup_fd(-1) == writer
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def test_signal_whose_handler_was_cancelled_loses_it_when_it_comes(loop):
    async def main():
        loop.add_signal_handler(signal.SIGUSR1, print, "never")
        loop._signal_handlers[signal.SIGUSR1].cancel()
        os.kill(os.getpid(), signal.SIGUSR1)
        while signal.SIGUSR1 in loop._signal_handlers:
            await asyncio.sleep(0)

    run(loop, main())
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


@pytest.mark.parametrize(
    ("number", "expected"), [(errno.EINVAL, RuntimeError), (errno.EPERM, PermissionError)]
)
@pytest.mark.parametrize("method", ["add_signal_handler", "remove_signal_handler"])
def test_signal_that_the_system_refuses_is_an_error(loop, monkeypatch, method, number, expected):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    arguments = (print,) if method.startswith("add") else ()
    if not arguments:
        loop.add_signal_handler(signal.SIGUSR1, print)
    with monkeypatch.context() as refusing:
        refusing.setattr(signal, "signal", refuse)
        with pytest.raises(expected) as caught:
            getattr(loop, method)(signal.SIGUSR1, *arguments)
    if expected is RuntimeError:
        assert str(caught.value) == f"sig {signal.SIGUSR1:d} cannot be caught"
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_signal_handler_that_there_is_nothing_to_watch_for_leaves_no_pipe(
    loop, loop_kind, monkeypatch
):
    if loop_kind == "asyncio":
        pytest.skip("asyncio has its pipe from the beginning")

    def refuse(*_):
        raise OSError(errno.ENOMEM, "no memory")

    with monkeypatch.context() as refusing:
        refusing.setattr("uring_loop._internal.signals.Poll", refuse)
        with pytest.raises(RuntimeError, match="no memory"):
            loop.add_signal_handler(signal.SIGUSR1, print)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(RuntimeError, match="no memory"):
            loop.add_signal_handler(signal.SIGUSR1, print)
        assert os.listdir("/proc/self/fd") == before
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_loop_closed_while_the_interpreter_ends_leaves_its_handlers_and_says_so(loop_kind):
    """Python's own state of signals may be gone by then."""
    program = MAKE_LOOP + textwrap.dedent(
        """
        class Late:
            def __del__(self, sys=sys, write=os.write):
                write(1, b"%d" % sys.is_finalizing())
                self.loop.close()
                write(1, b"%d" % self.loop.is_closed())

        late = Late()
        late.loop = new_loop()
        late.loop.add_signal_handler(signal.SIGUSR1, print)
        """
    )
    command = [sys.executable, "-W", "always", "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stdout) == (0, "11")
    assert "ResourceWarning: Closing the loop <" in found.stderr
    text = "> on interpreter shutdown stage, skipping signal handlers removal"
    assert text in found.stderr
