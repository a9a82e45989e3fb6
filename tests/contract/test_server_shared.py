"""One listening socket, several processes: who is busy keeps no connection from the others."""

import asyncio
import os
import signal
import socket
import traceback

import pytest
from harness import PATIENCE_S, oracle_lacks, run
from kept_memory import needs_kept_memory


class Worker(asyncio.Protocol):
    """Answers with the number of its process, after blocking it if asked to."""

    def __init__(self, blocked, release):
        self.blocked = blocked
        self.release = release

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        if data == b"block":
            os.write(self.blocked, b"%d\n" % os.getpid())
            os.read(self.release, 1)
        self.transport.write(b"%d\n" % os.getpid())
        self.transport.close()


class Workers:
    """Processes that run `serve` until this is left; any one of them can be blocked."""

    def __init__(self, serve, count=2):
        self.release, self.blocked, self.stop = (Pipe() for _ in range(3))
        self.pids = [self._fork(serve) for _ in range(count)]

    def _fork(self, serve):
        ready = Pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                # The child's own limit; timers of the parent are not inherited.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(2 * PATIENCE_S)
                # Or no end of file would come of them.
                self.stop.close_writer()
                self.release.close_writer()
                serve(self, ready.write)
                code = 0
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(code)
        assert ready.read() == b"ready\n"
        ready.close()
        return pid

    def protocol(self):
        return Worker(self.blocked.writer, self.release.reader)

    async def serve(self, ready):
        """In the child, once the server serves."""
        loop = asyncio.get_running_loop()
        stopped = loop.create_future()
        loop.add_reader(self.stop.reader, stopped.set_result, None)
        loop.call_soon(ready, b"ready\n")
        await stopped
        loop.remove_reader(self.stop.reader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release.close_writer()
        self.stop.close_writer()
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        for pipe in (self.release, self.blocked, self.stop):
            pipe.close()
        assert codes == [0] * len(codes)


class Pipe:
    def __init__(self):
        self.reader, self.writer = os.pipe()

    def read(self):
        return os.read(self.reader, 100)

    def write(self, data):
        os.write(self.writer, data)

    def close_writer(self):
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None

    def close(self):
        self.close_writer()
        os.close(self.reader)


def connected(address, text):
    family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    client = socket.socket(family)
    client.settimeout(PATIENCE_S)
    client.connect(address)
    client.sendall(text)
    return client


def ask(address):
    with connected(address, b"who") as client:
        return int(client.recv(100))


def check_that_the_idle_one_serves(workers, address):
    for _ in range(2):
        with connected(address, b"block") as blocked:
            busy = int(workers.blocked.read())
            (idle,) = set(workers.pids) - {busy}
            assert [ask(address) for _ in range(4)] == [idle] * 4
            workers.release.write(b"r")
            assert int(blocked.recv(100)) == busy


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def test_connection_goes_to_the_idle_process_while_another_is_busy(make_loop, family, tmp_path):
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
        listener.listen(100)

        def serve(workers, ready):
            loop = make_loop()

            async def main():
                tcp = family == socket.AF_INET
                create = loop.create_server if tcp else loop.create_unix_server
                server = await create(workers.protocol, sock=listener)
                await workers.serve(ready)
                server.close()

            run(loop, main())
            loop.close()

        with Workers(serve) as workers:
            check_that_the_idle_one_serves(workers, listener.getsockname())


def test_server_inherited_by_two_processes_leaves_connections_to_the_idle_one(loop, loop_kind):
    oracle_lacks(loop_kind, True, "processes that inherit a loop share its epoll set")
    needs_kept_memory(loop_kind)
    started = []

    def protocol():
        return started[0].protocol()

    async def start():
        return await loop.create_server(protocol, "127.0.0.1", 0)

    def serve(workers, ready):
        started.append(workers)
        run(loop, workers.serve(ready))

    server = run(loop, start())
    with Workers(serve) as workers:
        check_that_the_idle_one_serves(workers, server.sockets[0].getsockname())
    # The one who made it serves still.
    started.append(workers)

    async def reach():
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"who")
        assert int(await reader.read()) == os.getpid()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, reach())
