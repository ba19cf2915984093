"""Finite-size scaling: moments along a coupling, crossings, exponents, limits and their errors.

Exactly known is the Ising model on 3x3 and 4x4: `exact` carries the distribution of the magnetisation along the lattice
with a transfer matrix, and the fields that the code gets are all 2^9 and 2^16 of them, or drawn from these.
"""

import functools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.stats import chi2

from latticediff.analysis.crossings import Pair, estimated, extrapolated
from latticediff.analysis.finite_size import Curves, Source, curves
from latticediff.errors import UserError

BETA = np.linspace(0.3, 0.5, 21)
WIDE = np.linspace(0.38, 0.62, 25)  # sizes as small cross far from the critical 0.4407, at 0.49


@functools.cache
def states(extent):
    """(sum of s s' over links, m^2, shell) of every configuration of spins, by definition."""
    n = extent**2
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    s = (2.0 * bits - 1).reshape(-1, extent, extent)
    links = (s * (np.roll(s, 1, 1) + np.roll(s, 1, 2))).sum((1, 2))
    wave = np.exp(2j * np.pi * np.arange(extent) / extent)
    shell = sum(abs(s.sum(axis) @ wave) ** 2 for axis in (1, 2)) / (2 * n)
    return links, s.mean((1, 2)) ** 2, shell


def exact(extent, beta):
    """<m^2> and <m^4> of the torus: weights of rows joined one after another, for each number of spins that are up."""
    rows = np.array([[(r >> i & 1) * 2 - 1 for i in range(extent)] for r in range(2**extent)], float)
    inside = np.exp(beta * (rows * np.roll(rows, 1, 1)).sum(1))
    joined = np.exp(beta * rows @ rows.T)
    up = (rows > 0).sum(1)
    total = np.zeros(extent**2 + 1)
    for first in range(2**extent):
        carried = np.zeros((2**extent, extent**2 + 1))
        carried[first, up[first]] = inside[first]
        for _ in range(extent - 1):
            moved = (joined @ carried) * inside[:, None]
            carried = np.array([np.roll(row, n) for row, n in zip(moved, up, strict=True)])
        total += joined[first] @ carried
    m = 2 * np.arange(extent**2 + 1) / extent**2 - 1
    return (total * m**2).sum() / total.sum(), (total * m**4).sum() / total.sum()


def all_states(extent):
    links, m2, shell = states(extent)
    return Source(extent, np.zeros((1, len(m2))), links[None], m2[None], shell[None])


def drawn(extent, beta, n, rng, weighted):
    """Independent fields at beta: as a chain there, or as draws of another density with their weights."""
    links, m2, shell = states(extent)
    q = np.exp((0.8 if weighted else 1.0) * beta * (links - links.max()))
    which = rng.choice(len(m2), size=n, p=q / q.sum())
    base = -np.log(q[which]) if weighted else -beta * links[which]
    return Source(extent, base[None], links[which][None], m2[which][None], shell[which][None])


@pytest.mark.parametrize("extent", [3, 4])
def test_moments_are_those_of_a_transfer_matrix(extent):
    found = curves([all_states(extent)], BETA, n_replicas=2)
    for g in (0, 10, 20):
        assert_allclose([found.m2[0, g], found.m4[0, g]], exact(extent, BETA[g]), rtol=1e-10)
    assert_allclose(found.of("chi")[0], extent**2 * found.m2[0], rtol=1e-14)
    # second moment: chi / G(k) - 1 = (2 sin(k / 2) xi)^2
    xi = found.of("xi")[0] * extent
    assert_allclose((2 * math.sin(math.pi / extent) * xi) ** 2, found.of("chi")[0] / found.shell[0] - 1, rtol=1e-10)


def ratio(extent, beta):
    m2, m4 = exact(extent, beta)
    return m2**2 / m4


def true_crossing():
    return brentq(lambda beta: ratio(4, beta) - ratio(3, beta), 0.35, 0.5, xtol=1e-12)


