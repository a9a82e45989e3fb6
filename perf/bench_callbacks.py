"""pyperf: callbacks, timers, futures and tasks. CPU time per operation."""

import asyncio
import functools

import _checkout  # noqa: F401
import _options

from uring_loop._internal.bench import loops as _loops
from uring_loop._internal.bench import micro as _micro


def main() -> None:
    runner = _options.runner(processes=5)
    name = _options.parse(runner)
    loop = _loops.create(name)
    asyncio.set_event_loop(loop)

    def take(row: str, loops: int) -> float:
        _, count, _ = _micro.ROWS[row]
        return _micro.sample_ns(row, name, loop, loops * count) * loops * count / 1e9

    for row, (_, count, _) in _micro.ROWS.items():
        runner.bench_time_func(row, functools.partial(take, row), inner_loops=count)
    loop.close()


if __name__ == "__main__":
    main()
