"""Laws of the embedded cluster updates."""

import itertools

import numpy as np
import pytest
from scipy import stats

from latticediff.action import Phi4, free_propagator
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.errors import UserError
from latticediff.hmc import HMC
from latticediff.local_updates import LocalMetropolis
from latticediff.streams import Streams

METHODS = ["swendsen-wang", "wolff"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(2, 3), (5,), (2, 2)], ids=str)
def test_signs_have_their_ising_distribution(method, shape):
    """All sign patterns at fixed modulus against enumeration, extents of two (double links) included.

    Chi-square over independent chains with a false alarm of 1e-4; patterns expected less than 25 times count as one. A
    Wolff cluster of strongly bound sites is the whole lattice more often than not, so that the sign forgets where it
    began, and the parity of the number of clusters, only after some tens of them.
    """
    action = Phi4.H(0.2, 0.022, len(shape))
    modulus = np.abs(np.random.default_rng(1).normal(size=shape)) + 0.3
    kernel = Cluster(action, method, n_clusters=2)
    state = kernel.start(np.broadcast_to(modulus, (20_000, *shape)))
    state, _ = kernel.advance(state, Streams(2), 60)
    np.testing.assert_allclose(np.abs(state.phi), np.broadcast_to(modulus, state.phi.shape))
    patterns = np.array(list(itertools.product([1, -1], repeat=modulus.size))).reshape(-1, *shape)
    weights = np.exp(-(actions := action(patterns * modulus)) + actions.min())
    code = ((state.phi < 0).reshape(len(state.phi), -1) @ (1 << np.arange(modulus.size)[::-1])).astype(int)
    counts, expected = np.bincount(code, minlength=len(patterns)), len(code) * weights / weights.sum()
    rare = expected < 25

    def merged(numbers):
        return [*numbers[~rare], *([numbers[rare].sum()] if rare.any() else [])]

    assert stats.chisquare(merged(counts), merged(expected)).pvalue > 1e-4
    # the test has teeth: couplings half as strong are excluded
    weaker = np.exp(-(action(patterns * modulus) - action.potential(modulus).sum()) / 2)
    assert stats.chisquare(merged(counts), merged(len(code) * weaker / weaker.sum())).pvalue < 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_stored_action_is_the_action_of_the_field(method):
    action = Phi4.A(-4.0, 6.0, 3)
    kernel = Cluster(action, method)
    state, block = kernel.advance(kernel.start(np.random.default_rng(3).normal(size=(3, 3, 2, 5))), Streams(1), 5, 2)
    np.testing.assert_allclose(state.action, action(state.phi), rtol=1e-12)
    np.testing.assert_allclose(block.action, action(block.phi), rtol=1e-12)
    assert block.phi.shape == (2, 3, 3, 2, 5)


@pytest.mark.parametrize("method", METHODS)
def test_clusters_with_hmc_give_the_exact_free_propagator(method):
    """5 sigma over 64 chains and 16 modes."""
    action, shape = Phi4.A(0.6, 0.0), (4, 6)
    kernel = Sequence([Cluster(action, method), HMC(action, 0.3, 3)])
    state = kernel.start(np.random.default_rng(1).normal(size=(64, *shape)))
    state, block = kernel.advance(kernel.advance(state, Streams(1), 30)[0], Streams(1), 300)
    spectrum = (np.abs(np.fft.rfftn(block.phi, axes=(2, 3))) ** 2 / 24).mean(axis=0)
    error = spectrum.std(axis=0, ddof=1) / 8
    assert np.abs((spectrum.mean(axis=0) - free_propagator(action, shape, half=True)) / error).max() < 5


def binder(phi):
    m = phi.mean(axis=(2, 3))
    m2, m4 = (m**2).mean(axis=0), (m**4).mean(axis=0)
    value = 1 - m4.mean() / (3 * m2.mean() ** 2)
    # jackknife over chains
    n = m2.size
    left = 1 - (m4.sum() - m4) / (n - 1) / (3 * ((m2.sum() - m2) / (n - 1)) ** 2)
    return value, np.sqrt((n - 1) * left.var())


def test_cluster_and_hmc_agree_on_the_binder_cumulant():
    """kappa = 0.27, lam = 0.022, 16x16 near criticality; each other and 0.5331(11) within 4 sigma."""
    action = Phi4.H(0.27, 0.022)
    start = np.random.default_rng(5).normal(size=(64, 16, 16))
    cluster = Sequence([Cluster(action), LocalMetropolis(action, 2.0, 1, 1)])
    results = []
    for kernel, warm, n in ((cluster, 60, 400), (HMC(action, 0.2, 8, jitter=0.1), 400, 4000)):
        state, _ = kernel.advance(kernel.start(start), Streams(6), warm)
        results.append(binder(kernel.advance(state, Streams(6), n, 4)[1].phi))
    (a, error_a), (b, error_b) = results
    assert abs(a - b) < 4 * np.hypot(error_a, error_b)
    assert abs(a - 0.5331) < 4 * np.hypot(error_a, 0.0011)


@pytest.mark.parametrize("method", METHODS)
def test_bits_do_not_depend_on_cuts_or_batch(method):
    kernel = Cluster(Phi4.H(0.27, 0.022), method, 2)
    phi, streams = np.random.default_rng(7).normal(size=(5, 4, 6)), Streams(8)
    whole, _ = kernel.advance(kernel.start(phi), streams, 7)
    state, _ = kernel.advance(kernel.start(phi), streams, 3)
    np.testing.assert_array_equal(kernel.advance(state, streams, 4)[0].phi, whole.phi)
    np.testing.assert_array_equal(kernel.advance(kernel.start(phi[:2]), streams, 7)[0].phi, whole.phi[:2])


def test_theories_without_clusters_are_refused():
    class Odd(Phi4):
        def potential(self, phi):
            return super().potential(phi) + phi

    with pytest.raises(UserError, match="not even"):
        Cluster(Odd("A", {"m2": 1.0, "lam": 1.0}))
    with pytest.raises(UserError, match="hopping"):
        Cluster(Phi4.H(-0.1, 0.02))
    with pytest.raises(UserError, match="'swendsen-wang' or 'wolff'"):
        Cluster(Phi4.H(0.1, 0.02), "metropolis")
