"""The package's names: what uvloop's users look for, and what a class may take as it is."""

import asyncio
import pathlib
import pickle
import pkgutil
import subprocess
import sys
import unittest

import pytest

import uring_loop


def test_loop_is_another_name_of_event_loop():
    assert uring_loop.Loop is uring_loop.EventLoop
    loop = uring_loop.new_event_loop()
    try:
        assert isinstance(loop, uring_loop.Loop)
    finally:
        loop.close()


@pytest.mark.parametrize("first", ["Loop", "EventLoop"])
def test_both_names_are_one_class_whichever_is_asked_for_first(first):
    code = f"import uring_loop as u; u.{first}; print(u.Loop is u.EventLoop)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


PUBLIC = {
    "uring_loop": {*uring_loop.__all__, "open", "files", "metrics", "paths"},
    "uring_loop.files": set(uring_loop.files.__all__),
    "uring_loop.files.os": set(uring_loop.files.os.__all__),
    "uring_loop.files.ospath": set(uring_loop.files.ospath.__all__),
    "uring_loop.files.tempfile": set(uring_loop.files.tempfile.__all__),
    "uring_loop.metrics": {"METRICS", "Metric", "PrometheusCollector", "observe"},
    "uring_loop.paths": set(uring_loop.paths.__all__),
    "uring_loop.workers": {"ASGIWorker", "AiohttpWorker", "UvicornWorker"},
}


@pytest.mark.parametrize("name", PUBLIC)
def test_dir_shows_what_is_public_and_nothing_else(name):
    """Also after everything else has been imported: nothing of ours slips in."""
    import importlib

    module = importlib.import_module(name)
    assert {each for each in dir(module) if not each.startswith("__")} == PUBLIC[name]


def test_every_module_beside_the_public_ones_says_by_its_name_that_it_is_not():
    folder = pathlib.Path(uring_loop.__file__).parent
    found = {name for _, name, _ in pkgutil.iter_modules([str(folder)]) if name[0] != "_"}
    assert found == {name.split(".")[1] for name in PUBLIC if "." in name}
    found = {name for _, name, _ in pkgutil.iter_modules([str(folder / "files")])}
    assert found == {name.split(".")[2] for name in PUBLIC if name.count(".") == 2}


def test_package_docstring_names_what_is_public():
    for name in PUBLIC["uring_loop"] - {"Loop"}:
        assert name in uring_loop.__doc__


def test_new_event_loop_stays_a_function_as_a_classs_attribute():
    class Case:
        loop_factory = uring_loop.new_event_loop

    for make in (Case.loop_factory, Case().loop_factory, uring_loop.new_event_loop):
        make().close()


def test_new_event_loop_travels_to_other_processes_by_its_name():
    assert pickle.loads(pickle.dumps(uring_loop.new_event_loop)) is uring_loop.new_event_loop


def test_new_event_loop_has_its_name_and_docstring():
    assert uring_loop.new_event_loop.__name__ == "new_event_loop"
    assert uring_loop.new_event_loop.__module__ == "uring_loop"
    assert "driver" in uring_loop.new_event_loop.__doc__
    with pytest.raises(TypeError):
        uring_loop.new_event_loop(1)


@pytest.mark.skipif(
    sys.version_info < (3, 13), reason="unittest's loop_factory is new in Python 3.13"
)
@pytest.mark.parametrize("name", ["new_event_loop", "EventLoop", "Loop"])
def test_isolated_asyncio_test_case_takes_each_factory(name):
    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = getattr(uring_loop, name)

        async def test_it(self):
            self.assertIsInstance(asyncio.get_running_loop(), uring_loop.EventLoop)

    result = unittest.TestResult()
    Case("test_it").run(result)
    assert (result.testsRun, result.failures, result.errors) == (1, [], [])
