"""python -m uring_loop hook: lets every Python of this environment honour URING_LOOP_AUTO.

The hook is one line in a .pth file, which Python reads when it starts.  Where the variable
is not set, it costs one look into the environment.
"""

from __future__ import annotations

import argparse
import os
import site
import sys
import sysconfig

from .. import _everywhere as everywhere

FILE = "uring_loop_auto.pth"
# Python runs the lines of a .pth file that begin with `import`; site has imported os.
LINE = (
    f"import os; os.environ.get({everywhere.VARIABLE!r}, '0') in ('', '0')"
    " or __import__('uring_loop._everywhere')._everywhere.start()\n"
)

_DESCRIPTION = f"""\
With the hook, every Python of this environment that is started with {everywhere.VARIABLE}=1 has
uring_loop's event loops wherever asyncio makes one, and with {everywhere.VARIABLE}=all also where
the program asks for uvloop or asyncio.SelectorEventLoop by name. It is one line in a .pth
file, and costs nothing where the variable is not set. Remove it before the package."""


def places() -> list[str]:
    """Where the hook may be: the environment's own folder, then the user's."""
    found = [sysconfig.get_path("purelib")]
    if site.ENABLE_USER_SITE:
        found.append(site.getusersitepackages())
    return [os.path.join(place, FILE) for place in found]


def installed() -> list[str]:
    """The files of the hook that are there."""
    return [path for path in places() if os.path.exists(path)]


def install() -> str:
    """Write the hook where this Python reads it; the path.  OSError where it cannot."""
    refusal: OSError | None = None
    for path in places():
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(LINE)
        except OSError as exc:
            refusal = refusal or exc
        else:
            return path
    assert refusal is not None
    raise refusal


def main(arguments: list[str]) -> int:
    """Install, remove or show the hook; status tells by 1 that it is not installed."""
    parser = argparse.ArgumentParser(
        prog="python -m uring_loop hook",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("install", "remove", "status"))
    options = parser.parse_args(arguments)
    try:
        if options.action == "install":
            print(f"installed: {install()}")
            return 0
        found = installed()
        if options.action == "remove":
            for path in found:
                os.remove(path)
                print(f"removed: {path}")
            if not found:
                print("not installed")
            return 0
    except OSError as exc:
        print(f"python -m uring_loop hook: {exc}", file=sys.stderr)
        return 2
    for path in found:
        print(f"installed: {path}")
    print(f"{everywhere.VARIABLE}: {os.environ.get(everywhere.VARIABLE) or 'not set'}")
    if not found:
        print("not installed")
    return 0 if found else 1
