"""Where there is no Linux, no CPython or nothing compiled: asyncio's own loop, with our methods.

Another platform is a child process in which the compiled modules cannot be imported,
sys.platform is another one, and what that one lacks is missing.
"""

import os
import re
import subprocess
import sys
import sysconfig
import textwrap
import zipfile
from pathlib import Path

import pytest
from test_choice import EXERCISE, child

ROOT = Path(__file__).parents[1]

PRETEND = """
import asyncio, importlib.abc, os, signal, socket, sys
class Hidden(importlib.abc.MetaPathFinder):
    names = {"uring_loop._core", "uring_loop._driver"}
    def find_spec(self, name, path, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def pretend(platform):
    sys.meta_path.insert(0, Hidden())
    import tempfile, concurrent.futures.thread, subprocess
    sys.platform = platform
    if platform == "linux":
        return
    Hidden.names |= {"fcntl"} if platform == "win32" else set()
    lacking = ["posix_fallocate", "fdatasync"]
    if platform == "win32":
        # Its loop, which has neither readers nor signals.
        class ProactorEventLoop(asyncio.SelectorEventLoop):
            def add_reader(self, *arguments):
                raise NotImplementedError
            add_signal_handler = add_reader
        asyncio.ProactorEventLoop = ProactorEventLoop
        lacking += ["pread", "pwrite", "statvfs", "preadv", "pwritev", "O_CLOEXEC",
                    "O_NONBLOCK", "makedev", "get_blocking", "pidfd_open", "sendfile"]
        del signal.SIGWINCH, asyncio.start_unix_server, asyncio.open_unix_connection
        del sys.modules["resource"], sys.modules["fcntl"]
        Hidden.names.add("resource")
    for name in lacking:
        delattr(os, name)
import resource
"""

FILES = """
async def use_files(folder):
    import os, uring_loop
    from uring_loop.files import os as paths
    name = os.path.join(folder, "file")
    async with uring_loop.open(name, "w") as file:
        await file.write("one\\ntwo\\n")
    async with uring_loop.open(name) as file:
        assert [line async for line in file] == ["one\\n", "two\\n"]
    async with uring_loop.open(name, "ab") as file:
        await file.write(b"three\\n")
    async with uring_loop.open(name, "r+b") as file:
        await file.seek(4)
        await file.write(b"TWO")
        await file.seek(0)
        assert await file.read() == b"one\\nTWO\\nthree\\n"
        await paths.fdatasync(file)
        try:
            await paths.fallocate(file, 0, 10)
        except OSError:
            assert not hasattr(os, "posix_fallocate")
        assert (await paths.fstat(file.fileno())).st_size == 14
    # As builtin: a position of the caller's own is where it was.
    number = os.open(name, os.O_RDWR)
    os.lseek(number, 4, os.SEEK_SET)
    async with uring_loop.open(number, "rb", closefd=False) as file:
        assert await file.read(3) == b"TWO"
    os.close(number)
    assert (await paths.stat(name)).st_size == 14
    for call, arguments in (("statvfs", (folder,)), ("sendfile", (-1, -1, 0, 1))):
        try:
            await getattr(paths, call)(*arguments)
        except NotImplementedError:
            assert not hasattr(os, call)
        except OSError:
            assert call == "sendfile"
    ends = os.pipe()
    async with uring_loop.open(ends[1], "wb") as file:
        await file.write(b"through a pipe")
    async with uring_loop.open(ends[0], "rb") as file:
        assert await file.read() == b"through a pipe"
    before = len(os.listdir("/proc/self/fd"))
    try:
        await uring_loop.open(folder)
    except OSError as error:
        assert error.filename == folder
    assert len(os.listdir("/proc/self/fd")) == before
    await paths.replace(name, name + "2")
    assert await paths.listdir(folder) == ["file2"]
    await paths.unlink(name + "2")
"""

OTHERS = ["darwin", "win32", "freebsd14", "linux"]


def elsewhere(platform, text, tmp_path, **environment):
    program = PRETEND + EXERCISE + FILES + f"pretend({platform!r})\n" + textwrap.dedent(text)
    return child(program.replace("FOLDER", repr(str(tmp_path))), **environment)


