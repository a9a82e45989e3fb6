"""A file's call under way: waiting for its turn, cancelled, or answered in a rare way."""

import asyncio
import concurrent.futures
import errno
import os
import threading
import types

import pytest
from harness import iterations, resource_warning, run

import uring_loop
from uring_loop._internal.files import calls, descriptor

DATA = bytes(range(256)) * 100


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


@pytest.fixture
def by_threads(monkeypatch):
    """Each call is a thread's."""
    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)
    monkeypatch.setattr(descriptor.Descriptor, "read_now", lambda *_: None)


@pytest.fixture
def held(monkeypatch, by_threads):
    """(begun, gate): the first pread() begins, and waits."""
    begun, gate = threading.Event(), threading.Event()
    pread = descriptor.pread

    def slow(*arguments):
        begun.set()
        gate.wait()
        return pread(*arguments)

    monkeypatch.setattr(descriptor, "pread", slow)
    yield begun, gate
    gate.set()


async def until(event):
    while not event.is_set():
        await asyncio.sleep(0)


# One after the other.


def test_close_waits_for_the_pread_that_is_under_way(loop, path, held):
    begun, gate = held

    async def main():
        file = await uring_loop.open(path, "rb")
        number = file._descriptor.number
        reading = asyncio.ensure_future(file.pread(5, 100))
        await until(begun)
        closings = [asyncio.ensure_future(file.close()) for _ in range(2)]
        await iterations(3)
        assert file.closed
        os.fstat(number)
        gate.set()
        await asyncio.gather(*closings)
        with pytest.raises(OSError):
            os.fstat(number)
        assert await reading == DATA[100:105]

    run(loop, main())


def test_call_cancelled_while_it_waits_for_its_turn_lets_the_next_one_have_it(loop, path, held):
    begun, gate = held

    async def main():
        async with uring_loop.open(path, "rb", 20_000) as file:
            reading, cancelled, last = (
                asyncio.ensure_future(call) for call in (file.read(5), file.read(7), file.read(9))
            )
            await until(begun)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            gate.set()
            assert await reading + await last == DATA[:14]
            assert cancelled.cancelled()

    run(loop, main())


def test_call_cancelled_when_its_turn_has_come_passes_it_on(loop, path, held, monkeypatch):
    begun, gate = held
    leave = calls.Serial.leave

    def leave_and_cancel(self):
        leave(self)
        cancelled.cancel()

    async def main():
        nonlocal cancelled
        async with uring_loop.open(path, "rb", 20_000) as file:
            reading, cancelled, last = (
                asyncio.ensure_future(call) for call in (file.read(5), file.read(7), file.read(9))
            )
            await until(begun)
            monkeypatch.setattr(calls.Serial, "leave", leave_and_cancel)
            gate.set()
            assert await reading + await last == DATA[:14]
            assert cancelled.cancelled()

    cancelled = None
    run(loop, main())


def test_file_of_two_loops_is_read_by_each_in_turn(make_loop, path):
    loops = [make_loop(), make_loop()]

    async def begin():
        return await uring_loop.open(path, "rb", buffering=0)

    file = loops[0].run_until_complete(begin())
    data = b""
    for number in range(6):
        data += loops[number % 2].run_until_complete(file.read(10))
    loops[1].run_until_complete(file.close())
    for loop in loops:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    assert data == DATA[:60]


# In a thread.


def test_call_that_fails_when_its_caller_was_cancelled_is_nobodys_error(
    loop, path, monkeypatch, by_threads
):
    """The fixture of the loop sees that its exception handler is not called."""
    begun, gate = threading.Event(), threading.Event()

    def fail(*_):
        begun.set()
        gate.wait()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(descriptor, "pread", fail)

    async def main():
        async with uring_loop.open(path, "rb") as file:
            reading = asyncio.ensure_future(file.pread(5, 0))
            await until(begun)
            reading.cancel()
            await asyncio.wait([reading])
            gate.set()
        assert reading.cancelled()

    run(loop, main())


@pytest.fixture
def busy():
    """Gives a loop a default executor, and the gate that its only thread waits for."""
    gate = threading.Event()

    def make(loop):
        executor = concurrent.futures.ThreadPoolExecutor(1)
        executor.submit(gate.wait)
        loop.set_default_executor(executor)
        return executor, gate

    yield make
    gate.set()


def test_call_that_the_executor_cancels_is_cancelled_for_its_caller(loop, path, by_threads, busy):
    async def main():
        file = await uring_loop.open(path, "rb")
        executor, gate = busy(loop)
        reading = asyncio.ensure_future(file.pread(5, 0))
        await iterations(2)
        executor.shutdown(wait=False, cancel_futures=True)
        await asyncio.wait([reading])
        assert reading.cancelled()
        gate.set()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        assert await file.pread(5, 0) == DATA[:5]
        await file.close()

    run(loop, main())


