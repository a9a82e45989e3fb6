"""aiohttp: its server and its client on our loop, alone and against each other."""

import asyncio
import contextlib
import functools
import hashlib
import io
import re
import signal
import socket

import pytest
from pages import told
from ports import free_port

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
from aiohttp import web  # noqa: E402

LARGE = 10 << 20
BODY = hashlib.sha256(b"aiohttp").digest() * (LARGE // 32)

ARRIVED = web.AppKey("arrived", asyncio.Event)
LEFT = web.AppKey("left", asyncio.Event)


async def hello(request):
    kind = getattr(asyncio.get_running_loop(), "driver", "asyncio")
    peer = request.transport.get_extra_info("peername")
    return web.json_response({"kind": kind, "path": request.path, "peer": peer})


async def echo(request):
    """The body as it comes, chunked."""
    response = web.StreamResponse()
    await response.prepare(request)
    async for part in request.content.iter_any():
        await response.write(part)
    await response.write_eof()
    return response


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for start in range(0, LARGE, 1 << 16):
        await response.write(BODY[start : start + (1 << 16)])
    return response


async def whole(request):
    return web.Response(body=io.BytesIO(BODY))


async def digest(request):
    found = hashlib.sha256()
    async for part in request.content.iter_chunked(1 << 16):
        found.update(part)
    return web.Response(text=found.hexdigest())


async def never(request):
    request.app[ARRIVED].set()
    try:
        await asyncio.Event().wait()
    finally:
        request.app[LEFT].set()


async def chat(request):
    peer = web.WebSocketResponse(max_msg_size=0)
    await peer.prepare(request)
    async for message in peer:
        if message.type == aiohttp.WSMsgType.TEXT:
            await peer.send_str(message.data)
        else:
            await peer.send_bytes(message.data)
    return peer


@contextlib.asynccontextmanager
async def serving(tmp_path=None, ssl_context=None):
    """(application, address) of a server in the running loop."""
    application = web.Application(client_max_size=2 * LARGE)
    application.router.add_get("/hello", hello)
    application.router.add_post("/echo", echo)
    application.router.add_get("/stream", stream)
    application.router.add_get("/whole", whole)
    application.router.add_post("/digest", digest)
    application.router.add_get("/never", never)
    application.router.add_get("/chat", chat)
    if tmp_path is not None:
        application.router.add_static("/files", tmp_path)
    application[ARRIVED], application[LEFT] = asyncio.Event(), asyncio.Event()
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=30)
    await runner.setup()
    sock = socket.create_server(("127.0.0.1", 0))
    try:
        await web.SockSite(runner, sock, ssl_context=ssl_context).start()
        scheme = "http" if ssl_context is None else "https"
        yield application, f"{scheme}://localhost:{sock.getsockname()[1]}"
    finally:
        await runner.cleanup()
        sock.close()


def connector(**options):
    """localhost is looked up by the loop's getaddrinfo(), in a thread."""
    return aiohttp.TCPConnector(
        family=socket.AF_INET, resolver=aiohttp.ThreadedResolver(), **options
    )


def session(url, **options):
    return aiohttp.ClientSession(
        url,
        connector=options.pop("connector", None) or connector(),
        timeout=aiohttp.ClientTimeout(total=30),
        **options,
    )


def test_many_requests_share_a_pool_of_connections(loop_kind, run):
    async def main():
        ports = set()

        async def one(client, number):
            async with client.get("/hello", params={"number": number}) as answer:
                told = await answer.json()
                assert told["kind"] == loop_kind
                ports.add(tuple(told["peer"]))

        async with (
            serving() as (_, url),
            session(url, connector=connector(limit=8)) as client,
        ):
            for _ in range(10):
                await asyncio.gather(*[one(client, number) for number in range(30)])
        assert len(ports) <= 8

    run(main())


def test_large_bodies_go_both_ways(run):
    async def main():
        async with serving() as (_, url), session(url) as client:
            for path in ("/stream", "/whole"):
                async with client.get(path) as answer:
                    assert await answer.read() == BODY
            async with client.post("/digest", data=io.BytesIO(BODY)) as answer:
                assert await answer.text() == hashlib.sha256(BODY).hexdigest()

            async def parts():
                for start in range(0, LARGE, 100_000):
                    yield BODY[start : start + 100_000]

            # Chunked in both directions at once.
            async with client.post("/echo", data=parts()) as answer:
                assert await answer.read() == BODY

    run(main())


def test_tls_carries_the_same(run, server_tls, client_tls):
    async def main():
        async with (
            serving(ssl_context=server_tls) as (_, url),
            session(url, connector=connector(ssl=client_tls)) as client,
        ):
            async with client.get("/stream") as answer:
                assert await answer.read() == BODY
            async with client.post("/digest", data=io.BytesIO(BODY)) as answer:
                assert await answer.text() == hashlib.sha256(BODY).hexdigest()

    run(main())


