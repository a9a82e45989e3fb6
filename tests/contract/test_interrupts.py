"""KeyboardInterrupt and SystemExit stop the run from wherever they are raised; nothing is lost."""

import asyncio
import random
import signal
import socket
import subprocess
import sys

import pytest
from harness import BufferedRecorder, Peer, Recorder, attached, iterations, oracle_lacks, run

INTERRUPTS = [KeyboardInterrupt, SystemExit]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_interrupt_in_a_callback_leaves_run_forever(loop, method, interrupt):
    def callback():
        raise interrupt

    arguments = (0,) if method == "call_later" else ()
    getattr(loop, method)(*arguments, callback)
    with pytest.raises(interrupt):
        loop.run_forever()
    assert not loop.is_running()
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_interrupt_in_a_callback_keeps_the_rest_of_the_batch(loop, interrupt):
    seen = []

    def callback():
        raise interrupt

    loop.call_soon(seen.append, 1)
    loop.call_soon(callback)
    loop.call_soon(seen.append, 2)
    loop.call_soon(seen.append, 3)
    with pytest.raises(interrupt):
        loop.run_forever()
    assert seen == [1]
    run(loop, iterations(1))
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_interrupt_in_a_task_leaves_the_run_and_ends_the_task(loop, interrupt):
    async def main():
        await asyncio.sleep(0)
        raise interrupt

    task = loop.create_task(main())
    with pytest.raises(interrupt):
        loop.run_until_complete(task)
    assert task.done()
    assert isinstance(task.exception(), interrupt)
    assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1


def test_interrupt_in_a_timer_keeps_the_other_timers(loop):
    seen = []

    def callback():
        raise KeyboardInterrupt

    loop.call_at(1, seen.append, 1)
    loop.call_at(2, callback)
    loop.call_at(3, seen.append, 3)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == [1]
    run(loop, iterations(2))
    assert seen == [1, 3]


class Interrupting(Recorder):
    """Raises once from one of its callbacks."""

    def __init__(self, where, interrupt):
        super().__init__()
        self.where = where
        self.interrupt = interrupt

    def _note(self, name):
        super()._note(name)
        if name == self.where:
            self.where = None
            raise self.interrupt


class BufferedInterrupting(Interrupting, BufferedRecorder):
    def __init__(self, where, interrupt):
        BufferedRecorder.__init__(self)
        self.where = where
        self.interrupt = interrupt

    def get_buffer(self, sizehint):
        self._note("get_buffer")
        return super().get_buffer(sizehint)


def interrupted(loop, interrupt):
    with pytest.raises(interrupt):
        # Ended by the interrupt; the watchdog only turns a hang into a failure.
        watchdog = loop.call_later(30, loop.stop)
        try:
            loop.run_forever()
        finally:
            watchdog.cancel()


@pytest.mark.parametrize("interrupt", INTERRUPTS)
@pytest.mark.parametrize("where", ["connection_made", "data_received", "eof_received"])
def test_interrupt_in_a_protocol_callback_leaves_the_run(loop, where, interrupt):
    sock, other = socket.socketpair()
    protocol = Interrupting(where, interrupt)
    task = loop.create_task(loop.create_connection(lambda: protocol, sock=sock))
    other.send(b"data")
    other.shutdown(socket.SHUT_WR)
    interrupted(loop, interrupt)
    assert protocol.calls[-1] == where

    async def rest():
        transport, _ = await task
        transport.abort()
        await protocol.until_lost()

    run(loop, rest())
    assert protocol.calls.count("connection_lost") == 1
    other.close()


def test_interrupt_in_connection_lost_leaves_the_run_and_closes_the_socket(loop):
    async def main():
        sock, other = socket.socketpair()
        protocol = Interrupting("connection_lost", KeyboardInterrupt)
        await loop.create_connection(lambda: protocol, sock=sock)
        return protocol, Peer(other)

    protocol, peer = run(loop, main())
    protocol.transport.close()
    interrupted(loop, KeyboardInterrupt)
    assert protocol.calls == ["connection_made", "connection_lost"]
    assert run(loop, peer.recv()) == b""
    peer.close()


