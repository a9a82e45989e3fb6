"""The fixture of the simulated tests."""

import pytest
from fake_driver import load_shim


@pytest.fixture
def sim():
    """A loop on the fake driver; after the test it is closed and must leave nothing."""
    if load_shim() is None:
        pytest.skip("the fake driver's shim.c needs a C compiler")
    from simulation import Sim

    simulation = Sim()
    yield simulation
    simulation.close()
