r"""The odd sites of a checkerboard as a periodic array of their own.

The odd sites of an L1 x L2 torus, L1 a multiple of L2, are the array (i, j) of L1 x L2/2 with
``(x, y) = (i, i + 2j + 1)``. The steps (1, 1) and (1, -1) of the checkerboard are the steps (1, 0) and (1, -1) on
it. The even site (i, k), at ``(i, i + 2k)``, has the odd neighbours (i+1, k-1), (i-1, k), (i, k) and (i, k-1).
"""

import functools

import numpy as np

from ..errors import UserError
from ..lattice import check_shape, volume
from ..types import Extents, FloatArray, IntArray, Shape

__all__ = ["NEIGHBOURS", "UNIT_VECTORS", "half_shape", "join", "split", "tables", "whole_shape"]

NEIGHBOURS = ((1, -1), (-1, 0), (0, 0), (0, -1))  #: odd sites beside the even site of the same number
UNIT_VECTORS = ((1, 0), (1, -1))  #: on the array, of the checkerboard's diagonals (1, 1) and (1, -1)


def half_shape(shape: Extents) -> Shape:
    """Extents of the array of odd sites of a lattice.

    Raises
    ------
    UserError
        Not two dimensions, an odd extent, or a first extent that is no multiple of the second.
    """
    shape = check_shape(shape)
    if len(shape) != 2 or shape[0] % 2 or shape[1] % 2 or shape[0] % shape[1]:
        raise UserError(
            f"lattice shape {shape} has no array of odd sites; expected two even extents, the first a multiple of the"
            " second, such as (16, 16) or (32, 16); else train on all sites (training.sites = all)"
        )
    return shape[0], shape[1] // 2


def whole_shape(shape: Extents) -> Shape:
    """Extents of the lattice whose odd sites are an array of this shape; the inverse of `half_shape`."""
    whole = (int(shape[0]), 2 * int(shape[1]))
    half_shape(whole)
    return whole


@functools.cache
def tables(shape: Shape) -> tuple[IntArray, IntArray, IntArray]:
    """Flat numbers on the whole lattice of its odd and even sites, and (4, V/2) of the odd neighbours of even ones."""
    L1, L2 = shape
    i, j = np.meshgrid(np.arange(L1), np.arange(L2 // 2), indexing="ij")
    odd, even = (i * L2 + (i + 2 * j + 1) % L2).ravel(), (i * L2 + (i + 2 * j) % L2).ravel()
    near = [(((i + a) % L1) * (L2 // 2) + (j + b) % (L2 // 2)).ravel() for a, b in NEIGHBOURS]
    return odd.astype(np.int64), even.astype(np.int64), np.array(near, np.int64)


def split(phi: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Odd and even sites (..., *half_shape) of fields (..., L1, L2) of the whole lattice."""
    shape = (int(phi.shape[-2]), int(phi.shape[-1]))
    half = half_shape(shape)
    odd, even, _ = tables(shape)
    flat = phi.reshape(-1, volume(shape))
    # `take` along an axis: ten times as fast as an index array behind an ellipsis
    lead = phi.shape[:-2]
    return np.take(flat, odd, axis=1).reshape(*lead, *half), np.take(flat, even, axis=1).reshape(*lead, *half)


def join(odd: FloatArray, even: FloatArray) -> FloatArray:
    """Fields (..., L1, L2) of the whole lattice; the inverse of `split`."""
    shape = whole_shape(odd.shape[-2:])
    rows = -1, volume(shape) // 2
    both = np.concatenate([odd.reshape(rows), even.reshape(rows)], axis=1)
    return np.take(both, _places(shape), axis=1).reshape(*odd.shape[:-2], *shape)


@functools.cache
def _places(shape: Shape) -> IntArray:
    """Where each site of the whole lattice lies when the odd ones come first, and then the even ones."""
    odd, even, _ = tables(shape)
    return np.argsort(np.concatenate([odd, even]))
