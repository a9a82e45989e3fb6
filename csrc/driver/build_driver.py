"""Describes uring_loop._driver to cffi: the C driver, in API mode.

setup.py names `csrc/driver/build_driver.py:ffibuilder` and decides how the
compiler is called and which liburing is linked. Paths are relative to the
repository's root, where setuptools runs.
"""

from __future__ import annotations

from pathlib import Path

import cffi

HERE = Path(__file__).resolve().parent
FOLDER = "csrc/driver"

SOURCES = [
    # What Python sees, and the choice.
    "binding.c",
    "driver.c",
    "fork.c",
    "page_cache.c",
    "slots.c",
    "watches.c",
    # The ring.
    "buffers.c",
    "kernels.c",
    "locked_memory.c",
    "probe.c",
    "ring_room.c",
    "uring.c",
    "uring_fork.c",
    "uring_leave.c",
    "uring_operations.c",
    "uring_queue.c",
    "uring_receive.c",
    "uring_setup.c",
    "uring_verbs.c",
    # The selector.
    "deadlines.c",
    "descriptors.c",
    "lender.c",
    "operations.c",
    "selector.c",
    "selector_doubts.c",
    "selector_files.c",
    "selector_requests.c",
    "selector_serve.c",
    "selector_turn.c",
    "selector_verbs.c",
    "workers.c",
]


def make_builder() -> cffi.FFI:
    builder = cffi.FFI()
    # The same text is included by C, so that the two cannot drift apart.
    builder.cdef((HERE / "binding.h").read_text(encoding="utf-8"))
    builder.set_source(
        "uring_loop._driver",
        '#include "options.h"\n',
        sources=[f"{FOLDER}/{name}" for name in SOURCES],
        include_dirs=[FOLDER],
        # setup.py replaces it by the static library where there is one.
        libraries=["uring"],
    )
    return builder


ffibuilder = make_builder()
