"""Models that a run samples beside its own: their chains are theirs alone, and what cannot be sampled is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from learned_toys import model
from test_pipeline import TINY, run_with_stops
from test_report import make_chain, make_run

from latticediff.action import Phi4
from latticediff.cli import main
from latticediff.config import parse_card
from latticediff.ensemble import Ensemble, content_digest
from latticediff.errors import CardError, FileError, UserError
from latticediff.job.folder import RunFolder
from latticediff.job.log import read_log
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import proposal_for
from latticediff.report import write_report
from latticediff.report.cheapest import cheapest_learned
from latticediff.report.verdict import verdict
from latticediff.stages.beside import models_beside, require_sampled
from latticediff.stages.prices import read_prices
from latticediff.stages.run import run

ACTION, SHAPE = Phi4.A(-4.0, 6.975), (4, 6)  # of TINY
OWN = {"method": "rk4", "steps": 3, "grid": "uniform", "proposal": "ode", "ess_reverse": [0.5, 0.1]}


def tiny_model(folder, seed=0, action=ACTION, shape=SHAPE):
    """A model of two features that was never trained, with a scheme of its own, in `folder`."""
    made = model(action, shape, 0.02, seed=seed, features=2, hidden=4)
    made.card = {"metrics": OWN}
    save_model(made, folder)
    return folder


def naming(*models):
    return parse_card(TINY, [f"sampling.beside={json.dumps([str(name) for name in models])}"])


def dry_run(folder, capsys, code):
    """What the command says of ``card.toml`` in `folder`; it exits with `code`."""
    with pytest.raises(SystemExit) as ended:
        main(["run", str(folder / "card.toml"), "--out", str(folder / "run"), "--dry-run"])
    assert (ended.value.code or 0) == code
    return capsys.readouterr()


@pytest.fixture(scope="module", autouse=True)
def short_rounds():
    """Prices within a moment, and with fewer looks at the stop flag than a test stops after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latticediff.stages.prices.ROUNDS", 2)
        patch.setattr("latticediff.stages.prices.ROUND_SECONDS", 0.01)
        yield


pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("beside")


@pytest.fixture(scope="module")
def card(place):
    """Two models whose folders have the same name, and that of a route of the run."""
    return naming(tiny_model(place / "a" / "ode", 1), tiny_model(place / "b" / "ode", 2))


@pytest.fixture(scope="module")
def finished(card, place):
    run(card, place / "whole")
    return RunFolder(place / "whole", card, resume=True)


def test_every_model_has_chains_of_its_own_under_names_that_are_free(finished, card):
    keys = [beside.key for beside in models_beside(card)]
    assert keys == ["ode-2", "ode-3"]
    report = json.loads((finished.path / "report.json").read_text())
    assert list(report["chains"]) == ["hmc", "ode", "sde", *keys]
    fields = {}
    for key in keys:
        with Ensemble(finished.beside(key)[0]) as chain:
            fields[key] = chain.phis()
            assert (chain.n_chains, chain.n_updates) == (4, 12)  # of [sampling.ode]
        told = report["chains"][key]
        assert 0 < told["ess_reverse"] <= 1 and told["ess_forward"] is not None
        assert told["network"].endswith("ridge, 2 features, all sites; ode, rk4, 3 steps, uniform grid")
        assert report["seconds"][f"beside_sample_{key}"] > 0
    assert np.abs(fields["ode-2"] - fields["ode-3"]).min() > 0
    stages = [row["stage"] for row in read_log(finished.log, "end")]
    wanted = [f"beside_{what}_{key}" for key in keys for what in ("sample", "weigh")]
    assert stages[-6:] == [*wanted, "prices", "report"]


def test_chains_are_drawn_by_their_model_in_its_own_scheme_from_streams_of_their_own(finished, card):
    first = models_beside(card)[0]
    assert (first.card.sampling.ode.steps, first.card.sampling.ode.method) == (3, "rk4")
    drawn = load_model(first.model)
    with Ensemble(finished.beside(first.key)[0]) as chain:
        assert chain.provenance.parents == [{"file": "ode", "fingerprint": drawn.fingerprint()}]
        assert parse_card(chain.provenance.config_toml) == first.card
        told, phis = chain.algorithm["proposal"], chain.phis()
        log_weight, accepted = chain.history("log_weight"), chain.history("accepted")
        streams = chain.streams()
    assert told["steps"] == 3 and told["model"] == drawn.fingerprint()
    assert streams.path == ("beside", drawn.fingerprint(), "sample")
    # a field that was accepted has the weight that the proposal gives it in that scheme, and in no other
    update, number = np.argwhere(accepted)[0]
    field = phis.reshape(12, 4, *SHAPE)[update, number][None]
    own, of_the_run = (-ACTION(field) - proposal_for(drawn, steps=steps, method="rk4").weigh(field) for steps in (3, 2))
    assert own[0] == pytest.approx(log_weight[update, number], abs=1e-4)
    assert abs(of_the_run[0] - log_weight[update, number]) > 1e-3


