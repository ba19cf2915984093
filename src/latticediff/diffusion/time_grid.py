r"""Where the probability flow is evaluated: fixed grids of log sigma, uniform or optimised for one model.

The error of log_weight is a signed sum of what the steps contribute, so a grid can do more than make
contributions equal: it can make them cancel, for nearly all fields at once. An optimised grid minimises

.. math:: \sum_i \rho\big(\epsilon_i(t_1, \dots, t_{n-1})\big), \qquad
          \epsilon_i = \log w_i(\mathrm{grid}) - \log w_i(\mathrm{fine\ grid}),

over its inner nodes, on fields that the model draws itself. The way down (a draw, at fixed noise) and the way up
(a given field is weighed) are two integrations with two errors and get a grid each. A calibrated grid remains an
approximation of one flow whose error is measured as that of any other; that it is no artefact of the fit shows on fresh
fields, and against the determinant of the discrete map (`tests/test_time_grid.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.polynomial import legendre
from scipy.optimize import least_squares

from ..errors import UserError
from ..types import FloatArray
from .ladder import NoiseRange

__all__ = ["GRIDS", "TimeGrid", "evaluations", "fit_grid"]

GRIDS = ("uniform", "optimised")
DECIMALS = 5  #: of log sigma in an optimised grid, so that it can be written down
DEGREES = 4, 8  #: of the smooth grids that the search begins with, before it moves every step
ROUNDS = 8, 12, 25  #: evaluations after the first differences, on the smooth grids and on all steps
TYPICAL = 0.6  #: of these, before the gain is too small
GAIN = 1e-2  #: relative gain of an iteration below which a search ends
SHIFT = 1e-3  #: of the differences, in log step size
RIDGE = 0.01  #: price of uneven steps, in units of the typical error
STEEP = 6.0  #: of neighbouring steps: beyond, a multistep scheme's coefficients are large, and rounding grows with them
STIFF = 0.3  #: price of steps beyond that, for each field
OUTLIER = 3.0  #: errors beyond so many medians count by their size, not by its square


@dataclass(frozen=True)
class TimeGrid:
    """log sigma along the flow, from sigma_max to sigma_min in both cases.

    Parameters
    ----------
    down : ndarray, shape (n_steps + 1,)
        Of draws, from noise to field.
    up : ndarray, shape (n_steps + 1,)
        Of given fields; integrated from its end to its beginning.

    Raises
    ------
    UserError
        Values that do not descend, or grids that do not have the same ends and length.
    """

    down: FloatArray
    up: FloatArray

    def __post_init__(self) -> None:
        for name, values in (("down", self.down), ("up", self.up)):
            if np.ndim(values) != 1 or len(values) < 2 or not (np.diff(values) < 0).all():
                raise UserError(f"the time grid's {name} is {np.round(values, 4)}; expected descending log sigma")
        if len(self.down) != len(self.up) or self.down[0] != self.up[0] or self.down[-1] != self.up[-1]:
            raise UserError(
                f"the time grids lead from {self.down[0]:.6g} to {self.down[-1]:.6g} in {len(self.down) - 1} steps and"
                f" from {self.up[0]:.6g} to {self.up[-1]:.6g} in {len(self.up) - 1}; expected the same ends and steps"
            )

    @classmethod
    def uniform(cls, noise: NoiseRange, n_steps: int) -> Self:
        """Equal steps of log sigma over a `NoiseRange`, both ways."""
        grid = noise.grid(n_steps)
        return cls(grid, grid)

    @property
    def n_steps(self) -> int:
        """Steps of a passage."""
        return len(self.down) - 1

    def bisected(self) -> "TimeGrid":
        """The grid with every step cut into halves."""
        return TimeGrid(_bisected(self.down), _bisected(self.up))

    def inner(self) -> dict[str, list[float]]:
        """The nodes between the ends, JSON-able; the ends themselves belong to the model."""
        return {"down": self.down[1:-1].tolist(), "up": self.up[1:-1].tolist()}

    @classmethod
    def from_inner(cls, noise: NoiseRange, inner: Mapping[str, Sequence[float]]) -> Self:
        """The grid with these inner nodes between the ends of a `NoiseRange`; the inverse of `inner`."""
        low, high = noise.log_range
        return cls(*(np.array([high, *inner[way], low]) for way in ("down", "up")))


def _bisected(grid: FloatArray) -> FloatArray:
    fine = np.empty(2 * len(grid) - 1)
    fine[::2], fine[1::2] = grid, 0.5 * (grid[1:] + grid[:-1])
    return fine


def fit_grid(start: FloatArray, errors: Callable[[FloatArray], FloatArray]) -> FloatArray:
    """The grid with the ends and the number of steps of `start` that makes `errors` small.

    Least squares in the logarithms of the step sizes, first along smooth functions of the step's number, then in all of
    them: the order of steps cannot break, whatever a search tries. Slopes are differences at the start of each search
    and secants from there on, so an iteration costs one evaluation.

    Parameters
    ----------
    start : ndarray, shape (n_steps + 1,)
        Uniform.
    errors : callable
        ``errors(grid) -> (n,)``, signed; values that are not finite count as very large. More than there are steps.

    Returns
    -------
    ndarray, shape (n_steps + 1,)
        Rounded to `DECIMALS` between the ends; `start` itself where nothing better was found.
    """
    n_steps = len(start) - 1
    if n_steps == 1:
        return start
    scale = OUTLIER * _size(errors(start))
    if not 0 < scale < np.inf:
        return start
    x = (2 * np.arange(n_steps) + 1) / n_steps - 1
    smooth: list[Any] = [legendre.legvander(x, min(degree, n_steps - 1))[:, 1:] for degree in DEGREES]
    found, best, size = np.zeros(n_steps), start, scale / OUTLIER
    for basis, rounds in zip((*smooth, np.eye(n_steps)), ROUNDS, strict=True):
        scale = OUTLIER * size

        def misses(
            p: FloatArray, basis: FloatArray = basis, centre: FloatArray = found, scale: float = scale
        ) -> FloatArray:
            logs = centre + basis @ p
            values = np.nan_to_num(errors(_grid(start, logs)), nan=np.inf)
            steep = np.maximum(np.abs(np.diff(logs)) - np.log(STEEP), 0.0)
            stiff = STIFF * len(values) * steep  # of a sum over fields the same share, however many they are
            return np.concatenate([values.clip(-1e3 * scale, 1e3 * scale) / scale, RIDGE * logs, stiff])

        search = _Secant(misses)
        fit = least_squares(
            search.values, np.zeros(basis.shape[1]), search.slopes, loss="soft_l1", max_nfev=rounds, ftol=GAIN
        )
        candidate = found + basis @ fit.x
        rounded = _grid(start, candidate, DECIMALS)
        now = _size(errors(rounded))
        if _is_steady(rounded) and now < size:
            found, best, size = candidate, rounded, now
    return best


def evaluations(n_steps: int) -> int:
    """How often `fit_grid` evaluates the errors of a grid of so many steps, more or less."""
    differences = sum(min(degree, n_steps - 1) for degree in DEGREES) + n_steps
    return differences + round(TYPICAL * sum(ROUNDS)) + 2 * len(ROUNDS)


class _Secant:
    """Residuals and their slopes: differences at the first point, then Broyden's update from point to point.

    A difference in every parameter costs as many evaluations as a grid has steps; the secant update [Broyden 1965,
    eq. (4.5)] costs none, and what it misses a further iteration makes good. The solver is given copies: until 1.15
    SciPy writes the weights of a robust loss into them.
    """

    def __init__(self, residuals: Callable[[FloatArray], FloatArray]) -> None:
        self._residuals = residuals
        self._last: tuple[FloatArray, FloatArray] | None = None  #: evaluated: the solver asks for slopes there
        self._from: tuple[FloatArray, FloatArray, FloatArray] | None = None  #: point, residuals and slopes there

    def values(self, p: FloatArray) -> FloatArray:
        """Residuals at `p`."""
        if self._last is None or not np.array_equal(self._last[0], p):
            self._last = p.copy(), self._residuals(p)
        return self._last[1].copy()

    def slopes(self, p: FloatArray) -> FloatArray:
        """Their Jacobian at `p`, approximately."""
        here = self.values(p)
        if self._from is None:
            J = np.stack([(self._residuals(p + SHIFT * e) - here) / SHIFT for e in np.eye(len(p))], axis=1)
        else:
            before, there, J = self._from
            step = p - before
            if step @ step > 0:
                J = J + np.outer(here - there - J @ step, step) / (step @ step)
        self._from = p.copy(), here, J
        return J.copy()


def _grid(start: FloatArray, logs: FloatArray, decimals: int | None = None) -> FloatArray:
    """Step sizes proportional to exp(logs) between the ends of `start`."""
    sizes = np.exp(logs - logs.max())
    position = np.cumsum(sizes)[:-1] / sizes.sum()
    inner = start[0] + (start[-1] - start[0]) * position
    return np.concatenate([start[:1], inner if decimals is None else inner.round(decimals), start[-1:]])


def _is_steady(grid: FloatArray) -> bool:
    """Whether a descending grid has no step more than `STEEP` times as long as its neighbour, to five per cent."""
    steps = -np.diff(grid)
    if not (steps > 0).all():
        return False
    return bool(np.abs(np.diff(np.log(steps))).max(initial=0.0) <= math.log(1.05 * STEEP))


def _size(values: FloatArray) -> float:
    """Median size; inf if most are not finite."""
    return float(np.median(np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf)))
