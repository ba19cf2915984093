r"""The free field in closed form: ``b = 0``, ``S = 1/2 sum_k K(k) |phi_k|^2 / V``.

With :math:`K(k) = 2a - 2c \sum_\mu \cos k_\mu` the propagator is 1/K and
:math:`\log Z = \tfrac12 \sum_k \log(2\pi / K(k))`. Every sampler of the package is tested against it.

Computed as :math:`K(k) = 2(a - d|c|) + |c| \sum_\mu 4 \sin^2(k_\mu / 2)`, a sum of positive terms (cosines for sines if
c < 0): the difference 2a - 2dc would lose the digits of a small mass.
"""

from typing import Any

import numpy as np

from ..errors import UserError
from ..lattice import check_shape, momenta
from ..types import Extents, FloatArray
from .phi4 import Phi4

__all__ = ["free_log_z", "free_propagator"]


def free_propagator(action: Phi4, shape: Extents, half: bool = False) -> FloatArray:
    r"""``<|phi_k|^2> / V = 1 / (2a - 2c sum_mu cos k_mu)``.

    Parameters
    ----------
    action : Phi4
        With b = 0.
    shape : sequence of int
        Lattice extents.
    half : bool
        On the half grid of `numpy.fft.rfftn` instead of the full one.

    Returns
    -------
    ndarray, float64
        On the momentum grid, in units of phi^2.

    Raises
    ------
    UserError
        If the action has a quartic term or a mode without restoring force.
    """
    if action.b != 0:
        raise UserError(f"{action!r} is interacting; the closed form needs lam = 0")
    shape = check_shape(shape, action.ndim)
    wave = np.sin if action.hopping >= 0 else np.cos
    waves: Any = sum(4 * wave(k / 2) ** 2 for k in momenta(shape, half))
    inverse = 2 * action.gap + abs(action.hopping) * waves
    if not np.all(inverse > 0):
        raise UserError(f"smallest inverse propagator is {inverse.min():g}; the free field needs it positive")
    return 1 / inverse


def free_log_z(action: Phi4, shape: Extents) -> float:
    r"""``log Z = 1/2 sum_k log(2 pi G(k))``, Z the integral of exp(-S) over all sites.

    Parameters
    ----------
    action : Phi4
        With b = 0.
    shape : sequence of int
        Lattice extents.

    Returns
    -------
    float

    Raises
    ------
    UserError
        As `free_propagator`.
    """
    return float(0.5 * np.log(2 * np.pi * free_propagator(action, shape)).sum())
