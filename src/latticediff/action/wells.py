r"""The wells of the action of constant fields, per site: :math:`U(m) = V(m) - m^2 \sum_r c_r`."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import UserError

__all__ = ["Well", "lowest_wells", "wells_between"]

ROUNDING = 1e-12  #: of U, relative to the size of its terms: wells that differ by less are equally deep

Function = Callable[[float], float]


class Well(NamedTuple):
    """A local minimum of the action of constant fields."""

    value: float  #: m, the field there
    action: float  #: U(m) per site
    curvature: float  #: U''(m) = K(0) about the well: the square of a mass, in units of the action


def wells_between(
    stationary: Sequence[float], value: Function, slope: Function, curvature: Function
) -> tuple[Well, ...]:
    """Those of the stationary points of U that are minima, ascending.

    Parameters
    ----------
    stationary : sequence of float
        All zeros of `slope`, in any order; they may be named twice.
    value, slope, curvature : callable
        U, U' and U'' of a number.

    Returns
    -------
    tuple of Well

    Raises
    ------
    UserError
        None of them is a minimum.
    """
    points: list[float] = []
    scale = max(map(abs, stationary), default=0.0)
    for point in sorted(stationary):
        if not points or point - points[-1] > 1e-9 * scale:
            points.append(point)
    # signs of the slope between the points decide: they hold at minima without a curvature too
    between = [0.5 * (a + b) for a, b in itertools.pairwise(points)]
    sides = [points[0] - (scale or 1.0), *between, points[-1] + (scale or 1.0)]
    found = tuple(
        Well(point, value(point), curvature(point))
        for i, point in enumerate(points)
        if slope(sides[i]) < 0 < slope(sides[i + 1])
    )
    if not found:
        raise UserError("the action of constant fields has no minimum; the integral of exp(-S) diverges")
    return found


def lowest_wells(wells: Sequence[Well], scale: Function) -> tuple[float, ...]:
    """Values of the wells that are deepest within rounding; `scale(m)` is the size of the terms of U there."""
    least = min(well.action for well in wells)
    return tuple(
        well.value for well in wells if well.action - least <= ROUNDING * max(scale(well.value), math.ulp(1.0))
    )
