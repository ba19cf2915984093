"""Measured orders of convergence on a Gaussian target, without Monte Carlo.

All samplers are linear in their noise for a Gaussian score, so their coefficients are read off by impulses and every
moment follows in closed form. The exact solution of the reverse SDE with the same Brownian path W is
``x(v_0) = P(v_N) x(v_N) + int P(v) dW``, ``P(v) = (G + v_0) / (G + v)``.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from latticediff.diffusion.process import VarianceExploding, VariancePreserving
from latticediff.diffusion.reverse import ReverseProcess
from latticediff.diffusion.runge_kutta import SCHEMES
from latticediff.diffusion.samplers import euler_maruyama, probability_flow
from latticediff.diffusion.steps import GaussianStep

G, LOW, HIGH = 0.8, 0.3, 3.0
PROCESSES = {"exploding": VarianceExploding(), "preserving": VariancePreserving(0.5)}


def levels(n):
    """Descending ratios sigma / alpha."""
    return np.geomspace(HIGH, LOW, n + 1)


def score(x, sigma):
    return -x / (G + sigma.reshape(-1, 1) ** 2)


class Impulses:
    """In place of a random generator: noise j is one for the j-th of n + 1 configurations only."""

    def __init__(self, n):
        self.columns = iter(np.eye(n + 1)[1:])

    def standard_normal(self, shape):
        return next(self.columns).reshape(shape)


def euler(n, process):
    """Coefficients of the variance-exploding end in the prior's field and in the noise of each step."""
    start = np.zeros((n + 1, 1))
    start[0] = process.from_exploding(1.0, HIGH)
    end = euler_maruyama(score, torch.as_tensor(start), levels(n), Impulses(n), process)
    return process.to_exploding(end.numpy()[:, 0], LOW)


class OneMode:
    """A single Gaussian mode with its exact score, as the fields of a `ReverseProcess`."""

    volume = 1

    def __init__(self, variances):
        self.variances = variances

    def score(self, x, i):
        return -x / (G + self.variances[i])

    def multiply(self, x, multiplier):
        return x * multiplier

    def total(self, x):
        return x.sum(axis=1)


def tweedie(n, process):
    variances = levels(n)[::-1] ** 2
    modes = OneMode(variances)
    exact = [1 / (1 / (b - a) + 1 / (G + a)) for a, b in itertools.pairwise(variances)]
    steps = [GaussianStep(modes, np.array([c])) for c in exact]
    made = ReverseProcess(modes, variances, steps, np.array([G + HIGH**2]), process)
    end, _ = made.down(np.eye(n + 1)[:, :, None])
    end[0] /= math.sqrt(G + HIGH**2)  # the prior's impulse is in units of its width
    return end[:, 0]


SAMPLERS = {"euler": euler, "tweedie": tweedie}


def weak_error(coefficients):
    """Error of the variance at the end."""
    variance = coefficients[0] ** 2 * (G + HIGH**2) + (coefficients[1:] ** 2).sum()
    return abs(variance - (G + LOW**2))


def strong_error(coefficients, n):
    """Root mean square distance from the exact solution with the same Brownian path."""
    squares = (coefficients[0] - (G + LOW**2) / (G + HIGH**2)) ** 2 * (G + HIGH**2)
    for a, (upper, lower) in zip(coefficients[1:], itertools.pairwise(levels(n) ** 2), strict=True):
        # int (a / sqrt(Delta) - P(v))^2 dv over the step, closed form
        rate, delta = a / math.sqrt(upper - lower), upper - lower
        log = math.log((G + upper) / (G + lower))
        squares += rate**2 * delta - 2 * rate * (G + LOW**2) * log
        squares += (G + LOW**2) ** 2 * (1 / (G + lower) - 1 / (G + upper))
    return math.sqrt(max(squares, 0.0))


def order(error, n):
    return math.log2(error(n) / error(2 * n))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("sampler", "weak"), [("euler", 1), ("tweedie", None)])
def test_weak_order(sampler, weak, process):
    """Euler-Maruyama 1; steps with the exact conditional mean and variance have no weak error at any step size."""

    def error(n):
        return weak_error(SAMPLERS[sampler](n, PROCESSES[process]))

    if weak is None:
        assert max(error(n) for n in (1, 2, 16)) < 1e-12
    else:
        assert error(64) > 1e-3
        assert order(error, 256) == pytest.approx(weak, abs=0.1)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strong_order(sampler, process):
    """1 for both: the noise is additive, so Euler-Maruyama is Milstein's method."""

    def error(n):
        return strong_error(SAMPLERS[sampler](n, PROCESSES[process]), n)

    assert order(error, 256) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", SCHEMES)
def test_flow_has_the_order_of_its_scheme(name, process):
    """The deterministic map, and with it weak and strong error alike."""
    made = PROCESSES[process]
    exact = math.sqrt((G + LOW**2) / (G + HIGH**2))

    def error(n):
        start = torch.full((1, 1), made.from_exploding(1.0, HIGH), dtype=torch.float64)
        return abs(made.to_exploding(float(probability_flow(score, start, levels(n), name, made)), LOW) - exact)

    # where the leading error dominates and rounding does not
    assert order(error, 24) == pytest.approx(SCHEMES[name].order, abs=0.7)
