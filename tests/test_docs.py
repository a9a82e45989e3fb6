"""What the pages say is so: their code runs, their links lead somewhere, nothing is left out."""

import dataclasses
import importlib.util
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
from asyncio import selector_events

import pages
import pytest

import uring_loop

ROOT = pages.ROOT
PAGES = {path.name: path for path in pages.pages()}


def is_there(name):
    """A package that can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # Not even the one that it would be in.
        return False


def runs_here(block):
    """Whether the test of its page runs it; what does not has said why."""
    marks = block.marks
    since = tuple(int(part) for part in marks.get("since", "3.11").split("."))
    return (
        block.kind in pages.RUN
        and not {"not run", "recipe"} & marks.keys()
        and sys.version_info >= since
        and all(is_there(package) for package in marks.get("needs", "").split())
    )


def pages_with(*kinds):
    """The names of those that have something of these kinds to run."""
    return [
        name
        for name, path in PAGES.items()
        if any(
            block.kind in kinds and not {"not run", "recipe"} & block.marks.keys()
            for block in pages.blocks(path)
        )
    ]


def run_blocks(page, kinds, folder):
    """The blocks of these kinds, and those that are files, in one child process."""
    found = []
    for block in pages.blocks(PAGES[page]):
        if runs_here(block) and (block.kind in kinds or "file" in block.marks):
            commands = block.commands() if block.kind == "console" else None
            found.append(dataclasses.asdict(block) | {"commands": commands})
    if not found:
        pytest.skip("what it has of this needs a newer Python, or what is not installed")
    path = folder / "blocks.json"
    path.write_text(json.dumps(found))
    place = folder / "cwd"
    place.mkdir()
    (place / "examples").symlink_to(ROOT / "examples")
    variables = {
        **os.environ,
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
        "ROOT": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "tests" / "pages_child.py", path],
        cwd=place,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", pages_with("python", "pycon"))
def test_code_of_the_page_runs(loop_kind, tmp_path, page):
    if loop_kind == "asyncio":
        pytest.skip("the pages are about our loop")
    run_blocks(page, ("python", "pycon"), tmp_path)


@pytest.mark.parametrize("page", pages_with("console"))
def test_commands_of_the_page_run(tmp_path, page):
    run_blocks(page, ("console",), tmp_path)


def not_run():
    for name, path in PAGES.items():
        for block in pages.blocks(path):
            if "not run" in block.marks:
                yield pytest.param(block, id=f"{name}:{block.line}")


@pytest.mark.parametrize("block", list(not_run()))
def test_block_that_is_not_run(block):
    """So that each shows up among the skipped, with its reason; of Python at least the grammar."""
    if block.kind == "python":
        compile(block.text, block.page, "exec")
    pytest.skip(block.marks["not run"])


def test_blocks_are_of_kinds_that_are_looked_at():
    wrong = [
        f"{name}:{block.line} {block.kind!r}"
        for name, path in PAGES.items()
        for block in pages.blocks(path)
        if block.kind not in (*pages.RUN, *pages.SHOWN) and not block.kind.startswith("{")
    ]
    assert wrong == []


def test_blocks_of_data_can_be_read():
    for name, path in PAGES.items():
        for block in pages.blocks(path):
            if block.kind == "toml":
                tomllib.loads(block.text)
            elif block.kind == "json":
                json.loads(block.text)
            elif block.kind == "text":
                assert "$ " not in block.text, f"{name}:{block.line} is a console"


def test_code_stands_in_blocks_only():
    """An indented one would be run by nobody."""
    for name, path in PAGES.items():
        text = re.sub(r"^ *```.*?^ *```$", "", pages.read(path), flags=re.M | re.S)
        text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
        assert re.findall(r"\n\n {4}\S.*", text) == [], name


def test_every_recipe_is_taken_by_a_test():
    names = set(pages.recipes())
    assert len(names) > 10
    text = "".join(
        path.read_text()
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name != "pages.py"
    )
    assert names == set(re.findall(r'\btold\(\s*"([\w-]+)"', text))


def test_readmes_table_says_what_other_pages_run():
    table = pages.read(ROOT / "README.md").partition("| With | do |")[2].partition("\n\n")[0]
    written = re.findall(r"`([^`]+)` \|$", table, re.M)
    assert len(written) == 5
    others = [path for name, path in PAGES.items() if name != "README.md"]
    run = "".join(block.text for path in others for block in pages.blocks(path))
    assert [text for text in written if text not in run] == []


def test_messages_among_the_troubles_are_those_of_the_code():
    """What somebody has seen is looked for by its words."""
    texts = [path.read_text() for path in (ROOT / "uring_loop").rglob("*.py")]
    texts += [path.read_text() for path in (ROOT / "csrc").rglob("*.c")]
    texts += [pathlib.Path(selector_events.__file__).read_text()]
    # As Python and C put pieces of a text together.
    code = re.sub(r'"\s*f?"', "", "\n".join(texts))
    page = pages.read(ROOT / "docs" / "troubleshooting.md")
    quoted = re.findall(r'^### .*?"(.*?)"', page, re.M)
    assert len(quoted) == 5
    for message in quoted:
        # Numbers, and what is left out, are put in by the code.
        for piece in re.split(r"\.\.\.|\d+", message):
            assert piece.strip() in code, piece


# ---- links -----------------------------------------------------------------------------


def slugs(path):
    """What a heading is called in a link, as GitHub has it."""
    if stub := re.search(r"^This page of the site is \[\w+\.md\]\((.*)\)", pages.read(path), re.M):
        path = (path.parent / stub[1]).resolve()
    text = re.sub(r"^```.*?^```$", "", pages.read(path), flags=re.M | re.S)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return found


def test_every_link_leads_somewhere():
    wrong = []
    folders = [ROOT, *(ROOT / name for name in ("docs", "deploy", "perf"))]
    for path in [path for folder in folders for path in sorted(folder.glob("*.md"))]:
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", pages.read(path)):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            name, _, anchor = target.partition("#")
            place = (path.parent / name).resolve() if name else path
            if not place.exists():
                wrong.append(f"{path.name}: {target}")
            elif anchor and place.suffix == ".md" and anchor not in slugs(place):
                wrong.append(f"{path.name}: {target}")
    assert wrong == []


def test_every_page_is_in_the_contents():
    listed = set(re.findall(r"^([\w-]+)$", pages.read(ROOT / "docs" / "index.md"), re.M))
    there = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert there <= listed


def test_site_builds_without_a_warning(tmp_path):
    for package in ("sphinx", "furo", "myst_parser"):
        if not is_there(package):
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*command, "--quiet", "-b", "html", ROOT / "docs", tmp_path / "site"],
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    for path in sorted((ROOT / "docs").glob("*.md")):
        assert (site / f"{path.stem}.html").exists(), path.name
    # Who reads it asks no other machine for anything.
    page = (site / "index.html").read_text()
    fetched = re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="(https?://[^"]*)"', page)
    assert fetched == []


# ---- nothing is left out ----------------------------------------------------------------


def sources():
    return [*sorted((ROOT / "uring_loop").rglob("*.py")), ROOT / "setup.py"]


def test_every_environment_variable_is_on_the_page_of_settings_and_no_other():
    used = set()
    for path in sources():
        used |= set(re.findall(r"\bURING_LOOP_[A-Z][A-Z_]*[A-Z]\b", path.read_text()))
    page = pages.read(ROOT / "docs" / "settings.md")
    named = set(re.findall(r"^\| `(URING_LOOP_[A-Z_]+)", page, re.M))
    assert used == named


@pytest.mark.parametrize("name", ["EventLoop", "run", "watch_blocking", "serve_statistics"])
def test_every_argument_is_on_the_page_of_settings(name):
    page = pages.read(ROOT / "docs" / "settings.md")
    for argument in inspect.signature(getattr(uring_loop, name)).parameters:
        assert re.search(rf"^\| `{name}\(.*\b{argument}\b", page, re.M), argument


def test_every_size_of_the_ring_is_on_the_page_of_settings():
    binding = (ROOT / "csrc" / "driver" / "binding.h").read_text()
    fields = re.search(r"struct ul_options \{(.*?)\n\};", binding, re.S)[1]
    names = set(re.findall(r"uint\d+_t (\w+);", fields)) - {"size", "disable"}
    page = pages.read(ROOT / "docs" / "settings.md")
    assert len(names) == 6
    assert names == set(re.findall(r"^\| `(\w+)` \| \d", page, re.M))


def test_every_option_of_every_command_is_on_the_page_of_settings():
    from uring_loop.__main__ import COMMANDS

    page = pages.read(ROOT / "docs" / "settings.md")
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-m", "uring_loop", command, "--help"], capture_output=True, text=True
        )
        # What is at the left of the help's list.
        options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", done.stdout, re.M))
        options -= {"--help"}
        part = re.search(rf"^### `{command}`.*?(?=^##|\Z)", page, re.M | re.S)
        assert part is not None, command
        assert options <= set(re.findall(r"--[a-z-]+", part[0])), command


def test_every_kernel_feature_is_on_the_page_of_kernels():
    features = pytest.importorskip(
        "uring_loop._internal.features", reason="nothing is compiled here"
    )
    page = pages.read(ROOT / "docs" / "kernels.md")
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.M)
    assert dict(rows) == {name: since for name, (since, _) in features._ABOUT.items()}


def test_every_key_of_the_statistics_is_on_its_page():
    loop = uring_loop.new_event_loop()
    found = loop.statistics()
    loop.close()
    page = pages.read(ROOT / "docs" / "statistics.md").partition("## Who blocks")[0]

    def keys(answer):
        for key, value in answer.items():
            yield key
            if isinstance(value, dict) and key not in ("submissions", "batches"):
                yield from keys(value)

    missing = [key for key in keys(found) if not re.search(rf"`[^`]*{re.escape(key)}\b", page)]
    assert missing == []


def test_every_metric_is_on_the_page_of_statistics():
    from uring_loop import metrics

    page = pages.read(ROOT / "docs" / "statistics.md")
    missing = [metric.name for metric in metrics.METRICS if f"`{metric.name}" not in page]
    assert missing == []


def test_every_public_name_is_in_the_reference():
    text = pages.read(ROOT / "docs" / "reference.md")
    named = set(re.findall(r"^\.\. auto\w+:: uring_loop\.([\w.]+)", text, re.M))
    public = {name for name in dir(uring_loop) if not name.startswith("_")}
    aliases = {"Loop"}  # EventLoop.
    assert public - aliases - {name.partition(".")[0] for name in named} == set()


def test_every_program_of_the_examples_is_on_their_page():
    page = pages.read(ROOT / "docs" / "examples.md")
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == set(re.findall(r"\[(\w+\.py)\]\(", page))


def test_readme_is_short():
    """Two minutes, at 200 words each, of which the commands and tables are half."""
    words = len(pages.read(ROOT / "README.md").split())
    assert words < 1000
