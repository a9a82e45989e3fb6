"""asyncio's streams over the loop's transports."""

import asyncio
import os
import socket
import sys

import pytest
from harness import iterations, run


async def serve(handler, **options):
    server = await asyncio.start_server(handler, "127.0.0.1", 0, **options)
    return server, server.sockets[0].getsockname()


def with_server(handler, client, **options):
    """Run `client(reader, writer)` against a server of `handler`; both ends are closed after."""

    async def main():
        ended = []

        async def tracked(reader, writer):
            done = asyncio.get_running_loop().create_future()
            ended.append(done)
            try:
                await handler(reader, writer)
            finally:
                writer.close()
                try:
                    await writer.wait_closed()
                except OSError:
                    pass
                done.set_result(None)

        server, address = await serve(tracked, **options)
        reader, writer = await asyncio.open_connection(*address, **options)
        try:
            return await client(reader, writer)
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass
            while not ended:
                await asyncio.sleep(0)
            await asyncio.gather(*ended)
            server.close()
            await server.wait_closed()

    return main()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def test_streams_lines_come_one_by_one(loop):
    async def client(reader, writer):
        writer.write(b"one\ntwo\n\nthree")
        writer.write_eof()
        return [await reader.readline() for _ in range(5)]

    lines = run(loop, with_server(echo, client))
    assert lines == [b"one\n", b"two\n", b"\n", b"three", b""]


def test_streams_async_iteration_gives_lines_until_eof(loop):
    async def client(reader, writer):
        writer.write(b"one\ntwo\nthree")
        writer.write_eof()
        return [line async for line in reader]

    assert run(loop, with_server(echo, client)) == [b"one\n", b"two\n", b"three"]


def test_streams_readexactly_gives_exactly_that_or_tells_what_there_was(loop):
    async def client(reader, writer):
        writer.write(b"0123456789")
        writer.write_eof()
        assert await reader.readexactly(4) == b"0123"
        assert await reader.readexactly(0) == b""
        with pytest.raises(asyncio.IncompleteReadError) as got:
            await reader.readexactly(10)
        assert got.value.partial == b"456789"
        assert got.value.expected == 10
        with pytest.raises(ValueError):
            await reader.readexactly(-1)

    run(loop, with_server(echo, client))


def test_streams_readuntil_finds_separators_across_pieces(loop):
    async def client(reader, writer):
        for piece in (b"a--b-", b"-c-", b"-", b"tail"):
            writer.write(piece)
            await writer.drain()
            await iterations(3)
        writer.write_eof()
        found = [await reader.readuntil(b"--") for _ in range(3)]
        with pytest.raises(asyncio.IncompleteReadError) as got:
            await reader.readuntil(b"--")
        return found, got.value.partial

    assert run(loop, with_server(echo, client)) == ([b"a--", b"b--", b"c--"], b"tail")


def test_streams_read_all_and_read_some(loop):
    async def client(reader, writer):
        blob = os.urandom(300_000)
        writer.write(blob)
        writer.write_eof()
        first = await reader.read(10)
        assert 1 <= len(first) <= 10
        assert await reader.read(0) == b""
        assert first + await reader.read() == blob
        assert reader.at_eof()
        assert await reader.read(5) == b""

    run(loop, with_server(echo, client))


@pytest.mark.parametrize("read", ["readuntil", "readline"])
def test_streams_line_over_the_limit_raises(loop, read):
    async def client(reader, writer):
        writer.write(b"x" * 5000 + b"\n")
        writer.write_eof()
        if read == "readuntil":
            with pytest.raises(asyncio.LimitOverrunError) as got:
                await reader.readuntil(b"\n")
            assert got.value.consumed > 0
            assert len(await reader.read()) == 5001
        else:
            with pytest.raises(ValueError, match="Separator is .*, (but|and) chunk"):
                await reader.readline()

    run(loop, with_server(echo, client, limit=1000))


def test_streams_reader_over_its_limit_pauses_the_transport_and_loses_nothing(loop):
    size = 4 << 20

    async def send(reader, writer):
        writer.write(bytes(size))
        await writer.drain()

    async def client(reader, writer):
        while writer.transport.is_reading():
            await asyncio.sleep(0)
        got = 0
        while data := await reader.read(100_000):
            got += len(data)
        assert got == size

    run(loop, with_server(send, client, limit=1000))


