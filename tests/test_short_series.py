"""What a series too short, too still, or laid the wrong way may claim of itself.

Series AR(1) with exact tau_int; statistical bounds are 4 sigma, a false alarm in 16,000.
"""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from latticediff import analysis
from latticediff.errors import UserError

TAU = 10.0
COUNTING = 4 * math.sqrt(0.683 * 0.317)  #: times 1 / sqrt(runs): 4 sigma of a share of 68.3 %


def ar1(tau, n, n_chains, seed):
    """Stationary AR(1) chains of unit variance and mean zero, shape (n_chains, n)."""
    a = (2 * tau - 1) / (2 * tau + 1)
    noise = np.random.default_rng(seed).normal(size=(n_chains, n)) * math.sqrt(1 - a * a)
    noise[:, 0] /= math.sqrt(1 - a * a)
    return lfilter([1.0], [1.0, -a], noise, axis=1)


@pytest.mark.parametrize(
    "frozen",
    [
        [[-1.0] * 1000, [1.0] * 1000],
        np.repeat(np.arange(5.0)[:, None], 40, axis=1),
        [np.full(30, 0.1), np.full(50, 0.3)],
        1e10 / 3 + np.repeat(np.arange(3.0)[:, None], 50, axis=1),
    ],
)
def test_chains_that_stand_still_at_different_values_have_no_error(frozen):
    for function in (analysis.tau_int, analysis.mean, analysis.autocorrelation):
        with pytest.raises(UserError, match=r"constant in each of \d chains.*never moved"):
            function(frozen)
    with pytest.raises(UserError, match="constant in each"):
        analysis.derived(lambda a, b: a * b, [frozen, frozen])


def test_a_still_chain_beside_a_moving_input_still_counts():
    # the sign of each chain is frozen, its modulus is not: the spread between the chains is in the error
    sign = np.repeat([[1.0], [1.0], [-1.0], [1.0]], 2000, axis=1)
    modulus = 1 + 0.01 * ar1(1.0, 2000, 4, seed=1)
    found = analysis.derived(lambda s, m: s * m, [sign, modulus])
    assert found.error > 0.2 and not found.window_found


def test_one_frozen_chain_of_four_is_said():
    series = ar1(1.0, 2000, 4, seed=2)
    assert analysis.tau_int(series).window_found
    series[1] = 3.0
    found = analysis.tau_int(series)
    assert not found.window_found and found.error > 0.1 * found.value


@pytest.mark.parametrize(("length", "found"), [(5, False), (10, False), (20, False), (200, True), (1000, True)])
def test_a_window_is_found_only_where_the_series_knows_its_tau(length, found):
    claims = [analysis.mean(row).window_found for row in ar1(TAU, round(length * TAU), 200, seed=3)]
    assert np.mean(np.equal(claims, found)) > 0.95


@pytest.mark.parametrize(("length", "n_chains"), [(20, 1), (20, 4), (50, 1), (200, 4)])
def test_one_sigma_covers_68_percent_down_to_20_tau(length, n_chains):
    runs = 1500
    n = round(length * TAU / n_chains)
    rows = ar1(TAU, n, runs * n_chains, seed=4).reshape(runs, n_chains, n)
    estimates = [analysis.mean(row) for row in rows]
    covered = np.mean([abs(e.value) < e.error for e in estimates])
    # beside the counting error 2 %: four chains of five tau_int are slightly too careful, one chain too bold
    assert abs(covered - 0.683) < COUNTING / math.sqrt(runs) + 0.02
    if length == 20 and n_chains == 1:
        narrow = [math.sqrt(2 * e.tau_int * row.var() / row.size) for e, row in zip(estimates, rows, strict=True)]
        assert np.mean([abs(e.value) < w for e, w in zip(estimates, narrow, strict=True)]) < covered - 0.03


def test_chains_along_the_second_axis_are_told_from_chains_along_the_first():
    right = ar1(19.5, 5000, 8, seed=5)
    assert analysis.tau_int(right).value == pytest.approx(19.5, rel=0.2)
    series = right.T  # (n, n_chains), as many programs write it
    for function in (analysis.tau_int, analysis.mean, analysis.r_hat, analysis.tau_exp):
        with pytest.raises(UserError, match=r"shape \(5000, 8\), read as \(n_chains, n\).*pass its transpose"):
            function(series)
    with pytest.raises(UserError, match="pass its transpose"):
        analysis.derived(lambda a, b: a / b, [series + 9, series + 7])
    with pytest.raises(UserError, match=r"axes are n_chains, n"):
        analysis.tau_int(series[:, :1])


def test_many_short_chains_are_not_taken_for_a_transpose():
    many = ar1(5.0, 40, 4000, seed=6)
    drift = many + 10 * np.exp(-np.arange(40) / 5)  # all begin in one place
    wells = many + np.where(np.arange(4000) < 2000, 3.0, -3.0)[:, None]  # of two runs, side by side
    alternating = many + np.where(np.arange(4000) % 2, 3.0, -3.0)[:, None]
    for series in (many, drift, wells, alternating, np.random.default_rng(7).normal(size=(4000, 5))):
        analysis.tau_int(series)
