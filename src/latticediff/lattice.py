r"""Geometry of the periodic hypercubic lattice: extents, momenta, neighbours.

A lattice is its tuple of extents ``shape = (L_1, ..., L_d)``; lattice units, a = 1. Momenta are
:math:`k_\mu = 2\pi n_\mu / L_\mu`. "Half grid" means the layout of `numpy.fft.rfftn`: the last
axis keeps :math:`n_d = 0 \ldots \lfloor L_d/2 \rfloor`.
"""

import itertools
import math
import numbers
from collections.abc import Sequence

import numpy as np

from .errors import UserError
from .types import Extents, FloatArray, IntArray, Shape

__all__ = [
    "MOST_SITES",
    "axis_orders",
    "check_shape",
    "cos_sum",
    "mode_weights",
    "momenta",
    "momenta_along",
    "neighbours",
    "p_hat_squared",
    "planes",
    "point_symmetries",
    "volume",
]

MAX_NDIM = 4
MOST_SITES = 2**56  #: of a lattice, or of all fields held at once: in bytes still a number that NumPy can address


def check_shape(shape: Extents, ndim: int | None = None) -> Shape:
    """Return `shape` as a tuple of ints, or say what is wrong with it.

    Parameters
    ----------
    shape : sequence of int
        Extents, each at least 1; one to four of them.
    ndim : int, optional
        The number of dimensions wanted.

    Raises
    ------
    UserError
        Wrong number of extents, an extent that is no positive integer, or more sites than memory can have.
    """
    try:
        extents = tuple(shape)
    except TypeError:
        raise UserError(f"lattice shape is {shape!r}; expected a list of extents such as [8, 8]") from None
    if not 1 <= len(extents) <= MAX_NDIM:
        raise UserError(f"lattice shape {extents} has {len(extents)} extents; expected 1 to {MAX_NDIM}")
    for extent in extents:
        # 8.0 is an extent, for those who compute them; inf and strings are none
        if isinstance(extent, bool) or not isinstance(extent, numbers.Real) or not extent >= 1 or extent % 1 != 0:
            raise UserError(f"lattice shape {extents} has extent {extent!r}; expected integers of at least 1")
    if math.prod(int(extent) for extent in extents) >= MOST_SITES:
        raise UserError(f"lattice shape {extents} has more than 2^56 sites; no computer holds one field of them")
    if ndim is not None and len(extents) != ndim:
        raise UserError(f"lattice shape {extents} has {len(extents)} dimensions; the action has {ndim}")
    return tuple(int(extent) for extent in extents)


def volume(shape: Extents) -> int:
    """Number of sites."""
    return math.prod(shape)


