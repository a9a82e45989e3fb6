"""How other servers and tools are told of our loop: the ways that docs/recipes.md names.

Each runs in a process of its own, as its user would start it.
"""

import asyncio
import contextlib
import hashlib
import http.client
import importlib.util
import json
import signal
import socket
import sys

import pytest
from asgi_app import content
from pages import told
from ports import free_port


def needs(*packages):
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.fixture
def port():
    return free_port()


def fetch(port, method, path, body=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request(method, path, body)
        response = client.getresponse()
        assert response.status == 200
        return response.read()


def check_asgi(port, loop_kind):
    for _ in range(5):
        assert json.loads(fetch(port, "GET", "/loop"))["kind"] == loop_kind
    body = content(2 << 20)
    assert fetch(port, "GET", f"/bytes/{len(body)}") == body
    told = json.loads(fetch(port, "POST", "/digest", body))
    assert told == {"size": len(body), "digest": hashlib.sha256(body).hexdigest()}


def until_it_listens(program, port):
    while program.is_alive():
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return


def end(program):
    program.signal(signal.SIGTERM)
    assert program.wait() == 0, program.output
    assert "Traceback" not in program.output, program.output


WORKERS = {
    "UvicornWorker": ("uvicorn_worker", "uvicorn_worker.UvicornWorker"),
    "ASGIWorker": ("gunicorn", "gunicorn.workers.gasgi.ASGIWorker"),
    "AiohttpWorker": ("aiohttp", "aiohttp.worker.GunicornWebWorker"),
}


# Until then a worker has gunicorn's own handlers, which only note that a signal came.
GUNICORN_SETTINGS = """
def post_worker_init(worker):
    worker.log.info("has its signal handlers")
"""


@pytest.mark.parametrize("worker", WORKERS)
def test_gunicorn_worker(loop_kind, start_python, port, tmp_path, worker):
    package, stock = WORKERS[worker]
    needs("gunicorn", package)
    settings = tmp_path / "settings.py"
    settings.write_text(GUNICORN_SETTINGS)
    application = "aiohttp_app:make" if worker == "AiohttpWorker" else "asgi_app:app"
    ours = f"uring_loop.workers.{worker}"
    words = told(
        "gunicorn",
        ("app:app", application),
        ("uring_loop.workers.UvicornWorker", stock if loop_kind == "asyncio" else ours),
    )
    program = start_python(
        *("-m", *words, "--bind", f"127.0.0.1:{port}", "--workers", "2"),
        *("--worker-tmp-dir", tmp_path, "--no-control-socket", "--config", settings),
    )
    program.until("has its signal handlers", times=2)
    if worker == "AiohttpWorker":
        assert json.loads(fetch(port, "GET", "/loop"))["kind"] == loop_kind
    else:
        check_asgi(port, loop_kind)
    end(program)


def test_worker_names_are_listed_and_others_refused():
    from uring_loop import workers

    assert set(WORKERS) <= set(dir(workers))
    with pytest.raises(AttributeError, match="no attribute 'SyncWorker'"):
        workers.SyncWorker  # noqa: B018


HYPERCORN = """
import asyncio, signal, sys
import hypercorn.asyncio, uring_loop
from asgi_app import app
from hypercorn.config import Config

config = Config()
config.bind = ["127.0.0.1:" + sys.argv[2]]
config.errorlog = "-"

async def stop():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()

if sys.argv[1] == "asyncio":
    uring_loop.new_event_loop = asyncio.SelectorEventLoop
"""


def test_hypercorn_is_served_by_run(loop_kind, start_python, port):
    needs("hypercorn")
    program = start_python("-c", HYPERCORN + told("hypercorn-serve"), loop_kind, port)
    program.until("Running on")
    check_asgi(port, loop_kind)
    end(program)


GRANIAN = """
import asyncio, sys
import granian, uring_loop

RECIPE
if __name__ == "__main__":
    granian.Granian(
        "asgi_app:app",
        address="127.0.0.1",
        port=int(sys.argv[2]),
        interface="asgi",
        loop="asyncio",
        workers=1,
    ).serve()
"""


def test_granian_takes_a_loop_from_its_registry(loop_kind, start_python, port, tmp_path):
    needs("granian")
    path = tmp_path / "serve.py"
    recipe = told("granian-register") if loop_kind != "asyncio" else ""
    path.write_text(GRANIAN.replace("RECIPE", recipe))
    program = start_python(path, loop_kind, port)
    program.until("lifespan: started on " + loop_kind)
    program.until("Started worker-1")
    until_it_listens(program, port)
    check_asgi(port, loop_kind)
    end(program)


PYTEST_TEST = """
import asyncio, pytest, pytest_asyncio

@pytest_asyncio.fixture
async def served():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()

@pytest.mark.asyncio(loop_factories=["uring_loop"])
async def test_echo(served):
    assert getattr(asyncio.get_running_loop(), "driver", "asyncio") == "KIND"
    reader, writer = await asyncio.open_connection(*served)
    writer.write(b"line\\n")
    assert await reader.readline() == b"line\\n"
    writer.close()
    await writer.wait_closed()
"""


def test_pytest_asyncio_takes_a_loop_factory(loop_kind, start_python, tmp_path):
    needs("pytest_asyncio")
    recipe = told("pytest-asyncio")
    if loop_kind == "asyncio":
        recipe = "import asyncio\n" + recipe.replace(
            "uring_loop.new_event_loop", "asyncio.SelectorEventLoop"
        )
    (tmp_path / "conftest.py").write_text(recipe)
    (tmp_path / "test_it.py").write_text(PYTEST_TEST.replace("KIND", loop_kind))
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
    )
    program = start_python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert program.wait() == 0, program.output
    assert "1 passed" in program.output


