"""What the state machines share: a simulation, what of it counts, how far each run searches.

A machine's programs are new in each run (see seeds.py).  What failed once is kept as a test
of its own, in the words that Hypothesis has shrunk it to.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections import Counter

import pytest
from fake_driver import load_shim
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from simulation import Planned, Sim
from striking import Striking

if load_shim() is None:
    pytest.skip("the fake driver's shim.c needs a C compiler", allow_module_level=True)

MODES = ["later", "race", "at_once"]

figures: Counter[str] = Counter()
"""Programs and steps so far, of all machines."""
states: set[object] = set()
"""The different states that they were seen in."""


class Machine(Striking, RuleBasedStateMachine):
    """A machine over one simulation; `prepare()` makes it ready, `rest()` ends each program."""

    def __init__(self):
        super().__init__()
        # asyncio's warnings of writing to what is lost are many, and no part of the contract.
        logging.getLogger("asyncio").disabled = True
        self.unraisablehook, sys.unraisablehook = sys.unraisablehook, self.unraisable
        # Of transports that are dropped unclosed on purpose.
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.simplefilter("ignore", ResourceWarning)
        self.strike_from_hook = None
        self.kept = []
        self.forks = 0
        self.sim = Sim()
        self.driver = self.sim.driver
        self.ready = False
        self.interrupted = False  # the last turn was: what it found is told in the next
        figures["programs"] += 1

    def turns(self, count):
        self.interrupted = False
        try:
            self.sim.turns(count)
        except (KeyboardInterrupt, Planned):
            # A hook has raised it; what it interrupted goes on in the next run.
            self.interrupted = True
            assert not self.sim.loop.is_running()

    def perform(self, inside, method, *arguments):
        """Inside a callback of the loop's, or from outside."""
        if not inside:
            # A method of the loop's that asks for the time may raise what that does.
            with contextlib.suppress(Planned):
                method(*arguments)
            return
        self.sim.loop.call_soon(method, *arguments)
        self.turns(1)

    def unraisable(self, unraisable):
        strike, self.strike_from_hook = self.strike_from_hook, None
        if strike is not None:
            with contextlib.suppress(Planned):
                strike()
        if not isinstance(unraisable.exc_value, Planned):
            self.unraisablehook(unraisable)

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
            self.call_off()
            if self.ready:
                self.rest()
        finally:
            self.call_off()
            logging.getLogger("asyncio").disabled = False
            self.sim.close()
            sys.unraisablehook = self.unraisablehook
            self.warnings.__exit__(None, None, None)


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
