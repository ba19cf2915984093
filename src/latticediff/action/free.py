r"""The free field in closed form: ``b = 0``, ``S = 1/2 sum_k K(k) |phi_k|^2 / V``.

With :math:`K(k) = 2a - 2c \sum_\mu \cos k_\mu` the propagator is 1/K and
:math:`\log Z = \tfrac12 \sum_k \log(2\pi / K(k))`. Every sampler of the package is tested against it.
"""

import numpy as np

from ..errors import UserError
from ..lattice import check_shape, cos_sum

__all__ = ["free_log_z", "free_propagator"]


def free_propagator(action, shape, half=False):
    r"""``<|phi_k|^2> / V = 1 / (2a - 2c sum_mu cos k_mu)`` on the (half) momentum grid.

    Raises
    ------
    UserError
        If the action has a quartic term or a mode without restoring force.
    """
    if action.b != 0:
        raise UserError(f"{action!r} is interacting; the closed form needs lam = 0")
    shape = check_shape(shape, action.ndim)
    inverse = 2 * action.a - 2 * action.hopping * cos_sum(shape, half)
    if not np.all(inverse > 0):
        raise UserError(f"smallest inverse propagator is {inverse.min():g}; the free field needs it positive")
    return 1 / inverse


def free_log_z(action, shape):
    r"""``log Z = 1/2 sum_k log(2 pi G(k))``, Z the integral of exp(-S) over all sites."""
    return float(0.5 * np.log(2 * np.pi * free_propagator(action, shape)).sum())
