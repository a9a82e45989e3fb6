"""The types that a program sees, as a type checker tells them (mypy, of `make lint`)."""

import pytest

api = pytest.importorskip("mypy.api", reason="mypy is missing; make lint installs it")

PROGRAM = """
import asyncio
import os
import unittest
from typing import Any, assert_type

import uring_loop
import uring_loop.paths
from uring_loop.files import BinaryFile, TextFile, open_file, stdin, stdout_bytes, tempfile

class Mine(asyncio.Protocol):
    pass

async def files(mode: str) -> int:
    async with uring_loop.open("x", encoding="utf-8") as text:
        assert_type(text, TextFile)
        assert_type(await text.read(), str)
    assert_type(await open_file("x", "rb"), BinaryFile)
    assert_type([line async for line in await open_file("x", "r+b")], list[bytes])
    assert_type(await uring_loop.open("x", mode), Any)
    assert_type(await uring_loop.paths.listdir("x"), list[str])
    assert_type(await uring_loop.paths.readlink(b"x"), bytes)
    assert_type(await uring_loop.files.os.stat("x", executor=None), os.stat_result)
    assert_type(await uring_loop.files.os.path.exists("x"), bool)
    assert_type(await stdin.readline(), str)
    assert_type(await stdout_bytes.write(b"x"), int)
    async with tempfile.TemporaryFile() as binary:
        assert_type(binary, BinaryFile)
    async with tempfile.NamedTemporaryFile("w+") as named:
        assert_type(await named.read(), str)
    async with tempfile.SpooledTemporaryFile(mode="w+") as spooled:
        assert_type(await spooled.readline(), str)
    return 1

class Case(unittest.IsolatedAsyncioTestCase):
    loop_factory = uring_loop.new_event_loop

async def connections(loop: uring_loop.EventLoop) -> None:
    assert_type(await loop.create_connection(Mine, "x", 1), tuple[asyncio.Transport, Mine])
    assert_type(await loop.run_in_executor(None, len, "x"), int)

loop = uring_loop.new_event_loop()
print(loop.driver, loop.features, loop.report(), loop.statistics())
assert_type(loop, uring_loop.EventLoop)
same: uring_loop.Loop = loop
assert_type(loop.run_until_complete(files("r")), int)
assert_type(loop.create_task(files("r")), asyncio.Task[int])
assert_type(uring_loop.run(connections(loop)), None)
loop.add_signal_handler(15, print, "x")
loop.call_soon(len, 1)
"""
# The last line is wrong: the arguments are looked at.
EXPECTED = 'error: Argument 1 to "call_soon" of "Loop" has incompatible type'


# Five seconds of work, of which a busy machine makes a minute.
@pytest.mark.timeout(300)
def test_program_is_told_the_types_of_what_it_calls(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.lstrip("\n"))
    found, trouble, _ = api.run(["--strict", "--cache-dir", str(tmp_path), str(program)])
    errors = [line for line in found.splitlines() if ": error:" in line]
    assert trouble == ""
    assert len(errors) == 1, found
    assert EXPECTED in errors[0]
