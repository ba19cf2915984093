"""A trainer and a fine-tuner of a card on a few fields: what they cost, or have compiled, does not ask for more."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from ..build.device import pick_device
from ..build.learned_theory import learned_theory
from ..training import Trainer, TrainingData
from ..training.calibrate import finish_model
from ..training.finetune import FineTuner
from .finetune import plan_of
from .train import Source, build_trainer

if TYPE_CHECKING:
    from ..config import Card
    from ..model.score_model import ScoreModel
    from ..types import FloatArray

__all__ = ["small_finetuner", "small_trainer", "untrained"]


def small_trainer(card: Card, phis: FloatArray) -> Trainer:
    """A trainer of the card on given configurations, with a batch that they fill at most.

    Parameters
    ----------
    card : latticediff.config.Card
    phis : ndarray, shape (n, *lattice), float64
        Of ``hmc.n_chains`` chains, chain by chain within an update.

    Returns
    -------
    Trainer
    """
    section, theory = card.training, learned_theory(card)
    data = TrainingData(phis, card.hmc.n_chains, section.held_out, pick_device(section.device), theory=theory)
    # these few fields are in no phase yet, and both cost the same
    section = section.model_copy(update={"batch": min(section.batch, len(data.train)), "phase": "symmetric"})
    return build_trainer(card.model_copy(update={"training": section}), [Source(theory, data)])


def small_finetuner(card: Card, trainer: Trainer) -> FineTuner:
    """A fine-tuner of the card, without a guard, of the network and the data of a `small_trainer`."""
    batch = min(card.finetune.batch, len(trainer.data.train))
    # a network that knows nothing has passages far from the others, which would be repeated without them; none of them
    # is called so here, and none comes of steps that do not move
    plan = replace(plan_of(card), check_every=0, batch=batch, learning_rate=1e-12)
    tuner = FineTuner(trainer.averaged(), trainer.tasks[0], trainer.noise, plan, card.finetune.method)
    tuner.far = math.inf
    return tuner


def untrained(trainer: Trainer) -> ScoreModel:
    """The model of a `small_trainer`: it costs what a trained one does, and is worth nothing."""
    return finish_model(trainer.averaged(), trainer.gaussian, trainer.noise, trainer.data)
