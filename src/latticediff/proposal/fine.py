"""All odd sites from a proposal of the coarse ones: the fine ones follow from their learned law."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..action.checkerboard import half_shape
from ..metropolis import Draw
from ..metropolis.contract import Integrated, evaluations_to_weigh
from .fields import checked_fields

if TYPE_CHECKING:
    from ..fine import CoarseSites
    from ..types import Description, FloatArray, Shape

__all__ = ["FineProposal"]


class FineProposal:
    r"""Arrays of odd sites: coarse ones C from another proposal, fine ones F from ``q(F | C)``.

    .. math:: \log q_{odd} = \log q_C(C) + \log q(F | C)

    with both parts known to rounding: `latticediff.fine`. Its draws are weighed with the exact action of the odd sites,
    ``theory.exact``.

    Parameters
    ----------
    coarse : Proposal
        Of arrays of coarse sites.
    theory : CoarseSites
        What it proposes for.
    """

    def __init__(self, coarse: Any, theory: CoarseSites) -> None:
        self.coarse, self.theory = coarse, theory
        self.lattice_shape: Shape = half_shape(theory.law.geometry.whole)
        self.is_deterministic = coarse.is_deterministic
        self.evaluations_per_draw = coarse.evaluations_per_draw
        self.evaluations_per_weigh = evaluations_to_weigh(coarse)
        if hasattr(coarse, "steps"):
            self.steps = coarse.steps
        if hasattr(coarse, "transport"):
            # one more normal number than coarse sites: its bits name the random stream of the fine ones
            self.noise_shape = (int(np.prod(coarse.noise_shape)) + 1,)
            self.transport = self._transport
        if isinstance(coarse, Integrated):
            self.doubled = self._doubled  # the contract `Integrated`, where the coarse sites keep it

    def _doubled(self) -> FineProposal:
        return FineProposal(self.coarse.doubled(), self.theory)

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "fine", "coarse": self.coarse.describe()}

    def fingerprint(self) -> str:
        """Hex SHA-256 of the proposal of the coarse sites and of the theory, with the weights of its law."""
        told = {"name": "fine", "coarse": self.coarse.fingerprint(), "theory": self.theory.describe()}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def draw(self, n: int, rng: np.random.Generator) -> Draw:
        """`Draw` of `n` proposals; one whose coarse sites blew up has ``log_q = +inf``."""
        if hasattr(self.coarse, "transport"):
            return self._transport(rng.standard_normal((n, *self.noise_shape)))
        draw = self.coarse.draw(n, rng)
        return self._with_fine(draw.phi, draw.log_q, rng.integers(2**64, size=n, dtype=np.uint64))

    def _transport(self, noise: FloatArray) -> Draw:
        """`Draw` that standard normal `noise`, (n, *noise_shape), is carried to."""
        keys = np.ascontiguousarray(noise[:, -1]).view(np.uint64)
        coarse = np.ascontiguousarray(noise[:, :-1]).reshape(-1, *self.coarse.noise_shape)
        draw = self.coarse.transport(coarse)
        return self._with_fine(draw.phi, draw.log_q, keys)

    def _with_fine(self, coarse: FloatArray, log_q: FloatArray, keys: Any) -> Draw:
        rows, fine = self.theory.compiled.draw_by_key(coarse.reshape(len(coarse), self.theory.law.geometry.n), keys)
        return Draw(self.theory.law.geometry.odd(rows), log_q + fine)

    def _parts(self, odd: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Coarse sites of given arrays of odd ones, and ``log q(F | C)``."""
        geometry = self.theory.law.geometry
        rows = geometry.rows(checked_fields(odd, self.lattice_shape))
        return rows[:, : geometry.n].reshape(-1, *geometry.shape), self.theory.compiled.weigh(rows)

    def weigh(self, odd: ArrayLike, rng: np.random.Generator | None = None) -> FloatArray:
        """log_q of given arrays of odd sites, (n,) float64; NaN for coarse sites that their proposal cannot weigh."""
        coarse, fine = self._parts(odd)
        return self.coarse.weigh(coarse, rng) + fine

    def estimate(self, odd: ArrayLike) -> FloatArray:
        """log_q of given arrays by one integration upwards; see `OdeProposal.estimate`."""
        coarse, fine = self._parts(odd)
        return self.coarse.estimate(coarse) + fine
