"""Observables of one field: functions of batches (n, *lattice) that return n numbers."""

from typing import Any

import numpy as np

from ..action import Action
from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray
from .momentum import momentum_susceptibility

__all__ = ["magnetization", "phi_squared", "propagator_k_min", "schwinger_dyson", "total_action"]


def _flat(phis: FloatArray) -> FloatArray:
    phis = real_array(phis, "phis")
    if phis.ndim < 2:
        raise UserError(f"phis has shape {phis.shape}; expected (n_cfg, *lattice)")
    return phis.reshape(len(phis), -1)


def _components(phis: FloatArray, action: Action | None) -> int | None:
    """N of fields (n_cfg, N, *lattice); None of a theory whose fields are (n_cfg, *lattice)."""
    if not hasattr(action, "components"):
        return None
    action.check_components(np.shape(phis)[1:])  # type: ignore[union-attr]  # it has components
    found: int = action.components  # type: ignore[union-attr]
    return found


def magnetization(phis: FloatArray, action: Action | None = None) -> FloatArray:
    r"""``m = V^-1 sum_x phi(x)``, signed; of several components the length of that vector; shape (n_cfg,).

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice) or (n_cfg, N, *lattice), float64
    action : Action, optional
        Says whether fields have components.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        `phis` has fewer than two axes.
    """
    n = _components(phis, action)
    if n is None or n == 1:
        return _flat(phis).mean(axis=1)
    vector = _flat(phis).reshape(len(phis), n, -1).mean(axis=2)
    return np.sqrt(np.einsum("ij,ij->i", vector, vector))


def phi_squared(phis: FloatArray, action: Action | None = None) -> FloatArray:
    """Mean square field, ``V^-1 sum_x phi(x)^2``, the square of the length where fields have components.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action, optional
        Says whether fields have components.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        `phis` has fewer than two axes.
    """
    flat = _flat(phis)
    return np.einsum("ij,ij->i", flat, flat) / (flat.shape[1] // (_components(phis, action) or 1))


def total_action(phis: FloatArray, action: Action) -> FloatArray:
    """The action ``S(phi)`` of each configuration, not divided by the volume.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action

    Returns
    -------
    ndarray, shape (n_cfg,), float64
    """
    return action(phis)


def schwinger_dyson(phis: FloatArray, action: Action) -> FloatArray:
    """Response of the action to a rescaled field, ``V^-1 sum_x phi dS/dphi``; its mean is exactly 1.

    That follows by partial integration of ``phi exp(-S)`` at each site; of N components it is the mean over them,
    ``(N V)^-1 sum_x phi . dS/dphi``. An ensemble with another mean is not in
    equilibrium, or not of this action.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action
        Its force is ``-dS/dphi``.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        `phis` has fewer than two axes.
    """
    flat = _flat(phis)
    return -np.einsum("ij,ij->i", flat, action.force(phis).reshape(flat.shape)) / flat.shape[1]


def propagator_k_min(phis: FloatArray, action: Action | None = None) -> FloatArray:
    r"""``|phi_k|^2 / V`` at the smallest momentum, ``k = 2 pi / L``, averaged over the axes of the longest extent.

    With `m2` it gives the second-moment correlation length; see `xi_second_moment`.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action, optional
        Says whether fields have components, over which ``|phi_k|^2`` is summed.

    Returns
    -------
    ndarray, shape (n_cfg,), float64
    """
    if (n := _components(phis, action)) is not None:
        parts = propagator_k_min(phis.reshape(-1, *phis.shape[2:]))
        return np.einsum("ij->i", parts.reshape(len(phis), n))
    shape = phis.shape[1:]
    longest = max(shape)
    axes = [axis for axis, extent in enumerate(shape) if extent == longest]
    modes = [[int(other == axis) for other in range(len(shape))] for axis in axes]
    total: Any = sum(momentum_susceptibility(phis, mode) for mode in modes)
    return total / len(axes)
