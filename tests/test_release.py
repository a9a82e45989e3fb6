"""What stands between a tag and an index: the workflows' rules, and the programs that they run."""

import pathlib
import re
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

sys.path.insert(0, str(ROOT / "scripts"))
import check_release  # noqa: E402
import check_wheel  # noqa: E402

sys.path.remove(str(ROOT / "scripts"))


# ---- workflows -----------------------------------------------------------------------


@pytest.fixture(params=WORKFLOWS or [None], ids=lambda path: getattr(path, "name", "none"))
def workflow(request):
    if request.param is None:
        pytest.skip("a source distribution has no workflows")
    yaml = pytest.importorskip("yaml", reason="PyYAML is missing")
    return request.param, yaml.safe_load(request.param.read_text())


def test_workflow_pins_every_action_and_says_which_version_that_is(workflow):
    path, _ = workflow
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        pinned = re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action)
        exact = re.fullmatch(r"[\w./-]+@v\d+\.\d+\.\d+", action)
        assert pinned or exact or action.startswith("./"), action


def test_workflow_may_only_read_but_for_the_job_that_publishes(workflow):
    _, content = workflow
    assert content["permissions"] == {"contents": "read"}
    more = {
        name: job["permissions"] for name, job in content["jobs"].items() if "permissions" in job
    }
    assert more in ({}, {"publish": {"id-token": "write"}})


def test_publishing_waits_for_tests_and_everything_that_is_built(workflow):
    path, content = workflow
    jobs = content["jobs"]
    if "publish" not in jobs:
        return
    assert set(jobs["publish"]["needs"]) == {"tests", "wheels", "sdist"}
    for name in jobs["publish"]["needs"]:
        assert jobs[name]["needs"] == "check"
    assert jobs["publish"]["if"] == "github.ref_type == 'tag'"
    # No secret of ours is anywhere.
    assert "secrets." not in path.read_text()


# ---- check_release.py ------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "uring_loop").mkdir()
    (tmp_path / "uring_loop" / "__init__.py").write_text('x = 1\n__version__ = "1.2.3"\n')

    def tree(heading):
        (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{heading}\n\n- x\n")
        return tmp_path

    return tree


def test_tag_of_the_version_with_a_dated_section_may_be_released(tree):
    assert check_release.problems("v1.2.3", tree("## [1.2.3] - 2030-01-31")) == []


@pytest.mark.parametrize(
    "tag, heading, word",
    [
        ("v1.2.4", "## [1.2.3] - 2030-01-31", "the tag is v1.2.4"),
        ("1.2.3", "## [1.2.3] - 2030-01-31", "the tag is 1.2.3"),
        ("v1.2.3", "## [1.2.3] - unreleased", "CHANGELOG.md"),
        ("v1.2.3", "## [Unreleased]", "CHANGELOG.md"),
        ("v1.2.3", "## [1x2.3] - 2030-01-31", "CHANGELOG.md"),
    ],
)
def test_tag_that_is_another_or_has_no_dated_section_is_refused(tree, tag, heading, word):
    (problem,) = check_release.problems(tag, tree(heading))
    assert word in problem


def test_this_tree_lacks_a_date_at_most():
    version = re.search(r'"(.*)"', _version_line()).group(1)
    assert len(check_release.problems(f"v{version}")) <= 1
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def _version_line():
    text = (ROOT / "uring_loop" / "__init__.py").read_text()
    return next(line for line in text.splitlines() if line.startswith("__version__"))


# ---- check_wheel.py ----------------------------------------------------------------------

CORE = "uring_loop/_core.cpython-311-x86_64-linux-gnu.so"
DRIVER = "uring_loop/_driver.abi3.so"
GOOD = {CORE: b"\x7fELF.text", DRIVER: b"\x7fELF/dev/null /proc/self"}


@pytest.fixture
def wheel(tmp_path):
    def wheel(modules, without=()):
        path = tmp_path / "uring_loop-1.2.3-cp311-cp311-manylinux_2_34_x86_64.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name in check_wheel.NEEDED - set(without):
                archive.writestr(name, "")
            for name, content in modules.items():
                archive.writestr(name, content)
        return path

    return wheel


def test_wheel_that_is_as_it_should_be_has_no_problems(wheel):
    assert check_wheel.problems(wheel(GOOD)) == []


@pytest.mark.parametrize(
    "change, word",
    [
        ({CORE: b"\x7fELF\0.symtab\0.strtab"}, "is not stripped"),
        ({CORE: b"\x7fELF /home/somebody/lib"}, "names /home/somebody/lib"),
        ({CORE: b"\x7fELF", CORE.replace("311", "313"): b"\x7fELF"}, "its compiled modules are"),
        ({"large": bytes(500_000)}, "bytes, more than"),
    ],
)
def test_wheel_with_something_wrong_is_told(wheel, change, word):
    assert any(word in problem for problem in check_wheel.problems(wheel({**GOOD, **change})))


def test_wheel_without_a_needed_file_or_module_is_told(wheel):
    missing = "uring_loop/py.typed"
    assert f"{missing} is missing" in check_wheel.problems(wheel(GOOD, without=[missing]))
    (problem,) = check_wheel.problems(wheel({DRIVER: GOOD[DRIVER]}))
    assert "its compiled modules are" in problem
