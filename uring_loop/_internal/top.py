"""python -m uring_loop top: the loops of another process, live in a terminal.

What it shows is the difference of two answers of that process's statistics socket
(statistics_server.py).
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import socket
import sys
import time

from . import statistics, statistics_server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CONNECT_SECONDS = 10.0
_BAR = 20
_CLEAR = "\033[H\033[2J"


class Unreachable(Exception):
    """No process answers; the message says what would help."""


# ---- asking --------------------------------------------------------------------------------


def find(target: str) -> str:
    """The address for what the user has typed: a process's number, or an address already."""
    if not target.isdigit():
        return target
    uid = os.geteuid()
    with contextlib.suppress(OSError):
        uid = os.stat(f"/proc/{target}").st_uid
    for directory in statistics_server.directories(uid):
        path = statistics_server.default_path(int(target), directory)
        if os.path.exists(path):
            return path
    raise Unreachable(
        f"process {target} serves no statistics: it calls uring_loop.serve_statistics(), or is "
        "started with URING_LOOP_STATISTICS=1"
    )


def reachable() -> list[str]:
    """A line for each process of this user that answers: its number, what it runs."""
    found = []
    for directory in statistics_server.directories(os.geteuid()):
        for path in sorted(glob.glob(os.path.join(directory, "uring_loop-*.sock"))):
            # Killed processes leave theirs behind.
            with contextlib.suppress(Unreachable):
                answer = ask(path)
                found.append(f"{answer['pid']:>8}  {_command(answer)}")
    return found


def ask(address: str) -> dict[str, Any]:
    """One answer. Unreachable when there is none."""
    where = statistics_server.tcp_address(address)
    try:
        if where is not None:
            connection = socket.create_connection(where, _CONNECT_SECONDS)
        else:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(_CONNECT_SECONDS)
            connection.connect(address)
        with connection, connection.makefile("rb") as file:
            line = file.readline()
    except OSError as exc:
        raise Unreachable(f"{address}: {exc.strerror or exc}") from exc
    if not line:
        raise Unreachable(f"{address}: it does not answer this user")
    answer: dict[str, Any] = json.loads(line)
    if answer["format"] != statistics_server.FORMAT:
        raise Unreachable(
            f"{address}: that process has uring_loop {answer['uring_loop']}, whose answers are "
            "of another format"
        )
    return answer


def changes(after: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """The same answer with the statistics of the time between; `seconds` says how long that is.

    Of a loop that is new, and of everything without `before`, since its beginning.
    """
    known = {loop["number"]: loop["statistics"] for loop in before["loops"]} if before else {}
    seconds = (after["monotonic_ns"] - before["monotonic_ns"]) / 1e9 if before else None
    loops = [
        {
            **loop,
            "statistics": statistics.difference(
                loop["statistics"], known.get(loop["number"], {})
            ),
        }
        for loop in after["loops"]
    ]
    return {**after, "seconds": seconds, "loops": loops}


# ---- showing -------------------------------------------------------------------------------


def _time(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.0f} ns"


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.3g} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _plain(text: str) -> str:
    """What another process says of itself, without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def describe(found: dict[str, Any]) -> str:
    """For a person: a paragraph for each loop."""
    command = _command(found) or "python"
    lines = [
        f"process {found['pid']}: {command}  (Python {found['python']}, uring_loop"
        f" {found['uring_loop']})"
    ]
    if not found["loops"]:
        lines.append("no loop runs")
    for loop in found["loops"]:
        lines += ["", *_describe_loop(loop, found["seconds"] or 0.0)]
    return "\n".join(map(_plain, lines))


def _command(answer: dict[str, Any]) -> str:
    return _plain(" ".join(map(str, answer["command"])))


def _describe_loop(loop: dict[str, Any], seconds: float) -> list[str]:
    counted = loop["statistics"]
    times, moved, pool = counted["time"], counted["transports"], counted["executor"]
    # Without an earlier answer: for each second in which the loop ran.
    seconds = seconds or (times["busy_ns"] + times["idle_ns"]) / 1e9 or 1.0

    def rate(value: float) -> str:
        return f"{_number(value / seconds)}/s"

    filled = round(times["utilization"] * _BAR)
    lines = [
        f"loop {loop['number']}  {loop['driver']}  in {loop['thread']}",
        f"  utilization  {times['utilization']:6.1%}  [{'#' * filled}{'.' * (_BAR - filled)}]",
        f"  delay        {_percentiles(times['delay'])}",
        f"  turns        {_percentiles(times['turns'])}, {rate(counted['turns'])}",
        f"  batches      {_shares(counted['batches'])}",
        f"  system calls {rate(counted['enters'])}, {rate(counted['waits'])} sleeps,"
        f" {rate(counted['wakes'])} wake-ups by others",
        f"  operations   {_rates(counted['submissions'], seconds)};"
        f" {counted['in_flight']} in flight",
        f"  connections  {moved['transports']} open, {rate(moved['connections_in'])} accepted,"
        f" {rate(moved['connections_out'])} made",
        f"  bytes        {_bytes(moved['bytes_in'] / seconds)}/s in,"
        f" {_bytes(moved['bytes_out'] / seconds)}/s out; pauses"
        f" {rate(moved['reading_pauses'])} of reading, {rate(moved['writing_pauses'])} of writing",
        f"  scheduled    {loop['ready']} ready, {loop['timers']} timers; executor"
        f" {pool['threads']} threads, {pool['queued']} calls queued",
    ]
    lines += [
        f"  long         {_time(entry['ns']):>8}  {entry['callback']} ({entry['count']} seen)"
        for entry in counted["longest"][:5]
    ]
    return lines


def _percentiles(found: dict[str, Any]) -> str:
    names = ("p50", "p90", "p99", "max")
    return ", ".join(f"{name} {_time(found[f'{name}_ns'])}" for name in names)


def _shares(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    if not total:
        return "no turn"
    return ", ".join(f"{size}: {count / total:.0%}" for size, count in counts.items())


def _rates(counts: dict[str, int], seconds: float) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])[:8]
    if not most:
        return "none"
    return ", ".join(f"{name} {_number(count / seconds)}/s" for name, count in most)


def _watch(address: str, options: argparse.Namespace) -> None:
    before = ask(address)
    shown = 0
    while options.count is None or shown < options.count:
        time.sleep(options.interval)
        after = ask(address)
        found = changes(after, before)
        before = after
        shown += 1
        if options.json:
            print(json.dumps(found), flush=True)
        else:
            live = sys.stdout.isatty() and options.count != 1
            print(f"{_CLEAR if live else ''}{describe(found)}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uring_loop top",
        description="The loops of another process: how busy they are, and with what. That "
        "process calls uring_loop.serve_statistics(), or has URING_LOOP_STATISTICS=1 in its "
        "environment.",
    )
    parser.add_argument(
        "target",
        nargs="?",
        metavar="PID|ADDRESS",
        help="the process's number, the path of its socket, or host:port; without one, the "
        "processes of this user are listed",
    )
    parser.add_argument(
        "--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks"
    )
    parser.add_argument(
        "--once",
        dest="count",
        action="store_const",
        const=1,
        help="show one interval and end",
    )
    parser.add_argument("--count", type=int, metavar="N", help="show so many and end")
    parser.add_argument("--json", action="store_true", help="one object in a line for each")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Show it until Ctrl-C, or the end of the process; the exit status."""
    options = _parser().parse_args(arguments)
    if options.target is None:
        print("\n".join(reachable()) or "no process of this user serves statistics")
        return 0
    try:
        _watch(find(options.target), options)
    except Unreachable as exc:
        print(f"top: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
