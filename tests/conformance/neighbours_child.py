"""One other project's test suite, run by pytest in this process on one kind of loop.

Started by neighbours.py, never by hand.  Takes the place of asyncio's loop before
the suite is imported, and writes a JSON line when each test begins and ends, so
that the parent knows which one was running when the process hung or died.
"""

import argparse
import asyncio
import json
import logging
import pathlib
import sys
import warnings

ROOT = pathlib.Path(__file__).resolve().parents[2]


def substitute():
    """Put our loop wherever a program would get the standard library's."""
    # At the end: this project has a `tests` of its own.
    sys.path.append(str(ROOT))
    import uring_loop

    asyncio.SelectorEventLoop = uring_loop.EventLoop
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = uring_loop.EventLoop
    # On the class, so that a policy which a suite sets, or sets back, gives it as well.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        policy = asyncio.get_event_loop_policy()
    type(policy)._loop_factory = uring_loop.EventLoop
    probe = asyncio.new_event_loop()
    assert type(probe) is uring_loop.EventLoop
    probe.close()


class Recorder:
    """Writes what happens to each test as a line of JSON; leaves out those that are done."""

    def __init__(self, out, skip, only):
        self._out = out
        self._skip = skip
        self._only = only
        self._outcome = "passed"
        self._details = []

    def tell(self, **line):
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()

    def pytest_collection_modifyitems(self, items):
        items[:] = [
            item
            for item in items
            if (name := short(item.nodeid)) not in self._skip
            and (not self._only or name in self._only)
        ]

    def pytest_collectreport(self, report):
        if report.failed:
            self.tell(begin=short(report.nodeid))
            self.tell(end=short(report.nodeid), outcome="failed", detail=str(report.longrepr))

    def pytest_runtest_logstart(self, nodeid):
        self._outcome, self._details = "passed", []
        self.tell(begin=short(nodeid))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self._outcome = "failed"
            self._details.append(f"{report.when}: {report.longrepr}")
        elif report.skipped and self._outcome == "passed":
            self._outcome = "skipped"

    def pytest_runtest_logfinish(self, nodeid):
        self.tell(end=short(nodeid), outcome=self._outcome, detail="\n".join(self._details))

    def pytest_sessionfinish(self):
        self.tell(finished=True)


def short(nodeid):
    """What pytest calls a test, from the package on where that is installed."""
    return nodeid.rpartition("site-packages/")[2]


def names(path):
    return {name for name in path.read_text("utf-8").split("\n") if name}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--driver", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--skip", type=pathlib.Path, required=True)
    parser.add_argument("--only", type=pathlib.Path, required=True)
    parser.add_argument("--silence", action="append", default=[], help="this logger")
    parser.add_argument("arguments", nargs="*", help="pytest's")
    options = parser.parse_args()
    # This folder holds modules of names that suites have too.
    sys.path.pop(0)
    if options.driver != "asyncio":
        substitute()
    import pytest

    for logger in options.silence:
        logging.getLogger(logger).setLevel(logging.CRITICAL)
    with open(options.out, "w", encoding="utf-8") as out:
        recorder = Recorder(out, names(options.skip), names(options.only))
        pytest.main(options.arguments, plugins=[recorder])


if __name__ == "__main__":
    main()
