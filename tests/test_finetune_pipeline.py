"""Stage and command finetune: one model folder in, another out, the same bits however it was cut."""

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, model
from training_toys import THEORY

from latticediff.bill import training_seconds
from latticediff.cli import main
from latticediff.config import load_card, parse_card
from latticediff.ensemble import Ensemble, save_ensemble
from latticediff.errors import CardError, FileError, ModelError, StopRequested, UserError
from latticediff.hmc import HMC
from latticediff.job.log import JsonLog, read_log
from latticediff.model.storage import load_model, read_card, save_model
from latticediff.signals import StopReason
from latticediff.stages.finetune import finetune, summary
from latticediff.streams import Streams

SHAPE = (4, 4)
CARD = (
    THEORY
    + """
[run]
seed = 5
[training]
device = "cpu"
held_out = 0.25
[finetune]
steps = 6
batch = 4
warmup = 2
integration_steps = 8
check_every = 3
n_check = 64
ema_decay = 0.5
checkpoint_every = 2
[sampling]
device = "cpu"
[sampling.ode]
steps = 4
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A card, an ensemble of its theory, and a model that was never trained."""
    path = tmp_path_factory.mktemp("finetune")
    (path / "card.toml").write_text(CARD)
    kernel, streams = HMC(QUARTIC, 0.2, 5), Streams(2)
    state = kernel.start(0.5 * np.random.default_rng(2).normal(size=(8, *SHAPE)))
    phis = kernel.advance(state, streams, 200, 10)[1].phi.reshape(-1, *SHAPE)
    save_ensemble(path / "ens.h5", phis, action=QUARTIC, n_chains=8, thin=10)
    save_model(model(QUARTIC, SHAPE, 0.02, features=2, hidden=4), path / "start")
    return path


def tune(folder, out, *overrides, **options):
    card = load_card(folder / "card.toml", overrides)
    return finetune(card, folder / "start", folder / "ens.h5", out, **options)


@pytest.fixture(scope="module")
def tuned(folder):
    log = JsonLog(folder / "log.jsonl")
    return tune(folder, folder / "tuned", log=log)


def test_model_folder_tells_what_was_done(folder, tuned):
    again = load_model(folder / "tuned", action=QUARTIC, shape=SHAPE)
    assert again.fingerprint() == tuned.fingerprint()
    found = again.card["finetune"]
    assert found["model"] == read_card(folder / "start")["sha256"] != again.card["sha256"]
    assert found["steps_done"] == 6 and found["stopped"] == "" and found["objective"] == "path"
    for figure in ("var_reverse", "var_forward", "ess_reverse", "ess_forward", "doubling"):
        assert found["before"][figure] != found["after"][figure]
    assert again.card["metrics"]["steps"] == 4 and again.card["ensemble"]["file"] == "ens.h5"
    assert sorted(path.name for path in (folder / "tuned").iterdir()) == ["card.toml", "weights.safetensors"]
    text = summary(again)
    assert "before" in text and "ESS forward" in text and "stopped" not in text
    rows = read_log(folder / "log.jsonl", "finetuning")
    assert rows[-1]["step"] == 6 and rows[-1]["check"]["step"] == 6


def test_killed_and_resumed_stage_gives_the_same_model(folder, tuned, tmp_path):
    questions = iter(range(10))

    def stop():
        return StopReason("stopped by the test", 130) if next(questions) == 2 else None

    with pytest.raises(StopRequested, match="stopped at step 3 of 6, saved"):
        tune(folder, tmp_path / "cut", stop=stop)
    with pytest.raises(FileError, match="unfinished training; go on with --resume"):
        tune(folder, tmp_path / "cut")
    # as many configurations of the same theory, but others: the steps that are done were not theirs
    with Ensemble(folder / "ens.h5") as ensemble:
        save_ensemble(tmp_path / "ens.h5", -ensemble.phis(), action=QUARTIC, n_chains=8, thin=10)
    with pytest.raises(FileError, match=r"belongs to another run \(differs in sources"):
        finetune(load_card(folder / "card.toml"), folder / "start", tmp_path / "ens.h5", tmp_path / "cut", resume=True)
    torch.manual_seed(1)  # nothing may come from the global generator
    resumed = tune(folder, tmp_path / "cut", resume=True)
    assert resumed.fingerprint() == tuned.fingerprint()
    assert tune(folder, tmp_path / "cut", resume=True).fingerprint() == tuned.fingerprint()  # left as it is


def test_what_cannot_be_used_is_refused(folder, tuned, tmp_path):
    with pytest.raises(FileError, match="already holds a model"):
        tune(folder, folder / "tuned")
    with pytest.raises(ModelError, match="was trained for"):
        tune(folder, tmp_path / "a", "action.lam=6.1")
    with pytest.raises(ModelError, match="was trained on"):
        tune(folder, tmp_path / "a", "lattice.shape=[4, 6]")
    with pytest.raises(UserError, match="batch = 5000 but there are"):
        tune(folder, tmp_path / "a", "finetune.batch=5000")
    assert not (tmp_path / "a").exists()
    with pytest.raises(CardError, match=r"finetune\.reverse = 1\.5"):
        parse_card(CARD, ["finetune.reverse=1.5"])
    with pytest.raises(CardError, match="'integration_steps'"):
        parse_card(CARD, ["finetune.integration_step=3"])


def test_a_run_that_gained_nothing_writes_nothing(folder, tmp_path):
    reckless = ["finetune.learning_rate=0.5", "finetune.warmup=1", "finetune.clip=100.0", "finetune.check_every=2"]
    with pytest.raises(UserError, match=r"gained nothing: step 2: .* Nothing was written"):
        tune(folder, tmp_path / "out", *reckless)
    assert not list((tmp_path / "out").glob("*"))


def test_a_second_fine_tuning_puts_the_first_on_its_bill(folder, tuned, tmp_path):
    again = finetune(load_card(folder / "card.toml"), folder / "tuned", folder / "ens.h5", tmp_path / "again")
    found = again.card["finetune"]
    assert tuned.card["finetune"]["seconds_before"] == 0
    assert found["seconds_before"] == tuned.card["finetune"]["seconds"] > 0
    # the start was never trained: two rows of fine-tuning, and the one ensemble of both
    assert training_seconds(again.card) == pytest.approx(found["seconds"] + found["seconds_before"])
    assert [row["what"] for row in again.card["bill"]] == ["data", "fine-tuning", "fine-tuning"]
    older = {**{key: value for key, value in again.card.items() if key != "bill"}, "training": {"seconds": 10.0}}
    assert training_seconds(older) == pytest.approx(10 + found["seconds"] + found["seconds_before"])


def test_command_prints_before_and_after(folder, tmp_path, capsys):
    arguments = ["--model", str(folder / "start"), "--ensemble", str(folder / "ens.h5"), "--quiet"]
    card, out = str(folder / "card.toml"), tmp_path / "out"
    with pytest.raises(SystemExit) as done:
        main(["finetune", card, *arguments, "--out", str(out), "--set", "finetune.steps=3"])
    printed = capsys.readouterr().out
    assert done.value.code == 0, printed
    assert "before" in printed and "ESS reverse" in printed
    assert load_model(out).card["finetune"]["steps_done"] == 3
