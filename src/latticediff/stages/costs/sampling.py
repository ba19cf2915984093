"""What learned samplers cost: their chains, the fields that they weigh, and those of further models beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...lattice import volume
from ...metropolis.contract import Integrated, evaluations_to_weigh
from ...streams import Streams
from .contract import FILE_SECONDS, Cost, ensemble_bytes, timed

if TYPE_CHECKING:
    from ...config import Card
    from ...model.score_model import ScoreModel
    from ...types import FloatArray

__all__ = ["beside_costs", "draw_seconds", "sample_cost"]


def draw_seconds(proposal: Any, n: int, rng: np.random.Generator, phis: FloatArray | None) -> float:
    """Seconds of a draw; of a model of odd sites that is not trained, with the even ones beside the fields `phis`.

    What an untrained network draws is far out, where the even sites have no table and take a hundred times as long.
    """
    if phis is None or not hasattr(proposal, "odd"):
        return timed(lambda: proposal.draw(n, rng)) / n
    odd, theory = phis[:n], proposal.theory
    keys = rng.integers(2**64, size=len(odd), dtype=np.uint64)
    even = timed(lambda: theory.log_conditional(odd, theory.draw_even(odd, keys))) / len(odd)
    return timed(lambda: proposal.odd.draw(n, rng)) / n + even


def sample_cost(card: Card, model: ScoreModel, route: str, phis: FloatArray | None = None) -> Cost:
    """What the chains of a route cost, and the held-out fields that it weighs; `phis` as in `draw_seconds`."""
    from ...build.learned import build_kernel, build_proposal, on_uniform_grid, section_of
    from ..weigh import N_DOUBLING

    card = on_uniform_grid(card)  # where the steps end does not change what they cost
    section, sampling = section_of(card, route), card.sampling
    proposal = build_proposal(card, model, route)
    rng = Streams(card.run.seed).child("probe").generator(route)
    n = min(sampling.batch, section.n_chains)
    seconds = draw_seconds(proposal, n, rng, phis)
    # a refreshed path, a further try, a field to weigh again: all counted in evaluations, as a draw is
    per_draw = max(1, proposal.evaluations_per_draw)  # none of a proposal without a network
    passages = max(1.0, build_kernel(card, model, route).evaluations_per_update / per_draw)
    to_weigh = max(1, evaluations_to_weigh(proposal)) / per_draw
    weighing = sampling.n_forward * seconds * to_weigh
    if isinstance(proposal, Integrated):  # some fields and draws are weighed again with twice the steps
        weighing += N_DOUBLING * seconds * (1 + (1 + 2 + 2) * to_weigh)
    per_update = section.n_chains * seconds * passages
    n_cfg = section.n_chains * section.n_updates
    disk = ensemble_bytes(n_cfg, section.n_updates, section.n_chains, card.shape, 9)
    memory = 16 * 8 * sampling.batch * volume(card.shape)
    seconds = (section.n_warmup + section.n_updates) * per_update + weighing + 2 * FILE_SECONDS
    return Cost(seconds, memory, disk)


def beside_costs(card: Card) -> dict[str, Cost]:
    """Of the further models of a card, each in its own scheme."""
    from ...model.storage import load_model
    from ..beside import ROUTE, models_beside

    costs = {}
    for beside in models_beside(card):
        model = load_model(beside.model, action=card.theory(), shape=card.shape)
        costs[f"beside {beside.key}"] = sample_cost(beside.card, model, ROUTE)
    return costs