ANYIO_TEST = """
import asyncio, anyio, pytest

@pytest.mark.anyio
async def test_loop():
    await anyio.sleep(0)
    assert asyncio.get_running_loop().driver == "KIND"
"""


def test_anyios_plugin_takes_a_loop_factory(loop_kind, start_python, tmp_path):
    needs("anyio")
    if loop_kind == "asyncio":
        pytest.skip("this is how our own loop is asked for")
    (tmp_path / "conftest.py").write_text(told("anyio-pytest"))
    (tmp_path / "test_it.py").write_text(ANYIO_TEST.replace("KIND", loop_kind))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    program = start_python("-m", "pytest", *options, cwd=tmp_path)
    assert program.wait() == 0, program.output
    assert "1 passed" in program.output


TWISTED = """
from twisted.internet import reactor

def ask():
    print("driver", asyncio.get_running_loop().driver)
    reactor.stop()

reactor.callLater(0, ask)
reactor.run()
"""


def test_twisteds_reactor_is_given_a_loop(loop_kind, start_python):
    needs("twisted")
    if loop_kind == "asyncio":
        pytest.skip("this is how our own loop is asked for")
    text = "import asyncio, uring_loop\n" + told("twisted") + TWISTED
    program = start_python("-c", text)
    assert program.wait() == 0, program.output
    assert program.lines == [f"driver {loop_kind}"]


NEST_ASYNCIO = """
import asyncio, warnings
import nest_asyncio, uring_loop

loop = uring_loop.new_event_loop()
try:
    nest_asyncio.apply(loop)
except ValueError as error:
    print("refused:", error)

# By then it has put the pure Python tasks in asyncio's place; the loop goes on with either.
async def nested():
    try:
        loop.run_until_complete(asyncio.sleep(0))
    except RuntimeError as error:
        print("nested:", error)
    await asyncio.gather(asyncio.sleep(0), asyncio.to_thread(print, "thread"))

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    loop.run_until_complete(nested())
loop.close()
"""


def test_nest_asyncio_refuses_our_loop_and_leaves_it_working(loop_kind, start_python):
    """It drives the parts of BaseEventLoop by itself, so it takes no other loop than that."""
    needs("nest_asyncio")
    if loop_kind == "asyncio":
        pytest.skip("stock asyncio's loop is what nest_asyncio patches")
    program = start_python("-W", "ignore::DeprecationWarning", "-c", NEST_ASYNCIO)
    assert program.wait() == 0, program.output
    program.until("refused: Can't patch loop of type <class 'uring_loop.EventLoop'>")
    program.until("nested: This event loop is already running")
    program.until("thread")


def test_aiofastnet_brings_its_transports(run, loop, server_tls, client_tls):
    """Patched by attributes of the instance, its transports live on add_reader alone."""
    aiofastnet = pytest.importorskip("aiofastnet", reason="aiofastnet is not installed")
    aiofastnet.patch_loop(loop)
    large = content(4 << 20)

    async def echo(reader, writer):
        while part := await reader.read(1 << 16):
            writer.write(part)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def converse(address, **options):
        reader, writer = await asyncio.open_connection(*address, **options)
        writer.write(large)
        assert await reader.readexactly(len(large)) == large
        writer.close()
        await writer.wait_closed()

    async def main():
        for served, asked in (
            ({}, {}),
            ({"ssl": server_tls}, {"ssl": client_tls, "server_hostname": "localhost"}),
        ):
            server = await asyncio.start_server(echo, "127.0.0.1", 0, **served)
            async with server:
                address = server.sockets[0].getsockname()
                await asyncio.gather(*[converse(address, **asked) for _ in range(4)])

    run(main())


RUN = """
import asyncio, sys, uring_loop

async def main():
    print("driver", asyncio.get_running_loop().driver)

uring_loop.run(main())
with asyncio.Runner(loop_factory=uring_loop.new_event_loop) as runner:
    runner.run(main())
if sys.version_info >= (3, 12):
    asyncio.run(main(), loop_factory=uring_loop.new_event_loop)
"""


def test_run_and_runner_take_the_factory(loop_kind, start_python):
    if loop_kind == "asyncio":
        pytest.skip("this is how our own loop is asked for")
    program = start_python("-W", "error", "-c", RUN)
    assert program.wait() == 0, program.output
    times = 3 if sys.version_info >= (3, 12) else 2
    assert program.lines == [f"driver {loop_kind}"] * times
