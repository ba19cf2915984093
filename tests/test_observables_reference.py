"""Equilibrium values of 6x6 phi^4 (convention A, m2 = -4, lam = 6.975) from an independent cluster + HMC run.

Four combined standard errors each: a correct code fails one of the ten comparisons with probability 6e-4.
"""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from latticediff.action import Phi4
from latticediff.analysis import compare, observables_table, run_gates, tau_table
from latticediff.hmc import HMC
from latticediff.observables import measure_primary
from latticediff.streams import Streams

REFERENCE = {
    "abs_m": (0.14145, 0.00015),
    "chi_abs": (0.3424, 0.0006),
    "chi": (1.0627, 0.002),
    "binder": (0.1917, 0.001),
    "phi2": (0.16136, 5e-05),
    "action_per_site": (0.1334, 0.0002),
    "xi_2nd": (1.485, 0.003),
}
BENCHMARK = pathlib.Path(__file__).parents[1] / "benchmarks" / "error_coverage.py"


@pytest.fixture(scope="module")
def ensemble():
    """Primary series and energy violations of 64 HMC chains, unit trajectories, well accepted."""
    action, streams = Phi4.A(m2=-4.0, lam=6.975), Streams(21)
    kernel = HMC(action, step_size=0.1, n_leapfrog=10)
    state = kernel.start(0.4 * streams.generator("start").normal(size=(64, 6, 6)))
    state, _ = kernel.advance(state, streams, 300, 300)
    delta_h = []

    def blocks():
        nonlocal state
        for _ in range(12):
            state, block = kernel.advance(state, streams, 250)
            delta_h.append(block.info["delta_h"])
            yield block.phi

    series = measure_primary(blocks(), action)
    return action, series, np.concatenate(delta_h).T


def test_observables_are_the_reference_values(ensemble):
    action, series, _ = ensemble
    table = observables_table(series, action, (6, 6))
    for name, expected in REFERENCE.items():
        assert abs(compare(table[name], expected).sigma) < 4, (name, str(table[name]), expected)
        assert table[name].error < 10 * expected[1]  # and precisely enough to be worth comparing


def test_an_ensemble_of_other_couplings_misses_the_schwinger_dyson_identity(ensemble):
    _, series, delta_h = ensemble
    assert all(gate.passed for gate in run_gates(series, delta_h))
    state = HMC(Phi4.A(m2=-4.0, lam=6.975), 0.1, 10).start(0.3 * np.random.default_rng(1).normal(size=(64, 6, 6)))
    _, block = HMC(Phi4.A(m2=-4.0, lam=6.975), 0.1, 10).advance(state, Streams(22), 600)
    wrong = measure_primary(block.phi[100:], Phi4.A(m2=-4.0, lam=6.6))
    assert "schwinger-dyson" in {gate.name for gate in run_gates(wrong) if not gate.passed}


def test_autocorrelation_times_of_hmc_are_the_reference_values(ensemble):
    # unit trajectories at L = 6: 3.6 for m, 1.4 for |m|, quoted to their last digit; another step size
    # changes the acceptance and with it tau_int by a few per cent
    taus = tau_table(ensemble[1])
    assert taus["m"].value == pytest.approx(3.6, rel=0.15)
    assert taus["abs_m"].value == pytest.approx(1.4, rel=0.15)


def test_coverage_benchmark_runs():
    done = subprocess.run(
        [
            sys.executable,
            BENCHMARK,
            "--ar1",
            "20",
            "--ar1-length",
            "1000",
            "--hmc",
            "10",
            "--hmc-length",
            "200",
            "--short",
            "20",
        ],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 16 + 4 * 7 + 7
    assert all(0 <= row["within_1_sigma"] <= row["within_2_sigma"] <= 1 for row in rows)
