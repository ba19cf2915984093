"""log Z, reweighting and the bias of an integration error, against quadrature, closed forms and brute force.

Statistical tests use five standard errors: a correct code fails one number with probability 6e-7.
"""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.signal import lfilter

from latticediff import analysis
from latticediff.action import Phi4, free_log_z, free_propagator
from latticediff.errors import UserError
from latticediff.observables import measure_primary

N_SIGMA = 5
ONE_SITE = Phi4.A(-1.0, 0.5, 1)
SHAPE = (4, 6)


def sigmas(estimate, exact):
    return abs(estimate.value - exact) / estimate.error


def site_moment(power, action=ONE_SITE):
    return quad(lambda x: x**power * math.exp(-float(action(np.array([x])))), -10, 10)[0]


def one_site(n, seed, width=1.0):
    """log_weight of normal draws, and of exact one-site configurations (inverse of the cumulative sum)."""
    rng = np.random.default_rng(seed)

    def log_weight(x):
        return -ONE_SITE(x[:, None]) + 0.5 * (x / width) ** 2 + math.log(width * math.sqrt(2 * math.pi))

    line = np.linspace(-6, 6, 100_001)
    cumulative = np.cumsum(np.exp(-ONE_SITE(line[:, None])))
    target = np.interp(rng.random(n) * cumulative[-1], cumulative, line)
    draws = width * rng.normal(size=n)
    return draws, log_weight(draws), log_weight(target)


def free_fields(action, n, rng):
    """Independent configurations of a free field on `SHAPE`."""
    noise = np.fft.fftn(rng.normal(size=(n, *SHAPE)), axes=(1, 2))
    return np.fft.ifftn(noise * np.sqrt(free_propagator(action, SHAPE)), axes=(1, 2)).real


# --- log Z -----------------------------------------------------------------------------------------------------------


def test_every_estimator_gives_z_of_one_site():
    draws, reverse, forward = one_site(20_000, seed=1)
    exact = math.log(site_moment(0))
    found = analysis.free_energy(reverse, forward, forward_correlated=False)
    for estimate in (found.reverse, found.forward, found.bridge):
        assert sigmas(estimate, exact) < N_SIGMA
        assert estimate.error < 0.02
    assert found.lower.value < exact < found.upper.value
    assert abs(found.tension) < N_SIGMA
    # the mean of log w, without the exponential, is a bound and not an estimate
    assert sigmas(found.lower, exact) > 2 * N_SIGMA
    # nor is the mean weight one without the density of the draws
    assert sigmas(analysis.log_z_reverse(-ONE_SITE(draws[:, None])), exact) > 2 * N_SIGMA


def test_an_exact_proposal_gives_z_without_error():
    action = Phi4.A(0.8, 0.0)
    exact = free_log_z(action, SHAPE)
    phi = free_fields(action, 20, np.random.default_rng(2))
    power = np.abs(np.fft.fftn(phi, axes=(1, 2))) ** 2 / math.prod(SHAPE)
    G = free_propagator(action, SHAPE)
    log_weight = -action(phi) + 0.5 * (power / G + np.log(2 * np.pi * G)).sum(axis=(1, 2))
    found = analysis.free_energy(log_weight[:10], log_weight[10:])
    for estimate in (found.reverse, found.forward, found.bridge, found.lower, found.upper):
        assert estimate.value == pytest.approx(exact, abs=1e-9)
        assert estimate.error < 1e-9


def gaussian_weights(s, n_q, n_p, rng):
    """log w normal with log Z = 3: N(3 - s^2/2, s^2) under q and N(3 + s^2/2, s^2) under the target."""
    return 3 + s * rng.normal(size=n_q) - s * s / 2, 3 + s * rng.normal(size=n_p) + s * s / 2


@pytest.mark.parametrize("s", [0.3, 1.0])
def test_errors_are_the_scatter_and_the_bridge_has_the_least(s):
    rng = np.random.default_rng(3)
    runs = [analysis.free_energy(*gaussian_weights(s, 900, 300, rng), forward_correlated=False) for _ in range(200)]
    errors = {}
    for name in ("reverse", "forward", "bridge"):
        values = np.array([getattr(run, name).value for run in runs])
        errors[name] = np.mean([getattr(run, name).error for run in runs])
        # 200 runs know their scatter to 5 %; heavy tails at s = 1 make it worse
        assert values.std() == pytest.approx(errors[name], rel=0.25)
        assert abs(values.mean() - 3) < N_SIGMA * values.std() / math.sqrt(200) + values.var()
    assert errors["bridge"] < min(errors["reverse"], errors["forward"])


