"""python -m uring_loop: the commands."""

from __future__ import annotations

import importlib
import sys

from .doctor import main as doctor

# Name: the module, whose main() takes what follows, and what the command does.
COMMANDS = {
    "top": ("top", "show another process's loops, live"),
    "bench": ("bench.command", "compare event loops on this machine"),
}


def main(arguments: list[str]) -> int:
    """Do what the command line says; the exit status."""
    if arguments and arguments[0] in COMMANDS:
        module = importlib.import_module(f".{COMMANDS[arguments[0]][0]}", __package__)
        status: int = module.main(arguments[1:])
        return status
    return doctor(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
