"""The rules of the house that a program can check."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "uring_loop"
CSRC = ROOT / "csrc"

LINE_LENGTH = 100
# 150 to 550 is what we aim at; beyond this there is a second concept in the file.
FILE_LENGTH = 800

# Who may import the cffi binding: what owns a driver.  Who may call its functions: and what
# owns an operation.
DRIVER_IMPORTERS = {"driver.py"}
DRIVER_CALLERS = {"driver.py", "operations.py"}
# Who may ask for a driver by name: the choice on Linux, and its refusal elsewhere; and
# bench/loops.py, which forces one, so that no fallback is measured as a ring.
DRIVER_CHOOSERS = {"driver.py", "portable.py", "doctor.py", "loops.py"}
# Who may import asyncio's private names.
STDLIB_IMPORTERS = {"_stdlib.py"}

# What asyncio.__init__ re-exports is public; so are the documented submodules' public names.
PRIVATE_MODULES = {
    "base_events",
    "base_futures",
    "base_subprocess",
    "base_tasks",
    "constants",
    "coroutines",
    "format_helpers",
    "log",
    "mixins",
    "proactor_events",
    "selector_events",
    "sslproto",
    "staggered",
    "trsock",
    "unix_events",
}


def python_files():
    return sorted(PACKAGE.rglob("*.py"))


def sources():
    for folder, patterns in (
        (PACKAGE, ("*.py", "*.c", "*.h")),
        (CSRC, ("*.c", "*.h", "*.py")),
        (ROOT / "tests", ("*.py", "*.c", "*.h")),
        (ROOT / "examples", ("*.py",)),
        (ROOT / "perf", ("*.py", "*.c")),
    ):
        for pattern in patterns:
            yield from sorted(folder.rglob(pattern))


def imports(path):
    """(module, name or None, line) of every import, relative ones with their dots."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, None, node.lineno
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield module, alias.name, node.lineno


def includes(path):
    return re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def c_files(folder):
    return sorted((CSRC / folder).rglob("*.[ch]"))


def test_tree_has_what_these_rules_look_at():
    """A rule over no files would always hold."""
    assert len(python_files()) > 10
    assert len(c_files("driver")) > 10
    assert len(c_files("core")) > 5


def test_binding_is_imported_by_the_drivers_modules_only():
    found = {
        path.name
        for path in python_files()
        for module, name, _ in imports(path)
        if module.endswith("._driver") or module == "uring_loop._driver" or name == "_driver"
    }
    assert found == DRIVER_IMPORTERS


def test_functions_of_the_driver_are_called_by_the_drivers_modules_only():
    """The binding needs no import: a loop's driver has it."""
    found = {
        path.name
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("ul_")
    }
    assert found == DRIVER_CALLERS


def test_private_asyncio_names_are_imported_in_one_module_only():
    def is_private(module, name):
        if module != "asyncio" and not module.startswith("asyncio."):
            return False
        parts = module.split(".")[1:]
        if any(part.startswith("_") or part in PRIVATE_MODULES for part in parts):
            return True
        return name is not None and (name.startswith("_") or name in PRIVATE_MODULES)

    found = [
        f"{path.name}:{line}: {module} {name or ''}"
        for path in python_files()
        if path.name not in STDLIB_IMPORTERS
        for module, name, line in imports(path)
        if is_private(module, name)
    ]
    assert found == []


def test_private_asyncio_names_are_not_reached_through_the_package():
    """`asyncio.base_events.x` needs no import statement of its own."""
    found = []
    for path in python_files():
        if path.name in STDLIB_IMPORTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                private = node.attr.startswith("_") or node.attr in PRIVATE_MODULES
                if node.value.id == "asyncio" and private:
                    found.append(f"{path.name}:{node.lineno}: asyncio.{node.attr}")
    assert found == []


def test_liburing_is_included_by_the_driver_only():
    found = [
        str(path.relative_to(ROOT))
        for path in CSRC.rglob("*.[ch]")
        if "liburing.h" in includes(path) and CSRC / "driver" not in path.parents
    ]
    assert found == []


def test_python_is_included_by_the_core_only():
    found = [
        str(path.relative_to(ROOT))
        for path in c_files("driver")
        if any(name.startswith(("Python.h", "cpython/")) for name in includes(path))
    ]
    assert found == []


def test_core_includes_no_header_of_the_driver_but_the_seam():
    """Found as the compiler does: beside the includer, then where setup.py says."""
    driver = CSRC / "driver"
    found = []
    for path in c_files("core"):
        for name in includes(path):
            places = (path.parent / name, CSRC / "core" / name, driver / name)
            header = next((place.resolve() for place in places if place.exists()), path)
            if driver in header.parents and header != driver / "driver.h":
                found.append(f"{path.name}: {name}")
    assert found == []


# Comparing or branching on which driver runs; naming it (an argument, a message) is fine.
DRIVER_CHECK = re.compile(
    r"""\b(if|elif|while|and|or|not|assert)\b[^#\n]*
        (\bis_ring\b|\bhas_ring\b|\bif\s+ring\b|\.driver\s*(==|!=|\bin\b|\bis\b)
        |(==|!=)\s*["'](uring|selector)["'])""",
    re.VERBOSE,
)


@pytest.mark.parametrize(
    "line", ["if loop.driver == 'uring':", 'elif name == "selector":', "assert x and is_ring"]
)
def test_driver_check_pattern_finds_what_it_should(line):
    assert DRIVER_CHECK.search(line)


def test_nothing_above_the_driver_asks_which_one_runs():
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in python_files()
        if path.name not in DRIVER_CHOOSERS
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if DRIVER_CHECK.search(line)
    ]
    assert found == []


def test_core_never_asks_which_driver_runs():
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in c_files("core")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r'strn?cmp\s*\([^)]*(name|"uring"|"selector")', line)
    ]
    assert found == []


def width(line):
    # C is indented with tabs of eight.
    return len(line.expandtabs(8))


def test_no_line_is_longer_than_the_limit_or_ends_in_blanks():
    found = []
    for path in sources():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if width(line) > LINE_LENGTH or line != line.rstrip():
                found.append(f"{path.relative_to(ROOT)}:{number}")
    assert found == []


def test_every_python_module_says_what_it_owns():
    found = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.suffix == ".py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert found == []


def test_no_file_is_too_long_to_read_in_one_sitting():
    found = [
        f"{path.relative_to(ROOT)}: {count}"
        for path in sources()
        if path.is_relative_to(PACKAGE) or path.is_relative_to(CSRC)
        if (count := len(path.read_text().splitlines())) > FILE_LENGTH
    ]
    assert found == []


def test_no_leftover_markers():
    words = ["TO" + "DO", "FIX" + "ME", "X" * 3]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(re.search(rf"\b{word}\b", line) for word in words)
    ]
    assert found == []
