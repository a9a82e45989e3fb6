"""TLS connections of every end leave nothing: a few hundred of what scripts/tls_leaks.py does."""

import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("trustme", reason="trustme, which makes certificates, is missing")

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HANDSHAKES = 600


def test_tls_connections_of_every_end_leave_no_object_block_or_descriptor(loop_kind):
    command = [sys.executable, str(ROOT / "scripts" / "tls_leaks.py"), "--loop", loop_kind]
    command += ["--handshakes", str(HANDSHAKES)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=55,
    )
    assert child.returncode == 0, child.stdout
    assert f" {HANDSHAKES} " in child.stdout
