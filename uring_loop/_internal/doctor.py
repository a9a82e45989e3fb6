"""python -m uring_loop doctor: what would a loop run on here, and what would help?

Exit status: 0 when a loop runs on io_uring, 1 when on the selector (or on
asyncio's own loop, off Linux), 3 when no loop can be made or the self-test fails;
argparse's 2 for wrong arguments.  With --seccomp it makes no loop, and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys

from .. import new_event_loop
from . import seccomp, selftest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RING, SELECTOR, BROKEN = 0, 1, 3


def examine() -> dict[str, Any]:
    """Make a loop as a program would, run the self-test in it, and tell all."""
    try:
        loop = new_event_loop()
    except (OSError, RuntimeError, ValueError) as exc:
        return {"driver": None, "reason": str(exc), "cure": None, "self_test": {}}
    try:
        facts = loop.report()
        # Whoever did not ask for a ring gets none made.
        facts["ring_is_charged"] = _ring_is_charged() if facts["ring"] is not None else None
        facts["self_test"] = loop.run_until_complete(selftest.run())
        facts["statistics"] = loop.statistics()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    return facts


def _ring_is_charged() -> bool | None:
    # There is no such module where nothing is compiled.
    from .driver import ring_is_charged

    return ring_is_charged()


def status(facts: dict[str, Any]) -> int:
    """The exit status that says it in a number."""
    if facts["driver"] is None or any(facts["self_test"].values()):
        return BROKEN
    return RING if facts["driver"] == "uring" else SELECTOR


def describe(facts: dict[str, Any]) -> str:
    """The facts as text for a person."""
    lines = []
    if "kernel" in facts:
        lines += [
            f"uring_loop {facts['uring_loop']}, {facts['python']}, {facts['kernel']}",
        ]
    if facts["driver"] is None:
        lines.append(f"No loop can be made: {facts['reason']}")
        return "\n".join(lines)
    lines.append(f"Driver: {facts['driver']} (chosen by {_chooser(facts['chosen_by'])})")
    if facts["reason"] is not None:
        lines.append(f"  No ring: {facts['reason']}")
        if facts["cure"] is not None:
            lines.append(f"  Cure: {facts['cure']}")
    elif facts["driver"] == "selector":
        lines.append("  The ring was not asked for; unset URING_LOOP_DRIVER to try it.")
    ring = facts["ring"]
    if ring is not None:
        lines.append(f"  Ring: {ring['sq_entries']} submissions, {ring['cq_entries']} completions")
        if ring["reason"] is not None:
            lines += [f"  Less than wanted: {ring['reason']}", f"  Cure: {ring['cure']}"]
    if "limits" in facts:
        limits = facts["limits"]
        lines += [
            "System:",
            f"  open files: {limits['open_files']}",
            f"  locked memory: {limits['locked_memory']}{_charge(facts)}",
            f"  seccomp: {facts['seccomp'] or _unknown(facts)}",
            f"  kernel.io_uring_disabled: {_switch(facts)}",
            f"  TLS: {_tls(facts['tls'])}",
        ]
    if facts["features"]:
        lines.append("Kernel features of the ring:")
        lines += [_feature(name, feature) for name, feature in facts["features"].items()]
    lines.append("Self-test:")
    for name, problem in facts["self_test"].items():
        lines.append(f"  {name:18} {'ok' if problem is None else 'FAILED: ' + problem}")
    return "\n".join(lines)


def _chooser(chosen_by: str) -> str:
    if chosen_by == "URING_LOOP_DRIVER":
        return f"URING_LOOP_DRIVER={os.environ.get('URING_LOOP_DRIVER')}"
    return "trying" if chosen_by == "auto" else chosen_by


def _tls(tls: dict[str, str | None] | None) -> str:
    """Who encrypts, and why not C."""
    if tls is None:
        return "none (there is no ssl module)"
    if tls["reason"] is None:
        return f"records in C, by {tls['openssl']}"
    return f"records in Python, by {tls['openssl']}: {tls['reason']}"


def _charge(facts: dict[str, Any]) -> str:
    """The locked memory that a loop more costs; not told where there is no ring."""
    if facts["ring_is_charged"] is None:
        return ""
    if facts["ring_is_charged"]:
        return " (a ring of this process is charged to it: tried)"
    return " (no ring of this process is charged to it: tried)"


def _switch(facts: dict[str, Any]) -> str:
    value = facts["io_uring_disabled"]
    if value is not None:
        return str(value)
    return "not in this kernel (since 6.6)" if facts["proc"] else _unknown(facts)


def _unknown(facts: dict[str, Any]) -> str:
    return "unknown" if facts["proc"] else "unknown (there is no /proc)"


def _feature(name: str, feature: dict[str, Any]) -> str:
    if feature["used"]:
        return f"  {name:18} used      {feature['purpose']}"
    line = f"  {name:18} not used  {feature['why']}"
    return f"{line}; cure: {feature['cure']}" if feature["cure"] else line


def main(arguments: list[str]) -> int:
    """Print the facts; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m uring_loop doctor",
        description="What a loop runs on here, and why.",
        epilog="Exit status: 0 io_uring, 1 the selector, 3 no loop, or a failed self-test.",
    )
    parser.add_argument("--json", action="store_true", help="the same facts, for machines")
    parser.add_argument(
        "--seccomp",
        choices=seccomp.TARGETS,
        help="print only a profile, for systemd a drop-in, that allows io_uring's three calls",
    )
    parser.add_argument(
        "--base",
        metavar="FILE",
        type=argparse.FileType("r", encoding="utf-8"),
        help="of --seccomp: add them to this profile (- is stdin) and not to Docker's default",
    )
    options = parser.parse_args(arguments)
    if options.base is not None and options.seccomp is None:
        parser.error("--base is of --seccomp")
    if options.seccomp is not None:
        try:
            base = None if options.base is None else json.load(options.base)
            return _print(seccomp.text(options.seccomp, base))
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            parser.error(f"no profile: {exc!r}")
    # The log line about the fallback says less than what is printed here.
    logging.getLogger("uring_loop").setLevel(logging.CRITICAL)
    facts = examine()
    _print((json.dumps(facts, indent=2) if options.json else describe(facts)) + "\n")
    return status(facts)


def _print(text: str) -> int:
    try:
        print(text, end="", flush=True)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; the interpreter flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return RING
