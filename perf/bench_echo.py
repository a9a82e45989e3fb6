"""pyperf: everything under load. CPU time of the server per message.

The value is CPU time, not wall time: it is what a core can serve, and it holds
still on a machine where the load and the server share what there is.
"""

import functools

import _checkout  # noqa: F401
import _options

from uring_loop._internal.bench import measure as _measure
from uring_loop._internal.bench import rows as _rows

# Long enough for any row's messages of one sample; the count ends it.
MAX_SECONDS = 30.0
WARM_UP = 0.25


def main() -> None:
    runner = _options.runner(processes=3, values=3, warmups=1)
    runner.argparser.add_argument("--row", choices=list(_rows.ROWS), action="append")
    name = _options.parse(runner)

    def take(row: _measure.Row, loops: int) -> float:
        with _measure.Server(name, row) as server:
            sample = server.load(MAX_SECONDS, WARM_UP, messages=loops)
        # A window ends with a batch, a few messages later than was asked.
        return sample.cpu_us / 1e6 * loops

    for row in _rows.ROWS.values():
        if runner.args.row is None or row.name in runner.args.row:
            runner.bench_time_func(row.name, functools.partial(take, row))


if __name__ == "__main__":
    main()
