"""Functions of momentum in a file: those that k -> -k leaves alone, axis by axis, are written once.

Score powers take 65 numbers for each momentum, 8 MB at 128x128; they are even on every axis, so a quarter of them in
two dimensions, an eighth in three, is all there is to write.
"""

import numpy as np

__all__ = ["fold", "unfold"]


def fold(function, ndim):
    """The momenta 0 to n/2 of the last `ndim` axes, if that is all; else the array itself."""
    shape = function.shape[function.ndim - ndim :]
    folded = np.ascontiguousarray(function[(..., *(slice(n // 2 + 1) for n in shape))])
    return folded if np.array_equal(unfold(folded, shape), function) else function


def unfold(function, shape):
    """The reverse of `fold` for a lattice of this shape."""
    ndim = len(shape)
    for axis, n in enumerate(shape, function.ndim - ndim):
        if function.shape[axis] != n:
            function = np.take(function, np.minimum(np.arange(n), n - np.arange(n)), axis)
    return np.ascontiguousarray(function)
