"""How it is done.  Nothing in here is promised: names and modules change from release to release.

What is promised is in uring_loop, uring_loop.files, uring_loop.metrics, uring_loop.paths and
uring_loop.workers.
"""

# First of all, and whole: what comes after its import (_everywhere.py) needs the modules in here.
import asyncio as _asyncio  # noqa: F401
