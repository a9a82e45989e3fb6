"""Modules that were taken out of sys.modules and imported anew: loops of before and of after go on.

Test isolation does so (mock.patch.dict over sys.modules, plug-ins that restore what was
imported before a test), and whoever reloads a module in a notebook.
"""

import os
import subprocess
import sys

import pytest

WORK = """
import asyncio, importlib, os, sys
from unittest import mock

async def work():
    async def handle(reader, writer):
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello")
    echo = await reader.read()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    child = await asyncio.create_subprocess_exec("true")
    status = await child.wait()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    transport.close()
    await asyncio.sleep(0)
    assert (echo, status) == (b"hello", 0), (echo, status)
    if PACKAGE == "uring_loop":
        import uring_loop
        async with uring_loop.open(sys.executable, "rb") as file:
            assert len(await file.read(1000)) == 1000

PACKAGE, HOW = sys.argv[1:]

def new_event_loop():
    return importlib.import_module(PACKAGE).new_event_loop()

def run(loop):
    loop.run_until_complete(work())

def names(ending=""):
    return [
        name
        for name in list(sys.modules)
        if (name == PACKAGE or name.startswith(PACKAGE + ".")) and name.endswith(ending)
    ]

def forget(ending=""):
    for name in names(ending):
        del sys.modules[name]
"""

HOWS = {
    "all": "forget()",
    "all but the package": "[sys.modules.pop(name) for name in names() if '.' in name]",
    "the core": "forget('_core')",
    "the driver": "forget('_driver')",
    "the loop": "forget('loop')",
    "the files": "[sys.modules.pop(name) for name in names() if 'file' in name]",
    "reload": "[importlib.reload(sys.modules[name]) for name in (PACKAGE, *names('.streams'))]",
}


def run_program(kind, how, text):
    package = "asyncio" if kind == "asyncio" else "uring_loop"
    return subprocess.run(
        [sys.executable, "-c", WORK + text, package, how],
        env=os.environ,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("how", HOWS)
def test_loops_of_before_and_of_after_go_on(loop_kind, how):
    text = f"""
before = new_event_loop()
run(before)
for _ in range(3):
    {HOWS[how]}
    after = new_event_loop()
    run(after)
    run(before)
    after.close()
before.close()
print("done")
"""
    done = run_program(loop_kind, how, text)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_first_use_inside_a_patch_of_sys_modules_leaves_what_works(loop_kind):
    text = """
importlib.import_module(PACKAGE)
with mock.patch.dict(sys.modules, {"a_dependency": mock.Mock()}):
    first = new_event_loop()
    run(first)
run(first)
second = new_event_loop()
run(second)
first.close()
second.close()
print("done")
"""
    done = run_program(loop_kind, "", text)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_modules_imported_anew_again_and_again_keep_no_descriptor(loop_kind):
    text = """
counts = []
for _ in range(12):
    forget()
    loop = new_event_loop()
    run(loop)
    loop.close()
    del loop
    counts.append(len(os.listdir("/proc/self/fd")))
assert counts[-1] == counts[4], counts
print("done")
"""
    done = run_program(loop_kind, "", text)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
