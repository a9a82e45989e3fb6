"""What the pyperf programs share: the --loop option and its way to the workers."""

import argparse

import _checkout  # noqa: F401
import pyperf

from uring_loop._internal.bench import loops as _loops


def runner(**settings: object) -> pyperf.Runner:
    """A pyperf Runner with a --loop option that its worker processes get too.

    The loop is not part of a benchmark's name, so that "pyperf compare_to"
    matches the results of two loops; it is in the metadata.
    """

    def forward(command: list[str], options: argparse.Namespace) -> None:
        command.extend(("--loop", options.loop))
        for row in getattr(options, "row", None) or ():
            command.extend(("--row", row))

    made = pyperf.Runner(add_cmdline_args=forward, **settings)
    made.argparser.add_argument(
        "--loop", choices=list(_loops.RECIPES), default="asyncio", help="the event loop to measure"
    )
    return made


def parse(made: pyperf.Runner) -> str:
    """Parse the command line; returns the loop's name."""
    options = made.parse_args()
    made.metadata["loop"] = options.loop
    return str(options.loop)
