"""Quality of a model as its card states it: ESS both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from ..analysis import ess_forward, ess_reverse
from ..build.learned import plain_proposal
from ..host import torch_defaults
from ..networks.contract import ClosedFormTrace
from ..proposal.whole import judged_proposal
from ..streams import Streams
from ..training import TrainingData
from ..training.data import by_chain, evenly

if TYPE_CHECKING:
    from ..config import Card
    from ..metropolis.contract import Proposal
    from ..model.score_model import ScoreModel
    from ..types import Description, FloatArray

__all__ = ["N_METRICS", "metrics", "weighed"]

N_METRICS = 1000  # proposals and held-out configurations behind the ESS in a model's card


def weighed(proposal: Proposal, phis: FloatArray, rng: np.random.Generator | None = None) -> FloatArray:
    """log q of held-out fields, (n,), for the figures of a model that may be hardly trained.

    Where the proposal finds no noise that leads to a field, `weigh` gives NaN, which chains refuse. Here one
    integration upwards takes its place: the figures then show how bad the model is, instead of ending its training.

    Parameters
    ----------
    proposal : Proposal
    phis : ndarray, shape (n, *lattice), float64
    rng : numpy.random.Generator, optional
        For proposals that draw a hidden path.

    Returns
    -------
    ndarray, shape (n,), float64
    """
    log_q = proposal.weigh(phis, cast("np.random.Generator", rng))  # a proposal without paths wants none
    lost = np.isnan(log_q)
    if lost.any() and hasattr(proposal, "estimate"):
        log_q[lost] = proposal.estimate(phis[lost])
    return log_q


@torch_defaults()
def metrics(card: Card, model: ScoreModel, data: TrainingData) -> Description:
    """ESS both ways, as the model's card states it; the report measures it on more configurations.

    Parameters
    ----------
    card : latticediff.config.Card
        Its ``sampling.ode`` is used, or ``sampling.sde`` for networks whose divergence has no closed form.
    model : ScoreModel
    data : TrainingData
        Of the model's theory; its held-out configurations are weighed.

    Returns
    -------
    dict
        TOML-able: ``proposal``, its ``steps`` (and ``method`` and ``grid``), ``n``, and ``ess_reverse`` and
        ``ess_forward`` as [value, error].
    """
    # of the ODE, unless its divergence costs backward passes: that could take longer than the training
    route = "ode" if isinstance(model.network, ClosedFormTrace) else "sde"
    proposal, action = judged_proposal(plain_proposal(card, model, route), model.action)
    rng = Streams(card.run.seed).child("metrics").generator("propose")
    draw = proposal.draw(N_METRICS, rng)
    some = evenly(data.judged, N_METRICS)
    forward = -action(some) - weighed(proposal, some, rng)
    found = {
        "ess_reverse": ess_reverse(-action(draw.phi) - draw.log_q),
        "ess_forward": ess_forward(by_chain(forward, len(data.held_out), data.held_out_chains)),
    }
    pairs = {name: [estimate.value, estimate.error] for name, estimate in found.items()}
    scheme = {key: getattr(card.sampling.ode, key) for key in ("method", "grid")} if route == "ode" else {}
    return {"proposal": route, "steps": proposal.steps, **scheme, "n": N_METRICS, **pairs}