def test_package_without_compiled_modules_has_no_loops_of_ours_to_watch_or_count(tmp_path):
    text = """
        import uring_loop
        from uring_loop import metrics
        async def main():
            return metrics.running_loops()
        print(uring_loop.run(main()))
        try:
            uring_loop.watch_blocking(0.1)
        except RuntimeError as error:
            print(error)
    """
    out, _ = elsewhere("linux", text, tmp_path)
    assert out.splitlines() == ["[]", "watch_blocking() needs uring_loop's compiled modules"]


@pytest.mark.parametrize("platform", OTHERS)
def test_package_without_compiled_modules_imports_with_all_its_names(platform, tmp_path):
    text = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import uring_loop
        from uring_loop import *
        for name in dir(uring_loop):
            getattr(uring_loop, name)
        print(issubclass(uring_loop.EventLoop, asyncio.AbstractEventLoop))
    """
    out, _ = elsewhere(platform, text, tmp_path)
    assert out == "True"


@pytest.mark.parametrize("platform", OTHERS)
def test_loop_is_asyncios_of_that_platform_with_our_methods(platform, tmp_path):
    text = """
        import json, uring_loop
        loop = uring_loop.new_event_loop()
        windows = sys.platform == "win32"
        assert isinstance(loop, asyncio.ProactorEventLoop if windows else asyncio.SelectorEventLoop)
        assert (loop.driver, loop.features, loop.statistics()) == ("asyncio", (), {})
        report = loop.report()
        assert (report["driver"], report["ring"], report["features"]) == ("asyncio", None, {})
        json.dumps(report)
        if not windows:
            loop.run_until_complete(exercise())
        loop.run_until_complete(use_files(FOLDER))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert loop.report() == report
        print(report["reason"])
    """
    out, log = elsewhere(platform, text, tmp_path)
    if platform == "linux":
        assert out == "the compiled modules are missing"
        assert log == (
            "using asyncio's event loop: the compiled modules are missing; install a wheel,"
            " or the source where there are a C compiler and liburing"
        )
    else:
        assert (out, log) == (f"{platform} has no io_uring", "")


@pytest.mark.parametrize("platform", OTHERS)
def test_run_and_files_work_by_threads(platform, tmp_path):
    text = """
        import uring_loop
        async def main():
            await use_files(FOLDER)
            return asyncio.get_running_loop().driver
        print(uring_loop.run(main()))
    """
    assert elsewhere(platform, text, tmp_path)[0] == "asyncio"


@pytest.mark.parametrize("platform", OTHERS)
def test_arguments_are_those_of_linux(platform, tmp_path):
    text = """
        import uring_loop
        uring_loop.EventLoop("auto", disable=["ext_arg"]).close()
        uring_loop.EventLoop(driver="selector").close()
        for driver, error in (("uring", RuntimeError), ("epoll", ValueError)):
            try:
                uring_loop.EventLoop(driver)
            except error as exc:
                print(exc)
        os.environ["URING_LOOP_DRIVER"] = "kqueue"
        try:
            uring_loop.new_event_loop()
        except ValueError as exc:
            print(exc)
    """
    out, _ = elsewhere(platform, text, tmp_path)
    forced, unknown, variable = out.splitlines()
    assert forced.startswith("the uring driver cannot run: ")
    assert unknown == "driver must be 'uring', 'selector' or 'auto', not 'epoll'"
    assert variable == "URING_LOOP_DRIVER must be 'uring', 'selector' or 'auto', not 'kqueue'"


@pytest.mark.parametrize("platform", OTHERS)
def test_loop_that_is_refused_says_nothing_more_when_it_is_forgotten(platform, tmp_path):
    text = """
        import gc, uring_loop
        for arguments in (("uring",), ("epoll",), (1, 2, 3)):
            try:
                uring_loop.EventLoop(*arguments)
            except (RuntimeError, ValueError, TypeError):
                pass
        gc.collect()
        # What is made and forgotten is still warned of.
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop = uring_loop.EventLoop()
            print(loop.is_closed())
            del loop
            gc.collect()
        print(any("unclosed event loop" in str(entry.message) for entry in caught))
    """
    out, log = elsewhere(platform, text, tmp_path)
    assert out.split() == ["False", "True"]
    assert "Exception ignored" not in log


@pytest.mark.parametrize("platform", OTHERS)
def test_doctor_passes_what_the_platform_has_and_exits_with_1(platform, tmp_path):
    text = """
        from uring_loop._internal.doctor import main
        print("status", main([]))
        print("status", main(["--json"]))
    """
    out, _ = elsewhere(platform, text, tmp_path)
    assert out.count("status 1") == 2
    assert "Driver: asyncio" in out
    assert "FAILED" not in out
    assert "tcp                ok" in out
    assert ("signals            ok" in out) == (platform != "win32")
    assert ("Cure: install a wheel" in out) == (platform == "linux")


def test_another_python_on_linux_gets_asyncios_loop_and_its_name_is_told(tmp_path):
    text = """
        sys.implementation.name = "pypy"
        import uring_loop
        loop = uring_loop.new_event_loop()
        loop.run_until_complete(exercise())
        print(loop.report()["reason"])
        loop.close()
    """
    out, log = elsewhere("linux", text, tmp_path)
    assert out == "uring_loop is not made for pypy"
    assert log == "using asyncio's event loop: uring_loop is not made for pypy; run it with CPython"


def test_compiled_module_that_cannot_be_loaded_is_an_error_and_not_hidden(tmp_path):
    text = """
        import importlib.machinery
        Hidden.names.clear()
        class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def find_spec(self, name, path, target=None):
                if name == "uring_loop._core":
                    return importlib.machinery.ModuleSpec(name, self)
            def create_module(self, spec):
                raise ImportError("undefined symbol: PyNothing", name=spec.name)
            def exec_module(self, module):
                pass
        sys.meta_path.insert(0, Broken())
        import uring_loop
        try:
            uring_loop.new_event_loop()
        except ImportError as error:
            print(error)
    """
    assert elsewhere("linux", text, tmp_path) == ("undefined symbol: PyNothing", "")


# The source distribution.

SETUP = """
import runpy, sys
import setuptools  # which looks at the name as well
sys.implementation.name = "another"
sys.argv = ["setup.py", "-q", *sys.argv[1:]]
runpy.run_path("setup.py", run_name="__main__")
"""


def run_setup(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", SETUP, *arguments],
        cwd=folder,
        # What would compile does not exist.
        env={**os.environ, "CC": "/nonexistent/cc", "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_source_distribution_builds_a_pure_wheel_where_nothing_can_be_compiled(tmp_path):
    pytest.importorskip("setuptools", "77", reason="setuptools, which builds it, is missing")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    package = ROOT / "uring_loop"
    for path in [*package.rglob("*.py"), package / "py.typed"]:
        (source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        (source / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    run_setup(source, "bdist_wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        requirements = archive.read(metadata).decode()
    expected = ("_internal/loop.py", "files/os.py", "py.typed", "_site/sitecustomize.py")
    assert {f"uring_loop/{name}" for name in expected} <= set(names)
    assert not any(name.endswith((".so", ".c")) for name in names)
    # cffi only where there is something compiled.
    for line in requirements.splitlines():
        if line.startswith("Requires-Dist: cffi"):
            assert 'sys_platform == "linux"' in line
            assert 'implementation_name == "cpython"' in line
    # An index shows the README, where a link has to say to whom it leads.
    page = requirements.partition("\n\n")[2]
    links = re.findall(r"\]\(([^)\s]+)\)", page)
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    # And what it installs works, on the same grounds.
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    assert sysconfig.get_config_var("EXT_SUFFIX") not in " ".join(names)
    text = """
        import sys
        sys.path.insert(0, FOLDER)
        sys.platform = "darwin"
        import uring_loop
        print(uring_loop.__file__.startswith(FOLDER), uring_loop.new_event_loop().driver)
    """
    program = textwrap.dedent(text).replace("FOLDER", repr(str(tmp_path / "installed")))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["True", "asyncio"], done.stderr
