"""CPython's own asyncio tests on our loop: each module of them is one test here.

Only those modules that take a few seconds at most; URING_LOOP_CONFORMANCE=all
adds the rest, and run.py runs any of them by hand.
"""

import os

import expectations
import pytest
import run

DRIVERS = ("selector", "uring")


def pytest_generate_tests(metafunc):
    wanted = metafunc.config.getoption("--loop") or DRIVERS
    metafunc.parametrize("driver", [driver for driver in DRIVERS if driver in wanted])


def modules():
    if not run.available():
        reason = "this Python was installed without its own tests (test.test_asyncio)"
        yield pytest.param(None, marks=pytest.mark.skip(reason=reason))
    for module in run.available():
        skip = module in expectations.SLOW and os.environ.get("URING_LOOP_CONFORMANCE") != "all"
        marks = [pytest.mark.skipif(skip, reason="slow: URING_LOOP_CONFORMANCE=all runs it too")]
        # Its own tests have limits of their own; this is for all of them together.
        marks.append(pytest.mark.timeout(run.MODULE_SECONDS + 60))
        yield pytest.param(module, marks=marks)


@pytest.mark.parametrize("module", list(modules()))
def test_cpythons_own_tests_pass(module, driver):
    if driver == "uring":
        reason = no_ring()
        if reason is not None:
            pytest.skip(reason)
    report = run.run_module(module, driver, limit=30)
    details = [f"{text}\n{report.details.get(text.partition(':')[0], '')}" for text in report.wrong]
    assert not details, "\n".join([report.line(), *details])


def no_ring():
    """Why there is no ring here; None when there is one."""
    import uring_loop

    try:
        uring_loop.EventLoop("uring").close()
    except (OSError, RuntimeError) as error:
        return str(error)
    return None
