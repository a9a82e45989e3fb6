"""python -m uring_loop run: a program, started as Python itself would, on our loops.

What the program sees (sys.argv, sys.path, __main__, tracebacks, the exit status) is what it
sees of `python script.py`, `python -m module` and `python -c code`.
"""

from __future__ import annotations

import argparse
import io
import os
import pkgutil
import sys
import types
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader

from .. import _everywhere as everywhere
from . import _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_USAGE = "python -m uring_loop run [--all] (-m MODULE | -c CODE | SCRIPT) [ARGUMENT ...]"
_DESCRIPTION = """\
Run a program on uring_loop's event loops: those that asyncio makes for it (asyncio.run(),
asyncio.Runner, asyncio.new_event_loop()), in this process and in the Pythons that it starts."""
_EPILOG = """\
A loop that the program asks for by name stays what it is, uvloop.new_event_loop() or
asyncio.SelectorEventLoop() say; with --all it is uring_loop's, too. What is to be started by
others than this command is told by URING_LOOP_AUTO=1 (or =all): python -m uring_loop hook."""


def main(arguments: list[str]) -> int:
    """Run the program; the exit status, unless the program ends with one."""
    extent, way, target, rest = _parse(arguments)
    os.environ[everywhere.VARIABLE] = extent
    _tell_children()
    everywhere.start()
    _run(way, target, rest)
    return 0


def _parse(arguments: list[str]) -> tuple[str, str, str, list[str]]:
    """The extent, the way ("-m", "-c" or ""), what is run, and its arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m uring_loop run",
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--all",
        action="store_const",
        const=everywhere.ALL,
        default=everywhere.ASYNCIO,
        help="also where the program asks for uvloop or asyncio.SelectorEventLoop by name",
    )
    # Ours end where the program begins: everything behind is the program's.
    count = 0
    while count < len(arguments) and arguments[count] in ("--all", "-h", "--help"):
        count += 1
    options = parser.parse_args(arguments[:count])
    rest = arguments[count:]
    way = rest.pop(0) if rest and rest[0] in ("-m", "-c") else ""
    if not rest:
        parser.error(f"argument expected for {way}" if way else "which program?")
    if not way and rest[0].startswith("-"):
        parser.error(f"unknown option {rest[0]}")
    return options.all, way, rest[0], rest[1:]


def _tell_children() -> None:
    """Python's own children read a sitecustomize of ours first."""
    ours = os.path.join(_package(), "_site")
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if ours not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([ours, *filter(None, paths)])


def _run(way: str, target: str, rest: list[str]) -> None:
    # The program's own __main__, with nothing of ours in it.
    main = types.ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    main.__loader__ = BuiltinImporter
    global _our_main
    _our_main, sys.modules["__main__"] = sys.modules["__main__"], main
    run: Callable[[], None]
    if way == "-m":
        sys.argv = ["-m", *rest]

        def run() -> None:
            _stdlib.run_module_as_main(target, alters_argv=True)

    elif way == "-c":
        sys.argv = ["-c", *rest]
        _set_first_path("")

        def run() -> None:
            exec(compile(target, "<string>", "exec", dont_inherit=True), main.__dict__)

    else:
        sys.argv = [target, *rest]
        run = _script(target, main)
    try:
        run()
    except BaseException:
        sys.excepthook = _without_us(sys.excepthook)
        raise


# The __main__ that was, whose names go with it.
_our_main: types.ModuleType | None = None


def _script(path: str, main: types.ModuleType) -> Callable[[], None]:
    """What runs the script, or the folder or the archive with a __main__ in it."""
    path = os.path.abspath(path)
    if _has_main(path):
        sys.path[:0] = [path] if sys.flags.safe_path else []
        _set_first_path(path)
        return lambda: _stdlib.run_module_as_main("__main__", alters_argv=False)
    try:
        file = io.open_code(path)
    except OSError as exc:
        _refuse(f"can't open file {path!r}: [Errno {exc.errno}] {exc.strerror}")
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    with file:
        text = file.read()
    # Of a compiled file, or None.
    compiled: Any = pkgutil.read_code(io.BytesIO(text))
    loader = SourceFileLoader if compiled is None else SourcelessFileLoader
    main.__dict__.update(__file__=path, __loader__=loader("__main__", path))
    if sys.version_info < (3, 15):
        main.__dict__.update(__cached__=None)

    def run() -> None:
        exec(compiled or compile(text, path, "exec", dont_inherit=True), main.__dict__)

    return run


def _has_main(path: str) -> bool:
    """Whether Python would import a __main__ from there."""
    importer = pkgutil.get_importer(path)
    return importer is not None and importer.find_spec("__main__") is not None


def _set_first_path(path: str) -> None:
    """In the place of what `-m` has put there, where Python puts something at all."""
    if not sys.flags.safe_path:
        sys.path[0] = path


def _refuse(reason: str) -> NoReturn:
    print(f"{sys.executable}: {reason}", file=sys.stderr)
    raise SystemExit(2)


def _package() -> str:
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _without_us(hook: Callable[..., Any]) -> Callable[..., Any]:
    """An excepthook that shows the program's part of a traceback."""

    def show(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
        # Whoever shows it asks the exception itself, and so on down its chain.
        seen: set[int] = set()
        link: BaseException | None = error
        while link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = _below_us(link.__traceback__)
            link = link.__cause__ or link.__context__
        hook(kind, error, error.__traceback__)

    return show


def _below_us(traceback: types.TracebackType | None) -> types.TracebackType | None:
    package = _package()
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_filename
        if name != "<frozen runpy>" and not name.startswith(package + os.sep):
            break
        traceback = traceback.tb_next
    return traceback
