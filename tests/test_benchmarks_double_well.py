"""Control variates of `benchmarks/double_well.py`: they take off noise, and nothing else."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from latticediff.action import Polynomial
from latticediff.metropolis import Draw

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "double_well.py"
T, SITES, OMEGA = 6.4, 32, 0.5


class Oscillator:
    """Proposals of H = p^2 / 2 + omega^2 x^2 / 2 on a circle, with a propagator that is off by `off`."""

    def __init__(self, off=0.0):
        a = T / SITES
        k = 2 * np.pi * np.arange(SITES // 2 + 1) / SITES
        inverse = (2 - 2 * np.cos(k)) / a + a * OMEGA**2
        self.scale = (1 + off * np.cos(k)) * inverse**-0.5
        self.theory = Polynomial(1 / a, (0.0, 1 / a + a * OMEGA**2 / 2, 0.0, 0.0), 1)

    def transport(self, noise):
        phi = np.fft.irfft(self.scale * np.fft.rfft(noise), SITES)
        double = np.r_[1.0, np.full(SITES // 2 - 1, 2.0), 1.0]
        constant = -0.5 * SITES * np.log(2 * np.pi) - (double * np.log(self.scale)).sum()
        return Draw(phi, constant - 0.5 * (noise**2).sum(axis=1))


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(BENCHMARK))


def test_controls_have_mean_zero_and_are_orthogonal(benchmark):
    noise = np.random.default_rng(5).standard_normal((40_000, 16))
    g = benchmark["controls"](noise, 3, 4)
    assert g.shape == (40_000, 34)
    # 34 means at 4.5 standard errors: a false alarm in 4,000 seeds
    assert (np.abs(g.mean(axis=0)) < 4.5 * g.std(axis=0) / 200).all()
    correlation = np.corrcoef(g.T) - np.eye(34)
    assert np.abs(correlation).max() < 5.5 / 200  # 561 of them


@pytest.mark.parametrize("off", [0.0, 0.05])
def test_controls_take_off_noise_and_nothing_else(benchmark, off):
    toy = Oscillator(off)
    value, error, plain, ess = benchmark["measured"](toy, toy.theory, SITES, 0.0, 1.0, T, 20_000, seed=3)
    a = T / SITES
    exact = 2 / a * np.arcsinh(a * OMEGA / 2)  # of the oscillator on sites of spacing a
    assert (ess > 0.9999) == (off == 0)
    assert error[0] < 0.5 * plain[0]
    assert abs(value[0] - exact) < 4 * error[0]  # one seed in 16,000 fails
