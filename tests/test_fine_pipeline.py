"""Coarse to fine from a card: a run, its resumption, what its pages say, and what is refused."""

import json

import numpy as np
import pytest
from figure_toys import blank_figures
from learned_toys import card_of_part

from latticediff.build.learned import build_kernel, build_proposal
from latticediff.build.network import check_network
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble
from latticediff.errors import CardError, FileError, StopRequested, UserError
from latticediff.fine import CoarseSites
from latticediff.job.progress import Progress
from latticediff.model.storage import load_model
from latticediff.report.numbers import scheme_text
from latticediff.stages.beside import told
from latticediff.stages.diagnose import diagnose
from latticediff.stages.estimate import probe
from latticediff.stages.finetune import finetune
from latticediff.stages.generate import generate
from latticediff.stages.info import info
from latticediff.stages.line import card_of
from latticediff.stages.made import made_model
from latticediff.stages.model_place import LAW
from latticediff.stages.run import run
from latticediff.stages.targets import refined
from latticediff.stages.train import train

CARD = card_of_part('sites = "coarse"\nfine_steps = 60\nsteps = 40', 6)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("coarse") / "run"
    with blank_figures():
        run(parse_card(CARD), out)
    return out


def test_a_run_on_coarse_sites_makes_chains_of_whole_fields(run_folder):
    card = parse_card(CARD)
    with Ensemble(run_folder / "chain_ode.h5") as chain:
        assert chain.phis().shape[1:] == (8, 8)
    model = load_model(run_folder / "model")
    assert isinstance(model.action, CoarseSites) and model.card["sites"] == "coarse" and model.card["shape"] == [8, 8]
    assert model.card["training"]["fine_steps"] == 60
    assert not list(run_folder.rglob(f"{LAW}*"))  # it is a part of the model now
    score = load_model(run_folder / "score")
    assert score.action == model.action  # fine-tuning keeps the law
    estimates = []
    for route in ("ode", "sde"):  # Z by both routes
        proposal = build_proposal(card, model, route)
        draw = proposal.draw(3000, np.random.default_rng(6))
        log_weight = -model.theory(draw.phi) - draw.log_q
        w = np.exp(log_weight - log_weight.max())
        estimates.append((log_weight.max() + np.log(w.mean()), w.std() / w.mean() / np.sqrt(len(w))))
    (ode, error), (sde, wider) = estimates
    assert abs(ode - sde) < 6 * np.hypot(error, wider)


def test_its_figures_are_those_of_whole_fields(run_folder, tmp_path):
    found, _ = diagnose(run_folder / "model", tmp_path / "page", n=100, levels=2)
    assert found.shape == (8, 8)
    assert "fine ones follow from a learned law" in info(run_folder / "model")
    card = load_model(run_folder / "model").card
    # what the card states is the ESS of fields, not of the coarse sites alone, whose action is not known
    proposal = build_proposal(parse_card(CARD), load_model(run_folder / "model"), "ode")
    draw = proposal.draw(2000, np.random.default_rng(1))
    log_weight = -proposal.theory.whole(draw.phi) - draw.log_q
    w = np.exp(log_weight - log_weight.max())
    value, error = card["metrics"]["ess_reverse"]
    assert abs(w.sum() ** 2 / (w**2).sum() / len(w) - value) < max(0.1, 6 * error)


def test_the_part_and_the_scheme_are_told(run_folder):
    model = load_model(run_folder / "model")
    assert "on 8x8, coarse sites" in made_model(model, run_folder / "model")
    proposal = build_proposal(parse_card(CARD), model, "ode").describe()
    assert scheme_text(proposal).startswith("ode, ") and "6 steps" in scheme_text(proposal)
    assert told(run_folder / "model", {"proposal": proposal}).startswith("ridge, 4 features, coarse sites; ode, ")


def test_what_a_run_costs_is_told(run_folder):
    costs = probe(parse_card(CARD), ["train", "finetune", "sample_ode"])
    assert costs["law of the fine sites"].seconds > 0 and costs["train"].seconds > 0


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "e.h5"
    generate(parse_card(CARD), path)
    return path


