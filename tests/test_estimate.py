"""What a dry run counts, and that what an untrained network does badly is not taken for the cost of a trained one."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from latticediff.config import parse_card
from latticediff.stages.costs import contract, sampling
from latticediff.stages.finish import finishing
from latticediff.stages.finish_cost import finish_work
from latticediff.stages.small import small_finetuner, small_trainer
from latticediff.training import TrainingPlan
from latticediff.training.loop import run_to_the_end

CARD = """
[action]
convention = "A"
m2 = -4.0
lam = 4.7
[lattice]
shape = [8, 8]
[hmc]
n_chains = 8
[network]
features = 2
hidden = 4
[training]
sites = "odd"
[finetune]
steps = 4
batch = 8
integration_steps = 3
"""


@pytest.fixture(autouse=True)
def one_call(monkeypatch):
    """Work is done once; every call costs a second."""

    def timed(work):
        work()
        return 1.0

    monkeypatch.setattr(sampling, "timed", timed)


def test_even_sites_are_drawn_beside_fields_of_the_theory():
    """Far out, where an untrained network draws, there is no table for them, and they take a hundred times as long."""
    seen = []
    theory = SimpleNamespace(
        draw_even=lambda odd, keys: seen.append((odd, keys)) or odd, log_conditional=lambda odd, even: None
    )
    proposal = SimpleNamespace(theory=theory, odd=SimpleNamespace(draw=lambda n, rng: None))
    phis = np.ones((5, 8, 4))
    found = sampling.draw_seconds(proposal, 10, np.random.default_rng(1), phis)
    assert found == pytest.approx(1 / 10 + 1 / 5)
    assert seen[0][0] is phis or np.array_equal(seen[0][0], phis)
    assert seen[0][1].dtype == np.uint64 and len(seen[0][1]) == 5


def test_a_small_fine_tuner_takes_each_passage_once_and_does_not_move():
    card = parse_card(CARD)
    rng = np.random.default_rng(1)
    trainer = small_trainer(card, 3.0 * rng.standard_normal((64, 8, 8)))  # far from what the network expects
    tuner, calls = small_finetuner(card, trainer), []
    forward, reverse = tuner.objectives[0].forward, tuner.objectives[0].reverse
    counting = SimpleNamespace(
        forward=lambda *args: (calls.append("up"), forward(*args))[1],
        reverse=lambda *args: (calls.append("down"), reverse(*args))[1],
    )
    tuner.objectives = [counting]
    before = [p.detach().clone() for p in tuner.network.parameters()]
    tuner.advance()
    assert sorted(calls) == ["down", "up"]
    moved = [float((p.detach() - q).abs().max()) for p, q in zip(tuner.network.parameters(), before, strict=True)]
    assert max(moved) < 1e-6


@pytest.mark.parametrize(("steps", "told"), [(80, 40), (10_000, 100), (10, 10)])
def test_progress_of_a_training_is_told_early_and_often(steps, told):
    """Two looks are needed for the time left, which has to be known after a tenth of the work."""
    plan = TrainingPlan(steps=steps, batch=1, learning_rate=1e-3, ema_decay=0.9, warmup=1, clip=1.0)
    seen = []
    trainer = Steps(plan)
    run_to_the_end(trainer, None, 500, None, 100, lambda step, steps, loss: seen.append(step), None, None)
    assert len(seen) == told and seen[1] <= max(2, steps / 10) and seen[-1] == steps


class Steps:
    """What the loop wants of a trainer, without any work."""

    finished, seconds, step, section = False, 0.0, 0, "training"

    def __init__(self, plan):
        import torch

        self.plan, self.gaussian = plan, SimpleNamespace(device=torch.device("cpu"))
        self.loss, self.ranks, self.untold = torch.ones(()), SimpleNamespace(size=1), []

    def fit(self):
        pass

    def inspect(self):
        pass

    def advance(self):
        self.step += 1
        return self.loss


@pytest.mark.parametrize("figures", [False, True])
def test_the_bar_of_what_follows_a_training_counts_evaluations(figures):
    card = parse_card(CARD)
    trainer = small_trainer(card, np.random.default_rng(1).standard_normal((64, 8, 8)))
    work = finish_work(card, trainer.tasks, trainer.network, figures)
    shown = ["score power", *["figures before and after"] * figures, "time grid", "ESS"]
    assert list(work) == shown and work["time grid"] == 1  # a uniform grid is not fitted
    assert work["ESS"] == 1000 * (1 + 3) * 4 * card.sampling.ode.steps  # draws, weighing by three passages, Runge-Kutta
    if figures:
        assert work["figures before and after"] == 2 * 2000 * (1 + 3 + 6) * 4 * card.finetune.integration_steps
    seen = []
    task = SimpleNamespace(advance=seen.append)
    progress = SimpleNamespace(say=seen.append, task=lambda name, total: seen.append(total) or nullcontext(task))
    with finishing(progress, work) as done:
        for _ in work:
            done()
    assert seen == [f"finishing the model: {', '.join(shown)}", sum(work.values()), *work.values()]


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, 250), (0.01, 25), (0.03, 25), (0.1, 10), (3.0, 1)])
def test_a_price_is_the_median_of_enough_calls(monkeypatch, seconds, calls):
    """Of a clock that moves by what each call takes: 25 calls and 0.25 s, or a second; the first compiles."""
    clock, made = [0.0], [0]
    monkeypatch.setattr(contract.time, "perf_counter", lambda: clock[0])

    def work():
        made[0] += 1
        clock[0] += 100.0 if made[0] == 1 else seconds

    assert contract.timed(work) == pytest.approx(seconds)
    assert abs(made[0] - 1 - calls) <= 1  # sums of seconds are rounded
