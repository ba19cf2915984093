r"""Orthonormal real Fourier basis of the periodic lattice.

Along an axis of extent L the basis functions are the constant, the pairs
:math:`\sqrt{2/L}\cos(2\pi n x/L)`, :math:`\sqrt{2/L}\sin(2\pi n x/L)` and, for even L, the alternating
one. Functions of momentum that are even in every component, as all of ours are, act on it by
multiplication; white noise stays white; a coefficient's variance is the propagator itself. At the
extents of lattice fields the transform is a small matrix product along each axis, which is faster
than an FFT and has one fixed order of additions. NumPy, float64.
"""

import functools
from typing import Any

import numpy as np

from .types import Extents, FloatArray, IntArray

__all__ = ["basis_from_momenta", "mode_numbers", "momenta_from_basis", "real_fourier", "transform"]


@functools.cache
def real_fourier(extent: int) -> FloatArray:
    """Basis functions as rows of an orthogonal matrix, (extent, extent), float64; one array for all callers."""
    x = np.arange(extent)
    rows = [np.full(extent, extent**-0.5)]
    for n in range(1, (extent - 1) // 2 + 1):
        phase = 2 * np.pi * n * x / extent
        rows += [np.sqrt(2 / extent) * np.cos(phase), np.sqrt(2 / extent) * np.sin(phase)]
    if extent % 2 == 0 and extent > 1:
        rows.append(extent**-0.5 * (-1.0) ** x)
    matrix = np.array(rows)
    matrix.flags.writeable = False
    return matrix


def mode_numbers(extent: int) -> IntArray:
    """``|n|`` of each basis function, momentum ``2 pi n / extent``; int64."""
    numbers = [0]
    for n in range(1, (extent - 1) // 2 + 1):
        numbers += [n, n]
    if extent % 2 == 0 and extent > 1:
        numbers.append(extent // 2)
    return np.array(numbers)


def transform(fields: FloatArray, shape: Extents, inverse: bool = False) -> FloatArray:
    """Coefficients (..., *shape) of fields (..., *shape) in the basis, float64; with `inverse` the way back.

    The bits do not depend on how many fields are transformed together.

    Parameters
    ----------
    fields : ndarray, shape (..., *shape), float64
    shape : sequence of int
        Lattice extents.
    inverse : bool

    Returns
    -------
    ndarray, shape (..., *shape), float64
    """
    for axis, extent in enumerate(shape, start=fields.ndim - len(shape)):
        basis = real_fourier(extent)
        # plain einsum, no BLAS: one order of additions, whatever the batch
        rotated = np.einsum("ij,...j->...i", basis.T if inverse else basis, np.moveaxis(fields, axis, -1))
        fields = np.moveaxis(rotated, -1, axis)
    return fields


def basis_from_momenta(values: FloatArray, shape: Extents) -> FloatArray:
    """Values of a function of momentum at each basis function, from those on the full momentum grid.

    Parameters
    ----------
    values : ndarray, shape (..., *lattice)
        On the full grid, even in every momentum component.
    shape : sequence of int
        Lattice extents.

    Returns
    -------
    ndarray, shape (..., *lattice)
    """
    index: tuple[Any, ...] = (..., *np.ix_(*[mode_numbers(extent) for extent in shape]))
    return values[index]


def momenta_from_basis(values: FloatArray, shape: Extents) -> FloatArray:
    """The inverse of `basis_from_momenta`: values on the full momentum grid, (..., *lattice).

    Values at the cosine and the sine of one momentum may differ, as measured ones do; their mean is taken.

    Parameters
    ----------
    values : ndarray, shape (..., *shape), float64
        At each basis function.
    shape : sequence of int
        Lattice extents.

    Returns
    -------
    ndarray, shape (..., *shape), float64
    """
    axes = range(values.ndim - len(shape), values.ndim)
    averages = []
    for extent in shape:
        folded = np.minimum(np.arange(extent), extent - np.arange(extent))
        same = folded[:, None] == mode_numbers(extent)
        averages.append(same / same.sum(axis=1, keepdims=True))
    return functools.reduce(
        lambda array, pair: np.moveaxis(np.tensordot(pair[1], array, (1, pair[0])), 0, pair[0]),
        zip(axes, averages, strict=True),
        values,
    )
