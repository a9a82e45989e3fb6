"""Which lines of csrc the counters in these folders (gcov's .gcda files) saw, all builds together.

    python scripts/covered_c.py FOLDER...

Prints each source with the lines that nothing ran, indented, and the sum in the last line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path


def counts(folders: list[str]) -> dict[str, dict[int, int]]:
    """Source -> line -> how often it ran."""
    found: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    data = [path for folder in folders for path in sorted(Path(folder).rglob("*.gcda"))]
    for path in data:
        told = subprocess.run(
            ["gcov", "--json-format", "--stdout", str(path)], capture_output=True, text=True
        ).stdout
        for each in map(json.loads, told.splitlines()):
            for file in each["files"]:
                _, csrc, name = file["file"].rpartition("csrc/")
                if not csrc or "tests/csrc/" in file["file"]:
                    continue
                for line in file["lines"]:
                    found[csrc + name][line["line_number"]] += line["count"]
    return found


def main(folders: list[str]) -> None:
    found = counts(folders)
    run = lines = 0
    for source, each in sorted(found.items()):
        missed = sorted(number for number, count in each.items() if not count)
        lines += len(each)
        run += len(each) - len(missed)
        if missed:
            print(f"{source}: {len(missed)} of {len(each)} lines not run")
            text = Path(source).read_text().splitlines()
            for number in missed:
                print(f"    {number:5} {text[number - 1].strip()}")
    print(f"C: {100 * run / max(1, lines):.1f} % of {lines} lines")


if __name__ == "__main__":
    main(sys.argv[1:])
