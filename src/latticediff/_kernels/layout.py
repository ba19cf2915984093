"""Padded layout of a group of chains, and the loops over it.

A group is `LANES` chains, lane innermost: element ``x * LANES + l`` of a row is site x of chain l,
so that small lattices vectorise over chains and large ones (one lane) along the row. A row of
``n = L * LANES`` elements has a halo of `LANES` elements at either end; in two dimensions a halo
row above and below as well, which lets one plain loop run over the whole lattice. Loops then need
no index tests, and unsigned indices keep Numba from testing for negative ones.

The functions are templates: `NDIM`, `LANES`, `value` and `derivative` are bound by
`compile.specialise`.
"""

import numpy as np
from numpy.typing import NDArray

from ..lattice import neighbours, volume
from ..types import Extents, FloatArray
from .potentials import phi4_derivative as derivative
from .potentials import phi4_value as value

__all__ = ["buffer_size", "close", "copy_lane", "finish", "lanes_for", "load", "row_table", "spread", "store", "sweep"]

NDIM = 2
LANES = np.uint64(1)
ONE, TWO, THREE, FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)


def lanes_for(shape: Extents) -> int:
    """Chains per group: a function of the lattice alone, so that a chain's bits depend on no other chain."""
    shortest = 12 if len(shape) == 2 else 32
    return 4 if shape[-1] < shortest else 1


def buffer_size(shape: Extents, lanes: int) -> int:
    """Elements of one padded field."""
    rows = volume(shape[:-1]) + (2 if len(shape) == 2 else 0)
    return rows * (shape[-1] + 2) * lanes


def row_table(shape: Extents, lanes: int) -> NDArray[np.uint64]:
    """Where the neighbouring rows of every row start, shape (n_rows, 2 (ndim - 1)), uint64; unused in 2D."""
    if len(shape) == 1:
        return np.zeros((1, 0), np.uint64)
    starts = neighbours(shape[:-1]).T * (shape[-1] + 2) * lanes + lanes
    return np.ascontiguousarray(starts, np.uint64)


def close(field: FloatArray, n_rows: np.uint64, n: np.uint64) -> None:
    """Fill the halo from the opposite side."""
    pitch = n + TWO * LANES
    first = ONE if NDIM == 2 else np.uint64(0)
    for r in range(first, first + n_rows):
        x = r * pitch
        y = x + n
        if LANES == FOUR:  # all loads before the stores: four scalars become one vector
            a0, a1, a2, a3 = field[y], field[y + ONE], field[y + TWO], field[y + THREE]
            b0, b1, b2, b3 = field[x + FOUR], field[x + FOUR + ONE], field[x + FOUR + TWO], field[x + FOUR + THREE]
            field[x], field[x + ONE], field[x + TWO], field[x + THREE] = a0, a1, a2, a3
            y += FOUR
            field[y], field[y + ONE], field[y + TWO], field[y + THREE] = b0, b1, b2, b3
        else:
            field[x] = field[y]
            field[y + ONE] = field[x + ONE]
    if NDIM == 2:
        for i in range(pitch):
            field[i] = field[n_rows * pitch + i]
            field[(n_rows + ONE) * pitch + i] = field[pitch + i]


