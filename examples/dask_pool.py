"""A pool of worker processes by Dask, all of whose loops are ours.

    python -m uring_loop run examples/dask_pool.py [WORKERS]

Counts primes in parallel, and says what drives the loop of each worker. Dask's workers make
their own loops: `run` reaches them. Started by Python alone, they are on asyncio.
"""

import sys

from distributed import Client, LocalCluster

NUMBERS = 50_000
PIECE = 5_000


def primes(first: int, last: int) -> int:
    """How many there are in range(first, last)."""
    return sum(
        number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
        for number in range(first, last)
    )


def driver(dask_worker) -> str:
    return getattr(dask_worker.loop.asyncio_loop, "driver", "asyncio")


def main(workers: int) -> None:
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        for address, name in sorted(client.run(driver).items()):
            print(f"{address}: {name}")
        pieces = range(0, NUMBERS, PIECE)
        counts = client.map(primes, pieces, [first + PIECE for first in pieces])
        print(f"{client.submit(sum, counts).result()} primes below {NUMBERS}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
