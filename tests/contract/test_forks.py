"""Fork in the middle: neither process is harmed, whatever the child does with the loop."""

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import warnings

import pytest
from harness import Peer, Recorder, attached, iterations, oracle_lacks, run, tcp_pair
from kept_memory import needs_kept_memory


def in_child(function):
    """Call in a forked child, which ends without cleaning up; fail unless all went well there."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # The child's own limit; timers of the parent are not inherited.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            function()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def nothing():
    pass


async def exchange(transport, protocol, peer):
    """Bytes go both ways, timers come, threads can wake the loop."""
    size = len(protocol.data)
    await peer.send_all(b"ping")
    await protocol.until_size(size + 4)
    transport.write(b"pong")
    assert await peer.recv_exactly(4) == b"pong"
    await asyncio.sleep(0.001)
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
    thread.start()
    await woken.wait()
    thread.join()
    assert "eof_received" not in protocol.calls
    assert "connection_lost" not in protocol.calls


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
def test_child_that_exits_leaves_the_parents_connections_alone(loop, pair):
    async def main():
        async with attached(pair=pair) as (transport, protocol, peer):
            await exchange(transport, protocol, peer)
            for _ in range(3):
                in_child(nothing)
                await exchange(transport, protocol, peer)
            peer.close()
            await protocol.until_lost()
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]

    run(loop, main())


def test_child_forked_before_the_loop_ran_leaves_it_alone(loop):
    in_child(nothing)

    async def main():
        async with attached() as (transport, protocol, peer):
            await exchange(transport, protocol, peer)

    run(loop, main())


def test_child_forked_inside_data_received_harms_nothing(loop):
    class Forking(Recorder):
        def data_received(self, data):
            if not self.data:
                in_child(nothing)
            super().data_received(data)

    async def main():
        async with attached(Forking()) as (transport, protocol, peer):
            await exchange(transport, protocol, peer)
            await exchange(transport, protocol, peer)

    run(loop, main())


def test_child_forked_with_a_huge_write_under_way_harms_nothing(loop):
    async def main():
        blob = os.urandom(4 << 20)
        async with attached() as (transport, _, peer):
            transport.write(blob)
            await iterations(2)
            in_child(nothing)
            assert await peer.recv_exactly(len(blob)) == blob

    run(loop, main())


def test_child_runs_a_loop_of_its_own_while_the_parents_is_inside_a_callback(
    loop, make_loop, loop_kind
):
    needs_kept_memory(loop_kind)

    def child():
        own = make_loop()

        async def main():
            async with attached() as (transport, protocol, peer):
                await exchange(transport, protocol, peer)
            server = await own.create_server(Recorder, "127.0.0.1", 0)
            server.close()
            await server.wait_closed()

        run(own, main())
        own.close()

    async def main():
        async with attached() as (transport, protocol, peer):
            await exchange(transport, protocol, peer)
            in_child(child)
            await exchange(transport, protocol, peer)

    run(loop, main())


def test_child_drops_and_collects_the_parents_loop_without_harm(make_loop):
    loop = make_loop()
    holder = {}

    async def connect():
        sock, other = tcp_pair()
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=sock)
        holder.update(protocol=protocol, peer=Peer(other))

    run(loop, connect())

    def child():
        warnings.simplefilter("ignore")
        holder.clear()
        gc.unfreeze()
        gc.collect()

    in_child(child)
    protocol, peer = holder["protocol"], holder["peer"]
    run(loop, exchange(protocol.transport, protocol, peer))
    protocol.transport.close()
    run(loop, protocol.until_lost())
    peer.close()
    loop.close()


def test_child_closing_the_parents_loop_leaves_it_alone(loop, loop_kind):
    oracle_lacks(loop_kind, True, "closing in the child edits the shared epoll set")

    async def connect():
        sock, other = tcp_pair()
        protocol = Recorder()
        await loop.create_connection(lambda: protocol, sock=sock)
        return protocol, Peer(other)

    protocol, peer = run(loop, connect())
    in_child(loop.close)
    run(loop, exchange(protocol.transport, protocol, peer))
    protocol.transport.abort()
    run(loop, protocol.until_lost())
    peer.close()


def test_child_runs_the_inherited_loop_and_the_parents_goes_on(loop, loop_kind):
    needs_kept_memory(loop_kind)

    def child():
        seen = []
        loop.call_soon(seen.append, "soon")
        loop.call_later(0.001, seen.append, "later")
        run(loop, asyncio.sleep(0.005))
        assert seen == ["soon", "later"]

    run(loop, iterations(2))
    in_child(child)

    async def main():
        async with attached() as (transport, protocol, peer):
            await exchange(transport, protocol, peer)

    run(loop, main())


def test_child_forked_while_the_loop_sleeps_in_another_thread_harms_nothing(loop):
    """The forking thread is not the one that waits in the kernel."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        for _ in range(5):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(20)
            # No event tells that the other thread sleeps in the kernel; it mostly does by then.
            time.sleep(0.002)
            with warnings.catch_warnings():
                # Python 3.12 and later warn of forks in a process with threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                in_child(nothing)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def leave_after_turns(loop, turns=10):
    """In a child that was forked inside a callback: let the inherited loop go on, then leave."""
    if turns:
        loop.call_soon(leave_after_turns, loop, turns - 1)
    else:
        os._exit(0)


