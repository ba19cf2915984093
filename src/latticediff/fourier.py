r"""Orthonormal real Fourier basis of the periodic lattice.

Along an axis of extent L the basis functions are the constant, the pairs
:math:`\sqrt{2/L}\cos(2\pi n x/L)`, :math:`\sqrt{2/L}\sin(2\pi n x/L)` and, for even L, the alternating
one. Functions of momentum that are even in every component, as all of ours are, act on it by
multiplication; white noise stays white; a coefficient's variance is the propagator itself. At the
extents of lattice fields the transform is a small matrix product along each axis, which is faster
than an FFT and has one fixed order of additions. NumPy, float64.

On an *oblique* lattice of two dimensions (that of one colour of a checkerboard) functions of momentum are even under
k -> -k only. There the products :math:`\cos\cos \pm \sin\sin` and :math:`\sin\cos \pm \cos\sin`, each
over :math:`\sqrt 2`, take the place of their parts: waves of the momenta :math:`(n_1, \mp n_2)`. The exchange is its
own inverse (`oblique_pairs`).
"""

import functools
from typing import Any

import numpy as np

from .errors import UserError
from .types import Extents, FloatArray, IntArray

__all__ = [
    "basis_from_momenta",
    "exchange",
    "mode_numbers",
    "momenta_from_basis",
    "oblique_pairs",
    "real_fourier",
    "transform",
]

ROOT_HALF = 0.5**0.5


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


def oblique_pairs(shape: Extents, oblique: bool = True) -> IntArray:
    """Flat numbers of the basis functions that an oblique lattice combines, as sum and as difference.

    Parameters
    ----------
    shape : sequence of int
        Lattice extents; two of them if `oblique`.
    oblique : bool
        Otherwise there are none.

    Returns
    -------
    ndarray, shape (n_pairs, 2), int64
        ``(cos cos, sin sin)`` and ``(sin cos, cos sin)`` of every pair of momenta.

    Raises
    ------
    UserError
        An oblique lattice that has not two dimensions.
    """
    if not oblique:
        return np.empty((0, 2), np.int64)
    if len(shape) != 2:
        raise UserError(f"lattice shape {tuple(shape)} has {len(shape)} dimensions; an oblique lattice has two")
    waves = [np.arange(1, (extent - 1) // 2 + 1) for extent in shape]
    n1, n2 = (n.ravel() for n in np.meshgrid(*waves, indexing="ij"))

    def flat(first: IntArray, second: IntArray) -> IntArray:
        return first * shape[1] + second

    cosines = np.stack([flat(2 * n1 - 1, 2 * n2 - 1), flat(2 * n1, 2 * n2)], 1)
    sines = np.stack([flat(2 * n1, 2 * n2 - 1), flat(2 * n1 - 1, 2 * n2)], 1)
    return np.concatenate([cosines, sines]).astype(np.int64)


def exchange(modes: FloatArray, pairs: IntArray) -> FloatArray:
    """Coefficients (..., V) with every pair replaced by its sum and its difference over the root of two."""
    if not len(pairs):
        return modes
    out = modes.copy()
    a, b = modes[..., pairs[:, 0]], modes[..., pairs[:, 1]]
    out[..., pairs[:, 0]], out[..., pairs[:, 1]] = ROOT_HALF * (a + b), ROOT_HALF * (a - b)
    return out


def transform(fields: FloatArray, shape: Extents, inverse: bool = False, oblique: bool = False) -> FloatArray:
    """Coefficients (..., *shape) of fields (..., *shape) in the basis, float64; with `inverse` the way back.

    The bits do not depend on how many fields are transformed together.

    Parameters
    ----------
    fields : ndarray, shape (..., *shape), float64
    shape : sequence of int
        Lattice extents.
    inverse : bool
    oblique : bool
        See the module's first lines.

    Returns
    -------
    ndarray, shape (..., *shape), float64
    """
    pairs = oblique_pairs(shape, oblique)
    lead = fields.shape[: fields.ndim - len(shape)]
    if inverse and oblique:
        fields = exchange(fields.reshape(*lead, -1), pairs).reshape(fields.shape)
    for axis, extent in enumerate(shape, start=fields.ndim - len(shape)):
        basis = real_fourier(extent)
        # plain einsum, no BLAS: one order of additions, whatever the batch
        rotated = np.einsum("ij,...j->...i", basis.T if inverse else basis, np.moveaxis(fields, axis, -1))
        fields = np.moveaxis(rotated, -1, axis)
    if oblique and not inverse:
        fields = exchange(fields.reshape(*lead, -1), pairs).reshape(fields.shape)
    return fields


def _grid_numbers(shape: Extents, oblique: bool) -> tuple[IntArray, ...]:
    """Where each basis function's momentum lies on the full grid: one index array (*shape) for each axis."""
    numbers = [n.copy() for n in np.meshgrid(*[mode_numbers(extent) for extent in shape], indexing="ij")]
    pairs = oblique_pairs(shape, oblique)
    if oblique:  # cos cos + sin sin is the wave of (n_1, -n_2), sin cos - cos sin too
        half = len(pairs) // 2
        opposite = np.concatenate([pairs[:half, 0], pairs[half:, 1]])
        second = numbers[1].ravel()
        second[opposite] = shape[1] - second[opposite]
        numbers[1] = second.reshape(shape)
    return tuple(numbers)


def basis_from_momenta(values: FloatArray, shape: Extents, oblique: bool = False) -> FloatArray:
    """Values of a function of momentum at each basis function, from those on the full momentum grid.

    Parameters
    ----------
    values : ndarray, shape (..., *lattice)
        On the full grid, even in every momentum component; on an oblique lattice even in k.
    shape : sequence of int
        Lattice extents.
    oblique : bool

    Returns
    -------
    ndarray, shape (..., *lattice)
    """
    index: tuple[Any, ...] = (..., *_grid_numbers(shape, oblique))
    return values[index]


def momenta_from_basis(values: FloatArray, shape: Extents, oblique: bool = False) -> FloatArray:
    """The inverse of `basis_from_momenta`: values on the full momentum grid, (..., *lattice).

    Values at the cosine and the sine of one momentum may differ, as measured ones do; their mean is taken.

    Parameters
    ----------
    values : ndarray, shape (..., *shape), float64
        At each basis function.
    shape : sequence of int
        Lattice extents.
    oblique : bool

    Returns
    -------
    ndarray, shape (..., *shape), float64
    """
    if oblique:
        n1, n2 = _grid_numbers(shape, True)
        total, count = np.zeros(values.shape), np.zeros(shape)
        for sign in (1, -1):
            place = (sign * n1) % shape[0], (sign * n2) % shape[1]
            np.add.at(count, place, 1.0)
            at: Any = (..., *place)  # NumPy's annotations know no ellipsis here
            np.add.at(total, at, values)
        return total / count
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