def test_streams_drain_waits_for_a_slow_reader(loop):
    # Far more than the two sockets' buffers hold, which is close to 4 MiB by default.
    size = 16 << 20

    async def slow(reader, writer):
        await release.wait()
        got = 0
        while got < size:
            got += len(await reader.read(1 << 20))
        writer.write(b"got it")
        await writer.drain()

    async def client(reader, writer):
        await writer.drain()
        writer.write(bytes(size))
        drained = asyncio.ensure_future(writer.drain())
        await iterations(20)
        assert not drained.done()
        release.set()
        await drained
        return await reader.readexactly(6)

    release = asyncio.Event()
    assert run(loop, with_server(slow, client, limit=1000)) == b"got it"


def test_streams_drain_by_several_tasks_all_return(loop):
    size = 4 << 20

    async def client(reader, writer):
        writer.write(bytes(size))
        tasks = [asyncio.ensure_future(writer.drain()) for _ in range(5)]
        await reader.readexactly(size)
        await asyncio.gather(*tasks)

    run(loop, with_server(echo, client))


def test_streams_drain_after_the_peer_is_gone_raises(loop):
    async def close(reader, writer):
        writer.transport.abort()

    async def client(reader, writer):
        assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 10_000)
                await writer.drain()

    run(loop, with_server(close, client))


def test_streams_read_from_a_reset_connection_raises(loop):
    async def reset(reader, writer):
        # Not before the client's connect() has returned: that would be what fails.
        await reader.readexactly(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def client(reader, writer):
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()

    run(loop, with_server(reset, client))


def test_streams_half_closed_connection_still_answers(loop):
    async def answer(reader, writer):
        request = await reader.read()
        writer.write(request.upper() * 1000)
        await writer.drain()

    async def client(reader, writer):
        assert writer.can_write_eof()
        writer.write(b"question")
        writer.write_eof()
        return await reader.read()

    assert run(loop, with_server(answer, client)) == b"QUESTION" * 1000


def test_streams_writelines_and_extra_info(loop):
    async def client(reader, writer):
        writer.writelines([b"a", b"bc", b"def"])
        assert writer.get_extra_info("peername")[0] == "127.0.0.1"
        assert not writer.is_closing()
        return await reader.readexactly(6)

    assert run(loop, with_server(echo, client)) == b"abcdef"


def test_streams_close_and_wait_closed_end_both_sides(loop):
    async def main():
        lost = asyncio.Event()

        async def handler(reader, writer):
            assert await reader.read() == b"bye"
            writer.close()
            await writer.wait_closed()
            lost.set()

        server, address = await serve(handler)
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"bye")
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await lost.wait()
        server.close()
        await server.wait_closed()

    run(loop, main())


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio's streams here leave a failure to the collector"
)
def test_streams_handler_failing_reaches_the_exception_handler(loop, errors):
    async def main():
        async def handler(reader, writer):
            raise LookupError

        server, address = await serve(handler)
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, main())
    assert [type(context["exception"]) for context in errors] == [LookupError]
    errors.clear()


def test_streams_many_clients_at_once_each_get_their_own(loop):
    async def main():
        server, address = await serve(echo_and_close)

        async def client(number):
            reader, writer = await asyncio.open_connection(*address)
            message = b"%06d" % number * 100
            writer.write(message)
            writer.write_eof()
            assert await reader.read() == message
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*(client(number) for number in range(100)))
        server.close()
        await server.wait_closed()
        await iterations(3)

    async def echo_and_close(reader, writer):
        await echo(reader, writer)
        writer.close()
        await writer.wait_closed()

    run(loop, main())


def test_streams_over_unix_sockets_work(loop, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        async def handler(reader, writer):
            await echo(reader, writer)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_unix_server(handler, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        writer.close()
        await writer.wait_closed()
        await iterations(5)
        server.close()
        await server.wait_closed()

    run(loop, main())


def test_streams_read_cancelled_keeps_what_arrives_for_the_next_read(loop):
    async def client(reader, writer):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.001)
        writer.write(b"later")
        return await reader.readexactly(5)

    assert run(loop, with_server(echo, client)) == b"later"


def test_streams_ping_pong_thousands_of_round_trips(loop):
    async def client(reader, writer):
        for number in range(2000):
            message = b"%08d" % number
            writer.write(message)
            assert await reader.readexactly(8) == message

    run(loop, with_server(echo, client))
