#!/usr/bin/env python3
"""CPython's own asyncio tests, with our loop in place of the selector loop.

    python tests/conformance/run.py --driver uring|selector|asyncio [--module test_ssl ...]

Each module of the running Python's test.test_asyncio runs in a process of its
own.  A test that hangs is ended after --limit seconds and a test that kills the
process is noted; the rest of the module then goes on in a new process.  What
must not run is in expectations.py by name; an entry without a test is a failure
too.  `--driver asyncio` is the
control: the standard library's loop in the same runner, where all must pass.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import children  # noqa: E402
import expectations  # noqa: E402

DRIVERS = ("uring", "selector", "asyncio")
TEST_SECONDS = 60
MODULE_SECONDS = 600


@dataclass
class Report:
    """What became of a module."""

    module: str
    driver: str
    outcomes: dict[str, str] = field(default_factory=dict)
    """Test -> passed, skipped, failed, hung, died or excluded."""
    details: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """The tests, and the entries of the tables, that make this run a failure."""
    seconds: float = 0.0

    @property
    def counts(self):
        return Counter(self.outcomes.values())

    def line(self):
        counts = self.counts
        run = sum(counts.values()) - counts["excluded"] - counts["skipped"]
        return (
            f"{self.module:26} {self.driver:9} run {run:4}  passed {counts['passed']:4}"
            f"  excluded {counts['excluded']:3}  skipped {counts['skipped']:3}"
            f"  wrong {len(self.wrong):3}"
            f"  {self.seconds:6.1f} s"
        )


def available():
    """The modules of our list that the running Python has; Debian's has none of its own tests."""
    try:
        import test.test_asyncio
    except ImportError:
        return []
    folder = pathlib.Path(test.test_asyncio.__file__).parent
    return [name for name in expectations.MODULES if (folder / f"{name}.py").exists()]


def run_module(
    module, driver, *, only=None, limit=TEST_SECONDS, seconds=MODULE_SECONDS, debug=False
):
    """Run one module's tests; a Report."""
    excluded = expectations.entries(expectations.EXCLUDED, module)
    report = Report(module, driver)
    started = time.monotonic()
    found = None
    done = set()
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        skip = pathlib.Path(folder, "skip")
        for attempt in range(1000):
            left = seconds - (time.monotonic() - started)
            if left <= 0:
                report.wrong.append(f"{module}: not done within {seconds} s")
                break
            skip.write_text("\n".join([*excluded, *done]), encoding="utf-8")
            lines, output, traceback, finished = _run_child(
                module, driver, skip, only, limit, left, pathlib.Path(folder, str(attempt)), debug
            )
            current = None
            for line in lines:
                if "found" in line:
                    found = line["found"]
                elif "begin" in line:
                    current = line["begin"]
                elif "end" in line:
                    current = None
                    name = line["end"]
                    done.add(name)
                    report.outcomes[name] = line["outcome"]
                    if line["detail"]:
                        report.details[name] = line["detail"]
            if finished:
                break
            if current is None:
                report.wrong.append(f"{module}: the process ended outside of any test\n{output}")
                break
            # The limit's traceback is of all threads; without one the process died.
            done.add(current)
            report.outcomes[current] = "hung" if traceback else "died"
            report.details[current] = traceback or output[-4000:]
    report.seconds = time.monotonic() - started
    _judge(report, found or [], excluded, only)
    return report


def _run_child(module, driver, skip, only, limit, seconds, folder, debug):
    folder.mkdir()
    out, tracebacks, output = folder / "out", folder / "tracebacks", folder / "output"
    command = [sys.executable, str(HERE / "child.py"), module, "--driver", driver]
    command += ["--limit", str(limit), "--skip", str(skip)]
    command += ["--out", str(out), "--tracebacks", str(tracebacks)]
    for name in only or ():
        command += ["--only", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONASYNCIODEBUG", None)
    if debug:
        environment["PYTHONASYNCIODEBUG"] = "1"
    if driver != "asyncio":
        environment["URING_LOOP_DRIVER"] = driver
    with open(output, "wb") as stream:
        status = children.run(command, folder, environment, stream, seconds)
    lines = []
    if out.exists():
        lines = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    finished = status == 0 and bool(lines) and "finished" in lines[-1]
    traceback = tracebacks.read_text("utf-8") if tracebacks.exists() else ""
    text = output.read_text("utf-8", errors="replace") + f"\nexit status {status}"
    return lines, text, traceback, finished


def _judge(report, found, excluded, only):
    used = set()
    for name, outcome in report.outcomes.items():
        if outcome in ("failed", "hung", "died"):
            report.wrong.append(f"{name}: {outcome}")
    for name in found:
        for entry in (name, name.partition(".")[0] + ".*"):
            if entry in excluded:
                used.add(entry)
                report.outcomes[name] = "excluded"
    if not only:
        for entry in {*excluded} - used:
            report.wrong.append(f"{entry}: there is no such test: delete its entry")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--driver", choices=DRIVERS, action="append")
    parser.add_argument("--module", action="append", help="default: all of them")
    parser.add_argument("--test", action="append", help="only Class.method; of one module")
    parser.add_argument("--limit", type=float, default=TEST_SECONDS, help="seconds for one test")
    parser.add_argument("--debug", action="store_true", help="asyncio's debug mode everywhere")
    parser.add_argument("--quiet", action="store_true", help="names only, without tracebacks")
    options = parser.parse_args()
    if not available():
        print("this Python was installed without its own tests (test.test_asyncio)")
        return 2
    wrong = 0
    totals = Counter()
    for driver in options.driver or DRIVERS[:2]:
        for module in options.module or available():
            report = run_module(
                module, driver, only=options.test, limit=options.limit, debug=options.debug
            )
            print(report.line(), flush=True)
            for text in report.wrong:
                print(f"    {text}")
                detail = report.details.get(text.partition(":")[0])
                if detail and not options.quiet:
                    print("        " + "\n        ".join(detail.splitlines()))
            wrong += len(report.wrong)
            totals.update({(driver, key): value for key, value in report.counts.items()})
    for (driver, key), value in sorted(totals.items()):
        print(f"{driver}: {value} {key}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
