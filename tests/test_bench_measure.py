"""How the benchmark measures: its processes, their command lines, and what goes wrong with them.

Servers and loads are scripts here that answer what they are to answer.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from marks import needs_compiler

from uring_loop._internal.bench import (
    build,
    command,
    comparison,
    loops,
    measure,
    micro,
    report,
    rows,
)

ROW = measure.Row("made_up", "protocol")
Server = measure.Server


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Makes what would be compiled a script with these lines."""

    def make(name, *lines):
        path = tmp_path / name
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        programs[name] = path

    programs = {}
    monkeypatch.setattr(build, "program", programs.__getitem__)
    return make


@pytest.fixture
def server(monkeypatch):
    """A server that runs these lines of a shell, and not Python."""

    def make(*lines, row=ROW, **options):
        made = Server("a loop", row, **options)
        monkeypatch.setattr(made, "command", lambda: ["sh", "-c", "\n".join(lines)])
        return made

    return make


def said(**answer):
    return f"echo '{json.dumps(answer)}'"


LISTENS = ('echo "{\\"port\\": 7, \\"unix\\": \\"/socket\\", \\"pid\\": $$}"', "cat >/dev/null")


# ---- the server's process --------------------------------------------------------------------


def test_server_that_says_what_is_missing_is_an_error_of_its_row(server):
    with pytest.raises(measure.MeasureError, match="^no such framework$"):
        server(said(error="no such framework")).__enter__()


def test_server_that_ends_without_a_word_is_an_error_of_its_row(server):
    text = "^a loop: the server for made_up did not start$"
    with pytest.raises(measure.MeasureError, match=text):
        server("exit 1").__enter__()


def test_server_that_does_not_end_with_its_input_is_killed(server, monkeypatch):
    monkeypatch.setattr(measure, "STOP_SECONDS", 0.05)
    with server(LISTENS[0], "exec sleep 100") as running:
        assert running.processes() == [running.pid]
    assert running._process.returncode == -9


def test_process_that_has_gone_is_an_error_of_its_row():
    process = subprocess.Popen(["true"])
    process.wait()
    for ask in (measure.cpu_seconds, measure.memory_bytes):
        with pytest.raises(measure.MeasureError, match=f"^the server {process.pid} has gone: "):
            ask(process.pid)
    assert measure.cpu_seconds(os.getpid()) > 0
    assert measure.memory_bytes(os.getpid()) > 0


def test_server_and_load_have_a_core_each_where_there_are_two(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5})
    assert measure.cores() == (5, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2})
    assert measure.cores() == (None, None)


@pytest.mark.parametrize(
    ("row", "given", "last"),
    [
        (measure.Row("r", "streams", unix=True), "--kind streams", "--unix DIRECTORY/socket"),
        (measure.Row("r", "protocol", tls=True), "--kind protocol", "--tls"),
        (measure.Row("r", "http"), "--kind http", ""),
    ],
)
@pytest.mark.parametrize("core", [None, 3])
def test_servers_command_line_says_where_it_listens_and_runs(monkeypatch, row, given, last, core):
    commands = []

    def start(command, **options):
        commands.append(command)
        raise InterruptedError

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(measure, "cores", lambda: (core, core))
    server = measure.Server("uring", row)
    with pytest.raises(InterruptedError):
        server.__enter__()
    server._directory.cleanup()
    expected = f"{sys.executable} -m {measure.SERVERS} --loop uring {given} {last}".split()
    expected += [] if core is None else ["--core", "3"]
    assert commands == [[part.replace("DIRECTORY", server._directory.name) for part in expected]]


def test_floors_command_line_has_the_least_buffer_that_is_enough(program):
    for name in ("floor", "floor_tls"):
        program(name)
    for size, tls, expected in ((64, False, 4 << 10), (5000, True, 32 << 10)):
        row = measure.Row("r", "protocol", size=size, tls=tls)
        path, *rest = measure.server_command(measure.FLOOR, row)
        assert pathlib.Path(path).name == ("floor_tls" if tls else "floor")
        assert rest == ["--buffer-size", str(expected)]
    assert measure.has_floor(rows.ROWS["echo_100k"])
    assert not measure.has_floor(measure.Row("r", "protocol", size=100 << 10, in_flight=16))
    assert not measure.has_floor(rows.ROWS["streams_1k"])


