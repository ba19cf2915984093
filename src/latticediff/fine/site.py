r"""Tables of one site: its potential, the range of its density, and what even sites make of it.

An even site y between the site f and three others, whose sum is s, contributes :math:`\log Z_1(c\,(f + s))` to the
exponent of f; it is kept as a double Chebyshev series in f and s.
"""

import math
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from ..action import OddSites
from ..errors import UserError
from ..types import FloatArray

__all__ = ["Site"]

REACH = 47.0  # of the action per site of a constant field above the least, where densities end: exp(-47)
N_F, N_S = 16, 56  #: terms of the double series
POWERS, TERMS = 9, 24  #: terms of the shorter series by powers of f
POINTS = 14.0  # of the interpolant on either side of zero, a width apart
SMALL = 1e-4  # a field where V' is linear
EDGE = 1.8  # of fields that are counted in units of one


class Site:
    """Potential, range and the series of ``log Z_1(c (f + s))``.

    Parameters
    ----------
    theory : latticediff.action.OddSites

    Attributes
    ----------
    edge : float
        Densities of a site live on ``|f| <= edge``.
    widest : float
        Largest |s|, three sites of that size.
    unit : float
        Power of two in which fields are counted where sixth powers of them are fitted: the edge is `EDGE` of these, but
        for a factor below 1.5.
    table : ndarray, shape (N_F, N_S), float64
        Coefficients of ``T_k(f / edge) T_l(s / widest)``.

    Raises
    ------
    UserError
        A theory without the symmetry phi -> -phi.
    """

    def __init__(self, theory: OddSites) -> None:
        if not theory.is_symmetric:
            raise UserError(
                f"{theory.whole!r} is not symmetric under phi -> -phi, and the law of the fine sites is; take"
                " training.sites = odd"
            )
        self.theory: Any = theory
        self.c = theory.hopping
        self._zero = float(self.theory.whole.potential(np.zeros(1))[0])
        self.edge = self._edge()
        self.widest = 3 * self.edge
        self.unit = 2.0 ** round(math.log2(self.edge / EDGE))
        nodes = [np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in (N_F, N_S)]
        value = theory.log_z(self.c * (self.edge * nodes[0][:, None] + self.widest * nodes[1]))[0]
        inverse = [np.linalg.inv(chebyshev.chebvander(x, len(x) - 1)) for x in nodes]
        self.table: FloatArray = inverse[0] @ value @ inverse[1].T

    def _edge(self) -> float:
        """The largest value where a constant field's action per site is REACH above the least.

        It is less where the interpolant's points would lie further apart than the width of a density.
        """
        phi = np.geomspace(1e-6, 1e6, 48_001)
        with np.errstate(over="ignore", invalid="ignore"):
            rise = self.potential(phi) - 2 * abs(self.c) * phi**2
        edge = float(phi[np.flatnonzero(rise - min(0.0, float(np.nanmin(rise))) <= REACH)[-1]])
        bend = float(self.derivative(np.array([SMALL]))[0]) / SMALL
        return min(edge, POINTS * bend**-0.5) if bend > 0 else edge

    def potential(self, f: FloatArray) -> FloatArray:
        """V of sites, counted from V(0): a constant of the action is none of the law's."""
        return self.theory.whole.potential(f) - self._zero

    def derivative(self, f: FloatArray) -> FloatArray:
        """V' of sites."""
        return self.theory.whole.potential_derivative(f)

    def by_powers(self) -> FloatArray:
        """A shorter series, (POWERS, TERMS): coefficients of ``f^k T_l(s / widest)``, for the densities in use.

        The law that draws is one of its own, nearly this: what a few terms leave out is a matter of quality.
        """
        f = self.edge * np.cos(np.pi * (np.arange(4 * POWERS) + 0.5) / (4 * POWERS))
        s = np.cos(np.pi * (np.arange(2 * TERMS) + 0.5) / (2 * TERMS))
        value = self.theory.log_z(self.c * (f[:, None] + self.widest * s))[0]
        V = self.potential(f)
        heavy = np.exp(-0.15 * (V - V.min()))[:, None]  # where the density lives
        powers = np.vander(f / self.unit, POWERS, increasing=True)
        by_f = np.linalg.lstsq(heavy * powers, heavy * value, rcond=None)[0]
        by_f /= self.unit ** np.arange(POWERS)[:, None]
        return by_f @ np.linalg.pinv(chebyshev.chebvander(s, TERMS - 1)).T
