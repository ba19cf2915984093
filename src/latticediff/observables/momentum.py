r"""The two-point function of each configuration, in momentum and in time-slice form.

With :math:`\tilde\phi(k) = \sum_x e^{-ikx} \phi_x` the structure factor is
:math:`|\tilde\phi(k)|^2 / V`; its ensemble mean is the propagator G(k). Projecting on the spatial
momentum p only gives time slices :math:`\tilde\phi_t(p)` and the correlator
:math:`C(t; p) = V^{-1} \sum_{t_0} \mathrm{Re}\, \tilde\phi_{t_0}(p)^* \tilde\phi_{t_0+t}(p)`, so that
:math:`\sum_t C(t; p) = |\tilde\phi(0, p)|^2 / V`. Lattice units throughout.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import real_array
from ..errors import UserError
from ..lattice import momenta
from ..types import FloatArray, Shape

__all__ = ["momentum_susceptibility", "structure_factor", "time_slices", "timeslice_correlator"]


def _lattice_axes(phis: FloatArray, ndim: int) -> tuple[int, ...]:
    if not 1 <= ndim < phis.ndim:
        raise UserError(f"phis has shape {phis.shape}; expected (n_cfg, *lattice) with {ndim} lattice axes")
    return tuple(range(phis.ndim - ndim, phis.ndim))


def _mode_numbers(momentum: int | Iterable[int], shape: Shape) -> tuple[int, ...]:
    """Integers n_mu of k_mu = 2 pi n_mu / L_mu, checked against the lattice."""
    given: Any = momentum
    try:
        numbers = tuple(given)
    except TypeError:
        numbers = (given,)
    if len(numbers) != len(shape) or any(int(n) != n for n in numbers):
        raise UserError(f"momentum is {momentum!r}; expected {len(shape)} integers n with k = 2 pi n / L, L = {shape}")
    return tuple(int(n) for n in numbers)


def structure_factor(phis: ArrayLike, ndim: int) -> FloatArray:
    r"""``|phi_k|^2 / V`` on the half grid of `numpy.fft.rfftn`; its mean is the propagator G(k).

    Parameters
    ----------
    phis : ndarray, shape (..., *lattice)
        Configurations.
    ndim : int
        Lattice axes, counted from the end.

    Returns
    -------
    ndarray, shape (..., L_1, ..., L_d // 2 + 1), float64

    Raises
    ------
    UserError
        If `phis` has no axis in front of the lattice.
    """
    fields: FloatArray = real_array(phis, "phis")
    axes = _lattice_axes(fields, ndim)
    modes = np.fft.rfftn(fields, axes=axes)
    return (modes.real**2 + modes.imag**2) / math.prod(fields.shape[a] for a in axes)


def momentum_susceptibility(phis: ArrayLike, momentum: int | Iterable[int]) -> FloatArray:
    r"""``|phi_k|^2 / V`` at one momentum ``k_mu = 2 pi n_mu / L_mu``, without a Fourier transform of all modes.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice)
    momentum : sequence of int
        The mode numbers n, one per lattice axis; all zero gives ``V m^2``.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        If the mode numbers do not fit the lattice.
    """
    fields: FloatArray = real_array(phis, "phis")
    shape = fields.shape[1:]
    waves = _plane_waves(shape, _mode_numbers(momentum, shape))
    flat = fields.reshape(len(fields), -1)
    # einsum, not a matrix product: BLAS may sum in another order when the batch is cut differently
    total: Any = sum(np.einsum("ij,j->i", flat, wave) ** 2 for wave in waves)
    return total / flat.shape[1]


@lru_cache(maxsize=64)
def _plane_waves(shape: Shape, numbers: tuple[int, ...]) -> tuple[FloatArray, ...]:
    """cos(k x) and sin(k x) at every site, flattened; the sine only where it does not vanish."""
    # 2 pi x_mu / L_mu has the same layout as the momenta 2 pi n_mu / L_mu
    phase: Any = (sum(n * k for n, k in zip(numbers, momenta(shape), strict=True)) + np.zeros(shape)).ravel()
    real_mode = all(2 * n % extent == 0 for n, extent in zip(numbers, shape, strict=True))
    return (np.cos(phase),) if real_mode else (np.cos(phase), np.sin(phase))


def time_slices(phis: ArrayLike, momentum: int | Iterable[int] | None = None, axis: int = 0) -> NDArray[Any]:
    r"""Field projected on a spatial momentum, slice by slice, ``sum_x exp(-i p x) phi(t, x)``.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice)
    momentum : sequence of int, optional
        Mode numbers of the spatial momentum p, one per remaining axis; zero by default.
    axis : int
        The lattice axis that is time.

    Returns
    -------
    ndarray, shape (n_cfg, L_t)
        float64 at zero momentum, complex128 otherwise.

    Raises
    ------
    UserError
        If `axis` is no lattice axis, or the mode numbers do not fit the lattice.
    """
    fields: FloatArray = real_array(phis, "phis")
    if fields.ndim < 2 or not -(fields.ndim - 1) <= axis < fields.ndim - 1:
        raise UserError(f"time axis is {axis} for phis of shape {fields.shape}; expected a lattice axis, 0 to d - 1")
    fields = np.moveaxis(fields, axis + 1 if axis >= 0 else axis, 1)
    space = fields.shape[2:]
    spatial_axes = tuple(range(2, fields.ndim))
    numbers = _mode_numbers((0,) * len(space) if momentum is None else momentum, space)
    if not any(numbers):
        return fields.sum(axis=spatial_axes)
    phase: Any = sum(n * k for n, k in zip(numbers, momenta(space), strict=True))  # as in _plane_waves
    return (fields * np.exp(-1j * phase)).sum(axis=spatial_axes)


def timeslice_correlator(phis: ArrayLike, momentum: int | Iterable[int] | None = None, axis: int = 0) -> FloatArray:
    r"""``C(t; p) = V^-1 sum_t0 Re conj(phi_t0(p)) phi_{t0+t}(p)`` of each configuration.

    Averaged over all sources t0 and both directions, hence even: ``C(t) = C(L_t - t)``.

    Parameters
    ----------
    phis, momentum, axis
        As in `time_slices`.

    Returns
    -------
    ndarray, shape (n_cfg, L_t // 2 + 1), float64
        Separations t = 0 .. L_t // 2.
    """
    slices = time_slices(phis, momentum, axis)
    length = slices.shape[1]
    power = np.abs(np.fft.fft(slices, axis=1)) ** 2
    correlator = np.fft.ifft(power, axis=1).real / math.prod(np.shape(phis)[1:])
    # complex slices give a correlator with an odd imaginary part; the real part is even already
    return correlator[:, : length // 2 + 1]
