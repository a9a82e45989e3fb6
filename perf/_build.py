"""Compiles the C programs of this directory when they are needed.

Owns build/perf/ (not in version control). A program is compiled again when one
of its sources is newer.
"""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build" / "perf"

LOAD = ("load.c", "wire.c", "stream.c", "options.c", "load.h", "stream.h", "calls.h")
SOURCES = {
    "load": [*LOAD],
    "load_tls": [*LOAD],
    "trace_calls": ["trace_calls.c"],
    "floor": ["floor.c"],
}
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
# Apart, so that nobody needs OpenSSL's headers for the rows without TLS.
EXTRA_FLAGS = {"load_tls": ["-DWITH_TLS", "-lssl", "-lcrypto"], "floor": ["-luring"]}


class NoCompiler(RuntimeError):
    """No C compiler was found, or it misses something."""


def program(name: str) -> Path:
    """The path of the compiled program, compiling it first when that is due."""
    sources = [HERE / source for source in SOURCES[name]]
    target = BUILD / name
    newest = max(source.stat().st_mtime for source in sources)
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler(f"{name} needs a C compiler: install gcc (apt-get install gcc libc6-dev)")
    BUILD.mkdir(parents=True, exist_ok=True)
    # Compiled beside and renamed, so that a second run never starts half a program.
    partial = BUILD / f"{name}.{os.getpid()}"
    units = [str(source) for source in sources if source.suffix == ".c"]
    command = [*compiler.split(), *FLAGS, *units, "-o", str(partial)]
    result = subprocess.run(
        [*command, *EXTRA_FLAGS.get(name, [])], stderr=subprocess.PIPE, text=True, check=False
    )
    if result.returncode:
        raise NoCompiler(f"{name} does not compile: {result.stderr.strip().splitlines()[0]}")
    partial.rename(target)
    return target
