"""Laws of the smooth propagator, on measurements made by hand: a known G with the noise of n configurations."""

import numpy as np
import pytest

from latticediff.action import Phi4, free_propagator
from latticediff.gaussian.propagator import smooth_propagator, symmetrise

MASS = 0.05


def measured(G, n, seed):
    """G times chi-squared noise of `n` configurations, symmetrised as a measurement is."""
    power = np.random.default_rng(seed).chisquare(n, G.shape) / n
    return symmetrise(G * 0.5 * (power + np.roll(np.flip(power), 1, range(G.ndim))))


def true_propagator(shape):
    """A massive propagator with an anisotropy that a free field has not."""
    G = free_propagator(Phi4.A(MASS, 0.0, len(shape)), shape)
    return G / (1 + 0.1 * G)


@pytest.mark.parametrize("shape", [(32, 32), (64, 8), (12, 12, 12)])
def test_smoothing_takes_the_noise_out_and_not_the_signal(shape):
    G = true_propagator(shape)
    first, second = measured(G, 500, 1), measured(G, 500, 2)
    moving = np.ones(shape, bool)
    moving[(0,) * len(shape)] = False
    plain, smooth = (
        np.mean(np.log(estimate / G)[moving] ** 2)
        for estimate in (0.5 * (first + second), smooth_propagator(first, second))
    )
    assert smooth < 0.4 * plain


def test_zero_mode_is_the_measured_one():
    first, second = (measured(true_propagator((16, 16)), 100, seed) for seed in (3, 4))
    assert smooth_propagator(first, second)[0, 0] == 0.5 * (first + second)[0, 0]


def test_what_is_not_smooth_is_left_as_measured():
    G = true_propagator((32, 32))
    G[5, 3] = G[-5, 3] = G[5, -3] = G[-5, -3] = 2 * G[5, 3]
    first, second = measured(G, 5000, 1), measured(G, 5000, 2)
    np.testing.assert_array_equal(smooth_propagator(first, second), 0.5 * (first + second))


def test_few_momenta_are_left_as_measured():
    first, second = (measured(true_propagator((6, 6)), 10, seed) for seed in (5, 6))
    np.testing.assert_array_equal(smooth_propagator(first, second), 0.5 * (first + second))