# ---- the load --------------------------------------------------------------------------------

COUNTED = {
    "messages": 10,
    "seconds": 2.0,
    "server_cpu_seconds": 0.001,
    "load_cpu_seconds": 0.5,
    "p50_us": 3.0,
    "p99_us": 4.0,
}


def test_load_is_told_all_of_its_row_and_tells_what_it_saw(program, server, tmp_path):
    script = (f'echo "$@" >{tmp_path}/said', said(**COUNTED, server_calls=20, calls_how="made up"))
    for name in ("load", "load_tls"):
        program(name, *script)
    with server(*LISTENS) as running:
        running.load_core = None
        seen = running.load(0.5, 0.1, messages=9, count_calls=True)
        assert (tmp_path / "said").read_text() == (
            "--tcp 7 --mode echo --connections 100 --size 1024 --in-flight 1 --idle 0"
            f" --seconds 0.5 --messages 9 --warm-up 0.1 --server {running.pid} --count-calls\n"
        )
    assert (seen.messages, seen.per_second, seen.cpu_us) == (10, 5.0, 100.0)
    assert (seen.load_share, seen.calls, seen.calls_how) == (0.25, 2.0, "made up")
    row = measure.Row("r", "x", tls=True, resume=True, shape="lines", idle=3, connections=1)
    with server(*LISTENS, row=row) as running:
        running.load_core = 4
        running.load()
        words = (tmp_path / "said").read_text()
        assert "--idle 3" in words
        assert "--tls --resume --shape lines --speak --core 4" in words
    for where, row in (("--unix /socket", {"unix": True}), ("--udp 7", {"udp": True})):
        with server(*LISTENS, row=measure.Row("r", "x", **row)) as running:
            running.load()
            assert (tmp_path / "said").read_text().startswith(where)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (["echo it broke >&2", "exit 1"], "it broke"),
        (["exit 3"], "the load ended with status 3"),
        (
            [said(errors=2, first_error="a wrong byte"), "exit 1"],
            "2 errors, the first: a wrong byte",
        ),
    ],
)
def test_load_that_ends_badly_says_why(program, server, script, text):
    program("load", *script)
    with server(*LISTENS) as running:
        with pytest.raises(measure.MeasureError, match=f"^a loop, made_up: {text}$"):
            running.load()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ([said(ready=1, errors=1), said(errors=1, first_error="refused")], "1 of 2.*: refused"),
        (["exit 1"], "2 of 2 held connections: the load generator gave up"),
        (
            [said(ready=2, errors=0), "cat >/dev/null", said(errors=1, first_error="reset")],
            "1 of 2 held connections: reset",
        ),
    ],
)
def test_connections_that_were_not_held_are_an_error(program, server, script, text):
    program("load", *script)
    with server(*LISTENS) as running:
        with pytest.raises(measure.MeasureError, match=f"^a loop: {text}$"):
            with running.hold(2, speak=True):
                pass


@needs_compiler
def test_held_connections_cost_something_once_the_server_rests():
    memory, cpu = measure.hold_cost("selector", rows.IDLE, 20, speak=True)
    assert memory >= 0
    assert cpu > 0


def test_server_that_never_rests_is_an_error(program, server, monkeypatch):
    program("load", said(ready=1, errors=0), "cat >/dev/null", said(errors=0))
    made = server(*LISTENS)
    clock = iter(range(1000))
    monkeypatch.setattr(measure, "Server", lambda loop, row: made)
    monkeypatch.setattr(measure, "SETTLE_LOOKS", 3)
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(measure, "cpu_seconds", lambda process: next(clock))
    with pytest.raises(measure.MeasureError, match="^a loop: the server does not come to rest$"):
        measure.hold_cost("a loop", ROW, 1, speak=False)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"server_calls": 20, "calls_how": "tracepoint"}, [], (2.0, "tracepoint")),
        ({}, [said(**COUNTED, server_calls=30, calls_how="ptrace")], (3.0, "ptrace")),
        ({}, ["exit 1"], (None, "neither the tracepoint nor ptrace is allowed here (a loop, m")),
    ],
)
def test_system_calls_are_counted_by_what_is_allowed(
    program, server, monkeypatch, first, second, expected
):
    program("load", 'case "$*" in *--counter*)', *second, ";; *)", said(**COUNTED, **first), "esac")
    # Which runs what follows, and counts.
    program("trace_calls", 'shift; exec "$@"')
    monkeypatch.setattr(
        measure, "Server", lambda loop, row, trace=None: server(*LISTENS, row=row, trace=trace)
    )
    calls, how = measure.count_calls("a loop", ROW)
    assert (calls, how[: len(expected[1])]) == expected


