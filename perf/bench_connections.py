"""pyperf: many connections. Memory per idle connection, CPU time to accept one.

A connection that fails, or that does not stay open and silent, fails the run:
there is no partial success.
"""

import _checkout  # noqa: F401
import _options

from uring_loop._internal.bench import measure as _measure
from uring_loop._internal.bench import rows as _rows


def main() -> None:
    runner = _options.runner(processes=3, values=1, warmups=0, loops=1)
    runner.argparser.add_argument("--connections", type=int, default=_rows.IDLE_CONNECTIONS)
    name = _options.parse(runner)
    count = runner.args.connections

    runner.bench_time_func(
        "idle_connection_memory",
        lambda loops: _measure.hold_cost(name, _rows.IDLE, count, False)[0] * loops,
        metadata={"unit": "byte"},
    )
    runner.bench_time_func(
        "spoken_connection_memory",
        lambda loops: _measure.hold_cost(name, _rows.IDLE, count, True)[0] * loops,
        metadata={"unit": "byte"},
    )
    runner.bench_time_func(
        "accept_and_hold",
        lambda loops: _measure.hold_cost(name, _rows.IDLE, count, False)[1] * loops,
    )


if __name__ == "__main__":
    main()
