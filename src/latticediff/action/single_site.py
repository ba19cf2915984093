r"""The law of one site in the field h of its neighbours, as tables.

.. math:: p(\phi | h) = \frac{e^{h \phi - V(\phi)}}{Z_1(h)}, \qquad Z_1(h) = \int e^{h \phi - V(\phi)} d\phi .

:math:`\log Z_1` is computed by the trapezoidal rule, which for a smooth integrand that falls off on both sides
converges exponentially, and kept as polynomials of degree 7 on short intervals, good to rounding. For draws there is a
step function above the density for every short interval of h, laid out as an alias table (Walker 1977). NumPy, float64.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..types import FloatArray

__all__ = ["Envelope", "SingleSite", "envelope"]

INTERVALS, DEGREE = 1024, 7  # of the table of log Z_1
ROWS, CELLS, SUBCELLS = 512, 128, 8  # of the envelopes
FALL = 45.0  # the integrand below exp(-FALL) of its largest value is left out: 3e-20
REACH = 60.0  # of the action of a constant field, at which the table ends
MOST = 40_000  # points of the quadrature

Function = Callable[[FloatArray], FloatArray]


class Envelope(NamedTuple):
    """A step function above the density for each interval of h, and how to choose a cell of it."""

    edges: FloatArray  #: (n_rows, 2): where the first cell begins, and the width of all cells
    cut: FloatArray  #: (n_rows, CELLS): probability to stay in the cell that was chosen uniformly
    alias: NDArray[np.uint64]  #: (n_rows, CELLS): the cell to go to otherwise
    bound: FloatArray  #: (n_rows, CELLS): log of the step function


class SingleSite:
    """Tables of one site for fields h in [-reach, reach].

    Parameters
    ----------
    potential : callable
        V(phi), elementwise on float64 arrays; bounded below, faster than linear on both sides.
    bend : callable
        A bound of the curvature: V''(phi), elementwise; it sets the spacing of the quadrature.
    reach : float
        Largest |h|.

    Attributes
    ----------
    coefficients : ndarray, shape (INTERVALS, DEGREE + 1), float64
        log Z_1 on each interval as a polynomial in t of [-1, 1], constant first.

    Raises
    ------
    UserError
        If the integral does not converge within any affordable range.
    """

    def __init__(self, potential: Function, bend: Function, reach: float) -> None:
        self.potential, self.reach = potential, float(reach)
        self.low, self.width = -self.reach, 2 * self.reach / INTERVALS
        self._bend = bend
        self.grid = self._grid(self.reach)
        t = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
        centres = self.low + (np.arange(INTERVALS) + 0.5) * self.width
        values = self.quadrature((centres[:, None] + 0.5 * self.width * t).ravel(), self.grid)
        inverse = np.linalg.inv(np.vander(t, increasing=True))
        self.coefficients = np.ascontiguousarray(values.reshape(INTERVALS, -1) @ inverse.T)

    def _grid(self, reach: float) -> FloatArray:
        """Points of the quadrature that serve every |h| <= reach."""
        low, high = (self._edge(sign, reach) for sign in (-1.0, 1.0))
        coarse = np.linspace(low, high, 4001)
        narrowest = 1 / np.sqrt(max(1e-12, float(self._bend(coarse).max())))
        n = int(np.ceil((high - low) / (0.4 * narrowest))) + 1
        if n > MOST:
            raise UserError(
                f"the potential takes {n} points of quadrature for one site; expected at most {MOST}: its wells are too"
                " narrow for their distance"
            )
        return np.linspace(low, high, max(n, 401))

    def _edge(self, sign: float, reach: float) -> float:
        """Where the integrand has fallen off for every |h| <= reach."""
        phi = 0.5 ** np.arange(-200, 40, 0.25)[::-1] * sign  # from small to large
        with np.errstate(over="ignore", invalid="ignore"):
            exponent = reach * np.abs(phi) - self.potential(phi)
            top = float(np.nanmax(exponent))
            inside = np.flatnonzero(exponent > top - FALL)
        if len(inside) == 0 or inside[-1] + 1 >= len(phi):
            raise UserError("the potential does not hold the field: exp(h phi - V) cannot be integrated")
        return float(phi[inside[-1] + 1])

    def quadrature(self, h: FloatArray, grid: FloatArray | None = None) -> FloatArray:
        """``log Z_1`` by quadrature, (n,) float64, for h (n,); for any h without a grid.

        Parameters
        ----------
        h : ndarray, shape (n,), float64
        grid : ndarray, optional
            Equidistant points; by default those of the table for h that it holds, and points around the largest value
            of the integrand for others.
        """
        if not len(h):
            return np.empty(0)
        if grid is None:
            beyond = ~(np.abs(h) <= self.reach)
            out = np.empty(len(h))
            out[~beyond] = self.quadrature(h[~beyond], self.grid)
            out[beyond] = [self.beyond(float(value))[0] for value in h[beyond]]
            return out
        V, step = self.potential(grid), grid[1] - grid[0]
        out = np.empty(len(h))
        for start in range(0, len(h), 512):
            exponent = h[start : start + 512, None] * grid - V
            top = exponent.max(axis=1, keepdims=True)
            out[start : start + 512] = top[:, 0] + np.log(step * np.exp(exponent - top).sum(axis=1))
        return out

    def beyond(self, h: float) -> tuple[float, float]:
        """``log Z_1`` and the mean of a site in a field beyond the table, where there is one well; NaN on overflow."""
        grid = self._around(h)
        if grid is None:
            return math.nan, math.nan
        exponent = h * grid - self.potential(grid)
        top = exponent.max()
        weight = np.exp(exponent - top)
        total = weight.sum()
        return float(top + math.log(total * (grid[1] - grid[0]))), float((weight * grid).sum() / total)

    def _around(self, h: float) -> FloatArray | None:
        """Points around the largest value of the integrand, as far as it matters; None for what overflows."""
        if not math.isfinite(h):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            size = 2.0 ** np.arange(-60, 500, 0.25)
            phi = math.copysign(1.0, h) * size
            exponent = h * phi - self.potential(phi)
            best = int(np.argmax(np.where(np.isfinite(exponent), exponent, -np.inf)))
            low, high = phi[max(0, best - 1)], phi[min(len(phi) - 1, best + 1)]
            enough = 1e-3 / math.sqrt(max(float(self._bend(np.array(phi[best]))), 1e-300))
            for _ in range(120):  # the place of the maximum, to a small part of the width or to rounding
                if abs(high - low) < enough:
                    break
                left, right = low + (high - low) / 3, high - (high - low) / 3
                if h * left - self.potential(np.array(left)) < h * right - self.potential(np.array(right)):
                    low = left
                else:
                    high = right
            place = 0.5 * (low + high)
            curvature = float(self._bend(np.array(place)))
        if not (math.isfinite(place) and math.isfinite(curvature) and curvature > 0):
            return None
        # an integrand to rounding of h place is narrower than its own place can be told, far out: keep a few digits
        width = max(1 / math.sqrt(curvature), 1e-12 * abs(place))
        return np.linspace(place - 12 * width, place + 12 * width, 401)

    def envelopes(self) -> Envelope:
        """The `Envelope` of all intervals of h."""
        edges = np.linspace(-self.reach, self.reach, ROWS + 1)
        return envelope(self.potential, edges[:-1], edges[1:], self.grid)

    def envelope_at(self, h: float) -> Envelope:
        """The `Envelope` for one value of h, beyond the table if need be."""
        at, grid = np.array([h]), self._around(h)
        if grid is None:
            raise UserError(f"the field of a site is {h:g}; its neighbours have blown up")
        return envelope(self.potential, at, at, grid)


def envelope(potential: Function, low: FloatArray, high: FloatArray, grid: FloatArray) -> Envelope:
    r"""Step functions above :math:`e^{h\phi - V}` for every h between `low` and `high`.

    A cell's bound is the largest value at `SUBCELLS` + 1 points of it, raised by what a second difference says may lie
    between them; a draw that finds the density above it is refused.

    Parameters
    ----------
    potential : callable
    low, high : ndarray, shape (n_rows,), float64
    grid : ndarray
        Points that cover all that matters.
    """
    n = len(low)
    V = potential(grid)
    first, width = np.empty(n), np.empty(n)
    for row in range(n):
        exponent = np.maximum(low[row] * grid, high[row] * grid) - V
        inside = np.flatnonzero(exponent > exponent.max() - FALL)
        begin, end = grid[max(0, inside[0] - 1)], grid[min(len(grid) - 1, inside[-1] + 1)]
        first[row], width[row] = begin, (end - begin) / CELLS
    points = first[:, None] + width[:, None] * (np.arange(-1, CELLS * SUBCELLS + 2) / SUBCELLS)
    exponent = np.maximum(low[:, None] * points, high[:, None] * points) - potential(points)
    second = np.abs(exponent[:, 2:] - 2 * exponent[:, 1:-1] + exponent[:, :-2])
    exponent = exponent[:, 1:-1] + 0.25 * second + 1e-9  # twice what a parabola can hide between two points
    index = SUBCELLS * np.arange(CELLS)[:, None] + np.arange(SUBCELLS + 1)
    bound = exponent[:, index].max(axis=2)
    weight = np.exp(bound - bound.max(axis=1, keepdims=True))
    cut, alias = _alias(weight / weight.sum(axis=1, keepdims=True))
    return Envelope(np.stack([first, width], 1), cut, alias, bound)


def _alias(probability: FloatArray) -> tuple[FloatArray, NDArray[np.uint64]]:
    """Walker's tables for each row of probabilities (n, cells)."""
    n, cells = probability.shape
    cut, alias = np.ones((n, cells)), np.tile(np.arange(cells, dtype=np.uint64), (n, 1))
    for row in range(n):
        share = probability[row] * cells
        small = [i for i in range(cells) if share[i] < 1]
        large = [i for i in range(cells) if share[i] >= 1]
        while small and large:
            i, j = small.pop(), large[-1]
            cut[row, i], alias[row, i] = share[i], j
            share[j] -= 1 - share[i]
            if share[j] < 1:
                small.append(large.pop())
    return cut, alias
