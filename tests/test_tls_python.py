"""The TLS tests again on the record path in Python, which runs where OpenSSL's SSL* is not found.

The path is chosen once, when the TLS modules are imported: so each file has a process of its own,
with URING_LOOP_TLS=python.  What it is about is in tests/contract.
"""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "tests" / "contract"
DRIVERS = ("selector", "uring")
# Of the child: its tests have limits of their own, of a minute and as a rule of much less.
FILE_SECONDS = 600
NO_TESTS = 5

FILES = sorted(path.name for path in CONTRACT.glob("test_*tls*.py"))
ELSEWHERE = "the others"


def arguments(name):
    """For pytest: a file, or what the other files have of TLS."""
    if name != ELSEWHERE:
        return [str(CONTRACT / name)]
    return [str(CONTRACT), "-k", "tls or ssl", *(f"--ignore={CONTRACT / file}" for file in FILES)]


@pytest.mark.timeout(FILE_SECONDS + 30)
@pytest.mark.parametrize("name", [*FILES, ELSEWHERE])
def test_tls_contract_holds_on_the_python_path_too(request, name):
    if os.environ.get("URING_LOOP_TLS"):
        pytest.skip("URING_LOOP_TLS has chosen the path of this whole run")
    if request.config.pluginmanager.hasplugin("refleak"):
        pytest.skip("what a child process leaks is not seen in its parent")
    wanted = request.config.getoption("--loop") or DRIVERS
    kinds = [kind for kind in DRIVERS if kind in wanted]
    if not kinds:
        pytest.skip("stock asyncio has one path")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [f"--loop={kind}" for kind in kinds] + arguments(name)
    environment = {**os.environ, "URING_LOOP_TLS": "python"}
    child = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=FILE_SECONDS,
    )
    if child.returncode == NO_TESTS and "skipped" in child.stdout:
        pytest.skip("the child has skipped all of it")
    assert child.returncode == 0, child.stdout[-20_000:]
    assert " passed" in child.stdout
