"""A trainer and a fine-tuner of a card on a few fields: what they cost, or have compiled, does not ask for more."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..build.device import pick_device
from ..build.learned_theory import learned_theory
from ..training import Trainer, TrainingData
from ..training.finetune import FineTuner
from .finetune import plan_of
from .train import Source, build_trainer

if TYPE_CHECKING:
    from ..config import Card
    from ..types import FloatArray

__all__ = ["small_finetuner", "small_trainer"]


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
    plan = replace(plan_of(card), check_every=0, batch=min(card.finetune.batch, len(trainer.data.train)))
    return FineTuner(trainer.averaged(), trainer.tasks[0], trainer.noise, plan, card.finetune.method)
