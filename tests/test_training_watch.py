"""Watching a training: it changes no bit, sees what it should, keeps the best weights and knows when to stop."""

import math

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, network
from training_toys import SHAPE, THEORY, assert_same, phis, stopping_after, trainer

from latticediff.action import Phi4, free_propagator
from latticediff.config import parse_card
from latticediff.diffusion.ladder import NoiseRange
from latticediff.ensemble import save_ensemble
from latticediff.errors import CardError, StopRequested, UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.job.log import JsonLog, read_log
from latticediff.model.storage import load_model
from latticediff.stages.train import train
from latticediff.stages.watch import Tracker
from latticediff.training import TrainingData, TrainingPlan, Watching
from latticediff.training.best import Best
from latticediff.training.diagnose import binned_loss, loss_gap, momentum_shells
from latticediff.training.objective import Objective

CARD = (
    THEORY
    + """
[run]
seed = 3
[network]
features = 2
hidden = 4
[training]
steps = 12
batch = 8
target = "mixed"
device = "cpu"
watch_every = 4
watch_samples = 16
[sampling.ode]
steps = 2
"""
)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "a.h5"
    save_ensemble(path, phis(), action=QUARTIC, n_chains=8)
    return path


# --- no bit is changed -----------------------------------------------------------------------------------------------


def test_watching_changes_no_bit(tmp_path, ensemble):
    text = CARD.replace("watch_every = 4\n", "")
    plain = train(parse_card(text), ensemble, tmp_path / "plain")
    log = JsonLog(tmp_path / "log.jsonl")
    watched = train(parse_card(CARD), ensemble, tmp_path / "watched", log=log)
    assert watched.fingerprint() == plain.fingerprint()
    rows = read_log(tmp_path / "log.jsonl", "watch")
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row in rows:
        assert 0 < row["ess_reverse"] <= 1
        assert 0 < row["ess_forward"] <= 1
        assert 0 < row["acceptance"] <= 1
        assert np.array(row["binned_loss"][0]["relative"]).shape == (8, 4)
    # the same noise every time: what changes is the network
    assert len({row["ess_reverse"] for row in rows}) == 3


def test_resumed_watching_equals_uninterrupted(tmp_path):
    path, rows = tmp_path / "checkpoint", []
    whole = trainer(target="mixed")
    whole.run(watching=Watching(4, report=rows.append))
    with pytest.raises(StopRequested):
        trainer(target="mixed").run(path, stop=stopping_after(14), watching=Watching(4))
    resumed, again = trainer(seed=5, target="mixed"), []
    resumed.run(path, watching=Watching(4, report=again.append))
    assert_same(whole, resumed)
    assert again == rows[-len(again) :]
    assert resumed.best.meta() == whole.best.meta()
    assert all(torch.equal(t, whole.best.weights[k]) for k, t in resumed.best.weights.items())


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_best_weights_are_those_of_the_largest_value():
    best, made = Best(), network(2, 0.1)
    for step, value in enumerate([1.0, 3.0, math.nan, 2.0]):
        torch.nn.init.constant_(made.A, float(step))
        best.offer(step, value, made)
    assert (best.step, best.value, best.since) == (1, 3.0, 2)
    assert float(best.weights["A"].mean()) == 1.0  # a copy, not what the network became


def scripted(values):
    """A `measure` that says what it is told."""
    script = iter(values)
    return lambda trainer: {"ess_forward": next(script)}


def test_training_stops_early_and_stays_stopped(tmp_path):
    path = tmp_path / "checkpoint"
    made = trainer(target="mixed")
    made.run(path, watching=Watching(4, scripted([0.5, 0.6, 0.1, 0.2, 0.9, 0.9]), patience=2))
    assert (made.step, made.finished, made.best.step) == (16, True, 8)
    again = trainer(target="mixed")
    again.run(path)
    assert again.step == 16


def test_model_of_the_best_weights_beside_the_last(tmp_path, ensemble, monkeypatch):
    script = scripted([0.9, 0.2, 0.1] * 2)
    monkeypatch.setattr("latticediff.stages.train.Watcher", lambda card: script)
    last = train(parse_card(CARD), ensemble, tmp_path / "a")
    best = train(parse_card(CARD, ["training.keep=best"]), ensemble, tmp_path / "b")
    assert load_model(tmp_path / "a" / "best").fingerprint() == best.fingerprint() != last.fingerprint()
    assert load_model(tmp_path / "b" / "last").fingerprint() == last.fingerprint()
    assert (best.card["training"]["step"], last.card["training"]["step"]) == (4, 12)


