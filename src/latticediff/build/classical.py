"""The classical kernel of a card, tuned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..cluster import Cluster
from ..composite import Sequence
from ..hmc import HMC, warm_up
from ..hmc.search import SEARCH
from ..markov import ChainState
from ..streams import Streams
from ..types import FloatArray

if TYPE_CHECKING:
    from ..config import Card

__all__ = ["searched_kernel", "tuned_kernel"]


def tuned_kernel(card: Card, phi: FloatArray, streams: Streams) -> tuple[HMC | Sequence, ChainState]:
    """Tune the kernel of ``[hmc]`` and freeze it; returns it and the state in which the search left the chains.

    Parameters
    ----------
    card : Card
        With ``hmc.mass`` trajectories are Fourier accelerated; with ``hmc.cluster`` every trajectory is followed
        by that many Swendsen-Wang updates, and the kernel is a `Sequence`.
    phi : ndarray, shape (n_chains, *lattice), float64
        Where the search starts.
    streams : Streams
        See `latticediff.hmc.warm_up`.

    Returns
    -------
    kernel : HMC or Sequence
    state : ChainState
        At update 0: what came before is warm-up.

    Raises
    ------
    UserError
        As `warm_up` and `Cluster`: no trajectory is accepted, or the theory has no clusters.
    """
    hmc, action = card.hmc, card.theory()
    # before the search: an action without clusters is refused at once
    cluster = None if hmc.cluster is None else Cluster(action, n_clusters=hmc.cluster)
    options: dict[str, Any] = {"observable": hmc.search_observable, "budget": hmc.search_budget} if hmc.searches else {}
    # numbers, or "search"
    settings: dict[str, Any] = {
        "target_acceptance": hmc.target_acceptance,
        "trajectory_length": hmc.trajectory_length,
        "integrator": hmc.integrator,
    }
    kernel, state = warm_up(
        action,
        phi,
        streams,
        **settings,
        jitter=hmc.jitter,
        mass=hmc.mass,
        **{key: value for key, value in options.items() if value is not None},
    )
    return (kernel if cluster is None else Sequence([kernel, cluster])), state


def searched_kernel(card: Card, phi: FloatArray, streams: Streams) -> tuple[HMC | Sequence, ChainState]:
    """`tuned_kernel` with length, integrator and acceptance all searched for, whatever the card says of them."""
    update: dict[str, Any] = dict.fromkeys(("trajectory_length", "target_acceptance", "integrator"), SEARCH)
    section = card.hmc.model_copy(update=update | {"jitter": card.hmc.jitter or 0.1})
    return tuned_kernel(card.model_copy(update={"hmc": section}), phi, streams)
