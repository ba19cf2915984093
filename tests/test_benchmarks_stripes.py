"""What `benchmarks/stripes.py` measures: orientation and place of stripes, and how often they turn."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from latticediff.action import Modulated

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "stripes.py"
SHAPE = (24, 24)


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(BENCHMARK))


def test_modes_tell_the_orientation_and_place_of_stripes(benchmark):
    modes = benchmark["Modes"](Modulated(1.0, -0.45, -0.1, 0.25), SHAPE)
    assert modes.number == [4, 4]
    x, y = np.indices(SHAPE)
    stripes = 1.5 * np.cos(2 * np.pi * 4 * (x + y) / 24 + 0.7)
    orientation, ring, wave = modes(np.array([[stripes, stripes[:, ::-1]]]))
    power = 576 * 1.5**2 / 4
    assert np.allclose(orientation, [[power, -power]])
    assert np.allclose(ring, power)
    assert np.allclose(wave, [[power**0.5 * np.cos(0.7), 0.0]])


def test_starts_are_of_both_orientations_and_of_none(benchmark):
    modes = benchmark["Modes"](Modulated(1.0, -0.45, -0.1, 0.25), SHAPE)
    orientation, ring, _ = modes(modes.starts(6, np.random.default_rng(2), 1.5)[None])
    assert (np.sign(orientation[0, [0, 1, 3, 4]]) == [1, -1, 1, -1]).all()
    assert (ring[0, [2, 5]] < 0.01 * ring[0, [0, 1, 3, 4]].min()).all()


def test_turns_are_counted_once_whatever_happens_between(benchmark):
    up, down = [4.0, 3.0], [-4.0, -3.5]
    between = [0.5, -0.5, 0.5]
    assert benchmark["turns"](np.array([up + between + down + between + up])) == 2
    assert benchmark["turns"](np.array([up + between + up + between + up])) == 0


def test_tau_by_turns_is_that_of_an_orientation_that_flips_at_random(benchmark):
    rng, rate = np.random.default_rng(4), 0.01
    signs = np.cumprod(np.where(rng.random((20, 20_000)) < rate, -1, 1), axis=1).astype(float)
    value, error = benchmark["by_turns"](benchmark["turns"](signs), signs.size)
    assert error < 0.02 * value
    # one seed in 16,000 fails
    assert abs(value - 0.5 / rate) < 4 * error
    assert benchmark["by_turns"](0, 1_000) == [500.0, np.inf]