def test_the_run_itself_does_not_notice(finished, tmp_path):
    """HMC, the model and its chains have the bits of a run of the card without further models."""
    alone = run(parse_card(TINY), tmp_path / "alone")
    for name in ("ensemble.h5", "chain_hmc.h5", "chain_ode.h5", "chain_sde.h5"):
        assert content_digest(alone.path / name) == content_digest(finished.path / name), name
    weights = "weights.safetensors"
    assert (alone.model / weights).read_bytes() == (finished.model / weights).read_bytes()
    for route in ("ode", "sde"):
        assert alone.weights(route).read_bytes() == finished.weights(route).read_bytes()
    assert not alone.prices.exists() and "prices" not in [row["stage"] for row in read_log(alone.log, "end")]
    assert "processor time" not in (alone.path / "report.html").read_text()


def test_stopped_and_resumed_run_has_the_same_further_chains(finished, card, tmp_path, monkeypatch):
    monkeypatch.setattr("latticediff.stages.generate.block_length", lambda *_: 40)
    cut = run_with_stops(card, tmp_path / "cut", 8)
    for beside in models_beside(card):
        for one, other in zip(cut.beside(beside.key), finished.beside(beside.key), strict=True):
            if one.suffix == ".h5":
                assert content_digest(one) == content_digest(other)
            else:
                assert one.read_bytes() == other.read_bytes()


def test_prices_are_of_all_samplers_and_enter_report_and_page(finished):
    found, report = read_prices(finished.prices), json.loads((finished.path / "report.json").read_text())
    assert set(found) == set(report["chains"]) == {"hmc", "ode", "sde", "ode-2", "ode-3"}
    for name, (value, error) in found.items():
        chain = report["chains"][name]
        assert value > 0 and error >= 0 and chain["processor_seconds_per_update"] == [value, error]
        tau = chain["tau_int"]["abs_m"][0]
        assert chain["processor_seconds_per_independent_abs_m"][0] == pytest.approx(2 * tau * value)
    page = (finished.path / "report.html").read_text()
    assert "processor time per independent |m|" in page and "Of the learned samplers" in page


def test_damaged_prices_are_refused(finished, tmp_path):
    text = finished.prices.read_text()
    (tmp_path / "prices.json").write_text(text.replace('"hmc"', '"abc"'))
    with pytest.raises(FileError, match=r"digest|altered|damaged"):
        read_prices(tmp_path / "prices.json")
    (tmp_path / "prices.json").write_text("[]")
    with pytest.raises(FileError, match="holds no prices"):
        read_prices(tmp_path / "prices.json")


def test_a_model_that_was_changed_since_is_refused(finished, card, tmp_path):
    beside = models_beside(card)[0]
    changed = dataclasses.replace(beside, fingerprint=load_model(models_beside(card)[1].model).fingerprint())
    require_sampled(beside, finished.beside(beside.key)[0])
    with pytest.raises(FileError, match="is not the one that drew"):
        require_sampled(changed, finished.beside(beside.key)[0])


def test_a_finished_run_no_longer_needs_the_models(finished, card, tmp_path):
    shutil.move(card.sampling.beside[0], tmp_path / "away")
    try:
        run(card, finished.path, resume=True)
    finally:
        shutil.move(tmp_path / "away", card.sampling.beside[0])


