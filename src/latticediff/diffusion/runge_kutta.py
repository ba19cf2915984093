"""Explicit Runge-Kutta schemes on fixed grids.

A fixed grid makes the map from noise to field one definite function of the weights, which an
adaptive step would not be; its error is checked by step doubling, not steered.
"""

import itertools
from typing import NamedTuple

from ..errors import UserError

__all__ = ["SCHEMES", "Scheme", "integrate", "scheme"]


class Scheme(NamedTuple):
    """A Butcher tableau: ``nodes`` c, lower-triangular ``matrix`` a, ``weights`` b."""

    name: str
    order: int
    nodes: tuple
    matrix: tuple
    weights: tuple


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


def scheme(name):
    """The scheme called `name`."""
    if name not in SCHEMES:
        raise UserError(f"Runge-Kutta scheme is {name!r}; expected one of {', '.join(SCHEMES)}")
    return SCHEMES[name]


def integrate(rhs, y, grid, method):
    """Integrate ``dy/dt = f(y, t)`` and ``dI/dt = g(y, t)`` along a grid.

    Parameters
    ----------
    rhs : callable
        ``rhs(y, t) -> (f, g)``, `t` a float.
    y : array or tensor
    grid : sequence of float
        Times, ascending or descending.
    method : Scheme

    Returns
    -------
    y : like `y`
    integral : like ``g``
    """
    integral = 0.0
    for t, t_next in itertools.pairwise(grid):
        step = float(t_next - t)
        slopes = []
        for node, row, weight in zip(method.nodes, method.matrix, method.weights, strict=True):
            stage = y
            for a, slope in zip(row, slopes, strict=True):
                if a:
                    stage = stage + (step * a) * slope
            slope, g = rhs(stage, float(t) + node * step)
            slopes.append(slope)
            if weight:
                integral = integral + (step * weight) * g
        for weight, slope in zip(method.weights, slopes, strict=True):
            if weight:
                y = y + (step * weight) * slope
    return y, integral
