"""websockets: its asyncio server and client, with large messages, pings and abrupt ends."""

import asyncio
import contextlib
import random

import pytest

websockets = pytest.importorskip("websockets", reason="websockets is not installed")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.asyncio.server import serve  # noqa: E402


class Server:
    """An echo server; `ends` gets what each connection ended with."""

    def __init__(self):
        self.ends = asyncio.Queue()

    async def handle(self, connection):
        try:
            while True:
                await connection.send(await connection.recv())
        except websockets.ConnectionClosed as error:
            self.ends.put_nowait(error)


@contextlib.asynccontextmanager
async def serving(**options):
    echo = Server()
    async with serve(echo.handle, "127.0.0.1", 0, max_size=None, **options) as server:
        scheme = "wss" if "ssl" in options else "ws"
        port = server.sockets[0].getsockname()[1]
        yield echo, f"{scheme}://127.0.0.1:{port}"


def messages():
    chosen = random.Random(1)
    sizes = [0, 1, 125, 126, 65535, 65536, 1 << 20, 8 << 20]
    return [chosen.randbytes(size) for size in sizes] + ["", "text", "ä" * 300_000]


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_messages_of_every_size_come_back(run, compression):
    async def main():
        async with (
            serving(compression=compression) as (_, url),
            connect(url, max_size=None, compression=compression) as client,
        ):
            for message in messages():
                await client.send(message)
                assert await client.recv() == message

    run(main())


def test_messages_over_tls_come_back(run, server_tls, client_tls):
    async def main():
        async with (
            serving(ssl=server_tls) as (_, url),
            connect(url, max_size=None, ssl=client_tls) as client,
        ):
            for message in messages():
                await client.send(message)
                assert await client.recv() == message

    run(main())


def test_sender_that_is_ahead_of_its_reader_is_held_back(run):
    """Nothing is read while 16 MiB are sent both ways."""

    async def main():
        async with serving() as (_, url), connect(url, max_size=None, max_queue=1) as client:
            part = bytes(1 << 20)

            async def send():
                for number in range(16):
                    await client.send(bytes([number]) + part)

            sending = asyncio.create_task(send())
            for number in range(16):
                assert (await client.recv())[0] == number
            await sending

    run(main())


def test_fragments_are_one_message(run):
    async def main():
        async with serving() as (_, url), connect(url) as client:

            async def parts():
                for number in range(50):
                    yield bytes([number]) * 1000

            await client.send(parts())
            answer = await client.recv()
            assert answer == b"".join([bytes([number]) * 1000 for number in range(50)])

    run(main())


def test_pings_are_answered(run):
    async def main():
        async with serving() as (_, url), connect(url) as client:
            for _ in range(100):
                assert await (await client.ping()) >= 0

    run(main())


def test_keepalive_finds_a_peer_that_is_silent(run):
    """A peer that reads nothing answers no ping: the connection ends with code 1011."""

    async def main():
        async with serving(ping_interval=0.05, ping_timeout=0.1, close_timeout=0.1) as (echo, url):
            client = await connect(url, ping_interval=None)
            client.transport.pause_reading()
            error = await echo.ends.get()
            assert error.sent.code == 1011
            client.transport.abort()
            await client.wait_closed()

    run(main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_peer_learns_how_the_connection_ended(run, ending):
    async def main():
        async with serving() as (echo, url):
            client = await connect(url)
            await client.send("one")
            assert await client.recv() == "one"
            if ending == "close":
                await client.close(4001, "enough")
                error = await echo.ends.get()
                assert (error.rcvd.code, error.rcvd.reason) == (4001, "enough")
            else:
                client.transport.abort()
                error = await echo.ends.get()
                assert isinstance(error, websockets.ConnectionClosedError)
                assert error.rcvd is None
                await client.wait_closed()

    run(main())


def test_server_that_ends_closes_its_connections(run):
    async def main():
        async with serving() as (_, url):
            clients = [await connect(url) for _ in range(20)]
        for client in clients:
            with pytest.raises(websockets.ConnectionClosedOK) as caught:
                await client.recv()
            assert caught.value.rcvd.code == 1001

    run(main())


def test_many_connections_at_once(run):
    async def one(url, number):
        async with connect(url) as client:
            for turn in range(10):
                await client.send(f"{number} {turn}")
                assert await client.recv() == f"{number} {turn}"

    async def main():
        async with serving() as (_, url):
            await asyncio.gather(*[one(url, number) for number in range(100)])

    run(main())
