"""Whole fields from a proposal of the odd sites: the even ones follow from their exact law."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..action import OddSites
from ..action.checkerboard import join, split
from ..fine import CoarseSites
from ..metropolis import Draw
from ..metropolis.asking import ask_draw, ask_transport, ask_weigh
from ..metropolis.contract import Integrated, evaluations_to_weigh
from ..types import Description, FloatArray, Shape
from .fields import checked_fields, parts
from .fine import FineProposal

__all__ = ["WholeProposal", "judged_proposal", "whole_proposal"]

BATCH = 1024  # fields at once, of noise in whose layout the names of random streams stand


class WholeProposal:
    r"""Fields of the whole lattice: odd sites from another proposal, even sites from :math:`p(\phi_y | odd)`.

    .. math:: \log q = \log q_{odd} + \sum_y [h_y \phi_y - V(\phi_y) - \log Z_1(h_y)],

    so that :math:`-S - \log q = -S_{odd} - \log q_{odd}`: the even sites add nothing to the spread of log_weight. See
    `latticediff.action.OddSites`.

    Parameters
    ----------
    odd : Proposal
        Of arrays of odd sites.
    theory : OddSites
        What it proposes for.
    """

    def __init__(self, odd: Any, theory: OddSites) -> None:
        self.odd, self.theory = odd, theory
        self.lattice_shape: Shape = theory.whole_shape(odd.lattice_shape)
        self.is_deterministic = odd.is_deterministic
        self.evaluations_per_draw = odd.evaluations_per_draw
        self.evaluations_per_weigh = evaluations_to_weigh(odd)
        if hasattr(odd, "steps"):
            self.steps = odd.steps
        if isinstance(odd, Integrated):
            self.doubled = self._doubled  # the contract `Integrated`, where the odd sites keep it

    def _doubled(self) -> WholeProposal:
        return WholeProposal(self.odd.doubled(), self.theory)

    @property
    def inner(self) -> Any:
        """The proposal without annealing: a `WholeProposal` of what the odd sites' proposal anneals, or itself."""
        return WholeProposal(self.odd.inner, self.theory) if hasattr(self.odd, "inner") else self

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "whole", "odd": self.odd.describe()}

    def fingerprint(self) -> str:
        """Hex SHA-256 of the proposal of the odd sites and of the theory."""
        told = {"name": "whole", "odd": self.odd.fingerprint(), "theory": self.theory.describe()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals; one whose odd sites blew up has ``log_q = +inf``.

        The random stream of the even sites of a field is named by the bits of one more normal number, taken with
        the noise of its odd sites.
        """
        odd, log_q, keys = self._odd(n, rng)
        usable = np.isfinite(log_q)
        if usable.all():  # nearly always: nothing is copied
            even = self.theory.draw_even(odd, keys)
            return Draw(join(odd, even), log_q + self.theory.log_conditional(odd, even))
        even, log_q = np.zeros_like(odd), log_q.copy()
        even[usable] = self.theory.draw_even(odd[usable], keys[usable])
        log_q[usable] += self.theory.log_conditional(odd[usable], even[usable])
        return Draw(join(odd, even), log_q)

    def _odd(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, Any]:
        """Odd sites, their log_q, and one 64-bit word for each field; random numbers are taken field by field."""
        if hasattr(self.odd, "transport"):
            shape = self.odd.noise_shape
            size = int(np.prod(shape))
            odd, log_q = np.empty((n, *self.odd.lattice_shape)), np.empty(n)
            keys = np.empty(n, np.uint64)
            for part in parts(n, BATCH):
                normals = rng.standard_normal((part.stop - part.start, size + 1))
                keys[part] = np.ascontiguousarray(normals[:, -1]).view(np.uint64)
                noise = np.ascontiguousarray(normals[:, :-1]).reshape(-1, *shape)
                odd[part], log_q[part] = ask_transport(self.odd, noise)
            return odd, log_q, keys
        found = []
        for _ in range(n):  # a proposal that only draws: one after the other
            phi, log_q = ask_draw(self.odd, 1, rng)
            found.append((phi[0], log_q[0], rng.integers(2**64, dtype=np.uint64)))
        fields, densities, names = zip(*found, strict=True) if found else ((), (), ())
        shape = (n, *self.odd.lattice_shape)
        return np.array(fields).reshape(shape), np.array(densities), np.array(names, np.uint64)

    def weigh(self, phi: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        """log_q of given fields, (n,) float64; NaN for odd sites that their proposal cannot weigh."""
        odd, even = split(checked_fields(phi, self.lattice_shape))
        return ask_weigh(self.odd, odd, rng) + self.theory.log_conditional(odd, even)

    def estimate(self, phi: ArrayLike) -> FloatArray:
        """log_q of given fields by one integration upwards; see `OdeProposal.estimate`."""
        odd, even = split(checked_fields(phi, self.lattice_shape))
        return self.odd.estimate(odd) + self.theory.log_conditional(odd, even)


def judged_proposal(proposal: Any, theory: Any) -> tuple[Any, Any]:
    """A proposal, and the theory whose action weighs its draws: as they are, or with fine sites beside coarse ones.

    Parameters
    ----------
    proposal : Proposal
    theory : Action
        What it proposes for, such as `ScoreModel.action`.
    """
    return (FineProposal(proposal, theory), theory.exact) if isinstance(theory, CoarseSites) else (proposal, theory)


def whole_proposal(proposal: Any, theory: Any) -> Any:
    """A proposal of whole fields: as it is, or with the sites beside it where it is one of coarse or odd sites.

    Parameters
    ----------
    proposal : Proposal
    theory : Action
        What it proposes for, such as `ScoreModel.action`.
    """
    proposal, theory = judged_proposal(proposal, theory)
    return WholeProposal(proposal, theory) if isinstance(theory, OddSites) else proposal
