"""What trainings cost: the law of the fine sites, score matching, fine-tuning and its guard."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ...lattice import volume
from ...streams import Streams
from .contract import FILE_SECONDS, Cost, timed

if TYPE_CHECKING:
    from ...config import Card
    from ...training import Trainer

__all__ = ["finetune_cost", "law_cost", "train_cost"]

TOGETHER = 10  # steps of fine-tuning timed at once: some optimisers do more in every tenth
LOOKED_AT = 256  # draws of the guard whose time is taken


def law_cost(card: Card, trainer: Trainer) -> Cost:
    """That of the law of the fine sites, which is trained before the network."""
    from ...fine import FineLaw
    from ...training.fine import FORCES, VALUES, match_forces

    theory = trainer.gaussian.action
    law = FineLaw(theory.exact, theory.shape)
    coarse = trainer.data.train[: max(8, VALUES // (2 * law.geometry.n))].double().cpu().numpy()
    rows = theory.compiled.draw(coarse.reshape(len(coarse), -1), np.full((len(coarse), law.geometry.n), 0.5))[0]
    seconds = timed(lambda: match_forces(law, rows, 4)) / 4
    return Cost(card.training.fine_steps * seconds, 4 * 8 * FORCES, 0)


def train_cost(card: Card, trainer: Trainer) -> Cost:
    """What score matching costs, and the fit of the blend of targets before it."""
    from ...diffusion.threads import one_torch_thread

    hmc, section = card.hmc, card.training
    with one_torch_thread(trainer.gaussian.device):  # as in a training: threads that wait would count for work
        seconds = timed(trainer.advance) * section.batch / trainer.plan.batch
        before = _blend_seconds(card, trainer) if section.target == "stein" else 0.0
    data = 8 * hmc.n_chains * (hmc.n_updates // hmc.thin) * volume(card.shape)
    weights = sum(4 * p.numel() for p in trainer.network.parameters())
    return Cost(before + FILE_SECONDS + section.steps * seconds, 2 * data, weights + 70 * 8 * volume(card.shape))


def _blend_seconds(card: Card, trainer: Trainer) -> float:
    """Seconds of fitting the blend of targets, before the first step: done here on as many fields, if the same few."""
    import torch

    from ...targets.control_variates import fit_blend
    from ..finish_cost import training_fields

    train = trainer.data.train
    again = torch.arange(min(training_fields(card), 1 << 15)) % len(train)
    rows = train[again.to(train.device)]
    began = time.perf_counter()
    fit_blend(trainer.gaussian, rows, trainer.noise)
    return time.perf_counter() - began


def _look_seconds(card: Card, trainer: Trainer) -> float:
    """Seconds of a look of the guard for each of its draws, with as many held-out configurations."""
    from ...proposal import OdeProposal
    from ..small import untrained

    section, model = card.finetune, untrained(trainer)
    proposal, n = OdeProposal(model, section.integration_steps, section.method), min(section.n_check, LOOKED_AT)
    rng = Streams(card.run.seed).child("probe").generator("guard")
    # draws by the grid and by one with twice the steps, which takes the held-out configurations, too
    return (1 + 2 + 2) * timed(lambda: proposal.draw(n, rng)) / n


def finetune_cost(card: Card, trainer: Trainer) -> Cost:
    """What the steps of fine-tuning cost, and the looks of its guard."""
    from ...diffusion.threads import one_torch_thread
    from ..small import small_finetuner

    section, guarding = card.finetune, 0.0
    tuner = small_finetuner(card, trainer)
    with one_torch_thread(trainer.gaussian.device):
        seconds = (
            timed(lambda: [tuner.advance() for _ in range(TOGETHER)]) / TOGETHER * section.batch / tuner.plan.batch
        )
    if section.check_every:
        looks = 1 + -(-section.steps // section.check_every)  # before the first step, too
        guarding = looks * section.n_check * _look_seconds(card, trainer)
    data = 8 * card.hmc.n_chains * (card.hmc.n_updates // card.hmc.thin) * volume(card.shape)
    weights = sum(4 * p.numel() for p in trainer.network.parameters())
    return Cost(guarding + FILE_SECONDS + section.steps * seconds, 2 * data, weights + 70 * 8 * volume(card.shape))
