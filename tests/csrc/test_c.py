"""Compiles and runs the C tests of the driver, with the address and undefined sanitizers.

test_driver_*.c run on both drivers, and on the ring once per kernel feature that
it can do without, so that one machine stands for many kernels; test_uring*.c
likewise, on the ring alone; test_faults.c on a few of those. The other programs test
one part each. Exit status 77 means that the part cannot run here. Where a sanitized
program cannot start (address spaces as small as user-mode Linux's) they run without the
sanitizers.
"""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
DRIVER = HERE.parents[1] / "csrc" / "driver"
SKIPPED = 77

# The first test waits for all to be compiled, with sanitizers: half a minute of two processors, and
# several on a loaded machine or an emulated one.  A program that hangs is ended long before.
PROGRAM_SECONDS = 300
pytestmark = pytest.mark.timeout(1800)

FLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE=1",
    "-g",
    "-O1",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-omit-frame-pointer",
    # `make coverage` has its counters compiled in.
    *os.environ.get("C_TESTS_CFLAGS", "").split(),
]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

# By bit.
FEATURES = [
    name.lower()
    for name in re.findall(
        r"^#define UL_FEATURE_(\w+) 0x", (DRIVER / "binding.h").read_text(), re.MULTILINE
    )
]


def without(*names: str) -> int:
    return sum(1 << FEATURES.index(name) for name in names)


# One feature less, or what several kernels lack.
MASKS = {
    "all features": 0,
    **{f"without {name}": without(name) for name in FEATURES},
    "a plain ring": without("single_issuer", "defer_taskrun", "coop_taskrun"),
    "as Linux 5.19": without(
        "single_issuer", "defer_taskrun", "multishot_recv", "multishot_unix", "sync_cancel"
    ),
    "as Linux 5.10": without(*FEATURES) - without("ext_arg"),
    "without any feature": without(*FEATURES),
}
ON_THE_RING = [pytest.param("uring", mask, id=f"uring, {name}") for name, mask in MASKS.items()]
ON_BOTH = [*ON_THE_RING, pytest.param("selector", 0, id="selector")]


def compiled(*arguments: str) -> None:
    result = subprocess.run(["cc", *FLAGS, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def wrapped(test: str) -> list[str]:
    """The linker's options for what a test replaces, to answer for the kernel: __wrap_NAME."""
    symbols = subprocess.run(["nm", test], capture_output=True, text=True, check=True)
    return [f"-Wl,--wrap={name}" for name in re.findall(r" T __wrap_(\w+)", symbols.stdout)]


def sanitizers(directory: Path) -> list[str]:
    """The compiler's options for them; none where the programs could not start."""
    source, program = directory / "start.c", directory / "start"
    source.write_text("int main(void) { return 0; }\n")
    compiled(*SANITIZERS, str(source), "-o", str(program))
    started = subprocess.run([program], capture_output=True, text=True)
    return [] if "Shadow memory range interleaves" in started.stderr else SANITIZERS


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every test program, compiled with assertions."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    header = subprocess.run(
        ["cc", "-fsyntax-only", "-xc", "-include", "liburing.h", "/dev/null"], capture_output=True
    )
    if header.returncode != 0:
        pytest.skip("no liburing.h here")
    directory = tmp_path_factory.mktemp("programs")
    options = sanitizers(directory)
    tests = sorted(HERE.glob("test_*.c"))
    sources = sorted(DRIVER.rglob("*.c"))

    def compile_one(source: Path) -> str:
        folder = source.parent.name
        target = str(directory / f"{folder}_{source.stem}.o")
        compiled(*options, "-c", f"-I{DRIVER}", f"-I{HERE}", str(source), "-o", target)
        return target

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_one, [*sources, *tests]))
    shared = objects[: len(sources)]
    for test, own in zip(tests, objects[len(sources) :], strict=True):
        program = ["-luring", "-lpthread", *wrapped(own), "-o", str(directory / test.stem)]
        compiled(*options, own, *shared, *program)
    return directory


def run(programs: Path, name: str, *arguments: str) -> None:
    result = subprocess.run(
        [str(programs / name), *arguments],
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    if result.returncode == SKIPPED:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stderr


ALL = sorted(path.stem for path in HERE.glob("test_*.c"))
OF_BOTH = [name for name in ALL if name.startswith("test_driver_")]
OF_THE_RING = [name for name in ALL if name.startswith("test_uring")]
# Each of these makes some 300 to 700 loops' lives.
WITH_FAULTS = {
    "uring, all features",
    "uring, as Linux 5.10",
    "uring, without any feature",
    "selector",
}


@pytest.mark.parametrize("name", OF_BOTH)
@pytest.mark.parametrize(("kind", "mask"), ON_BOTH)
def test_driver(programs: Path, kind: str, mask: int, name: str) -> None:
    run(programs, name, kind, hex(mask))


@pytest.mark.parametrize("name", OF_THE_RING)
@pytest.mark.parametrize(("kind", "mask"), ON_THE_RING)
def test_uring(programs: Path, kind: str, mask: int, name: str) -> None:
    run(programs, name, kind, hex(mask))


@pytest.mark.parametrize(
    ("kind", "mask"),
    [each for each in ON_BOTH if each.id in WITH_FAULTS],
)
def test_faults(programs: Path, kind: str, mask: int) -> None:
    run(programs, "test_faults", kind, hex(mask))


OTHERS = [name for name in ALL if name not in [*OF_BOTH, *OF_THE_RING, "test_faults"]]


@pytest.mark.parametrize("name", OTHERS)
def test_part(programs: Path, name: str) -> None:
    run(programs, name)
