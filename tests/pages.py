"""The pages that users read, taken apart: their blocks of code, what is said about each, links.

A comment right above a block says what a reader need not see:

    <!-- not run: REASON -->       why no test runs it
    <!-- recipe: NAME -->          a test in tests/apps takes it from here, by told(NAME)
    <!-- needs: PACKAGE ... -->    which others it imports, or programs that it starts
    <!-- since: 3.12 -->           the first Python that has what it uses
    <!-- file: NAME -->            it is written to this file; what comes later uses that
    <!-- status: 0 1 -->           the exit statuses of its commands that are right

and `<!-- setup` until `-->` is code that runs before what follows it.
"""

import dataclasses
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parent.parent
# What runs in a child process: tests/pages_child.py.
RUN = ("python", "pycon", "console")
# What is parsed, or only looked at.
SHOWN = ("toml", "ini", "json", "text")

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<kind>[\w{}:-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
_MARK = re.compile(r"^<!-- (not run|recipe|needs|since|file|status): (.*?) -->$")
_SETUP = re.compile(r"^<!-- setup\n(.*?)^-->$", re.M | re.S)


@dataclasses.dataclass
class Block:
    """A fenced block, or a setup, which is Python.

    line: of its first line of text, from 1.
    marks: what the comments right above it say, by their names.
    """

    page: str
    line: int
    kind: str
    text: str
    marks: dict[str, str] = dataclasses.field(default_factory=dict)

    def commands(self):
        """(command, what it prints) of a console."""
        found = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append([line[2:], []])
            elif found and found[-1][0].endswith("\\") and not found[-1][1]:
                found[-1][0] = found[-1][0][:-1] + line.removeprefix("> ").strip()
            else:
                found[-1][1].append(line)
        return [(command, "".join(f"{line}\n" for line in output)) for command, output in found]


def pages():
    """README and everything that the site is made of."""
    return [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "DIFFERENCES.md")] + sorted(
        path for path in (ROOT / "docs").glob("*.md") if "This page of the site" not in read(path)
    )


def read(path):
    return path.read_text(encoding="utf-8")


def blocks(path):
    """The blocks of a page, in their order."""
    text = read(path)
    found = []
    for fence in _FENCE.finditer(text):
        lines = text[: fence.start()].splitlines()
        marks = {}
        while lines and (mark := _MARK.match(lines.pop())):
            marks[mark[1]] = mark[2]
        indent = len(fence["indent"])
        code = "".join(line[indent:] for line in fence["text"].splitlines(True))
        line = text.count("\n", 0, fence.start("text")) + 1
        found.append(Block(path.name, line, fence["kind"], code, marks))
    for setup in _SETUP.finditer(text):
        line = text.count("\n", 0, setup.start(1)) + 1
        found.append(Block(path.name, line, "python", setup[1]))
    return sorted(found, key=lambda block: block.line)


def recipes():
    """The blocks of docs/recipes.md that tests take from there, by name."""
    return {
        block.marks["recipe"]: block
        for block in blocks(ROOT / "docs" / "recipes.md")
        if "recipe" in block.marks
    }


def told(name, *replaced):
    """What the recipe of this name says: the words of its command, or its text.

    replaced: (old, new), words or parts of the text that are others in the test.
    """
    block = recipes()[name]
    if block.kind == "console":
        ((command, _),) = block.commands()
        words = shlex.split(command, comments=True)
        for old, new in replaced:
            assert old in words, f"the recipe {name} has no {old} any more"
            words = [new if word == old else word for word in words]
        return words
    text = block.text
    for old, new in replaced:
        assert old in text, f"the recipe {name} has no {old} any more"
        text = text.replace(old, new)
    return text
