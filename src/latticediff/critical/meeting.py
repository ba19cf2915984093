"""Where the curves of a point's sizes meet each other and the universal values, with a message where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..analysis.crossings import Pair
from ..analysis.finite_size import ISING_RATIO, ISING_XI, QUANTITIES, Curves, curves
from ..errors import UserError
from .series import source_of

if TYPE_CHECKING:
    from ..types import FloatArray
    from .card import CriticalCard, PointSection
    from .series import Fields

__all__ = ["UNIVERSAL", "Along", "ByNode", "require_crossings"]

SYMBOLS = {"xi": "xi/L", "ratio": "Q"}
UNIVERSAL = {"xi": ISING_XI, "ratio": ISING_RATIO}

ByNode = Mapping[int, Mapping[float, "Fields"]]  #: L -> kappa -> fields


class Along:
    """Curves of the sizes of a point along kappa, and where they meet."""

    def __init__(self, card: CriticalCard, point: PointSection, fields: ByNode, sampler: str) -> None:
        self.card, self.point, self.fields, self.sampler = card, point, fields, sampler
        self.rows: dict[tuple[int, int], Curves] = {}

    def __call__(self, extent: int, small: int) -> Curves:
        """Of a size, in the window of the pair whose smaller extent is `small`."""
        settings = self.card.critical
        if (extent, small) not in self.rows:
            low, high = self.card.window(self.point, small)
            sources = [source_of(found, self.sampler) for found in self.fields[extent].values()]
            rng = np.random.default_rng([settings.seed, extent])  # one size, one set of resampled blocks
            at = np.linspace(low, high, settings.couplings)
            self.rows[extent, small] = curves(sources, at, settings.n_blocks, settings.n_replicas, rng)
        return self.rows[extent, small]

    def crossing(self, small: int, large: int, quantity: str) -> Pair:
        """Of a size and the next."""
        one, other = self(small, small), self(large, small)
        try:
            return Pair.of(one, other, quantity)
        except UserError:
            # the larger lattice is below the smaller one where both are disordered
            below = other.of(quantity)[0] < one.of(quantity)[0]
            raise self._apart(f"{SYMBOLS[quantity]} of L = {small} and {large} do not cross", small, below) from None

    def reaching(self, extent: int, quantity: str) -> FloatArray:
        """The couplings at which a size has the universal value, row by row."""
        found, value = self(extent, extent), UNIVERSAL[quantity]
        try:
            rows = found.reaches(quantity, value)
        except UserError:
            what = f"{SYMBOLS[quantity]} of L = {extent} does not reach {value:g}"
            raise self._apart(what, extent, found.of(quantity)[0] < value) from None
        return np.where(np.isnan(rows), rows[0], rows)

    def _apart(self, what: str, small: int, below: Any) -> UserError:
        """The message where curves do not meet; `below` says for each coupling whether it is below the critical one."""
        low, high = self.card.window(self.point, small)
        if below.all():
            remedy = "a larger kappa of the point"
        elif not below.any():
            remedy = "a smaller kappa of the point"
        else:
            remedy = "more draws"
        return UserError(
            f"lam = {self.point.lam:g}, {self.sampler}: {what} between kappa = {low:.6g} and {high:.6g}, or not in all"
            f" resampled rows; in the card: {remedy}, or a larger critical.window than {self.card.critical.window:g}"
        )


def require_crossings(card: CriticalCard, point: PointSection, fields: ByNode) -> None:
    """Refuse draws of the largest size so far that do not meet the universal values, or the size before.

    Parameters
    ----------
    card : CriticalCard
    point : PointSection
    fields : dict of int to dict
        L to coupling to `Fields`; one size or more.

    Raises
    ------
    UserError
        They do not; with what to change in the card.
    """
    along, extents = Along(card, point, fields, "learned"), sorted(fields)
    for quantity in QUANTITIES:
        along.reaching(extents[-1], quantity)
        for small, large in pairwise(extents[-2:]):
            along.crossing(small, large, quantity)
