"""Observables against brute force, identities and the free field.

Statistical tests use four standard errors: a correct code fails one of them with probability 6e-5.
"""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest

from latticediff import observables as obs
from latticediff.action import Phi4, free_propagator
from latticediff.errors import UserError
from latticediff.observables.contract import Where
from latticediff.observables.measuring import complete
from latticediff.observables.table import OBSERVABLES, REPORTED, THERMAL, TIMED

N_SIGMA = 4
ACTION = Phi4.A(m2=-4.0, lam=6.008)


@pytest.fixture
def phis():
    return np.random.default_rng(3).normal(size=(5, 4, 6))


def free_field(action, shape, n, seed):
    """Exact independent draws of the free field, from its propagator."""
    noise = np.fft.fftn(np.random.default_rng(seed).normal(size=(n, *shape)), axes=range(1, len(shape) + 1))
    return np.fft.ifftn(noise * np.sqrt(free_propagator(action, shape)), axes=range(1, len(shape) + 1)).real


def plane_wave(shape, numbers):
    grid = np.meshgrid(*[np.arange(extent) for extent in shape], indexing="ij")
    return np.exp(-2j * np.pi * sum(n * x / extent for n, x, extent in zip(numbers, grid, shape, strict=True)))


def test_primary_observables_are_their_definitions(phis):
    series = obs.measure_primary(phis, ACTION)
    m = np.array([phi.sum() / 24 for phi in phis])
    expected = {
        "m": m,
        "abs_m": abs(m),
        "m2": m**2,
        "m4": m**4,
        "phi2": np.array([(phi**2).sum() / 24 for phi in phis]),
        "action": ACTION(phis),
        "g_kmin": np.array([abs((phi * plane_wave((4, 6), (0, 1))).sum()) ** 2 / 24 for phi in phis]),
    }
    for name, values in expected.items():
        assert series[name].shape == (1, 5)
        np.testing.assert_allclose(series[name][0], values, rtol=1e-12, err_msg=name)


def test_schwinger_dyson_is_the_response_to_a_rescaled_field(phis):
    # d/ds S(e^s phi) at s = 0 is sum phi dS/dphi
    h = 1e-5
    slope = (ACTION(math.exp(h) * phis) - ACTION(math.exp(-h) * phis)) / (2 * h)
    np.testing.assert_allclose(obs.measure_primary(phis, ACTION)["sd"][0], slope / 24, rtol=1e-8)


@pytest.mark.parametrize("shape", [(5, 5), (3, 6, 6), (7,)])
def test_g_kmin_averages_over_the_longest_axes(shape):
    phis = np.random.default_rng(4).normal(size=(2, *shape))
    longest = [axis for axis, extent in enumerate(shape) if extent == max(shape)]
    modes = [[int(a == axis) for a in range(len(shape))] for axis in longest]
    expected = [
        np.mean([abs((phi * plane_wave(shape, mode)).sum()) ** 2 for mode in modes]) / math.prod(shape) for phi in phis
    ]
    action = Phi4.A(1.0, 1.0, ndim=len(shape))
    np.testing.assert_allclose(obs.measure_primary(phis, action, ["g_kmin"])["g_kmin"][0], expected, rtol=1e-12)


def test_observables_do_not_depend_on_how_the_run_is_cut():
    phis = np.random.default_rng(5).normal(size=(7, 3, 4, 6))
    whole = obs.measure_primary(phis, ACTION)
    pieces = obs.measure_primary((phis[a:b] for a, b in [(0, 2), (2, 2), (2, 6), (6, 7)]), ACTION)
    alone = obs.measure_primary(phis[:, 1], ACTION)
    for name, series in whole.items():
        assert series.shape == (3, 7)
        np.testing.assert_array_equal(series, pieces[name])
        np.testing.assert_array_equal(series[1:2], alone[name])


def test_own_observable_is_a_function_of_a_batch(phis):
    series = obs.measure_primary(phis, ACTION, {"phi4": lambda batch, action: (batch**4).mean(axis=(1, 2)), "m": "m"})
    assert list(series) == ["phi4", "m"]
    np.testing.assert_allclose(series["phi4"][0], (phis**4).mean(axis=(1, 2)))


