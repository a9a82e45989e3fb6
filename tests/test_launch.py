"""`python -m uring_loop run`, the hook, URING_LOOP_AUTO: programs that know nothing of us."""

import os
import pathlib
import subprocess
import sys
import textwrap
import zipfile

import pytest

import uring_loop
from uring_loop import _everywhere as everywhere
from uring_loop._internal import hook

PACKAGE = pathlib.Path(uring_loop.__file__).parent
# What the package needs, for interpreters of other environments.
IMPORTABLE = os.pathsep.join(dict.fromkeys([str(PACKAGE.parent), *filter(os.path.isdir, sys.path)]))

LOOP = """
import asyncio
async def main():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]
"""

PROGRAM = """
import sys, __main__
assert vars(__main__) is globals()
spec = __spec__ and (__spec__.name, __spec__.origin, __spec__.parent)
print(sys.argv, sys.path[0], __name__, globals().get("__file__"), __package__, spec)
print(sorted(globals()), type(__loader__).__name__)
print(sys.excepthook is sys.__excepthook__)

def fail():
    raise ValueError("as it was told")

match sys.argv[1:]:
    case ["fail"]:
        fail()
    case ["fail", "twice"]:
        try:
            fail()
        except ValueError:
            1 / 0
    case ["exit", status]:
        sys.exit(int(status))
    case ["interrupt"]:
        raise KeyboardInterrupt
"""


