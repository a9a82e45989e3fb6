"""One seed for all that a run of the tests draws at random: new each time, printed, replayed.

Each test derives its own from that and from its name without its parameters, so that a
test alone draws what it drew among the others, and each kind of loop gets the same.
"""

import os
import zlib

import hypothesis

# The seed, for the workers of a run in several processes and any child that is to draw the same.
_VARIABLE = "URING_LOOP_TEST_SEED"

# Hypothesis has a profile of its own for CI, which draws the same in every run.
hypothesis.settings.register_profile(
    "uring_loop", derandomize=False, deadline=None, print_blob=True
)
hypothesis.settings.load_profile("uring_loop")


def add_option(parser):
    """`--seed N`."""
    parser.addoption(
        "--seed",
        type=int,
        help="draw what the run with this seed drew (default: a new one)",
    )


def choose(config):
    """The run's seed, for configure time."""
    seed = config.getoption("--seed")
    if seed is None:
        seed = int(os.environ.get(_VARIABLE) or int.from_bytes(os.urandom(4)))
    config.run_seed = seed
    os.environ[_VARIABLE] = str(seed)


def derived(seed, name):
    """The seed of the test of that name in the run with that seed."""
    return zlib.crc32(f"{seed} {name.partition('[')[0]}".encode())


def sow(item):
    """Before a test: what Hypothesis draws next comes from the run's seed."""
    hypothesis.core.global_force_seed = derived(item.config.run_seed, item.nodeid)


def told(config):
    """How the run is replayed."""
    return f"seed: {config.run_seed} (--seed {config.run_seed} draws the same again)"