REFUSED = {
    "theory": "was trained for .*lam=6,.*this card is of .*lam=6.975.* on 4x6; no shipped model fits",
    "lattice": "on 6x6, and this card is of .* on 4x6; no shipped model fits",
    "missing": "no model folder and no shipped model is called '.*missing'; no shipped model fits",
    "unknown": "no shipped model is called 'phi4-A-L8-fst'.*did you mean 'phi4-A-L8-fast'.*; no shipped model fits",
    "shipped": "phi4-A-L8-fast was trained for .* on 8x8",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_begun(case, tmp_path, capsys):
    names = {
        "theory": lambda: tiny_model(tmp_path / "model", action=Phi4.A(-4.0, 6.0)),
        "lattice": lambda: tiny_model(tmp_path / "model", shape=(6, 6)),
        "missing": lambda: tmp_path / "missing",
        "unknown": lambda: "phi4-A-L8-fst",
        "shipped": lambda: "phi4-A-L8-fast",
    }
    wanted = naming(names[case]())
    with pytest.raises(UserError, match="sampling.beside: .*" + REFUSED[case]) as caught:
        run(wanted, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()
    (tmp_path / "card.toml").write_text(wanted.to_toml())
    told = dry_run(tmp_path, capsys, 2)
    assert told.out == "" and told.err.strip().count("\n") == 0 and "sampling.beside" in told.err


def test_shipped_models_that_fit_are_named():
    text = TINY.replace("lam = 6.975", "lam = 6.008").replace("[4, 6]", "[8, 8]")
    with pytest.raises(UserError, match=r"; models that fit: .*phi4-A-L8-fast, .*phi4-A-line$"):
        models_beside(parse_card(text, ['sampling.beside=["phi4-A-L16"]']))
    (found,) = models_beside(parse_card(text, ['sampling.beside=["phi4-A-L8-fast"]']))
    ode = found.card.sampling.ode
    assert (found.key, ode.steps, ode.method, ode.grid) == ("phi4-A-L8-fast", 11, "adams5", "optimised")


def test_a_model_that_is_named_twice_is_refused(tmp_path):
    one = tiny_model(tmp_path / "one")
    shutil.copytree(one, tmp_path / "other")
    with pytest.raises(UserError, match=r"sampling\.beside: .*other is the same model as .*one"):
        models_beside(naming(one, tmp_path / "other"))


def test_a_move_that_a_model_cannot_make_is_refused():
    text = TINY.replace("lam = 6.975", "lam = 6.008").replace("[4, 6]", "[8, 8]")
    moved = parse_card(text, ['sampling.beside=["phi4-A-L8-fast"]', "sampling.kernel.move=partial"])
    with pytest.raises(UserError, match=r"sampling\.beside, phi4-A-L8-fast: the model proposes odd sites"):
        models_beside(moved)


def test_a_card_without_the_key_is_the_card_that_it_was():
    """Its digest is the identity of run folders, those of earlier versions included."""
    plain = parse_card(TINY)
    assert "beside" not in plain.to_dict()["sampling"] and models_beside(plain) == ()
    assert models_beside(parse_card(TINY, ["sampling.beside=[]"])) == ()


@pytest.mark.parametrize(
    ("given", "what"), [('["a", "a"]', "'a' twice"), ('[""]', "at least 1 character"), ("[3]", "3")]
)
def test_a_card_that_names_nothing_or_one_model_twice_is_refused(given, what):
    with pytest.raises(CardError, match=f"sampling.beside.*{what}"):
        parse_card(TINY, [f"sampling.beside={given}"])


def test_a_dry_run_says_what_each_model_costs(card, tmp_path, capsys, short_probes):
    (tmp_path / "card.toml").write_text(card.to_toml())
    assert "beside ode-2 " in dry_run(tmp_path, capsys, 0).out and not (tmp_path / "run").exists()


def priced(*prices):
    """A run of HMC, ODE and SDE, whose tau_int(|m|) are 3.25, 0.55 and 1.0, with these prices of an update."""
    rng = np.random.default_rng(11)
    taus = {"hmc": 6.0, "ode": 0.6, "sde": 1.5}
    return make_run(
        chains=[
            make_chain(rng, name, tau=tau, weights=name != "hmc", processor_seconds_per_update=price)
            for (name, tau), price in zip(taus.items(), prices, strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("prices", "short"),
    [
        # 2 x 3.25 x 1 us = 6.5 us; 2 x 0.55 x 50 us = 55 us: 8.46 times
        (((1e-6, 1e-9), (5e-5, 1e-8), (9e-5, 1e-8)), "ODE is the cheapest, 8.46(91) times dearer than HMC"),
        (((1e-4, 1e-9), (5e-6, 1e-8), (9e-5, 1e-8)), "ODE is the cheapest, 118(13) times cheaper than HMC"),
        (((1e-6, 1e-9), (5e-5, 1e-8), (2.8e-5, 1e-8)), "cost least, equal within errors"),
        (((8.5e-6, 1e-9), (5e-5, 1e-8), (9e-5, 1e-8)), "ODE is the cheapest, as dear as HMC within errors"),
    ],
)
def test_the_verdict_names_the_cheapest_learned_sampler(prices, short):
    result = priced(*prices)
    said = cheapest_learned(result)
    assert short in said[0]
    headline, sentences = verdict(result)
    assert said[0] in headline and any("In processor time" in sentence for sentence in sentences)


def test_without_prices_nothing_is_said_of_them(tmp_path):
    assert cheapest_learned(priced(None, None, None)) is None
    assert cheapest_learned(priced((1e-6, None), (1e-5, None), None)) is None
    told = json.loads(write_report(priced(None, None, None), tmp_path)["json"].read_text())
    assert told["chains"]["ode"]["processor_seconds_per_update"] is None