def test_a_crossing_is_where_two_sizes_are_equal():
    small, large = (curves([all_states(extent)], BETA, n_replicas=2) for extent in (3, 4))
    pair = Pair.of(small, large, "ratio")
    beta = true_crossing()
    assert_allclose(pair.coupling[0], beta, rtol=1e-6)
    assert_allclose(pair.value[0], ratio(4, beta), rtol=1e-6)
    step = 1e-5
    slopes = [(ratio(extent, beta + step) - ratio(extent, beta - step)) / (2 * step) for extent in (3, 4)]
    assert_allclose(pair.inverse_nu[0], math.log(slopes[1] / slopes[0]) / math.log(4 / 3), rtol=1e-4)
    chi = [extent**2 * exact(extent, beta)[0] for extent in (3, 4)]
    assert_allclose(pair.two_minus_eta[0], math.log(chi[1] / chi[0]) / math.log(4 / 3), rtol=1e-5)


def test_errors_are_those_of_repeated_experiments():
    """False alarms: chi^2 of 80 pulls beyond either 10^-4 quantile, their mean beyond 4 sigma: 3 in 10^4 together."""
    truth, pulls = true_crossing(), []
    for seed in range(80):
        rng = np.random.default_rng([7, seed])
        rows = []
        for extent in (3, 4):
            sources = [drawn(extent, beta, 8000, rng, weighted) for beta, weighted in ((0.46, False), (0.52, True))]
            rows.append(curves(sources, WIDE, n_blocks=40, n_replicas=100, rng=rng))
        found = estimated(Pair.of(*rows, "ratio").coupling)
        pulls.append((found.value - truth) / found.error)
    pulls = np.array(pulls)
    # the error of each is known to a part in ten: blocks are 160, of 4 sources
    assert chi2.ppf(1e-4, 80) < (pulls**2).sum() < chi2.ppf(1 - 1e-4, 80)
    assert abs(pulls.mean()) < 4 / math.sqrt(80)


def test_sources_are_averaged_and_draws_without_weight_count_for_nothing():
    rng = np.random.default_rng(3)
    one, two = drawn(4, 0.40, 5000, rng, False), drawn(4, 0.44, 5000, rng, True)
    alone, both = curves([one], BETA), curves([one, two], BETA)
    assert (both.ess > alone.ess).all()
    lost = np.full((1, 1000), -np.inf)
    junk = np.full((1, 1000), np.nan)
    longer = Source(
        4,
        *(np.concatenate([a, b], 1) for a, b in ((one.base, lost), (one.conjugate, junk))),
        m2=np.concatenate([one.m2, junk], 1),
        shell=np.concatenate([one.shell, junk], 1),
    )
    assert_allclose(curves([longer], BETA).m2[0], alone.m2[0], rtol=1e-12)
    with pytest.raises(UserError, match="leave such fields out"):
        curves([Source(4, one.base, one.conjugate * np.nan, one.m2, one.shell)], BETA)


def scaling(extent, nu, eta, k, rows=3):
    """Curves of a theory whose observables are functions of (k - 0.3) L^(1 / nu) alone."""
    x = (k - 0.3) * extent ** (1 / nu)
    xi = 0.6 * np.exp(0.4 * np.tanh(x))
    m2 = extent ** (-eta) * np.exp(0.3 * x)
    shell = extent**2 * m2 / (1 + (2 * math.sin(math.pi / extent) * extent * xi) ** 2)
    m4 = m2**2 / (0.7 + 0.2 * np.tanh(x))
    return Curves(extent, k, *(np.tile(row, (rows, 1)) for row in (m2, m4, shell)), ess=np.full(len(k), 100.0))


@pytest.mark.parametrize("quantity", ["xi", "ratio"])
@pytest.mark.parametrize(("nu", "eta"), [(1.0, 0.25), (0.63, 0.036)])
def test_exponents_of_a_theory_that_scales(quantity, nu, eta):
    k = np.linspace(0.29, 0.31, 41)
    pair = Pair.of(scaling(8, nu, eta, k), scaling(16, nu, eta, k), quantity)
    assert_allclose(pair.coupling, 0.3, atol=1e-7)
    assert_allclose(pair.inverse_nu, 1 / nu, rtol=1e-4)
    # L^2 m2: the 2 of chi and the eta of m2
    assert_allclose(pair.two_minus_eta, 2 - eta, rtol=1e-6)