# ---- comparing -------------------------------------------------------------------------------


def failing(*arguments, **options):
    raise measure.MeasureError("it broke")


def test_row_that_failed_once_is_not_tried_again_and_the_others_go_on(monkeypatch):
    tried = []

    def take(loop, row, seconds, warm_up):
        tried.append(loop)
        if loop == "uring":
            failing()
        return measure.sample(COUNTED)

    monkeypatch.setattr(measure, "measure", take)
    monkeypatch.setattr(measure, "count_calls", lambda loop, row: (4.0, "made up"))
    taken = {"asyncio": "asyncio", "uring": "uring", "floor": "floor"}
    found = comparison.compare_load("streams_1k", taken, 3, 0.1, calls=True)
    # No floor reads lines.
    assert (tried.count("asyncio"), tried.count("uring"), tried.count("floor")) == (3, 1, 0)
    assert found.cells["uring"].error == "it broke"
    assert found.cells["asyncio"].values == [100.0] * 3
    assert found.cells["asyncio"].calls == 4.0


def test_callbacks_of_a_loop_that_cannot_do_them_are_asked_for_once():
    class Worker:
        asked = 0

        def sample_ns(self, name):
            self.asked += 1
            raise loops.Unavailable("NotImplementedError: no pipes")

    worker, cell = Worker(), report.Cell()
    for _ in range(3):
        assert comparison.callback_sample(worker, cell, "pipe_1k") is None
    assert (worker.asked, cell.error) == (1, "NotImplementedError: no pipes")


def test_rows_with_a_process_for_each_value_take_what_they_say(monkeypatch):
    monkeypatch.setattr(
        measure,
        "hold_cost",
        lambda loop, row, count, speak: (500.0 if speak else 300.0, 2e-6),
    )
    assert comparison.take_other("idle_connection_memory", "uring") == 300.0
    assert comparison.take_other("spoken_connection_memory", "uring") == 500.0
    assert comparison.take_other("accept_and_hold", "uring") == pytest.approx(2.0)
    assert comparison.take_other("idle_loop_memory", "selector") > 1
    monkeypatch.setattr(measure, "hold_cost", failing)
    found = comparison.compare_other("accept_and_hold", {"uring": "uring"}, 3)
    assert found.cells["uring"].error == "it broke"


def test_import_that_fails_is_an_error_of_its_row(monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(measure.MeasureError, match="^asyncio: the import failed$"):
        comparison.import_once("asyncio")


def test_loops_that_do_not_start_are_left_out_with_their_reason(monkeypatch):
    def no_compiler(name):
        raise build.NoCompiler(f"{name} needs a C compiler")

    monkeypatch.setattr(build, "program", no_compiler)
    good, lines = comparison.usable(["floor", "no_such_loop"])
    assert good == []
    assert lines[0] == "left out: floor needs a C compiler"
    assert lines[1].startswith("left out: no loop is called 'no_such_loop'")
    monkeypatch.setattr(build, "program", str)
    assert comparison.usable(["floor"]) == (["floor"], [])


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (loops.Recipe("no_such_module", "made up"), "No module named 'no_such_module'"),
        (loops.Recipe("asyncio", "made up", factory="no_such"), "has no attribute 'no_such'"),
        (
            loops.Recipe("asyncio", "made up", driver="uring"),
            "asked for the uring driver and got None",
        ),
    ],
)
def test_loop_that_cannot_be_made_says_why(monkeypatch, recipe, text):
    monkeypatch.setitem(loops.RECIPES, "made_up", recipe)
    with pytest.raises(loops.Unavailable, match=f"^made_up: .*{text}$"):
        loops.create("made_up")


def test_loops_to_compare_are_the_standard_ones_and_those_that_are_installed(monkeypatch):
    monkeypatch.setattr(loops, "PEERS", ("here", "missing"))
    monkeypatch.setitem(loops.RECIPES, "here", loops.Recipe("json", "made up", over="asyncio"))
    monkeypatch.setitem(loops.RECIPES, "missing", loops.Recipe("no_such_module", "made up"))
    assert loops.defaults() == [*loops.STANDARD, "here"]


