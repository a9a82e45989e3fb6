"""Whether a tag may be released: check_release.py v1.2.3

The tag is the package's version, and the changelog has a section of it with a date.
"""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent


def problems(tag: str, root: pathlib.Path = ROOT) -> list[str]:
    """What is in the way, in words."""
    text = (root / "uring_loop" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        return ["uring_loop/__init__.py has no __version__"]
    version = found.group(1)
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, the version {version}")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d{{2}}-\d{{2}}$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(), re.MULTILINE):
        wrong.append(f"CHANGELOG.md has no section `## [{version}] - YYYY-MM-DD`")
    return wrong


def main(arguments: list[str]) -> int:
    """Print what is in the way; 1 when something is."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    found = problems(arguments[0])
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
