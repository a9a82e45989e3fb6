"""Files: many small ones read and written at once, and a large one from end to end.

    python perf/bench_files.py
    python perf/bench_files.py --count 1000 --size-mib 256 --rounds 3
    python perf/bench_files.py --rows rewrite_small --directory /mnt/disk

Compares uring_loop.open() on both drivers with aiofiles and anyio (on stock
asyncio; where they are installed), with asyncio.to_thread(), and with threads
alone.  Every round runs each of them once, in alternating order, each in a fresh
process; the ratios are of wall clock time, taken within a round, to aiofiles (to
threads alone where there is no aiofiles).  CPU time is that of the process with all
its threads and the kernel's workers, for one file, or for all of the large one.

Files are in the page cache, in a temporary directory on a disk or in --directory.
write_small makes new ones.  rewrite_small, if asked for, truncates and fills those
that are there: on ext4 that costs the file system several times what is measured.
Whoever deletes many files on the disk meanwhile disturbs too: ext4 avoids inodes
that were freed a moment ago, and looks for others at length.
"""

import argparse
import asyncio
import concurrent.futures
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _checkout  # noqa: F401

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import report as _report

CHUNK = 256 * 1024
CONTENT = bytes(range(256)) * 16
# At most so many at once: the limit of open files is lower than their number.
AT_ONCE = 256
ROWS = ("read_small", "write_small", "read_large")
# These are no disks.
IN_MEMORY = ("tmpfs", "ramfs")
KINDS = ("uring", "selector", "aiofiles", "anyio", "to_thread", "threads")


def paths(directory: str, count: int) -> list[str]:
    return [os.path.join(directory, f"{number}") for number in range(count)]


def read_whole(path: str) -> int:
    with open(path, "rb") as file:
        return len(file.read())


def write_whole(path: str) -> int:
    with open(path, "wb") as file:
        return file.write(CONTENT)


def read_large(path: str) -> int:
    total = 0
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            total += len(part)
    return total


async def many(function, names: list[str]) -> int:
    """function(name) of all, by AT_ONCE workers: what a program would do."""
    waiting = iter(names)

    async def worker() -> int:
        return sum([await function(name) for name in waiting])

    return sum(await asyncio.gather(*[worker() for _ in range(min(AT_ONCE, len(names)))]))


def asynchronous(opener):
    """(read, write, read_large) by what opens a file asynchronously."""

    async def read(path: str) -> int:
        async with opener(path, "rb") as file:
            return len(await file.read())

    async def write(path: str) -> int:
        async with opener(path, "wb") as file:
            return await file.write(CONTENT)

    async def large(path: str) -> int:
        total = 0
        async with opener(path, "rb") as file:
            while part := await file.read(CHUNK):
                total += len(part)
        return total

    return read, write, large


class AnyioOpening:
    """anyio.open_file() is awaited first."""

    def __init__(self, *arguments):
        self.arguments = arguments

    async def __aenter__(self):
        import anyio

        self.file = await anyio.open_file(*self.arguments)
        return self.file

    async def __aexit__(self, *error):
        await self.file.aclose()


def functions(kind: str):
    if kind in _loops.OURS:
        import uring_loop

        return asynchronous(uring_loop.open)
    if kind == "aiofiles":
        import aiofiles

        return asynchronous(aiofiles.open)
    if kind == "anyio":
        return asynchronous(AnyioOpening)

    def threaded(function):
        async def call(path: str) -> int:
            return await asyncio.to_thread(function, path)

        return call

    return tuple(map(threaded, (read_whole, write_whole, read_large)))