def test_card_wants_watching_for_what_needs_it():
    with pytest.raises(CardError, match="need watch_every > 0"):
        parse_card(CARD.replace("watch_every = 4", "early_stop = 3"))


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_error_of_a_shell_is_seen_in_that_shell():
    """A target that is exact but for one basis function: its shell alone has an error, and that size."""
    action = Phi4.A(0.8, 0.0)
    gaussian = GaussianReference(action, free_propagator(action, (4, 6)), dtype=torch.float64)
    bounds, shell = momentum_shells((4, 6))
    assert [int((shell == s).sum()) for s in range(len(bounds))] == [1, 2, 10, 11]
    spectrum = torch.ones(4, 6, dtype=torch.float64)
    spectrum[0, 0] = 0.7  # the zero mode is short of 0.3 of its target

    def target(gaussian, phi, z, v):
        return gaussian.filter(phi + v.sqrt() * z, torch.ones(4, 6, dtype=torch.float64))

    def net(gaussian, x, log_sigma, trace=False):
        return gaussian.filter(x, spectrum), None

    phi = torch.randn(32, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = binned_loss(net, gaussian, phi, NoiseRange(0.1, 2.0), target)
    np.testing.assert_allclose(np.array(found.relative)[:, 0], 0.09, rtol=1e-10)
    np.testing.assert_allclose(np.array(found.relative)[:, 1:], 0, atol=1e-20)


def test_fisher_divergence_of_a_known_score():
    """Two free fields: ``F = 1/2 sum_k (1/(G+v) - 1/(G0+v))^2 (G0 + v)`` per site, 5 standard errors."""
    true, G = Phi4.A(0.8, 0.0), free_propagator(Phi4.A(2.0, 0.0), SHAPE)
    G0, gaussian = free_propagator(true, SHAPE), GaussianReference(true, G)
    white = np.fft.fftn(np.random.default_rng(1).normal(size=(4096, *SHAPE)), axes=(1, 2))
    phi = torch.as_tensor(np.fft.ifftn(white * np.sqrt(G0), axes=(1, 2)).real, dtype=torch.float32)
    inverse = torch.as_tensor(gaussian.linear + 1 / gaussian.G)

    def exact(gaussian, phi, z, v):
        return gaussian.filter(phi + v.sqrt() * z, (inverse - 1 / gaussian.G) / (1 + v * inverse))

    def zero(gaussian, x, log_sigma, trace=False):
        return torch.zeros_like(x), None

    found = binned_loss(zero, gaussian, phi, NoiseRange(0.1, 2.0), exact)
    for sigma, fisher in zip(found.sigma, found.fisher, strict=True):
        v = sigma**2
        terms = (1 / (G + v) - 1 / (G0 + v)) ** 2 * (G0 + v) / 2
        error = np.sqrt(2 * (terms**2).sum() / 4096) / 16
        assert abs(fisher - terms.sum() / 16) < 5 * error


def test_too_few_data_are_noticed_and_enough_are_not():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(400, generator=generator) * 10  # common to both: the noise of the levels
    spread = torch.rand(400, generator=generator)
    same = loss_gap(noise + spread, noise + spread.flip(0), 16)
    assert not same.is_significant
    worse = loss_gap(noise + spread, noise + spread.flip(0) + 0.3, 16)
    assert worse.is_significant
    assert worse.gap == pytest.approx(0.3 / 16, abs=5 * worse.error)


def test_a_network_that_learns_its_data_by_heart_is_warned_of():
    """A score that is the one of 64 training configurations alone, judged by denoising."""
    data, rows = TrainingData(phis(128), n_chains=2, held_out=0.5), []
    made = trainer(data, target="denoising", sigmas=(0.05, 0.5), batch=8)
    plan = TrainingPlan(target="explicit", oracle="empirical")
    memory = Objective(plan, made.gaussian, data, made.noise, None).target
    made.averaged = lambda: Memory(memory)
    Watching(1, report=rows.append)(made)
    assert rows[0]["too_few_data"] == [0], rows[0]["gaps"]
    made.averaged = lambda: made.network  # that of the baseline knows no data
    Watching(1, report=rows.append)(made)
    assert rows[1]["too_few_data"] == []


class Memory(torch.nn.Module):
    """The network that a network with unlimited freedom would become."""

    def __init__(self, residual):
        super().__init__()
        self.residual = residual

    def forward(self, gaussian, x, log_sigma, trace=False):
        v = gaussian.expand((2 * log_sigma).exp())
        return self.residual(gaussian, x, torch.zeros_like(x), v), None


def test_curves_for_tensorboard(tmp_path, ensemble):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = JsonLog(tmp_path / "log.jsonl")
    train(parse_card(CARD, ["training.tensorboard=true"]), ensemble, tmp_path / "model", log=log)
    events = EventAccumulator(str(tmp_path / "model" / "tensorboard")).Reload()
    rows = read_log(tmp_path / "log.jsonl", "watch")
    shown = [scalar.value for scalar in events.Scalars("training/ess_forward")]
    assert shown == pytest.approx([row["ess_forward"] for row in rows])


def test_missing_tensorboard_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'latticediff\[track\]'"):
        Tracker(tmp_path)
