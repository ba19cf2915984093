"""Averages by importance weights of all proposals beside the chain's own: exact, and compared with an honest error.

Tolerances are in Monte Carlo errors: beyond 4 sigma is a false alarm of 6e-5 for each number.
"""

import json
import math

import numpy as np
import pytest
from learned_toys import FREE, FREE_CARD, SHAPE, model
from metropolis_toys import DOUBLE_WELL, GRID, Changed, Warped

from latticediff.action import Phi4, free_propagator
from latticediff.analysis import beside, observables_table, reweighted_table
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble
from latticediff.errors import StopRequested
from latticediff.metropolis import IndependenceMetropolis, MultipleTry
from latticediff.metropolis.proposed import proposed_series
from latticediff.model.storage import save_model
from latticediff.observables import measure_primary
from latticediff.report import RunResult
from latticediff.report.html import page
from latticediff.report.tables import report_dict
from latticediff.signals import StopReason
from latticediff.stages.chains import chain_result
from latticediff.stages.measure import measure
from latticediff.stages.sample import sample
from latticediff.streams import Streams

N_SIGMA = 4
NAMES = ("abs_m", "chi", "binder", "phi2", "action_per_site")


def chain(kernel, n_chains, n_updates, seed=1, thin=1):
    """Primary series of the fields and of the proposals, and the weights, (n_chains, n) each."""
    streams = Streams(seed)
    state, _ = kernel.advance(kernel.hot_start(n_chains, streams), streams, 20, 20)
    _, block = kernel.advance(state._replace(update=0), streams, n_updates, thin)
    series = measure_primary(block.phi, kernel.action)
    return series, proposed_series(block.info.__getitem__), block.info["log_weight"].T


def exact(action, names=NAMES):
    """Of one site, by quadrature."""
    phi = GRID[:, None]
    w = np.exp(-action(phi))
    mean = {p: (w * np.abs(GRID) ** p).sum() / w.sum() for p in (1, 2, 4)}
    found = {"abs_m": mean[1], "chi": mean[2], "binder": 1 - mean[4] / (3 * mean[2] ** 2), "phi2": mean[2]}
    return {**found, "action_per_site": (w * action(phi)).sum() / w.sum()}


@pytest.mark.parametrize("kernel", [IndependenceMetropolis, MultipleTry])
def test_weights_give_the_averages_of_quadrature_and_bare_proposals_do_not(kernel):
    series, proposed, log_weight = chain(kernel(Warped(width=0.8, centre=0.2), DOUBLE_WELL), 50, 400)
    found = beside(series, proposed, log_weight, DOUBLE_WELL, (1,), names=NAMES)
    bare = reweighted_table(proposed, np.zeros_like(log_weight), DOUBLE_WELL, (1,), NAMES)
    for name, value in exact(DOUBLE_WELL).items():
        assert abs(found.observables[name].value - value) < N_SIGMA * found.observables[name].error
        assert abs(found.differences[name].sigma) < N_SIGMA
        if name in ("abs_m", "chi", "phi2"):  # the proposal's own higher moments have wide errors
            assert abs(bare[name].value - value) > 2 * N_SIGMA * bare[name].error


def test_what_is_recorded_is_measured_on_the_proposals():
    """Where a proposal was accepted, its numbers are those of the field; weight zero leaves zeros, no NaN."""
    kernel = IndependenceMetropolis(Warped((2, 3), 0.0, 0.4), FREE)
    series, proposed, _ = chain(kernel, 8, 60)
    moved = np.diff(series["m"], axis=1) != 0
    assert moved.any() and not moved.all()
    for name in ("m", "abs_m", "m2", "m4", "phi2", "action", "g_kmin"):
        np.testing.assert_allclose(proposed[name][:, 1:][moved], series[name][:, 1:][moved], rtol=1e-12)

    def sick(phi, log_q):
        bad = phi[:, 0] > 0.8
        phi[bad] = 1e60
        return np.where(bad, np.inf, log_q)

    _, proposed, log_weight = chain(IndependenceMetropolis(Changed(Warped(), sick), DOUBLE_WELL), 8, 60)
    assert (log_weight == -np.inf).any()
    assert all(np.isfinite(rows).all() and (rows[log_weight == -np.inf] == 0).all() for rows in proposed.values())


def test_the_error_of_the_difference_is_its_scatter_and_quadrature_is_not():
    """400 short runs: their scatter is known to 3.5 %, and errors of both in quadrature miss it by far more."""
    kernel, sigmas, naive = IndependenceMetropolis(Warped(width=0.8, centre=0.2), DOUBLE_WELL), [], []
    for seed in range(400):
        series, proposed, log_weight = chain(kernel, 8, 100, seed)
        found = beside(series, proposed, log_weight, DOUBLE_WELL, (1,), names=("phi2",))
        own = observables_table(series, DOUBLE_WELL, (1,), ("phi2",))["phi2"]
        sigmas.append(found.differences["phi2"].sigma)
        naive.append(found.differences["phi2"].difference / math.hypot(own.error, found.observables["phi2"].error))
    assert abs(np.std(sigmas) - 1) < N_SIGMA * 0.035 + 0.1  # short chains have errors of 10 % of the error
    assert abs(np.std(naive) - 1) > N_SIGMA * 0.035 + 0.1
    assert abs(np.mean(sigmas)) < N_SIGMA / math.sqrt(400) + 0.1  # ratios have a bias of order 1/N


