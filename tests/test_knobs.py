"""From the card to the kernel and its cost: knobs in files and on the command line, chains that stay valid."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from learned_toys import FREE, FREE_CARD, SHAPE, model
from metropolis_toys import Changed, Warped
from test_cli import assert_one_clear_line
from warm import latticediff, python

from latticediff.action import Phi4, free_log_z, free_propagator
from latticediff.analysis.free_energy import log_z_forward
from latticediff.build.learned import build_kernel
from latticediff.cli import main
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, run_chain
from latticediff.errors import CardError, FileError, ModelError, StopRequested, UserError
from latticediff.hmc import HMC
from latticediff.job.progress import make_progress
from latticediff.metropolis import LatentMetropolis
from latticediff.metropolis.moves import Coloured
from latticediff.model.storage import save_model
from latticediff.signals import StopReason
from latticediff.stages.chains import chain_result
from latticediff.stages.measure import measure
from latticediff.stages.sample import sample
from latticediff.stages.tune import default_values, tune
from latticediff.stages.weigh import Weighing, read_weights, weigh
from latticediff.streams import Streams

DOCS = Path(__file__).parents[1] / "docs"
TEXT = (
    FREE_CARD
    + """
[hmc]
n_chains = 4
[sampling]
batch = 8
n_forward = 16
device = "cpu"
[sampling.ode]
n_chains = 6
n_warmup = 2
n_updates = 30
steps = 6
[sampling.sde]
n_chains = 6
n_warmup = 2
n_updates = 30
steps = 5
"""
)


def card_of(**kernel):
    return parse_card(TEXT, [f"sampling.kernel.{key}={value}" for key, value in kernel.items()])


@pytest.fixture(scope="module")
def made():
    return model(FREE, SHAPE, 0.2)


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    return save_model(made, tmp_path_factory.mktemp("knobs") / "model")


@pytest.mark.parametrize(
    ("route", "keys", "name", "move"),
    [
        ("ode", {}, "independence_metropolis", None),
        ("sde", {"tries": 3}, "several_tries", None),
        ("ode", {"move": "partial", "eps": 0.5}, "latent_metropolis", {"name": "coloured", "eps": 0.5}),
        (
            "ode",
            {"move": "partial", "noise": "white", "sigma": 1.0},
            "latent_metropolis",
            {"name": "white", "sigma": 1.0},
        ),
        ("sde", {"move": "partial", "noise": "white", "sigma": 1.0}, "latent_metropolis", {"name": "keep_top"}),
        ("sde", {"move": "partial", "noise": "infrared"}, "latent_metropolis", {"name": "infrared", "eps": 1.0}),
        ("ode", {"move": "block", "block": 3}, "latent_metropolis", {"name": "block", "size": [3, 3], "eps": 1.0}),
    ],
)
def test_the_card_names_the_kernel(route, keys, name, move, made):
    described = build_kernel(card_of(**keys), made, route).describe()
    assert described["name"] == name
    assert described.get("move") == move


def test_a_lower_ladder_has_fewer_steps_of_the_same_length(made):
    kernel = build_kernel(card_of(move="partial", noise="white", sigma=0.5), made, "sde")
    assert kernel.proposal.steps == round(5 * np.log(0.5 / 0.05) / np.log(4.0 / 0.05))
    assert kernel.proposal.process.variances[-1] == pytest.approx(0.25)


def test_impossible_cards_are_refused(made):
    for keys, words in (
        ({"move": "partial", "noise": "white"}, "names no sigma"),
        ({"move": "block"}, "names no block"),
        ({"eps": 1.5}, "eps"),
        ({"move": "partail"}, "move"),
        ({"tries": 0}, "tries"),
    ):
        with pytest.raises(CardError, match=words):
            card_of(**keys)
    for route in ("ode", "sde"):
        with pytest.raises(
            UserError, match=r"sampling.kernel.sigma = 7 is outside the model's noise levels, 0.05 to 4"
        ):
            build_kernel(card_of(move="partial", noise="white", sigma=7.0), made, route)
    with pytest.raises(UserError, match="longer than the lattice"):
        build_kernel(card_of(move="block", block=9), made, "ode")
    annealed = parse_card(TEXT, ["sampling.ode.rungs=2", "sampling.kernel.move=partial"])
    with pytest.raises(UserError, match=r"take sampling.ode.rungs = 1 with move = 'partial'"):
        build_kernel(annealed, made, "ode")


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_a_chain_with_hmc_between_is_measured_and_resumed(route, folder, tmp_path):
    """Partial moves after each trajectory, stopped once: the bits of an uninterrupted run; cost counts the network."""
    card, reasons = card_of(move="partial", eps=0.7, hmc=1), [None, StopReason("stopped", 130)]
    whole = sample(card, folder, route, tmp_path / "whole.h5")
    with pytest.raises(StopRequested):
        sample(card, folder, route, tmp_path / "cut.h5", stop=lambda: reasons.pop(0) if reasons else None)
    cut = sample(card, folder, route, tmp_path / "cut.h5", resume=True)
    assert cut.fingerprint() == whole.fingerprint()
    found = chain_result(route, route, whole)
    assert found.evaluation_kind == "network evaluations"
    # HMC has moved the field: its noise is found by three passages
    assert found.evaluations_per_update == (4 * 24 if route == "ode" else 2 * 5)
    assert {"delta_h", "accepted", "1_accepted", "delta_log_weight"} <= set(whole.history_names)
    assert measure(tmp_path / "whole.h5").n_updates == 30
    weights = weigh(card, tmp_path / "whole.h5", folder, route, tmp_path / "w.npz")
    assert len(weights["log_weight_reverse"]) == 16  # of fresh draws: the moves' own are correlated
    told = json.loads(Weighing("whole.h5", route, weights).to_json())
    assert told["n"] == 16 and 0 < told["ess_reverse"][0] <= 1 and (told["step_doubling"] is None) == (route == "sde")


def test_a_coarse_integrator_begins_no_chain(folder, tmp_path):
    coarse = ["sampling.ode.steps=1", "sampling.max_doubling=1e-3"]
    with pytest.raises(UserError, match=r"in the card: sampling.ode.steps = 2, or sampling.max_doubling"):
        sample(parse_card(TEXT, coarse), folder, "ode", tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
    allowed = parse_card(TEXT, [*coarse[:1], "sampling.max_doubling=any"])
    assert sample(allowed, folder, "ode", tmp_path / "a.h5").n_updates == 30


@pytest.mark.parametrize("route", ["ode", "sde"])
def test_a_model_of_another_mass_is_exact_and_warned_of(route, folder, tmp_path, capsys):
    """30 chains of 100 at m2 = 1.5 by the free model of 0.8: <phi^2> in closed form, within 4 sigma."""
    far = ["action.m2=1.5", f"sampling.{route}.n_chains=30", f"sampling.{route}.n_updates=100", "sampling.batch=200"]
    card = parse_card(TEXT, far)
    with pytest.raises(ModelError, match=r"m2=0\.8.*wanted.*m2=1\.5"):
        sample(card, folder, route, tmp_path / "a.h5")
    chain = sample(card, folder, route, tmp_path / "a.h5", outside=True, progress=make_progress())
    assert re.search(r"warning: the model was not trained there.* expected ESS 0\.\d+\(", capsys.readouterr().err)
    phi2 = (chain.phis().reshape(-1, 30, 24) ** 2).mean(axis=(0, 2))
    exact = free_propagator(Phi4.A(1.5, 0.0), SHAPE).mean()
    assert abs(phi2.mean() - exact) < 4 * phi2.std(ddof=1) / np.sqrt(30)
    # as far from the theory that the model is of
    assert abs(phi2.mean() - free_propagator(FREE, SHAPE).mean()) > 10 * phi2.std(ddof=1) / np.sqrt(30)


def test_configurations_of_another_mass_are_weighed_and_warned_of(folder, tmp_path, capsys):
    """The free model of 0.8 at m2 = 1.5: E_p[1/w] is the inverse of Z there, in closed form, within 4 sigma."""
    far = parse_card(TEXT, ["action.m2=1.5", "sampling.n_forward=10000"])
    action, path, save = Phi4.A(1.5, 0.0), tmp_path / "far.h5", str(tmp_path / "w.npz")
    kernel, streams = HMC(action, 0.3, 5), Streams(3)
    state, _ = kernel.advance(kernel.start(np.zeros((40, *SHAPE))), streams.child("warmup"), 50, 50)
    run_chain(kernel, (state._replace(update=0), streams.child("hmc")), path, 400, thin=10)
    with pytest.raises(ModelError, match=r"wanted Phi4.A\(m2=1\.5.*all the same \(--outside"):
        weigh(far, path, folder, "ode", save)
    (tmp_path / "card.toml").write_text(far.to_toml())
    with pytest.raises(SystemExit) as stopped:
        main(["weigh", str(tmp_path / "card.toml"), "--model", str(folder), "--route", "ode", "--ensemble", str(path)]
             + ["--out", save, "--outside", "--all", "--json"])  # fmt: skip
    assert not stopped.value.code
    out, err = capsys.readouterr()
    assert re.search(r"warning: the model was not trained there.* expected ESS 0\.\d+\(", err)
    told, weights = json.loads(out), read_weights(save)
    assert told["n"] == 1600 == len(weights["log_weight"]) and told["step_doubling"]["median"] < 1e-2
    log_z = log_z_forward(weights["log_weight"].reshape(40, 40).T)
    assert abs(log_z.value - free_log_z(action, SHAPE)) < 4 * log_z.error
    assert abs(log_z.value - free_log_z(FREE, SHAPE)) > 10 * log_z.error
    assert 0.2 < told["ess_forward"][0] < 0.99
    with pytest.raises(FileError, match=r"far\.h5 is of action"):
        weigh(parse_card(TEXT), path, folder, "ode", tmp_path / "other.npz")


def test_weighing_that_is_stopped_asks_for_no_resume_that_it_lacks(folder, tmp_path):
    kernel = HMC(FREE, 0.3, 5)
    run_chain(kernel, (kernel.start(np.zeros((4, *SHAPE))), Streams(3)), tmp_path / "free.h5", 20)
    stop = lambda: StopReason("deadline")  # noqa: E731
    with pytest.raises(StopRequested, match=r"^deadline while weighing.* run the same command again") as stopped:
        weigh(card_of(), tmp_path / "free.h5", folder, "ode", tmp_path / "w.npz", stop=stop)
    assert stopped.value.exit_code == 75 and not (tmp_path / "w.npz").exists()


def test_tuning_takes_a_model_elsewhere(folder):
    card = parse_card(TEXT, ["action.m2=1.5"])
    with pytest.raises(ModelError, match="--outside"):
        tune(card, folder, "ode", n_chains=4, n_updates=20)
    assert tune(card, folder, "ode", [1.0], 4, 20, outside=True).trials[0].acceptance > 0


def test_a_defect_in_mid_run_leaves_a_valid_file(tmp_path):
    """The draws turn to NaN after a while: one line, and what was done before can be read and gone on with."""

    class Sick(Changed):
        drawn = 0

        def transport(self, u):
            self.drawn += len(u)
            draw = self.inner.transport(u)
            return draw if self.drawn < 40 or self.well else draw._replace(log_q=draw.log_q * np.nan)

    proposal = Sick(Warped(SHAPE), lambda phi, log_q: log_q)
    proposal.well = False
    kernel = LatentMetropolis(proposal, FREE, Coloured(0.5))
    start = kernel.start(np.zeros((4, *SHAPE)))
    with pytest.raises(UserError, match=r"Sick: transport of 4 gave log_q = nan"):
        run_chain(kernel, (start, Streams(5)), tmp_path / "a.h5", 20, block=2)
    with Ensemble(tmp_path / "a.h5") as done:
        assert 0 < done.n_updates < 20 and np.isfinite(done.phis()).all()
    proposal.well = True
    mended = run_chain(kernel, None, tmp_path / "a.h5", 20, block=2, resume=True)
    whole = run_chain(kernel, (start, Streams(5)), tmp_path / "b.h5", 20)
    np.testing.assert_array_equal(mended.phis(), whole.phis())


# --- tuning ----------------------------------------------------------------------------------------------------------


def test_tuning_finds_what_costs_least(folder):
    """Wide moves decorrelate |m|, narrow ones do not; the cost is 2 tau_int times the evaluations."""
    found = tune(card_of(move="partial"), folder, "ode", [0.1, 1.0], n_chains=20, n_updates=60)
    narrow, wide = found.trials
    assert found.knob == "eps" and found.best is wide
    assert narrow.acceptance > wide.acceptance > 0.2
    assert narrow.tau > 3 * wide.tau
    assert wide.cost == 2 * wide.tau * 24
    rows = json.loads(found.to_json())
    assert rows["best"] == 1.0 and [row["value"] for row in rows["trials"]] == [0.1, 1.0]
    assert "<- least" in found.to_text().splitlines()[3]
    again = tune(card_of(move="partial"), folder, "ode", [0.1, 1.0], n_chains=20, n_updates=60)
    assert [trial.tau for trial in again.trials] == [trial.tau for trial in found.trials]


@pytest.mark.parametrize(
    ("route", "keys", "knob"),
    [
        ("sde", {"move": "partial", "noise": "white", "sigma": 1.0}, "sigma"),
        ("ode", {"move": "block", "block": 2}, "block"),
        ("ode", {}, "tries"),
    ],
)
def test_every_move_has_its_knob(route, keys, knob, folder, made):
    values = default_values(knob, made)
    found = tune(card_of(**keys), folder, route, values[:2], n_chains=4, n_updates=20)
    assert found.knob == knob and [trial.value for trial in found.trials] == values[:2]
    assert {trial.evaluations for trial in found.trials} != {0.0}


def test_impossible_values_are_refused(folder):
    with pytest.raises(UserError, match="eps = 2"):
        tune(card_of(move="partial"), folder, "ode", [0.5, 2.0])
    with pytest.raises(UserError, match="outside the model's noise levels"):
        tune(card_of(move="partial", noise="white", sigma=1.0), folder, "sde", [9.0])
    with pytest.raises(UserError, match="expected at least 1 of 20"):
        tune(card_of(), folder, "ode", n_updates=5)


def test_the_command_prints_the_table_or_says_what_is_wrong(folder, tmp_path):
    path = tmp_path / "card.toml"
    path.write_text(TEXT)

    def command(*arguments):
        return latticediff("tune", path, "--model", folder, *arguments)

    done = command("--set", "sampling.kernel.move=partial", "--values", "0.5,1", "--updates", "20", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert [row["value"] for row in json.loads(done.stdout)["trials"]] == [0.5, 1.0]
    varied = command("--set", "sampling.kernel.move=block", "--values", "2", "--updates", "20", "--json", "-q")
    assert varied.returncode == 0, varied.stderr  # no card need name the knob that is varied
    assert json.loads(varied.stdout)["kernel"]["move"] == "block"
    assert_one_clear_line(command("--set", "action.m2=1.0", "-q"), "was trained for", "wanted")


def test_the_documented_example_runs_as_printed():
    code = re.search(r"```python\n(.*?)```", (DOCS / "proposals.md").read_text(), re.DOTALL)[1]
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    # HMC, block and wide move, in that order
    rates = [float(number) for number in re.findall(r"0\.\d+|1\.0", done.stdout)]
    assert len(rates) == 4 and min(rates) > 0.5
