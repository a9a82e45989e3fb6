"""Fixtures of every test: which loop is under test, and what a test must leave behind.

Each test that asks for `loop` or `make_loop` runs once per kind of loop: stock
asyncio (the oracle), and ours on both drivers.  `--loop=KIND` (repeatable)
restricts the kinds.  After each test nothing may be left: no descriptor, no
task, no unraisable exception, no unexpected call of the exception handler.
"""

import asyncio
import functools
import gc
import os
import signal
import sysconfig
import threading

import pytest
import seeds

KINDS = ("asyncio", "selector", "uring")


def pytest_addoption(parser):
    parser.addoption(
        "--loop",
        action="append",
        choices=KINDS,
        help="run the tests on this kind of loop only (may be repeated)",
    )
    seeds.add_option(parser)


def pytest_configure(config):
    seeds.choose(config)
    if hasattr(config, "workerinput"):
        # A worker's thread reads what is wanted of it; from Python 3.12 on each fork warns of that.
        config.addinivalue_line(
            "filterwarnings", "ignore:This process .* is multi-threaded:DeprecationWarning"
        )


def pytest_report_header(config):
    return seeds.told(config)


def pytest_runtest_setup(item):
    seeds.sow(item)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.failed:
        report.sections.append(("Replayed by", seeds.told(item.config)))


@pytest.fixture
def seed(request):
    """What this test draws from, where it draws by itself; see seeds.py."""
    return seeds.derived(request.config.run_seed, request.node.nodeid)


def pytest_sessionstart(session):
    # Started in the background of a script, Python has SIGINT ignored, and so would every
    # child; the tests of Ctrl-C are about the usual case.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A free-threaded Python would warn in every child that it turns the GIL on for the core.
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        os.environ.setdefault("PYTHON_GIL", "1")


def pytest_generate_tests(metafunc):
    if "loop_kind" in metafunc.fixturenames:
        kinds = metafunc.config.getoption("--loop") or KINDS
        metafunc.parametrize("loop_kind", kinds, indirect=True, scope="function")


_refusals: dict[str, str | None] = {}


def _refusal(kind):
    """Why this kind of loop cannot run here, in its own words; None when it can."""
    if kind not in _refusals:
        _refusals[kind] = None
        if kind != "asyncio":
            import uring_loop

            try:
                uring_loop.new_event_loop().close()
            except OSError as error:
                _refusals[kind] = f"no {kind} loop here: {error}"
            except RuntimeError as error:
                _refusals[kind] = f"no {kind} loop here: {error}"
    return _refusals[kind]


@pytest.fixture
def loop_kind(request, monkeypatch):
    """The kind under test; children of the test inherit it by environment."""
    kind = request.param
    if kind == "asyncio":
        monkeypatch.delenv("URING_LOOP_DRIVER", raising=False)
    else:
        monkeypatch.setenv("URING_LOOP_DRIVER", kind)
    reason = _refusal(kind)
    if reason is not None:
        pytest.skip(reason)
    return kind


def loop_of(kind):
    """A new loop of this kind."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import uring_loop

    loop = uring_loop.new_event_loop()
    assert loop.driver == kind
    return loop


@pytest.fixture
def make_unwatched_loop(loop_kind):
    """Makes loops of the kind under test to which nobody else refers."""
    return functools.partial(loop_of, loop_kind)


@pytest.fixture
def make_loop(loop_kind):
    """Makes loops of the kind under test; the test closes them."""
    made = []

    def make():
        loop = loop_of(loop_kind)
        made.append(loop)
        return loop

    yield make
    still_open = [loop for loop in made if not loop.is_closed()]
    for loop in still_open:
        loop.close()
    assert not still_open, "the test left loops open"


@pytest.fixture
def errors():
    """The contexts the loop's exception handler got.  A test that expects some clears it."""
    return []


@pytest.fixture
def loop(loop_kind, errors):
    """A loop of the kind under test, closed afterwards, which must end without leftovers."""
    loop = loop_of(loop_kind)
    loop.set_exception_handler(lambda _, context: errors.append(context))
    asyncio.set_event_loop(None)
    try:
        yield loop
        if not loop.is_closed():
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            # Callbacks of closing transports come in the next iterations.
            for _ in range(3):
                loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            assert not tasks, "the test left tasks pending"
    finally:
        loop.close()
    assert not errors, "unexpected calls of the exception handler"


def open_descriptors():
    """Descriptor number -> what it is, of this process."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # The descriptor of the listing itself.
    return found


@pytest.fixture(autouse=True, scope="module")
def past_out_of_sight():
    """The collection after each test looks only at what its module has made.

    What pytest holds of thousands of tests made each of them last ten times as long.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No test may leave a descriptor or a thread."""
    threads = set(threading.enumerate())
    before = open_descriptors()
    yield
    gc.collect()
    after = open_descriptors()
    leaked = {number: what for number, what in after.items() if before.get(number) != what}
    assert not leaked, f"descriptors left open: {leaked}"
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
        assert not thread.is_alive(), f"thread left running: {thread}"
