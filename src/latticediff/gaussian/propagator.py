r"""The measured propagator :math:`G(k) = \langle |\phi_k|^2 \rangle / V`, symmetrised.

It whitens the noise process, so it enters the density: a noisy G costs ESS, never exactness. The cost is
extensive, half of the relative variance of each mode (at 128x128 and 2,000 configurations a third of the ESS),
and no local network can take it back; `smooth_propagator` fits it away. NumPy only, float64.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from ..lattice import axis_orders, momenta_along, point_symmetries, volume
from ..types import Extents, FloatArray
from .contract import UnitVectors

__all__ = ["alike", "measured_propagator", "measured_vacuum", "smooth_propagator", "symmetrise"]

DEGREE = 7  # Chebyshev polynomials of log(p^2 + p_min^2), which are enough for a second-order transition at 128^2
FEWEST = 40  # distinct momenta below which the measured values are kept: there is nothing to average
TOLERANCE = 1.5  # residual variance of a fit, in units of that of the noise


def symmetrise(full: FloatArray, unit_vectors: UnitVectors | None = None, form: FloatArray | None = None) -> FloatArray:
    r"""Average over the lattice symmetries: reflections of every axis, permutations of equal extents.

    Parameters
    ----------
    full : ndarray, shape (*lattice)
        A function of k on the full momentum grid.
    unit_vectors : tuple of tuple of int, optional
        Of the isotropic lattice, where the axes of the array are not its own; see `latticediff.gaussian.contract`.
    form : ndarray, shape (*lattice), optional
        K(k): only permutations that it has are averaged over. Default: all of them.

    Returns
    -------
    ndarray, shape (*lattice)
    """
    if unit_vectors is not None:
        n = np.indices(full.shape)
        moved: Any = []
        for matrix in point_symmetries(full.shape, unit_vectors):
            # k . (M r) = (M^T k) . r, and M^T k is a momentum of the grid, since periods become periods
            place = [
                sum(full.shape[a] * matrix[b, a] * n[b] // full.shape[b] for b in range(full.ndim)) % full.shape[a]
                for a in range(full.ndim)
            ]
            moved.append(full[tuple(place)])
        return sum(moved) / len(moved)
    for axis in range(full.ndim):
        full = 0.5 * (full + np.roll(np.flip(full, axis), 1, axis))
    permutations = axis_orders(full.shape, form)
    total: Any = sum(np.transpose(full, order) for order in permutations)
    return total / len(permutations)


def measured_vacuum(batches: Iterable[NDArray[Any]], one_sided: bool = False) -> float:
    """``m_0 = <|m|>``, m the mean of a configuration, over an iterable of stacks (n, *lattice) that is read once.

    Parameters
    ----------
    batches : iterable of ndarray, shape (n, *lattice)
    one_sided : bool
        ``<m>`` instead: of a single vacuum.

    Returns
    -------
    float
    """
    total, count = 0.0, 0
    for phis in batches:
        means = phis.reshape(len(phis), -1).mean(axis=1)
        total += (means if one_sided else np.abs(means)).sum()
        count += len(phis)
    return float(total / count)


def measured_propagator(
    batches: Iterable[NDArray[Any]],
    shape: Extents,
    vacuum: float = 0.0,
    unit_vectors: UnitVectors | None = None,
    one_sided: bool = False,
    form: FloatArray | None = None,
) -> FloatArray:
    r"""``G(k) = <|phi_k|^2> / V`` on the full grid, from a stream of configurations.

    Parameters
    ----------
    batches : iterable of ndarray, shape (n, *lattice)
        Configurations; read once, so the ensemble may be larger than memory.
    shape : tuple of int
    vacuum : float
        m_0: of the fluctuations ``phi - s m_0`` instead, s the sign of the mean: the connected propagator.
    unit_vectors : tuple of tuple of int, optional
        See `symmetrise`.
    one_sided : bool
        Of the fluctuations ``phi - m_0`` around a single vacuum.
    form : ndarray, shape (*lattice), optional
        See `symmetrise`.

    Returns
    -------
    ndarray, shape (*lattice), float64
        Positive, symmetric under the lattice group. In units of phi^2.

    Raises
    ------
    UserError
        No configurations, another lattice, or values that are not finite.
    """
    axes = tuple(range(1, len(shape) + 1))
    total, count = np.zeros(shape), 0
    for phis in batches:
        if phis.shape[1:] != tuple(shape):
            raise UserError(f"configurations have shape {phis.shape[1:]}; the lattice is {tuple(shape)}")
        if not np.all(np.isfinite(phis)):
            raise UserError("training configurations hold values that are not finite; verify the ensemble")
        if one_sided:
            phis = phis - vacuum
        elif vacuum:
            phis = phis - vacuum * np.where(phis.mean(axis=axes, keepdims=True) < 0, -1.0, 1.0)
        total += (np.abs(np.fft.fftn(phis, axes=axes)) ** 2).sum(axis=0)
        count += len(phis)
    if count < 2:
        raise UserError(f"got {count} configurations; the propagator needs at least 2")
    return symmetrise(total / (count * volume(shape)), unit_vectors, form)


def alike(one: FloatArray, shape: Extents) -> FloatArray:
    """The same function of momentum, (*lattice), for each of N components: on the grid of `shape`, (N, *lattice)."""
    return np.broadcast_to(one, tuple(shape)).copy()


def smooth_propagator(first: FloatArray, second: FloatArray, unit_vectors: UnitVectors | None = None) -> FloatArray:
    r"""A smooth function of momentum through two independent measurements of G.

    .. math:: \log G(k) = \sum_{n \le 7} c_n T_n(t) + A\,(d_0 + d_1 u + d_2 A), \qquad
              u = \frac{\hat p^2}{4 d},\; A = \frac{\sum_\mu \hat p_\mu^4}{16 d} - u^2,

    with :math:`\hat p_\mu = 2 \sin(k_\mu / 2)` and t the logarithm of :math:`\hat p^2 + \hat p_{min}^2`, scaled to
    [-1, 1]. The zero mode, which a finite volume sets apart, keeps its measured value.

    Parameters
    ----------
    first, second : ndarray, shape (*lattice), float64
        `measured_propagator` of two halves of an ensemble. Their difference is the noise that the fit has to
        reach: where it does not, or there are few momenta, the plain mean is returned.
    unit_vectors : tuple of tuple of int, optional
        Along which :math:`k_\mu` is meant; see `symmetrise`.

    Returns
    -------
    ndarray, shape (*lattice), float64
    """
    mean, d = 0.5 * (first + second), first.ndim
    if unit_vectors is None:
        grids: Any = np.meshgrid(*(4 * np.sin(np.pi * np.arange(n) / n) ** 2 for n in mean.shape), indexing="ij")
    else:
        grids = [4 * np.sin(k / 2) ** 2 for k in momenta_along(mean.shape, unit_vectors)]
    u: Any = sum(grids) / (4 * d)
    square: Any = sum(g * g for g in grids) / (16 * d)
    moving = u > 1e-12
    moving[(0,) * d] = False
    if len(np.unique(np.round(np.stack([u, square])[:, moving], 9), axis=1).T) < FEWEST:
        return mean
    t = np.log(u[moving] + u[moving].min())
    t = 2 * (t - t.min()) / np.ptp(t) - 1
    anisotropy = (square - u * u)[moving]
    design = np.column_stack(
        [np.polynomial.chebyshev.chebvander(t, DEGREE), anisotropy, anisotropy * u[moving], anisotropy**2]
    )
    log_mean = np.log(mean[moving])
    coefficients, *_ = np.linalg.lstsq(design, log_mean, rcond=None)
    fitted = design @ coefficients
    noise = 0.25 * np.mean(np.log(first[moving] / second[moving]) ** 2)
    if not np.mean((fitted - log_mean) ** 2) <= TOLERANCE * noise * (1 + 4 / math.sqrt(len(t))):
        return mean
    smooth = mean.copy()
    smooth[moving] = np.exp(fitted)
    return smooth
