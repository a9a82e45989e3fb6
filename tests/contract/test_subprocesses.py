"""subprocess_exec and subprocess_shell, and asyncio.subprocess over them."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import types

import pytest
from harness import Noting, iterations, oracle_lacks, resource_warning, run

from uring_loop import _core

PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL

# Ends when its standard input does.
CAT = ("cat",)


def python(code, *args):
    return (sys.executable, "-S", "-c", code, *args)


@pytest.fixture(autouse=True)
def no_zombie_left():
    """Every child that has ended was reaped, by whoever started it."""
    yield
    gc.collect()
    with contextlib.suppress(ChildProcessError):
        left = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert left is None, f"a child was not reaped: {left}"


class Child(Noting, asyncio.SubprocessProtocol):
    """Notes every call; `output` by descriptor."""

    def __init__(self):
        super().__init__()
        self.output = {1: b"", 2: b""}
        self.lost = {}

    def pipe_data_received(self, fd, data):
        self.output[fd] += data
        self._note(f"data {fd}")

    def pipe_connection_lost(self, fd, exc):
        self.lost[fd] = exc
        self._note(f"lost {fd}")

    def process_exited(self):
        self._note("process_exited")

    def connection_lost(self, exc):
        assert exc is None
        self.transport.close()
        self._note("connection_lost")


async def spawn(*command, **options):
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(Child, *command, **options)
    return transport, protocol


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Its pipes.


def test_child_gets_its_input_and_gives_its_output(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        assert process.returncode is None
        output, errors = await process.communicate(b"through the cat")
        return output, errors, process.returncode

    assert run(loop, main()) == (b"through the cat", None, 0)


def test_megabytes_go_through_a_child_both_ways_at_once(loop):
    data = bytes(range(256)) * (32 << 10)

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(data)
        return output == data

    assert run(loop, main())


def test_output_is_read_line_by_line_while_the_child_lives(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        for number in range(100):
            process.stdin.write(b"line %d\n" % number)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"line %d\n" % number
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.stdout.read() == b""
        return await process.wait()

    assert run(loop, main()) == 0


def test_error_output_is_apart_unless_merged(loop):
    code = "import os; os.write(1, b'out'); os.write(2, b'err')"

    async def main():
        apart = await asyncio.create_subprocess_exec(*python(code), stdout=PIPE, stderr=PIPE)
        merged = await asyncio.create_subprocess_exec(
            *python(code), stdout=PIPE, stderr=subprocess.STDOUT
        )
        return await apart.communicate(), await merged.communicate()

    assert run(loop, main()) == ((b"out", b"err"), (b"outerr", None))


def test_child_without_pipes_ends_with_its_exit(loop):
    async def main():
        _, child = await spawn("true", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        await child.until_called("connection_lost")
        return child.calls

    assert run(loop, main()) == ["connection_made", "process_exited", "connection_lost"]


def test_protocol_hears_of_data_exit_pipes_and_then_the_end(loop):
    async def main():
        transport, child = await spawn("echo", "hello")
        assert transport.get_pid() == transport.get_extra_info("subprocess").pid
        transport.get_pipe_transport(0).close()
        await child.until_called("connection_lost")
        assert transport.get_returncode() == 0
        transport.close()
        return child

    child = run(loop, main())
    assert child.output[1] == b"hello\n"
    assert child.calls[0] == "connection_made"
    assert child.calls[-1] == "connection_lost"
    assert sorted(child.lost) == [0, 1, 2]
    assert child.lost[1] is None
    assert child.calls.count("process_exited") == 1
    assert child.calls.index("data 1") < child.calls.index("lost 1")


def test_child_that_closes_its_input_breaks_the_pipe(loop):
    code = "import os; os.close(0); os.write(1, b'x'); os.read(3, 1)"

    async def main():
        ours, theirs = os.pipe()
        _, child = await spawn(*python(code.replace("3", str(ours))), pass_fds=(ours,))
        await child.until_called("lost 0")
        assert child.transport.get_returncode() is None
        os.write(theirs, b"x")
        await child.until_called("connection_lost")
        os.close(ours)
        os.close(theirs)
        return child.transport.get_returncode()

    assert run(loop, main()) == 0


def test_communicate_with_a_child_that_reads_nothing_does_not_fail(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        return await process.communicate(bytes(1 << 20)), process.returncode

    assert run(loop, main()) == ((b"", None), 0)


def test_descriptors_are_passed_on(loop):
    async def main():
        reader, writer = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *python(f"import os; os.write({writer}, b'mine')"), pass_fds=(writer,)
        )
        os.close(writer)
        await process.wait()
        data = os.read(reader, 100)
        os.close(reader)
        return data

    assert run(loop, main()) == b"mine"


def test_no_descriptor_of_ours_reaches_a_child(loop):
    code = "import os; print(*sorted(int(n) for n in os.listdir('/proc/self/fd')))"

    async def main():
        await spawn_and_end(*CAT)
        process = await asyncio.create_subprocess_exec(
            *python(code), stdin=DEVNULL, stdout=PIPE, close_fds=False
        )
        output, _ = await process.communicate()
        return [int(number) for number in output.split()]

    async def spawn_and_end(*command):
        transport, child = await spawn(*command)
        transport.get_pipe_transport(0).close()
        await child.until_called("connection_lost")

    before = {number for number in range(256) if is_inheritable(number)}
    # One more is the listing's own.
    assert len(set(run(loop, main())) - before - {0, 1, 2}) <= 1


def is_inheritable(number):
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


# Its end.


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code_is_the_child_s(loop, code):
    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}")
        assert await process.wait() == code
        assert await process.wait() == code
        return process.returncode

    assert run(loop, main()) == code


@pytest.mark.parametrize("method", ["terminate", "kill", "send_signal"])
def test_signal_that_ended_the_child_is_the_negative_code(loop, method):
    numbers = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGUSR2}
    number = numbers[method]

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        getattr(process, method)(*([number] if method == "send_signal" else []))
        return await process.wait()

    assert run(loop, main()) == -number


def test_signal_reaches_the_handler_of_a_child(loop):
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        # Not pause(): the signal may come right before it.
        "while True: time.sleep(0.01)\n"
    )

    async def main():
        process = await asyncio.create_subprocess_exec(*python(code), stdout=PIPE)
        await process.stdout.readline()
        process.send_signal(signal.SIGUSR1)
        return await process.wait()

    assert run(loop, main()) == 42


def test_signals_to_a_child_that_has_ended_go_nowhere(loop, monkeypatch):
    async def main():
        # Its grandchild keeps the pipe, so the transport has not ended.
        transport, child = await spawn("sh", "-c", "sleep 100 & echo $!", stdin=DEVNULL)
        await child.until_called("process_exited")
        await child.until(lambda: child.output[1].endswith(b"\n"))
        killed = []
        kill = os.kill
        monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
        transport.kill()
        transport.terminate()
        transport.send_signal(signal.SIGHUP)
        monkeypatch.undo()
        kill(int(child.output[1]), signal.SIGKILL)
        await child.until_called("connection_lost")
        with pytest.raises(ProcessLookupError):
            transport.kill()
        return killed

    if asyncio_kills_strangers(loop):
        pytest.skip("stock asyncio of this Python: signals whoever has the number by now")
    assert run(loop, main()) == []


def asyncio_kills_strangers(loop):
    return type(loop).__module__.startswith("asyncio") and sys.version_info >= (3, 13)


def test_child_is_reaped_in_the_step_that_tells_its_return_code(loop, loop_kind):
    oracle_lacks(loop_kind, True, "knows the code a turn after the number is free")

    async def main():
        transport, child = await spawn("true", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
        pid = transport.get_pid()
        while transport.get_returncode() is None:
            assert alive(pid)
            await asyncio.sleep(0)
        assert not alive(pid)
        await child.until_called("connection_lost")

    run(loop, main())


def test_exit_is_heard_while_the_pipes_live_on(loop):
    async def main():
        transport, child = await spawn("sh", "-c", "sleep 100 & echo $!; exit 3", stdin=DEVNULL)
        await child.until_called("process_exited")
        await child.until(lambda: child.output[1].endswith(b"\n"))
        assert transport.get_returncode() == 3
        assert "connection_lost" not in child.calls
        os.kill(int(child.output[1]), signal.SIGKILL)
        await child.until_called("connection_lost")
        return child.calls[-1]

    assert run(loop, main()) == "connection_lost"


def test_pipes_may_end_before_the_child(loop):
    code = "import os; os.close(1); os.close(2); os.read(0, 1); os._exit(4)"

    async def main():
        transport, child = await spawn(*python(code))
        await child.until(lambda: {1, 2} <= child.lost.keys())
        assert transport.get_returncode() is None
        transport.get_pipe_transport(0).write(b"x")
        await child.until_called("connection_lost")
        return transport.get_returncode()

    assert run(loop, main()) == 4


def test_child_reaped_by_somebody_else_has_the_code_255_and_a_warning(loop, loop_kind, caplog):
    oracle_lacks(loop_kind, sys.version_info < (3, 12), "waits in a thread, which may be first")

    async def main():
        transport, child = await spawn(*CAT, stdout=DEVNULL, stderr=DEVNULL)
        # Without a turn in which the loop could hear of it.
        os.kill(transport.get_pid(), signal.SIGKILL)
        os.waitpid(transport.get_pid(), 0)
        await child.until_called("connection_lost")
        return transport.get_returncode()

    with caplog.at_level(logging.WARNING, "asyncio"):
        assert run(loop, main()) == 255
    assert len(caplog.records) == 1
    assert caplog.records[0].getMessage().endswith("will report returncode 255")


def test_many_children_at_once_end_each_with_its_own_code(loop):
    async def one(number):
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"read line; echo $line; exit {number}", stdin=PIPE, stdout=PIPE
        )
        output, _ = await process.communicate(b"%d\n" % number)
        return int(output), process.returncode

    async def main():
        return await asyncio.gather(*[one(number) for number in range(50)])

    assert run(loop, main()) == [(number, number) for number in range(50)]


def test_children_one_after_the_other_leave_no_descriptor(loop):
    async def main():
        counts = set()
        for _ in range(20):
            process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
            await process.communicate(b"x")
            await iterations(3)
            counts.add(len(os.listdir("/proc/self/fd")))
        return counts

    assert len(run(loop, main())) == 1


def test_child_in_a_session_of_its_own_is_killed_as_a_group(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "sleep 100 & wait", stdout=PIPE, start_new_session=True
        )
        os.killpg(process.pid, signal.SIGKILL)
        # The end of the output is the end of the last of the group.
        assert await process.stdout.read() == b""
        return await process.wait()

    assert run(loop, main()) == -signal.SIGKILL


# Timeouts, cancelling, closing.


def test_wait_that_is_cancelled_leaves_the_child_alone(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 0.001)
        assert process.returncode is None
        process.stdin.close()
        return await process.wait()

    assert run(loop, main()) == 0


def test_communicate_that_is_cancelled_leaves_the_child_alone(loop):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "100", stdout=PIPE)
        task = loop.create_task(process.communicate())
        await iterations(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert process.returncode is None
        process.kill()
        return await process.wait()

    assert run(loop, main()) == -signal.SIGKILL


@pytest.mark.parametrize("turns", range(6))
def test_start_that_is_cancelled_kills_the_child(loop, turns):
    pids = []

    class Noting(asyncio.SubprocessProtocol):
        def connection_made(self, transport):
            pids.append(transport.get_pid())

    async def main():
        task = loop.create_task(loop.subprocess_exec(Noting, *CAT))
        await iterations(turns)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            transport, _ = await task
            transport.close()
            await transport._wait()
        await iterations(5)

    run(loop, main())
    assert not [pid for pid in pids if alive(pid)]


@pytest.mark.parametrize("turns", range(1, 5))
def test_start_ends_when_every_task_is_cancelled_in_its_middle(loop, loop_kind, turns):
    """As asyncio.run() does at its end: then the pipes are never connected."""
    oracle_lacks(loop_kind, True, "waits for ever for pipes that were not connected")

    async def main():
        before = asyncio.all_tasks()
        task = loop.create_task(loop.subprocess_exec(Child, *CAT))
        await iterations(turns)
        for other in asyncio.all_tasks() - before:
            other.cancel()
        done, _ = await asyncio.wait([task])
        assert done
        if not task.cancelled() and task.exception() is None:
            transport, child = task.result()
            transport.close()
            await child.until_called("connection_lost")
        await iterations(5)

    run(loop, main())


def test_pipes_that_are_connected_after_the_close_are_closed_too(loop, loop_kind):
    oracle_lacks(loop_kind, True, "waits for them, and leaves them open")

    async def main():
        may_connect = asyncio.Event()
        connect = loop.connect_read_pipe
        connected = []

        async def connect_late(factory, pipe):
            await may_connect.wait()
            transport, protocol = await connect(factory, pipe)
            connected.append(transport)
            return transport, protocol

        loop.connect_read_pipe = connect_late
        # A grandchild holds the other ends, until we say so.
        reader, writer = os.pipe()
        command = f"cat /dev/fd/{reader} & wait"
        task = loop.create_task(loop.subprocess_shell(Child, command, pass_fds=(reader,)))
        await iterations(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_connect.set()
        await iterations(10)
        os.close(reader)
        states = [transport.is_closing() for transport in connected]
        os.close(writer)
        del loop.connect_read_pipe
        await iterations(3)
        return states

    assert run(loop, main()) == [True, True]


def test_close_kills_a_child_that_lives(loop):
    async def main():
        transport, child = await spawn(*CAT)
        assert not transport.is_closing()
        transport.close()
        transport.close()
        assert transport.is_closing()
        await child.until_called("connection_lost")
        return transport.get_returncode()

    assert run(loop, main()) == -signal.SIGKILL


def test_close_of_a_child_that_has_just_ended_keeps_its_code(loop, loop_kind):
    oracle_lacks(loop_kind, True, "forgets the code that Popen.poll() has read, and says 255")

    async def main():
        transport, child = await spawn("sh", "-c", "read line; exit 9", stdout=DEVNULL)
        transport.get_pipe_transport(0).write(b"now\n")
        # Ended, but the loop had no turn to hear of it.
        os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
        transport.close()
        await child.until_called("connection_lost")
        return transport.get_returncode()

    assert run(loop, main()) == 9


def test_loop_that_is_closed_with_a_child_leaves_nothing(make_loop, loop_kind):
    oracle_lacks(loop_kind, True, "leaves the pidfd that it polls, and cannot close the transport")
    loop = make_loop()

    async def main():
        return await loop.subprocess_exec(Child, "sleep", "100")

    transport, child = run(loop, main())
    popen = transport.get_extra_info("subprocess")
    loop.close()
    transport.close()
    assert popen.wait() == -signal.SIGKILL
    for stream in popen.stdin, popen.stdout, popen.stderr:
        assert stream.closed
    child.transport = None


def test_transport_that_is_dropped_with_its_loop_warns_and_kills_the_child(make_loop, loop_kind):
    oracle_lacks(loop_kind, True, "raises in its finalizer, and lets the child live")
    loop = make_loop()

    async def main():
        transport, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "100")
        return transport.get_extra_info("subprocess")

    popen = run(loop, main())
    with resource_warning("unclosed transport <"):
        loop.close()
        gc.collect()
    assert popen.wait() == -signal.SIGKILL


# Starting.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"universal_newlines": True}, "universal_newlines must be False"),
        ({"bufsize": 4096}, "bufsize must be 0"),
        ({"text": True}, "text must be False"),
        ({"encoding": "utf-8"}, "encoding must be None"),
        ({"errors": "strict"}, "errors must be None"),
    ],
)
def test_what_is_about_text_is_refused(loop, options, message):
    for start in (
        loop.subprocess_exec(Child, "true", **options),
        loop.subprocess_shell(Child, "true", **options),
    ):
        with pytest.raises(ValueError, match=f"^{message}$"):
            run(loop, start)


def test_exec_refuses_shell_and_shell_refuses_exec(loop):
    with pytest.raises(ValueError, match="^shell must be False$"):
        run(loop, loop.subprocess_exec(Child, "true", shell=True))
    with pytest.raises(ValueError, match="^shell must be True$"):
        run(loop, loop.subprocess_shell(Child, "true", shell=False))
    with pytest.raises(ValueError, match="^cmd must be a string$"):
        run(loop, loop.subprocess_shell(Child, ["true"]))


def test_program_that_does_not_exist_is_an_error_of_the_start(loop):
    with pytest.raises(FileNotFoundError):
        run(loop, asyncio.create_subprocess_exec("/no/such/program", stdin=PIPE, stdout=PIPE))


def test_unknown_option_is_an_error_of_the_start(loop):
    async def main():
        await loop.subprocess_exec(Child, "true", no_such_option=1)

    with pytest.raises(TypeError, match="no_such_option"):
        run(loop, main())


@pytest.mark.parametrize("command", ["echo $0 && exit 5", b"echo $0 && exit 5"], ids=type)
def test_shell_runs_a_command_line(loop, command):
    async def main():
        process = await asyncio.create_subprocess_shell(command, stdout=PIPE)
        output, _ = await process.communicate()
        return output, process.returncode

    output, code = run(loop, main())
    assert output.strip().endswith(b"sh")
    assert code == 5


def test_options_of_popen_are_passed_on(loop, tmp_path):
    async def main():
        process = await asyncio.create_subprocess_shell(
            "pwd; echo $ANSWER", stdout=PIPE, cwd=tmp_path, env={"ANSWER": "42"}
        )
        output, _ = await process.communicate()
        return output.decode().split()

    assert run(loop, main()) == [str(tmp_path), "42"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_preexec_fn_runs_in_the_child_and_the_loop_goes_on(loop):
    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh",
            "-c",
            "read line",
            stdin=PIPE,
            stdout=PIPE,
            preexec_fn=os.setsid,
        )
        group = os.getpgid(process.pid)
        await process.communicate(b"line\n")
        await iterations(3)
        return group == process.pid

    assert run(loop, main())


def test_file_objects_and_descriptors_serve_as_pipes(loop, tmp_path):
    async def main():
        (tmp_path / "in").write_bytes(b"from a file")
        with open(tmp_path / "in", "rb") as stdin, open(tmp_path / "out", "wb") as stdout:
            _, child = await spawn(*CAT, stdin=stdin, stdout=stdout.fileno(), stderr=DEVNULL)
            await child.until_called("connection_lost")
        return (tmp_path / "out").read_bytes()

    assert run(loop, main()) == b"from a file"


def test_children_work_in_a_loop_outside_of_the_main_thread(make_loop):
    results = []

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"threaded")
        return output, process.returncode

    def target():
        loop = make_loop()
        results.append(run(loop, main()))
        loop.close()

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert results == [(b"threaded", 0)]


def test_child_is_waited_for_in_a_loop_that_has_changed_its_thread(make_loop):
    loop = make_loop()
    results = []

    async def start():
        return await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)

    async def finish():
        output, _ = await process.communicate(b"moved")
        return output, process.returncode

    def target():
        asyncio.set_event_loop(None)
        nonlocal process
        process = run(loop, start())

    process = None
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    results.append(run(loop, finish()))
    loop.close()
    assert results == [(b"moved", 0)]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EMFILE])
def test_child_is_waited_for_without_a_pidfd(loop, loop_kind, monkeypatch, number):
    oracle_lacks(loop_kind, sys.version_info >= (3, 12), "its watcher was chosen before")

    def refused(pid, flags=0):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pidfd_open", refused)

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"x")
        killed = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE)
        killed.kill()
        return output, process.returncode, await killed.wait()

    assert run(loop, main()) == (b"x", 0, -signal.SIGKILL)


class PollThat:
    """A poll of a pidfd: its first word is `ready`, its last if that is an error."""

    def __init__(self, real, ready):
        self._real = real
        self._ready = ready

    def __call__(self, loop, descriptor, events, callback):
        poll = self._real(loop, descriptor, events, callback)
        told = types.SimpleNamespace(ready=self._ready, cancel=poll.cancel, in_flight=False)
        if self._ready < 0:
            poll.cancel()

        def tell():
            watch = callback.__self__
            watch._watch = told
            callback()
            if self._ready >= 0:
                watch._watch = poll

        loop.call_soon(tell)
        return poll


@pytest.mark.parametrize(
    "ready", [-errno.EBADF, select.POLLIN], ids=["a failure", "readiness too early"]
)
def test_poll_of_a_child_that_is_wrong_is_not_taken_for_its_end(
    loop, loop_kind, monkeypatch, ready
):
    oracle_lacks(loop_kind, True, "has a watcher of its own")
    subprocesses = "uring_loop._internal.subprocesses"
    monkeypatch.setattr(f"{subprocesses}.Poll", PollThat(_core.Poll, ready))

    async def main():
        process = await asyncio.create_subprocess_exec(*CAT, stdin=PIPE, stdout=PIPE)
        await iterations(3)
        assert process.returncode is None
        output, _ = await process.communicate(b"x")
        return output, await process.wait()

    assert run(loop, main()) == (b"x", 0)


def test_child_that_nobody_can_wait_for_is_an_error_of_the_start_and_does_not_live_on(
    loop, loop_kind, monkeypatch
):
    """No descriptor for its pidfd, and no thread: the fixture sees that it was reaped."""
    oracle_lacks(loop_kind, True, "lets the child live")

    def refused(pid, flags=0):
        pids.append(pid)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def start(self):
        raise RuntimeError("can't start new thread")

    pids = []
    children = []

    def made():
        children.append(Child())
        return children[-1]

    async def main():
        with monkeypatch.context() as refusing:
            refusing.setattr(os, "pidfd_open", refused)
            refusing.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await loop.subprocess_exec(made, *CAT)
        await iterations(5)
        assert not alive(pids[0])
        assert not loop._children
        assert children[0].calls[-1] == "connection_lost"

    run(loop, main())


@pytest.mark.parametrize("turns", range(1, 4))
@pytest.mark.parametrize("more", range(1, 4))
def test_start_that_is_cancelled_twice_leaves_no_child_and_no_pipe(loop, loop_kind, turns, more):
    oracle_lacks(loop_kind, True, "leaves its pipes open")

    async def main():
        task = loop.create_task(loop.subprocess_exec(Child, *CAT))
        await iterations(turns)
        task.cancel()
        await iterations(more)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            transport, _ = await task
            transport.close()
        while loop._children:
            await asyncio.sleep(0.001)
        await iterations(5)

    run(loop, main())


def test_signal_to_a_child_that_somebody_else_has_reaped_goes_nowhere(loop, loop_kind):
    oracle_lacks(loop_kind, True, "may have reaped it in a thread already")

    async def main():
        transport, child = await spawn(*CAT)
        # Before the loop has a turn to hear of it.
        os.kill(transport.get_pid(), signal.SIGKILL)
        os.waitpid(transport.get_pid(), 0)
        transport.send_signal(signal.SIGTERM)
        transport.kill()
        transport.terminate()
        await child.until_called("process_exited")
        transport.close()
        await child.until_called("connection_lost")

    run(loop, main())


def test_child_that_may_not_be_killed_is_closed_and_its_end_is_heard(loop, loop_kind, monkeypatch):
    """It runs as somebody else: sudo, say."""
    oracle_lacks(loop_kind, sys.version_info < (3, 13), "lets the PermissionError out")

    def refuse(self):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    async def main():
        transport, child = await spawn(*CAT, stdout=DEVNULL, stderr=DEVNULL)
        with monkeypatch.context() as refusing:
            refusing.setattr(subprocess.Popen, "kill", refuse)
            transport.close()
        # cat ends with its input.
        await child.until_called("connection_lost")
        return transport.get_returncode()

    assert run(loop, main()) == 0


@pytest.mark.parametrize("which", ["stdin", "stdout", "stderr", None])
def test_loop_that_is_closed_with_a_child_closes_the_pipes_that_there_are(
    make_loop, loop_kind, which
):
    oracle_lacks(loop_kind, True, "leaves the pidfd that it polls, and cannot close the transport")
    loop = make_loop()
    options = {name: PIPE if name == which else DEVNULL for name in ("stdin", "stdout", "stderr")}

    async def main():
        return await loop.subprocess_exec(Child, "sleep", "100", **options)

    transport, child = run(loop, main())
    popen = transport.get_extra_info("subprocess")
    loop.close()
    transport.close()
    assert popen.wait() == -signal.SIGKILL
    child.transport = None


def test_loop_that_is_closed_with_a_child_and_no_pidfd_leaves_no_thread(
    make_loop, loop_kind, monkeypatch
):
    oracle_lacks(loop_kind, True, "raises that the loop is closed when its transport is")

    def refused(pid, flags=0):
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "pidfd_open", refused)
    loop = make_loop()

    async def main():
        return await loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "100")

    transport, _ = run(loop, main())
    loop.close()
    transport.close()
    assert transport.get_extra_info("subprocess").wait() == -signal.SIGKILL


def test_child_watcher_of_the_policy_may_be_set(loop):
    if sys.version_info >= (3, 12):
        pytest.skip("child watchers are deprecated since Python 3.12")
    watcher = asyncio.ThreadedChildWatcher()
    asyncio.set_child_watcher(watcher)

    async def main():
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 3")
        return await process.wait()

    try:
        assert run(loop, main()) == 3
    finally:
        asyncio.set_child_watcher(None)


def test_debug_mode_logs_the_start_without_the_arguments(loop, caplog):
    loop.set_debug(True)
    loop.slow_callback_duration = 60

    async def main():
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", "exit 0", "secret", stdin=PIPE, stdout=PIPE, stderr=subprocess.STDOUT
        )
        await process.communicate()

    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(loop, main())
    texts = [record.getMessage() for record in caplog.records]
    assert "execute program 'sh' stdin=<pipe> stdout=stderr=<pipe>" in texts
    assert not [text for text in texts if "secret" in text]


def test_repr_tells_pid_pipes_and_state(loop):
    async def main():
        transport, child = await spawn(*CAT, stderr=DEVNULL)
        pid = transport.get_pid()
        assert f"pid={pid} running" in repr(transport)
        transport.get_pipe_transport(0).close()
        await child.until_called("connection_lost")
        assert "returncode=0" in repr(transport)

    run(loop, main())
