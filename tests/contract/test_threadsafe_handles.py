"""What call_soon_threadsafe() returned, asked by other threads while it runs, as of Python 3.14.

Older Pythons' asyncio does not wait there, and so ours does not either: they are given the
class by which ours knows the newer one.
"""

import asyncio
import signal
import sys
import threading

import pytest

from uring_loop._internal import _helpers, _stdlib


class Planned(Exception):
    """What a signal's handler or a callback raises on purpose."""


@pytest.fixture
def waiting(loop, loop_kind, monkeypatch):
    """A loop whose handles wait; a thread keeps the GIL until it does."""
    if sys.version_info < (3, 14):
        if loop_kind == "asyncio":
            pytest.skip("asyncio of this Python does not wait in another thread")
        as_of_3_14 = type("_ThreadSafeHandle", (asyncio.Handle,), {})
        monkeypatch.setattr(_stdlib, "ThreadSafeHandle", as_of_3_14)
    before = sys.getswitchinterval()
    _helpers.install_helpers()
    sys.setswitchinterval(1000)
    yield loop
    sys.setswitchinterval(before)
    monkeypatch.undo()
    _helpers.install_helpers()


class Asking(threading.Thread):
    """Asks the handle while it runs: once asks_now() has returned, this waits for its end."""

    def __init__(self, method, order):
        super().__init__()
        self.method = method
        self.order = order
        self.handle = None
        self._began = threading.Event()
        self._asking = threading.Event()

    def asks_now(self):
        self._began.set()
        self._asking.wait()

    def run(self):
        self._began.wait()
        self._asking.set()
        self.order.append(getattr(self.handle, self.method)())


@pytest.mark.parametrize("raised", [None, Planned, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["cancel", "cancelled"])
def test_threads_that_ask_a_running_handle_wait_for_its_end(waiting, errors, method, raised):
    order = []
    threads = [Asking(method, order) for _ in range(3)]

    def callback():
        for thread in threads:
            thread.asks_now()
        order.append("ended")
        waiting.stop()
        if raised is not None:
            raise raised

    handle = waiting.call_soon_threadsafe(callback)
    for thread in threads:
        thread.handle = handle
        thread.start()
    if raised is KeyboardInterrupt:
        with pytest.raises(raised):
            waiting.run_forever()
    else:
        waiting.run_forever()
    for thread in threads:
        thread.join()
    assert order == ["ended", *3 * [None if method == "cancel" else False]]
    assert handle.cancelled() is (method == "cancel")
    assert [type(context["exception"]) for context in errors] == [Planned] * (raised is Planned)
    errors.clear()


def test_wait_for_a_handle_that_a_signal_ends_leaves_the_others_waiting(waiting):
    order, told = [], []
    here, raised = threading.get_ident(), threading.Event()
    began, asks = threading.Event(), threading.Event()
    other = Asking("cancelled", order)

    def handler(number, frame):
        if not told:
            told.append(number)
            raise Planned

    def callback():
        began.set()
        asks.wait()
        other.asks_now()
        # It may come before the wait has begun in the kernel, as for any lock of Python's.
        while not raised.wait(0.01):
            signal.pthread_kill(here, signal.SIGUSR1)
        order.append("ended")
        waiting.stop()

    def run():
        waiting.run_forever()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        handle = other.handle = waiting.call_soon_threadsafe(callback)
        runner = threading.Thread(target=run)
        runner.start()
        other.start()
        began.wait()
        with pytest.raises(Planned):
            asks.set()
            handle.cancel()
        raised.set()
        runner.join()
        other.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert order == ["ended", False]
    assert not handle.cancelled()


def test_handle_that_asks_itself_while_it_runs_waits_for_nothing(waiting):
    seen = []

    def callback():
        handle.cancel()
        seen.append(handle.cancelled())
        waiting.stop()

    handle = waiting.call_soon_threadsafe(callback)
    waiting.run_forever()
    assert seen == [True]
    assert isinstance(handle, _stdlib.ThreadSafeHandle)
