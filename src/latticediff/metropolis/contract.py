"""What a proposal must supply to be corrected exactly."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

__all__ = ["Draw", "LatentProposal", "Proposal", "evaluations_to_weigh"]


class Draw(NamedTuple):
    """Proposed fields and their log density; `log_q` has no default, for without it the chain is
    exact for another theory."""

    phi: np.ndarray  #: (n, *lattice), float64
    log_q: np.ndarray  #: (n,), float64


@runtime_checkable
class Proposal(Protocol):
    """A distribution that can be drawn from and weighed, with one density for both.

    A field has the same log_q whether it was drawn or given: chains that mix proposals with other kernels compare
    the two, and a difference, even a constant one, biases them. `log_q` is the log density of the field
    (deterministic proposals), or of the field together with the hidden path that led to it (path proposals);
    in both cases ``log_weight = -S(phi) - log_q`` is what Metropolis needs.
    """

    lattice_shape: tuple | None  #: extents, or None if any lattice will do
    is_deterministic: bool  #: True: `weigh` is a function of phi alone
    evaluations_per_draw: int  #: network evaluations of one draw; where there is no `evaluations_per_weigh`, of both

    def draw(self, n, rng):
        """`Draw` of n proposals. Consumes `rng` proposal by proposal, so batch splits do not matter."""

    def weigh(self, phi, rng):
        """log_q of given fields, (n,) float64; a path proposal draws the hidden path from `rng`.

        What it cannot weigh is NaN, and refused by a chain that stands there.
        """

    def fingerprint(self):
        """Hash of all that decides the density: weights, schedule, code version."""


@runtime_checkable
class LatentProposal(Proposal, Protocol):
    """A proposal that is a bijection of standard normal noise u: partial moves start from the u of a field.

    The ODE's u is the noise at sigma_max; that of a path has one field for each Gaussian step, and one for its top.
    """

    noise_shape: tuple  #: of one u: (..., *lattice), or (..., V) with the sites or modes in one axis
    noise_basis: str  #: what its last axes are: "sites", or "fourier" (see `latticediff.fourier`)

    def transport(self, noise):
        """`Draw` of the fields that u, (n, *noise_shape), leads to; one that blows up has ``log_q = +inf``."""

    def invert(self, phi, rng):
        """``(u, log_q)`` of given fields; a path proposal draws the hidden path from `rng`."""


def evaluations_to_weigh(proposal):
    """Network evaluations of `weigh` for one field: those of a draw, unless the proposal states others."""
    return getattr(proposal, "evaluations_per_weigh", proposal.evaluations_per_draw)


@runtime_checkable
class Integrated(Protocol):
    """A proposal whose log_q is the sum of an integration, so that its error shows when the steps are halved."""

    def doubled(self):
        """The same proposal with every step cut into halves."""
