"""One module of CPython's own asyncio tests, run in this process on one kind of loop.

Started by run.py, never by hand.  Takes the place of the selector loop before
the tests are imported, then runs them one by one and writes a JSON line when
each begins and when it ends, so that the parent knows which one was running
when the process hung or died.
"""

import argparse
import asyncio
import faulthandler
import gc
import importlib
import json
import logging
import signal
import sys
import time
import unittest
import warnings
from asyncio import base_events

PACKAGE = "test.test_asyncio"


class Delegate:
    """Stands for an object that tests put a mock in place of, wherever that is."""

    def __init__(self, owner, name):
        self.__dict__["_owner"] = owner
        self.__dict__["_name"] = name

    def __getattr__(self, name):
        return getattr(getattr(self._owner, self._name), name)


def substitute(module_name):
    """Put our loop wherever the tests would get the standard library's."""
    import uring_loop
    from uring_loop._internal import _helpers, connect, datagrams, errors, resolve, server, signals

    # TestLoop, the tests' own loop with a clock of its own, stays what it is.
    importlib.import_module(f"{PACKAGE}.utils")

    class SubstituteLoop(uring_loop.EventLoop):
        """Ours, with what the tests use of the selector loop to drive it, not to look into it."""

        def __init__(self, selector=None):
            if selector is not None:
                selector.close()
            super().__init__()

        def _run_once(self):
            # One turn and no more: stop() takes effect at its end.
            self.call_soon(self.stop)
            self.run_forever()

        def _stop_serving(self, sock):
            self.remove_reader(sock)
            sock.close()

    asyncio.SelectorEventLoop = SubstituteLoop
    asyncio.unix_events.SelectorEventLoop = SubstituteLoop
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = SubstituteLoop
    # Tests make one of these with a mock for a selector, and then run it.
    asyncio.BaseEventLoop = SubstituteLoop
    if module_name == "test_base_events":
        base_events.BaseEventLoop = SubstituteLoop
    # set_event_loop_policy(None) and new_event_loop() end up here.
    type(asyncio.get_event_loop_policy())._loop_factory = SubstituteLoop
    probe = asyncio.new_event_loop()
    assert type(probe) is SubstituteLoop
    probe.close()
    # Mocks that the tests put into asyncio's modules are to be seen by ours.
    for module in (_helpers, connect, datagrams, errors, resolve, server, signals):
        if hasattr(module, "logger"):
            module.logger = Delegate(base_events, "logger")
    for module in (connect, datagrams, resolve, server):
        module.socket = Delegate(base_events, "socket")
    connect.staggered_race = lambda *args, **options: asyncio.staggered.staggered_race(
        *args, **options
    )


def substitute_streams():
    """Where the tests make a reader, a protocol or a writer by hand, one of ours."""
    from uring_loop._internal.stream_classes import CLASSES

    assert len(CLASSES) == 3
    for theirs, ours in CLASSES.items():
        setattr(asyncio, theirs.__name__, ours)


def cases(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


class Recorder(unittest.TestResult):
    """Writes what happens to each test as a line of JSON."""

    def __init__(self, out, limit, tracebacks):
        super().__init__()
        self._out = out
        self._limit = limit
        self._tracebacks = tracebacks
        self._problems = []
        self._skipped = None
        self._started = 0.0
        sys.unraisablehook = self._unraisable

    def tell(self, **line):
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()

    def startTest(self, test):
        super().startTest(test)
        self._problems = []
        self._skipped = None
        self._started = time.monotonic()
        self.tell(begin=name_of(test))
        faulthandler.dump_traceback_later(self._limit, exit=True, file=self._tracebacks)

    def stopTest(self, test):
        # What was left to the collector belongs to this test, not to the next.
        gc.collect()
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        outcome = "passed"
        if self._problems:
            outcome = "failed"
        elif self._skipped is not None:
            outcome = "skipped"
        detail = "\n".join(self._problems) or self._skipped
        seconds = round(time.monotonic() - self._started, 3)
        self.tell(end=name_of(test), outcome=outcome, detail=detail, seconds=seconds)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._skipped = reason

    def addError(self, test, err):
        super().addError(test, err)
        self._problem(test, self.errors[-1][1])

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._problem(test, self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = self._exc_info_to_string(err, subtest)
            self._problems.append(f"{subtest.id()}\n{text}")

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._problems.append("passed, but CPython expects it to fail")

    def _problem(self, test, text):
        if isinstance(test, unittest.TestCase):
            self._problems.append(text)
        else:
            # setUpModule() and its like have no test of their own.
            self.tell(begin=str(test))
            self.tell(end=str(test), outcome="failed", detail=text, seconds=0.0)

    def _unraisable(self, unraisable):
        text = f"unraisable in {unraisable.object!r}: {unraisable.exc_value!r}"
        self._problems.append(text)
        sys.__unraisablehook__(unraisable)


def name_of(test):
    """Class.method, as in the tables of expectations."""
    return ".".join(test.id().split(".")[-2:])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--driver", required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--tracebacks", required=True)
    parser.add_argument("--skip", help="file with the names of tests not to run, one per line")
    parser.add_argument("--only", action="append", help="run only these")
    options = parser.parse_args()

    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(level=logging.ERROR)
    warnings.simplefilter("default")
    if options.driver != "asyncio":
        substitute(options.module)
        if options.module == "test_streams":
            substitute_streams()
    module = importlib.import_module(f"{PACKAGE}.{options.module}")
    skipped = set()
    if options.skip:
        with open(options.skip, encoding="utf-8") as file:
            skipped = set(file.read().splitlines())
    found = list(cases(unittest.defaultTestLoader.loadTestsFromModule(module)))
    wanted = [
        test
        for test in found
        if name_of(test) not in skipped and f"{name_of(test).partition('.')[0]}.*" not in skipped
    ]
    if options.only:
        wanted = [test for test in wanted if name_of(test) in options.only]
    gc.collect()
    gc.freeze()
    with (
        open(options.out, "a", encoding="utf-8") as out,
        open(options.tracebacks, "w", encoding="utf-8") as tracebacks,
    ):
        recorder = Recorder(out, options.limit, tracebacks)
        recorder.tell(found=[name_of(test) for test in found])
        # A suite, so that setUpModule() and setUpClass() are called.
        unittest.TestSuite(wanted).run(recorder)
        recorder.tell(finished=True)


if __name__ == "__main__":
    main()
