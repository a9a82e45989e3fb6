"""Several processes behind one address: python perf/processes.py [--counts 1,2] [--quick].

Throughput, CPU time per message, and who got how much, with SO_REUSEPORT and with a listener
that all processes inherited. Every round takes each loop in turns, and one of them twice (the
control).

The load generator has a core to itself; all servers share the others. On a machine of two cores
that is one core for all servers: there it shows what sharing costs and how fair it is, and says
nothing about how throughput grows with processes.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import _checkout  # noqa: F401
from processes_server import WAYS

from uring_loop._internal.bench import build as _build
from uring_loop._internal.bench import command as _command
from uring_loop._internal.bench import comparison as _comparison
from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import measure as _measure
from uring_loop._internal.bench import report as _report

SERVERS = Path(__file__).parent / "processes_server.py"
LOADS = {
    "echo_1k": _measure.Row("echo_1k", "processes", note="echo, 1 KiB, 100 connections"),
    "connect_close": _measure.Row(
        "connect_close", "processes", mode="connect", size=100, note="connect, 100 B, reset"
    ),
}


class Processes(_measure.Server):
    """Servers at one address; ends them all with the with block."""

    def __init__(self, loop: str, row: _measure.Row, way: str, count: int) -> None:
        super().__init__(loop, row)
        self.way = way
        self.count = count

    def command(self) -> list[str]:
        command = [sys.executable, str(SERVERS), "--loop", self.loop, "--way", self.way]
        command += ["--count", str(self.count)]
        return [*command, "--cores", ",".join(map(str, server_cores()))]

    def processes(self) -> list[int]:
        pids = self.address["pids"]
        assert isinstance(pids, list)
        return pids

    def counts(self) -> list[list[int]]:
        """Of each process what it has served: connections, bytes."""
        assert self._process.stdin is not None
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        counts = self._answer()["counts"]
        assert isinstance(counts, list)
        return counts


def server_cores() -> list[int]:
    """All that the load does not have; none where there is only one."""
    _, load_core = _measure.cores()
    return [] if load_core is None else sorted(os.sched_getaffinity(0) - {load_core})


def fairness(shares: Sequence[float]) -> float:
    """Jain's index: 1 where all have the same, 1 / n where one has it all.

    Source: Jain, Chiu and Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
    """
    total = sum(shares)
    return total * total / (len(shares) * sum(share * share for share in shares)) if total else 0.0


@dataclass
class Shares:
    """Of each round, what each process had of all, the most first."""

    connections: list[list[float]] = field(default_factory=list)
    messages: list[list[float]] = field(default_factory=list)

    def add(self, counts: Sequence[Sequence[int]]) -> None:
        for own, kind in ((self.connections, 0), (self.messages, 1)):
            numbers = [each[kind] for each in counts]
            own.append(sorted((number / max(1, sum(numbers)) for number in numbers), reverse=True))


def take(
    loop: str, row: _measure.Row, way: str, count: int, seconds: float
) -> tuple[_measure.Sample, list[list[int]]]:
    with Processes(loop, row, way, count) as servers:
        sample = servers.load(seconds, 0.2)
        return sample, servers.counts()


def row_name(load: str, way: str, count: int) -> str:
    return f"{load}_{way}_{count}"


def measure(
    load: str,
    way: str,
    count: int,
    taken: _comparison.Seats,
    rounds: int,
    seconds: float,
    tell: _comparison.Tell,
) -> tuple[_report.Result, dict[str, Shares]]:
    row = LOADS[load]
    cells = {seat: _report.Cell() for seat in taken}
    shares = {seat: Shares() for seat in taken}
    for number in range(rounds):
        for seat in _comparison.in_turn(taken, number):
            cell = cells[seat]
            tell(f"{load}, {count} by {way}, {taken[seat]} {number + 1}/{rounds}")
            if cell.error:
                continue
            try:
                sample, counts = take(taken[seat], row, way, count, seconds)
            except _measure.MeasureError as error:
                cell.error = str(error)
                continue
            cell.add(sample)
            shares[seat].add(counts)
    note = f"{row.note}, {count} processes, {way}"
    result = _comparison.gather(row_name(load, way, count), "us", note, cells, taken)
    return result, {seat: own for seat, own in shares.items() if seat != _comparison.CONTROL}


def percent(rounds: Sequence[Sequence[float]]) -> str:
    """The median share of who had most, and of who had least."""
    most = statistics.median(shares[0] for shares in rounds)
    least = statistics.median(shares[-1] for shares in rounds)
    return f"{most:.0%} {least:.0%}" if len(rounds[0]) > 1 else "100%"


def fairness_table(
    results: Sequence[_report.Result], shares: dict[str, dict[str, Shares]], loops: Sequence[str]
) -> str:
    lines = []
    for result in results:
        for loop in loops:
            cell, own = result.cells[loop], shares[result.name][loop]
            if not cell.good:
                continue
            jain = [statistics.median(map(fairness, each)) for each in vars(own).values()]
            lines.append(
                [
                    result.name,
                    loop,
                    _report.number(statistics.median(cell.per_second)),
                    _report.number(statistics.median(cell.p99_us)),
                    percent(own.connections),
                    f"{jain[0]:.3f}",
                    percent(own.messages),
                    f"{jain[1]:.3f}",
                    f"{statistics.median(cell.load_share):.0%}",
                ]
            )
    head = ["row", "loop", "per s", "p99 us", "connections", "Jain", "messages", "Jain"]
    head.append("load's core")
    return _report.table(lines, head)


def as_json(
    results: Sequence[_report.Result],
    shares: dict[str, dict[str, Shares]],
    loops: Sequence[str],
    against: str,
) -> dict[str, object]:
    """What a comparison's file has, and the shares of every round."""
    report = _report.as_json(results, loops, against)
    report["shares"] = {
        name: {loop: vars(own) for loop, own in each.items()} for name, each in shares.items()
    }
    report["server_cores"] = server_cores()
    return report


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", default="1,2", help="of processes; default %(default)s")
    parser.add_argument("--ways", default=",".join(WAYS), help="default %(default)s")
    parser.add_argument("--loads", default=",".join(LOADS), help="default %(default)s")
    parser.add_argument("--loops", default="asyncio,uvloop,selector,uring")
    parser.add_argument("--rounds", type=int, help="default 5; 1 with --quick")
    parser.add_argument("--seconds", type=float, help="of one window; default 0.6")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value to this file")
    options = parser.parse_args(arguments)
    for name, known in (("ways", WAYS), ("loads", LOADS), ("loops", _loops.RECIPES)):
        chosen = getattr(options, name).split(",")
        if unknown := sorted(set(chosen) - set(known)):
            parser.error(f"--{name} knows no {', '.join(unknown)}")
        setattr(options, name, chosen)
    options.counts = [int(count) for count in options.counts.split(",")]
    if min(options.counts) < 1:
        parser.error("at least one process")
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (0.1 if options.quick else 0.6)
    return options


