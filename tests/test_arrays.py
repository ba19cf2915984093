"""Every public door refuses what is no array of real numbers, in one line, before it is rounded to one."""

import warnings

import numpy as np
import pytest
import torch

from latticediff import analysis, observables
from latticediff.action import Phi4
from latticediff.arrays import real_array
from latticediff.cluster import Cluster
from latticediff.composite import Mixture
from latticediff.ensemble import convert, save_ensemble
from latticediff.errors import UserError
from latticediff.hmc import HMC
from latticediff.local_updates import LocalMetropolis
from latticediff.observables import measure_array, measure_primary
from latticediff.report import ChainResult
from latticediff.training import TrainingData

ACTION = Phi4.A(-4.0, 6.008)
GENERATOR = np.random.default_rng(1)
FIELDS = GENERATOR.normal(size=(6, 4, 6))
SERIES = GENERATOR.normal(size=(3, 40))


CHAIN = {"name": "c", "label": "C", "n_updates": 40, "n_chains": 3, "observables": {}, "tau_int": {}}


def masked(values):
    """A hole with junk below it, as netCDF and HDF5 readers give them."""
    values = np.ma.array(values.copy(), mask=False)
    values[0, 1] = 1e9
    values[0, 1] = np.ma.masked
    return values


BAD = {
    "complex": (lambda v: v + 1j, r"complex numbers \(complex128\); expected real numbers; pass .real and .imag"),
    "masked": (masked, r"masked array with \d+ masked entries"),
    "objects": (lambda v: v.astype(object), "Python objects"),
    "text": (lambda v: v.astype(str), "text"),
}

FIELD_DOORS = {
    "action": ACTION,
    "force": ACTION.force,
    "HMC": lambda phi: HMC(ACTION, 0.1, 10).start(phi),
    "Cluster": lambda phi: Cluster(ACTION).start(phi),
    "LocalMetropolis": lambda phi: LocalMetropolis(ACTION, 0.5).start(phi),
    "measure_primary": lambda phi: measure_primary(phi, ACTION),
    "measure_primary, batches": lambda phi: measure_primary([phi], ACTION),
    "measure_array": lambda phi: measure_array(phi, ACTION, observables.timeslice_correlator),
    "magnetization": observables.OBSERVABLES["m"],
    "phi_squared": observables.OBSERVABLES["phi2"],
    "structure_factor": lambda phi: observables.structure_factor(phi, 2),
    "momentum_susceptibility": lambda phi: observables.momentum_susceptibility(phi, [1, 0]),
    "time_slices": observables.time_slices,
    "timeslice_correlator": observables.timeslice_correlator,
    "TrainingData": lambda phi: TrainingData(phi, 2, 0.5),
}

SERIES_DOORS = {
    **{
        name: getattr(analysis, name)
        for name in (
            "tau_int",
            "mean",
            "autocorrelation",
            "r_hat",
            "tau_exp",
            "find_thermalization",
            "ess_reverse",
            "ess_forward",
            "expected_acceptance",
            "pareto_k",
            "largest_above_mean",
            "weight_report",
            "reach",
            "log_z_reverse",
            "log_z_forward",
            "integration_bias",
        )
    },
    "tau_int, chains of other lengths": lambda a: analysis.tau_int([a[0], a[1][:30]]),
    "derived": lambda a: analysis.derived(lambda x: x, [a]),
    "jackknife": lambda a: analysis.jackknife(lambda x: x, [a], 4),
    "bootstrap": lambda a: analysis.bootstrap(lambda x: x, [a], 4),
    "block_scan": lambda a: analysis.block_scan(lambda x: x, [a]),
    "reweighted": lambda a: analysis.reweighted(lambda x: x, [a], SERIES),
    "reweighted, weights": lambda a: analysis.reweighted(lambda x: x, [SERIES], a),
    "log_z_bridge": lambda a: analysis.log_z_bridge(SERIES, a),
    "correlator_table": lambda a: analysis.correlator_table(a[:, :, None]),
    "RunningMean": lambda a: observables.RunningMean().add(a),
    "Mixture": lambda a: Mixture([HMC(ACTION, 0.1, 10)] * 3, a[0, :3]),
    "ChainResult": lambda a: ChainResult(**CHAIN, series={"m": a}),
}


