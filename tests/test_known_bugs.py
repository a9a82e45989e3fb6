"""Kernels that are known to be broken: what a loop does without there, and what it says.

The list itself is tested in csrc/test_kernels.c. Here uname(2) answers for such a
kernel, in a child with a library of ours before the C library.
"""

import os
import shutil
import subprocess

import pytest
from test_choice import EXERCISE, child, needs_ring

pytestmark = needs_ring

UNAME = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
int uname(struct utsname *name)
{
	int (*real)(struct utsname *) = (int (*)(struct utsname *))dlsym(RTLD_NEXT, "uname");
	int result = real(name);
	strncpy(name->release, getenv("FAKE_RELEASE"), sizeof(name->release) - 1);
	strncpy(name->version, getenv("FAKE_VERSION"), sizeof(name->version) - 1);
	return result;
}
"""

TELL = """
import uring_loop
loop = uring_loop.new_event_loop()
loop.run_until_complete(exercise())
features = loop.report()["features"]
print(loop.driver)
print(*(name for name, feature in features.items() if "broken" in (feature["why"] or "")))
print(*{feature["why"] for feature in features.values() if "broken" in (feature["why"] or "")})
loop.close()
"""


@pytest.fixture(scope="module")
def uname(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("uname")
    (folder / "uname.c").write_text(UNAME)
    library = folder / "uname.so"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", library, folder / "uname.c", "-ldl"], check=True
    )
    # A sanitizer's library has to stay the first.
    before = os.environ.get("LD_PRELOAD", "")
    return f"{before}:{library}".lstrip(":")


def needs_feature(name):
    """What this kernel does not have cannot be broken in another that it pretends to be."""
    from uring_loop._internal.driver import ring_report

    if not ring_report().features[name].used:
        pytest.skip(f"this kernel has no {name}")


def on_kernel(uname, program, release, version="#1 SMP", **environment):
    return child(
        program, LD_PRELOAD=uname, FAKE_RELEASE=release, FAKE_VERSION=version, **environment
    )


@pytest.mark.parametrize(
    ("release", "feature", "source"),
    [
        ("6.1.7-arch1-1", "multishot_recv", "axboe/liburing#778"),
        ("6.6.9", "multishot_accept", "axboe/liburing#1062"),
        ("6.7.4-arch1-1", "multishot_accept", "axboe/liburing#1062"),
        ("6.17.2", "multishot_unix", "CVE-2026-23473"),
    ],
)
def test_feature_that_is_broken_in_this_kernel_is_not_used_and_its_source_is_named(
    uname, release, feature, source
):
    # On Unix sockets it is the same feature, which may be denied here as well.
    needs_feature("multishot_recv" if feature == "multishot_unix" else feature)
    out, log = on_kernel(uname, EXERCISE + TELL, release)
    assert out.splitlines() == [
        "uring",
        feature,
        f"known to be broken in Linux {release} ({source})",
    ]
    assert log == ""


@pytest.mark.parametrize("release", ["6.1.6", "6.6.18", "6.12.43", "7.0.1"])
def test_kernel_without_known_bugs_uses_all_it_offers(uname, release):
    out, log = on_kernel(uname, EXERCISE + TELL, release)
    assert (out, log) == ("uring", "")


def test_release_of_debian_is_judged_by_the_version_inside(uname):
    needs_feature("multishot_recv")
    version = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.8-1 (2023-01-29)"
    out, _ = on_kernel(uname, EXERCISE + TELL, "6.1.0-3-amd64", version)
    assert out.splitlines()[1] == "multishot_recv"


def test_kernel_whose_ring_hangs_means_the_selector_with_source_and_cure(uname):
    out, log = on_kernel(uname, EXERCISE + TELL, "5.15.80")
    assert out == "selector"
    assert len(log.splitlines()) == 1
    assert "known to be broken (lxc/lxc#4256)" in log
    assert "a kernel in which it is mended" in log


def test_kernel_whose_ring_hangs_refuses_a_ring_that_is_forced(uname):
    program = """
        import uring_loop
        try:
            uring_loop.new_event_loop()
        except RuntimeError as error:
            print(error)
    """
    out, log = on_kernel(uname, program, "5.15.80", URING_LOOP_DRIVER="uring")
    assert "known to be broken (lxc/lxc#4256)" in out
    assert log == ""
