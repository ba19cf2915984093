"""How good a model's proposal is before a fine-tuning and after it, in a few numbers, and these as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ..analysis import ess_forward, ess_reverse
from ..build.learned import passing_proposal
from ..host import torch_defaults
from ..metropolis import doubling_error
from ..proposal.whole import judged_proposal
from ..streams import Streams
from ..training.data import by_chain, evenly
from .model_metrics import weighed

if TYPE_CHECKING:
    from ..config import Card
    from ..model.score_model import ScoreModel
    from ..training import TrainingData
    from ..types import Description, FloatArray

__all__ = ["FEWEST_FIGURES", "N_FIGURES", "SITES", "figures", "summary"]

N_FIGURES = 2000  # proposals and held-out configurations behind the figures before and after
SITES = 2**21  # most sites of all these: above 32x32, N_FIGURES configurations would take longer than the tuning
FEWEST_FIGURES = 100


@torch_defaults()
def figures(card: Card, model: ScoreModel, data: TrainingData) -> Description:
    """Quality of a model under the card's ODE proposal on a uniform grid, in a few numbers.

    Parameters
    ----------
    card : latticediff.config.Card
    model : ScoreModel
    data : TrainingData
        Of the model's theory; its held-out configurations are weighed.

    Returns
    -------
    dict
        JSON-able. ``var_reverse`` and ``var_forward`` are the variance of log_weight per site, of draws and of held-out
        configurations; ``ess_reverse`` and ``ess_forward`` are [value, error]; ``largest_forward`` is the largest
        forward log_weight above the mean. Of the change of log_weight under twice the integration steps, ``doubling``
        is the median size and ``doubling_spread`` the standard deviation, which limits the accuracy of chains.
    """
    proposal, action = judged_proposal(passing_proposal(card, model), model.action)
    rng = Streams(card.run.seed).child("metrics").generator("figures")
    held_out = data.judged
    n = max(FEWEST_FIGURES, min(N_FIGURES, SITES // model.gaussian.volume))
    draw, some = proposal.draw(n, rng), evenly(held_out, n)
    reverse, forward = -action(draw.phi) - draw.log_q, -action(some) - weighed(proposal, some)
    change = cast("FloatArray", doubling_error(proposal, some, -action(some) - forward))  # the ODE is integrated
    found = ess_reverse(reverse), ess_forward(by_chain(forward, len(held_out), data.held_out_chains))
    return {
        "var_reverse": float(reverse[np.isfinite(reverse)].var() / model.gaussian.volume),
        "var_forward": float(forward.var() / model.gaussian.volume),
        "ess_reverse": [found[0].value, found[0].error],
        "ess_forward": [found[1].value, found[1].error],
        "largest_forward": float(forward.max() - forward.mean()),
        "doubling": float(np.median(np.abs(change))),
        "doubling_spread": float(change.std()),
    }


LABELS = {
    "var_reverse": "var(log_weight)/V, draws",
    "var_forward": "var(log_weight)/V, ensemble",
    "ess_reverse": "ESS reverse",
    "ess_forward": "ESS forward",
    "largest_forward": "largest forward log_weight",
    "doubling": "change under doubled steps, median",
    "doubling_spread": "change under doubled steps, spread",
}


def summary(model: ScoreModel) -> str:
    """The figures before and after a fine-tuning as tables for people, one for each ensemble.

    Parameters
    ----------
    model : ScoreModel
        Fine-tuned; its card has the figures.

    Returns
    -------
    str
    """
    found, lines = model.card["finetune"], []
    further = found.get("further", [])
    for row in (found, *further):
        if further:
            lines.append(row.get("theory") or str(model.gaussian))
        lines.append(f"{'':34}{'before':>18}{'after':>18}")
        for key, label in LABELS.items():
            if key not in row["before"]:  # a model of an earlier version
                continue
            lines.append(f"{label:34}{_number(row['before'][key]):>18}{_number(row['after'][key]):>18}")
    if found["stopped"]:
        lines.append(f"stopped by the guard at {found['stopped']}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    """A number, or a list of value and error, as text."""
    return f"{value[0]:.4f} +- {value[1]:.4f}" if isinstance(value, list) else f"{value:.3g}"
