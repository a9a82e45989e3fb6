"""Whether the kernel keeps from a forked child the memory that it was told to keep.

User-mode Linux (seen in 5.10 and 6.1) makes a child's address space by cloning the parent's, and
maps in it also what MADV_DONTFORK leaves out. What the child maps at that place later, a ring of
its own for instance, is then the parent's memory, to read and to write.
"""

import faulthandler
import functools
import mmap
import os
import pathlib
import resource
import signal

import pytest


@functools.cache
def _reaches_the_child():
    # Elsewhere the answer is known, and would cost a line in the kernel's log.
    if "User Mode Linux" not in pathlib.Path("/proc/cpuinfo").read_text():
        return False
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as page:
        page[:4] = b"ours"
        page.madvise(mmap.MADV_DONTFORK)
        pid = os.fork()
        if pid == 0:
            faulthandler.disable()
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os._exit(0 if page[:4] == b"ours" else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def needs_kept_memory(loop_kind):
    """Skip a test in which child and parent have a ring each, where they would share it."""
    if loop_kind == "uring" and _reaches_the_child():
        pytest.skip("this user-mode Linux maps memory marked MADV_DONTFORK in forked children")