def fork_inside(loop):
    """Fork in a callback; whether this is the parent, which waits.  The child goes on a little."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        leave_after_turns(loop)
        return False
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return True


@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
def test_what_came_with_the_callback_that_forks_is_given_to_one_of_the_two(loop, pair):
    """Never to both, and never other bytes: which of them gets it differs."""
    told, tell = os.pipe()

    class Telling(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if Telling.forks:
                Telling.forks = False
                fork_inside(loop)
            os.write(tell, data)

    Telling.forks = True

    async def main():
        pairs = [pair() for _ in range(5)]
        transports = []
        for ours, _ in pairs:
            transport, _ = await loop.create_connection(Telling, sock=ours)
            transports.append(transport)
        for number, (_, peer) in enumerate(pairs):
            peer.sendall(b"<%d>" % number)
        # More turns than the child has.
        await iterations(50)
        for transport in transports:
            transport.abort()
        for _, peer in pairs:
            peer.close()

    run(loop, main())
    os.close(tell)
    with open(told, "rb") as told_file:
        parts = told_file.read().replace(b">", b"> ").split()
    assert set(parts) == {b"<%d>" % number for number in range(5)}
    # One was being told when the process forked: in both it goes on.
    assert len(parts) == 6


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("pair", [tcp_pair, socket.socketpair])
def test_what_was_written_before_a_fork_is_sent_once(loop, pair, turns):
    """In the turn of the fork, and when the kernel has it and the loop does not know yet."""

    async def main():
        async with attached(pair=pair) as (transport, _, peer):
            def fork_after(left):
                if left:
                    loop.call_soon(fork_after, left - 1)
                elif fork_inside(loop):
                    done.set_result(None)

            def write():
                transport.write(b"once")
                fork_after(turns)

            done = loop.create_future()
            loop.call_soon(write)
            await done
            transport.write(b"end")
            assert await peer.recv_exactly(7) == b"onceend"
            transport.close()
            assert await peer.recv_all() == b""

    run(loop, main())


@pytest.mark.parametrize("listening", [False, True])
def test_what_was_written_last_in_a_run_is_not_sent_by_a_child_that_runs_the_loop(
    loop, loop_kind, listening
):
    needs_kept_memory(loop_kind)
    held = {}

    async def write():
        sock, other = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=sock)
        held.update(transport=transport, peer=Peer(other))
        if listening:
            held.update(server=await loop.create_server(Recorder, "127.0.0.1", 0))
        transport.write(b"once")

    async def finish():
        held["transport"].write(b"end")
        assert await held["peer"].recv_exactly(7) == b"onceend"
        held["transport"].close()
        assert await held["peer"].recv_all() == b""
        if listening:
            held["server"].close()
        held["peer"].close()

    run(loop, write())
    in_child(lambda: run(loop, iterations(10)))
    run(loop, finish())


def test_connection_accepted_in_the_turn_of_a_fork_is_not_kept_open_by_the_child(loop):
    released, release = os.pipe()

    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    def fork(children):
        pid = os.fork()
        if pid == 0:
            os.close(release)
            os.read(released, 1)
            os._exit(0)
        children.append(pid)

    async def main():
        children = []
        server = await loop.create_server(Closing, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        loop.call_soon(fork, children)
        await asyncio.sleep(0)
        peer = Peer(client)
        assert await peer.recv_all() == b""
        peer.close()
        server.close()
        return children

    children = run(loop, main())
    os.close(release)
    os.close(released)
    for pid in children:
        os.waitpid(pid, 0)


def test_child_ends_the_inherited_loop_without_harm_to_its_own(loop, make_loop, loop_kind):
    needs_kept_memory(loop_kind)
    oracle_lacks(loop_kind, True, "closing in the child edits the shared epoll set")
    run(loop, talk_to_itself())

    def child():
        own = make_loop()
        run(own, talk_to_itself())
        loop.close()
        run(own, talk_to_itself())
        own.close()

    in_child(child)
    run(loop, talk_to_itself())


@pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""),
    reason="AddressSanitizer's allocator hangs in a child that was forked beside other threads",
)
def test_child_forked_while_another_thread_makes_loops_makes_one_too(make_loop):
    done = threading.Event()

    def make_loops():
        while not done.is_set():
            make_loop().close()

    thread = threading.Thread(target=make_loops)
    thread.start()
    try:
        for _ in range(30):
            with warnings.catch_warnings():
                # Python 3.12 and later warn of forks in a process with threads.
                warnings.simplefilter("ignore", DeprecationWarning)
                in_child(lambda: make_loop().close())
    finally:
        done.set()
        thread.join()


async def talk_to_itself():
    async with attached() as (transport, protocol, peer):
        await exchange(transport, protocol, peer)


def test_subprocess_started_while_connections_are_open_inherits_none(loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            done = subprocess.run(
                [sys.executable, "-c", "import os; print(len(os.listdir('/proc/self/fd')))"],
                capture_output=True,
                text=True,
                check=True,
                close_fds=False,
            )
            # 0, 1, 2 and the listing itself, and what the harness of the tests leaves inheritable.
            inheritable = sum(os.get_inheritable(int(fd)) for fd in os.listdir("/proc/self/fd")
                              if os.path.exists(f"/proc/self/fd/{fd}"))
            assert int(done.stdout) <= max(inheritable, 3) + 1
            sock = transport.get_extra_info("socket")
            assert not os.get_inheritable(sock.fileno())
            await exchange(transport, protocol, peer)

    run(loop, main())


PRELUDE = """
import asyncio, os, socket, sys, warnings
warnings.simplefilter("ignore")

