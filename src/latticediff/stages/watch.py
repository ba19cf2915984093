"""Physics while training: ESS and acceptance of the proposal that the averaged weights would make now."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis import ess_forward, ess_reverse, expected_acceptance, largest_above_mean
from ..build.learned import passing_proposal
from ..errors import UserError
from ..model.score_model import ScoreModel
from ..proposal.whole import judged_proposal
from ..streams import Streams
from ..training.data import by_chain, evenly

if TYPE_CHECKING:
    from torch import nn

    from ..config import Card
    from ..diffusion.ladder import NoiseRange
    from ..training import Task, Trainer
    from ..types import PathLikeStr

__all__ = ["Tracker", "Watcher"]


class Watcher:
    """``measure`` of `latticediff.training.Watching`: the ODE proposal of every task, on a copy of the weights.

    Parameters
    ----------
    card : latticediff.config.Card
        Its seed, ``training.watch_samples`` and ``sampling.ode`` count; the grid is uniform. Every watch uses the same
        noise and the same held-out configurations. These are weighed by one integration (`OdeProposal.estimate`), which
        costs a third of their density and is off by the integration error.
    """

    def __init__(self, card: Card) -> None:
        self.card, self.n = card, card.training.watch_samples

    def __call__(self, trainer: Trainer) -> dict[str, Any]:
        """ESS both ways, acceptance and largest forward weight of the worst task; of several, ``tasks`` lists all."""
        network = copy.deepcopy(trainer.averaged())  # a model freezes its network
        rows = [self._measure(network, trainer.noise, task) for task in trainer.tasks]
        worst = min(rows, key=lambda row: row["ess_forward"])
        return {**worst, **({"tasks": rows} if len(rows) > 1 else {})}

    def _measure(self, network: nn.Module, noise: NoiseRange, task: Task) -> dict[str, float]:
        model = ScoreModel.for_flow(network, task.gaussian, noise)
        proposal, action = judged_proposal(passing_proposal(self.card, model), model.action)
        draw = proposal.draw(self.n, Streams(self.card.run.seed).child("watch").generator("propose"))
        held_out = task.data.judged
        some = evenly(held_out, self.n)
        reverse = -action(draw.phi) - draw.log_q
        forward = -action(some) - proposal.estimate(some)
        try:
            return {
                "ess_reverse": ess_reverse(reverse).value,
                "acceptance": expected_acceptance(reverse),
                "ess_forward": ess_forward(by_chain(forward, len(held_out), task.data.held_out_chains)).value,
                "largest_forward_weight": largest_above_mean(forward),
            }
        except UserError:  # young weights may have no finite weight at all; no reason to stop a training
            keys = ("ess_reverse", "acceptance", "ess_forward", "largest_forward_weight")
            return dict.fromkeys(keys, math.nan)


class Tracker:
    """Numbers of a training as TensorBoard curves, if the extra ``track`` is installed.

    Parameters
    ----------
    folder : path-like
        Where the event files go.

    Raises
    ------
    UserError
        TensorBoard is not installed.
    """

    def __init__(self, folder: PathLikeStr) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError(
                "training.tensorboard needs the extra: pip install 'latticediff[track]', or set it to false"
            ) from None
        self._writer = SummaryWriter(str(Path(folder)))

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Write every number of a row at its step; lists and tables are left to the JSON log."""
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(f"training/{key}", value, row["step"])
        for number, error in enumerate(row.get("binned_loss", ())):
            for sigma, fisher in zip(error["sigma"], error["fisher"], strict=True):
                self._writer.add_scalar(f"fisher/{number}/sigma_{sigma:.3g}", fisher, row["step"])

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()
