"""`uring_loop.paths`: the functions of files/paths.py, by the name that users know."""

from .files.paths import *  # noqa: F403
from .files.paths import __all__ as __all__
