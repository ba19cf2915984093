"""Errors and autocorrelation times against AR(1) closed forms, pyerrors and resampling.

AR(1), ``x_i = a x_{i-1} + noise``: rho(t) = a^t, tau_int = (1 + a) / (2 (1 - a)), tau_exp = -1 / log a.
Statistical tests use four standard errors: a correct code fails one of them with probability 6e-5.
"""

import math
import warnings

import numpy as np
import pytest
from scipy.signal import lfilter

from latticediff import analysis
from latticediff.action import Phi4
from latticediff.analysis.convergence import ShortChainWarning
from latticediff.errors import UserError

N_SIGMA = 4


def ar1(a, n, n_chains=1, seed=0):
    """Stationary AR(1) chains of unit variance, shape (n_chains, n)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_chains, n)) * math.sqrt(1 - a * a)
    noise[:, 0] /= math.sqrt(1 - a * a)
    return lfilter([1.0], [1.0, -a], noise, axis=1)


def ar1_tau(a):
    return (1 + a) / (2 * (1 - a))


@pytest.mark.parametrize("a", [0.0, 0.5, 0.9, 0.98])
def test_tau_int_of_ar1_is_the_closed_form(a):
    tau = analysis.tau_int(ar1(a, 50_000, 4, seed=1))
    # the window leaves out a^W of the sum, by its rule below the statistical error
    assert abs(tau.value - ar1_tau(a)) < N_SIGMA * max(tau.error, 1 / math.sqrt(200_000))
    assert tau.n == 200_000
    estimate = analysis.mean(ar1(a, 50_000, 4, seed=1))
    assert estimate.error == pytest.approx(math.sqrt(2 * ar1_tau(a) / 200_000), rel=0.15)
    assert abs(estimate.value) < N_SIGMA * estimate.error


def test_anticorrelated_series_counts_as_independent():
    x = ar1(-0.3, 50_000, 4, seed=1)
    assert analysis.tau_int(x).value == pytest.approx(0.5, abs=1e-3)
    # the safe side: the true error is smaller by sqrt(tau_int / 0.5) with tau_int = 0.27
    assert analysis.mean(x).error == pytest.approx(1 / math.sqrt(200_000), rel=0.02)


def test_error_of_tau_int_is_its_scatter():
    a, n_runs = 0.8, 200
    results = [analysis.tau_int(row) for row in ar1(a, 5000, n_runs, seed=2)]
    scatter = np.std([r.value for r in results], ddof=1)
    claimed = np.mean([r.error for r in results])
    # the scatter of 200 runs is known to 5 %; the first-order formula itself to about 10 %
    assert claimed == pytest.approx(scatter, rel=N_SIGMA * 0.05 + 0.1)


@pytest.mark.parametrize("s_tau", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("a", [-0.5, 0.0, 0.3, 0.9])
def test_gamma_method_equals_pyerrors(a, s_tau):
    pe = pytest.importorskip("pyerrors")
    x = 3 + ar1(a, 20_001, seed=3)[0]
    reference = pe.Obs([x], ["e"])
    reference.gamma_method(S=s_tau)
    tau, estimate = analysis.tau_int(x, s_tau), analysis.mean(x, s_tau)
    assert tau.window == reference.e_windowsize["e"]
    assert tau.value == pytest.approx(reference.e_tauint["e"], rel=1e-8)
    assert tau.error == pytest.approx(reference.e_dtauint["e"], rel=1e-8)
    assert estimate.value == pytest.approx(reference.value, rel=1e-12)
    assert estimate.error == pytest.approx(reference.dvalue, rel=1e-8)
    assert estimate.error_of_error == pytest.approx(reference.ddvalue, rel=1e-8)
    np.testing.assert_allclose(tau.rho[: tau.window], reference.e_rho["e"][: tau.window], atol=1e-10)


def test_replicas_of_unequal_length_equal_pyerrors_about_the_common_mean():
    pe = pytest.importorskip("pyerrors")
    chains = [ar1(0.7, n, seed=n)[0] for n in (3000, 2000, 4501)]
    mean = np.concatenate(chains).mean()
    # pyerrors subtracts each replica's own mean by default; Wolff's eq. (31) subtracts the common one
    reference = pe.Obs([c - mean for c in chains], ["e|1", "e|2", "e|3"], means=[mean] * 3)
    reference.gamma_method(S=1.5)
    estimate = analysis.mean(chains)
    assert estimate.value == pytest.approx(mean, rel=1e-12)
    assert estimate.error == pytest.approx(reference.dvalue, rel=1e-8)
    assert estimate.tau_int == pytest.approx(reference.e_tauint["e"], rel=1e-8)


def test_derived_quantities_equal_pyerrors():
    pe = pytest.importorskip("pyerrors")
    m = 0.3 * ar1(0.8, 10_000, seed=4)[0] + 0.05
    obs = [pe.Obs([x], ["e"]) for x in (m**2, m**4, np.abs(m))]
    cases = [
        (lambda m2, m4, am: 1 - m4 / (3 * m2**2), 1 - obs[1] / (3 * obs[0] ** 2)),
        (lambda m2, m4, am: 64 * (m2 - am**2), 64 * (obs[0] - obs[2] ** 2)),
        (
            lambda m2, m4, am: math.sqrt(m2 / am**2 - 1) * math.log(m4),
            np.sqrt(obs[0] / obs[2] ** 2 - 1) * np.log(obs[1]),
        ),
    ]
    for function, reference in cases:
        reference.gamma_method(S=1.5)
        estimate = analysis.derived(function, [m**2, m**4, np.abs(m)])
        assert estimate.value == pytest.approx(reference.value, rel=1e-10)
        assert estimate.error == pytest.approx(reference.dvalue, rel=1e-8)
        assert estimate.tau_int == pytest.approx(reference.e_tauint["e"], rel=1e-8)


def test_covariance_counts_in_derived_quantities():
    x, y = ar1(0.5, 4000, seed=5)[0], ar1(0.5, 4000, seed=6)[0]
    difference = analysis.derived(lambda a, b: a - b, [x + 0.1 * y, x - 0.1 * y])
    assert difference.error == pytest.approx(0.2 * analysis.mean(y).error, rel=1e-8)
    # adding the errors in quadrature instead would be seven times too large
    assert math.hypot(analysis.mean(x + 0.1 * y).error, analysis.mean(x - 0.1 * y).error) > 5 * difference.error


def test_undefined_derived_quantity_is_nan_not_a_crash():
    m2, g = 0.01 + 0.001 * ar1(0.2, 500, seed=7)[0], 2 + 0.1 * ar1(0.2, 500, seed=8)[0]
    table = analysis.observables_table({"m2": m2, "g_kmin": g}, Phi4.A(1.0, 1.0), (6, 6), ["xi_2nd"])
    assert table["xi_2nd"].pair() == [None, None]
    moving_and_constant = analysis.derived(lambda a, b: a * b, [m2, np.full(500, 2.0)])
    assert moving_and_constant.error == pytest.approx(2 * analysis.mean(m2).error)


def test_observables_table_of_a_gaussian():
    rng = np.random.default_rng(9)
    m = 0.2 * rng.normal(size=(8, 5000))
    series = {"m": m, "abs_m": abs(m), "m2": m**2, "m4": m**4, "phi2": m**2 + 1, "action": 18 + m, "sd": 1 + m}
    series["g_kmin"] = 0.3 * rng.exponential(size=m.shape)
    exact = {
        "abs_m": 0.2 * math.sqrt(2 / math.pi),
        "chi": 36 * 0.04,
        "chi_abs": 36 * 0.04 * (1 - 2 / math.pi),
        "binder": 0.0,
        "phi2": 1.04,
        "action_per_site": 0.5,
        "xi_2nd": math.sqrt(36 * 0.04 / 0.3 - 1) / (2 * math.sin(math.pi / 6)),
    }
    table = analysis.observables_table(series, Phi4.A(1.0, 1.0), (6, 6))
    assert list(table) == list(exact)
    for name, difference in analysis.compare_tables(table, {k: (v, 0.0) for k, v in exact.items()}).items():
        assert abs(difference.sigma) < N_SIGMA, name
    other = analysis.observables_table(series, Phi4.A(1.0, 1.0), (6, 6), ["schwinger_dyson", "fourth_cumulant", "m4"])
    assert abs(other["fourth_cumulant"].value) < N_SIGMA * other["fourth_cumulant"].error
    taus = analysis.tau_table(series)
    assert list(taus) == ["m", "abs_m", "m2", "action"]
    assert all(abs(tau.value - 0.5) < 0.02 for tau in taus.values())
    with pytest.raises(UserError, match="needs the primary series m4"):
        analysis.observables_table({"m2": m**2}, Phi4.A(1.0, 1.0), (6, 6), ["binder"])
    with pytest.raises(UserError, match="observable is 'mass'"):
        analysis.observables_table(series, Phi4.A(1.0, 1.0), (6, 6), ["mass"])


def test_compare_in_combined_sigma():
    difference = analysis.compare(analysis.Estimate(1.0, 0.3), (2.0, 0.4))
    assert difference.difference == pytest.approx(-1.0)
    assert difference.sigma == pytest.approx(-2.0)
    assert math.isnan(analysis.compare((None, None), (1.0, 0.1)).sigma)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.13051, 0.0011, "0.1305(11)"),
        (25.1, 0.4, "25.10(40)"),
        (123.4, 17.0, "123(17)"),
        (1234.0, 250.0, "1230(250)"),
        (1.0, 0.0999, "1.00(10)"),
        (-0.5, math.nan, "-0.5"),
    ],
)
def test_error_in_brackets(value, error, text):
    assert str(analysis.Estimate(value, error)) == text


def test_a_chain_that_never_moved_has_no_tau_int():
    for constant in (0.0, 0.1, np.full((3, 50), 1e10 / 3)):
        with pytest.raises(UserError, match=r"is constant.*never moved"):
            analysis.tau_int(np.zeros(100) + constant if np.ndim(constant) == 0 else constant)
    with pytest.raises(UserError, match="abs_m is constant"):
        analysis.observables_table({"abs_m": np.ones((2, 9))}, Phi4.A(1.0, 1.0), (6, 6), ["abs_m"])
    with pytest.raises(UserError, match="not finite"):
        analysis.tau_int([1.0, math.nan, 2.0])
    with pytest.raises(UserError, match="at least 2"):
        analysis.tau_int([1.0])
    with pytest.raises(UserError, match="shape"):
        analysis.tau_int(np.zeros((2, 3, 4)))
    with pytest.raises(UserError, match="same configurations"):
        analysis.derived(lambda a, b: a + b, [np.arange(5.0), np.arange(6.0)])
    with pytest.raises(UserError, match="s_tau"):
        analysis.tau_int(np.arange(5.0), s_tau=0)


def test_jackknife_and_bootstrap_agree_with_the_gamma_method():
    m = 0.3 * ar1(0.8, 5000, 4, seed=10)
    series = [m**2, m**4]

    def binder(m2, m4):
        return 1 - m4 / (3 * m2**2)

    gamma = analysis.derived(binder, series)
    jack = analysis.jackknife(binder, series)
    boot = analysis.bootstrap(binder, series)
    # blocks of 8 tau_int: errors known to about 5 %, blocking bias about 6 %
    assert jack.error == pytest.approx(gamma.error, rel=0.25)
    assert boot.error == pytest.approx(gamma.error, rel=0.25)
    assert abs(jack.value - gamma.value) < gamma.error
    # unblocked, correlations are missed: the error is too small by sqrt(2 tau_int) = 1.5
    assert analysis.jackknife(binder, series, block=1).error < 0.8 * gamma.error


def test_jackknife_removes_the_bias_of_order_one_over_n():
    # <x>^2 of n unit Gaussians is 1/n too large on average
    x = np.random.default_rng(11).normal(size=(4000, 20))
    plain = np.array([row.mean() ** 2 for row in x])
    jack = np.array([analysis.jackknife(np.square, [row], block=1).value for row in x])
    error = plain.std() / math.sqrt(len(x))
    assert plain.mean() > 1 / 20 - N_SIGMA * error
    assert abs(jack.mean()) < N_SIGMA * jack.std() / math.sqrt(len(x))


def test_block_scan_rises_to_the_plateau():
    scan = analysis.block_scan(lambda a: a, [ar1(0.9, 50_000, 2, seed=12)])
    exact = math.sqrt(2 * ar1_tau(0.9) / 100_000)
    blocks, errors, _ = zip(*scan, strict=True)
    assert list(blocks[:4]) == [1, 2, 4, 8]
    assert errors[0] == pytest.approx(1 / math.sqrt(100_000), rel=0.05)
    long_blocks = [(e, de) for b, e, de in scan if b >= 256]
    assert all(abs(e - exact) < N_SIGMA * de + 0.05 * exact for e, de in long_blocks)
    with pytest.raises(UserError, match="block scan"):
        analysis.block_scan(lambda a: a, [np.arange(5.0)])


@pytest.mark.parametrize("a", [0.8, 0.97])
def test_tau_exp_of_ar1(a):
    fit = analysis.tau_exp(ar1(a, 20_000, 10, seed=13))
    assert abs(fit.value + 1 / math.log(a)) < N_SIGMA * fit.error
    assert fit.error < 0.15 * fit.value


def test_tau_exp_is_longer_than_tau_int_where_a_slow_mode_couples_weakly():
    x = ar1(0.3, 40_000, 10, seed=14) + 0.5 * ar1(0.97, 40_000, 10, seed=15)
    fit, tau = analysis.tau_exp(x), analysis.tau_int(x)
    assert fit.value > 2.5 * tau.value
    assert fit.value == pytest.approx(-1 / math.log(0.97), rel=0.25)


def test_r_hat_is_one_for_chains_that_agree_and_not_for_others():
    x = ar1(0.5, 2000, 8, seed=16)
    assert analysis.r_hat(x) < 1.01
    shifted = x.copy()
    shifted[0] += 1.5
    assert analysis.r_hat(shifted) > 1.05
    wider = x.copy()
    wider[:4] *= 3  # same means: only the folded form sees it
    assert analysis.r_hat(wider) > 1.1
    drifting = x[:1] + np.linspace(-2, 2, 2000)
    assert analysis.r_hat(drifting) > 1.2  # one chain, split in halves
    stuck = np.repeat(np.arange(4.0)[:, None], 100, axis=1)
    assert analysis.r_hat(stuck) == math.inf


def test_thermalisation_is_found_and_only_suggested():
    x = ar1(0.8, 2000, 16, seed=17)
    assert analysis.find_thermalization(x).suggested_cut == 0
    start = x + 5 * np.exp(-np.arange(2000) / 40)
    before = start.copy()
    found = analysis.find_thermalization(start)
    assert 40 <= found.suggested_cut <= 500 and found.reliable
    np.testing.assert_array_equal(start, before)
    fast = x + 8 * np.exp(-np.arange(2000) / 2)
    assert 0 < analysis.find_thermalization(fast).suggested_cut <= 62
    slow = x + 5 * np.exp(-np.arange(2000) / 1000)
    assert not analysis.find_thermalization(slow).reliable


def test_short_chain_warns_with_the_further_updates():
    tau = analysis.tau_int(ar1(0.95, 400, seed=18))
    with pytest.warns(ShortChainWarning, match="more entries in each of 1 chains"):
        assert analysis.warn_if_short(tau)
    shared = analysis.short_chain_notice(tau, n_chains=4, n_wanted=100, name="m")
    assert f"run at least {math.ceil(analysis.further_updates(tau, 100) / 4)} more entries in each of 4" in shared
    longer = analysis.tau_int(ar1(0.95, 20_000, seed=18))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not analysis.warn_if_short(longer)
    assert analysis.further_updates(longer, 1e4) == math.ceil(1e4 * (longer.value + longer.error) - 20_000)


def test_effective_masses_carry_the_covariance_of_neighbouring_separations():
    rng = np.random.default_rng(19)
    extent, mass = 12, 0.5
    t = np.arange(extent // 2 + 1)
    shape = np.cosh(mass * (extent / 2 - t))
    common = 1 + 0.2 * rng.normal(size=(4, 1000, 1))  # one factor for all t drops out of the ratio
    correlators = shape * (common + 0.001 * rng.normal(size=(4, 1000, len(t))))
    masses = analysis.effective_masses(correlators, extent)
    for estimate in masses[:4]:
        assert abs(estimate.value - mass) < N_SIGMA * estimate.error
        assert estimate.error < 0.01 * mass
    values = analysis.correlator_table(correlators)
    assert values[0].error / values[0].value > 10 * masses[0].error / mass
    with pytest.raises(UserError, match="separations for T = 10"):
        analysis.effective_masses(correlators, 10)
    with pytest.raises(UserError, match="n_chains, n, n_separations"):
        analysis.effective_masses(correlators[0], 12)


def test_error_of_the_autocorrelation_function_is_its_scatter():
    a, lags = 0.7, [1, 3, 6, 15]
    rhos = np.array([analysis.autocorrelation(row, 60) for row in ar1(a, 4000, 200, seed=22)])
    claimed = analysis.autocorrelation_error(a ** np.arange(60), 4000)
    # 200 runs know the scatter to 5 %
    np.testing.assert_allclose(rhos.std(axis=0, ddof=1)[lags], claimed[lags], rtol=N_SIGMA * 0.05)


def ar1_coverage(n_runs, seed):
    """Share of runs whose one-sigma interval holds the true mean 0."""
    runs = ar1(0.9, 4000, n_runs, seed)
    estimates = [analysis.mean(row) for row in runs]
    return np.mean([abs(e.value) < e.error for e in estimates]), np.mean([abs(r.mean()) < r.std() / 63 for r in runs])


def test_one_sigma_interval_covers_68_percent():
    covered, naive = ar1_coverage(500, seed=20)
    # 500 runs: 2.1 %, and about 1 % of undercoverage since errors of short runs are uncertain
    assert abs(covered - 0.683) < N_SIGMA * 0.021
    assert naive < 0.4  # without autocorrelation the test fails by far


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_numbers_whose_squares_leave_the_range_are_refused_in_one_line(scale):
    series = scale * ar1(0.5, 400, 2)
    statistics = {
        "mean": analysis.mean,
        "tau_int": analysis.tau_int,
        "autocorrelation": analysis.autocorrelation,
        "tau_exp": analysis.tau_exp,
        "r_hat": analysis.r_hat,
        "find_thermalization": analysis.find_thermalization,
        "jackknife": lambda a: analysis.jackknife(lambda x: x, [a], 10),
    }
    for name, statistic in statistics.items():
        with pytest.raises(UserError, match="squares leave the range of float64; expected 1e-140 to 1e") as error:
            statistic(series)
        assert "\n" not in str(error.value), name


@pytest.mark.parametrize("scale", [1e140, 1e-135])
def test_large_and_small_numbers_have_the_error_of_others(scale):
    series = ar1(0.5, 400, 2)
    here, there = analysis.mean(series), analysis.mean(scale * series)
    assert there.error == pytest.approx(scale * here.error) and there.tau_int == pytest.approx(here.tau_int)


def test_names_of_tau_table_may_be_a_generator():
    assert list(analysis.tau_table({"m": ar1(0.5, 400)}, (name for name in ["m"]))) == ["m"]


def test_resampling_says_which_series_it_wants():
    for resample in (analysis.jackknife, analysis.bootstrap, analysis.block_scan):
        with pytest.raises(UserError, match="no series given"):
            resample(lambda: 0.0, [])
        with pytest.raises(UserError, match="expected the same configurations in each"):
            resample(lambda a, b: a + b, [ar1(0.5, 400), ar1(0.5, 200)])
