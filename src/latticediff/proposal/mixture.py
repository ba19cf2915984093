r"""Several proposals as one, each for its own part of the space of fields: coexisting phases in their proportions.

Parts are intervals of an order parameter t(phi), the magnetisation m or its modulus. A draw takes part i with
probability :math:`p_i` and a field from its proposal; one that leaves the part has weight zero. So

.. math:: \log q(\phi) = \log p_i + \log q_i(\phi), \qquad i \text{ the part of } \phi,

is the density of every field that can be accepted, whatever the proposals do elsewhere: at any :math:`p_i` chains are
exact. Rejections are fewest with :math:`p_i` in proportion to :math:`Z_i`, the integral of exp(-S) over the part,
which the proposals themselves measure (`part_log_z`): no chain has to cross from one phase to the other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from ..analysis import reach
from ..errors import UserError
from ..metropolis import Draw
from ..metropolis.asking import ask_draw, ask_transport, ask_weigh
from ..metropolis.contract import Integrated, LatentProposal, Proposal, evaluations_to_weigh
from ..model.phases import Parts, Phases
from ..types import Description, FloatArray, Shape
from .fields import checked_fields, parts

if TYPE_CHECKING:
    from ..action import Action
    from ..model.score_model import ScoreModel

__all__ = ["MixtureProposal", "PartLogZ", "part_log_z"]

BATCH = 1024  # draws at once


class MixtureProposal:
    """The proposals of several phases as one; see the module's formulas.

    Parameters
    ----------
    proposals : sequence of Proposal
        One for each part, in their order, all of one lattice.
    boundaries : Parts
    probabilities : array_like, shape (n_parts,)
        Of the parts, positive; they are normalised here.

    Raises
    ------
    UserError
        Numbers that differ, several lattices, probabilities that are not positive, or path proposals beside
        deterministic ones.
    """

    def __init__(self, proposals: Sequence[Any], boundaries: Parts, probabilities: ArrayLike) -> None:
        self.proposals, self.boundaries = tuple(proposals), boundaries
        weights = np.asarray(probabilities, np.float64).reshape(-1)
        if not len(self.proposals) == len(boundaries) == len(weights):
            raise UserError(
                f"{len(self.proposals)} proposals and {len(weights)} probabilities for {len(boundaries)} parts;"
                " expected as many of each"
            )
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise UserError(f"probabilities are {weights.tolist()}; expected positive numbers")
        shapes = {tuple(proposal.lattice_shape) for proposal in self.proposals}
        if len(shapes) != 1:
            raise UserError(f"the proposals are of lattices {', '.join(map(str, sorted(shapes)))}; expected one")
        kinds = {bool(proposal.is_deterministic) for proposal in self.proposals}
        if len(kinds) != 1:
            raise UserError("some of the proposals draw a hidden path and some do not; expected one kind")
        self.lattice_shape: Shape = shapes.pop()
        self.is_deterministic = kinds.pop()
        self.probabilities = weights / weights.sum()
        # of the dearest part: what a chain is charged for must not be too little
        self.evaluations_per_draw = max(proposal.evaluations_per_draw for proposal in self.proposals)
        self.evaluations_per_weigh = max(map(evaluations_to_weigh, self.proposals))
        if all(isinstance(proposal, Integrated) for proposal in self.proposals):
            self.doubled = self._doubled  # the contract `Integrated`, where all parts keep it

    @classmethod
    def of_phases(cls, phases: Phases, proposal: Callable[[ScoreModel], Any]) -> MixtureProposal:
        """The mixture for a model of coexisting phases; `proposal` makes the proposal of each of its models."""
        return cls([proposal(model) for model in phases.models], phases.parts, phases.probabilities)

    def _doubled(self) -> MixtureProposal:
        return MixtureProposal([part.doubled() for part in self.proposals], self.boundaries, self.probabilities)

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {
            "name": "mixture",
            **self.boundaries.describe(),
            "probabilities": self.probabilities.tolist(),
            "parts": [proposal.describe() for proposal in self.proposals],
        }

    def fingerprint(self) -> str:
        """Hex SHA-256 of the parts' proposals, boundaries and probabilities."""
        told = {
            "name": "mixture",
            **self.boundaries.describe(),
            "probabilities": self.probabilities.tolist(),
            "parts": [proposal.fingerprint() for proposal in self.proposals],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals; one that left its part, or blew up, has ``log_q = +inf``."""
        phi, log_q = np.empty((n, *self.lattice_shape)), np.empty(n)
        edges = np.cumsum(self.probabilities)[:-1]
        if not all(isinstance(proposal, LatentProposal) for proposal in self.proposals):
            for row in range(n):  # proposals that only draw: one after the other
                which = int(np.searchsorted(edges, rng.random(), side="right"))
                drawn = ask_draw(self.proposals[which], 1, rng)
                phi[row], log_q[row] = drawn.phi[0], self._admitted(drawn, which)[0]
            return Draw(phi, log_q)
        shapes = [proposal.noise_shape for proposal in self.proposals]
        sizes = [math.prod(shape) for shape in shapes]
        for part in parts(n, BATCH):
            normals = rng.standard_normal((part.stop - part.start, 1 + max(sizes)))
            chosen = np.searchsorted(edges, ndtr(normals[:, 0]), side="right")
            for which, (proposal, shape, size) in enumerate(zip(self.proposals, shapes, sizes, strict=True)):
                rows = np.flatnonzero(chosen == which)
                if not len(rows):
                    continue
                noise = np.ascontiguousarray(normals[rows, 1 : 1 + size]).reshape(-1, *shape)
                drawn = ask_transport(proposal, noise)
                at = part.start + rows
                phi[at], log_q[at] = drawn.phi, self._admitted(drawn, which)
        return Draw(phi, log_q)

    def _admitted(self, drawn: Draw, which: int) -> FloatArray:
        log_q = drawn.log_q + math.log(self.probabilities[which])
        return np.where(self.boundaries.of(drawn.phi) == which, log_q, np.inf)

    def weigh(self, phi: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        """log_q of given fields, (n,) float64; NaN for one that the proposal of its part cannot weigh."""
        fields = checked_fields(phi, self.lattice_shape)
        found, log_q = self.boundaries.of(fields), np.empty(len(fields))
        for which, proposal in enumerate(self.proposals):
            rows = np.flatnonzero(found == which)
            if len(rows):
                log_q[rows] = ask_weigh(proposal, fields[rows], rng) + math.log(self.probabilities[which])
        return log_q


class PartLogZ(NamedTuple):
    """What one proposal finds of its part; see `part_log_z`."""

    log_z: float  #: log of the integral of exp(-S) over the part
    error: float  #: statistical
    ess: float  #: of the draws that stayed in the part, reverse
    inside: float  #: share of the draws that stayed
    warning: str | None  #: in one line, if log_z is not to be trusted


def part_log_z(
    proposal: Proposal, action: Action, boundaries: Parts, which: int, n: int, rng: np.random.Generator
) -> PartLogZ:
    r"""``log Z_i`` of one part from draws of its proposal, ``log <1[phi in part i] exp(-S - log q_i)>``.

    Parameters
    ----------
    proposal : Proposal
    action : Action
    boundaries : Parts
    which : int
        Number of the part.
    n : int
        Draws, at least 2.
    rng : numpy.random.Generator

    Raises
    ------
    UserError
        No draw stayed in the part.
    """
    log_weight = np.full(n, -np.inf)
    for part in parts(n, BATCH):
        drawn = ask_draw(proposal, part.stop - part.start, rng)
        inside = (boundaries.of(drawn.phi) == which) & np.isfinite(drawn.log_q)
        log_weight[part][inside] = (-np.asarray(action(drawn.phi)) - drawn.log_q)[inside]
    stayed = np.isfinite(log_weight)
    if not stayed.any():
        raise UserError(f"none of {n} draws for part {which} stayed in it; the boundary lies on the wrong side")
    top = log_weight.max()
    weight = np.exp(log_weight - top)
    mean = weight.mean()
    error = float(weight.std(ddof=1) / mean / math.sqrt(n))
    found = reach(log_weight[stayed])
    warning = None
    if found.warning is not None:
        warning = (
            f"rests on few draws (ESS {found.ess.value:.2g}, Pareto k {found.pareto_k:.2f}): draw more (--n), or"
            " fine-tune the model further"
        )
    return PartLogZ(top + math.log(mean), error, found.ess.value, float(stayed.mean()), warning)