def test_bridge_is_the_two_state_mbar_equation():
    rng = np.random.default_rng(4)
    reverse, forward = gaussian_weights(0.8, 500, 200, rng)
    log_z = analysis.log_z_bridge(reverse, forward, forward_correlated=False).value
    w = np.exp(np.concatenate([reverse, forward]))
    # Shirts and Chodera, eq. (11): Z = sum_n w_n / (N_q + N_p w_n / Z) over all 700 entries
    assert math.exp(log_z) == pytest.approx((w / (500 + 200 * w * math.exp(-log_z))).sum(), rel=1e-10)


def test_correlated_configurations_count_by_their_autocorrelation():
    """AR(1) with tau_int = 9.5: the forward error is that of the scatter, and sqrt(19) times the naive one."""
    rng, rho, s = np.random.default_rng(5), 0.9, 0.3
    naive, honest, values = [], [], []
    for _ in range(60):
        noise = lfilter([math.sqrt(1 - rho**2)], [1, -rho], rng.normal(size=(4, 1200)))[:, 200:]
        forward = s * noise + s * s / 2
        estimate = analysis.log_z_forward(forward)
        values.append(estimate.value)
        honest.append(estimate.error)
        naive.append(analysis.log_z_forward(forward, correlated=False).error)
        bridge = analysis.log_z_bridge(s * rng.normal(size=1000) - s * s / 2, forward)
        assert sigmas(bridge, 0.0) < N_SIGMA
    scatter = np.std(values)
    assert np.mean(honest) == pytest.approx(scatter, rel=0.4)  # 60 runs: 9 %, and tau_int of 105 tau
    assert np.mean(naive) < 0.4 * scatter


def test_two_theories_are_compared_by_their_configurations():
    """log Z_1 - log Z_0 of free fields with masses 0.8 and 1.0, from both ensembles, against the closed form."""
    rng = np.random.default_rng(6)
    one, other = Phi4.A(0.8, 0.0), Phi4.A(1.0, 0.0)
    phis = [free_fields(action, 4000, rng) for action in (one, other)]
    reverse, forward = (one(phi) - other(phi) for phi in phis)
    found = analysis.free_energy(reverse, forward, forward_correlated=False)
    exact = free_log_z(other, SHAPE) - free_log_z(one, SHAPE)
    for estimate in (found.reverse, found.forward, found.bridge):
        assert sigmas(estimate, exact) < N_SIGMA
    assert sigmas(found.bridge, 0.0) > 10 * N_SIGMA
    # configurations taken for those of the other ensemble give something else
    assert sigmas(analysis.log_z_reverse(forward), exact) > 2 * N_SIGMA
    assert sigmas(analysis.log_z_forward(reverse, correlated=False), exact) > 2 * N_SIGMA


def test_weights_of_zero_and_unreachable_configurations_count():
    reverse = np.array([0.0, -np.inf, 0.5, 0.2])
    assert analysis.log_z_reverse(reverse).value == pytest.approx(math.log(np.exp(reverse).mean()))
    forward = np.array([0.1, np.inf, 0.3, 0.2])
    assert analysis.log_z_forward(forward, False).value == pytest.approx(-math.log(np.exp(-forward).mean()))
    assert np.isfinite(analysis.log_z_bridge(reverse, forward, forward_correlated=False).value)


