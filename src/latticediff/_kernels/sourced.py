"""Sweeps of HMC with numbers that differ from site to site: those of `layout` or `linked`, and ``h - r phi`` beside.

Templates as in `layout`, bound by `compile.specialise`: `plain_sweep` and `plain_finish` are the sweeps of the theory
that is the same at every site. In the place of their table stand three things: that table, and h and r in padded
buffers of the layout, zero in the halo, so that one plain loop over whole buffers is enough. Without r, ``h - 0 phi``
is h to the last bit.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray
from .layout import finish as plain_finish
from .layout import sweep as plain_sweep

__all__ = ["buffer", "finish", "sweep"]

LANES = np.uint64(1)


def buffer(field: FloatArray, size: int, lanes: int, is_linked: bool) -> FloatArray:
    """h or r, (*lattice), in the padded layout of a group of chains, the same for all: shape (size,), float64."""
    rows = field.reshape(-1, field.shape[-1])
    padded: FloatArray = np.zeros(size)
    is_framed = field.ndim == 2 and not is_linked  # `layout` has a row above and one below in two dimensions
    grid = padded.reshape(len(rows) + 2 * is_framed, -1)
    inner = grid[1:-1] if is_framed else grid
    halo = (inner.shape[1] - rows.shape[1] * lanes) // 2
    inner[:, halo : halo + rows.shape[1] * lanes] = np.repeat(rows, lanes, axis=1)
    return padded


def sweep(
    field: FloatArray,
    new: FloatArray,
    momentum: FloatArray,
    table: tuple[NDArray[np.uint64], FloatArray, FloatArray],
    n_rows: np.uint64,
    n: np.uint64,
    params: tuple[float, ...],
    hopping: Any,
    kick: float,
    drift: float,
) -> None:
    """``p += kick * (force(phi) + h - r phi)``, then ``new = phi + drift * p``, for a whole group."""
    rows, source, mass = table
    for i in range(momentum.size):
        momentum[i] += kick * (source[i] - mass[i] * field[i])
    plain_sweep(field, new, momentum, rows, n_rows, n, params, hopping, kick, drift)


def finish(
    field: FloatArray,
    momentum: FloatArray,
    table: tuple[NDArray[np.uint64], FloatArray, FloatArray],
    n_rows: np.uint64,
    n: np.uint64,
    params: tuple[float, ...],
    hopping: Any,
    kick: float,
    row: FloatArray,
    other: FloatArray,
    kinetic: FloatArray,
    action: FloatArray,
) -> None:
    """Last kick of a trajectory with both energies of its end, per lane, ``sum (r phi / 2 - h) phi`` included."""
    rows, source, mass = table
    for i in range(momentum.size):
        momentum[i] += kick * (source[i] - mass[i] * field[i])
    plain_finish(field, momentum, rows, n_rows, n, params, hopping, kick, row, other, kinetic, action)
    for k in range(LANES):
        total = 0.0
        for i in range(k, np.uint64(source.size), LANES):
            total += (source[i] - 0.5 * mass[i] * field[i]) * field[i]
        action[k] -= total
