"""Functions of momentum in a file: those that k -> -k leaves alone, axis by axis, are written once.

Score powers take 65 numbers for each momentum, 8 MB at 128x128; they are even on every axis, so a quarter of them in
two dimensions, an eighth in three, is all there is to write.
"""

from typing import Any

import numpy as np

from ..types import Extents, FloatArray

__all__ = ["fold", "unfold"]


def fold(function: FloatArray, ndim: int) -> FloatArray:
    """The values at momenta 0 to n/2 of the last `ndim` axes, if the others follow from them; else the array itself.

    Parameters
    ----------
    function : ndarray, shape (..., *lattice), float64
        On the full momentum grid.
    ndim : int

    Returns
    -------
    ndarray, float64
        Shape (..., n_1 // 2 + 1, ...), or that of `function`.
    """
    shape = function.shape[function.ndim - ndim :]
    half: tuple[Any, ...] = (..., *(slice(n // 2 + 1) for n in shape))
    folded = np.ascontiguousarray(function[half])
    return folded if np.array_equal(unfold(folded, shape), function) else function


def unfold(function: FloatArray, shape: Extents) -> FloatArray:
    """The inverse of `fold` for a lattice of this shape; an array that was not folded comes back as it is.

    Parameters
    ----------
    function : ndarray, float64
        As `fold` returns it.
    shape : sequence of int
        Lattice extents.

    Returns
    -------
    ndarray, shape (..., *shape), float64
    """
    ndim = len(shape)
    for axis, n in enumerate(shape, function.ndim - ndim):
        if function.shape[axis] != n:
            function = np.take(function, np.minimum(np.arange(n), n - np.arange(n)), axis)
    return np.ascontiguousarray(function)
