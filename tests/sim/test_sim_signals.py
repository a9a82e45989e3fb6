"""The wake-up pipe of signals, when what the driver says of it is not that a signal came."""

import os
import select
import signal

import pytest
from fake_driver import MORE

from uring_loop._internal.signals import Signals


@pytest.fixture
def watched(sim):
    """The signals of a loop that runs, and the driver's poll of their pipe."""
    before = signal.set_wakeup_fd(-1)
    signals = Signals(sim.loop)
    signals.enter()
    [poll] = sim.driver.on_descriptor(signals._reader)
    yield signals, poll
    signals.close()
    sim.settle()
    signal.set_wakeup_fd(before)


def test_readiness_without_a_signal_does_nothing(sim, watched):
    signals, poll = watched
    called = []
    signals.add(signal.SIGUSR1, called.append, ("called",))
    sim.driver.complete(poll, select.POLLIN, MORE)
    sim.turns(2)
    assert called == []
    os.kill(os.getpid(), signal.SIGUSR1)
    sim.driver.complete(poll, select.POLLIN, MORE)
    sim.turns(2)
    assert called == ["called"]


def test_poll_that_fails_is_told_to_the_exception_handler(sim, watched):
    _, poll = watched
    sim.driver.complete(poll, -9)
    sim.turns(2)
    [context] = sim.loop.contexts
    sim.loop.contexts.clear()
    assert context["exception"].errno == 9