def test_bad_input_is_refused_with_what_was_wanted(phis):
    with pytest.raises(UserError, match=r"observable is 'phi_2' \(did you mean 'phi2'\?\)"):
        obs.measure_primary(phis, ACTION, ["phi_2"])
    with pytest.raises(UserError, match="'bad' has shape"):
        obs.measure_primary(phis, ACTION, {"bad": lambda batch, action: batch})
    with pytest.raises(UserError, match="not finite"):
        obs.measure_primary(np.where(phis > 2, np.nan, phis), ACTION)
    with pytest.raises(UserError, match="no configuration"):
        obs.measure_primary([], ACTION)
    with pytest.raises(UserError, match="2 lattice axes"):
        obs.measure_primary(phis[0], ACTION)
    with pytest.raises(UserError, match="batches before it"):
        obs.measure_primary([phis, phis[:, :3]], ACTION)
    with pytest.raises(UserError, match="expected 2 integers"):
        obs.momentum_susceptibility(phis, (1,))
    with pytest.raises(UserError, match="time axis is 2"):
        obs.time_slices(phis, axis=2)
    with pytest.raises(UserError, match="t \\+ 1 <="):
        obs.effective_mass(2.0, 1.0, 4, 8)
    with pytest.raises(UserError, match="expected cosh or log"):
        obs.effective_mass(2.0, 1.0, 0, 8, "sinh")
    with pytest.raises(UserError, match="xi_2nd needs"):
        obs.xi_second_moment(1.0, 1.0, 1, 1)


def test_structure_factor_is_the_susceptibility_of_each_momentum(phis):
    factor = obs.structure_factor(phis, 2)
    for numbers in itertools.product(range(4), range(4)):
        np.testing.assert_allclose(obs.momentum_susceptibility(phis, numbers), factor[:, *numbers], atol=1e-12)


