"""`latticediff inverse-block`: weighed draws, a table of sweeps, whole or nothing; on the free field, known exactly."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from latticediff.action import Phi4, free_propagator
from latticediff.blocking import Blocking, ConditionalGaussian
from latticediff.build import given_propagator as given
from latticediff.cli.app import app
from latticediff.config import load_card
from latticediff.ensemble import Ensemble, save_ensemble, verify
from latticediff.errors import FileError, ModelError, StopRequested, UserError
from latticediff.fourier import basis_from_momenta, transform
from latticediff.stages.inverse_block import inverse_block

SHAPE, N = (8, 8), 400
FREE = Phi4.N(0.5, 0.0)
G = free_propagator(FREE, SHAPE)
CARD = """
[action]
convention = "N"
m2 = 0.5
lam = 0.0
[lattice]
shape = [8, 8]
[run]
seed = 5
"""


@pytest.fixture
def card(tmp_path):
    path = tmp_path / "fine.toml"
    path.write_text(CARD)
    return load_card(path)


@pytest.fixture
def coarse(tmp_path):
    """Block averages of exact fields, with minus the logarithm of their density as their action."""
    root = np.sqrt(basis_from_momenta(G, SHAPE))
    phi = transform(root * np.random.default_rng(1).standard_normal((N, *SHAPE)), SHAPE, inverse=True)
    blocks = Blocking.average(2)(phi)
    S = -ConditionalGaussian(G, Blocking.average(2)).log_coarse(blocks)
    np.savez(tmp_path / "coarse.npz", phi=blocks, action=S)
    return tmp_path / "coarse.npz"


def test_draws_sweeps_and_weights_of_the_free_field_are_exact(card, coarse, tmp_path):
    made = inverse_block(card, coarse, tmp_path / "up", sweeps=3)
    with np.load(tmp_path / "up" / "draws.npz") as arrays:
        phi, log_q = arrays["phi"], arrays["log_q"]
        assert np.allclose(Blocking.average(2)(phi), np.load(coarse)["phi"], atol=1e-12)
        assert np.allclose(log_q, ConditionalGaussian(G, Blocking.average(2)).weigh(phi, np.load(coarse)["phi"]))
        assert np.allclose(arrays["log_weight"], -FREE(phi) - log_q)
        # its coarse theory is known: every draw has the same weight, Z
        assert np.ptp(arrays["log_weight_whole"]) < 1e-9
    assert made.ess_whole.value == pytest.approx(1)
    for row in made.rows:  # 4 rows of 2 observables: 5 sigma is a false alarm in 2e5
        assert abs(row["phi2"].value - G.mean()) < 5 * row["phi2"].error
        assert abs(row["m2"].value - G.flat[0] / 64) < 5 * row["m2"].error
    with Ensemble(tmp_path / "up" / "fields.h5") as after:
        assert after.n_cfg == N and verify(after.path).ok
        assert (after.phis() ** 2).mean() == pytest.approx(made.rows[-1]["phi2"].value, rel=1e-12)
    rows = list(csv.DictReader((tmp_path / "up" / "sweeps.csv").open()))
    assert [row["sweep"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[2]["phi2"]) == made.rows[2]["phi2"].value
    assert json.loads((tmp_path / "up" / "summary.json").read_text())["propagator"] == "gap equation"


def test_sweeps_lead_from_wrong_coarse_fields_to_the_fine_theory(card, tmp_path):
    np.save(tmp_path / "zero.npy", np.zeros((N, 4, 4)))
    root = np.sqrt(basis_from_momenta(G, SHAPE))
    phi = transform(root * np.random.default_rng(2).standard_normal((N, *SHAPE)), SHAPE, inverse=True)
    save_ensemble(tmp_path / "exact.h5", phi, action=FREE)
    made = inverse_block(card, tmp_path / "zero.npy", tmp_path / "up", sweeps=30, reference=tmp_path / "exact.h5")
    first, last = made.rows[0], made.rows[-1]
    assert first["phi2"].value < 0.8 * G.mean() and first["m2"].value < 1e-20
    for name, exact in (("phi2", G.mean()), ("m2", G.flat[0] / 64)):
        assert abs(last[name].value - exact) < 5 * last[name].error
    text = made.to_text().splitlines()
    assert text[1].split()[0] == "sweep" and [line.split()[0] for line in text[2:9]] == [
        "0",
        "1",
        "2",
        "4",
        "8",
        "16",
        "30",
    ]
    assert "[-" in text[2] and text[9].startswith("reference")


def test_held_sweeps_keep_the_blocks_and_are_exact(card, coarse, tmp_path):
    made = inverse_block(card, coarse, tmp_path / "up", hold=3, sweeps=1)
    assert made.held == 3 and len(made.rows) == 5
    for row in made.rows[1:4]:
        assert row["m2"].value == pytest.approx(made.rows[0]["m2"].value, rel=1e-9)  # m is the mean of the blocks
        assert abs(row["phi2"].value - G.mean()) < 5 * row["phi2"].error
    assert made.rows[4]["m2"].value != pytest.approx(made.rows[0]["m2"].value, rel=1e-3)
    held = [row["held"] for row in csv.DictReader((tmp_path / "up" / "sweeps.csv").open())]
    assert held == ["0", "1", "1", "1", "0"]
    assert [line.split()[:2] for line in made.to_text().splitlines()[4:6]] == [["1", "held"], ["2", "held"]]
    with pytest.raises(UserError, match="is held exactly"):
        inverse_block(card, coarse, tmp_path / "soft", hold=3, softness=0.1)


def test_copies_share_their_coarse_field_and_count_as_one(card, coarse, tmp_path):
    made = inverse_block(card, coarse, tmp_path / "up", sweeps=0, copies=3, softness=0.2)
    one = inverse_block(card, coarse, tmp_path / "one", sweeps=0, softness=0.2)
    assert made.ess == pytest.approx(1 / 3, abs=0.7) and 1 / 3 <= made.ess <= 1
    assert made.rows[0]["m2"].error > 0.8 * one.rows[0]["m2"].error  # no sqrt(3): the blocks are the same
    assert len(np.load(tmp_path / "up" / "draws.npz")["log_weight"]) == 3 * N


def test_weights_of_copies_under_a_soft_constraint_are_those_of_the_formula(card, coarse, tmp_path, monkeypatch):
    """log N(Phi; B phi, s^2) - S - log q, and S_c of its own coarse field beside it; however draws are batched."""
    inverse_block(card, coarse, tmp_path / "whole", sweeps=0, copies=2, softness=0.3)
    monkeypatch.setattr("latticediff.stages.inverse_block.BATCH", 1000)
    inverse_block(card, coarse, tmp_path / "parts", sweeps=0, copies=2, softness=0.3)
    given, blocks = ConditionalGaussian(G, Blocking.average(2), 0.3), np.load(coarse)
    with np.load(tmp_path / "whole" / "draws.npz") as found, np.load(tmp_path / "parts" / "draws.npz") as parts:
        assert all(np.array_equal(found[name], parts[name]) for name in found)
        phi, Phi, S = found["phi"], np.repeat(blocks["phi"], 2, axis=0), np.repeat(blocks["action"], 2)
        noise = ((Phi - Blocking.average(2)(phi)) ** 2).sum(axis=(1, 2)) / (2 * 0.3**2)
        constraint = -noise - Phi[0].size * np.log(0.3 * np.sqrt(2 * np.pi))
        assert np.allclose(found["log_weight"], constraint - FREE(phi) - given.weigh(phi, Phi))
        assert np.allclose(found["log_weight_whole"], found["log_weight"] + S)


def test_free_sweeps_begin_where_held_ones_ended(card, coarse, tmp_path):
    for name, sweeps in (("held", 0), ("freed", 1)):
        inverse_block(card, coarse, tmp_path / name, hold=2, sweeps=sweeps)
    with Ensemble(tmp_path / "held" / "fields.h5") as held, Ensemble(tmp_path / "freed" / "fields.h5") as freed:
        drawn, before, after = np.load(tmp_path / "held" / "draws.npz")["phi"], held.phis(), freed.phis()
    # a free sweep that was rejected leaves the field as the held ones left it
    moved, swept = ((fields != before).any(axis=(1, 2)) for fields in (drawn, after))
    assert (moved & ~swept).any() and swept.any()


def test_the_propagator_may_be_that_of_an_ensemble_or_of_a_model(card, coarse, tmp_path):
    root = np.sqrt(basis_from_momenta(G, SHAPE))
    phi = transform(root * np.random.default_rng(3).standard_normal((4000, *SHAPE)), SHAPE, inverse=True)
    save_ensemble(tmp_path / "exact.h5", phi, action=FREE)
    made = inverse_block(card, coarse, tmp_path / "a", sweeps=0, copies=4, propagator=tmp_path / "exact.h5")
    assert made.origin == "exact.h5" and made.ess > 0.9
    assert inverse_block(card, coarse, tmp_path / "b", sweeps=0, propagator="phi4-A-L8").origin == "model phi4-A-L8"
    with pytest.raises(ModelError, match="odd sites"):
        inverse_block(card, coarse, tmp_path / "c", propagator="phi4-A-L8-fast")
    with pytest.raises(ModelError, match=r"is of \(16, 16\); the fine lattice is \(8, 8\)"):
        inverse_block(card, coarse, tmp_path / "c", propagator="phi4-A-L16")


def test_the_same_seed_gives_the_same_bits_and_a_stop_leaves_nothing(card, coarse, tmp_path):
    for name in ("a", "b"):
        inverse_block(card, coarse, tmp_path / name, sweeps=2)
    first, second = ((tmp_path / name / "sweeps.csv").read_text() for name in ("a", "b"))
    assert first == second
    assert np.array_equal(*(Ensemble(tmp_path / name / "fields.h5").phis() for name in ("a", "b")))

    class Reason(str):
        exit_code = 3

    with pytest.raises(StopRequested, match="nothing is saved"):
        inverse_block(card, coarse, tmp_path / "c", sweeps=2, stop=lambda: Reason("time is up"))
    assert not (tmp_path / "c").exists()


def test_what_is_refused(card, coarse, tmp_path):
    def refused(error, match, path=coarse, **options):
        with pytest.raises(error, match=match):
            inverse_block(card, path, tmp_path / "up", **options)
        assert not (tmp_path / "up").exists()

    refused(UserError, "copies = 0", copies=0)
    refused(UserError, "expected average, decimation", kernel="mean")
    refused(UserError, r"cannot be cut into blocks of 3", scale=3)
    refused(UserError, "at least two for each of 300 chains", n_chains=300)
    np.save(tmp_path / "fine.npy", np.zeros((4, 8, 8)))
    refused(
        FileError, r"shape \(4, 8, 8\); expected \(n, 4, 4\), the lattice of the coarse fields", tmp_path / "fine.npy"
    )
    np.save(tmp_path / "nan.npy", np.full((4, 4, 4), np.nan))
    refused(UserError, "finite", tmp_path / "nan.npy")
    np.save(tmp_path / "huge.npy", np.full((4, 4, 4), 1e200))
    refused(UserError, r"fields up to 1e\+200, whose fine fields have no finite action", tmp_path / "huge.npy")
    np.savez(tmp_path / "short.npz", phi=np.zeros((4, 4, 4)), action=np.zeros(3))
    refused(FileError, "values of the action of shape", tmp_path / "short.npz")
    refused(FileError, "does not exist", tmp_path / "none.npy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(FileError, match="is not empty"):
        inverse_block(card, coarse, tmp_path / "full")


def test_the_command(coarse, tmp_path):
    (tmp_path / "fine.toml").write_text(CARD)
    arguments = [str(tmp_path / "fine.toml"), "--coarse", str(coarse), "--sweeps", "1", "--quiet"]
    done = CliRunner().invoke(app, ["inverse-block", *arguments, "--out", str(tmp_path / "a")])
    assert done.exit_code == 0 and "kernel average, factor 1, propagator: gap equation" in done.output
    done = CliRunner().invoke(app, ["inverse-block", *arguments, "--out", str(tmp_path / "b"), "--json"])
    assert len(json.loads(done.output)["sweeps"]) == 2


def test_the_propagator_of_an_ensemble_takes_alternate_fields_batch_by_batch(tmp_path, monkeypatch):
    """Batches of odd length, and a last field too many; what the two halves are is known by their scales."""
    path = tmp_path / "fields.h5"
    fields = np.random.default_rng(1).standard_normal((19, *SHAPE)) * np.tile([1.0, 3.0], 10)[:19, None, None]
    fields[-1] = 1e6  # of 19 the first 18
    save_ensemble(path, fields, action=FREE, n_chains=1)
    halves, measure = [], given.measured_propagator

    def kept(rows, shape):
        halves.append(np.concatenate(list(rows)))
        return measure([halves[-1]], shape)

    monkeypatch.setattr(given, "measured_propagator", kept)
    batches = Ensemble.batches
    monkeypatch.setattr(Ensemble, "batches", lambda ensemble: batches(ensemble, 5))
    given.given_propagator(path, FREE, SHAPE)
    assert np.array_equal(halves[0], fields[:18:2]) and np.array_equal(halves[1], fields[1:18:2])