def test_static_files_are_sent_whole_and_in_parts(run, tmp_path):
    """aiohttp sends them by loop.sendfile()."""
    (tmp_path / "large").write_bytes(BODY)
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "empty").write_bytes(b"")

    async def main():
        async with serving(tmp_path) as (_, url), session(url) as client:
            for _ in range(3):
                for name in ("large", "small", "empty"):
                    async with client.get(f"/files/{name}") as answer:
                        assert await answer.read() == (tmp_path / name).read_bytes()
            wanted = {"Range": "bytes=1000-1999999"}
            async with client.get("/files/large", headers=wanted) as answer:
                assert answer.status == 206
                assert await answer.read() == BODY[1000:2_000_000]
            async with client.get("/files/missing") as answer:
                assert answer.status == 404

    run(main())


def test_static_files_are_sent_over_tls(run, tmp_path, server_tls, client_tls):
    (tmp_path / "large").write_bytes(BODY)

    async def main():
        async with (
            serving(tmp_path, server_tls) as (_, url),
            session(url, connector=connector(ssl=client_tls)) as client,
            client.get("/files/large") as answer,
        ):
            assert await answer.read() == BODY

    run(main())


def test_client_that_times_out_cancels_the_handler(run):
    async def main():
        async with serving() as (application, url), session(url) as client:
            with pytest.raises(asyncio.TimeoutError):
                await client.get("/never", timeout=aiohttp.ClientTimeout(total=0.2))
            await application[LEFT].wait()
            # The session is none the worse for it.
            async with client.get("/hello") as answer:
                assert answer.status == 200

    run(main())


def test_cancelled_request_cancels_the_handler(run):
    async def main():
        async with serving() as (application, url), session(url) as client:
            task = asyncio.create_task(client.get("/never"))
            await application[ARRIVED].wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await application[LEFT].wait()

    run(main())


def test_client_that_leaves_a_stream_half_read_ends_only_its_own(run):
    async def main():
        async with serving() as (_, url), session(url) as client:
            for _ in range(5):
                async with client.get("/stream") as answer:
                    assert await answer.content.readexactly(1000) == BODY[:1000]
                    answer.close()
            async with client.get("/stream") as answer:
                assert await answer.read() == BODY

    run(main())


def test_websocket_carries_large_messages_and_pings(run):
    async def main():
        async with (
            serving() as (_, url),
            session(url) as client,
            client.ws_connect("/chat", max_msg_size=0, heartbeat=0.2) as peer,
        ):
            for size in (0, 1, 125, 126, 65536, 4 << 20):
                await peer.send_bytes(BODY[:size])
                assert await peer.receive_bytes() == BODY[:size]
                await peer.ping(b"still there?")
            await peer.send_str("ä" * 100_000)
            assert await peer.receive_str() == "ä" * 100_000

    run(main())


def test_client_refused_says_so(run):
    async def main():
        async with session(f"http://localhost:{free_port()}") as client:
            with pytest.raises(aiohttp.ClientConnectorError):
                await client.get("/hello")

    run(main())


def test_unix_socket_is_served_and_asked(run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        application = web.Application()
        application.router.add_get("/hello", hello)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.UnixSite(runner, path).start()
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as client,
            client.get("http://any/hello") as answer,
        ):
            assert (await answer.json())["path"] == "/hello"
        await runner.cleanup()

    run(main())


RUN_APP = """
import asyncio, sys
from aiohttp import web
if sys.argv[1] == "asyncio":
    loop = asyncio.SelectorEventLoop()
else:
    import uring_loop
    loop = uring_loop.new_event_loop()

async def hello(request):
    assert asyncio.get_running_loop() is loop
    return web.Response(text=getattr(loop, "driver", "asyncio"))

async def ended(application):
    print("cleaned up")

app = web.Application()
app.router.add_get("/", hello)
app.on_cleanup.append(ended)
RECIPE
assert loop.is_closed()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_app_runs_the_loop_it_is_given_until_a_signal(
    loop_kind, start_python, run, number
):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    recipe = told(
        "aiohttp",
        ("uring_loop.new_event_loop()", "loop"),
        ("loop)", "loop, host='127.0.0.1', port=int(sys.argv[2]))"),
    )
    program = start_python("-c", RUN_APP.replace("RECIPE", recipe), loop_kind, port)
    line = program.until("Running on")
    url = re.search(r"http://\S+:\d+", line)[0]

    async def main():
        async with session(url) as client, client.get("/") as answer:
            assert await answer.text() == loop_kind
            program.signal(number)
            await asyncio.to_thread(functools.partial(program.until, "cleaned up"))

    run(main())
    assert program.wait() == 0, program.output
    assert "Traceback" not in program.output
