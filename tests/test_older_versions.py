"""Files that older versions wrote, kept as they are: read, migrated, gone on with. What they say is what it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from latticediff.cli import main
from latticediff.config import load_card
from latticediff.ensemble import Ensemble
from latticediff.errors import FileError
from latticediff.job.folder import RunFolder
from latticediff.model.storage import load_model
from latticediff.stages.weigh import read_weights

WRITTEN = Path(__file__).parent / "written"
#: folder -> fingerprints of ensemble and chain and hash of the model, as the versions that wrote them told
TOLD = {
    "schema-1": ("d1a2a94a7194dc6f", "f4038dea7996490a", "36333043fd0c474a"),
    "schema-2": ("a1c0ffdbe68d5407", "83509a0b74ec9d8d", "58a543d56a15"),
}


def test_every_folder_is_told_here():
    assert {path.name for path in WRITTEN.iterdir() if path.is_dir()} == set(TOLD)


@pytest.fixture(params=TOLD)
def folder(request, tmp_path, monkeypatch):
    """A copy, as the working folder."""
    monkeypatch.chdir(shutil.copytree(WRITTEN / request.param, tmp_path / request.param))
    return Path.cwd()


@pytest.fixture
def command(capsys):
    """Run a command, which has to succeed; returns what it prints."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main(words)
        said = capsys.readouterr()
        assert not ended.value.code, said.err
        return said.out

    return run


def test_ensembles_are_what_they_were(folder, command):
    for name, told in zip(("ensemble.h5", "chain.h5"), TOLD[folder.name], strict=False):
        with Ensemble(name) as ensemble:
            assert ensemble.fingerprint().startswith(told)
        assert "is sound" in command("verify", name)
    now, then = json.loads(command("measure", "ensemble.h5", "--json")), json.loads(Path("measured.json").read_text())
    assert (now["n"], now["n_chains"], now["acceptance"]) == (then["n"], then["n_chains"], then["acceptance"])
    for name, (value, _) in then["observables"].items():
        assert now["observables"][name][0] == pytest.approx(value, rel=1e-9), name


def test_older_ones_are_migrated_and_then_extended(folder, command):
    if folder.name == "schema-1":
        command("migrate", "ensemble.h5", "--out", "new.h5")
        with Ensemble("new.h5") as new, Ensemble("ensemble.h5") as old:
            assert new.is_sealed and not old.is_sealed
            assert new.fingerprint() == old.fingerprint() and np.array_equal(new.phis(), old.phis())
        shutil.move("new.h5", "ensemble.h5")
    with Ensemble("ensemble.h5") as ensemble:
        n, phis = ensemble.n_cfg, ensemble.phis()
    command("generate", "card.toml", "--out", "ensemble.h5", "--more", "16", "--quiet")
    with Ensemble("ensemble.h5") as ensemble:
        assert ensemble.n_cfg == n + 2 * ensemble.n_chains and np.array_equal(ensemble.phis(0, n), phis)


def test_a_model_weighs_as_it_did_and_its_chain_goes_on(folder, command):
    assert load_model("model").fingerprint().startswith(TOLD[folder.name][2])
    model = ("--model", "model", "--route", "ode")
    command("weigh", "card.toml", *model, "--ensemble", "ensemble.h5", "--out", "now.npz", "--quiet")
    now, then = read_weights("now.npz")["log_weight"], read_weights("weights.npz")["log_weight"]
    assert np.abs(now - then).max() < 1e-4 < np.ptp(then)  # a flow in float32
    command(
        "sample", "card.toml", *model, "--out", "chain.h5", "--resume", "--quiet", "--set", "sampling.ode.n_updates=16"
    )
    with Ensemble("chain.h5") as chain:
        assert chain.n_updates == 16


def test_a_training_goes_on(folder, command):
    train = ("train", "card.toml", "--ensemble", "ensemble.h5", "--out")
    command(*train, "half", "--resume", "--quiet")
    command(*train, "whole", "--quiet")
    # 9 of 12 steps were made by another version, perhaps on another processor, and Adam takes rounding for gradients
    # where there are none
    both = [load_model(name).network.state_dict().values() for name in ("half", "whole")]
    close = np.concatenate(
        [np.isclose(one, other, rtol=1e-3, atol=1e-4).ravel() for one, other in zip(*both, strict=True)]
    )
    assert close.mean() > 0.9


def test_a_run_folder_is_of_its_card_though_the_card_knew_fewer_keys(tmp_path):
    run = shutil.copytree(WRITTEN / "schema-1" / "run", tmp_path / "run")
    card = load_card(run / "card.toml")
    assert card.digest() != json.loads((run / "run.json").read_text())["digest"]
    with RunFolder(run, card, resume=True) as folder:
        assert folder.is_finished("generate")
    with pytest.raises(FileError, match=r"another run \(hmc.thin = 8 there, 4 here\)"):
        RunFolder(run, load_card(run / "card.toml", ["hmc.thin=4"]), resume=True)
    text = (run / "card.toml").read_text()
    (run / "card.toml").write_text(text.replace("thin = 8", "thin = 4"))
    with pytest.raises(FileError, match=r"another run \(its card.toml was changed\)"):
        RunFolder(run, load_card(run / "card.toml"), resume=True)


def test_a_pool_is_accepted_from(folder, command):
    if folder.name == "schema-1":
        return  # there were none
    command("accept", "pool.h5", "--out", "accepted.h5", "--model", "model", "--n", "12", "--quiet")
    with Ensemble("accepted.h5") as chain:
        assert chain.n_updates > 0