def test_the_limit_of_a_power_and_its_error():
    """False alarms: 2 in 10^4, for the sum of chi^2 and for that of the pulls of the limit."""
    extents, power, rng = [8, 16, 32], 2.75, np.random.default_rng(5)
    spread = np.array([[1.0, 0.4, 0.0], [0.4, 1.0, 0.4], [0.0, 0.4, 1.0]]) * 1e-6
    truth = [0.27 + 0.5 * L**-power for L in extents]
    exactly = extrapolated(extents, [np.append(y, y + 1e-4 * rng.standard_normal(400)) for y in truth], power)
    assert_allclose(exactly.rows[0], 0.27, atol=1e-12)
    assert_allclose(exactly.amplitude, 0.5, rtol=1e-9)
    assert exactly.dof == 1 and exactly.chi2 < 1e-12
    chi, pulls = 0.0, 0.0
    for _ in range(100):
        values = rng.multivariate_normal(truth, spread)
        rows = rng.multivariate_normal(values, spread, size=2000).T
        fit = extrapolated(extents, list(np.column_stack([values, rows])), power)
        chi += fit.chi2
        pulls += ((fit.rows[0] - 0.27) / estimated(fit.rows).error) ** 2
    for found in (chi, pulls):
        assert chi2.ppf(0.5e-4, 100) < found < chi2.ppf(1 - 0.5e-4, 100)


def test_what_cannot_be_used_is_refused_in_one_line():
    source, k = all_states(3), np.linspace(0.29, 0.31, 21)
    one, other = scaling(8, 1.0, 0.25, k), scaling(16, 1.0, 0.25, k)
    refused = {
        "ascend": lambda: curves([source], BETA[::-1]),
        "four numbers": lambda: curves([source], [0.3, 0.4, 0.5]),
        "not finite|NaN|finite": lambda: curves([source], [0.3, 0.4, np.nan, 0.5]),
        "one extent": lambda: curves([source, all_states(4)], BETA),
        "at least one source": lambda: curves([], BETA),
        "shapes": lambda: curves([Source(3, source.base, source.conjugate[:, 1:], source.m2, source.shell)], BETA),
        "NaN": lambda: curves([Source(3, source.base * np.nan, source.conjugate, source.m2, source.shell)], BETA),
        "blocks": lambda: curves([source], BETA, n_blocks=5),
        "xi, ratio or chi": lambda: one.of("mass"),
        "smaller and a larger": lambda: Pair.of(other, one, "xi"),
        "do not meet": lambda: one.reaches("xi", 3.0),
        "each L once": lambda: extrapolated([8, 8], [np.arange(5.0), np.arange(5.0) ** 2], 1.0),
        "power above 0": lambda: extrapolated([8, 16], [np.arange(5.0), np.arange(5.0) ** 2], 0.0),
    }
    for words, call in refused.items():
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_sources_count_by_their_independent_fields():
    """At its own coupling every field of a chain weighs the same, and there are n / (2 tau_int) of them that count."""
    links, m2, shell = states(3)
    which = np.random.default_rng(5).integers(len(links), size=640)
    at = np.linspace(0.3, 0.45, 4)
    chain = Source(3, -at[1] * links[which][None], links[which][None], m2[which][None], shell[which][None], 2.5)
    found = curves([chain], at, n_blocks=16, n_replicas=10)
    w = np.exp((at[:, None] - at[1]) * links[which])
    assert_allclose(found.ess, w.sum(1) ** 2 / (w**2).sum(1) / 5, rtol=1e-9)
    assert found.ess[1] == pytest.approx(640 / 5) and found.ess[3] < 640 / 5
    assert_allclose(curves([chain, chain], at, n_blocks=16, n_replicas=10).ess, 2 * found.ess, rtol=1e-12)
