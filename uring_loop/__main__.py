"""python -m uring_loop: the commands, each of which is a module with a main()."""

from __future__ import annotations

import argparse
import importlib
import sys

from . import __version__

# Name: the module, and what the command does.
COMMANDS = {
    "doctor": ("doctor", "make a loop, try it, and say what it uses and why not more"),
    "run": ("launch", "run a program on uring_loop's event loops, and its children"),
    "hook": ("hook", "let every Python of this environment honour URING_LOOP_AUTO"),
    "top": ("top", "show another process's loops, live"),
    "bench": ("bench.command", "compare event loops on this machine"),
}


def main(arguments: list[str]) -> int:
    """Do what the command line says; the exit status."""
    if arguments and arguments[0] in COMMANDS:
        module = importlib.import_module(f"{__package__}._internal.{COMMANDS[arguments[0]][0]}")
        status: int = module.main(arguments[1:])
        return status
    parser = argparse.ArgumentParser(
        prog="python -m uring_loop",
        description="An asyncio event loop for Linux that runs on io_uring.",
        epilog="Each command has a --help of its own.",
    )
    parser.add_argument("--version", action="version", version=f"uring_loop {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (_, purpose) in COMMANDS.items():
        commands.add_parser(name, help=purpose, add_help=False)
    parser.parse_args(arguments)
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
