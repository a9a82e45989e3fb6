"""Signs that cannot drift: ARCHITECTURE names what is there, the C folders have floors."""

import itertools
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()

# From the ground up: what stands on a floor calls nothing that stands above it, and rooms of
# one floor nothing of each other. "" is the folder itself, but for what is named.
FLOORS = {
    "csrc/core": (
        ("base",),
        ("callbacks",),
        ("operations", "streams"),
        ("transports",),
        ("descriptors", "tls"),
        ("pipes",),
        ("",),
    ),
    "csrc/driver": (("",), ("ring", "selector"), ("open", "binding")),
}


# ---- what ARCHITECTURE names ------------------------------------------------------


def expanded(text):
    """`a/{b,c}.[ch]` as globs without braces."""
    found = re.search(r"\{([^{}]*)\}", text)
    if found is None:
        return [text]
    return list(
        itertools.chain.from_iterable(
            expanded(text[: found.start()] + choice + text[found.end() :])
            for choice in found.group(1).split(",")
        )
    )


def quoted(text):
    return re.findall(r"`([^`\n]+)`", text)


def is_path(text):
    return re.fullmatch(r"(csrc|uring_loop|tests|perf|scripts)/[\w./*{},\[\]]*", text) is not None


def rows():
    """Of the table of the parts, the paths of each row: `where` is its second column."""
    parts = ARCHITECTURE.partition("## The parts")[2].partition("\n## ")[0]
    for line in parts.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 5 and "`" in cells[2]:
            folder = ""
            paths = []
            for text in quoted(cells[2]):
                # `csrc/a/b.c`, `d.c`: the second stands in the folder of the first.
                if "/" in text:
                    folder = text.rpartition("/")[0] + "/"
                    paths += expanded(text)
                else:
                    paths += expanded(folder + text)
            yield paths


def named_by(row):
    """The files that a row of the table names."""
    return {
        str(each.relative_to(ROOT))
        for path in row
        if not path.endswith("/")
        for each in ROOT.glob(path)
    }


def in_folders_of(row):
    """The files in the folders that it names."""
    return {
        str(each.relative_to(ROOT))
        for path in row
        if path.endswith("/")
        for each in ROOT.rglob(path + "*")
    }


def test_every_path_that_architecture_names_exists():
    missing = [
        path
        for text in quoted(ARCHITECTURE)
        if is_path(text)
        for path in expanded(text)
        if not list(ROOT.glob(path))
    ]
    assert missing == []
    assert [path for paths in rows() for path in paths if not list(ROOT.glob(path))] == []


def test_every_source_stands_on_one_row_of_the_parts():
    """By its name, or else in its folder."""
    named = [named_by(row) for row in rows()]
    folders = [in_folders_of(row) for row in rows()]
    assert len(named) > 20
    wrong = {}
    for folder, kinds in (("csrc", ("*.c", "*.h")), ("uring_loop", ("*.py",))):
        for kind in kinds:
            for path in sorted((ROOT / folder).rglob(kind)):
                name = str(path.relative_to(ROOT))
                # A header belongs to the source beside it.
                if name.endswith(".h") and path.with_suffix(".c").exists():
                    continue
                count = sum(name in part for part in named)
                count = count or sum(name in part for part in folders)
                if count != 1:
                    wrong[name] = count
    assert wrong == {}


# ---- who calls whom ------------------------------------------------------------------

DEFINITION = re.compile(
    r"^(?!static (?!inline))(?:static inline )?[a-z][\w \t*]*?\b(\w+)\([^;{}]*?\)\s*\{", re.M
)
# At the left margin: what is called inside of a function is indented.
PROTOTYPE = re.compile(r"^[a-z_][^;{}=]*\([^;{}]*\)[^;{}]*;", re.M)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRING = re.compile(r'"(?:\\.|[^"\\])*"')


def code_of(path):
    return PROTOTYPE.sub("", STRING.sub('""', COMMENT.sub(" ", path.read_text())))


def unit(path, folder):
    """A file's name without its ending: a header and its source are one."""
    return str(path.relative_to(ROOT / folder).with_suffix(""))


def calls(folder):
    """Unit -> the units whose functions it calls."""
    texts = {}
    owners = {}
    for path in sorted((ROOT / folder).rglob("*.[ch]")):
        name = unit(path, folder)
        text = code_of(path)
        texts[name] = texts.get(name, "") + text
        for function in DEFINITION.findall(text):
            owners.setdefault(function, set()).add(name)
    graph = {}
    for name, text in texts.items():
        used = set(re.findall(r"\b(\w+)\(", text))
        graph[name] = {
            owner
            for function in used & owners.keys()
            if len(owners[function]) == 1
            for owner in owners[function]
            if owner != name
        }
    return graph


def circles(graph):
    """The strongly connected components of more than one node (Tarjan's algorithm)."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def test_circles_are_found():
    """A rule that finds nothing anywhere would always hold."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("folder", FLOORS)
def test_no_files_of_a_c_folder_call_each_other_in_a_circle(folder):
    graph = calls(folder)
    assert sum(map(len, graph.values())) > 30
    assert circles(graph) == []


def floor_of(name, folder):
    """Its floor, and its room there."""
    room = name.rpartition("/")[0]
    for number, rooms in enumerate(FLOORS[folder]):
        if name in rooms:
            return number, name
    for number, rooms in enumerate(FLOORS[folder]):
        if room in rooms:
            return number, room
    raise AssertionError(f"{folder}/{name} stands on no floor: give it one in FLOORS")


@pytest.mark.parametrize("folder", FLOORS)
def test_no_file_of_a_c_folder_calls_one_on_a_higher_floor(folder):
    upwards = [
        f"{caller} -> {called}"
        for caller, others in calls(folder).items()
        for called in others
        if floor_of(called, folder)[0] > floor_of(caller, folder)[0]
        or (
            floor_of(called, folder)[0] == floor_of(caller, folder)[0]
            and floor_of(called, folder)[1] != floor_of(caller, folder)[1]
        )
    ]
    assert upwards == []
