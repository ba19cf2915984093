"""The samplers that a study can compare, and what each asks of a theory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import UserError
from ..registry import nearest

if TYPE_CHECKING:
    from ..action import Action

__all__ = ["GRADIENTS", "SAMPLERS", "Sampler", "lacking", "sampler_named"]

GRADIENTS, NETWORK = "gradients", "network evaluations"


class Sampler(NamedTuple):
    """One way to sample a theory."""

    name: str  #: in cards and files
    label: str  #: on pages
    told: str  #: what it is, in a sentence
    family: str | None = None  #: of its model, see `latticediff.study.models`; None: classical
    counted: str | None = None  #: what its evaluations are; None: updates have no count in common with others
    decisive: str = "m"  #: observable whose tau_int ends the chain
    is_stochastic: bool = False  #: whether its model draws by the reverse SDE, and not by the flow
    wants_all_sites: bool = False  #: whether a model of a part of the sites does not serve it

    @property
    def is_learned(self) -> bool:
        """Whether it wants a model."""
        return self.family is not None


SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler(
            "hmc",
            "searched HMC",
            "HMC whose trajectory length, integrator and acceptance are those of the fewest gradients per independent"
            " |m|.",
            counted=GRADIENTS,
        ),
        Sampler(
            "hmc_unit",
            "unit-length HMC",
            "HMC by leapfrog with trajectories of length 1, only its step size tuned (85 % acceptance).",
            counted=GRADIENTS,
        ),
        Sampler(
            "fourier_hmc",
            "Fourier HMC",
            "Fourier-accelerated HMC, its harmonic part integrated exactly; mass, length, integrator and acceptance"
            " searched.",
            counted=GRADIENTS,
        ),
        Sampler(
            "cluster",
            "clusters",
            "Embedded clusters in turn with local sweeps or an HMC trajectory: of twelve such mixes the one of least"
            " processor time per independent |m|. Its m is drawn with a fresh sign.",
            decisive="m2",
        ),
        Sampler(
            "learned",
            "accurate model",
            "Metropolis chain of independent proposals by the ODE of the accurate model.",
            family="accurate",
            counted=NETWORK,
        ),
        Sampler(
            "fast",
            "fast model",
            "Metropolis chain of independent proposals by the ODE of the fast model: fewer features and steps,"
            " and mostly a part of the sites, from which the others follow by laws of one site.",
            family="fast",
            counted=NETWORK,
        ),
        Sampler(
            "sde",
            "accurate model by SDE",
            "Metropolis chain of proposals by the reverse SDE of the accurate model, weighed by their path.",
            family="accurate",
            counted=NETWORK,
            is_stochastic=True,
        ),
        Sampler(
            "partial",
            "accurate model, partial noise",
            "Metropolis chain that redraws a part of the noise from which the accurate model makes the field"
            " (coloured, eps = 0.5).",
            family="accurate",
            counted=NETWORK,
            wants_all_sites=True,
        ),
        Sampler(
            "fast_hmc",
            "fast model and HMC",
            "A proposal of the fast model and an HMC trajectory of length 1 in turn.",
            family="fast",
        ),
    )
}


def sampler_named(name: str) -> Sampler:
    """The `Sampler` of this name.

    Raises
    ------
    UserError
        There is none.
    """
    if name not in SAMPLERS:
        raise UserError(f"there is no sampler {name!r}{nearest(name, SAMPLERS)}; expected {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def lacking(sampler: Sampler, action: Action) -> str:
    """Why a theory does not have a classical sampler, in one line; "" where it has it."""
    from ..cluster import Cluster
    from ..hmc.fourier import check_links

    try:
        if sampler.name == "cluster":
            Cluster(action)
        elif sampler.name == "fourier_hmc":
            check_links(action)
    except UserError as exc:
        return str(exc)
    return ""