def cores_line() -> str:
    cores = server_cores()
    if not cores:
        return "one core for the servers and the load: rates mean little"
    text = f"the load has a core to itself, all servers share {len(cores)}"
    if len(cores) == 1:
        text += ": what more processes cost and how fair they are, not how throughput grows"
    return text


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    begin = time.monotonic()
    loops, lines = _comparison.usable(options.loops)
    if not loops:
        print("\n".join(lines), file=sys.stderr)
        return 1
    against = "uvloop" if "uvloop" in loops else loops[0]
    try:
        _build.program("load")
    except _build.NoCompiler as error:
        print(error, file=sys.stderr)
        return 1

    results: list[_report.Result] = []
    shares: dict[str, dict[str, Shares]] = {}
    taken = _comparison.seats(loops, against)
    for load in options.loads:
        for way in options.ways:
            for count in options.counts:
                result, own = measure(
                    load, way, count, taken, options.rounds, options.seconds, _command.show
                )
                results.append(result)
                shares[result.name] = own
                if options.json:
                    report = as_json(results, shares, loops, against)
                    options.json.write_text(json.dumps(report, indent=1) + "\n")
    _command.show("")
    facts = _report.machine()
    print(
        f"Linux {facts['kernel']}, Python {facts['python']}, {facts['cores']} cores:"
        f" {cores_line()}; {options.rounds} rounds, {time.monotonic() - begin:.0f} s"
    )
    for line in lines:
        print(line)
    print("\nCPU time of all servers per message, smaller is better")
    print(_report.values_table(results, loops, against))
    for line in _report.legend(results):
        print(line)
    print("\nwhat the process with most and the one with least had; Jain's index is 1 where all")
    print("had the same, 1 / n where one had it all")
    print(fairness_table(results, shares, loops))
    broken = _report.failures(results)
    for line in broken:
        print(f"failed: {line}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