def processor_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def work(kind: str, row: str, directory: str, count: int) -> tuple[float, float]:
    """Seconds for one row, in this process: of the clock and of the processor."""
    large = os.path.join(directory, "large")
    if row == "write_small":
        # New ones: writing over a file costs the file system more than what is measured.
        directory = tempfile.mkdtemp(dir=directory)
    names = paths(directory, count)
    if kind == "threads":
        with concurrent.futures.ThreadPoolExecutor() as pool:
            used, begin = processor_time(), time.perf_counter()
            if row == "read_large":
                total = pool.submit(read_large, large).result()
            else:
                function = read_whole if row == "read_small" else write_whole
                total = sum(pool.map(function, names))
            seconds = time.perf_counter() - begin, processor_time() - used
    else:
        loop = _loops.create(kind if kind in _loops.OURS else "asyncio")
        read, write, whole = functions(kind)

        async def main() -> tuple[int, tuple[float, float]]:
            used, begin = processor_time(), time.perf_counter()
            if row == "read_large":
                total = await whole(large)
            else:
                total = await many(read if row == "read_small" else write, names)
            return total, (time.perf_counter() - begin, processor_time() - used)

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            total, seconds = runner.run(main())
    expected = os.path.getsize(large) if row == "read_large" else count * len(CONTENT)
    if total != expected:
        raise SystemExit(f"{kind}: {row} moved {total} of {expected} bytes")
    return seconds


def take(kind: str, row: str, directory: str, count: int) -> tuple[float, float]:
    """The same in a process of its own."""
    if row in ("write_small", "rewrite_small"):
        # What the one before left to be written.
        os.sync()
    command = [sys.executable, __file__, "--work", kind, row, directory, str(count)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{kind}: {row} failed:\n{result.stderr}")
    clock, processor = map(float, result.stdout.split())
    return clock, processor


def prepare(directory: str, count: int, mebibytes: int) -> None:
    for name in paths(directory, count):
        Path(name).write_bytes(CONTENT)
    with open(os.path.join(directory, "large"), "wb") as file:
        for _ in range(mebibytes):
            file.write(CONTENT * (2**20 // len(CONTENT)))
    # What is still to be written to the disk would disturb whoever comes first.
    os.sync()


def file_system(directory: str) -> str:
    """Its type, as far as the system tells."""
    found = ("", "")
    with open("/proc/self/mounts") as mounts:
        for line in mounts:
            _, place, kind = line.split()[:3]
            if os.path.commonpath([place, directory]) == place and len(place) >= len(found[0]):
                found = place, kind
    return found[1]


def on_a_disk() -> str:
    """Where temporary files are not in memory, if there is such a place."""
    places = [os.path.realpath(place) for place in (tempfile.gettempdir(), "/var/tmp", ".")]
    return next((place for place in places if file_system(place) not in IN_MEMORY), places[0])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="small files")
    parser.add_argument("--size-mib", type=int, default=1024, help="the large file")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--directory", help="where the files are made; by default on a disk")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.work:
        kind, row, directory, count = options.work
        print(*work(kind, row, directory, int(count)))
        return
    kinds = [
        kind
        for kind in options.kinds.split(",")
        if kind not in ("aiofiles", "anyio") or importlib.util.find_spec(kind)
    ]
    against = "aiofiles" if "aiofiles" in kinds else "threads"
    lines = []
    place = os.path.realpath(options.directory or on_a_disk())
    with tempfile.TemporaryDirectory(dir=place) as directory:
        prepare(directory, options.count, options.size_mib)
        for row in options.rows.split(","):
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            used: dict[str, list[float]] = {kind: [] for kind in kinds}
            for number in range(options.rounds):
                for kind in kinds if number % 2 == 0 else reversed(kinds):
                    clock, processor = take(kind, row, directory, options.count)
                    seconds[kind].append(clock)
                    used[kind].append(processor)
            unit = 1 if row == "read_large" else options.count
            for kind in kinds:
                ratios = [
                    other / own
                    for own, other in zip(seconds[kind], seconds[against], strict=True)
                ]
                lines.append(
                    [
                        row,
                        kind,
                        f"{statistics.median(seconds[kind]):.3f} s",
                        f"{statistics.median(used[kind]) / unit * 1e6:.0f} us",
                        f"x{statistics.median(ratios):.2f}"
                        f" [{min(ratios):.2f}-{max(ratios):.2f}]",
                    ]
                )
    print(f"{options.count} files of {len(CONTENT)} bytes on {file_system(place)}, medians")
    print(_report.table(lines, ["row", "by", "clock", "CPU", f"speed, {against} = 1"]))


if __name__ == "__main__":
    main()
