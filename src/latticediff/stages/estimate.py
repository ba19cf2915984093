"""What a card will cost in time, memory and disk, from a probe of a few seconds; writes nothing.

The probe runs the very kernels of the stages on the card's lattice for a few updates, optimiser
steps and proposals (of an untrained network: the cost does not depend on the weights), and scales up.
Compilation and imports are not counted.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..host import torch_defaults
from .costs import (
    Cost,
    beside_costs,
    few_fields,
    finetune_cost,
    generate_cost,
    law_cost,
    probe_hmc,
    report_costs,
    sample_cost,
    search_cost,
    train_cost,
)

if TYPE_CHECKING:
    from ..config import Card

__all__ = ["Cost", "estimate", "probe"]


@torch_defaults()
def probe(card: Card, stages: Collection[str]) -> dict[str, Cost]:
    """Measure what stages of a card would cost, in a few seconds.

    Parameters
    ----------
    card : latticediff.config.Card
    stages : collection of str
        Any of ``generate, sample_hmc, train, finetune, sample_ode, sample_sde``, and ``beside``: the models that
        ``sampling.beside`` names; ``report``, the page of a run.

    Returns
    -------
    dict of str to Cost
        One for each stage, of ``beside`` for each model, and ``"search, about"`` where the card lets HMC settings be
        searched for. What follows the last step of a training counts for itself: ``finish train``.
    """
    hmc = probe_hmc(card)
    costs: dict[str, Cost] = {}
    if "generate" in stages:
        costs = {"search, about": search_cost(card, *hmc)} if card.hmc.searches else {}
        costs["generate"] = generate_cost(card, *hmc)
    if "sample_hmc" in stages:
        every = card.hmc.model_copy(update={"n_warmup": 0, "n_updates": card.sampling.hmc.n_updates, "thin": 1})
        if card.sampling.hmc.search:
            costs["search, about"] = search_cost(card, *hmc)
        costs["sample_hmc"] = generate_cost(card.model_copy(update={"hmc": every}), *hmc)
    if set(stages) <= {"generate", "sample_hmc"}:
        return costs
    from ..training.data import evenly
    from .finish_cost import finish_seconds
    from .small import small_trainer, untrained

    if "train" not in stages:  # whatever the weights began with, they cost the same
        card = card.model_copy(update={"training": card.training.model_copy(update={"init": None})})
    trainer = small_trainer(card, few_fields(card, *hmc))
    model = untrained(trainer)
    if "train" in stages and card.training.sites == "coarse":
        costs["law of the fine sites"] = law_cost(card, trainer)
    if "train" in stages:
        costs["train"] = train_cost(card, trainer)
        costs["finish train"] = Cost(finish_seconds(card, trainer, model, figures=False), 1 << 26, 0)
    if "finetune" in stages:
        costs["finetune"] = finetune_cost(card, trainer)
        costs["finish finetune"] = Cost(finish_seconds(card, trainer, model, figures=True), 1 << 26, 0)
    phis = evenly(trainer.data.judged, card.sampling.batch)
    learned = [stage for stage in stages if stage in ("sample_ode", "sample_sde")]
    for stage in learned:
        costs[stage] = sample_cost(card, model, stage.removeprefix("sample_"), phis)
    if "beside" in stages:
        costs |= beside_costs(card)
    if "report" in stages:
        costs |= report_costs(card, len(learned))
    return costs


def estimate(card: Card, stages: Sequence[str]) -> str:
    """What stages of a card would cost, as a table for people; takes a few seconds and writes nothing.

    Parameters
    ----------
    card : latticediff.config.Card
    stages : sequence of str
        As for `probe`.

    Returns
    -------
    str
        Time, memory (what the probe itself uses included) and disk space of each stage, and of all together.
    """
    costs = probe(card, stages)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    wide = max([16, *(len(stage) + 1 for stage in costs)])
    lines = [f"{'estimate':{wide}}{'time':>10}{'memory':>12}{'disk':>12}"]
    for stage, cost in costs.items():
        lines.append(f"{stage:{wide}}{_time(cost.seconds):>10}{_bytes(used + cost.memory):>12}{_bytes(cost.disk):>12}")
    if len(costs) > 1:
        total = [sum(cost.seconds for cost in costs.values()), sum(cost.disk for cost in costs.values())]
        peak = used + max(cost.memory for cost in costs.values())
        lines.append(f"{'together':{wide}}{_time(total[0]):>10}{_bytes(peak):>12}{_bytes(total[1]):>12}")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _bytes(n: float) -> str:
    return f"{n / 1e9:.3g} GB" if n >= 1e9 else f"{n / 1e6:.3g} MB"
