r"""Numba-callable local potentials: ``value(phi, params)`` and ``derivative(phi, params)``, one site.

The same signature serves a user's own potential; `params` is a float64 array.
"""

import math
from collections.abc import Sequence

import numba

__all__ = [
    "phi4_derivative",
    "phi4_value",
    "polynomial_derivative",
    "polynomial_value",
    "sine_gordon_derivative",
    "sine_gordon_value",
]

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


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def polynomial_value(phi: float, params: Sequence[float]) -> float:
    """``V = sum_n a_n phi^n`` with ``params = (a_1, a_2, ...)``, after Horner."""
    n = len(params)
    total = params[n - 1]
    for i in range(1, n):
        total = total * phi + params[n - 1 - i]
    return total * phi


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def polynomial_derivative(phi: float, params: Sequence[float]) -> float:
    """``V' = sum_n n a_n phi^(n-1)`` with ``params = (a_1, a_2, ...)``, after Horner."""
    n = len(params)
    total = n * params[n - 1]
    for i in range(1, n):
        total = total * phi + (n - i) * params[n - 1 - i]
    return total


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def sine_gordon_value(phi: float, params: Sequence[float]) -> float:
    """``V = a phi^2 - u cos(beta phi + theta)`` with ``params = (a, u, beta, theta)``."""
    return params[0] * phi * phi - params[1] * math.cos(params[2] * phi + params[3])


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def sine_gordon_derivative(phi: float, params: Sequence[float]) -> float:
    """``V' = 2 a phi + u beta sin(beta phi + theta)`` with ``params = (a, u, beta, theta)``."""
    return 2.0 * params[0] * phi + params[1] * params[2] * math.sin(params[2] * phi + params[3])
