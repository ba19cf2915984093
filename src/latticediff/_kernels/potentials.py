r"""Numba-callable local potentials: ``value(phi, params)`` and ``derivative(phi, params)``, one site.

The same signature serves a user's own potential; `params` is a float64 array.
"""

from collections.abc import Sequence

import numba

__all__ = ["phi4_derivative", "phi4_value"]

_FLAGS = {"contract"}  # as in `compile.FLAGS`, which imports this module


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def phi4_value(phi: float, params: Sequence[float]) -> float:
    """``V = a phi^2 + b phi^4`` with ``params = (a, b)``."""
    square = phi * phi
    return square * (params[0] + params[1] * square)


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def phi4_derivative(phi: float, params: Sequence[float]) -> float:
    """``V' = 2 a phi + 4 b phi^3`` with ``params = (a, b)``."""
    return phi * (2.0 * params[0] + 4.0 * params[1] * (phi * phi))
