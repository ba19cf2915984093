"""Sweeps of HMC for fields of N components with a potential of their length.

A group holds N padded fields of `layout`, one behind the other; loops go along rows as there, and take all components
of a site together. For N = 1 they do the arithmetic of `layout`.

Templates, bound by `compile.specialise`, with the names and arguments of `layout`; rows are those of all components,
`value` and `derivative` are V(s) and 2 V'(s) of ``s = phi . phi``, and `N_COMPONENTS` is N.
"""

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray
from .layout import close as close_one
from .layout import lane_sums
from .layout import load as load_one
from .layout import store as store_one
from .potentials import radial_phi4_derivative as derivative
from .potentials import radial_phi4_value as value

__all__ = ["close", "finish", "load", "spread", "store", "sweep"]

NDIM = 2
LANES = np.uint64(1)
N_COMPONENTS = np.uint64(2)
ONE, TWO = np.uint64(1), np.uint64(2)


def close(field: FloatArray, n_rows: np.uint64, n: np.uint64) -> None:
    """Fill the halos from the opposite sides."""
    size = np.uint64(field.size) // N_COMPONENTS
    for c in range(N_COMPONENTS):
        close_one(field[c * size : (c + ONE) * size], n_rows // N_COMPONENTS, n)


def load(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """Fields of the chains ``chain .. chain + used - 1`` into a buffer; idle lanes get zeros."""
    size, sites = np.uint64(field.size) // N_COMPONENTS, np.uint64(phi.shape[1]) // N_COMPONENTS
    for c in range(N_COMPONENTS):
        part = phi[:, c * sites : (c + ONE) * sites]
        load_one(field[c * size : (c + ONE) * size], part, chain, used, n_rows // N_COMPONENTS, n)


def store(
    field: FloatArray, phi: FloatArray, chain: np.uint64, used: np.uint64, n_rows: np.uint64, n: np.uint64
) -> None:
    """The inverse of `load`."""
    size, sites = np.uint64(field.size) // N_COMPONENTS, np.uint64(phi.shape[1]) // N_COMPONENTS
    for c in range(N_COMPONENTS):
        part = phi[:, c * sites : (c + ONE) * sites]
        store_one(field[c * size : (c + ONE) * size], part, chain, used, n_rows // N_COMPONENTS, n)


def spread(
    normals: FloatArray, momentum: FloatArray, n_rows: np.uint64, n: np.uint64, row: FloatArray, kinetic: FloatArray
) -> None:
    """Bulk normals into padded rows, and their kinetic energy ``1/2 sum p^2`` per lane; nothing reads the halos."""
    pitch, rows = n + TWO * LANES, n_rows // N_COMPONENTS
    size = np.uint64(momentum.size) // N_COMPONENTS
    first = ONE if NDIM == 2 else np.uint64(0)
    row[:] = 0.0
    for c in range(N_COMPONENTS):
        for r in range(rows):
            x = c * size + (r + first) * pitch + LANES
            y = (c * rows + r) * n
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
    hopping: float,
    kick: float,
    drift: float,
) -> None:
    """``p += kick * force(phi)``, then ``new = phi + drift * p``, for a whole group."""
    pitch, rows = n + TWO * LANES, n_rows // N_COMPONENTS
    size = np.uint64(field.size) // N_COMPONENTS
    for r in range(rows):
        x = r * pitch + LANES
        if NDIM == 2:
            x += pitch
        a, b, c, d = x + pitch, x - pitch, x, x
        if NDIM > 2:
            a, b, c, d = table[r, 0], table[r, 1], table[r, 2], table[r, 3]
        for i in range(n):
            square = 0.0
            for k in range(N_COMPONENTS):
                s = field[k * size + x + i]
                square += s * s
            slope = derivative(square, params)
            for k in range(N_COMPONENTS):
                at = k * size
                s = field[at + x + i]
                near = field[at + x + i - LANES] + field[at + x + i + LANES]
                if NDIM > 1:
                    near += field[at + a + i] + field[at + b + i]
                if NDIM > 2:
                    near += field[at + c + i] + field[at + d + i]
                p = momentum[at + x + i] + kick * (hopping * near - s * slope)
                momentum[at + x + i] = p
                new[at + x + i] = s + drift * p
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
    """Last kick of a trajectory with both energies of its end, per lane; summed down the columns first."""
    pitch, rows = n + TWO * LANES, n_rows // N_COMPONENTS
    size = np.uint64(field.size) // N_COMPONENTS
    row[:] = 0.0
    other[:] = 0.0
    for r in range(rows):
        x = r * pitch + LANES
        if NDIM == 2:
            x += pitch
        a, b, c, d = x + pitch, x - pitch, x, x
        if NDIM > 2:
            a, b, c, d = table[r, 0], table[r, 1], table[r, 2], table[r, 3]
        for i in range(n):
            square = 0.0
            for k in range(N_COMPONENTS):
                s = field[k * size + x + i]
                square += s * s
            slope = derivative(square, params)
            density = value(square, params)
            for k in range(N_COMPONENTS):
                at = k * size
                s = field[at + x + i]
                near = field[at + x + i - LANES] + field[at + x + i + LANES]
                if NDIM > 1:
                    near += field[at + a + i] + field[at + b + i]
                if NDIM > 2:
                    near += field[at + c + i] + field[at + d + i]
                near *= hopping
                p = momentum[at + x + i] + kick * (near - s * slope)
                momentum[at + x + i] = p
                row[i] += p * p
                density -= 0.5 * s * near
            other[i] += density
    lane_sums(row, kinetic, 0.5)
    lane_sums(other, action, 1.0)
