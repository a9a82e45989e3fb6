"""pyperf: what it costs to be there. A loop's life, and the import of its package."""

import asyncio
import os
import sys

import _checkout  # noqa: F401
import _options

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import micro as _micro


def main() -> None:
    runner = _options.runner(processes=5)
    name = _options.parse(runner)
    recipe = _loops.RECIPES[name]
    os.environ.update(recipe.whole_environment)
    loop = _loops.create(name)
    asyncio.set_event_loop(loop)

    def take(loops: int) -> float:
        return _micro.sample_ns(_micro.LOOP_LIFE, name, loop, loops) * loops / 1e9

    runner.bench_time_func("loop_life", take)
    # Run in the checkout's root, where a package built in place is found.
    os.chdir(_loops.ROOT)
    runner.bench_command("import", [sys.executable, "-c", f"import asyncio; {recipe.imports}"])
    loop.close()


if __name__ == "__main__":
    main()
