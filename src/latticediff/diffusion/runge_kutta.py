"""Explicit schemes on fixed grids: Runge-Kutta, and Adams-Bashforth by `latticediff.diffusion.multistep`.

A fixed grid makes the map from noise to field one definite function of the weights, which an
adaptive step would not be; its error is checked by step doubling, not steered.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from .multistep import Adams, Passage

__all__ = ["METHODS", "SCHEMES", "Method", "Scheme", "integrate", "scheme"]


State = TypeVar("State")  # a NumPy array or a tensor


class Scheme(NamedTuple):
    """A Butcher tableau: ``nodes`` c, lower-triangular ``matrix`` a, ``weights`` b."""

    name: str
    order: int
    nodes: tuple[float, ...]
    matrix: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def evaluations(self, n_steps: int) -> int:
        """Number of slopes that are evaluated along a grid of `n_steps` steps."""
        return n_steps * len(self.nodes)

    def passage(self, grid: ArrayLike) -> Passage:
        """The `Passage` along a grid, (n_steps + 1,)."""
        nodes, stages = np.asarray(grid, np.float64), len(self.nodes)
        steps = np.diff(nodes)
        matrix = np.zeros((stages, stages))
        for s, row in enumerate(self.matrix):
            matrix[s, : len(row)] = row
        times = nodes[:-1, None] + steps[:, None] * np.array(self.nodes, float)
        return Passage(steps, times, matrix, np.array(self.weights, float))


SCHEMES = {
    s.name: s
    for s in (
        # Kutta 1901; Hairer, Norsett, Wanner, Solving ODEs I, table II.1.2
        Scheme("rk4", 4, (0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
        # Dormand, Prince 1980, the order-5 weights; Hairer, Norsett, Wanner, table II.5.2
        Scheme(
            "dopri5",
            5,
            (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1),
            (
                (),
                (1 / 5,),
                (3 / 40, 9 / 40),
                (44 / 45, -56 / 15, 32 / 9),
                (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
                (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
            ),
            (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
        ),
    )
}

Method = Scheme | Adams

METHODS: dict[str, Method] = {**SCHEMES, "adams5": Adams("adams5", 5)}


def scheme(name: str) -> Method:
    """The scheme called `name`, a key of `METHODS`.

    Raises
    ------
    UserError
        Unknown name.
    """
    if name not in METHODS:
        raise UserError(f"integration scheme is {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]


def integrate(
    rhs: Callable[[State, float], tuple[State, Any]], y: State, grid: ArrayLike, method: Method
) -> tuple[State, Any]:
    """Integrate ``dy/dt = f(y, t)`` and ``dI/dt = g(y, t)`` along a grid.

    Parameters
    ----------
    rhs : callable
        ``rhs(y, t) -> (f, g)``, `t` a float.
    y : array or tensor
    grid : sequence of float
        Times, ascending or descending.
    method : Scheme or Adams

    Returns
    -------
    y : like `y`
    integral : like ``g``
    """
    integral, (steps, times, matrix, weights) = 0.0, method.passage(grid)
    weights = weights.tolist()
    for step, nodes in zip(steps.tolist(), times.tolist(), strict=True):
        slopes: list[Any] = []
        for time, row, weight in zip(nodes, matrix.tolist(), weights, strict=True):
            stage = y
            for a, slope in zip(row, slopes, strict=False):  # the tableau is lower triangular
                if a:
                    stage = stage + (step * a) * slope
            slope, g = rhs(stage, time)
            slopes.append(slope)
            if weight:
                integral = integral + (step * weight) * g
        for weight, slope in zip(weights, slopes, strict=True):
            if weight:
                y = y + (step * weight) * slope
    return y, integral
