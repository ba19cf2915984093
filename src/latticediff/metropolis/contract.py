"""What a proposal must supply to be corrected exactly."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from ..contracts import Asked
from ..types import FloatArray, Shape

__all__ = ["Draw", "LatentProposal", "Proposal", "evaluations_to_weigh"]


class Draw(NamedTuple):
    """Proposed fields and their log density.

    `log_q` has no default: a chain that left it out would be exact for another theory.
    """

    phi: FloatArray  #: (n, *lattice)
    log_q: FloatArray  #: (n,)


@runtime_checkable
class Proposal(Protocol, metaclass=Asked):
    """A distribution that can be drawn from and weighed, with one density for both.

    A field has the same log_q whether it was drawn or given: chains that mix proposals with other kernels compare
    the two, and a difference, even a constant one, biases them. `log_q` is the log density of the field
    (deterministic proposals), or of the field together with the hidden path that led to it (path proposals);
    in both cases ``log_weight = -S(phi) - log_q`` is what Metropolis needs.
    """

    @property
    def lattice_shape(self) -> Shape | None:
        """Extents, or None if any lattice will do."""

    @property
    def is_deterministic(self) -> bool:
        """Whether `weigh` is a function of phi alone."""

    @property
    def evaluations_per_draw(self) -> int:
        """Network evaluations of one draw; also of one `weigh`, unless there is an `evaluations_per_weigh`."""

    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals. Random numbers are taken proposal by proposal, so batch splits do not matter."""

    def weigh(self, phi: FloatArray, rng: np.random.Generator) -> FloatArray:
        """log_q of given fields, (n,) float64; a path proposal draws the hidden path from `rng`.

        NaN stands for a field that cannot be weighed; a chain that stands at such a field refuses to go on.
        """

    def fingerprint(self) -> str:
        """Hash of all that decides the density: weights, schedule, code version."""


@runtime_checkable
class LatentProposal(Proposal, Protocol):
    """A proposal that is a bijection of standard normal noise u: partial moves start from the u of a field.

    The ODE's u is the noise at sigma_max; that of a path has one field for each Gaussian step, and one for its top.
    """

    @property
    def noise_shape(self) -> Shape:
        """Shape of one u: (..., *lattice), or (..., V) with the sites or modes in one axis."""

    @property
    def noise_basis(self) -> str:
        """What the last axes of u are: "sites", or "fourier" (see `latticediff.fourier`)."""

    def transport(self, noise: FloatArray) -> Draw:
        """`Draw` of the fields to which u, (n, *noise_shape), leads; one that blows up has ``log_q = +inf``."""

    def invert(self, phi: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """``(u, log_q)`` of given fields; a path proposal draws the hidden path from `rng`."""


def evaluations_to_weigh(proposal: Proposal) -> int:
    """Network evaluations of `Proposal.weigh` for one field.

    Parameters
    ----------
    proposal : Proposal

    Returns
    -------
    int
        Its ``evaluations_per_weigh``; those of a draw where it does not state any.
    """
    return getattr(proposal, "evaluations_per_weigh", proposal.evaluations_per_draw)


@runtime_checkable
class Integrated(Protocol, metaclass=Asked):
    """A proposal whose log_q is the sum of an integration, so that its error shows when the steps are halved."""

    def doubled(self) -> Proposal:
        """The same proposal with every step cut into halves."""