def new_loop():
    if os.environ.get("URING_LOOP_DRIVER"):
        import uring_loop
        return uring_loop.new_event_loop()
    return asyncio.SelectorEventLoop()

class Collect(asyncio.Protocol):
    def __init__(self, wanted):
        self.data = b""
        self.wanted = wanted
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.data += data
        if self.data == b"later":
            self.wanted.set_result(None)
    def connection_lost(self, exc):
        if not self.wanted.done():
            self.wanted.set_exception(RuntimeError("lost"))
"""

LEAVES_BY_EXIT = """
def leave():
    if (pid := os.fork()) == 0:
        sys.exit(0)
    os.waitpid(pid, 0)

async def main():
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    protocol = Collect(loop.create_future())
    await loop.create_connection(lambda: protocol, sock=one)
    if from_task:
        leave()
    else:
        loop.call_soon(leave)
        await asyncio.sleep(0)
    other.send(b"later")
    await asyncio.wait_for(protocol.wanted, 20)
    print("fine")

loop = new_loop()
loop.run_until_complete(main())
"""

DAEMON = """
loop = new_loop()
accepted = loop.create_future()

async def start():
    one, other = socket.socketpair()
    protocol = Collect(loop.create_future())
    await loop.create_connection(lambda: protocol, sock=one)
    server = await loop.create_server(lambda: Collect(accepted), "127.0.0.1", 0)
    return protocol, other, server

protocol, other, server = loop.run_until_complete(start())
parent = os.getpid()
if os.fork() != 0:
    os._exit(0)
while os.getppid() == parent:
    pass

async def serve():
    other.send(b"later")
    await asyncio.wait_for(protocol.wanted, 20)
    protocol.transport.write(b"answer")
    other.setblocking(False)
    got = b""
    while got != b"answer":
        try:
            got += other.recv(6)
        except BlockingIOError:
            await asyncio.sleep(0)
    with socket.create_connection(server.sockets[0].getsockname()) as client:
        client.send(b"later")
        await asyncio.wait_for(accepted, 20)
    print("fine")

loop.run_until_complete(serve())
"""


def output_of(text):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + text], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "from_task",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                sys.version_info >= (3, 14),
                reason="in a child that was forked in a task, tasks of this Python raise "
                "RuntimeError (the loop is not the running one) instead of SystemExit",
            ),
        ),
    ],
)
def test_child_that_leaves_by_sys_exit_through_the_loop_harms_nothing(loop_kind, from_task):
    """The child unwinds run_until_complete and ends its interpreter, destructors and all."""
    assert output_of(f"from_task = {from_task}" + LEAVES_BY_EXIT)[0] == "fine\n"


def test_daemon_that_forks_and_leaves_the_child_to_serve_serves(loop_kind):
    """Connection, server and loop are inherited by the only process that goes on."""
    needs_kept_memory(loop_kind)
    assert output_of(DAEMON) == ("fine\n", "")