def test_a_chain_that_is_elsewhere_is_told_from_its_weights():
    """Fields of another theory beside these proposals; and a thinned chain is compared at its own times."""
    kernel = IndependenceMetropolis(Warped(width=0.8, centre=0.2), DOUBLE_WELL)
    series, proposed, log_weight = chain(kernel, 50, 400, thin=4)
    assert series["m"].shape == (50, 100)
    found = beside(series, proposed, log_weight, DOUBLE_WELL, (1,), 4, NAMES)
    assert all(abs(d.sigma) < N_SIGMA for d in found.differences.values())
    other, *_ = chain(IndependenceMetropolis(Warped(width=0.8, centre=0.2), Phi4.A(-2.0, 1.0, 1)), 50, 400, thin=4)
    wrong = beside(other, proposed, log_weight, DOUBLE_WELL, (1,), 4, NAMES)
    assert abs(wrong.differences["phi2"].sigma) > 3 * N_SIGMA
    # a file that was cut differently has no common times
    apart = beside({k: v[:, :-1] for k, v in series.items()}, proposed, log_weight, DOUBLE_WELL, (1,), 4, NAMES)
    assert apart.sigmas() == dict.fromkeys(NAMES)


def test_a_thinned_comparison_uses_every_proposal():
    """The difference is that of the two averages printed, not of a subset of the weights; equal but for rounding."""
    kernel = IndependenceMetropolis(Warped(width=0.8, centre=0.2), DOUBLE_WELL)
    series, proposed, log_weight = chain(kernel, 10, 60, thin=3)
    found = beside(series, proposed, log_weight, DOUBLE_WELL, (1,), 3, NAMES)
    own = observables_table(series, DOUBLE_WELL, (1,), NAMES)
    for name in NAMES:
        apart = own[name].value - found.observables[name].value
        assert found.differences[name].difference == pytest.approx(apart, abs=1e-12)


def test_equal_weights_make_the_chain_its_own_proposals():
    """An exact proposal: all accepted, the same average twice, no difference to judge."""
    rows = np.random.default_rng(1).normal(size=(4, 200))
    series = {"m": rows, "abs_m": np.abs(rows), "phi2": rows**2}
    found = beside(series, series, np.zeros_like(rows), DOUBLE_WELL, (1,), names=("abs_m", "phi2"))
    own = observables_table(series, DOUBLE_WELL, (1,), ("abs_m", "phi2"))
    for name, estimate in own.items():
        assert found.observables[name].value == pytest.approx(estimate.value, rel=1e-12)
    assert all(sigma is None or abs(sigma) < 1 for sigma in found.sigmas().values())


CARD = (
    FREE_CARD
    + """
[sampling]
batch = 64
device = "cpu"
[sampling.ode]
n_chains = 20
n_updates = 150
steps = 8
[sampling.sde]
n_chains = 20
n_updates = 150
steps = 5
"""
)


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_sampled_chains_report_both_in_json_and_on_the_page(route, tmp_path):
    """A bad network of the free field: closed forms within 4 sigma by weights too; a resumed run has the same bits."""
    folder, reasons = save_model(model(FREE, SHAPE, 0.3), tmp_path / "model"), ["", StopReason("test", 1), ""]
    sample(parse_card(CARD), folder, route, tmp_path / "a.h5").close()
    split = parse_card(CARD, ["sampling.batch=7"])
    with pytest.raises(StopRequested):
        sample(split, folder, route, tmp_path / "b.h5", stop=lambda: reasons.pop(0) if reasons else None)
    sample(split, folder, route, tmp_path / "b.h5", resume=True).close()
    found, again = measure(tmp_path / "a.h5"), measure(tmp_path / "b.h5")
    assert again.to_dict() == found.to_dict()
    G = free_propagator(FREE, SHAPE)
    told = json.loads(found.to_json())
    for name, value in {"phi2": G.mean(), "chi": G[0, 0], "action_per_site": 0.5}.items():
        mean, error = told["weighted_observables"][name]
        assert abs(mean - value) < N_SIGMA * error
        assert abs(told["weighted_differences_sigma"][name]) < N_SIGMA
    assert "difference (joint error)" in found.to_text() and "sigma" in found.to_text()
    with Ensemble(tmp_path / "a.h5") as ensemble:
        result = chain_result(route, route.upper(), ensemble)
    run = RunResult(action=FREE.describe(), shape=SHAPE, chains=[result])
    chain = json.loads(json.dumps(report_dict(run), allow_nan=False))["chains"][route]
    assert chain["weighted_observables"]["phi2"] == told["weighted_observables"]["phi2"]
    assert set(chain["weighted_differences_sigma"]) == set(chain["observables"])
    assert f"{route.upper()}, weights" in page(run, []) and "chain − weights" in page(run, [])
