"""The compiled core where it should not be: without its package, in a second interpreter."""

import subprocess
import sys

import pytest

ALONE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("uring_loop._core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)
assert "uring_loop" not in sys.modules
try:
    core.Loop().create_future()
except RuntimeError as error:
    print(error)
"""

SECOND = """
import asyncio, os
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import uring_loop._core

read, write = os.pipe()
second = interpreters.create()
interpreters.run_string(second, f'''
import os
try:
    import uring_loop._core
except ImportError as error:
    os.write({write}, str(error).encode())
else:
    os.write({write}, b"it was loaded")
''')
interpreters.destroy(second)
print(os.read(read, 1000).decode())

async def main():
    await asyncio.sleep(0.001)

uring_loop.run(main())
print("went on")
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", *arguments], capture_output=True, text=True, timeout=60
    )


def test_core_without_its_package_says_what_to_import():
    import uring_loop._core

    done = run(ALONE, uring_loop._core.__file__)
    assert done.stdout == "import uring_loop, not uring_loop._core\n", done.stderr
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="the core is for Linux")
def test_core_of_a_second_interpreter_is_refused_and_the_first_goes_on():
    pytest.importorskip("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    done = run(SECOND)
    said, went_on = done.stdout.splitlines()
    assert "uring_loop._core" in said and "interpreters" in said, done.stderr
    assert went_on == "went on"
    assert done.returncode == 0
