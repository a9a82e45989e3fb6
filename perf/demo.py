"""The demonstration: a server on the ring next to stock asyncio on epoll.

Runs real servers, one process per loop, under a real load, in short interleaved
rounds, and prints what each request cost. Ends by itself. The exit status says
whether our own loop served every request right, not whether it was fast.
"""

import contextlib
import os
import platform
import statistics
import sys
import time

import _checkout  # noqa: F401

from uring_loop._internal.bench import (
    build as _build,
)
from uring_loop._internal.bench import (
    command as _command,
)
from uring_loop._internal.bench import (
    comparison as _comparison,
)
from uring_loop._internal.bench import (
    loops as _loops,
)
from uring_loop._internal.bench import (
    measure as _measure,
)
from uring_loop._internal.bench import (
    micro as _micro,
)
from uring_loop._internal.bench import (
    report as _report,
)
from uring_loop._internal.bench import (
    rows as _rows,
)

ROUNDS = 2
SECONDS = 0.7
# No further round begins after this; what has been measured is shown.
PATIENCE_SECONDS = 35.0

SCENES = {
    "echo_1k": "Echo by asyncio.Protocol: 100 connections, messages of 1 KiB",
    "http": "HTTP/1.1 keep-alive: 64 connections, a small GET and its response",
}
LABELS = {
    "asyncio": "asyncio (epoll)",
    "uvloop": "uvloop (libuv, epoll)",
    "selector": "uring_loop (selector)",
    "uring": "uring_loop (io_uring)",
}


def bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text


def refusal(loop: str) -> str | None:
    """Why a loop cannot run here; None when it can. Asked in a process of its own."""
    with _micro.Worker(loop, None) as worker:
        return None if worker.error is None else str(worker.error)


def choose() -> tuple[list[str], str, list[str]]:
    """The loops to show, the one it is all about, and a line for each that cannot run."""
    shown, lines = ["asyncio"], []
    if _loops.installed("uvloop") and refusal("uvloop") is None:
        shown.append("uvloop")
    else:
        lines.append("uvloop is not installed and is left out")
    reason = refusal("selector")
    if reason is not None:
        raise _measure.MeasureError(f"uring_loop does not run: {reason}")
    shown.append("selector")
    reason = refusal("uring")
    if reason is None:
        return [*shown, "uring"], "uring", lines
    reason = reason.removeprefix("uring: ")
    lines.append(f"the ring was refused, the selector driver runs instead: {reason}")
    return shown, "selector", lines


def show(result: _report.Result, loops: list[str], hero: str) -> None:
    lines = []
    for loop in loops:
        cell = result.cells[loop]
        if not cell.good:
            lines.append([LABELS[loop], "failed", "", "", "", ""])
            continue
        ratio = result.ratio("asyncio", loop)
        lines.append(
            [
                LABELS[loop],
                f"{statistics.median(cell.per_second):,.0f}",
                f"{statistics.median(cell.values):.2f}",
                "-" if cell.calls is None else f"{cell.calls:.2f}",
                _report.number(statistics.median(cell.p99_us)),
                "" if ratio is None else f"{ratio.median:.2f} x asyncio",
            ]
        )
    head = ["", "requests/s", "CPU us/request", "system calls/request", "p99 us", "per core"]
    print(bold(SCENES[result.name]))
    for line in _report.table(lines, head).splitlines():
        print("  " + (bold(line) if line.startswith(LABELS[hero]) else line))
    for other in ("asyncio", "uvloop"):
        ratio = result.ratio(hero, other) if other in loops else None
        if ratio is not None:
            print(
                f"  {LABELS[hero]} spends {ratio.median:.2f} of {other}'s CPU time "
                f"per request ({1 / ratio.median:.2f} times as many per core)."
            )
    print(flush=True)


def measure(name: str, loops: list[str], deadline: float) -> _report.Result:
    row = _rows.ROWS[name]
    cells = {loop: _report.Cell() for loop in loops}
    for number in range(ROUNDS):
        if number and time.monotonic() > deadline:
            break
        for loop in loops if number % 2 == 0 else reversed(loops):
            _command.show(f"{row.note}: {LABELS[loop]}, round {number + 1} of {ROUNDS}")
            _comparison.load_sample(loop, row, SECONDS, cells[loop], 0.2)
    for loop in loops:
        if cells[loop].good and time.monotonic() < deadline:
            _command.show(f"{row.note}: {LABELS[loop]}, counting system calls")
            with contextlib.suppress(_measure.MeasureError):
                cells[loop].calls, cells[loop].calls_how = _measure.count_calls(loop, row)
    _command.show("")
    return _report.Result(name, "us", row.note, cells)


def main() -> int:
    begin = time.monotonic()
    try:
        loops, hero, lines = choose()
        _build.program("load")
    except (_measure.MeasureError, _build.NoCompiler) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    server_core, load_core = _measure.cores()
    print(bold("uring_loop: an asyncio server on io_uring, next to asyncio on epoll"))
    print(f"  driver   {hero} ({_loops.RECIPES[hero].description})")
    print(f"  kernel   {platform.system()} {platform.release()} {platform.machine()}")
    print(f"  python   {platform.python_implementation()} {platform.python_version()}")
    if server_core is None:
        print("  cores    one, which the servers and the load share: rates are low, CPU is right")
    else:
        print(f"  cores    servers on core {server_core}, the load on core {load_core}")
    for line in lines:
        print(f"  note     {line}")
    print("\nCPU time is the server's, kernel and user; every byte that comes back is checked.\n")
    sys.stdout.flush()

    results: list[_report.Result] = []
    for name in SCENES:
        deadline = begin + PATIENCE_SECONDS * (len(results) + 1) / len(SCENES)
        result = measure(name, loops, deadline)
        show(result, loops, hero)
        results.append(result)
    how = {cell.calls_how for result in results for cell in result.cells.values()} - {""}
    if "ptrace" in how:
        print("System calls were counted with ptrace, in a slower run: a little too low.")
    elif not how:
        print("System calls were not counted: neither the tracepoint nor ptrace is allowed here.")
    broken = _report.failures(results)
    for line in broken:
        print(f"failed: {line}")
    print(f"Load average {os.getloadavg()[0]:.1f}; took {time.monotonic() - begin:.0f} s.")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