def test_correlator_is_its_definition_and_sums_to_the_susceptibility():
    phis = np.random.default_rng(6).normal(size=(2, 6, 4, 5))
    for axis, momentum in [(0, None), (1, (1, -2)), (2, (0, 1))]:
        slices = obs.time_slices(phis, momentum, axis)
        moved = np.moveaxis(phis, axis + 1, 1)
        wave = plane_wave(moved.shape[2:], momentum or (0, 0))
        np.testing.assert_allclose(slices, (moved * wave).sum(axis=(2, 3)), atol=1e-12)
        length = slices.shape[1]
        correlator = obs.timeslice_correlator(phis, momentum, axis)
        assert correlator.shape == (2, length // 2 + 1)
        for t in range(length // 2 + 1):
            direct = (slices.conj() * np.roll(slices, -t, axis=1)).real.sum(axis=1) / 120
            np.testing.assert_allclose(correlator[:, t], direct, atol=1e-12)
        full = np.concatenate([correlator, correlator[:, (length - 1) // 2 : 0 : -1]], axis=1)
        numbers = list(momentum or (0, 0))
        numbers.insert(axis, 0)
        np.testing.assert_allclose(full.sum(axis=1), obs.momentum_susceptibility(phis, numbers), atol=1e-12)


def test_free_field_propagator_correlator_and_xi():
    shape, action = (8, 6), Phi4.A(1.0, 0.0)
    phis = free_field(action, shape, 20_000, seed=7)
    exact = free_propagator(action, shape)
    factor = obs.structure_factor(phis, 2)
    sigma = (factor.mean(axis=0) - exact[:, :4]) / (factor.std(axis=0) / math.sqrt(len(phis)))
    assert np.abs(sigma).max() < N_SIGMA + 1  # 32 modes at once
    # C(t) = L_t^-1 sum_k exp(i k t) G(k, 0)
    closed = np.fft.ifft(exact[:, 0]).real[:5]
    correlator = obs.timeslice_correlator(phis)
    sigma = (correlator.mean(axis=0) - closed) / (correlator.std(axis=0) / math.sqrt(len(phis)))
    assert np.abs(sigma).max() < N_SIGMA
    # in this convention G = 1 / (2 m2 + 2 p_hat^2), so xi_2nd = 1 / m exactly
    assert obs.xi_second_moment(exact[0, 0] / 48, exact[1, 0], 48, 8) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("extent", [8, 9])
def test_cosh_mass_of_a_free_correlator_is_the_pole_mass_at_every_separation(extent):
    action = Phi4.A(0.3, 0.0)
    correlator = np.fft.ifft(free_propagator(action, (extent, 4))[:, 0]).real
    pole = 2 * math.asinh(math.sqrt(0.3) / 2)  # p_hat^2 = -m^2
    masses = [obs.effective_mass(correlator[t], correlator[t + 1], t, extent) for t in range(extent // 2)]
    np.testing.assert_allclose(masses, pole, rtol=1e-9)
    logs = [obs.effective_mass(correlator[t], correlator[t + 1], t, extent, "log") for t in range(extent // 2)]
    assert np.all(np.diff(logs) < 0)  # the image in the other direction lowers it
    assert logs[-1] < 0.6 * pole


def test_effective_mass_is_undefined_where_the_correlator_does_not_fall():
    assert math.isnan(obs.effective_mass(1.0, 1.1, 0, 8))
    assert math.isnan(obs.effective_mass(1.0, -0.1, 0, 8))
    assert math.isnan(obs.effective_mass(1.0, 0.9, 4, 9))  # t = 4 and 5 on T = 9 mirror each other


def test_derived_quantities_of_known_distributions():
    # Gaussian m of variance v: <m^4> = 3 v^2; two delta peaks: <m^4> = <m^2>^2
    assert obs.binder(0.2, 3 * 0.04) == pytest.approx(0.0, abs=1e-15)
    assert obs.binder(0.2, 0.04) == pytest.approx(2 / 3)
    assert obs.fourth_cumulant(0.2, 3 * 0.04, 36) == pytest.approx(0.0, abs=1e-10)
    assert obs.chi_abs(0.04, 0.2, 36) == pytest.approx(0.0, abs=1e-14)
    assert math.isnan(obs.xi_second_moment(0.01, 1.0, 36, 6))
    # g_R does not depend on the normalisation of the field
    s = 1.7
    plain = obs.renormalised_coupling(0.03, 0.002, 0.5, 36, 6, 2)
    assert obs.renormalised_coupling(0.03 * s**2, 0.002 * s**4, 0.5 * s**2, 36, 6, 2) == pytest.approx(plain)


def test_running_mean_is_the_mean_with_the_error_of_correlated_data():
    from scipy.signal import lfilter

    a, n = 0.8, 40_000
    rng = np.random.default_rng(8)
    x = np.stack([lfilter([1], [1, -a], rng.normal(size=n + 200))[200:] for _ in range(3)], axis=1)
    running = obs.RunningMean(n_bins=64)
    for first in range(0, n, 777):
        running.add(x[first : first + 777])
    value, error = running.estimate()
    np.testing.assert_allclose(value, x.mean(axis=0), rtol=1e-10)
    assert running.bin_size >= 100
    exact = 1 / (1 - a) / math.sqrt(n)  # sqrt(2 tau_int Gamma(0) / n) of AR(1) with unit noise
    # 64 to 128 bins: the error is known to 1 / sqrt(2 * 64) = 9 %
    np.testing.assert_allclose(error, exact, rtol=N_SIGMA * 0.09)
    squared, squared_error = running.estimate(np.square)
    np.testing.assert_allclose(squared, value**2)
    np.testing.assert_allclose(squared_error, 2 * np.abs(value) * error, rtol=0.5)
    with pytest.raises(UserError, match="needs 2"):
        obs.RunningMean().estimate()
    with pytest.raises(UserError, match="even number"):
        obs.RunningMean(3)
    with pytest.raises(UserError, match="ones before it"):
        running.add(np.zeros((2, 4)))


def test_neither_torch_nor_numba_is_imported():
    code = "import sys, latticediff.observables, latticediff.analysis; print({'torch', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_one_table_says_what_is_reported_timed_and_gated():
    assert REPORTED == ("abs_m", "chi", "chi_abs", "binder", "phi2", "action_per_site", "xi_2nd")
    assert TIMED == ("m", "abs_m", "m2", "action")
    assert THERMAL == ("abs_m", "phi2", "action")
    for name, entry in OBSERVABLES.items():
        assert all(not OBSERVABLES[need].derived for need in entry.needs), name
        assert entry.symbol and entry.tex and entry.meaning, name
        assert not (entry.derived and (entry.timed or entry.thermal)), name


def test_series_that_follow_from_others_are_completed(phis):
    action = Phi4.A(-1.0, 1.0)
    whole = obs.measure_primary(phis, action)
    kept = {name: whole[name] for name in ("m", "phi2", "g_kmin", "action", "sd")}
    found = complete(kept)
    assert set(found) == set(whole)
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_a_derived_observable_has_no_series(phis):
    with pytest.raises(UserError, match="'chi' is derived from means; measure m2 and take it from"):
        obs.measure_primary(phis, Phi4.A(-1.0, 1.0), ["chi"])


@pytest.mark.parametrize("names", [("m", "abs_m"), ("abs_m", "m")])
def test_what_an_observable_needs_is_the_registered_one_in_any_order(phis, names):
    own = {"m": lambda phis, action: np.full(len(phis), 7.0), "abs_m": "abs_m"}
    found = obs.measure_primary(phis, ACTION, {name: own[name] for name in names})
    assert np.array_equal(found["abs_m"], abs(obs.measure_primary(phis, ACTION)["m"]))
    assert (found["m"] == 7).all()


def test_needs_that_lead_nowhere_are_refused(phis, monkeypatch):
    monkeypatch.setitem(OBSERVABLES, "a", obs.Observable(abs, needs=("b",)))
    monkeypatch.setitem(OBSERVABLES, "b", obs.Observable(abs, needs=("a",)))
    for entry, message in (
        (OBSERVABLES["a"], "observable 'b' needs itself: mine needs b needs a needs b"),
        (obs.Observable(abs, needs=("chi",)), "'mine' needs 'chi', which is derived from means"),
        (obs.Observable(abs, needs=("curtosis",)), "observable is 'curtosis'"),
    ):
        with pytest.raises(UserError, match=message):
            obs.measure_primary(phis, ACTION, {"mine": entry})


def test_a_derived_observable_names_what_it_is_derived_from():
    with pytest.raises(UserError, match="wants to know of which: give needs"):
        obs.Observable(abs, derived=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_observable_without_a_finite_value_is_refused_by_name_and_configuration(bad):
    phis = np.random.default_rng(2).normal(size=(5, 3, 4, 6))
    marked = phis[3, 1].copy()  # found by content: chunks and batches cut the series anywhere

    def odd(batch, action):
        return np.where((batch == marked).all(axis=(1, 2)), bad, batch[:, 0, 0])

    def odd_array(batch):
        return np.stack([batch[:, 0, 0], odd(batch, None)], axis=1)

    for batches in (phis, [phis[:2], phis[2:]]):
        with pytest.raises(UserError, match=f"'odd' is {bad} at entry 3 of chain 1; expected a finite") as error:
            obs.measure_primary(batches, ACTION, {"m": "m", "odd": odd})
        assert "\n" not in str(error.value)
        with pytest.raises(UserError, match=f"'odd_array' is {bad} at entry 3 of chain 1"):
            obs.measure_array(batches, ACTION, odd_array)


def test_a_needed_observable_that_overflows_is_named(phis):
    with pytest.raises(UserError, match="observable 'm4' is inf at entry 0 of chain 0"), np.errstate(over="ignore"):
        obs.measure_primary(1e100 * (phis + 3), ACTION, ["m4"])


def test_an_observable_cannot_change_the_fields(phis):
    before = phis.copy()

    def doubles(batch, action=None):
        batch *= 2
        return batch.mean(axis=(1, 2))

    def of_another(m):
        m[:] = 0
        return m

    with pytest.raises(UserError, match=r"observable 'twice' writes into the arrays .*read-only.*; let it") as error:
        obs.measure_primary(phis, ACTION, {"twice": doubles})
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="observable 'zero' writes"):
        obs.measure_primary(phis, ACTION, {"zero": obs.Observable(of_another, ("m",))})
    with pytest.raises(UserError, match="observable 'doubles' writes"):
        obs.measure_array(phis, ACTION, doubles)
    np.testing.assert_array_equal(phis, before)
    assert phis.flags.writeable
    with pytest.raises(ValueError, match="could not convert"):  # an error of its own is not called another
        obs.measure_primary(phis, ACTION, {"raises": lambda batch, action: float("x")})


def test_one_site_has_neither_a_length_nor_a_coupling():
    at = Where(1, 1, 2)
    for name in ("xi_2nd", "renormalised_coupling"):
        values = OBSERVABLES[name](at, *[1.0] * len(OBSERVABLES[name].needs))
        assert math.isnan(values) and "NaN on one site" in OBSERVABLES[name].meaning


def test_a_running_mean_refuses_what_its_error_cannot_hold():
    with pytest.raises(UserError, match="a sample is 1e\\+200 in magnitude, whose square overflows"):
        obs.RunningMean().add(np.full((3, 2), -1e200))
