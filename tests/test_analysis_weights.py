"""Log-weight diagnostics against Gaussian closed forms and brute force."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from latticediff import analysis
from latticediff.errors import UserError

N_SIGMA = 4  # false alarm 6e-5 for each comparison


def gaussian_weights(s, n, seed):
    """Weights log-normal: reverse N(-s^2/2, s^2) under q, forward N(+s^2/2, s^2) under p."""
    rng = np.random.default_rng(seed)
    return s * rng.normal(size=n) - s * s / 2, s * rng.normal(size=n) + s * s / 2


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0])
def test_both_ess_and_acceptance_of_gaussian_log_weights(s):
    reverse, forward = gaussian_weights(s, 100_000, seed=1)
    report = analysis.weight_report(reverse + 1234.5, forward - 77.0)  # constants drop out
    exact = math.exp(-s * s)
    for estimate in (report.ess_reverse, report.ess_forward):
        assert abs(estimate.value - exact) < N_SIGMA * estimate.error
        assert estimate.error < 0.05 * exact
    assert report.acceptance == pytest.approx(math.erfc(s / 2), abs=0.005)
    assert analysis.gaussian_acceptance(exact) == pytest.approx(math.erfc(s / 2), rel=1e-12)
    assert report.log_weight_std == pytest.approx(s, rel=0.02)
    assert report.pareto_k < 0.5
    assert report.n_zero == 0


def test_bootstrap_error_is_the_scatter():
    runs = [gaussian_weights(0.5, 500, seed) for seed in range(100, 180)]
    for function, index in ((analysis.ess_reverse, 0), (analysis.ess_forward, 1)):
        estimates = [function(run[index], n_bootstrap=100) for run in runs]
        scatter = np.std([e.value for e in estimates], ddof=1)
        # 80 runs know the scatter to 8 %
        assert np.mean([e.error for e in estimates]) == pytest.approx(scatter, rel=N_SIGMA * 0.08)


def test_correlated_forward_data_need_blocks():
    from scipy.signal import lfilter

    rng = np.random.default_rng(2)
    lw = lfilter([1], [1, -0.9], rng.normal(size=20_000)) * 0.2
    assert analysis.ess_forward(lw, block=100).error > 2 * analysis.ess_forward(lw, block=1).error


def test_expected_acceptance_is_the_average_over_all_pairs():
    lw = np.random.default_rng(3).normal(size=300)
    lw[5] = -np.inf
    w = np.exp(lw)
    pairs = np.minimum(w[:, None], w[None, :])
    np.fill_diagonal(pairs, 0)
    assert analysis.expected_acceptance(lw) == pytest.approx(pairs.sum() / (299 * w.sum()), rel=1e-12)


def test_expected_acceptance_is_what_a_chain_accepts():
    rng = np.random.default_rng(4)
    proposals = 0.8 * rng.normal(size=200_000)
    current, accepted = 0.0, 0
    for lw, log_u in zip(proposals, np.log(rng.random(proposals.size)), strict=True):
        if log_u < lw - current:
            current, accepted = lw, accepted + 1
    rate = accepted / proposals.size
    error = 2 * math.sqrt(rate * (1 - rate) / proposals.size)  # neighbouring steps share a weight
    assert abs(analysis.expected_acceptance(proposals) - rate) < N_SIGMA * error


def test_forward_ess_sees_what_reverse_ess_cannot():
    # q lacks one mode of p entirely: draws look perfect, one in a hundred forward configurations does not
    reverse = np.zeros(10_000)
    reverse[0] = 1e-6
    forward = np.zeros(10_000)
    forward[::100] = 60.0
    assert analysis.ess_reverse(reverse).value > 0.999
    assert analysis.ess_forward(forward).value < 1e-10
    assert analysis.largest_above_mean(forward) == pytest.approx(60 * 0.99)
    forward[0] = np.inf
    assert analysis.ess_forward(forward).value == 0.0
    assert analysis.largest_above_mean(forward) == math.inf


def test_extreme_weights_do_not_overflow():
    lw = np.array([-1e10, 0.0, 0.0, -np.inf, 800.0, 800.0])
    assert analysis.ess_reverse(lw).value == pytest.approx(2 / 6)
    assert analysis.weight_report(lw).n_zero == 1
    assert analysis.ess_forward(np.array([-2000.0, 0.0, 2000.0])).value == 0.0


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_pareto_k_of_pareto_tails(k):
    # w = u^-k has an exact Pareto tail of shape k
    fits = [analysis.pareto_k(-k * np.log(np.random.default_rng(seed).random(20_000))) for seed in range(20)]
    # the fit uses 424 tail draws: error about (1 + k) / sqrt(424), and a prior of weight 10 at 0.5
    prior = (0.5 - k) * 10 / 434
    assert abs(np.mean(fits) - k - prior) < N_SIGMA * (1 + k) / math.sqrt(424 * 20)


def test_bad_weights_are_refused():
    with pytest.raises(UserError, match="1 NaN"):
        analysis.ess_reverse([0.0, math.nan])
    with pytest.raises(UserError, match="contains inf"):
        analysis.ess_reverse([0.0, math.inf])
    with pytest.raises(UserError, match="contains -inf"):
        analysis.ess_forward([0.0, -math.inf])
    with pytest.raises(UserError, match="no finite entry"):
        analysis.expected_acceptance([-math.inf, -math.inf])
    with pytest.raises(UserError, match="at least 2"):
        analysis.pareto_k([0.0])


def correlated_log_weights(n_chains, n, seed, tau=10.0, spread=0.3):
    """AR(1) log-weights of target configurations, (n_chains, n); the ESS of Gaussian weights is exp(-spread^2)."""
    a = (2 * tau - 1) / (2 * tau + 1)
    noise = np.random.default_rng(seed).normal(size=(n_chains, n)) * math.sqrt(1 - a * a)
    noise[:, 0] /= math.sqrt(1 - a * a)
    return spread * lfilter([1.0], [1.0, -a], noise, axis=1)


def test_forward_ess_of_chains_has_the_error_that_repetition_shows():
    runs = [analysis.ess_forward(correlated_log_weights(4, 1000, seed)) for seed in range(60)]
    scatter, claimed = np.std([e.value for e in runs], ddof=1), np.mean([e.error for e in runs])
    # 60 runs know their scatter to 9 %; blocks of two tau_int miss some 15 % of the error
    assert 0.5 * scatter < claimed < 1.4 * scatter
    blind = [analysis.ess_forward(correlated_log_weights(4, 1000, s), correlated=False).error for s in range(9)]
    assert np.mean(blind) < 0.4 * scatter  # what every caller got
    ragged = list(correlated_log_weights(3, 900, 5)[:2]) + [correlated_log_weights(1, 500, 6)[0]]
    flat = np.concatenate(ragged)
    assert analysis.ess_forward(ragged).value == pytest.approx(analysis.ess_forward(flat).value, rel=1e-12)
    reach = analysis.reach(correlated_log_weights(4, 1000, 7), correlated=True)
    assert reach.ess.error > 2 * analysis.reach(correlated_log_weights(4, 1000, 7)).ess.error
    for few in ([[0.1], [0.2]], [[0.1, 0.1], [0.1, 0.1]], [[0.1, 0.1], [0.2, 0.2]]):  # nothing to be learnt of tau_int
        assert analysis.ess_forward(few).value == pytest.approx(1, abs=0.1)
    with pytest.raises(UserError, match="block is 0"):
        analysis.ess_forward(flat, block=0)


def test_weights_of_fields_that_blew_up_do_not_overflow():
    log_weight = np.random.default_rng(5).normal(size=(2, 200))
    log_weight[1, 7] = -1e250
    report = analysis.weight_report(log_weight)
    assert np.isfinite([report.log_weight_std, report.ess_reverse.value, report.acceptance]).all()
    assert np.isfinite(analysis.ess_reverse(log_weight, correlated=True).error)
