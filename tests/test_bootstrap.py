"""scripts/bootstrap.sh: what it says and does when pip could not install an optional package.

pip is one that says what a real one has said; everything else is real.
"""

import os
import pathlib
import subprocess
import sys
import sysconfig

import pytest

SCRIPT = pathlib.Path(__file__).parents[1] / "scripts" / "bootstrap.sh"

NO_WHEEL = """\
ERROR: Could not find a version that satisfies the requirement granian>=2 (from versions: none)
ERROR: No matching distribution found for granian>=2
"""
NO_NETWORK = f"""\
WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by \
'NewConnectionError('<HTTPConnection object>: Failed to establish a new connection: refused')'
{NO_WHEEL}"""
NO_SPACE = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left\n"

PYTHON = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then
    cat "$PIP_SAYS"
    exit 1
fi
exec "$REAL_PYTHON" "$@"
"""


@pytest.fixture
def bootstrap(tmp_path):
    """Run it for the optional group of programs, with a pip that fails with these words."""
    header = pathlib.Path(sysconfig.get_path("include"), "Python.h")
    if not header.exists():
        pytest.skip(f"without {header} it would install system packages first")
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)

    def bootstrap(words):
        says = tmp_path / "says"
        says.write_text(words)
        # `true` compiles whatever it is given: no system package is missed.
        variables = {"PIP_SAYS": says, "REAL_PYTHON": sys.executable, "CC": "true", "PYTHON": ""}
        return subprocess.run(
            [SCRIPT, tmp_path / "venv", "apps?"],
            cwd=SCRIPT.parent.parent,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )

    return bootstrap


def test_package_without_a_wheel_is_left_out_and_named(bootstrap):
    done = bootstrap(NO_WHEEL)
    assert done.returncode == 0
    assert "no wheel for this Python, so their tests are skipped: " in done.stderr
    assert "granian>=2" in done.stderr


@pytest.mark.parametrize("words", [NO_NETWORK, NO_SPACE], ids=["no network", "no space"])
def test_package_that_could_not_be_fetched_is_told_with_the_reason_and_tried_again(
    bootstrap, words
):
    done = bootstrap(words)
    assert done.returncode == 75
    assert words.strip() in done.stderr
    assert "the next run tries again" in done.stderr
    assert "no wheel for this Python" not in done.stderr