def test_a_killed_training_goes_on_to_the_same_bits(ensemble, tmp_path):
    short = ["training.fine_steps=24", "training.steps=16"]
    card = parse_card(CARD, short)
    whole = train(card, ensemble, tmp_path / "whole", gate=False)
    asked = []

    def stop_in_the_law():
        asked.append(1)
        return "told" if len(asked) == 10 else None

    with pytest.raises(StopRequested, match="law of the fine sites"):
        train(card, ensemble, tmp_path / "cut", gate=False, stop=stop_in_the_law)

    def stop_in_training():
        asked.append(1)
        return "told" if len(asked) == 36 else None

    with pytest.raises(StopRequested, match="training stopped"):
        train(card, ensemble, tmp_path / "cut", gate=False, stop=stop_in_training, resume=True)
    assert (tmp_path / "cut" / LAW).exists()
    with pytest.raises(FileError, match="go on with --resume"):
        train(card, ensemble, tmp_path / "cut", gate=False)
    for change, named in (("training.fine_steps=20", "steps"), ("training.held_out=0.25", "held_out")):
        with pytest.raises(FileError, match=rf"belongs to another run \(differs in {named}"):
            train(parse_card(CARD, [*short, change]), ensemble, tmp_path / "cut", gate=False, resume=True)
    again = train(card, ensemble, tmp_path / "cut", gate=False, resume=True)
    assert again.fingerprint() == whole.fingerprint()
    assert not (tmp_path / "cut" / LAW).exists()


def test_first_weights_bring_their_law(ensemble, run_folder, tmp_path):
    """With no more steps for it to speak of, the law is nearly that of the first weights."""
    changed = [f"training.init={json.dumps(str(run_folder / 'score'))}", "training.fine_steps=1", "training.steps=1"]
    model = train(parse_card(CARD, changed), ensemble, tmp_path / "m", gate=False)
    ours, theirs = (m.action.law.numbers() for m in (model, load_model(run_folder / "score")))
    assert max(np.abs(ours[name] - theirs[name]).max() for name in ours) < 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("shape = [12, 12]", r"lattice shape \(12, 12\) has no array of coarse sites.*sites = odd"),
        ("shape = [8, 8, 8]", r"lattice shape \(8, 8, 8\) has no array of coarse sites"),
    ],
)
def test_a_card_whose_lattice_has_no_coarse_sites_is_refused_at_once(change, words):
    with pytest.raises(CardError, match=words):
        check_network(parse_card(CARD.replace("shape = [8, 8]", change)))


def test_a_tilted_theory_is_refused_at_once():
    tilted = CARD.replace(
        'convention = "A"\nm2 = -4.0\nlam = 6.008', 'name = "polynomial"\nhopping = 1.0\na1 = 0.1\na2 = 1\na4 = 1'
    )
    with pytest.raises(CardError, match="not symmetric"):
        check_network(parse_card(tilted))


def test_a_law_that_did_not_learn_is_told_and_refused(ensemble, tmp_path, monkeypatch):
    """Before the network is trained: no flow of the coarse sites makes up for it."""
    card, found = parse_card(CARD, ["training.fine_steps=2", "training.steps=2"]), []
    monkeypatch.setattr(CoarseSites, "spread", lambda theory, C: found.pop())
    found.append(3.1)
    with pytest.raises(UserError, match=r"variance of 3\.1; expected at most 3: raise training.fine_steps, or take"):
        train(card, ensemble, tmp_path / "useless", gate=False)
    assert not (tmp_path / "useless" / LAW).exists()
    found.append(float("nan"))
    with pytest.raises(UserError, match=r"variance of nan; expected"):
        train(card, ensemble, tmp_path / "none", gate=False)
    said = []
    progress = Progress()
    monkeypatch.setattr(progress, "warn", said.append)
    found.append(0.7)
    train(card, ensemble, tmp_path / "poor", gate=False, progress=progress)
    assert [line for line in said if "variance of 0.7, which holds ESS below 0.5" in line]


def test_several_ensembles_are_refused(ensemble, tmp_path):
    with pytest.raises(UserError, match=r"2 ensembles for training\.sites = coarse"):
        train(parse_card(CARD), [ensemble, ensemble], tmp_path / "m", gate=False)


def test_a_model_of_other_sites_is_not_tuned_as_one_of_these(ensemble, run_folder, tmp_path):
    card = parse_card(CARD, ["training.sites=odd"])
    with pytest.raises(UserError, match=r"is a model of coarse sites.*--set training\.sites=coarse"):
        finetune(card, run_folder / "score", ensemble, tmp_path / "m", gate=False)


def test_what_a_model_of_coarse_sites_cannot_do_is_refused(run_folder):
    model = load_model(run_folder / "model")
    with pytest.raises(UserError, match="wants a model of all sites"):
        build_kernel(parse_card(CARD, ["sampling.kernel.move=partial", "sampling.kernel.eps=0.3"]), model, "ode")
    with pytest.raises(UserError, match=r"no exact action.*rungs = 1"):
        build_proposal(parse_card(CARD, ["sampling.ode.rungs=3"]), model, "ode")
    with pytest.raises(UserError, match="no exact action"):
        refined(model, "ode", rungs=3)
    with pytest.raises(UserError, match="coarse sites of"):
        card_of(model)
