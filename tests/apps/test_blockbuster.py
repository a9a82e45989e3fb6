"""blockbuster: what the loop itself calls is no blocking call of the program's."""

import asyncio
import os
import socket
import sys

import pytest

blockbuster = pytest.importorskip("blockbuster", reason="blockbuster is not installed")


@pytest.fixture
def watched(run):
    """Run a coroutine while blockbuster watches; what it reports is raised."""

    def watched(coroutine):
        async def main():
            with blockbuster.blockbuster_ctx():
                return await coroutine

        return run(main())

    return watched


async def closed(server):
    server.close()
    await server.wait_closed()


def test_blocking_call_of_a_task_is_reported(watched):
    """Else none of the tests below could fail."""

    async def main():
        os.stat("/")

    with pytest.raises(blockbuster.BlockingError):
        watched(main())


def test_program_that_is_started_is_not_reported(watched):
    async def main():
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(1)", stdout=-1)
        assert await child.communicate() == (b"1\n", None)
        child = await asyncio.create_subprocess_shell("exit 3")
        assert await child.wait() == 3

    watched(main())


def test_program_that_does_not_exist_is_told_and_not_reported(watched):
    with pytest.raises(FileNotFoundError):
        watched(asyncio.create_subprocess_exec("/nonexistent/program"))


def test_unix_server_is_not_reported_from_its_start_to_its_end(watched, tmp_path):
    path = tmp_path / "socket"

    async def serve(reader, writer):
        writer.close()
        await writer.wait_closed()

    async def main():
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await closed(server)

    watched(main())


def test_unix_server_in_the_place_of_a_stale_socket_is_not_reported(watched, loop_kind, tmp_path):
    if loop_kind == "asyncio":
        pytest.skip("blockbuster reports asyncio's own os.remove()")
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))

    async def main():
        loop = asyncio.get_running_loop()
        await closed(await loop.create_unix_server(asyncio.Protocol, path))

    watched(main())


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_file_that_is_sent_is_not_reported(watched, tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(bytes(size))

    async def main():
        loop = asyncio.get_running_loop()

        async def serve(reader, writer):
            with file:
                await loop.sendfile(writer.transport, file)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert len(await reader.read()) == size
        writer.close()
        await closed(server)

    with open(path, "rb") as file:
        watched(main())


def test_default_executor_is_shut_down_unreported(watched):
    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, int, "7") == 7
        await loop.shutdown_default_executor()

    watched(main())


def test_loop_that_is_made_and_reports_in_a_task_is_not_reported(watched, make_loop):
    async def main():
        other = make_loop()
        if hasattr(other, "report"):
            other.report()
        other.close()

    watched(main())
