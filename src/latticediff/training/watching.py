"""What is measured while training goes on; it draws from no stream of the training and changes no bit of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..targets.matching import mixed_target
from .diagnose import binned_loss, loss_gap

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["N_HELD_OUT", "Watching", "look"]

N_HELD_OUT = 1024


class Watching(NamedTuple):
    """What to measure while training.

    Attributes
    ----------
    every : int
        Steps.
    measure : callable, optional
        ``measure(trainer) -> dict`` of further numbers; with ``ess_forward`` among them, that decides which
        weights are the best, else the held-out loss.
    report : callable, optional
        Gets the row of each watch, a dict.
    patience : int
        Stop after so many watches without improvement; 0: never.
    """

    every: int
    measure: Callable[[Trainer], dict[str, Any]] | None = None
    report: Callable[[dict[str, Any]], object] | None = None
    patience: int = 0

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to look after this step; after the last one it is always true."""
        return step % self.every == 0 or step == steps

    def __call__(self, trainer: Trainer) -> dict[str, Any]:
        """Look at a trainer, offer its weights as the best, report; returns the row."""
        row = look(trainer)
        if self.measure is not None:
            row |= self.measure(trainer)
        value = row.get("ess_forward", -row["held_out_loss"])
        row["is_best"] = trainer.best.offer(trainer.step, value, trainer.averaged())
        if self.report is not None:
            self.report(row)
        return row


@torch.no_grad()
def look(trainer: Trainer, n: int = N_HELD_OUT) -> dict[str, Any]:
    """What the averaged network does now.

    Parameters
    ----------
    trainer : Trainer
    n : int
        Held-out configurations of each task.

    Returns
    -------
    dict
        JSON-able: `step`, `train_loss` and `held_out_loss` per site; for every task ``[gap, error]`` in
        `gaps` and a `BinnedLoss` in `binned_loss`; in `too_few_data` the tasks whose gap is significant.
    """
    gaps, errors = [], []
    for number, task in enumerate(trainer.tasks):
        held_out = task.data.held_out[:n]
        # evenly spread, since neighbours are correlated
        some = task.data.train[:: max(1, len(task.data.train) // len(held_out))][: len(held_out)]
        losses = trainer.losses(number, some), trainer.losses(number, held_out[: len(some)])
        gaps.append(loss_gap(*losses, task.gaussian.volume))
        target = trainer.objectives[number].target or mixed_target
        few = held_out[: max(1, n // 4)]
        errors.append(binned_loss(trainer.averaged(), task.gaussian, few, trainer.noise, target, trainer.plan.seed))
    return {
        "step": trainer.step,
        "train_loss": float(np.dot(trainer.shares, [gap.train for gap in gaps])),
        "held_out_loss": float(np.dot(trainer.shares, [gap.held_out for gap in gaps])),
        "gaps": [[gap.gap, gap.error] for gap in gaps],
        "too_few_data": [number for number, gap in enumerate(gaps) if gap.is_significant],
        "binned_loss": [error._asdict() for error in errors],
    }
