"""Builds the two compiled modules; everything else is in pyproject.toml.

On Linux, for CPython: `uring_loop._driver` (cffi, over csrc/driver and liburing) and
`uring_loop._core` (a CPython extension, csrc/core). Elsewhere the package has no compiled modules.

Environment:
  URING_LOOP_LIBURING   static: link liburing.a; system: link the shared library;
                        auto (default): static where liburing.a is there and can be linked
  URING_LOOP_WERROR     1: a compiler warning is an error (our own builds; never a user's)
  URING_LOOP_DEBUG      1: assertions on, -O1 -g
  URING_LOOP_SYMBOLS    1: the modules keep their symbols, for profilers and debuggers
  URING_LOOP_SANITIZE   for example address,undefined
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WARNINGS = [
    "-Wall",
    "-Wextra",
    # CPython's calling conventions, and the wrappers that cffi writes, fix parameters and leave
    # trailing fields out as a matter of course.
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
]
LANGUAGE = [
    "-std=gnu11",
    # accept4, eventfd flags and the like; Python.h defines the same where it is included.
    "-D_GNU_SOURCE=1",
    "-fvisibility=hidden",
    "-fno-semantic-interposition",
]
OPTIMIZED = ["-O2", "-DNDEBUG"]
# Python's own flags may carry -DNDEBUG, which would silence our assertions.
DEBUGGING = ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG"]

# io_uring_register_sync_cancel is new in liburing 2.3, which has no version macro to ask.
LIBURING_PROBE = """
#include <liburing.h>
int ul_probe(struct io_uring *ring);
int ul_probe(struct io_uring *ring)
{
	return io_uring_register_sync_cancel(ring, (struct io_uring_sync_cancel_reg *)0);
}
"""
LIBURING_PACKAGES = (
    "liburing-dev on Debian, Ubuntu and Alpine, liburing-devel on Fedora, liburing on Arch"
)


def is_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def compile_flags() -> list[str]:
    sanitizers = os.environ.get("URING_LOOP_SANITIZE", "")
    debugging = is_set("URING_LOOP_DEBUG") or bool(sanitizers)
    flags = LANGUAGE + WARNINGS + (DEBUGGING if debugging else OPTIMIZED)
    if is_set("URING_LOOP_WERROR"):
        flags.append("-Werror")
    return flags + sanitizer_flags()


def link_flags() -> list[str]:
    """What profilers and debuggers want is for those who build it for themselves."""
    keeps = is_set("URING_LOOP_SYMBOLS") or is_set("URING_LOOP_DEBUG")
    keeps = keeps or bool(os.environ.get("URING_LOOP_SANITIZE"))
    return sanitizer_flags() + ([] if keeps else ["-Wl,--strip-all"])


def sanitizer_flags() -> list[str]:
    sanitizers = os.environ.get("URING_LOOP_SANITIZE", "")
    if not sanitizers:
        return []
    return [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]


class BuildExtensions(build_ext):
    """Checks what the compiler can see first, then builds every module with the same flags."""

    def build_extensions(self) -> None:
        if sysconfig.get_config_var("Py_GIL_DISABLED") and sys.version_info < (3, 14):
            refuse(
                "cffi does not support the free-threaded build of CPython 3.13; "
                "use the usual build, or 3.14 or later, where the GIL will be turned on"
            )
        if not self.compiles("int ul_probe;"):
            refuse("no working C compiler; install gcc (and libc6-dev on Debian and Ubuntu)")
        if not self.compiles("#include <Python.h>"):
            refuse("Python.h is missing; install python3-dev (python3-devel on Fedora)")
        self.forget_where_python_was_built()
        liburing = self.find_liburing()
        for extension in self.extensions:
            extension.extra_compile_args += compile_flags()
            extension.extra_link_args += link_flags()
            extension.depends += [*sorted(glob("csrc/**/*.h", recursive=True)), "setup.py"]
            if "uring" in extension.libraries:
                extension.libraries.remove("uring")
                extension.extra_link_args += liburing
        super().build_extensions()

    def forget_where_python_was_built(self) -> None:
        """Python's own link command may name its builder's folders; what LDFLAGS say stays."""
        kept = os.environ.get("LDFLAGS", "").split()
        for command in ("linker_so", "linker_so_cxx"):
            arguments = getattr(self.compiler, command, None)
            if arguments is not None:
                setattr(
                    self.compiler,
                    command,
                    [
                        argument
                        for argument in arguments
                        if not argument.startswith("-Wl,-rpath") or argument in kept
                    ],
                )

    def find_liburing(self) -> list[str]:
        """Linker arguments for liburing 2.3 or later."""
        if not self.compiles("#include <liburing.h>"):
            refuse(f"liburing is missing; install it ({LIBURING_PACKAGES})")
        if not self.compiles(LIBURING_PROBE, ["-Werror=implicit-function-declaration"]):
            refuse(f"liburing is too old; version 2.3 or later is needed ({LIBURING_PACKAGES})")

        choice = os.environ.get("URING_LOOP_LIBURING", "auto")
        if choice not in ("auto", "static", "system"):
            refuse(f"URING_LOOP_LIBURING is {choice!r}; it must be auto, static or system")
        # liburing.a must be position independent, and its symbols stay inside our module.
        static = [self.library_path("liburing.a"), "-Wl,--exclude-libs,liburing.a"]
        if choice != "system" and self.links(LIBURING_PROBE, static):
            return static
        if choice == "static":
            refuse("URING_LOOP_LIBURING=static, but there is no liburing.a that can be linked")
        if self.links(LIBURING_PROBE, ["-luring"]):
            return ["-luring"]
        refuse(f"liburing's header is here, its library is not; install it ({LIBURING_PACKAGES})")

    def compiles(self, text: str, flags: list[str] | None = None) -> bool:
        return self.attempt(text, ["-fsyntax-only", *(flags or [])])

    def links(self, text: str, arguments: list[str]) -> bool:
        # A symbol that stays undefined would be found only when the module is imported.
        return self.attempt(text, ["-shared", "-fPIC", "-Wl,-z,defs"], arguments)

    def attempt(self, text: str, flags: list[str], arguments: list[str] | None = None) -> bool:
        """Whether the compiler accepts `text`, as it will be called for the modules."""
        command = list(self.compiler.compiler_so)
        command += [f"-I{directory}" for directory in self.compiler.include_dirs]
        command += [f"-L{directory}" for directory in self.compiler.library_dirs]
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory, "probe.c")
            source.write_text(text)
            command += [*flags, str(source), "-o", str(Path(directory, "probe.out"))]
            command += [*os.environ.get("LDFLAGS", "").split(), *(arguments or [])]
            try:
                return subprocess.run(command, capture_output=True).returncode == 0
            except FileNotFoundError:
                return False

    def library_path(self, name: str) -> str:
        """Where the compiler finds a library's file, or just its name when it does not."""
        command = [self.compiler.compiler_so[0], f"-print-file-name={name}"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or name


def refuse(reason: str) -> None:
    """End the build with one line and no traceback."""
    raise SystemExit(f"uring_loop: {reason}")


def core_extension() -> Extension:
    return Extension(
        "uring_loop._core",
        sources=sorted(glob("csrc/core/**/*.c", recursive=True)),
        include_dirs=["csrc/driver"],
    )


def index_page() -> str:
    """The README as an index of packages shows it: its links lead to the repository."""
    import tomllib

    root = Path(__file__).parent
    with open(root / "pyproject.toml", "rb") as file:
        repository = tomllib.load(file)["project"]["urls"]["Repository"]
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/")

    def absolute(match: re.Match[str]) -> str:
        mark, text, target = match.groups()
        if mark:
            return f"![{text}]({raw}/main/{target})"
        kind = "tree" if (root / target).is_dir() else "blob"
        return f"[{text}]({repository}/{kind}/main/{target})"

    page = (root / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)", absolute, page)


README = {"long_description": index_page(), "long_description_content_type": "text/markdown"}

if sys.platform == "linux" and sys.implementation.name == "cpython":
    setup(
        cffi_modules=["csrc/driver/build_driver.py:ffibuilder"],
        ext_modules=[core_extension()],
        cmdclass={"build_ext": BuildExtensions},
        **README,
    )
else:
    setup(**README)
