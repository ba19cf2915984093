"""The classical kernel of a card, tuned."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Sequence_
from typing import TYPE_CHECKING, Any

from ..cluster import Cluster
from ..composite import Sequence
from ..contracts import require
from ..errors import UserError
from ..hmc import HMC, warm_up
from ..hmc.search import SEARCH
from ..markov import ActionKernel, ChainState, kernel_from_description
from ..streams import Streams
from ..types import FloatArray

if TYPE_CHECKING:
    from ..action import Action
    from ..config import Card

__all__ = ["installed_kernels", "searched_kernel", "tuned_kernel"]


def installed_kernels(named: Sequence_[str | dict[str, Any]] | None, action: Action) -> list[ActionKernel]:
    """Kernels that a card names, by their entry points, for an action.

    Parameters
    ----------
    named : sequence of str or dict, optional
        Names, or descriptions with a ``name``.
    action : Action

    Returns
    -------
    list of ActionKernel

    Raises
    ------
    UserError
        One is not installed, cannot be built from its description, or lacks a part of the contract.
    """
    kernels: list[ActionKernel] = []
    for told in named or ():
        description = {"name": told} if isinstance(told, str) else dict(told)
        try:
            kernel = kernel_from_description(action, description)
        except (KeyError, TypeError) as exc:
            raise UserError(f"kernel {description['name']!r} cannot be built from {description}: {exc}") from None
        require(kernel, ActionKernel, f"kernel {description['name']!r}")
        kernels.append(kernel)
    return kernels


def tuned_kernel(
    card: Card, phi: FloatArray, streams: Streams, tell: Callable[[int], object] | None = None
) -> tuple[HMC | Sequence, ChainState]:
    """Tune the kernel of ``[hmc]`` and freeze it; returns it and the state in which the search left the chains.

    Parameters
    ----------
    card : Card
        With ``hmc.mass`` trajectories are Fourier accelerated; with ``hmc.cluster`` every trajectory is followed
        by that many Swendsen-Wang updates, with ``hmc.kernels`` by an update of each, and the kernel is a `Sequence`.
    phi : ndarray, shape (n_chains, *lattice), float64
        Where the search starts.
    streams : Streams
        See `latticediff.hmc.warm_up`.
    tell : callable, optional
        Of a search, see `latticediff.hmc.search.search`.

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
    others = installed_kernels(hmc.kernels, action)
    options: dict[str, Any] = {}
    if hmc.searches:
        options = {"observable": hmc.search_observable, "budget": hmc.search_budget, "tell": tell}
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
    after = [*([] if cluster is None else [cluster]), *others]
    return (Sequence([kernel, *after]) if after else kernel), state


def searched_kernel(card: Card, phi: FloatArray, streams: Streams) -> tuple[HMC | Sequence, ChainState]:
    """`tuned_kernel` with length, integrator and acceptance all searched for, whatever the card says of them."""
    update: dict[str, Any] = dict.fromkeys(("trajectory_length", "target_acceptance", "integrator"), SEARCH)
    section = card.hmc.model_copy(update=update | {"jitter": card.hmc.jitter or 0.1})
    return tuned_kernel(card.model_copy(update={"hmc": section}), phi, streams)
