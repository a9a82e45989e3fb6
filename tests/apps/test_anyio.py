"""anyio's asyncio backend on our loop, by backend_options={"loop_factory": ...}.

anyio finds a loop's root task by a private function among its callbacks, moves
transports' sockets about, and cancels by its own scopes.
"""

import asyncio
import functools
import os
import signal
import socket
import sys
import threading

import pytest

anyio = pytest.importorskip("anyio", reason="anyio is not installed")
from anyio import from_thread, to_process, to_thread  # noqa: E402
from anyio.streams.tls import TLSStream  # noqa: E402

PATIENCE_S = 40
LARGE = bytes(range(256)) * (1 << 14)


@pytest.fixture
def run_anyio(make_loop, errors):
    """anyio.run() on a loop of the kind under test."""

    def factory():
        loop = make_loop()
        loop.set_exception_handler(lambda _, context: errors.append(context))
        return loop

    def run_anyio(function, *arguments):
        async def within_patience():
            with anyio.fail_after(PATIENCE_S):
                return await function(*arguments)

        return anyio.run(within_patience, backend_options={"loop_factory": factory})

    yield run_anyio
    assert errors == []


def needs(make_loop, method, what):
    """Skip while the loop under test has only the abstract method."""
    loop = make_loop()
    loop.close()
    if getattr(type(loop), method) is getattr(asyncio.AbstractEventLoop, method):
        pytest.skip(f"this loop has no {what} yet")


async def echo(stream):
    async with stream:
        try:
            async for part in stream:
                await stream.send(part)
        except anyio.BrokenResourceError:
            pass


async def receive_exactly(stream, size):
    parts = bytearray()
    while len(parts) < size:
        parts += await stream.receive()
    return bytes(parts)


async def converse(stream):
    async with stream:
        async with anyio.create_task_group() as group:
            group.start_soon(stream.send, LARGE)
            assert await receive_exactly(stream, len(LARGE)) == LARGE
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()


def test_run_is_on_the_loop_of_its_factory(loop_kind, run_anyio):
    async def main():
        return getattr(asyncio.get_running_loop(), "driver", "asyncio")

    assert run_anyio(main) == loop_kind


def test_root_task_is_found(run_anyio):
    """By the done-callback of run_until_complete(): worker threads are bound to its life."""

    async def main():
        found = []
        await to_thread.run_sync(lambda: found.append(threading.current_thread()))
        await to_thread.run_sync(lambda: found.append(threading.current_thread()))
        assert found[0] is found[1]
        assert found[0].root_task is asyncio.current_task()
        return found[0]

    worker = run_anyio(main)
    worker.join(PATIENCE_S)
    assert not worker.is_alive()


def test_tcp_echo(run_anyio):
    async def main():
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, echo)
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            async with anyio.create_task_group() as clients:
                for _ in range(10):
                    clients.start_soon(converse, await anyio.connect_tcp(*address))
            group.cancel_scope.cancel()

    run_anyio(main)


def test_unix_echo(run_anyio, tmp_path):
    path = tmp_path / "socket"

    async def main():
        async with (
            await anyio.create_unix_listener(path) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, echo)
            await converse(await anyio.connect_unix(path))
            group.cancel_scope.cancel()

    run_anyio(main)


def test_unix_stream_passes_descriptors(run_anyio, tmp_path):
    path = tmp_path / "socket"
    (tmp_path / "file").write_text("passed on")

    async def main():
        async with await anyio.create_unix_listener(path) as listener:
            async with (
                await anyio.connect_unix(path) as client,
                await listener.accept() as server,
            ):
                with open(tmp_path / "file") as file:
                    await client.send_fds(b"one", [file])
                message, descriptors = await server.receive_fds(10, 5)
                assert bytes(message) == b"one"
                with os.fdopen(descriptors[0]) as file:
                    assert file.read() == "passed on"

    run_anyio(main)


