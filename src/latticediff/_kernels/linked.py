"""Sweeps of HMC for couplings at any distance; `layout` has those for nearest neighbours alone.

A group is `LANES` chains, lane innermost, in rows of ``n = L * LANES`` elements along the last axis, with a halo at
either end as wide as the links reach along that axis. The two directions of a link are then two rows, whose starts
`table` names for every row; the starts of all links are held in registers, so that one plain loop takes every link.

Templates, bound by `compile.specialise`, with the names and arguments of `layout`; `N_STARTS` is twice the number of
links, and in the place of the hopping coefficient stands a tuple of one coefficient for each of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from numpy.typing import NDArray

from ..lattice import volume
from ..types import Extents, FloatArray
from .layout import lane_sums
from .potentials import phi4_derivative as derivative
from .potentials import phi4_value as value

__all__ = ["close", "finish", "geometry", "load", "spread", "store", "sweep"]

LANES = np.uint64(1)
N_STARTS = 2
ONE, TWO = np.uint64(1), np.uint64(2)

fixed_tuple: Any = to_fixed_tuple  # an intrinsic, whose context Numba supplies
Couplings = tuple[float, ...]
Links = Sequence[tuple[tuple[int, ...], float]]


def geometry(shape: Extents, lanes: int, links: Links) -> tuple[NDArray[np.uint64], int, Couplings]:
    """What the loops take of a lattice and its links.

    Returns
    -------
    table : ndarray, shape (n_rows, 2 n_links), uint64
        Where the rows at x + r and at x - r start, for every row and link.
    size : int
        Elements of a padded field.
    couplings : tuple of float
    """
    n_rows, extent = volume(shape[:-1]), shape[-1]
    # the way around that is shorter: no halo is wider than half of a row
    steps = [(offset[-1] + extent // 2) % extent - extent // 2 for offset, _ in links]
    halo = max(abs(step) for step in steps)
    pitch, rows = (extent + 2 * halo) * lanes, np.arange(n_rows).reshape(shape[:-1])
    starts = []
    for (offset, _), step in zip(links, steps, strict=True):
        for sign in (1, -1):
            moved = [-sign * n for n in offset[:-1]]
            there = np.roll(rows, moved, tuple(range(rows.ndim))) if moved else rows
            starts.append(there.ravel() * pitch + (halo + sign * step) * lanes)
    return np.ascontiguousarray(np.array(starts).T, np.uint64), n_rows * pitch, tuple(c for _, c in links)


def close(field: FloatArray, n_rows: np.uint64, n: np.uint64) -> None:
    """Fill the halo from the opposite side."""
    pitch = np.uint64(field.size) // n_rows
    halo = (pitch - n) // TWO
    for r in range(n_rows):
        x = r * pitch
        for i in range(halo):
            field[x + i] = field[x + n + i]
            field[x + halo + n + i] = field[x + halo + i]


def load(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """Fields of the chains ``chain .. chain + used - 1`` into a buffer; idle lanes get zeros."""
    pitch = np.uint64(field.size) // n_rows
    halo, extent = (pitch - n) // TWO, n // LANES
    for r in range(n_rows):
        for x in range(extent):
            for k in range(LANES):
                at = r * pitch + halo + x * LANES + k
                field[at] = phi[chain + k, r * extent + x] if k < used else 0.0
    close(field, n_rows, n)


def store(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """The inverse of `load`."""
    pitch = np.uint64(field.size) // n_rows
    halo, extent = (pitch - n) // TWO, n // LANES
    for r in range(n_rows):
        for k in range(used):
            at = r * pitch + halo + k
            for x in range(extent):
                phi[chain + k, r * extent + x] = field[at + x * LANES]


def spread(
    normals: FloatArray, momentum: FloatArray, n_rows: np.uint64, n: np.uint64, row: FloatArray, kinetic: FloatArray
) -> None:
    """Bulk normals into padded rows, and their kinetic energy ``1/2 sum p^2`` per lane; nothing reads the halo."""
    pitch = np.uint64(momentum.size) // n_rows
    halo = (pitch - n) // TWO
    row[:] = 0.0
    for r in range(n_rows):
        x, y = r * pitch + halo, r * n
        for i in range(n):
            z = normals[y + i]
            momentum[x + i] = z
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
    couplings: Couplings,
    kick: float,
    drift: float,
) -> None:
    """``p += kick * force(phi)``, then ``new = phi + drift * p``, for a whole group."""
    pitch = np.uint64(field.size) // n_rows
    halo = (pitch - n) // TWO
    for r in range(n_rows):
        x = r * pitch + halo
        starts = fixed_tuple(table[r], N_STARTS)
        for i in range(n):
            s, near = field[x + i], 0.0
            for j in range(len(couplings)):
                near += couplings[j] * (field[starts[2 * j] + i] + field[starts[2 * j + 1] + i])
            p = momentum[x + i] + kick * (near - derivative(s, params))
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
    couplings: Couplings,
    kick: float,
    row: FloatArray,
    other: FloatArray,
    kinetic: FloatArray,
    action: FloatArray,
) -> None:
    """Last kick of a trajectory with both energies of its end, per lane; summed down the columns first."""
    pitch = np.uint64(field.size) // n_rows
    halo = (pitch - n) // TWO
    row[:] = 0.0
    other[:] = 0.0
    for r in range(n_rows):
        x = r * pitch + halo
        starts = fixed_tuple(table[r], N_STARTS)
        for i in range(n):
            s, near = field[x + i], 0.0
            for j in range(len(couplings)):
                near += couplings[j] * (field[starts[2 * j] + i] + field[starts[2 * j + 1] + i])
            p = momentum[x + i] + kick * (near - derivative(s, params))
            momentum[x + i] = p
            row[i] += p * p
            other[i] += value(s, params) - 0.5 * s * near
    lane_sums(row, kinetic, 0.5)
    lane_sums(other, action, 1.0)
