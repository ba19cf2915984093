r"""Couplings between sites: pairs of an offset and a coefficient.

.. math:: S = \sum_x \Big[ -\sum_r c_r\, \phi_x \phi_{x+r} + V(\phi_x) \Big], \qquad
          K(k) = V''(0) - 2 \sum_r c_r \cos(k \cdot r),

each pair of offsets r and -r named once. The first `ndim` of an action's links are those of the nearest neighbours
along the axes, whose common coefficient is its `hopping`; what lies further follows, sorted.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..lattice import momenta
from ..types import Extents, FloatArray

__all__ = [
    "Link",
    "are_mirrored",
    "coupling_form",
    "coupling_scale",
    "further_links",
    "links_of",
    "lowest",
    "nearest",
    "only_nearest",
]

#: ``(offset, coefficient)``
Link = tuple[tuple[int, ...], float]

REACH = 64  #: largest component of an offset


def nearest(coefficients: Sequence[float]) -> tuple[Link, ...]:
    """The links of nearest neighbours, one for each axis, with its coefficient."""
    ndim = len(coefficients)
    return tuple((tuple(int(i == axis) for i in range(ndim)), float(c)) for axis, c in enumerate(coefficients))


def further_links(links: Iterable[Any], ndim: int) -> tuple[Link, ...]:
    """Links beyond nearest neighbours, checked and in one order, whatever sign and order they were given in.

    Parameters
    ----------
    links : iterable of (offset, coefficient)
        Offsets of `ndim` integers.
    ndim : int

    Returns
    -------
    tuple of Link
        The first component of an offset that is not 0 is positive; sorted; without those of coefficient 0.

    Raises
    ------
    UserError
        Not such pairs, an offset of zeros, of a nearest neighbour or given twice, or a coefficient that is not finite.
    """
    found: dict[tuple[int, ...], float] = {}
    for link in links:
        try:
            offset, coefficient = link
            given: tuple[Any, ...] = tuple(offset)
            number = float(coefficient)
        except (TypeError, ValueError):
            raise UserError(f"link {link!r}; expected an offset and a coefficient, such as ((1, 1), 0.25)") from None
        if len(given) != ndim or not all(
            isinstance(n, int | np.integer) and not isinstance(n, bool) and abs(int(n)) <= REACH for n in given
        ):
            raise UserError(f"link offset is {offset!r}; expected {ndim} integers from -{REACH} to {REACH}")
        if not math.isfinite(number):
            raise UserError(f"link {given} has coefficient {number}; expected a finite number")
        # of a pair the one whose first component that is not 0 is positive
        steps: tuple[int, ...] = max(given, tuple(-n for n in given))
        if sum(map(abs, steps)) <= 1:
            what = "a site itself: that is part of the potential" if not any(steps) else "a nearest neighbour: hopping"
            raise UserError(f"link offset {tuple(offset)} is that of {what}; expected offsets beyond")
        if steps in found:
            raise UserError(f"link offset {tuple(offset)} is given twice; expected every pair r, -r once")
        found[steps] = number
    return tuple((tuple(map(int, steps)), found[steps]) for steps in sorted(found) if found[steps] != 0)


def links_of(action: Any) -> tuple[Link, ...]:
    """The links of any `Action`: its own `links`, or nearest neighbours with its `hopping`."""
    own: tuple[Link, ...] | None = getattr(action, "links", None)
    return nearest((action.hopping,) * action.ndim) if own is None else own


def only_nearest(action: Any) -> bool:
    """Whether an action couples nearest neighbours alone, alike along all axes: what `hopping` says of it is all."""
    return links_of(action) == nearest((action.hopping,) * action.ndim)


def are_mirrored(links: Iterable[Link]) -> bool:
    """Whether the links are their own mirror images in every axis: K(k) is then even in each component of k."""
    known: dict[tuple[int, ...], float] = dict(links)
    return all(
        known.get(max(image, tuple(-n for n in image))) == c
        for offset, c in known.items()
        for signs in itertools.product((1, -1), repeat=len(offset))
        for image in [tuple(sign * n for sign, n in zip(signs, offset, strict=True))]
    )


def coupling_form(links: Iterable[Link], shape: Extents) -> FloatArray:
    r"""``-2 sum_r c_r cos(k . r)`` on the full momentum grid, (*lattice), float64."""
    return _form(links, momenta(shape))


def _form(links: Iterable[Link], k: Sequence[FloatArray]) -> FloatArray:
    total: Any = np.zeros(np.broadcast_shapes(*(part.shape for part in k)))
    for offset, coefficient in links:
        phase: Any = sum(n * part for n, part in zip(offset, k, strict=True) if n)
        total = total - 2 * coefficient * np.cos(phase)
    return total


def lowest(links: Sequence[Link]) -> float:
    """The least value of ``-2 sum_r c_r cos(k . r)`` over all momenta, those of no finite lattice included."""
    ndim = len(links[0][0])
    if all(sum(map(abs, offset)) == 1 for offset, _ in links):
        return -2 * math.fsum(abs(c) for _, c in links)
    points = (1440, 240, 48, 24)[ndim - 1]
    axes = [2 * np.pi * np.arange(points) / points] * ndim
    half = 2 * np.pi / points
    least = math.inf
    for _ in range(14):  # boxes around the best point so far, a quarter as wide each time
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        values = _form(links, grid)
        at = np.unravel_index(int(values.argmin()), values.shape)
        least = min(least, float(values[at]))
        centre = [axis[i] for axis, i in zip(axes, at, strict=True)]
        axes = [k + half * np.linspace(-1, 1, 9) for k in centre]
        half /= 4
    return least


def coupling_scale(action: Any) -> float:
    r"""``-min_k (-2 sum_r c_r cos k . r) / (2 d)``: for any links what the hopping coefficient is to one.

    It sets the unit of molecular-dynamics time; 0 where nothing is coupled.
    """
    if only_nearest(action):
        return abs(float(action.hopping))
    return -lowest(links_of(action)) / (2 * action.ndim)