def run_python(*arguments, python=sys.executable, cwd=None, **environment):
    variables = {**os.environ, "PYTHONPATH": IMPORTABLE, **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    return subprocess.run(
        [python, *map(str, arguments)],
        env=variables,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=50,
    )


def launch(*arguments, **options):
    return run_python("-m", "uring_loop", "run", *arguments, **options)


def without_runpy(text):
    """A traceback without the lines of runpy, which `run` leaves out as it does its own."""
    return "\n".join(line for line in text.splitlines() if "<frozen runpy>" not in line)


@pytest.fixture
def programs(tmp_path):
    """The same program in every form that Python runs."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "broken.py").write_text("def f(:\n")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PROGRAM)
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", PROGRAM)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "linked.py").symlink_to(tmp_path / "program.py")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "program.py -m --all a",
        "program.py fail",
        "program.py fail twice",
        "program.py exit 7",
        "program.py interrupt",
        "link/linked.py",
        "package fail",
        "archive.zip fail",
        "-m program exit 3",
        "-m package fail",
        "-m package.missing",
        "-m missing",
        "missing.py",
        "broken.py",
        "-c print(__name__,list(globals())) a",
    ],
)
def test_program_sees_what_python_itself_would_show_it(programs, command):
    arguments = command.split()
    expected = run_python(*arguments, cwd=programs)
    found = launch(*arguments, cwd=programs)
    assert found.returncode == expected.returncode
    assert found.stdout == expected.stdout
    assert without_runpy(found.stderr) == without_runpy(expected.stderr)


@pytest.mark.parametrize(
    "make",
    [
        "asyncio.run(main())",
        "asyncio.Runner().run(main())",
        "asyncio.new_event_loop().run_until_complete(main())",
    ],
)
def test_loops_that_asyncio_makes_by_itself_are_ours(make):
    done = launch("-c", f"{LOOP}\nprint({make})")
    assert "uring_loop" in done.stdout.split(), done.stderr


def test_asyncio_that_is_looked_for_before_it_is_imported_is_taken_over():
    """As `python -m asyncio` does; what it finds is asyncio's own, whoever asks for it."""
    code = LOOP + textwrap.dedent("""
        print(spec.loader.is_package("asyncio"), spec.loader.get_filename() == asyncio.__file__)
        print(asyncio.run(main()))
        print([finder for finder in sys.meta_path if "uring" in type(finder).__module__])
    """)
    look = "import importlib.util, sys\nspec = importlib.util.find_spec('asyncio')\n"
    path = os.pathsep.join([str(PACKAGE / "_site"), IMPORTABLE])
    done = run_python("-c", look + code, PYTHONPATH=path, URING_LOOP_AUTO="1")
    assert done.stdout.splitlines() == ["True True", "uring_loop", "[]"], done.stderr
    code = "import sys; sys.path.clear()\nimport asyncio"
    done = run_python("-c", code, PYTHONPATH=path, URING_LOOP_AUTO="1")
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'asyncio'"


def test_loops_asked_for_by_name_are_ours_with_all_only():
    ask = LOOP + textwrap.dedent("""
        import selectors
        def kind(loop):
            try:
                return loop.run_until_complete(main())
            finally:
                loop.close()
        print(kind(asyncio.SelectorEventLoop()))
        print(kind(asyncio.SelectorEventLoop(selectors.SelectSelector())))
    """)
    assert launch("-c", ask).stdout.split() == ["asyncio", "asyncio"]
    assert launch("--all", "-c", ask).stdout.split() == ["uring_loop", "asyncio"]


def test_uvloop_is_ours_with_all_installed_or_not():
    ask = LOOP + textwrap.dedent("""
        import importlib.util, uvloop
        from uvloop import EventLoopPolicy, Loop, install, new_event_loop, run
        print(importlib.util.find_spec("uvloop").name, uvloop.run(main()))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(runner.run(main()), isinstance(runner.get_loop(), Loop))
        try:
            uvloop.nothing_like_it
        except AttributeError as error:
            print(error)
    """)
    done = launch("--all", "-c", ask)
    assert done.stdout.splitlines() == [
        "uvloop uring_loop",
        "uring_loop True",
        "uring_loop, in the place of 'uvloop', has no 'nothing_like_it'",
    ], done.stderr


def test_spawned_and_started_children_are_on_our_loops(tmp_path):
    (tmp_path / "parent.py").write_text(
        LOOP
        + textwrap.dedent("""
        import multiprocessing, subprocess, sys
        def work(number):
            return asyncio.run(main())
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(work, [1]))
            code = "import parent, asyncio; print(asyncio.run(parent.main()))"
            subprocess.run([sys.executable, "-c", code])
        """)
    )
    done = launch("parent.py", cwd=tmp_path)
    assert done.stdout.splitlines() == ["['uring_loop']", "uring_loop"], done.stderr


def test_program_of_a_safe_path_has_nothing_put_in_front_of_it(programs):
    expected = run_python("-P", "program.py", "fail", cwd=programs)
    found = run_python("-P", "-m", "uring_loop", "run", "program.py", "fail", cwd=programs)
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)


def test_run_within_run_names_its_folder_to_children_once():
    ask = "import os; print(os.environ['PYTHONPATH'].split(os.pathsep))"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, *{['-c', ask]}])"
    again = ["-m", "uring_loop", "run", "-c", inner]
    outer = f"import subprocess, sys; subprocess.run([sys.executable, *{again}])"
    (found,) = launch("-c", outer).stdout.splitlines()
    assert found == str([str(PACKAGE / "_site"), *IMPORTABLE.split(os.pathsep)])


