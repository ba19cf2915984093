"""Other random numbers for every test: ``LATTICEDIFF_TEST_SEEDS=17 pytest`` is the suite under other seeds.

A test that passes because of the seed that stands in it fails then. The number goes into every `Streams` and every
``numpy.random.default_rng`` of an integer beside the seed that is asked for, which stays what files and messages tell.
Tests that hold numbers of a certain seed carry the mark ``seeded``, and are left out.
"""

import os

import numpy as np
import pytest

from latticediff.streams import Streams

OTHER = os.environ.get("LATTICEDIFF_TEST_SEEDS", "")
SEQUENCE = Streams._sequence  #: as it is without


def pytest_report_header():
    """Say so, once."""
    return f"other seeds: {OTHER}" if OTHER else None


def pytest_collection_modifyitems(items):
    """Leave out what holds numbers of a certain seed."""
    if OTHER:
        for item in items:
            if item.get_closest_marker("seeded"):
                item.add_marker(pytest.mark.skip(reason="holds numbers of a certain seed"))


@pytest.fixture
def short_probes(monkeypatch):
    """A plan measures every price by one call: for tests of what a plan says, not of how long."""
    monkeypatch.setattr("latticediff.stages.costs.contract.ENOUGH", (1, 0.0))


@pytest.fixture
def undrawn():
    """Pages without pictures, but for those that fixtures of a module make."""
    from figure_toys import blank_figures

    with blank_figures():
        yield


@pytest.fixture(scope="session", autouse=True)
def other_seeds():
    """Mix the number in, for the whole session: fixtures of modules draw, too."""
    if not OTHER:
        yield
        return
    number, plain = int(OTHER), np.random.default_rng

    def sequence(self, purpose):
        same = SEQUENCE(self, purpose)
        return np.random.SeedSequence([self.seed, number], spawn_key=same.spawn_key)

    def default_rng(seed=None):
        return plain([seed, number] if isinstance(seed, int | np.integer) else seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Streams, "_sequence", sequence)
        patch.setattr(np.random, "default_rng", default_rng)
        yield
