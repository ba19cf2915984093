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
    flat = phi.reshape(*phi.shape[:-2], volume(shape))
    return flat[..., odd].reshape(*phi.shape[:-2], *half), flat[..., even].reshape(*phi.shape[:-2], *half)


def join(odd: FloatArray, even: FloatArray) -> FloatArray:
    """Fields (..., L1, L2) of the whole lattice; the inverse of `split`."""
    shape = whole_shape(odd.shape[-2:])
    at_odd, at_even, _ = tables(shape)
    phi = np.empty((*odd.shape[:-2], volume(shape)))
    phi[..., at_odd] = odd.reshape(*odd.shape[:-2], len(at_odd))
    phi[..., at_even] = even.reshape(*even.shape[:-2], len(at_even))
    return phi.reshape(*odd.shape[:-2], *shape)
