"""Compares event loops, interleaved: python perf/compare.py [--rows ...] [--loops ...].

`python -m uring_loop bench` with all rows, and more rounds.
"""

import sys

import _checkout  # noqa: F401

from uring_loop._internal.bench import command

if __name__ == "__main__":
    sys.exit(command.main(sys.argv[1:], short=False))