@pytest.mark.parametrize(
    "function, bad, match",
    [
        (analysis.log_z_reverse, [0.0, np.nan], "1 NaN"),
        (analysis.log_z_reverse, [0.0, np.inf], "contains inf"),
        (analysis.log_z_forward, [0.0, -np.inf], "contains -inf"),
        (analysis.log_z_reverse, [-np.inf, -np.inf], "no finite entry"),
        (analysis.log_z_reverse, [1.0], "n of at least 2"),
        (analysis.log_z_forward, np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
    ],
)
def test_unusable_weights_are_refused(function, bad, match):
    with pytest.raises(UserError, match=match):
        function(bad)


# --- reweighting -----------------------------------------------------------------------------------------------------


def test_reweighting_moves_a_free_field_to_another_mass():
    source, target, rng = Phi4.A(0.8, 0.0), Phi4.A(1.0, 0.0), np.random.default_rng(7)
    phi = free_fields(source, 4000, rng)
    log_weight = source(phi) - target(phi)
    exact = {"phi2": free_propagator(target, SHAPE).mean(), "chi": free_propagator(target, SHAPE)[0, 0]}
    series = measure_primary([phi[:, None]], target)
    table = analysis.reweighted_table(series, log_weight[None], target, SHAPE, ("phi2", "chi", "schwinger_dyson"))
    assert all(sigmas(table[name], value) < N_SIGMA for name, value in exact.items())
    assert sigmas(table["schwinger_dyson"], 1) < N_SIGMA  # with the target's force
    # without weights these are averages of the source
    plain = analysis.observables_table(series, target, SHAPE, ("phi2", "schwinger_dyson"))
    assert sigmas(plain["phi2"], exact["phi2"]) > 2 * N_SIGMA
    assert sigmas(plain["schwinger_dyson"], 1) > 2 * N_SIGMA
    jackknife = analysis.reweighted(lambda a: a, [series["phi2"][0]], log_weight, method="jackknife")
    assert jackknife.value == pytest.approx(table["phi2"].value, abs=0.2 * table["phi2"].error)
    assert jackknife.error == pytest.approx(table["phi2"].error, rel=0.3)
    reach = analysis.reach(log_weight)
    assert reach.warning is None
    assert reach.ess.value == pytest.approx(reach.expected_ess, rel=0.1)


def test_reach_takes_blocks_of_correlated_weights():
    """Each weight 20 times in a row is 1/20 of the data: in blocks the error of the ESS grows by 20^(1/2), 4.5."""
    log_weight = np.repeat(0.5 * np.random.default_rng(14).normal(size=2000), 20)
    once, blocked = analysis.reach(log_weight[::20]), analysis.reach(log_weight, block=20)
    assert blocked.ess.error == pytest.approx(once.ess.error, rel=0.3)  # 200 resamples know an error to 5 %
    assert analysis.reach(log_weight).ess.error < 0.5 * blocked.ess.error


def test_importance_weights_give_moments_of_one_site():
    draws, reverse, _ = one_site(20_000, seed=8)
    second = analysis.reweighted(lambda a: a, [draws**2], reverse)
    exact = site_moment(2) / site_moment(0)
    assert sigmas(second, exact) < N_SIGMA
    assert abs((draws**2).mean() - exact) > 2 * N_SIGMA * second.error


def test_a_target_out_of_reach_is_announced_with_the_ess_to_expect():
    source, target = Phi4.A(0.8, 0.0), Phi4.A(4.0, 0.0)
    phi = free_fields(source, 2000, np.random.default_rng(9))
    reach = analysis.reach(source(phi) - target(phi))
    assert reach.expected_ess == pytest.approx(math.exp(-(reach.log_weight_std**2)))
    assert "out of reach" in reach.warning and f"{reach.expected_ess:.2g}" in reach.warning


# --- bias of an integration error ------------------------------------------------------------------------------------


def test_bias_of_a_known_error_is_exact():
    """Target N(0, 1), epsilon = a x: the chain samples N(-a, 1), whose distance is known in closed form."""
    a, x = 0.1, np.random.default_rng(10).normal(size=200_000)
    bias = analysis.integration_bias(a * x + 7.0, {"x": x, "x2": x * x})
    assert bias.correlations["x"] == pytest.approx((1, 0), abs=1e-9)
    assert abs(bias.correlations["x2"][0]) < 5 * bias.correlations["x2"][1]
    assert abs(bias.observables["x"][0] + a) < N_SIGMA * bias.observables["x"][1]
    assert abs(bias.observables["x2"][0] - a * a / math.sqrt(2)) < N_SIGMA * bias.observables["x2"][1]
    assert bias.bias_bound == pytest.approx(math.sqrt(math.expm1(a * a)), rel=0.02)
    assert bias.total_variation == pytest.approx(math.erf(a / math.sqrt(8)), rel=0.02)
    assert abs(bias.observables["x"][0]) < bias.bias_bound * 1.01
    assert bias.mean == pytest.approx(7, abs=0.01) and bias.std == pytest.approx(a, rel=0.02)
    assert bias.independent_samples == pytest.approx(1 / math.expm1(a * a), rel=0.04)


def test_a_constant_error_does_nothing_to_a_chain():
    bias = analysis.integration_bias(np.full(10, 0.3), {"x": np.arange(10.0)})
    assert bias.bias_bound < 1e-14 and bias.total_variation < 1e-14 and bias.independent_samples > 1e20
    assert bias.mean == pytest.approx(0.3)


def test_unusable_errors_are_refused():
    with pytest.raises(UserError, match="not finite"):
        analysis.integration_bias([0.0, np.inf])
    with pytest.raises(UserError, match="expected the same configurations"):
        analysis.integration_bias([0.0, 1.0], {"x": [1.0]})
    with pytest.raises(UserError, match="at least 2"):
        analysis.integration_bias([0.0])
