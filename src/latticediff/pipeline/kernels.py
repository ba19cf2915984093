"""The classical kernel of a card, tuned; and the kernel that a file's description names."""

from ..cluster import Cluster
from ..composite import Mixture, Sequence
from ..errors import FileError
from ..hmc import HMC, warm_up
from ..hmc.search import SEARCH
from ..local_updates import LocalMetropolis

__all__ = ["kernel_from_description", "searched_kernel", "tuned_kernel"]


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


def kernel_from_description(action, description):
    """The frozen kernel that wrote a file; inverse of the kernel's ``describe``.

    Raises
    ------
    FileError
        No classical kernel has such a description.
    """
    name, build = description.get("name"), kernel_from_description
    if name == "hmc":
        keys = ("step_size", "n_leapfrog", "integrator", "jitter", "tuning")
        mass = description["mass"]
        mass = None if mass == "unit" else mass["p_hat_squared_plus"]
        return HMC(action, **{key: description[key] for key in keys}, mass=mass)
    if name == "cluster":
        return Cluster(action, description["method"], description["n_clusters"])
    if name == "local_metropolis":
        return LocalMetropolis(action, description["width"], description["n_metropolis"], description["n_reflections"])
    if name == "sequence":
        return Sequence([build(action, part) for part in description["parts"]])
    if name == "mixture":
        return Mixture([build(action, part) for part in description["parts"]], description["weights"])
    raise FileError(f"the algorithm is {name!r}; expected a classical kernel, which can be run on")
