"""redis-py's asyncio client against a real server, started here, over TCP and a UNIX socket."""

import asyncio
import shutil

import pytest
from ports import free_port

redis = pytest.importorskip("redis", reason="redis-py is not installed")
from redis.asyncio.retry import Retry  # noqa: E402
from redis.backoff import NoBackoff  # noqa: E402

SERVER = shutil.which("redis-server")
pytestmark = pytest.mark.skipif(SERVER is None, reason="redis-server is not installed")


@pytest.fixture
def server(start, tmp_path):
    """(program, port, path of the UNIX socket)"""
    port = free_port()
    path = tmp_path / "socket"
    program = start(
        *(SERVER, "--bind", "127.0.0.1", "--port", port, "--unixsocket", path),
        *("--save", "", "--appendonly", "no", "--dir", tmp_path, "--daemonize", "no"),
    )
    program.until("eady to accept connections", times=2)
    return program, port, path


@pytest.fixture(params=["tcp", "unix"])
def make_client(request, server):
    """Makes clients, each with a pool of connections; to be closed by the test."""
    _, port, path = server

    def make(**options):
        if request.param == "unix":
            return redis.asyncio.Redis(unix_socket_path=str(path), **options)
        return redis.asyncio.Redis(host="127.0.0.1", port=port, **options)

    return make


def test_values_of_every_size_come_back(run, make_client):
    async def main():
        async with make_client() as client:
            assert await client.ping()
            for size in (0, 1, 1000, 65536, 8 << 20):
                await client.set("key", bytes(size))
                assert await client.get("key") == bytes(size)
            assert await client.get("missing") is None

    run(main())


def test_pipeline_answers_in_order(run, make_client):
    async def main():
        async with make_client() as client:
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(5000):
                    pipeline.set(f"key{number}", number)
                    pipeline.get(f"key{number}")
                answers = await pipeline.execute()
            assert answers == [
                answer for number in range(5000) for answer in (True, b"%d" % number)
            ]
            async with client.pipeline(transaction=True) as pipeline:
                answers = await pipeline.incr("count").incr("count").execute()
            assert answers == [1, 2]

    run(main())


def test_many_tasks_share_a_pool(run, make_client):
    async def main():
        async with make_client(max_connections=100) as client:

            async def one(number):
                for _ in range(20):
                    await client.incr("count")
                await client.set(f"mine{number}", number)
                return await client.get(f"mine{number}")

            answers = await asyncio.gather(*[one(number) for number in range(50)])
            assert answers == [b"%d" % number for number in range(50)]
            assert await client.get("count") == b"1000"

    run(main())


def test_published_messages_reach_every_subscriber(run, make_client):
    async def listen(client, ready, count):
        async with client.pubsub() as channel:
            await channel.subscribe("news")
            got = []
            async for message in channel.listen():
                if message["type"] == "subscribe":
                    ready.set()
                else:
                    got.append(message["data"])
                if len(got) == count:
                    return got

    async def main():
        async with make_client() as client:
            events = [asyncio.Event() for _ in range(5)]
            tasks = [asyncio.create_task(listen(client, event, 200)) for event in events]
            for event in events:
                await event.wait()
            sent = [b"message %d" % number for number in range(200)]
            for message in sent:
                assert await client.publish("news", message) == 5
            assert await asyncio.gather(*tasks) == [sent] * 5

    run(main())


def test_blocking_pop_waits_and_may_be_cancelled(run, make_client):
    async def main():
        async with make_client() as client, make_client() as other:
            waiting = asyncio.create_task(client.blpop("queue"))
            while not int((await other.info("clients"))["blocked_clients"]):
                pass
            await other.rpush("queue", b"first")
            assert tuple(await waiting) == (b"queue", b"first")
            waiting = asyncio.create_task(client.blpop("queue"))
            while not int((await other.info("clients"))["blocked_clients"]):
                pass
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            # Its connection is not used again with an answer outstanding.
            assert await client.ping()
            while int((await other.info("clients"))["blocked_clients"]):
                pass
            await client.rpush("queue", b"second")
            assert await client.lpop("queue") == b"second"

    run(main())


def test_server_that_dies_is_an_error_and_not_a_hang(run, make_client, server):
    program, _, _ = server

    async def main():
        once = Retry(NoBackoff(), 0)
        async with make_client(retry=once) as client, make_client(retry=once) as other:
            waiting = asyncio.create_task(client.blpop("queue"))
            while not int((await other.info("clients"))["blocked_clients"]):
                pass
            program.end()
            with pytest.raises(redis.ConnectionError):
                await waiting
            with pytest.raises(redis.ConnectionError):
                await other.ping()

    run(main())
