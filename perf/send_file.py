"""Files to many clients: python perf/send_file.py [--sizes 1M,1G] [--clients 16] [--loops ...].

Owns the rows of loop.sendfile(): warm files (in memory), and cold ones, beside
which one connection is echoed to. Every round measures every loop, in
alternating order.
"""

import argparse
import contextlib
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import _checkout  # noqa: F401

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import measure as _measure

ROW = _measure.Row("send_file", "file")
MIB = 1 << 20
UNITS = {"K": 1 << 10, "M": MIB, "G": 1 << 30}
# Between two echoes, so that their connection is not a load of its own.
ECHO_PAUSE_SECONDS = 0.0005
FETCH_SECONDS_MAX = 600.0
# A warm run moves at least so much.
WARM_BYTES = 1 << 30


@dataclass
class Cell:
    """One loop's values, one a round."""

    cpu_us: list[float] = field(default_factory=list)  # the server's CPU time per MiB
    rate: list[float] = field(default_factory=list)  # MiB per second
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    error: str = ""


def parse_size(text: str) -> int:
    unit = UNITS.get(text[-1:].upper())
    return int(text) if unit is None else int(text[:-1]) * unit


def write_file(directory: Path, size: int) -> Path:
    path = directory / f"content-{size}"
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for start in range(0, size, MIB):
            file.write(block[: size - start])
        file.flush()
        os.fsync(file.fileno())
    return path


def warm(path: Path) -> None:
    with open(path, "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def drop(path: Path) -> None:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fetch(port: int, server: int, path: str, size: int, clients: int, repeats: int) -> None:
    """Ask for the file `clients` times at once, and that `repeats` times; throw away what comes.

    Prints the seconds and the CPU seconds of the process `server`; exit status 1 if it came short.
    """
    buffer = bytearray(MIB)
    started, cpu = time.perf_counter(), _measure.cpu_seconds(server)
    for _ in range(repeats):
        left: dict[socket.socket, int] = {}
        with selectors.DefaultSelector() as selector:
            for _ in range(clients):
                sock = socket.create_connection(("127.0.0.1", port))
                selector.register(sock, selectors.EVENT_READ)
                left[sock] = size
                sock.sendall(f"file {path}\n".encode())
            while left:
                for key, _ in selector.select():
                    sock = key.fileobj  # type: ignore[assignment]
                    # TCP throws away what it is told to truncate, without a copy.
                    got = sock.recv_into(buffer, MIB, socket.MSG_TRUNC)
                    left[sock] -= got
                    if got == 0:
                        if left.pop(sock) != 0:
                            sys.exit("the file came short")
                        selector.unregister(sock)
                        sock.close()
    print(time.perf_counter() - started, _measure.cpu_seconds(server) - cpu)


def echo_until(process: subprocess.Popen[bytes], port: int) -> list[float]:
    """Round trips of one byte while the process runs, in microseconds, sorted."""
    trips = []
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(FETCH_SECONDS_MAX)
        while process.poll() is None:
            started = time.perf_counter()
            sock.sendall(b"x")
            if sock.recv(1) != b"x":
                raise _measure.MeasureError("the echo was wrong")
            trips.append((time.perf_counter() - started) * 1e6)
            time.sleep(ECHO_PAUSE_SECONDS)
    return sorted(trips)


def measure(loop: str, path: Path, size: int, clients: int, cold: bool, cell: Cell) -> None:
    # What is cold is so only once.
    repeats = 1 if cold else max(1, WARM_BYTES // (size * clients))
    drop(path) if cold else warm(path)
    with _measure.Server(loop, ROW) as server:
        port = int(str(server.address["port"]))
        command = [sys.executable, __file__, "--fetch"]
        command += [str(item) for item in (port, server.pid, path, size, clients, repeats)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            trips = echo_until(process, port) if cold else []
            output, complaint = process.communicate(timeout=FETCH_SECONDS_MAX)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        raise _measure.MeasureError(f"{loop}: {complaint.decode().strip()}")
    seconds, cpu = map(float, output.split())
    megabytes = size * clients * repeats / MIB
    cell.cpu_us.append(cpu / megabytes * 1e6)
    cell.rate.append(megabytes / seconds)
    if trips:
        cell.p50_us.append(trips[len(trips) // 2])
        cell.p99_us.append(trips[len(trips) * 99 // 100])


def show(title: str, cells: dict[str, Cell], against: str) -> None:
    print(f"\n{title}")
    base = cells.get(against)
    for loop, cell in cells.items():
        if cell.error:
            print(f"  {loop:10} failed: {cell.error}")
            continue
        parts = [f"{statistics.median(cell.cpu_us):8.0f} us CPU per MiB"]
        parts.append(f"{statistics.median(cell.rate):7.0f} MiB/s")
        if cell.p99_us:
            parts.append(f"echo p50 {statistics.median(cell.p50_us):8.0f} us")
            parts.append(f"p99 {statistics.median(cell.p99_us):9.0f} us")
        if base is not None and base is not cell and not base.error:
            parts.append(f"rate {_measure.ratio(cell.rate, base.rate).median:.2f}x")
            if cell.p99_us:
                parts.append(f"p99 {_measure.ratio(cell.p99_us, base.p99_us).median:.3f}x")
        print(f"  {loop:10} " + "  ".join(parts))


def main() -> int:
    if sys.argv[1:2] == ["--fetch"]:
        port, server, path, *counts = sys.argv[2:]
        fetch(int(port), int(server), path, *map(int, counts))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1M,1G", help="of the file, with K, M or G")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", default="asyncio,selector,uring")
    parser.add_argument("--against", default="asyncio", help="the loop that ratios refer to")
    parser.add_argument("--directory", help="where the files are, hence on which disk")
    options = parser.parse_args()
    loops = options.loops.split(",")
    if unknown := [loop for loop in loops if loop not in _loops.RECIPES]:
        parser.error(f"no loop is called {unknown[0]!r}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="perf-", dir=options.directory) as name:
        for size in map(parse_size, options.sizes.split(",")):
            if shutil.disk_usage(name).free < 2 * size:
                print(f"left out: {size / MIB:.0f} MiB do not fit into {name}")
                continue
            path = write_file(Path(name), size)
            for cold in (False, True):
                cells = {loop: Cell() for loop in loops}
                for number in range(options.rounds):
                    for loop in loops if number % 2 == 0 else reversed(loops):
                        if not cells[loop].error:
                            try:
                                measure(loop, path, size, options.clients, cold, cells[loop])
                            except (_measure.MeasureError, OSError) as error:
                                cells[loop].error = str(error)
                kind = "cold" if cold else "warm"
                title = f"{size / MIB:.0f} MiB to {options.clients} clients, {kind}"
                show(title, cells, options.against)
                failed = failed or any(cells[loop].error for loop in loops if loop in _loops.OURS)
            with contextlib.suppress(OSError):
                path.unlink()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