def test_children_run_the_sitecustomize_that_ours_hides(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('theirs', __name__, __file__)")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'pass'])"
    path = os.pathsep.join([str(tmp_path), IMPORTABLE])
    done = launch("-c", code, PYTHONPATH=path)
    assert done.stdout.splitlines() == [
        f"theirs sitecustomize {tmp_path / 'sitecustomize.py'}"
    ] * 2, done.stderr


def test_child_of_another_environment_is_left_alone(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    path = os.pathsep.join([str(PACKAGE / "_site"), str(tmp_path)])
    done = run_python(
        "-c",
        f"{LOOP}\nprint(asyncio.run(main()))",
        python=tmp_path / "venv" / "bin" / "python",
        PYTHONPATH=path,
        URING_LOOP_AUTO="1",
    )
    assert (done.stdout, done.stderr) == ("asyncio\n", "")


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense"], ["-m"], ["--all", "-c"], ["--all"]], ids=str
)
def test_run_without_a_program_exits_with_2_and_says_how_it_is_used(arguments):
    done = launch(*arguments)
    assert done.returncode == 2
    assert "usage: python -m uring_loop run" in done.stderr


# ---- the hook ------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path):
    """An environment with the hook: its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    assert run_python("-m", "uring_loop", "hook", "status", python=python).returncode == 1
    done = run_python("-m", "uring_loop", "hook", "install", python=python)
    assert done.returncode == 0, done.stderr
    return python


def test_hook_makes_an_environments_loops_ours_while_the_variable_is_set(environment):
    def kind(**variables):
        code = f"{LOOP}\nprint(asyncio.run(main()))"
        return run_python("-c", code, python=environment, **variables).stdout.strip()

    assert kind(URING_LOOP_AUTO=None) == "asyncio"
    assert kind(URING_LOOP_AUTO="0") == "asyncio"
    assert kind(URING_LOOP_AUTO="1") == "uring_loop"
    assert run_python("-m", "uring_loop", "hook", "status", python=environment).returncode == 0
    done = run_python("-m", "uring_loop", "hook", "remove", python=environment)
    assert (done.returncode, done.stdout.startswith("removed: ")) == (0, True)
    assert kind(URING_LOOP_AUTO="1") == "asyncio"
    again = run_python("-m", "uring_loop", "hook", "remove", python=environment)
    assert (again.returncode, again.stdout) == (0, "not installed\n")


def test_hook_imports_nothing_while_the_variable_is_not_set(environment):
    code = "import sys; print([name for name in sys.modules if 'uring' in name])"
    done = run_python("-c", code, python=environment, URING_LOOP_AUTO=None)
    assert done.stdout == "[]\n"


def test_hook_imports_no_asyncio_before_the_program_does(environment):
    code = textwrap.dedent("""
        import sys
        print("asyncio" in sys.modules, "uring_loop._internal" in sys.modules)
        import asyncio
        print(asyncio.__spec__.loader is asyncio.__loader__, type(asyncio.__loader__).__name__)
        print([finder for finder in sys.meta_path if "uring" in type(finder).__module__])
        print(asyncio.__spec__.name, asyncio.run.__module__)
    """)
    done = run_python("-c", code, python=environment, URING_LOOP_AUTO="1")
    assert done.stdout.splitlines() == [
        "False False",
        "True SourceFileLoader",
        "[]",
        "asyncio asyncio.runners",
    ], done.stderr


@pytest.mark.parametrize(
    "first",
    [
        "import uring_loop.workers",
        "import uring_loop; uring_loop.open",
        "import uring_loop; uring_loop.EventLoop",
        "import uring_loop; uring_loop.install",
        "import uring_loop._internal._stdlib",
        "import asyncio",
    ],
)
def test_whoever_imports_asyncio_first_gets_our_loops(environment, first):
    code = f"{first}\n{LOOP}\nprint(asyncio.run(main()))"
    done = run_python("-c", code, python=environment, URING_LOOP_AUTO="1")
    assert done.stdout == "uring_loop\n", done.stderr


def test_run_goes_further_than_the_hook_has(environment):
    code = "import asyncio; loop = asyncio.SelectorEventLoop(); print(loop.driver); loop.close()"
    command = ["-m", "uring_loop", "run", "--all", "-c", code]
    done = run_python(*command, python=environment, URING_LOOP_AUTO="1")
    assert done.stdout.strip() in ("uring", "selector"), done.stderr


def test_wrong_value_is_named_and_the_program_runs(environment):
    done = run_python("-c", "print('runs')", python=environment, URING_LOOP_AUTO="yes")
    assert done.stdout == "runs\n"
    assert "URING_LOOP_AUTO must be '0', '1' or 'all', not 'yes'" in done.stderr


def test_hook_is_written_to_the_users_folder_where_the_environments_is_not_to_be(
    monkeypatch, capsys, tmp_path
):
    own, users = tmp_path / "file" / hook.FILE, tmp_path / "user" / hook.FILE
    # No folder is made below what is a file.
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(hook.sysconfig, "get_path", lambda name: str(own.parent))
    monkeypatch.setattr(hook.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(hook.site, "getusersitepackages", lambda: str(users.parent))
    monkeypatch.delenv("URING_LOOP_AUTO", raising=False)
    assert hook.main(["status"]) == 1
    assert capsys.readouterr().out == "URING_LOOP_AUTO: not set\nnot installed\n"
    assert hook.main(["install"]) == 0
    assert capsys.readouterr().out == f"installed: {users}\n"
    assert users.read_text() == hook.LINE
    assert hook.main(["status"]) == 0
    assert capsys.readouterr().out == f"installed: {users}\nURING_LOOP_AUTO: not set\n"
    assert hook.main(["remove"]) == 0
    assert capsys.readouterr().out == f"removed: {users}\n"
    assert not users.exists()
    assert hook.main(["remove"]) == 0
    assert capsys.readouterr().out == "not installed\n"


def test_hook_that_cannot_be_written_says_so_and_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(hook, "places", lambda: ["/proc/nowhere/x.pth"])
    assert hook.main(["install"]) == 2
    assert "/proc/nowhere" in capsys.readouterr().err


# ---- where there is no policy, and the command line ------------------------------------


def test_loop_maker_takes_the_place_of_asyncios_own():
    """What takes over where there are no policies, which is from Python 3.16 on."""
    code = LOOP + textwrap.dedent("""
        import uring_loop
        from uring_loop._internal import _stdlib
        _stdlib.set_loop_maker(uring_loop.new_event_loop)
        print(asyncio.run(main()))
        with asyncio.Runner() as runner:
            print(runner.run(main()))
        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(main()))
        loop.close()
    """)
    done = run_python("-c", code)
    assert done.stdout.split() == ["uring_loop"] * 3, done.stderr


def test_module_alone_shows_every_command():
    done = run_python("-m", "uring_loop")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("doctor", "run", "hook", "--version"):
        assert command in done.stdout


def test_module_tells_its_version():
    done = run_python("-m", "uring_loop", "--version")
    assert done.stdout == f"uring_loop {uring_loop.__version__}\n"


def test_environment_is_asked_in_the_words_that_it_knows(monkeypatch):
    monkeypatch.delenv("URING_LOOP_AUTO", raising=False)
    assert everywhere.wanted() == everywhere.OFF
    monkeypatch.setenv("URING_LOOP_AUTO", "")
    assert everywhere.wanted() == everywhere.OFF
    monkeypatch.setenv("URING_LOOP_AUTO", "all")
    assert everywhere.wanted() == everywhere.ALL
    monkeypatch.setenv("URING_LOOP_AUTO", "yes")
    with pytest.raises(ValueError, match="^URING_LOOP_AUTO must be '0', '1' or 'all', not 'yes'$"):
        everywhere.wanted()


@pytest.mark.parametrize(
    ("asked", "reached"), [("0", "0"), ("", "0"), ("0", "1"), ("1", "1"), ("1", "all")]
)
def test_start_that_has_nothing_more_to_do_does_nothing(monkeypatch, asked, reached):
    def refuse(*arguments):
        raise AssertionError("asyncio is taken over")

    monkeypatch.setenv("URING_LOOP_AUTO", asked)
    monkeypatch.setattr(everywhere, "_reached", reached)
    monkeypatch.setattr(everywhere, "take_over", refuse)
    before = list(sys.meta_path), sys.modules.get("uvloop")
    everywhere.start()
    assert (list(sys.meta_path), sys.modules.get("uvloop")) == before
    assert everywhere._reached == reached
