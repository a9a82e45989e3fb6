"""Memory runs out: each allocation of a path fails once, in a child under a malloc that refuses.

A spread of them in each run, and with TEST_SHORTAGE=all every one (minutes). The drivers' own calls
are tried one by one by tests/csrc/test_faults.c; here it is Python's, the core's, OpenSSL's and the
binding's, in the thread of the loop.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from uring_loop._internal.driver import ring_report

HERE = Path(__file__).resolve().parent
PATHS = ["start", "accept", "receive", "write", "timers", "datagrams", "queue", "descriptors"]
PATHS += ["file", "tls", "pipes"]
# A prime, so that the paths' own repetitions are not met in step; TLS allocates thousands of times.
STEPS = {"start": 7, "file": 7, "tls": 23, "queue": 41}
STEP = 17
ALL = os.environ.get("TEST_SHORTAGE") == "all"
pytestmark = pytest.mark.timeout(3000 if ALL else 300)


@pytest.fixture(scope="module")
def malloc(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the malloc that refuses stands on glibc's")
    library = tmp_path_factory.mktemp("malloc") / "malloc.so"
    source = str(HERE / "malloc.c")
    command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", source, "-o", str(library)]
    subprocess.run(command, check=True, timeout=100)
    return library


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    path = tmp_path_factory.mktemp("certificate") / "server.pem"
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@pytest.mark.parametrize("driver", ["uring", "selector"])
@pytest.mark.parametrize("path", PATHS)
def test_each_allocation_that_fails_is_told_and_survived(malloc, certificate, driver, path):
    if driver == "uring" and ring_report().reason is not None:
        pytest.skip(ring_report().reason)
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer has a malloc of its own")
    step = 1 if ALL else STEPS.get(path, STEP)
    done = subprocess.run(
        [sys.executable, str(HERE / "child.py"), path, "1", str(step)],
        env={
            **os.environ,
            # Behind it what counts lines for `make coverage`, if that is who runs this.
            "LD_PRELOAD": f"{malloc} {os.environ.get('LD_PRELOAD', '')}".strip(),
            "PYTHONMALLOC": "malloc",
            "URING_LOOP_DRIVER": driver,
            "SHORTAGE_CERTIFICATE": str(certificate),
        },
        capture_output=True,
        text=True,
        timeout=2900 if ALL else 280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rounds, allocations, failures = map(int, done.stdout.split())
    assert rounds >= allocations // step
    assert failures > 0
