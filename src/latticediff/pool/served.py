"""Draws of pools as a `Proposal`: served once, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileError, UserError
from ..metropolis import Draw
from ..types import Description, FloatArray, Shape

if TYPE_CHECKING:
    from ..action import Action
    from .header import Pool

__all__ = ["PoolProposal"]

S_TOLERANCE = 1e-9  #: of S in the file against S recomputed, relative


class PoolProposal:
    """The draws of one or several pools of one proposal, as kernels ask for them.

    A pool knows the densities of its own draws only, so the chain has to keep that of its field: the first field is a
    draw too, and the path of a path proposal is carried along (``refresh=False``).

    Parameters
    ----------
    pools : sequence of Pool
    ranges : sequence of (int, int)
        The draws of each that are to be used.
    action : Action
        S of the file is compared with it.
    """

    def __init__(self, pools: Sequence[Pool], ranges: Sequence[tuple[int, int]], action: Action) -> None:
        header = pools[0].header
        self.lattice_shape: Shape = header.shape
        self.is_deterministic, self.evaluations_per_draw = header.is_deterministic, header.evaluations_per_draw
        self.header, self.action = header, action
        self._left = [(pool, start, stop) for pool, (start, stop) in zip(pools, ranges, strict=True)]

    @property
    def left(self) -> int:
        """Draws that have not been served yet."""
        return sum(stop - start for _, start, stop in self._left)

    def draw(self, n: int, rng: Any = None) -> Draw:
        """The next `n` draws; `rng` is not used.

        Raises
        ------
        UserError
            Fewer are left.
        FileError
            S of the file is not that of the theory.
        """
        if n > self.left:
            raise UserError(f"{n} draws are wanted and {self.left} are left in the pool; propose more")
        found = []
        while n:
            pool, start, stop = self._left.pop(0)
            taken = min(n, stop - start)
            if taken:
                found.append(self._checked(pool, start, start + taken))
            if start + taken < stop:
                self._left.insert(0, (pool, start + taken, stop))
            n -= taken
        if not found:
            return Draw(np.empty((0, *self.lattice_shape)), np.empty(0))
        return Draw(np.concatenate([draw.phi for draw in found]), np.concatenate([draw.log_q for draw in found]))

    def _checked(self, pool: Pool, start: int, stop: int) -> Draw:
        phi, stored, log_q = pool.rows(start, stop)
        alive = np.isfinite(log_q)
        if not np.isfinite(phi).all() or np.isnan(log_q).any() or (log_q == -np.inf).any():
            raise FileError(f"{pool.path}: draws {start} to {stop - 1} hold a number that is not finite; propose again")
        off = np.abs(stored - self.action(phi))[alive]
        if not (off <= S_TOLERANCE * (1 + np.abs(stored[alive]))).all():
            raise FileError(f"{pool.path}: the action in it is not that of {self.action!r}; propose for this theory")
        return Draw(phi, log_q)

    def weigh(self, phi: FloatArray, rng: Any = None) -> FloatArray:
        """Refused: a pool holds the densities of its own draws only.

        Raises
        ------
        UserError
            Always.
        """
        raise UserError("a pool cannot weigh fields; use the model itself: latticediff.load(name).proposal(...).weigh")

    def describe(self) -> Description:
        """JSON-able parameters; those of the proposal that filled the pool."""
        return {"name": "pool", "model": self.header.model, "proposal": self.header.proposal}

    def fingerprint(self) -> str:
        """Hash of model and scheme that filled the pool."""
        return self.header.proposal_sha256
