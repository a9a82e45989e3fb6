"""No descriptor of the loop's, nor one that it makes for a program, outlives an exec."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys

from harness import PATIENCE_S, Recorder, run

import uring_loop
from uring_loop import files


def inheritable(before):
    """The descriptors beside `before` that a child would have, with what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number in before:
            continue
        with contextlib.suppress(OSError):
            if not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def open_numbers():
    return {int(name) for name in os.listdir("/proc/self/fd")}


async def everything(stack, tmp_path, certificates):
    """Open one of each kind, for as long as `stack` is."""
    loop = asyncio.get_running_loop()
    server_context, client_context = certificates.server(), certificates.client()

    # The first connection that is served is the one that is made.
    async def serve(make, context=None):
        accepted = loop.create_future()

        class Accepted(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                accepted.set_result(transport)

        server = await make(Accepted, ssl=context)
        stack.callback(server.close)
        return server, accepted

    def listening(factory, ssl):
        return loop.create_server(factory, "127.0.0.1", 0, ssl=ssl)

    for contexts in ((None, None), (server_context, client_context)):
        server, accepted = await serve(listening, contexts[0])
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(
            Recorder,
            "127.0.0.1",
            port,
            ssl=contexts[1],
            server_hostname="localhost" if contexts[1] else None,
        )
        stack.callback(transport.abort)
        stack.callback((await accepted).abort)
    path = str(tmp_path / "server")
    _, accepted = await serve(lambda factory, ssl: loop.create_unix_server(factory, path))
    transport, _ = await loop.create_unix_connection(Recorder, path)
    stack.callback(transport.abort)
    stack.callback((await accepted).abort)

    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    stack.callback(transport.abort)

    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    client = stack.enter_context(socket.socket())
    for sock in (listener, client):
        sock.setblocking(False)
    await loop.sock_connect(client, listener.getsockname())
    stack.enter_context((await loop.sock_accept(listener))[0])
    loop.add_reader(client, lambda: None)
    stack.callback(loop.remove_reader, client)

    loop.add_signal_handler(signal.SIGUSR2, lambda: None)
    stack.callback(loop.remove_signal_handler, signal.SIGUSR2)
    await loop.run_in_executor(None, int)
    await loop.getaddrinfo("localhost", 1)

    reading, writing = os.pipe()
    transport, _ = await loop.connect_read_pipe(Recorder, os.fdopen(reading, "rb", 0))
    stack.callback(transport.close)
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(writing, "wb", 0))
    stack.callback(transport.abort)

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import os; os.read(0, 1); print(*sorted(map(int, os.listdir('/proc/self/fd')))[:-1])",
        stdin=-1,
        stdout=-1,
        close_fds=False,
    )
    file = await files.open(tmp_path / "file", "w+b")
    await file.write(b"x" * 100_000)
    await file.flush()
    return process, file


def test_descriptors_with_everything_open_are_closed_by_an_exec(loop, tmp_path, certificates):
    before = open_numbers()
    other = type(loop)()

    async def main():
        with contextlib.ExitStack() as stack:
            process, file = await everything(stack, tmp_path, certificates)
            assert len(open_numbers() - before) > 20
            assert inheritable(before) == {}
            # And so a child that is given all that can be inherited has its pipes alone.
            output, _ = await process.communicate(b"x")
            inherited = {number for number in before if os.path.exists(f"/proc/self/fd/{number}")}
            assert set(map(int, output.split())) <= inherited | {0, 1, 2}
            await file.close()

    try:
        run(loop, asyncio.wait_for(main(), PATIENCE_S))
    finally:
        other.close()


def test_descriptors_of_what_watches_and_tells_are_closed_by_an_exec(loop, tmp_path):
    before = open_numbers()
    with uring_loop.serve_statistics(str(tmp_path / "statistics")), uring_loop.watch_blocking(1):
        run(loop, asyncio.sleep(0))
        assert open_numbers() - before
        assert inheritable(before) == {}
