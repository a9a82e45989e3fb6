"""Describes uring_loop._driver to cffi: the C driver, in API mode.

setup.py names `csrc/driver/build_driver.py:ffibuilder` and decides how the
compiler is called and which liburing is linked. Paths are relative to the
repository's root, where setuptools runs.
"""

from __future__ import annotations

from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCES = sorted(str(path.relative_to(ROOT)) for path in HERE.rglob("*.c"))


def make_builder() -> cffi.FFI:
    builder = cffi.FFI()
    # The same text is included by C, so that the two cannot drift apart.
    builder.cdef((HERE / "binding.h").read_text(encoding="utf-8"))
    builder.set_source(
        "uring_loop._driver",
        '#include "open.h"\n',
        sources=SOURCES,
        include_dirs=[str(HERE.relative_to(ROOT))],
        # setup.py replaces it by the static library where there is one.
        libraries=["uring"],
    )
    return builder


ffibuilder = make_builder()
