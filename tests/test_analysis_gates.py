"""Gates pass sound ensembles at the stated rate and name what is wrong with the others."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from latticediff.analysis import run_gates
from latticediff.analysis.gates import (
    agreement_gate,
    exp_delta_h_gate,
    length_gate,
    schwinger_dyson_gate,
    sign_gate,
    thermalisation_gate,
)
from latticediff.errors import UserError


def sound_series(seed, n_chains=32, n=400, a=0.6):
    """Primary series of an imaginary equilibrium ensemble, AR(1) in Monte Carlo time."""
    rng = np.random.default_rng(seed)

    def walk():
        noise = rng.normal(size=(n_chains, n)) * math.sqrt(1 - a * a)
        noise[:, 0] /= math.sqrt(1 - a * a)
        return lfilter([1.0], [1.0, -a], noise, axis=1)

    m = 0.2 * walk()
    series = {"m": m, "abs_m": abs(m), "m2": m**2, "m4": m**4, "sd": 1 + 0.2 * walk()}
    series["phi2"] = 0.3 + 0.02 * walk()
    series["action"] = 30 + 5 * walk()
    delta_h = 0.4 * rng.normal(size=(n_chains, n)) + 0.08  # N(s^2 / 2, s^2): <exp(-delta_h)> = 1
    return series, delta_h


def failed(series, delta_h=None, **options):
    return {gate.name: gate for gate in run_gates(series, delta_h, **options) if not gate.passed}


def test_sound_ensemble_passes_every_gate():
    gates = run_gates(*sound_series(1))
    assert [gate.name for gate in gates] == [
        "thermalised",
        "tau_int known",
        "chains agree",
        "schwinger-dyson",
        "exp(-delta_h)",
        "both signs of m",
    ]
    for gate in gates:
        assert gate.passed, gate.message
        assert gate.advice == ""
        assert gate.record()["name"] == gate.name
    # four sigma: all gates together stop one sound ensemble in 200 at most
    assert sum(gate.false_alarm for gate in gates) < 0.005


def test_false_alarms_are_as_rare_as_stated():
    # at two sigma the stated rates are large enough to be counted
    counts, stated, n_runs = {}, {}, 150
    for seed in range(n_runs):
        for gate in run_gates(*sound_series(100 + seed, n=200), n_sigma=2.0):
            counts[gate.name] = counts.get(gate.name, 0) + (not gate.passed)
            stated[gate.name] = gate.false_alarm
    for name, count in counts.items():
        expected = min(1.0, stated[name]) * n_runs
        # the stated figures are bounds: 4 sigma of the counting error above, no test below
        assert count <= expected + 4 * math.sqrt(expected + 1), (name, count, expected)
    assert counts["schwinger-dyson"] > 0  # and the tests do fire


@pytest.mark.parametrize(
    ("name", "damage", "advice"),
    [
        (
            "thermalised",
            lambda s: s["action"].__iadd__(40 * np.exp(-np.arange(400) / 20)),
            "discard at least the first",
        ),
        ("schwinger-dyson", lambda s: s["sd"].__iadd__(0.05), "check couplings and convention"),
        ("both signs of m", lambda s: s.update(m=abs(s["m"])), "only one sign"),
        ("both signs of m", lambda s: s.update(m=s["m"] + 0.05), "out of balance"),
        ("chains agree", lambda s: s["phi2"][3].__iadd__(0.03), "stuck apart"),
        ("moving chains", lambda s: s["m"][2].fill(0.1), "rejected every proposal"),
    ],
)
def test_each_fault_is_found_by_its_gate(name, damage, advice):
    series, delta_h = sound_series(2)
    damage(series)
    found = failed(series, delta_h)
    assert name in found
    assert advice in found[name].message
    assert "FAILED" in found[name].message


def test_short_chains_are_told_how_much_longer_to_run():
    series, _ = sound_series(3, n_chains=2, n=300, a=0.97)
    gate = failed(series)["tau_int known"]
    assert "more entries per chain" in gate.advice
    stuck, _ = sound_series(4, n_chains=8)
    stuck["m"] = np.repeat([1.0, -1.0], 4)[:, None] + 0.1 * stuck["m"]  # each chain keeps the sign of its start
    assert "changed sign 0 times" in failed(stuck)["both signs of m"].advice
    assert "both signs of m" not in {gate.name for gate in run_gates(stuck, z2=False)}


def test_energy_violation_gate():
    _, delta_h = sound_series(5)
    assert exp_delta_h_gate(delta_h).passed
    assert exp_delta_h_gate(np.zeros((4, 100))).passed  # an exact integrator
    assert not exp_delta_h_gate(delta_h + 0.1).passed
    diverged = delta_h.copy()
    diverged[:, ::10] = np.inf
    assert "lower the step size" in exp_delta_h_gate(diverged).advice
    cold = delta_h.copy()
    cold[0, 0] = -5000.0
    assert not exp_delta_h_gate(cold).passed
    with pytest.raises(UserError, match="NaN"):
        exp_delta_h_gate(np.full(10, np.nan))


def test_a_gate_without_power_does_not_pass():
    rng = np.random.default_rng(6)
    gate = schwinger_dyson_gate({"sd": 1 + rng.normal(size=(2, 50))})
    assert not gate.passed
    assert "times as many updates" in gate.advice


def test_missing_series_is_named():
    series, _ = sound_series(7)
    del series["sd"]
    with pytest.raises(UserError, match="primary series sd"):
        run_gates(series)


def test_a_list_of_numbers_is_one_chain_to_the_gate_of_lengths():
    chain = np.random.default_rng(7).normal(size=150)
    one, same = length_gate({"m": chain}), length_gate({"m": chain.tolist()})
    assert same == one and one.passed


def test_chains_of_different_lengths_are_compared_over_the_shortest():
    rng = np.random.default_rng(8)
    whole, short = rng.normal(size=500), rng.normal(size=300)
    assert agreement_gate({"phi2": [whole, short]}).passed
    assert not agreement_gate({"phi2": [whole, short + 9]}).passed


@pytest.mark.parametrize("bad", [np.nan, 0.0, -1.0])
def test_a_threshold_that_is_none_is_refused(bad):
    series, delta_h = sound_series(6)
    for options in ({"n_sigma": bad}, {"max_error": bad}, {"n_tau": bad}):
        with pytest.raises(UserError, match=f"{next(iter(options))} is {bad}; expected a number above 0"):
            run_gates(series, delta_h, **options)


@pytest.mark.parametrize("gate", [thermalisation_gate, length_gate, agreement_gate, schwinger_dyson_gate, sign_gate])
@pytest.mark.parametrize("series", [{}, {"something": np.arange(40.0)}])
def test_a_gate_without_its_series_names_what_it_wants(gate, series):
    with pytest.raises(UserError, match=r"^gate .* wants the series .*, got (no series|something).*; measure") as error:
        gate(series)
    assert "\n" not in str(error.value)


def test_a_gate_of_no_names_is_refused():
    for gate in (thermalisation_gate, length_gate, agreement_gate):
        with pytest.raises(UserError, match="none named"):
            gate(sound_series(0)[0], names=iter(()))
