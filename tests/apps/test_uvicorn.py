"""uvicorn: named on its command line, with workers, and served by a running loop.

Source: uvicorn's settings, --loop: a callable that makes the event loop.
"""

import asyncio
import contextlib
import errno
import hashlib
import http.client
import json
import re
import signal
import socket

import pytest
from asgi_app import CHUNK, app, content
from pages import told

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

LARGE = 10 << 20


@pytest.fixture
def command(loop_kind):
    """The recipe's, with the loop under test."""
    loop = "asyncio" if loop_kind == "asyncio" else "uring_loop:new_event_loop"
    application = ("app:app", "asgi_app:app")
    return told("uvicorn", application, ("uring_loop:new_event_loop", loop))


@pytest.fixture
def serve(start_python, command):
    """Starts uvicorn in a process of its own; gives it and its port."""

    def serve(*more):
        program = start_python(
            *("-m", *command, "--host", "127.0.0.1", "--port", "0"),
            *more,
        )
        line = program.until("Uvicorn running on")
        return program, int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])

    return serve


def connect(port):
    return contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))


def fetch(connection, method, path, body=None, **options):
    connection.request(method, path, body, **options)
    response = connection.getresponse()
    assert response.status == 200
    return response.read()


def check_end(program, number):
    status = program.wait()
    # It ends as one that has no handler would: since 0.29 it raises the signal again.
    assert status in (0, -number, 128 + number), program.output
    assert "Traceback" not in program.output
    assert "Warning" not in program.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line_serves_and_ends_gracefully(loop_kind, serve, number):
    program, port = serve()
    with connect(port) as connection:
        # One connection all the time.
        assert json.loads(fetch(connection, "GET", "/loop"))["kind"] == loop_kind
        kept = connection.sock
        assert fetch(connection, "GET", f"/bytes/{LARGE}") == content(LARGE)
        body = content(LARGE)
        told = json.loads(fetch(connection, "POST", "/digest", body))
        assert told == {"size": LARGE, "digest": hashlib.sha256(body).hexdigest()}
        parts = [CHUNK] * 20
        answer = fetch(connection, "POST", "/echo", iter(parts), encode_chunked=True)
        assert answer == b"".join(parts)
        assert connection.sock is kept
        program.signal(number)
        assert kept.recv(1) == b""
    program.until("lifespan: ended")
    check_end(program, number)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_line_finishes_what_is_under_way(loop_kind, serve, number):
    """A body that the client still sends when the signal comes is read, and answered."""
    program, port = serve()
    with connect(port) as connection:
        connection.putrequest("POST", "/digest")
        connection.putheader("Content-Length", str(2 * len(CHUNK)))
        connection.endheaders(CHUNK)
        with connect(port) as other:
            assert json.loads(fetch(other, "GET", "/loop"))["kind"] == loop_kind
            program.signal(number)
            assert other.sock.recv(1) == b""
        connection.send(CHUNK)
        response = connection.getresponse()
        digest = hashlib.sha256(2 * CHUNK).hexdigest()
        assert json.loads(response.read()) == {"size": 2 * len(CHUNK), "digest": digest}
    program.until("lifespan: ended")
    check_end(program, number)


def until_listening(port):
    """A worker that has started listens a moment later."""
    with socket.socket() as sock:
        while sock.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED:
            pass


def test_workers_serve_and_end_with_their_parent(loop_kind, serve):
    program, port = serve("--workers", "2")
    program.until("lifespan: started on " + loop_kind, times=2)
    until_listening(port)
    for _ in range(20):
        with connect(port) as connection:
            told = json.loads(fetch(connection, "GET", "/loop"))
            assert told["kind"] == loop_kind
            assert told["pid"] != program.pid
            assert fetch(connection, "GET", f"/bytes/{1 << 20}") == content(1 << 20)
    program.signal(signal.SIGTERM)
    check_end(program, signal.SIGTERM)
    assert len([line for line in program.lines if "lifespan: ended" in line]) == 2


@contextlib.asynccontextmanager
async def serving(**options):
    """uvicorn in the running loop; gives its address."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, loop="none", log_level="warning", lifespan="on", **options)
    server = uvicorn.Server(config)
    # Its signal handlers are the process's, which is the tests' here.
    server.capture_signals = contextlib.nullcontext
    task = asyncio.get_running_loop().create_task(server.serve(sockets=[sock]))
    try:
        while not server.started:
            assert not task.done()
            await asyncio.sleep(0)
        scheme = "https" if config.is_ssl else "http"
        yield f"{scheme}://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        sock.close()


@pytest.fixture(params=["h11", "httptools"])
def implementation(request):
    pytest.importorskip(request.param, reason=f"{request.param} is not installed")
    return request.param


def test_served_in_a_running_loop_to_many_clients_at_once(loop_kind, run, implementation):
    async def one(client, number):
        body = content(number * 10_000)
        answer = await client.post("/echo", content=body)
        assert answer.content == body
        answer = await client.get(f"/bytes/{number * 10_000}")
        assert answer.content == body

    async def main():
        async with (
            serving(http=implementation) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            assert (await client.get("/loop")).json()["kind"] == loop_kind
            await asyncio.gather(*[one(client, number) for number in range(30)])

    run(main())


def test_large_bodies_go_both_ways_at_once(run, implementation):
    """The server answers while it still receives: both ends push back."""

    async def body():
        for _ in range(LARGE // len(CHUNK)):
            yield CHUNK

    async def main():
        async with (
            serving(http=implementation) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
            client.stream("GET", f"/bytes/{LARGE}") as answer,
        ):
            digest = hashlib.sha256()
            async for part in answer.aiter_raw():
                digest.update(part)
            assert digest.digest() == hashlib.sha256(content(LARGE)).digest()
            told = (await client.post("/digest", content=body())).json()
            assert told == {"size": LARGE, "digest": digest.hexdigest()}

    run(main())


def test_tls_is_served(run, authority, certificate, client_tls, tmp_path, implementation):
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)

    async def main():
        async with (
            serving(http=implementation, ssl_keyfile=key, ssl_certfile=chain) as url,
            httpx.AsyncClient(base_url=url, timeout=30, verify=client_tls) as client,
        ):
            assert (await client.get(f"/bytes/{LARGE}")).content == content(LARGE)
            answer = await client.post("/digest", content=content(LARGE))
            assert answer.json()["size"] == LARGE

    run(main())


def test_client_that_leaves_in_the_middle_ends_only_its_own_request(run, implementation):
    async def main():
        async with serving(http=implementation) as url:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                for _ in range(5):
                    async with client.stream("GET", f"/bytes/{LARGE}") as answer:
                        async for _ in answer.aiter_raw():
                            break
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                assert (await client.get("/bytes/1000")).content == content(1000)

    run(main())


def test_websocket_is_served(loop_kind, run):
    websockets = pytest.importorskip("websockets", reason="websockets is not installed")

    async def main():
        async with serving(ws="websockets-sansio") as url:
            address = url.replace("http", "ws") + "/ws"
            async with websockets.connect(address, max_size=None) as client:
                for message in ["text", bytes(4 << 20), ""]:
                    await client.send(message)
                    assert await client.recv() == message
                await client.send("close")
                with pytest.raises(websockets.ConnectionClosedError) as caught:
                    await client.recv()
                assert caught.value.rcvd.code == 4000

    run(main())
