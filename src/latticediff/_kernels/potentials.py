r"""Numba-callable local potentials: ``value(phi, params)`` and ``derivative(phi, params)``, one site.

The same signature serves a user's own potential; `params` is a float64 array.
"""

import math
from collections.abc import Sequence

import numba

__all__ = [
    "cosine",
    "phi4_derivative",
    "phi4_value",
    "polynomial_derivative",
    "polynomial_value",
    "radial_phi4_derivative",
    "radial_phi4_value",
    "sine",
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
def radial_phi4_value(square: float, params: Sequence[float]) -> float:
    """``V = a s + b s^2`` of ``s = phi . phi`` with ``params = (a, b)``."""
    return square * (params[0] + params[1] * square)


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def radial_phi4_derivative(square: float, params: Sequence[float]) -> float:
    """``2 dV/ds = 2 a + 4 b s`` with ``params = (a, b)``: its product with phi_i is dV/dphi_i."""
    return 2.0 * params[0] + 4.0 * params[1] * square


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


_PI, _PI_REST = 3.141592653589793, 1.2246467991473532e-16  # their sum is pi to 32 digits
_NEAREST = 6755399441055744.0  # 1.5 2^52: added and taken away again, it leaves the nearest integer
# of sin r: (-1)^k / (2k + 1)!, the last one below rounding for |r| <= pi / 2
_S1, _S2, _S3, _S4, _S5, _S6, _S7, _S8, _S9, _S10 = ((-1.0) ** k / math.factorial(2 * k + 1) for k in range(1, 11))


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def _half_wave(n: float, r: float) -> float:
    """``(-1)^n sin r`` for |r| <= pi/2, without branches, so that loops over sites vectorise.

    Fields so large that n is no integer any more are on their way to a rejection; r is cut for them, and the result
    stays bounded.
    """
    r = min(max(r, -2.0), 2.0)
    x = r * r
    wave = _S10
    wave = wave * x + _S9
    wave = wave * x + _S8
    wave = wave * x + _S7
    wave = wave * x + _S6
    wave = wave * x + _S5
    wave = wave * x + _S4
    wave = wave * x + _S3
    wave = wave * x + _S2
    wave = wave * x + _S1
    is_odd = abs(n - 2.0 * ((0.5 * n + _NEAREST) - _NEAREST))
    return (1.0 - 2.0 * is_odd) * (r + r * x * wave)


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def sine(x: float) -> float:
    """``sin x`` to a few units in the last place of max(1, |x|)."""
    n = (x / _PI + _NEAREST) - _NEAREST
    return _half_wave(n, (x - n * _PI) - n * _PI_REST)


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def cosine(x: float) -> float:
    """``cos x`` to a few units in the last place of max(1, |x|)."""
    n = (x / _PI - 0.5 + _NEAREST) - _NEAREST
    shifted = n + 0.5
    return -_half_wave(n, (x - shifted * _PI) - shifted * _PI_REST)


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def sine_gordon_value(phi: float, params: Sequence[float]) -> float:
    """``V = a phi^2 - u cos(beta phi + theta)`` with ``params = (a, u, beta, theta)``."""
    return params[0] * phi * phi - params[1] * cosine(params[2] * phi + params[3])


@numba.njit(fastmath=_FLAGS, error_model="numpy")
def sine_gordon_derivative(phi: float, params: Sequence[float]) -> float:
    """``V' = 2 a phi + u beta sin(beta phi + theta)`` with ``params = (a, u, beta, theta)``."""
    return 2.0 * params[0] * phi + params[1] * params[2] * sine(params[2] * phi + params[3])
