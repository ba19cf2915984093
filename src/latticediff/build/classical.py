"""The classical kernel of a card, tuned."""

from ..cluster import Cluster
from ..composite import Sequence
from ..hmc import warm_up
from ..hmc.search import SEARCH

__all__ = ["searched_kernel", "tuned_kernel"]


def tuned_kernel(card, phi, streams):
    """Kernel of ``[hmc]``, tuned and frozen, and the state in which the search for its settings ended.

    Parameters
    ----------
    card : Card
        With ``hmc.mass`` trajectories are Fourier accelerated; with ``hmc.cluster`` every trajectory is followed
        by that many Swendsen-Wang updates, and the kernel is a `Sequence`.
    phi : ndarray, shape (n_chains, *lattice)
    streams : Streams
        See `latticediff.hmc.warm_up`.

    Returns
    -------
    kernel : HMC or Sequence
    state : ChainState
        At update 0.

    Raises
    ------
    UserError
        As `warm_up` and `Cluster`: nothing is accepted, or the theory has no clusters.
    """
    hmc, action = card.hmc, card.theory()
    # before the search: an action without clusters is refused at once
    cluster = None if hmc.cluster is None else Cluster(action, n_clusters=hmc.cluster)
    options = {"observable": hmc.search_observable, "budget": hmc.search_budget} if hmc.searches else {}
    kernel, state = warm_up(
        action,
        phi,
        streams,
        target_acceptance=hmc.target_acceptance,
        trajectory_length=hmc.trajectory_length,
        integrator=hmc.integrator,
        jitter=hmc.jitter,
        mass=hmc.mass,
        **{key: value for key, value in options.items() if value is not None},
    )
    return (kernel if cluster is None else Sequence([kernel, cluster])), state


def searched_kernel(card, phi, streams):
    """As `tuned_kernel`, with length, integrator and acceptance all searched, whatever the card says of them."""
    update = dict.fromkeys(("trajectory_length", "target_acceptance", "integrator"), SEARCH)
    section = card.hmc.model_copy(update=update | {"jitter": card.hmc.jitter or 0.1})
    return tuned_kernel(card.model_copy(update={"hmc": section}), phi, streams)