def load(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """Fields of the chains ``chain .. chain + used - 1`` into a buffer; idle lanes get zeros."""
    pitch = n + TWO * LANES
    first = ONE if NDIM == 2 else np.uint64(0)
    extent = n // LANES
    for r in range(n_rows):
        for x in range(extent):
            for k in range(LANES):
                at = (r + first) * pitch + (x + ONE) * LANES + k
                field[at] = phi[chain + k, r * extent + x] if k < used else 0.0
    close(field, n_rows, n)


def store(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """The inverse of `load`."""
    pitch = n + TWO * LANES
    first = ONE if NDIM == 2 else np.uint64(0)
    extent = n // LANES
    for r in range(n_rows):
        for k in range(used):
            at = (r + first) * pitch + LANES + k
            for x in range(extent):
                phi[chain + k, r * extent + x] = field[at + x * LANES]


def copy_lane(source: FloatArray, target: FloatArray, lane: int | np.uint64) -> None:
    """Copy one chain, halo included."""
    for i in range(lane, np.uint64(source.size), LANES):
        target[i] = source[i]


def lane_sums(row: FloatArray, out: FloatArray, factor: float) -> None:
    """``out[l] = factor * sum_x row[x, l]``."""
    for k in range(LANES):
        total = 0.0
        for i in range(k, np.uint64(row.size), LANES):
            total += row[i]
        out[k] = factor * total


def spread(
    normals: FloatArray, momentum: FloatArray, n_rows: np.uint64, n: np.uint64, row: FloatArray, kinetic: FloatArray
) -> None:
    """Bulk normals into padded rows, and their kinetic energy ``1/2 sum p^2`` per lane.

    The halo is zeroed: `sweep` runs over it, and must not meet what an old buffer left there.
    """
    pitch = n + TWO * LANES
    first = ONE if NDIM == 2 else np.uint64(0)
    row[:] = 0.0
    for r in range(n_rows):
        x = (r + first) * pitch
        y = r * n
        for k in range(LANES):
            momentum[x + k] = 0.0
            momentum[x + n + LANES + k] = 0.0
        for i in range(n):
            z = normals[y + i]
            momentum[x + LANES + i] = z
            row[i] += z * z
    lane_sums(row, kinetic, 0.5)


def sweep(
    field: FloatArray,
    new: FloatArray,
    momentum: FloatArray,
    table: NDArray[np.uint64],
    n_rows: np.uint64,
    n: np.uint64,
    params: tuple[float, ...],
    hopping: float,
    kick: float,
    drift: float,
) -> None:
    """``p += kick * force(phi)``, then ``new = phi + drift * p``, for a whole group.

    Out of place, so that every site sees the old field; the two buffers change roles afterwards.
    """
    pitch = n + TWO * LANES
    whole = NDIM == 2 and LANES == ONE  # with four lanes the halo is too large a part to run over it
    spans = ONE if whole else n_rows
    length = n_rows * pitch - TWO * LANES if whole else n
    for r in range(spans):
        x = r * pitch + LANES
        if NDIM == 2:
            x += pitch
            a = x + pitch
            b = x - pitch
        elif NDIM > 2:
            a = table[r, 0]
            b = table[r, 1]
            c = table[r, 2]
            d = table[r, 3]
            if NDIM == 4:
                e = table[r, 4]
                f = table[r, 5]
        for i in range(length):
            s = field[x + i]
            near = field[x + i - LANES] + field[x + i + LANES]
            if NDIM > 1:
                near += field[a + i] + field[b + i]
            if NDIM > 2:
                near += field[c + i] + field[d + i]
            if NDIM == 4:
                near += field[e + i] + field[f + i]
            p = momentum[x + i] + kick * (hopping * near - derivative(s, params))
            momentum[x + i] = p
            new[x + i] = s + drift * p
    close(new, n_rows, n)


def finish(
    field: FloatArray,
    momentum: FloatArray,
    table: NDArray[np.uint64],
    n_rows: np.uint64,
    n: np.uint64,
    params: tuple[float, ...],
    hopping: float,
    kick: float,
    row: FloatArray,
    other: FloatArray,
    kinetic: FloatArray,
    action: FloatArray,
) -> None:
    """Last kick of a trajectory with both energies of its end, per lane.

    Sums run down the columns first and then over the row: vectorised, and rounding grows with
    L rather than with V.
    """
    pitch = n + TWO * LANES
    row[:] = 0.0
    other[:] = 0.0
    for r in range(n_rows):
        x = r * pitch + LANES
        if NDIM == 2:
            x += pitch
            a = x + pitch
            b = x - pitch
        elif NDIM > 2:
            a = table[r, 0]
            b = table[r, 1]
            c = table[r, 2]
            d = table[r, 3]
            if NDIM == 4:
                e = table[r, 4]
                f = table[r, 5]
        for i in range(n):
            s = field[x + i]
            near = field[x + i - LANES] + field[x + i + LANES]
            if NDIM > 1:
                near += field[a + i] + field[b + i]
            if NDIM > 2:
                near += field[c + i] + field[d + i]
            if NDIM == 4:
                near += field[e + i] + field[f + i]
            near *= hopping
            p = momentum[x + i] + kick * (near - derivative(s, params))
            momentum[x + i] = p
            row[i] += p * p
            other[i] += value(s, params) - 0.5 * s * near
    lane_sums(row, kinetic, 0.5)
    lane_sums(other, action, 1.0)