def momenta(shape: Extents, half: bool = False) -> list[FloatArray]:
    """Momentum components :math:`k_\\mu = 2\\pi n_\\mu / L_\\mu`, float64: one array per axis, to be broadcast.

    Parameters
    ----------
    shape : sequence of int
        Lattice extents.
    half : bool
        For the half grid instead of the full one.
    """
    components = []
    for axis, extent in enumerate(shape):
        n = np.arange(extent // 2 + 1 if half and axis == len(shape) - 1 else extent)
        k = 2 * np.pi * n / extent
        components.append(k.reshape([-1 if i == axis else 1 for i in range(len(shape))]))
    return components


def cos_sum(shape: Extents, half: bool = False) -> FloatArray:
    r"""``sum_mu cos k_mu`` on the (half) momentum grid, float64."""
    return sum(np.cos(k) for k in momenta(shape, half)) + np.zeros(())


def p_hat_squared(shape: Extents, half: bool = False) -> FloatArray:
    r"""Lattice momentum squared, ``sum_mu 4 sin^2(k_mu / 2)``, on the (half) grid, float64."""
    return sum(4 * np.sin(k / 2) ** 2 for k in momenta(shape, half)) + np.zeros(())


def mode_weights(shape: Extents) -> FloatArray:
    """How many modes of the full grid each half-grid entry stands for (1 or 2), float64.

    ``(mode_weights(shape) * f_half).sum()`` equals ``f_full.sum()`` for ``f(k) = f(-k)``.
    """
    last = shape[-1]
    weights = np.full(last // 2 + 1, 2.0)
    weights[0] = 1.0
    if last % 2 == 0:
        weights[-1] = 1.0
    return np.broadcast_to(weights, (*shape[:-1], last // 2 + 1))


def neighbours(shape: Extents) -> IntArray:
    """Site indices of the neighbours in C order.

    Returns
    -------
    ndarray, shape (2 * ndim, volume), int64
        Rows 0 .. ndim-1 point forward (``x + mu``), rows ndim .. 2 ndim-1 backward.
    """
    sites = np.arange(volume(shape)).reshape(shape)
    forward = [np.roll(sites, -1, axis).ravel() for axis in range(len(shape))]
    backward = [np.roll(sites, 1, axis).ravel() for axis in range(len(shape))]
    return np.array(forward + backward)


def momenta_along(shape: Extents, unit_vectors: Sequence[Sequence[int]] | None = None) -> list[FloatArray]:
    r"""Momentum along each axis of the isotropic lattice, ``k . e_mu``, on the full grid; float64, to be broadcast.

    Parameters
    ----------
    shape : sequence of int
        Lattice extents.
    unit_vectors : sequence of sequence of int, optional
        Offsets e_mu on the array; default: its own axes.
    """
    k = momenta(shape)
    if unit_vectors is None:
        return k
    return [sum(n * part for n, part in zip(vector, k, strict=True)) + np.zeros(()) for vector in unit_vectors]


def point_symmetries(shape: Extents, unit_vectors: Sequence[Sequence[int]] | None = None) -> list[IntArray]:
    """Rotations and reflections of the isotropic lattice that the periodic array has too.

    Parameters
    ----------
    shape : sequence of int
        Lattice extents.
    unit_vectors : sequence of sequence of int, optional
        See `momenta_along`; they span all sites of the array.

    Returns
    -------
    list of ndarray, shape (ndim, ndim), int64
        Matrices M that carry a site r to ``M r`` modulo the extents; signed permutations of the unit vectors, the
        identity first.
    """
    ndim = len(shape)
    frame = np.eye(ndim, dtype=np.int64) if unit_vectors is None else np.array(unit_vectors, np.int64).T
    inverse = np.round(np.linalg.inv(frame)).astype(np.int64)
    extents, found = np.array(shape, np.int64), []
    for order in itertools.permutations(range(ndim)):
        for signs in itertools.product((1, -1), repeat=ndim):
            matrix = frame @ (np.eye(ndim, dtype=np.int64)[list(order)] * np.array(signs)) @ inverse
            if not ((matrix * extents) % extents[:, None]).any():  # periods become periods
                found.append(matrix)
    return found


def axis_orders(shape: Extents, form: FloatArray | None = None) -> list[tuple[int, ...]]:
    """Permutations of the axes that leave a lattice as it is, and with it a function on it.

    Parameters
    ----------
    shape : sequence of int
    form : ndarray, shape (*lattice), optional
        The function, such as a quadratic form K(k), whose couplings need not be the same along all axes.

    Returns
    -------
    list of tuple of int
        The identity first.
    """
    orders = [
        order
        for order in itertools.permutations(range(len(shape)))
        if all(shape[i] == shape[j] for i, j in enumerate(order))
    ]
    if form is None:
        return orders
    size = 1e-9 * float(np.abs(form).max())
    return [order for order in orders if np.allclose(form, np.transpose(form, order), rtol=0, atol=size)]


def planes(phis: FloatArray, window: int = 64) -> FloatArray:
    """Two-dimensional windows of fields, for people to look at: the plane of the last two directions at 0.

    Parameters
    ----------
    phis : ndarray, shape (n, *lattice), float64
    window : int
        Sites along each direction, at most.

    Returns
    -------
    ndarray, shape (n, a, b), float64
        Of one dimension a single row, a = 1.
    """
    phis = np.asarray(phis, np.float64)
    while phis.ndim > 3:
        phis = phis[:, 0]
    return (phis[:, None] if phis.ndim == 2 else phis)[:, :window, :window]
