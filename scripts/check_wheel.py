"""Checks wheels before they are published: check_wheel.py WHEEL...

Of each: its size, that its modules are stripped and name no folder of whoever built them, that
no compiled file of another Python got in, and that everything a user needs is there.
"""

from __future__ import annotations

import pathlib
import re
import sys
import zipfile

SIZE_MAX = 400_000
NEEDED = {
    "uring_loop/__init__.py",
    "uring_loop/_internal/loop.py",
    "uring_loop/_internal/bench/load.c",
    "uring_loop/_internal/bench/load.h",
    "uring_loop/_internal/seccomp.json",
    "uring_loop/_site/sitecustomize.py",
    "uring_loop/_core.pyi",
    "uring_loop/_driver.pyi",
    "uring_loop/py.typed",
}
# Folders in which people and machines build.
BUILDERS = re.compile(rb"/(?:home|root|work|tmp|project|build|Users|github|host)/[\w./+-]*")


def problems(path: pathlib.Path) -> list[str]:
    """What is wrong with a wheel, in words."""
    found = []
    if path.stat().st_size > SIZE_MAX:
        found.append(f"{path.stat().st_size} bytes, more than {SIZE_MAX}")
    tag = path.name.split("-")[-3]
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        found += [f"{name} is missing" for name in sorted(NEEDED - set(names))]
        for name in names:
            if name.startswith("uring_loop/") and name.endswith(".so"):
                found += [f"{name}: {problem}" for problem in _of_module(name, wheel.read(name))]
        modules = [name for name in names if re.fullmatch(r"uring_loop/_\w+\.[\w.-]*so", name)]
    expected = [name for name in modules if "abi3" in name or tag in name.replace("cpython-", "cp")]
    if len(modules) != 2 or expected != modules:
        found.append(f"its compiled modules are {modules}, for {tag}")
    return found


def _of_module(name: str, content: bytes) -> list[str]:
    found = []
    if b".symtab\0" in content or b".debug_info\0" in content:
        found.append("is not stripped")
    found += [f"names {place.decode()}" for place in sorted(set(BUILDERS.findall(content)))]
    return found


def main(paths: list[str]) -> int:
    """Print what is wrong; 1 when something is."""
    wrong = 0
    for path in map(pathlib.Path, paths):
        found = problems(path)
        wrong += bool(found)
        print(f"{path.name}: {path.stat().st_size:,} bytes", *found, sep="\n    ")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
