"""Programs that make their own loop, told by `python -m uring_loop run` or by URING_LOOP_AUTO.

Each is started by the command that docs/recipes.md names.
"""

import json
import signal

import pytest
from pages import told
from test_servers import check_asgi, end, fetch, needs, port, until_it_listens

__all__ = ["port"]

# In the recipes the application is app:app.
OURS = ("app:app", "asgi_app:app")
SERVED = ("app:app", "served:app")


@pytest.fixture
def launch(loop_kind, start_python):
    """Starts a program by the words of its recipe, and what they need here in addition."""
    if loop_kind == "asyncio":
        pytest.skip("a program that nobody launches has nothing of ours in it")

    def launch(words, *more, **options):
        assert words[:4] == ["python", "-m", "uring_loop", "run"]
        return start_python(*words[1:], *more, **options)

    return launch


def served_by(port, program):
    """The kind of loop that answers, once something does."""
    until_it_listens(program, port)
    assert program.is_alive(), program.output
    return json.loads(fetch(port, "GET", "/loop"))


def test_daphne_command(loop_kind, launch, port):
    needs("daphne")
    program = launch(told("daphne", OURS), "-b", "127.0.0.1", "-p", port)
    assert served_by(port, program)["kind"] == loop_kind
    check_asgi(port, loop_kind)
    program.signal(signal.SIGINT)
    assert program.wait() == 0, program.output


def test_granian_command_with_two_workers(loop_kind, launch, port):
    needs("granian")
    program = launch(told("granian", OURS), "--host", "127.0.0.1", "--port", port)
    program.until("lifespan: started on " + loop_kind, times=2)
    program.until("Started worker-2")
    assert served_by(port, program)["kind"] == loop_kind
    end(program)


def test_hypercorn_command_with_workers_and_reload(loop_kind, launch, port, tmp_path):
    needs("hypercorn")
    application = tmp_path / "reloaded.py"
    text = "from asgi_app import app\n"
    application.write_text(text)
    program = launch(
        told("hypercorn", ("app:app", "reloaded:app")),
        *("--bind", f"127.0.0.1:{port}"),
        cwd=tmp_path,
    )
    program.until("Running on", times=2)
    before = served_by(port, program)
    assert before["kind"] == loop_kind
    application.write_text(text + "# changed\n")
    program.until("Running on", times=4)
    after = served_by(port, program)
    assert after["kind"] == loop_kind
    assert after["pid"] != before["pid"]
    program.signal(signal.SIGTERM)
    program.wait()


QUART = """
import asgi_app, quart
app = quart.Quart(__name__)

@app.get("/loop")
async def loop():
    return {"kind": asgi_app.loop_kind()}
"""


def test_quart_run(loop_kind, launch, port, tmp_path):
    needs("quart")
    (tmp_path / "served.py").write_text(QUART)
    program = launch(
        told("quart", SERVED), "--host", "127.0.0.1", "--port", port, cwd=tmp_path
    )
    program.until("Running on")
    assert served_by(port, program)["kind"] == loop_kind
    program.signal(signal.SIGINT)
    assert program.wait() == 0, program.output


LITESTAR = """
import asgi_app, litestar

@litestar.get("/loop")
async def loop() -> dict:
    return {"kind": asgi_app.loop_kind()}

app = litestar.Litestar([loop])
"""


def test_litestar_run_which_asks_for_loops_by_name(loop_kind, launch, port, tmp_path):
    needs("litestar", "uvicorn", "rich_click")
    (tmp_path / "served.py").write_text(LITESTAR)
    program = launch(
        told("litestar", SERVED), "--host", "127.0.0.1", "--port", port, cwd=tmp_path
    )
    program.until("Uvicorn running on")
    assert served_by(port, program)["kind"] == loop_kind
    program.signal(signal.SIGINT)
    program.wait()


SANIC = """
import asgi_app, os, sanic
app = sanic.Sanic("served")
app.config.USE_UVLOOP = False

@app.get("/loop")
async def loop(request):
    return sanic.json({"kind": asgi_app.loop_kind()})

@app.get("/two")
async def two(request):
    app.m.scale(2)
    return sanic.empty(200)

@app.after_server_stop
async def stopped(app):
    # In one piece: another worker writes, too.
    os.write(1, f"stop listener ran on {asgi_app.loop_kind()}\\n".encode())
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sanic_serves_and_stops_cleanly(loop_kind, launch, port, tmp_path, workers):
    needs("sanic")
    (tmp_path / "served.py").write_text(SANIC)
    single = ["--single-process"] if workers == "1" else ["--workers", workers]
    program = launch(
        told("sanic", SERVED),
        *("--host", "127.0.0.1", "--port", port, *single, "--no-motd", "--no-access-logs"),
        cwd=tmp_path,
    )
    assert served_by(port, program)["kind"] == loop_kind
    if workers == "2":
        # A signal that comes while the manager waits for its workers' word is lost; it
        # answers this when it has waited.
        fetch(port, "GET", "/two")
        program.until("There are already 2 workers")
    end(program)
    stopped = [line for line in program.lines if f"ran on {loop_kind}" in line]
    assert len(stopped) == int(workers), program.output


DASK = """
import asyncio, sys
from distributed import Client, LocalCluster

def kind_of_its_loop(dask_worker):
    return getattr(dask_worker.loop.asyncio_loop, "driver", "asyncio")

if __name__ == "__main__":
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1",
        dashboard_address=None,
    ) as cluster, Client(cluster) as client:
        print("scheduler", getattr(cluster.loop.asyncio_loop, "driver", "asyncio"))
        print("client", getattr(client.loop.asyncio_loop, "driver", "asyncio"))
        for kind in client.run(kind_of_its_loop).values():
            print("worker", kind)
        print("nanny", *client.run(kind_of_its_loop, nanny=True).values())
        print("sum", client.submit(sum, client.map(len, ["a", "bc"])).result())
        print("large", client.submit(bytes, 20 << 20).result() == bytes(20 << 20))
"""


def test_dask_cluster_of_two_process_workers(loop_kind, launch, tmp_path):
    needs("distributed")
    script = tmp_path / "cluster.py"
    script.write_text(DASK)
    program = launch(
        told("dask"), cwd=tmp_path, environment={"DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
    )
    assert program.wait() == 0, program.output
    said = [line for line in program.lines if line.split()[0] in ("scheduler", "client", "worker")]
    assert said == [f"scheduler {loop_kind}", f"client {loop_kind}", *[f"worker {loop_kind}"] * 2]
    assert "sum 3" in program.lines
    assert "large True" in program.lines


CELLS = [
    "import asyncio; print(getattr(asyncio.get_running_loop(), 'driver', 'asyncio'))",
    "await asyncio.sleep(0.01); print('awaited')",
    "child = await asyncio.create_subprocess_exec('echo', 'child', stdout=-1)\n"
    "print((await child.communicate())[0])",
]


def test_notebook_kernel_started_by_a_launched_program(loop_kind, launch, tmp_path):
    needs("ipykernel", "nbclient", "nbformat", "jupyter_core")
    nbformat = pytest.importorskip("nbformat")
    path = tmp_path / "notebook.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    program = launch(
        told("notebook"),
        cwd=tmp_path,
        environment={"IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
    )
    assert program.wait() == 0, program.output
    said = [cell.outputs[0]["text"] for cell in nbformat.read(path, 4).cells]
    assert said == [f"{loop_kind}\n", "awaited\n", "b'child\\n'\n"]