def test_close_that_the_executor_cancels_closes_all_the_same(loop, path, by_threads, busy):
    async def main():
        file = await uring_loop.open(path, "wb")
        number = file._descriptor.number
        executor, gate = busy(loop)
        closing = asyncio.ensure_future(file.close())
        await iterations(3)
        os.fstat(number)
        executor.shutdown(wait=False, cancel_futures=True)
        await asyncio.wait([closing])
        assert file.closed
        with pytest.raises(OSError):
            os.fstat(number)
        gate.set()

    run(loop, main())


def test_forgotten_file_whose_thread_is_through_is_closed_though_the_loop_does_not_know(
    loop, path, by_threads, busy
):
    async def abandon(file):
        executor, gate = busy(loop)
        reading = asyncio.ensure_future(file.pread(5, 0))
        await iterations(2)
        reading.cancel()
        await asyncio.wait([reading])
        return executor, gate

    async def main():
        file = await uring_loop.open(path, "rb")
        number = file._descriptor.number
        executor, gate = await abandon(file)
        gate.set()
        # The only thread has made the call when it makes the next one.
        executor.submit(int).result()
        with resource_warning("unclosed file"):
            del file
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())


# By the driver.


@pytest.fixture
def request_of(loop, loop_kind, monkeypatch):
    """Sets what the loop does with requests of one operation: answer(real, *arguments)."""
    if loop_kind == "asyncio":
        pytest.skip("only our loops have requests")
    real = type(loop)._request

    def answer_with(operation, answer):
        def request(self, callback, keep, fields):
            if fields[0] != operation:
                return real(self, callback, keep, fields)
            return answer(lambda: real(self, callback, keep, fields), callback)

        monkeypatch.setattr(type(loop), "_request", request)

    return answer_with


def ended(loop, callback, result):
    """A request that ends in the next turn with this result."""
    request = types.SimpleNamespace(result=result, flags=0, opened=None)
    loop.call_soon(callback, request)
    return request


def test_request_that_the_driver_refuses_is_an_error_with_its_paths(loop, request_of, tmp_path):
    request_of(calls.OP_RENAMEAT, lambda *_: -errno.ENOMEM)

    async def main():
        names = str(tmp_path / "a"), str(tmp_path / "b")
        with pytest.raises(OSError) as caught:
            await uring_loop.paths.rename(*names)
        assert caught.value.errno == errno.ENOMEM
        assert (caught.value.filename, caught.value.filename2) == names

    run(loop, main())


def test_request_that_was_interrupted_is_made_again(loop, request_of, tmp_path):
    interrupted = []

    def interrupt_twice(real, callback):
        if len(interrupted) == 2:
            return real()
        interrupted.append(callback)
        return ended(loop, callback, -errno.EINTR)

    request_of(calls.OP_MKDIRAT, interrupt_twice)
    run(loop, uring_loop.paths.mkdir(tmp_path / "new"))
    assert (tmp_path / "new").is_dir()
    assert len(interrupted) == 2


def test_close_that_was_cancelled_before_the_kernel_made_it_closes_all_the_same(
    loop, request_of, path
):
    def wait(real, callback):
        request = types.SimpleNamespace(result=-errno.ECANCELED, flags=0, opened=None)

        def cancel():
            loop.call_soon(callback, request)
            return 1

        request.cancel = cancel
        return request

    async def main():
        ours = asyncio.all_tasks()
        file = await uring_loop.open(path, "wb")
        number = file.fileno()
        request_of(calls.OP_CLOSE, wait)
        closing = asyncio.ensure_future(file.close())
        await iterations(3)
        for task in asyncio.all_tasks() - ours:
            task.cancel()
        await asyncio.wait([closing])
        await iterations(3)
        assert file.closed
        with pytest.raises(OSError):
            os.fstat(number)

    run(loop, main())


@pytest.mark.parametrize("then", ["bytes", "unknown"])
def test_stream_that_is_ready_and_has_nothing_is_waited_for_again(loop, monkeypatch, then):
    """Somebody else has read it; or the kernel does not say any more what there is."""
    read_now = descriptor._read_now
    answers = []

    def contested(number, size, offset):
        answers.append(number)
        if len(answers) < 4:
            return b"", errno.EAGAIN
        return (b"", errno.EOPNOTSUPP) if then == "unknown" else read_now(number, size, offset)

    monkeypatch.setattr(calls.Calls, "has", lambda *_: False)
    monkeypatch.setattr(descriptor, "_read_now", contested)

    async def main():
        theirs, ours = os.pipe()
        os.write(ours, b"bytes")
        async with uring_loop.open(theirs, "rb", buffering=0) as file:
            assert await file.read(10) == b"bytes"
        os.close(ours)

    run(loop, main())
    assert len(answers) == 4
