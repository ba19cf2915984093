"""Sweeps of HMC for couplings at any distance; `layout` has those for nearest neighbours alone.

A group is `LANES` chains, lane innermost, in rows of ``n = L * LANES`` elements along the last axis, without a halo. A
link reaches the row that `table` names, shifted by so many elements around: the part of a row before the wrap and the
part after it are plain loops, added up in the row that will hold the new field. So the price is a pass over a row that
is in the cache for each of the two directions of a link, whatever their number.

Templates, bound by `compile.specialise`, with the names and arguments of `layout`; in the place of the hopping
coefficient stands ``(shifts, coefficients)``, one of each for every direction.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..lattice import volume
from ..types import Extents, FloatArray
from .layout import lane_sums
from .potentials import phi4_derivative as derivative
from .potentials import phi4_value as value

__all__ = ["finish", "gather", "geometry", "load", "spread", "store", "sweep"]

LANES = np.uint64(1)
ONE = np.uint64(1)

Couplings = tuple[NDArray[np.uint64], FloatArray]
Links = Sequence[tuple[tuple[int, ...], float]]


def geometry(shape: Extents, lanes: int, links: Links) -> tuple[NDArray[np.uint64], Couplings]:
    """Starts of the rows coupled to each row, (n_rows, 2 n_links), and shifts and coefficients, (2 n_links,) each."""
    rows = np.arange(volume(shape[:-1])).reshape(shape[:-1])
    n, starts, shifts, coefficients = shape[-1] * lanes, [], [], []
    for offset, coefficient in links:
        for sign in (1, -1):
            steps = tuple(sign * step for step in offset)
            there = np.roll(rows, tuple(-step for step in steps[:-1]), tuple(range(rows.ndim))) if rows.ndim else rows
            starts.append(there.ravel() * n)
            shifts.append(steps[-1] % shape[-1] * lanes)
            coefficients.append(coefficient)
    table = np.ascontiguousarray(np.array(starts).T, np.uint64)
    return table, (np.array(shifts, np.uint64), np.array(coefficients))


def load(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """Fields of the chains ``chain .. chain + used - 1`` into a buffer; idle lanes get zeros."""
    for x in range(n_rows * n // LANES):
        for k in range(LANES):
            field[x * LANES + k] = phi[chain + k, x] if k < used else 0.0


def store(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """The inverse of `load`."""
    for k in range(used):
        for x in range(n_rows * n // LANES):
            phi[chain + k, x] = field[x * LANES + k]


def spread(
    normals: FloatArray, momentum: FloatArray, n_rows: np.uint64, n: np.uint64, row: FloatArray, kinetic: FloatArray
) -> None:
    """Bulk normals as momenta, and their kinetic energy ``1/2 sum p^2`` per lane."""
    row[:] = 0.0
    for r in range(n_rows):
        x = r * n
        for i in range(n):
            z = normals[x + i]
            momentum[x + i] = z
            row[i] += z * z
    lane_sums(row, kinetic, 0.5)


def gather(
    field: FloatArray,
    near: FloatArray,
    at: np.uint64,
    row: int,
    table: NDArray[np.uint64],
    n: np.uint64,
    couplings: Couplings,
) -> None:
    """``sum_r c_r [phi(x + r) + phi(x - r)]`` of one row into ``near[at : at + n]``."""
    shifts, coefficients = couplings
    for i in range(n):
        near[at + i] = 0.0
    for j in range(np.uint64(shifts.size)):
        c, shift, y = coefficients[j], shifts[j], table[row, j]
        before = n - shift
        for i in range(before):
            near[at + i] += c * field[y + shift + i]
        for i in range(shift):
            near[at + before + i] += c * field[y + i]


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
    for r in range(n_rows):
        x = r * n
        gather(field, new, x, r, table, n, couplings)
        for i in range(n):
            s = field[x + i]
            p = momentum[x + i] + kick * (new[x + i] - derivative(s, params))
            momentum[x + i] = p
            new[x + i] = s + drift * p


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
    near = np.empty(n)
    row[:] = 0.0
    other[:] = 0.0
    for r in range(n_rows):
        x = r * n
        gather(field, near, np.uint64(0), r, table, n, couplings)
        for i in range(n):
            s = field[x + i]
            p = momentum[x + i] + kick * (near[i] - derivative(s, params))
            momentum[x + i] = p
            row[i] += p * p
            other[i] += value(s, params) - 0.5 * s * near[i]
    lane_sums(row, kinetic, 0.5)
    lane_sums(other, action, 1.0)