@pytest.mark.parametrize("where", ["get_buffer", "buffer_updated"])
def test_interrupt_in_a_buffered_protocol_leaves_the_run(loop, where):
    sock, other = socket.socketpair()
    protocol = BufferedInterrupting(where, KeyboardInterrupt)
    task = loop.create_task(loop.create_connection(lambda: protocol, sock=sock))
    other.send(b"data")
    interrupted(loop, KeyboardInterrupt)
    assert protocol.calls[-1] == where

    async def rest():
        transport, _ = await task
        transport.abort()
        await protocol.until_lost()

    run(loop, rest())
    other.close()


def test_interrupt_in_data_received_the_connection_goes_on_afterwards(loop):
    """asyncio does not close a transport for an interrupt: later bytes still arrive."""
    sock, other = socket.socketpair()
    protocol = Interrupting("data_received", KeyboardInterrupt)
    task = loop.create_task(loop.create_connection(lambda: protocol, sock=sock))
    other.send(b"one")
    interrupted(loop, KeyboardInterrupt)
    assert protocol.data == b"one"
    other.send(b"two")

    async def rest():
        transport, _ = await task
        await protocol.until_size(6)
        transport.write(b"three")
        peer = Peer(other)
        assert await peer.recv_exactly(5) == b"three"
        transport.close()
        await protocol.until_lost()

    run(loop, rest())
    assert protocol.data == b"onetwo"
    other.close()


def test_interrupt_among_many_ready_connections_loses_no_bytes(loop):
    """What was already taken from the kernel when the run ended comes in the next run."""
    count = 20

    async def connect():
        pairs = [socket.socketpair() for _ in range(count)]
        protocols = []
        for number, (sock, _) in enumerate(pairs):
            where = "data_received" if number == count // 2 else None
            protocol = Interrupting(where, KeyboardInterrupt)
            await loop.create_connection(lambda protocol=protocol: protocol, sock=sock)
            protocols.append(protocol)
        return protocols, [other for _, other in pairs]

    protocols, others = run(loop, connect())
    for number, other in enumerate(others):
        other.send(b"%04d" % number)
    interrupted(loop, KeyboardInterrupt)

    async def rest():
        for protocol in protocols:
            await protocol.until_size(4)
        for protocol in protocols:
            protocol.transport.close()
        for protocol in protocols:
            await protocol.until_lost()

    run(loop, rest())
    assert [bytes(p.data) for p in protocols] == [b"%04d" % n for n in range(count)]
    for other in others:
        other.close()


