"""The classical kernel of a card, tuned; and the kernel that a file's description names."""

from ..cluster import Cluster
from ..composite import Mixture, Sequence
from ..errors import FileError
from ..hmc import HMC, warm_up
from ..local_updates import LocalMetropolis

__all__ = ["kernel_from_description", "tuned_kernel"]


def tuned_kernel(card, phi, streams):
    """Kernel of ``[hmc]``, its step size tuned and frozen, and the state in which the search ended.

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
    kernel, state = warm_up(
        action,
        phi,
        streams,
        target_acceptance=hmc.target_acceptance,
        trajectory_length=hmc.trajectory_length,
        integrator=hmc.integrator,
        jitter=hmc.jitter,
        mass=hmc.mass,
    )
    return (kernel if cluster is None else Sequence([kernel, cluster])), state


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
