#!/usr/bin/env python3
"""Other projects' own test suites, with our loop in place of asyncio's.

    python tests/conformance/neighbours.py                       all, on each loop
    python tests/conformance/neighbours.py --project anyio --driver uring
    python tests/conformance/neighbours.py --project anyio -- -k datagram

aiohttp and anyio in the versions that are installed here, Tornado in its newest.
Their source distributions are fetched, for the tests, and what these need is
installed into an environment of its own, in build/neighbours.  A suite runs on
stock asyncio first, as the control: what fails there as well is not counted.
What fails on ours only is tried again, with the rest of its file, and counts if it
fails again.  What cannot pass on another loop than asyncio's is listed below by name.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PLACE = ROOT / "build" / "neighbours"
sys.path.insert(0, str(HERE))

import children  # noqa: E402

DRIVERS = ("asyncio", "selector", "uring")
TEST_SECONDS = 120
SUITE_SECONDS = 2400


@dataclass(frozen=True)
class Project:
    """A project, and how its tests run."""

    name: str
    needs: tuple[str, ...]
    """What its tests want to have installed."""
    arguments: tuple[str, ...]
    """pytest's."""
    environment: dict[str, str] = field(default_factory=dict)
    silenced: tuple[str, ...] = ()
    """Loggers that its own runner silences, and its tests want to be silent."""
    expected: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Reason -> the tests that fail on ours for it."""


PROJECTS = {
    project.name: project
    for project in (
        Project(
            "aiohttp",
            (
                "aiohttp[speedups]",
                "blockbuster",
                "coverage",
                "freezegun",
                "gunicorn",
                "proxy.py>=2.4.4rc5",
                "pytest-mock",
                "pytest-timeout",
                "pytest-xdist",
                "re-assert",
                "setuptools-git",
                "trustme",
            ),
            # Its own options want coverage and its doctests; benchmarks measure.
            (
                "-o",
                "addopts=",
                "--strict-markers",
                "--ignore-glob=tests/test_benchmarks*",
                "--ignore=tests/autobahn",
                "-m",
                "not dev_mode and not autobahn and not internal",
                "tests",
            ),
        ),
        Project(
            "anyio",
            (
                "blockbuster",
                "exceptiongroup",
                "hypothesis",
                "psutil",
                "pytest>=9",
                "pytest-mock",
                "pytest-timeout",
                "trustme",
                "truststore",
            ),
            ("-m", "not network", "tests"),
        ),
        Project(
            "tornado",
            ("pytest", "pytest-timeout"),
            # As its own runner has them: a warning is an error, but for those of others.
            (
                "-o",
                "python_files=*_test.py",
                "-o",
                "python_classes=",
                "-W",
                "error",
                "-W",
                "ignore::ImportWarning",
                "-W",
                "ignore::DeprecationWarning",
                "-W",
                "ignore::PendingDeprecationWarning",
                "--pyargs",
                "tornado.test",
            ),
            {"ASYNC_TEST_TIMEOUT": "60"},
            ("tornado.access",),
        ),
    )
}


def version_of(name):
    """Of what is installed here; None, which is the newest, if nothing is."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def pip(python, *arguments):
    command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


def fetch(project):
    """The unpacked source distribution."""
    version = version_of(project.name)
    wanted = f"{project.name}=={version}" if version else project.name
    sources = PLACE / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    found = sorted(sources.glob(f"{project.name}-{version or '*'}"))
    if not found:
        with tempfile.TemporaryDirectory() as folder:
            options = ("--no-deps", "--no-binary", project.name, "--dest", folder)
            pip(sys.executable, "download", *options, wanted)
            (archive,) = pathlib.Path(folder).iterdir()
            with tarfile.open(archive) as tar:
                tar.extractall(sources, filter="data")
        found = sorted(sources.glob(f"{project.name}-*"))
        # What is tested is installed, with all that is compiled.
        shutil.rmtree(found[-1] / project.name, ignore_errors=True)
    return found[-1]


def environment(project, source):
    """The interpreter of an environment with the project, of that version, and its tests' needs."""
    version = source.name.removeprefix(f"{project.name}-")
    folder = PLACE / f"{source.name}-{sys.implementation.cache_tag}"
    python = folder / "bin" / "python"
    stamp = folder / "ready"
    if not stamp.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip(python, "install", "cffi", f"{project.name}=={version}", *project.needs)
        stamp.touch()
    return python


@dataclass
class Result:
    """What became of a suite."""

    outcomes: dict[str, str] = field(default_factory=dict)
    """Test -> passed, skipped, failed or died."""
    details: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
    """Why it was not run to its end."""
    seconds: float = 0.0

    @property
    def failures(self):
        return {name for name, outcome in self.outcomes.items() if outcome in ("failed", "died")}

    def line(self, project, driver):
        counts = Counter(self.outcomes.values())
        words = "  ".join(f"{outcome} {number}" for outcome, number in sorted(counts.items()))
        return f"{project.name:10} {driver:9} {words}  {self.seconds:.0f} s"