@pytest.mark.parametrize("where", ["pause_writing", "resume_writing"])
def test_interrupt_in_flow_control_leaves_the_run_or_the_write(loop, where):
    async def main():
        protocol = Interrupting(where, KeyboardInterrupt)
        size = 4 << 20
        async with attached(protocol, socket.socketpair, small=True) as (transport, _, peer):
            if where == "pause_writing":
                with pytest.raises(KeyboardInterrupt):
                    transport.write(bytes(size))
                assert await peer.recv_exactly(size) == bytes(size)
            else:
                # Interrupted with nothing left, stock asyncio goes on writing it.
                transport.set_write_buffer_limits(high=size // 2 + 1, low=size // 2)
                transport.write(bytes(size))
                await peer.recv_exactly(size)
                await protocol.until_called("resume_writing")

    if where == "pause_writing":
        run(loop, main())
        return
    task = loop.create_task(main())
    interrupted(loop, KeyboardInterrupt)
    run(loop, task)


def test_interrupt_in_a_reader_callback_leaves_the_run_and_the_watch_stays(loop):
    one, other = socket.socketpair()
    seen = []

    def ready():
        seen.append(one.recv(1))
        if len(seen) == 1:
            raise KeyboardInterrupt
        loop.stop()

    loop.add_reader(one, ready)
    other.send(b"ab")
    interrupted(loop, KeyboardInterrupt)
    loop.run_forever()
    assert seen == [b"a", b"b"]
    assert loop.remove_reader(one)
    one.close()
    other.close()


def test_interrupt_in_a_protocol_factory_of_a_server_leaves_the_run(loop, loop_kind):
    oracle_lacks(loop_kind, True, "the accepted socket is left to the garbage collector")

    def factory():
        raise KeyboardInterrupt

    async def start():
        return await loop.create_server(factory, "127.0.0.1", 0)

    server = run(loop, start())
    client = socket.create_connection(server.sockets[0].getsockname())
    interrupted(loop, KeyboardInterrupt)
    client.close()

    async def stop():
        server.close()
        await server.wait_closed()

    run(loop, stop())


def is_usable(loop):
    """Whether loops can run in this thread."""
    return asyncio._get_running_loop() is None and not loop.is_running()


def test_allocation_that_fails_anywhere_in_a_run_leaves_a_thread_that_can_run_loops(
    make_loop, loop_kind
):
    oracle_lacks(loop_kind, True, "its running loop stays set when there is no memory to unset it")
    testcapi = pytest.importorskip("_testcapi", reason="made for CPython's own tests only")
    unusable = []
    for number in range(120):
        loop = make_loop()
        loop.set_exception_handler(lambda loop, context: None)
        loop.run_until_complete(asyncio.sleep(0))
        hooks = sys.get_asyncgen_hooks()
        loop.call_soon(loop.stop)
        loop.call_later(0.02, loop.stop)  # where the first is lost with its MemoryError
        testcapi.set_nomemory(number, number + 1)
        try:
            loop.run_forever()
        except MemoryError:
            pass
        finally:
            testcapi.remove_mem_hooks()
        if not is_usable(loop):
            asyncio._set_running_loop(None)
            unusable.append(number)
        sys.set_asyncgen_hooks(*hooks)
        loop.close()
        signal.set_wakeup_fd(-1)
    assert unusable == []


def test_interrupts_at_any_moment_of_a_run_leave_a_thread_that_can_run_loops(
    make_loop, loop_kind
):
    oracle_lacks(loop_kind, True, "an interrupt may come before its running loop is unset")
    rng = random.Random(1)
    armed = False

    def handler(*ignored):
        nonlocal armed
        if armed:
            armed = False
            raise KeyboardInterrupt

    def interrupted(loop):
        nonlocal armed
        armed = True
        signal.setitimer(signal.ITIMER_REAL, rng.random() * 1e-4 + 1e-6)
        while armed:
            loop.call_soon(loop.stop)
            loop.run_forever()

    loop = make_loop()
    left = 0
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(2000):
            try:
                interrupted(loop)
            except KeyboardInterrupt:
                pass
            armed = False
            if not is_usable(loop):
                asyncio._set_running_loop(None)
                left += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.set_asyncgen_hooks(None, None)
    loop.close()
    assert left == 0
    assert signal.set_wakeup_fd(-1) == -1


AUDITED = """
import asyncio, sys, uring_loop

armed = False

def hook(event, arguments):
    global armed
    if armed and event == "sys.set_asyncgen_hook_firstiter":
        armed = False
        raise KeyboardInterrupt

def stop():
    global armed
    armed = True
    loop.stop()

sys.addaudithook(hook)
loop = uring_loop.new_event_loop()
loop.call_soon(stop)
try:
    loop.run_forever()
except KeyboardInterrupt:
    made = [loop.stop for _ in range(100)]  # takes the place of what was freed
    print("interrupted", sys.get_asyncgen_hooks().finalizer)
loop.run_until_complete(asyncio.sleep(0))
loop.close()
"""


def test_interrupt_of_an_audit_hook_at_the_end_of_a_run_brings_back_no_dead_hook(loop_kind):
    oracle_lacks(loop_kind, True, "it sets both hooks in one call, of which CPython frees one")
    done = subprocess.run([sys.executable, "-c", AUDITED], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("interrupted None\n", 0), done.stderr