# ---- the command -----------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch):
    """A comparison that gives these results."""

    def make(*results):
        monkeypatch.setattr(comparison, "usable", lambda names: (list(names), []))
        monkeypatch.setattr(comparison, "compare", lambda *arguments: list(results))

    return make


def result(**cells):
    return report.Result("row", "us", "made up", cells)


def test_bench_without_any_loop_that_starts_says_so_and_exits_with_1(monkeypatch, capsys):
    monkeypatch.setattr(comparison, "usable", lambda names: ([], ["left out: all"]))
    assert command.main(["--loops", "uring"]) == 1
    assert capsys.readouterr().err == "left out: all\n"


@pytest.mark.parametrize(("loop", "status"), [("uring", 1), ("selector", 1), ("uvloop", 0)])
def test_bench_whose_row_failed_names_it_and_fails_if_the_loop_is_ours(
    compared, capsys, loop, status
):
    compared(result(asyncio=report.Cell([1.0]), **{loop: report.Cell(error="it broke")}))
    arguments = ["--rows", "sleep_0", "--loops", f"asyncio,{loop}", "--control", "none"]
    assert command.main([*arguments, "--against", "asyncio"]) == status
    shown = capsys.readouterr().out
    assert f"failed: row on {loop}: it broke" in shown
    assert "itself" not in shown


def test_bench_says_where_calls_were_counted_by_ptrace(compared, capsys):
    compared(result(uring=report.Cell([1.0], calls=2.0, calls_how="ptrace")))
    assert command.main(["--rows", "sleep_0", "--loops", "uring"]) == 0
    assert "calls were counted with ptrace" in capsys.readouterr().out


def test_bench_that_is_interrupted_exits_with_130(monkeypatch, compared):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    compared()
    monkeypatch.setattr(comparison, "compare", interrupt)
    assert command.main(["--rows", "sleep_0", "--loops", "uring"]) == 130


def test_value_of_nothing_has_no_ratio():
    """Memory of few connections may come to nothing."""
    row = result(asyncio=report.Cell([100.0]), uring=report.Cell([0.0]))
    assert row.ratio("uring", "asyncio") is None
    assert row.ratio("uring", "uvloop") is None
    shown = report.values_table([row], ["asyncio", "uring", "uvloop"], "asyncio")
    assert shown.splitlines()[-1].rstrip().endswith("-")


# ---- compiling -------------------------------------------------------------------------------


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """What compiles, as a script with these lines; and where the programs go."""

    def make(*lines):
        path = tmp_path / "compiler"
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        monkeypatch.setenv("CC", str(path))
        monkeypatch.setenv("URING_LOOP_BENCH_BUILD", str(tmp_path / "build"))

    return make


def test_program_is_compiled_once_and_not_half(compiler, tmp_path):
    compiler(f"echo run >>{tmp_path}/runs", 'while [ "$1" != -o ]; do shift; done', 'echo >"$2"')
    for _ in range(2):
        assert build.program("load") == tmp_path / "build" / "load"
    assert (tmp_path / "runs").read_text() == "run\n"
    assert os.listdir(tmp_path / "build") == ["load"]


def test_program_that_does_not_compile_says_the_first_line_of_why(compiler):
    compiler("echo no header >&2", "echo more >&2", "exit 1")
    with pytest.raises(build.NoCompiler, match="^load does not compile: no header$"):
        build.program("load")


def test_program_without_a_compiler_says_what_to_install(compiler, monkeypatch):
    compiler()
    monkeypatch.delenv("CC")
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(build.NoCompiler, match="^load needs a C compiler: install gcc"):
        build.program("load")


def test_programs_of_an_installed_package_are_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.delenv("URING_LOOP_BENCH_BUILD", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build._build_directory() == tmp_path / f"uring_loop-{build.__version__}"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(build._build_directory()).startswith("/home/somebody/.cache/uring_loop-")


def test_callbacks_and_load_have_no_row_of_the_same_name():
    assert not {*micro.ROWS, micro.LOOP_LIFE} & {*rows.ROWS, *comparison.OTHER_UNITS}