def test_tls_echo(run_anyio, server_tls, client_tls):
    async def main():
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):

            async def serve(stream):
                async with await TLSStream.wrap(stream, ssl_context=server_tls) as secure:
                    await secure.send(await receive_exactly(secure, len(LARGE)))

            group.start_soon(listener.serve, serve)
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            stream = await anyio.connect_tcp(
                *address, tls=True, ssl_context=client_tls, tls_hostname="localhost"
            )
            async with stream:
                await stream.send(LARGE)
                assert await receive_exactly(stream, len(LARGE)) == LARGE
            group.cancel_scope.cancel()

    run_anyio(main)


def test_receive_that_is_cancelled_loses_nothing(run_anyio):
    async def main():
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as both:
            (listener,) = both.listeners
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            async with (
                await anyio.connect_tcp(*address) as client,
                await listener.accept() as server,
            ):
                for number in range(50):
                    with anyio.CancelScope() as scope:
                        async with anyio.create_task_group() as group:
                            group.start_soon(client.send, b"%03d" % number)
                            scope.cancel()
                            await server.receive()
                    assert scope.cancelled_caught
                    await client.send(b"%03d" % number)
                    assert (await receive_exactly(server, 3)) == b"%03d" % number

    run_anyio(main)


def test_socket_is_waited_for(run_anyio):
    async def main():
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.wait_readable, one)
                await anyio.wait_writable(other)
                other.send(b"x")
            assert one.recv(1) == b"x"
            with anyio.move_on_after(0):
                await anyio.wait_readable(one)
            other.send(b"y")
            await anyio.wait_readable(one)

    run_anyio(main)


def test_signals_are_received(run_anyio):
    async def main():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert await anext(signals) == signal.SIGUSR1
            os.kill(os.getpid(), signal.SIGUSR2)
            assert await anext(signals) == signal.SIGUSR2

    run_anyio(main)


def test_threads_call_into_the_loop(run_anyio):
    async def main():
        async def inside(number):
            await anyio.lowlevel.checkpoint()
            return number, threading.get_ident()

        def outside(number):
            return from_thread.run(inside, number)

        mine = threading.get_ident()
        for number in range(20):
            assert await to_thread.run_sync(outside, number) == (number, mine)

    run_anyio(main)


def test_portal_starts_the_loop_in_a_thread(loop_kind, make_loop):
    async def kind():
        return getattr(asyncio.get_running_loop(), "driver", "asyncio")

    options = {"loop_factory": make_loop}
    with from_thread.start_blocking_portal(backend_options=options) as portal:
        assert portal.call(kind) == loop_kind
        assert portal.start_task_soon(kind).result(PATIENCE_S) == loop_kind


def test_datagrams_are_exchanged(run_anyio, make_loop):
    needs(make_loop, "create_datagram_endpoint", "datagram endpoints")

    async def main():
        async with (
            await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1") as one,
            await anyio.create_udp_socket(family=socket.AF_INET, local_host="127.0.0.1") as two,
        ):
            address = two.extra(anyio.abc.SocketAttribute.local_address)
            for number in range(50):
                await one.sendto(b"%d" % number, *address)
                message, sender = await two.receive()
                assert message == b"%d" % number
                assert tuple(sender) == one.extra(anyio.abc.SocketAttribute.local_address)

    run_anyio(main)


def test_processes_are_run(run_anyio, make_loop):
    needs(make_loop, "subprocess_exec", "subprocesses")

    async def main():
        code = "import sys; sys.stdout.write(sys.stdin.read()[::-1])"
        done = await anyio.run_process([sys.executable, "-c", code], input=b"reversed")
        assert done.stdout == b"desrever"
        async with await anyio.open_process([sys.executable, "-c", "input()"]) as child:
            child.terminate()
            assert await child.wait() == -signal.SIGTERM

    run_anyio(main)


def test_work_is_done_in_other_processes(run_anyio, make_loop):
    needs(make_loop, "subprocess_exec", "subprocesses")

    async def main():
        return await to_process.run_sync(functools.partial(pow, 3, 5))

    assert run_anyio(main) == 243
