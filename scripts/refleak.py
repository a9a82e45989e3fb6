"""A pytest plugin that looks for leaks: every test runs several times (`make refleak`).

After two runs to fill caches, a further run may leave no more memory blocks (and, on a debug build
of Python, references) and no more open descriptors behind than the run before. A test leaks when
every measured run grew; the first that did not grow acquits it.

`--loop asyncio` is the control: what leaks on asyncio's own loop too is not ours.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable

import pytest
from _pytest.runner import runtestprotocol

WARM_UP_RUNS = 2
# Caches and free lists have an end, but one of 3.11's takes 40 runs to fill.
MEASURED_RUNS = 60
# For all the runs of one test together.
TIMEOUT_S = 1800


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


COUNTERS: dict[str, Callable[[], int]] = {
    "memory blocks": sys.getallocatedblocks,
    "open descriptors": open_descriptors,
}
if hasattr(sys, "gettotalrefcount"):
    COUNTERS["references"] = sys.gettotalrefcount


def count() -> dict[str, int]:
    # What one collection frees may make more garbage of what it referred to.
    for _ in range(3):
        gc.collect()
    return {name: counter() for name, counter in COUNTERS.items()}


def run_once(item: pytest.Item, next_node: pytest.Item | None) -> list[pytest.TestReport]:
    item._report_sections.clear()
    return runtestprotocol(item, log=False, nextitem=next_node)


def run_again(item: pytest.Item) -> bool:
    """Whether it passed.

    What is set up for the whole module stays set up: to pytest the next item is the module itself.
    """
    return all(report.passed for report in run_once(item, item.parent))


def leaks(item: pytest.Item) -> str | None:
    """What grew with every measured run, or None."""
    for _ in range(WARM_UP_RUNS):
        # A failing test keeps its traceback alive, and a skipped one has nothing to say.
        if not run_again(item):
            return None
    growth: dict[str, list[int]] = {name: [] for name in COUNTERS}
    before = count()
    for _ in range(MEASURED_RUNS):
        run_again(item)
        after = count()
        for name in list(growth):
            growth[name].append(after[name] - before[name])
            if growth[name][-1] <= 0:
                del growth[name]
        if not growth:
            return None
        before = after
    return "leak: growth in each run, lastly: " + ", ".join(
        f"{name} {deltas[-10:]}" for name, deltas in growth.items()
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.timeout(TIMEOUT_S), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    found = leaks(item)
    for report in run_once(item, nextitem):
        if report.when == "call" and report.passed and found is not None:
            report.outcome = "failed"
            report.longrepr = found
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
