"""Runs the blocks of a page as its reader would: in their order, in one program.

    python pages_child.py FILE      blocks as JSON, from test_docs.py

Names live on from block to block, and so does one event loop, in which blocks with an `await`
outside of functions run. Consoles are a shell's, in the same empty folder.
"""

import ast
import asyncio
import doctest
import inspect
import json
import os
import subprocess
import sys
import traceback

import uring_loop

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Page:
    def __init__(self):
        self.names = {"__name__": "__main__", "asyncio": asyncio, "uring_loop": uring_loop}
        self.runner = asyncio.Runner(loop_factory=uring_loop.new_event_loop)

    def python(self, block, where):
        # With the page's own line numbers.
        tree = compile(
            "\n" * (block["line"] - 1) + block["text"],
            where,
            "exec",
            ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        )
        if tree.co_flags & inspect.CO_COROUTINE:
            self.runner.run(eval(tree, self.names))
        else:
            exec(tree, self.names)

    def pycon(self, block, where):
        test = doctest.DocTestParser().get_doctest(
            block["text"], self.names, where, where, block["line"] - 1
        )
        runner = doctest.DocTestRunner(optionflags=FLAGS)
        said = []
        runner.run(test, out=said.append, clear_globs=False)
        self.names.update(test.globs)
        if runner.failures:
            raise AssertionError("".join(said))

    def console(self, block, where):
        statuses = [int(status) for status in block["marks"].get("status", "0").split()]
        for command, expected in block["commands"]:
            # What make would do; to do it is a test's own business.
            if command.startswith("make "):
                command = command.replace("make ", f"make --dry-run -C {os.environ['ROOT']} ", 1)
            done = subprocess.run(
                ["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode not in statuses:
                raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}")
            if expected and not doctest.OutputChecker().check_output(expected, done.stdout, FLAGS):
                raise AssertionError(f"{command}\nexpected:\n{expected}\ngot:\n{done.stdout}")


def main(path):
    with open(path) as file:
        blocks = json.load(file)
    page = Page()
    for block in blocks:
        where = f"{block['page']}:{block['line']}"
        try:
            if "file" in block["marks"]:
                with open(block["marks"]["file"], "w") as file:
                    file.write(block["text"])
            else:
                getattr(page, block["kind"])(block, where)
        except BaseException:
            traceback.print_exc()
            print(f"--- the block at {where} failed", file=sys.stderr)
            return 1
    page.runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
