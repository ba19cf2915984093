r"""The law of one site in the field h of its neighbours, as tables.

.. math:: p(\phi | h) = \frac{e^{h \phi - V(\phi)}}{Z_1(h)}, \qquad Z_1(h) = \int e^{h \phi - V(\phi)} d\phi .

:math:`\log Z_1` is computed by the trapezoidal rule, which for a smooth integrand that falls off on both sides
converges exponentially, and kept as polynomials of degree 7 on short intervals, good to rounding. For draws there is a
step function above the density for every short interval of h, laid out as an alias table (Walker 1977). NumPy, float64.
"""

import math
from collections.abc import Callable, Iterator
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
LADDER = 2.0 ** np.arange(-60, 500, 0.25)  # |phi|, where the largest value of an integrand is looked for

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
        out = np.empty(len(h))
        if grid is None:
            beyond = ~(np.abs(h) <= self.reach)
            out[~beyond] = self.quadrature(h[~beyond], self.grid)
            out[beyond] = self.beyond(h[beyond])[0]
            return out
        V, step = self.potential(grid), grid[1] - grid[0]
        for start in range(0, len(h), 512):
            exponent = h[start : start + 512, None] * grid - V
            top = exponent.max(axis=1, keepdims=True)
            out[start : start + 512] = top[:, 0] + np.log(step * np.exp(exponent - top).sum(axis=1))
        return out

    def beyond(self, h: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``log Z_1`` and mean of a site in fields (n,) beyond the table, where there is one well; NaN on overflow."""
        value, mean = np.empty(len(h)), np.empty(len(h))
        for part in _parts(len(h), LADDER.size):
            grid = self._around(h[part])
            with np.errstate(invalid="ignore"):  # of points that are none
                exponent = h[part, None] * grid - self.potential(grid)
                top = exponent.max(axis=1)
                weight = np.exp(exponent - top[:, None])
                total = weight.sum(axis=1)
                value[part] = top + np.log(total * (grid[:, 1] - grid[:, 0]))
                mean[part] = (weight * grid).sum(axis=1) / total
        return value, mean

    def _around(self, h: FloatArray) -> FloatArray:
        """Points (n, 401) around the largest value of each integrand, as far as it matters; NaN for what overflows."""
        finite = np.isfinite(h)
        h = np.where(finite, h, 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            sign = np.copysign(1.0, h)
            exponent = np.abs(h)[:, None] * LADDER
            for side in (1.0, -1.0):
                exponent[sign == side] -= self.potential(side * LADDER)
            best = np.argmax(np.where(np.isfinite(exponent), exponent, -np.inf), axis=1)
            low = sign * LADDER[np.maximum(0, best - 1)]
            high = sign * LADDER[np.minimum(LADDER.size - 1, best + 1)]
            enough = 1e-3 / np.sqrt(np.maximum(self._bend(sign * LADDER[best]), 1e-300))
            for _ in range(120):  # the place of the maximum, to a small part of the width or to rounding
                wide = ~(np.abs(high - low) < enough)
                if not wide.any():
                    break
                left, right = low + (high - low) / 3, high - (high - low) / 3
                rises = h * left - self.potential(left) < h * right - self.potential(right)
                low, high = np.where(wide & rises, left, low), np.where(wide & ~rises, right, high)
            place = 0.5 * (low + high)
            curvature = self._bend(place)
            usable = finite & np.isfinite(place) & np.isfinite(curvature) & (curvature > 0)
            # an integrand to rounding of h place is narrower than its own place can be told, far out: keep a few digits
            width = np.maximum(1 / np.sqrt(np.where(usable, curvature, 1.0)), 1e-12 * np.abs(place))
            grid = np.ascontiguousarray(np.linspace(place - 12 * width, place + 12 * width, 401, axis=1))
        grid[~usable] = math.nan
        return grid

    def envelopes(self) -> Envelope:
        """The `Envelope` of all intervals of h."""
        edges = np.linspace(-self.reach, self.reach, ROWS + 1)
        return envelope(self.potential, edges[:-1], edges[1:], self.grid)

    def envelope_at(self, h: FloatArray) -> Envelope:
        """The `Envelope` with a row for each of the fields h (n,), beyond the table if need be."""
        rows = []
        for part in _parts(len(h), LADDER.size):
            grid = self._around(h[part])
            if (lost := np.isnan(grid[:, 0])).any():
                raise UserError(f"the field of a site is {h[part][lost][0]:g}; its neighbours have blown up")
            rows.append(envelope(self.potential, h[part], h[part], grid))
        return Envelope(*map(np.concatenate, zip(*rows, strict=True)))


def _parts(n: int, size: int) -> Iterator[slice]:
    """Slices of n rows of `size` numbers, of about two megabytes each."""
    step = max(1, 2**18 // size)
    return (slice(start, start + step) for start in range(0, n, step))


def envelope(potential: Function, low: FloatArray, high: FloatArray, grid: FloatArray) -> Envelope:
    r"""Step functions above :math:`e^{h\phi - V}` for every h between `low` and `high`.

    A cell's bound is the largest value at `SUBCELLS` + 1 points of it, raised by what a second difference says may lie
    between them; a draw that finds the density above it is refused.

    Parameters
    ----------
    potential : callable
    low, high : ndarray, shape (n_rows,), float64
    grid : ndarray, shape (n_points,) or (n_rows, n_points)
        Points that cover all that matters.
    """
    from .._kernels.single_site import alias_tables

    n, last = len(low), grid.shape[-1] - 1
    V, first, width = potential(grid), np.empty(n), np.empty(n)
    for part in _parts(n, last + 1):
        at, below = (np.broadcast_to(array, (n, last + 1))[part] for array in (grid, V))
        exponent = np.maximum(low[part, None] * at, high[part, None] * at) - below
        inside = exponent > exponent.max(axis=1, keepdims=True) - FALL
        begin = np.maximum(0, inside.argmax(axis=1) - 1)
        end = np.minimum(last, last - inside[:, ::-1].argmax(axis=1) + 1)
        rows = np.arange(len(at))
        first[part] = at[rows, begin]
        width[part] = (at[rows, end] - first[part]) / CELLS
    points = first[:, None] + width[:, None] * (np.arange(-1, CELLS * SUBCELLS + 2) / SUBCELLS)
    exponent = np.maximum(low[:, None] * points, high[:, None] * points) - potential(points)
    second = np.abs(exponent[:, 2:] - 2 * exponent[:, 1:-1] + exponent[:, :-2])
    exponent = exponent[:, 1:-1] + 0.25 * second + 1e-9  # twice what a parabola can hide between two points
    index = SUBCELLS * np.arange(CELLS)[:, None] + np.arange(SUBCELLS + 1)
    bound = exponent[:, index].max(axis=2)
    weight = np.exp(bound - bound.max(axis=1, keepdims=True))
    probability = weight / weight.sum(axis=1, keepdims=True)
    cut, alias = np.ones(probability.shape), np.empty(probability.shape, np.uint64)
    alias_tables(probability, cut, alias)
    return Envelope(np.stack([first, width], 1), cut, alias, bound)
