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


def magnetization(phis: FloatArray, action: Action | None = None) -> FloatArray:
    r"""``m = V^-1 sum_x phi(x)``, signed; shape (n_cfg,).

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action, optional
        Not used; every observable takes one.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        `phis` has fewer than two axes.
    """
    return _flat(phis).mean(axis=1)


def phi_squared(phis: FloatArray, action: Action | None = None) -> FloatArray:
    """Mean square field, ``V^-1 sum_x phi(x)^2``.

    Parameters
    ----------
    phis : ndarray, shape (n_cfg, *lattice), float64
    action : Action, optional
        Not used; every observable takes one.

    Returns
    -------
    ndarray, shape (n_cfg,), float64

    Raises
    ------
    UserError
        `phis` has fewer than two axes.
    """
    flat = _flat(phis)
    return np.einsum("ij,ij->i", flat, flat) / flat.shape[1]


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

    That follows by partial integration of ``phi exp(-S)`` at each site. An ensemble with another mean is not in
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
        Not used.

    Returns
    -------
    ndarray, shape (n_cfg,), float64
    """
    shape = phis.shape[1:]
    longest = max(shape)
    axes = [axis for axis, extent in enumerate(shape) if extent == longest]
    modes = [[int(other == axis) for other in range(len(shape))] for axis in axes]
    total: Any = sum(momentum_susceptibility(phis, mode) for mode in modes)
    return total / len(axes)
