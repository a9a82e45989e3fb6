"""The state machines of tests/sim, for as long as one likes: new programs until the time is over.

    python tests/fuzz/machines.py --seconds 600
    python tests/fuzz/machines.py --seed 7 --seconds 600     the same again
    python tests/fuzz/machines.py --machine pipes            those of test_sim_pipes_machine.py

Each machine gets its turn with a seed of its own. What fails is made smaller by Hypothesis, and
printed as the program that it is.
"""

import argparse
import contextlib
import importlib
import os
import pathlib
import sys
import time
import traceback
from collections import Counter

HERE = pathlib.Path(__file__).parent
SIM = HERE.parent / "sim"
sys.path[:0] = [str(SIM), str(HERE.parent)]

PROGRAMS_PER_TURN = 50


def machines(part="*"):
    """Every machine that there is, or those of one part: (name, class)."""
    from machine import Machine

    for path in sorted(SIM.glob(f"test_sim_{part}_machine.py")):
        module = importlib.import_module(path.stem)
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, Machine) and value is not Machine:
                yield name, value


def search(name, machine, seed):
    """One turn of a machine: whether it kept its contract."""
    import hypothesis
    import seeds
    from hypothesis.stateful import run_state_machine_as_test

    hypothesis.core.global_force_seed = seeds.derived(seed, name)
    chosen = hypothesis.settings(
        machine.TestCase.settings, max_examples=PROGRAMS_PER_TURN, database=None
    )
    try:
        run_state_machine_as_test(
            machine, settings=hypothesis.settings(chosen, phases=[hypothesis.Phase.generate])
        )
    except Exception:
        print(f"{name}, in the turn with the seed {seed}; now to be made smaller:", flush=True)
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        with contextlib.suppress(Exception):
            run_state_machine_as_test(machine, settings=chosen)
        return False
    return True


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--machine", default="*", metavar="PART")
    options = parser.parse_args(arguments)
    seed = int.from_bytes(os.urandom(4)) if options.seed is None else options.seed
    print(f"seed: {seed} (--seed {seed} draws the same again)", flush=True)
    from machine import figures, states

    found = list(machines(options.machine))
    if not found:
        parser.error(f"no machine of that part; there is no test_sim_{options.machine}_machine.py")
    deadline = time.monotonic() + options.seconds
    turns, violations = 0, Counter()
    while turns == 0 or time.monotonic() < deadline:
        for name, machine in found:
            # What failed is printed once; the search goes on with the others.
            if not violations[name] and not search(name, machine, seed + turns):
                violations[name] += 1
        turns += 1
    print(
        f"seeds {turns * len(found)}, programs {figures['programs']} of {len(found)} machines, "
        f"steps {figures['steps']}, states {len(states)}, violations {violations.total()}"
    )
    return 1 if violations.total() else 0


if __name__ == "__main__":
    sys.exit(main())