def run_suite(project, source, driver, arguments=(), only=()):
    """Run the tests in one process; in another one go on behind a test that killed it."""
    python = environment(project, source)
    result = Result()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="neighbours-") as name:
        folder = pathlib.Path(name)
        (folder / "only").write_text("\n".join(only), "utf-8")
        while True:
            left = SUITE_SECONDS - (time.monotonic() - started)
            (folder / "skip").write_text("\n".join(result.outcomes), "utf-8")
            (folder / "out").unlink(missing_ok=True)
            with open(folder / "said", "wb") as said:
                status = _run_child(project, source, python, driver, arguments, folder, said, left)
            running, finished = _read(folder / "out", result)
            if finished:
                break
            tail = (folder / "said").read_text("utf-8", errors="replace")[-4000:]
            if running is None:
                result.trouble = f"the process ended outside of any test ({status})\n{tail}"
                break
            result.outcomes[running] = "died"
            result.details[running] = f"exit status {status}\n{tail}"
            if status is None:
                result.trouble = f"not done within {SUITE_SECONDS} s"
                break
    result.seconds = time.monotonic() - started
    return result


def _run_child(project, source, python, driver, arguments, folder, said, seconds):
    command = [python, HERE / "neighbours_child.py", "--driver", driver]
    for name in ("out", "skip", "only"):
        command += [f"--{name}", folder / name]
    for logger in project.silenced:
        command += ["--silence", logger]
    command += ["--", "-p", "no:cacheprovider", f"--timeout={TEST_SECONDS}", "-q"]
    command += [*project.arguments, *arguments]
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "URING_LOOP_"))}
    variables |= project.environment
    if driver != "asyncio":
        variables["URING_LOOP_DRIVER"] = driver
    return children.run(command, source, variables, said, max(seconds, 0))


def _read(path, result):
    """Take in what a child wrote; the test that was running at its end, and whether it finished."""
    running, finished = None, False
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        line = json.loads(text)
        if "begin" in line:
            running = line["begin"]
        elif "end" in line:
            running = None
            result.outcomes[line["end"]] = line["outcome"]
            if line["detail"]:
                result.details[line["end"]] = line["detail"]
        else:
            finished = True
    return running, finished


def judge(project, source, driver, result, control, arguments):
    """What is wrong with our result, as lines."""
    wrong = []
    expected = {name: reason for reason, names in project.expected.items() for name in names}
    suspects = result.failures - control.failures - set(expected)
    # Once more, among the tests of their own files.
    files = {name.partition("::")[0] for name in suspects}
    neighbours = [name for name in result.outcomes if name.partition("::")[0] in files]
    again = run_suite(project, source, driver, arguments, neighbours) if suspects else Result()
    for name in sorted(suspects):
        if again.outcomes.get(name) == "passed":
            print(f"    {name}: failed once, and not again", flush=True)
        else:
            wrong.append(f"{name}: {result.outcomes[name]}")
    if result.trouble:
        wrong.append(result.trouble)
    if not arguments:
        missing = set(control.outcomes) - set(result.outcomes)
        wrong += [f"{name}: not run" for name in sorted(missing)]
        for name in sorted(set(expected) - result.failures):
            wrong.append(f"{name}: expected to fail, and did not: delete its entry")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", action="append", choices=PROJECTS)
    parser.add_argument("--driver", action="append", choices=DRIVERS[1:])
    parser.add_argument("arguments", nargs="*", help="pytest's, after `--`")
    options = parser.parse_args()
    # Or the suite would go on alone.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    count = 0
    for name in options.project or PROJECTS:
        project = PROJECTS[name]
        source = fetch(project)
        control = run_suite(project, source, "asyncio", options.arguments)
        print(f"{control.line(project, 'asyncio')}  ({source.name})", flush=True)
        for failure in sorted(control.failures):
            print(f"    {failure}: on asyncio as well")
        if "passed" not in control.outcomes.values():
            control.trouble = control.trouble or "not one passed"
        if control.trouble:
            print(f"    {control.trouble}")
            count += 1
        for driver in options.driver or DRIVERS[1:]:
            result = run_suite(project, source, driver, options.arguments)
            print(result.line(project, driver), flush=True)
            wrong = judge(project, source, driver, result, control, options.arguments)
            for text in wrong:
                detail = result.details.get(text.partition(": ")[0], "")
                print("    " + "\n        ".join([text, *detail.splitlines()]), flush=True)
            count += len(wrong)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
