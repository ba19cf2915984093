"""The diagnosis: shares of a variance that is known, runs of rejections, and the page of a bad model."""

import copy
import dataclasses
import importlib.util
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, SHAPE, model

from latticediff.analysis.attribution import expected_stay, explained, local_operators, longest_rejection, shell_powers
from latticediff.cli import main
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.runge_kutta import integrate, scheme
from latticediff.errors import FileError, UserError
from latticediff.model.shipped import model_names
from latticediff.model.storage import save_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.inversion import invert_passage
from latticediff.report.diagnosis_page import diagnosis_page
from latticediff.stages.diagnose import diagnose, diagnosis_of

N_SIGMA = 5  # false alarm 6e-7 a number
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def rng(seed=0):
    return np.random.default_rng(seed)


# --- attribution -----------------------------------------------------------------------------------------------------


def test_explained_share_of_a_known_mixture():
    """y = 2 a - b + noise of variance 5: a and b explain one half, a alone two fifths, c nothing."""
    n = 4000
    a, b, c, noise = rng(1).normal(size=(4, n))
    y = 2 * a - b + math.sqrt(5) * noise
    for features, share in (((a, b), 0.5), ((a,), 0.4), ((c,), 0.0), ((a, b, c), 0.5)):
        found = explained(y, np.stack(features, axis=1))
        assert abs(found.value - share) < N_SIGMA * found.error
        assert found.error < 0.02
    # constants and copies change nothing
    padded = explained(y, np.stack([a, b, a + b, np.ones(n)], axis=1))
    assert padded.value == pytest.approx(explained(y, np.stack([a, b], axis=1)).value, abs=1e-9)


def test_errors_of_the_share_are_its_scatter():
    shares = []
    for seed in range(200):
        a, noise = rng(seed).normal(size=(2, 300))
        shares.append(explained(a + 2 * noise, a[:, None]))
    scatter = np.std([s.value for s in shares])
    assert np.mean([s.error for s in shares]) == pytest.approx(scatter, rel=0.25)  # 200 runs: 5 %
    assert abs(np.mean([s.value for s in shares]) - 0.2) < N_SIGMA * scatter / math.sqrt(200) + 0.002


def test_unadjusted_noise_features_are_not_mistaken_for_an_explanation():
    y, x = rng(2).normal(size=200), rng(3).normal(size=(200, 60))
    assert abs(explained(y, x).value) < N_SIGMA * explained(y, x).error
    plain = 1 - np.linalg.lstsq(x, y, rcond=None)[1][0] / ((y - y.mean()) ** 2).sum()
    assert plain > 0.15  # what it would say without the adjustment


def test_shells_hold_the_whole_power():
    """Parseval: shell means times numbers of modes add up to sum phi^2."""
    phis = rng(4).normal(size=(3, *SHAPE))
    powers, labels = shell_powers(phis)
    assert labels[0] == "0" and powers.shape == (3, len(labels))
    np.testing.assert_allclose(powers[:, 0], phis.sum(axis=(1, 2)) ** 2 / phis[0].size)
    # a plane wave lies in one shell
    wave = np.cos(2 * np.pi * np.arange(6) / 6) * np.ones((4, 1))
    found, _ = shell_powers(wave[None])
    assert (found[0] > 1e-12).sum() == 1


def test_local_operators_of_a_small_field():
    phi = np.array([[1.0, -2.0, 0.5]])
    values, labels = local_operators(phi)
    pairs = [(1, -2), (-2, 0.5), (0.5, 1)]
    expected = [np.mean(phi**k) for k in (2, 4, 6)] + [
        np.mean([a * b for a, b in pairs]),
        np.mean([(a * b) ** 2 for a, b in pairs]),
        np.mean([0.5 * a * b * (a * a + b * b) for a, b in pairs]),
    ]
    np.testing.assert_allclose(values[0], expected)
    assert len(labels) == 6


def test_rejection_runs_and_stays():
    assert longest_rejection(np.zeros(50), rng()) == (0, 1.0)
    heavy = np.zeros(50)
    heavy[10] = 1e3  # never left
    longest, acceptance = longest_rejection(heavy, rng())
    assert longest == 39 and acceptance == pytest.approx(10 / 49)
    s, draws = 0.8, 0.8 * rng(5).normal(size=200_000)
    acceptance = longest_rejection(draws, rng(6))[1]
    assert acceptance == pytest.approx(math.erfc(s / 2), abs=0.01)
    assert longest_rejection([-np.inf, 0.0, -np.inf, -np.inf, 0.0], rng()) == (2, pytest.approx(1 / 3))
    # E min(1, e^x) = 1/2 at x = N(-s^2/2, s^2) and its like: check against brute force at one weight
    stay = expected_stay(draws, 1.5)
    assert stay == pytest.approx(1 / np.minimum(1, np.exp(draws - 1.5)).mean(), rel=1e-12)
    assert expected_stay(draws, 800.0) > 1e300  # far out, still no overflow error


