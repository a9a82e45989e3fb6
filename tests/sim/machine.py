"""What the state machines share: a simulation, what of it counts, how far each run searches.

A machine's programs are new in each run (see seeds.py).  What failed once is kept as a test
of its own, in the words that Hypothesis has shrunk it to.
"""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from fake_driver import load_shim
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from simulation import Sim

if load_shim() is None:
    pytest.skip("the fake driver's shim.c needs a C compiler", allow_module_level=True)

MODES = ["later", "race", "at_once"]

figures: Counter[str] = Counter()
"""Programs and steps so far, of all machines."""
states: set[object] = set()
"""The different states that they were seen in."""


class Machine(RuleBasedStateMachine):
    """A machine over one simulation; `prepare()` makes it ready, `rest()` ends each program."""

    def __init__(self):
        super().__init__()
        # asyncio's warnings of writing to what is lost are many, and no part of the contract.
        logging.getLogger("asyncio").disabled = True
        self.sim = Sim()
        self.driver = self.sim.driver
        self.ready = False
        figures["programs"] += 1

    def turns(self, count):
        try:
            self.sim.turns(count)
        except KeyboardInterrupt:
            # A hook has raised it; what it interrupted goes on in the next run.
            assert not self.sim.loop.is_running()

    def perform(self, inside, method, *arguments):
        """Inside a callback of the loop's, or from outside."""
        if not inside:
            method(*arguments)
            return
        self.sim.loop.call_soon(method, *arguments)
        self.turns(1)

    def state(self):
        """What tells two states apart, hashable."""
        raise NotImplementedError

    def check(self):
        """What holds at every moment."""

    def rest(self):
        """No faults from here on: everything must finish, and be as the model says."""

    @rule()
    def interrupt_turn(self):
        self.driver.interrupted_turns += 1

    @rule(count=st.integers(1, 3))
    def turn(self, count):
        self.turns(count)

    @invariant()
    def holds(self):
        figures["steps"] += 1
        if self.ready:
            self.driver.check()
            self.check()
            states.add((type(self).__name__, self.state()))

    def teardown(self):
        try:
            if self.ready:
                self.rest()
        finally:
            logging.getLogger("asyncio").disabled = False
            self.sim.close()


def searched(machine, examples, steps=30):
    """The test of a machine: so many programs of up to so many steps."""
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return case
