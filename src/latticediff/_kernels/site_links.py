"""Site-by-site updates for couplings of several strengths and distances: tables, colours, and the parts of `sites`.

`near` has a row of sites for every direction of a link, all of one sign first; `couplings` a coefficient for each row.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from ..types import Extents, FloatArray, IntArray
from .potentials import phi4_value as value

__all__ = ["MOST_COLOURS", "colours", "sweep_sites", "tables", "total_action"]

MOST_COLOURS = 12
Links = Sequence[tuple[tuple[int, ...], float]]


def tables(shape: Extents, links: Links) -> tuple[IntArray, FloatArray]:
    """Coupled sites (2 n_links, V), int64, and the coefficient of each row."""
    sites, axes = np.arange(math.prod(shape)).reshape(shape), tuple(range(len(shape)))
    rows = [np.roll(sites, [-sign * n for n in offset], axes).ravel() for sign in (1, -1) for offset, _ in links]
    return np.array(rows), np.array([c for _ in (1, -1) for _, c in links])


def colours(shape: Extents, links: Links) -> IntArray | None:
    """Sites in an order of colours (V,), no two of one colour coupled; None where a link joins a site to itself.

    The colour is ``w . x`` modulo m with the fewest colours m for which the lattice closes, ``w_mu L_mu = 0``, and
    ``w . r != 0`` for every link: the checkerboard is m = 2, w = (1, 1, ...). Where no m up to `MOST_COLOURS` will do,
    each site takes the first colour that no coupled site before it has.
    """
    if any(all(n % extent == 0 for n, extent in zip(r, shape, strict=True)) for r, _ in links):
        return None
    for m in range(2, MOST_COLOURS + 1):
        for weights in itertools.product(range(m - 1, -1, -1), repeat=len(shape)):
            closes = all(w * extent % m == 0 for w, extent in zip(weights, shape, strict=True))
            if closes and all(sum(w * n for w, n in zip(weights, r, strict=True)) % m for r, _ in links):
                colour = np.tensordot(np.array(weights), np.indices(shape), 1).ravel() % m
                return np.argsort(colour, kind="stable")
    near, found = tables(shape, links)[0].T.tolist(), [-1] * math.prod(shape)
    for x, coupled in enumerate(near):
        taken = {found[y] for y in coupled}
        found[x] = next(colour for colour in itertools.count() if colour not in taken)
    return np.argsort(np.array(found), kind="stable")


def total_action(field: FloatArray, near: IntArray, params: tuple[float, ...], couplings: FloatArray) -> float:
    """S of one configuration."""
    total = 0.0
    for x in range(field.size):
        forward = 0.0
        for j in range(near.shape[0] // 2):
            forward += couplings[j] * field[near[j, x]]
        total += value(field[x], params) - field[x] * forward
    return total


def sweep_sites(
    field: FloatArray,
    near: IntArray,
    order: IntArray,
    params: tuple[float, ...],
    couplings: FloatArray,
    width: float,
    reflection: float,
    offsets: FloatArray,
    coins: FloatArray,
) -> int:
    """One pass of single-site Metropolis, or of reflections ``phi' = reflection * (field of the links) - phi``."""
    n_accepted = 0
    for x in order:
        around = 0.0
        for j in range(near.shape[0]):
            around += couplings[j] * field[near[j, x]]
        old = field[x]
        new = old + width * (2.0 * offsets[x] - 1.0) if width > 0.0 else reflection * around - old
        change = value(new, params) - value(old, params) - (new - old) * around
        if change <= 0.0 or math.log(coins[x]) < -change:
            field[x] = new
            n_accepted += 1
    return n_accepted