def test_unusable_features_are_refused():
    with pytest.raises(UserError, match="expected at least 14"):
        explained(np.zeros(5), np.zeros((5, 2)))
    with pytest.raises(UserError, match="constant"):
        explained(np.zeros(50), rng().normal(size=(50, 2)))
    with pytest.raises(UserError, match="not finite"):
        explained(np.full(50, np.inf), np.zeros((50, 2)))
    with pytest.raises(UserError, match="cannot start"):
        longest_rejection([-np.inf], rng())


def test_doubling_measures_the_error_of_the_discrete_flow():
    """Against the exact density of the discrete map, by its full Jacobian: of the same size, and of fourth order."""
    made, spread = model(QUARTIC, SHAPE, 0.3), {}
    network, gaussian = copy.deepcopy(made.network).double(), made.gaussian.to(dtype=torch.float64)
    y = torch.as_tensor(rng(8).normal(size=(8, *SHAPE)))
    for steps in (8, 12):
        coarse, fine = (
            ProbabilityFlow(network, gaussian, made.noise.grid(n), scheme("rk4")) for n in (steps, 2 * steps)
        )

        def field(noise, flow=coarse):
            low, _ = integrate(flow.slope, noise.reshape(1, *SHAPE), flow.grid, flow.method)
            return gaussian.colour(low, made.noise.sigma_min**2).flatten()

        phi, log_q = coarse.down(y)
        jacobians = torch.stack(
            [torch.autograd.functional.jacobian(field, noise.flatten(), vectorize=True) for noise in y]
        )
        normal = -0.5 * (y.square().flatten(1).sum(1) + y[0].numel() * math.log(2 * math.pi))
        true = (log_q - (normal - torch.linalg.slogdet(jacobians)[1])).std()
        # at the fields of the coarse draws, by the noise that the fine map draws them from
        down, up = ((lambda a, f=f: [t.numpy() for t in f(torch.as_tensor(a))]) for f in (fine.down, fine.up))
        doubled = (log_q.numpy() - invert_passage(down, up, phi.numpy())[1]).std()
        spread[steps] = float(true), float(doubled)
        assert 0.1 * doubled < true < 4 * doubled
    assert spread[12][0] < 0.5 * spread[8][0]  # (8 / 12)^4 = 0.2