def _check(door, values, kind):
    change, message = BAD[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a ComplexWarning would be the number thrown away
        with pytest.raises(UserError, match=message) as caught:
            door(change(values))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("door", FIELD_DOORS)
def test_doors_of_fields(door, kind):
    _check(FIELD_DOORS[door], FIELDS, kind)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("door", SERIES_DOORS)
def test_doors_of_series(door, kind):
    _check(SERIES_DOORS[door], SERIES, kind)


@pytest.mark.parametrize("kind", BAD)
def test_doors_of_files(tmp_path, kind):
    _check(lambda phi: save_ensemble(tmp_path / "a.h5", phi, action=ACTION), FIELDS, kind)
    history = {"accepted": GENERATOR.random((6, 1))}
    _check(
        lambda a: save_ensemble(tmp_path / "a.h5", FIELDS, action=ACTION, history={"accepted": a}),
        history["accepted"].repeat(2, 1),
        kind,
    )
    if kind != "masked":  # no such thing in a file
        np.save(tmp_path / "foreign.npy", BAD[kind][0](FIELDS), allow_pickle=True)
        with pytest.raises(UserError):
            convert(tmp_path / "foreign.npy", tmp_path / "a.h5", ACTION, check=False)
    assert not (tmp_path / "a.h5").exists() and not list(tmp_path.glob("*.part"))


def test_the_own_complex_observable_keeps_its_imaginary_part():
    phis = np.random.default_rng(2).normal(size=(400, 2, 6, 8))
    series = measure_array(phis, ACTION, lambda batch: observables.time_slices(batch, momentum=[1]))
    assert series.shape == (2, 400, 6) and series.dtype == np.complex128
    # white noise of unit variance: <|C|^2> is the number of spatial sites, each part holds half of it
    modulus, parts = np.abs(series) ** 2, (series.real**2, series.imag**2)
    error = 8 / np.sqrt(series.size)  # |C|^2 is exponential: its spread is its mean
    assert abs(modulus.mean() - 8) < 4 * error
    assert all(abs(part.mean() - 4) < 4 * error for part in parts)
    direct = np.fft.fft(phis[:, 1], axis=2)[:, :, 1]
    np.testing.assert_allclose(series[1], direct, rtol=1e-12, atol=1e-12)
    with pytest.raises(UserError, match="correlators holds complex numbers"):
        analysis.correlator_table(series)
    with pytest.raises(UserError, match="observable 'c' holds complex numbers"):
        measure_primary(phis, ACTION, {"c": lambda batch, action: observables.time_slices(batch, [1])[:, 0]})


def test_what_holds_real_numbers_goes_through():
    values = np.arange(6.0)
    assert real_array(values, "x") is values
    for same in (values.tolist(), values.astype(np.int32), values.astype("f4"), torch.arange(6.0, requires_grad=True)):
        found = real_array(same, "x")
        assert found.dtype == np.float64 and np.array_equal(found, values)
    assert np.array_equal(real_array(np.ma.array(values), "x"), values)  # nothing is masked
    assert real_array([True, False], "x", booleans=True).tolist() == [1.0, 0.0]
    assert real_array(np.float32([1.5]), "x", dtype=None).dtype == np.float32
    # one accepted of two, as a history gives it
    assert analysis.mean(np.arange(40) % 3 == 0).value == pytest.approx(14 / 40)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[1.0, 2.0], [3.0]], "cannot be made an array"),
        ([True, False], "truth values"),
        ([np.ma.array([1.0, 2.0], mask=[0, 1])], "masked array with 1 masked"),
        ([[1.0, np.ma.masked]], "masked array with 1 masked"),
        (np.zeros(2, [("a", float)]), "records"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        (None, "Python objects"),
    ],
)
def test_other_things_that_are_no_numbers(values, message):
    with pytest.raises(UserError, match=message):
        real_array(values, "x")


def test_values_that_are_not_finite_are_counted():
    with pytest.raises(UserError, match=r"x has 2 values that are not finite"):
        real_array([1.0, np.nan, np.inf], "x", finite=True)
