"""The stubs of the compiled modules name what is there, and all of it that has a public name."""

import ast
import pathlib

import pytest

_core = pytest.importorskip("uring_loop._core", reason="the compiled modules are missing")
_driver = pytest.importorskip("uring_loop._driver", reason="the compiled modules are missing")

PACKAGE = pathlib.Path(__file__).parent.parent / "uring_loop"


def members(body):
    """The names that a class's or a module's body defines, each with its node."""
    found = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = node
    return found


def stub(module):
    return members(ast.parse((PACKAGE / f"{module}.pyi").read_text()).body)


def inherited(names, name):
    """The members of a class of a stub, with those of its bases in the same stub."""
    node = names[name]
    found = set(members(node.body))
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in names:
            found |= inherited(names, base.id)
    return found


def test_stub_of_the_core_names_what_is_there():
    names = stub("_core")
    public = {name for name in names if not name.startswith("_")}
    assert public == {name for name in vars(_core) if not name.startswith("_")}
    missing = [
        f"{name}.{member}"
        for name in public
        if isinstance(names[name], ast.ClassDef)
        for member in inherited(names, name)
        if not hasattr(getattr(_core, name), member)
    ]
    assert missing == []


def test_stub_of_the_binding_names_what_is_there():
    names = stub("_driver")
    assert names["lib"].annotation.id == "_Library"
    assert inherited(names, "_Library") <= set(dir(_driver.lib))
    assert hasattr(_driver, "ffi")
