"""Compiles the C programs of this directory when they are needed.

Owns what URING_LOOP_BENCH_BUILD names, or else build/perf/ of a checkout (not in version
control), or where the package is installed a directory of the user's cache. A program is
compiled again when one of its sources is newer.
"""

import os
import shutil
import subprocess
from pathlib import Path

from ... import __version__

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# The least that a server can be is measured in a checkout only.
FLOOR = [str(ROOT / "perf" / name) for name in ("floor.c", "floor_tls.c", "floor_tls.h")]


def _build_directory() -> Path:
    if chosen := os.environ.get("URING_LOOP_BENCH_BUILD"):
        return Path(chosen)
    if (ROOT / "csrc").is_dir():
        return ROOT / "build" / "perf"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / f"uring_loop-{__version__}"



LOAD = ("load.c", "wire.c", "stream.c", "options.c", "load.h", "stream.h", "calls.h")
SOURCES = {
    "load": [*LOAD],
    "load_tls": [*LOAD],
    "trace_calls": ["trace_calls.c"],
    "floor": FLOOR[:1],
    "floor_tls": FLOOR,
}
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra"]
# Apart, so that nobody needs OpenSSL's headers for the rows without TLS.
WITH_TLS = ["-DWITH_TLS", "-lssl", "-lcrypto"]
EXTRA_FLAGS = {"load_tls": WITH_TLS, "floor": ["-luring"], "floor_tls": [*WITH_TLS, "-luring"]}


class NoCompiler(RuntimeError):
    """No C compiler was found, or it misses something."""


def program(name: str) -> Path:
    """The path of the compiled program, compiling it first when that is due."""
    sources = [HERE / source for source in SOURCES[name]]
    directory = _build_directory()
    target = directory / name
    newest = max(source.stat().st_mtime for source in sources)
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler(f"{name} needs a C compiler: install gcc (apt-get install gcc libc6-dev)")
    directory.mkdir(parents=True, exist_ok=True)
    # Compiled beside and renamed, so that a second run never starts half a program.
    partial = directory / f"{name}.{os.getpid()}"
    units = [str(source) for source in sources if source.suffix == ".c"]
    command = [*compiler.split(), *FLAGS, *units, "-o", str(partial)]
    try:
        result = subprocess.run(
            [*command, *EXTRA_FLAGS.get(name, [])], stderr=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        raise NoCompiler(f"{name} needs a C compiler: {compiler}: {error.strerror}") from error
    if result.returncode:
        raise NoCompiler(f"{name} does not compile: {result.stderr.strip().splitlines()[0]}")
    partial.rename(target)
    return target