def benchmark():
    spec = importlib.util.spec_from_file_location("integration_error", BENCHMARKS / "integration_error.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_integration_errors_knows_every_shipped_model():
    """On draws and on configurations; the smallest by the Jacobian too."""
    stored = [json.loads(line) for line in (BENCHMARKS.parent / "docs" / "integration-error.jsonl").open()]
    kinds = {(row["model"], row["fields"]) for row in stored if row["by"] == "doubling"}
    assert kinds == {(name, fields) for name in model_names() for fields in ("draws", "configurations")}
    assert {row["model"] for row in stored if row["by"] == "jacobian"} >= {"phi4-A-L8"}
    made = model(FREE, SHAPE, 0.3)
    proposal, action = OdeProposal(made, 2), made.action
    draw = proposal.draw(3, rng(9))
    error = benchmark().jacobian_error(proposal, draw.phi)
    row = benchmark().told(
        {key: stored[0][key] for key in ("model", "shape", "method", "grid", "steps", "evaluations")},
        "draws",
        "jacobian",
        error,
        draw.phi,
        action,
    )
    assert row.keys() == stored[0].keys() and row["spread"][0] == pytest.approx(error.std())


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_the_jacobian_finds_no_error_where_there_is_none(strength):
    """The baseline alone, of a free field, is linear: its flow stands still. With a network it is 1e-3 in two steps."""
    proposal = OdeProposal(model(FREE, SHAPE, strength), 2)
    error = benchmark().jacobian_error(proposal, proposal.draw(3, rng(9)).phi)
    assert (np.abs(error).max() < 1e-7) == (strength == 0)


@pytest.mark.slow
def test_doubling_bounds_what_the_jacobian_says_of_a_shipped_model():
    """phi4-A-L8: a spread of 4e-4, correlated with S at 0.4, for 1.2e-3 by doubling: the bound is on the safe side."""
    rows = {(row["by"], row["fields"]): row for row in benchmark().rows("phi4-A-L8", 300, 80, 2)}
    for fields in ("draws", "configurations"):
        true, doubled = (rows[by, fields]["spread"] for by in ("jacobian", "doubling"))
        assert true[0] - 3 * true[1] < doubled[0] < 6 * true[0]
    r, _ = rows["jacobian", "draws"]["correlations"]["action"]
    assert 0 < r < 0.8  # four errors of 0.09 to either side


# --- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(model(FREE, SHAPE, 0.3), tmp_path_factory.mktemp("diagnose") / "bad")


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("diagnose") / "page"
    return *diagnose(folder, out, n=600, steps=6, levels=4), out


def test_the_page_holds_every_figure_and_the_json_every_number(found):
    diagnosis, paths, out = found
    told = json.loads(paths["json"].read_text())
    assert told["model"] == "bad" and told["n_draws"] == 600
    assert told["log_weight_variance_per_site"] == pytest.approx(np.var(diagnosis.log_weight_reverse) / 24)
    assert 0.5 < told["ess_reverse"][0] < 0.98 and 0.5 < told["ess_forward"][0] < 0.98
    assert told["integration"]["max"] >= told["integration"]["median"] > 0
    assert len(told["score_error"]["sigma"]) == 4 and told["score_error"]["kl"] > 0
    assert {row["of"] for row in told["variance_shares"]["together"]} == {"all shells", "all operators", "both"}
    page = paths["html"].read_text()
    names = {path.stem for path in (out / "figures").glob("*.png")}
    assert names == {"weights", "tails", "levels", "shares", "doubling"}
    assert all(f'id="{name}"' in page for name in names)
    assert "<script" not in page
    assert not re.search(r"\bnan\b", re.sub(r'src="data:[^"]*"', "", page))


def test_a_bad_network_is_found_where_it_is_bad(found):
    """The free field has R = 0, so all that the network adds is error, and its divergence is that of the score."""
    diagnosis, _, _ = found
    level = diagnosis.score_error
    assert (level.error > N_SIGMA * level.uncertainty).any()
    assert abs(diagnosis.free_energy.tension) < N_SIGMA
    assert diagnosis.sign["draws"][1] == pytest.approx(0, abs=N_SIGMA)
    assert diagnosis.expected_stay >= 1 and diagnosis.longest_rejection >= 1
    assert diagnosis.acceptance == pytest.approx(diagnosis.weights.acceptance, abs=0.1)


def test_paths_have_no_integration_error(folder):
    from latticediff.model.storage import load_model

    diagnosis = diagnosis_of(load_model(folder), "bad", n=100, route="sde", steps=4, levels=0)
    assert diagnosis.integration is None and diagnosis.score_error is None
    assert json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))["integration"] is None


def test_alarms_say_what_is_wrong(found):
    diagnosis, _, _ = found
    bias = dataclasses.replace(diagnosis.integration, bias_bound=0.3)
    weights = dataclasses.replace(
        diagnosis.weights,
        pareto_k=0.9,
        n_zero=3,
        ess_forward=dataclasses.replace(diagnosis.weights.ess_forward, value=0.1, error=0.01),
    )
    bad = dataclasses.replace(
        diagnosis, integration=bias, weights=weights, sign={**diagnosis.sign, "draws": (0.9, 20.0)}
    )
    text = " ".join(bad.alarms())
    for words in ("misses exact configurations", "k of the weights of draws is 0.90", "3 draws blew up", "90.0 %"):
        assert words in text
    assert "take more steps" in text
    assert len(diagnosis.alarms()) < len(bad.alarms())


def test_command_writes_the_page_and_refuses_other_folders(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["diagnose", str(folder), "--out", str(tmp_path / "page"), "--n", "80", "--steps", "4"]
             + ["--levels", "2", "--json", "--quiet"])  # fmt: skip
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out)["n_draws"] == 80
    assert (tmp_path / "page" / "diagnosis.html").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(FileError, match="is no diagnosis"):
        diagnose(folder, tmp_path / "other", n=80)
    with pytest.raises(UserError, match="at least 50"):
        diagnose(folder, tmp_path / "page", n=10)


def test_draws_that_cannot_be_inverted_are_counted():
    """Three steps through a score that is far off: rounds of the inversion do not converge for some of the draws."""
    found = diagnosis_of(model(FREE, SHAPE, 3.0), "wild", n=100, steps=3, method="rk4", grid="uniform", levels=0)
    lost, of = found.inversion["lost"]
    assert 0 < lost < of == 100
    assert found.inversion["noise"][1] < 0.01  # of the others
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["inversion"]["lost"] == [lost, of]
    assert f"{lost:.0f} of 100" in diagnosis_page(found, [])
