"""What a child of `python -m uring_loop run` does first, and what it would have done anyway.

This folder is in front of the child's PYTHONPATH.  The next sitecustomize on sys.path runs
as it would have without it.
"""

import os
import sys


def _honour_the_environment() -> None:
    try:
        from uring_loop import _everywhere
    except ModuleNotFoundError:
        # The child is another environment's Python, which has nothing to do with us.
        return
    _everywhere.start()


def _run_the_next() -> None:
    from importlib.machinery import PathFinder

    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path) != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


try:
    _honour_the_environment()
finally:
    _run_the_next()
