r"""Philox4x32-10 and Box-Muller normals as pure functions of (key, chain, update, index).

Counter-based: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
The counter is (index, chain, low update, high update), the key the first 64-bit word of
`Streams.key`; what is drawn depends on neither threads, nor batch, nor block cuts.

Every function is written so that a loop over the index vectorises: 32-bit words live in 64-bit
lanes (one `vpmuludq` per product), logarithm and sine are short series instead of library calls. No process draws
from machine code that has not been compared with the definition (`verified`).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from ..types import FloatArray
from .compile import cached, inlined
from .verified import require_generator

__all__ = ["fill_normals", "fill_pairs", "fill_uniforms", "minus_two_log", "philox", "uniform"]

Words = tuple[np.uint64, np.uint64, np.uint64, np.uint64]  #: 32-bit words in 64-bit numbers

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL0 = tuple(np.uint64(i * 0x9E3779B9) for i in range(10))  # what round i adds to the key, mod 2^32
_WEYL1 = tuple(np.uint64(i * 0xBB67AE85) for i in range(10))
_LOW = np.uint64(0xFFFFFFFF)
_S32, _S12, _S52 = np.uint64(32), np.uint64(12), np.uint64(52)
_ONE_BITS = np.uint64(0x3FF0000000000000)  # 1.0
_ROOT2_BITS = np.uint64(0x3FF6A09E667F3BCD)  # sqrt(2)
_U0, _U1, _U2, _U4 = np.uint64(0), np.uint64(1), np.uint64(2), np.uint64(4)
_S63 = np.uint64(63)
_RADIUS = np.uint64(0xFFFFFFFFFF000000)  # upper 40 bits
_HALF_RADIUS = np.uint64(0x800000)  # the middle of a cell, so that u never reaches 0 or 1
_ANGLE, _HALF_ANGLE = np.uint64(0xFFFFF8), np.uint64(1 << 42)
_S40 = np.uint64(40)
_LN2 = float(np.log(2))
_QUARTER_PI = float(np.pi / 4)

# Interpolation at Chebyshev nodes in q = s^2 or x^2 of 2 artanh(s)/s, sin(x)/x and cos(x);
# relative errors 2e-16, 5e-15 and 1e-16
_L0, _L1, _L2 = 2.0000000000000004, 0.6666666666655292, 0.40000000061741614
_L3, _L4, _L5, _L6 = 0.2857141602110767, 0.22223434547517906, 0.18121934431215214, 0.16837659970680488
_S0, _S1, _S2 = 0.9999999999999957, -0.16666666666616686, 0.00833333332387815
_S3, _S4, _S5 = -0.0001984126329839051, 2.7555271893389817e-06, -2.475655877198039e-08
_C0, _C1, _C2, _C3 = 1.0, -0.4999999999999925, 0.041666666666472306, -0.0013888888869978658
_C4, _C5, _C6 = 2.4801578538562985e-05, -2.755523388484742e-07, 2.0630454379662294e-09


@intrinsic
def _as_float(typingctx: Any, bits: Any) -> tuple[Any, Callable[..., Any]]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.float64))

    return types.float64(types.uint64), codegen


@intrinsic
def _as_bits(typingctx: Any, value: Any) -> tuple[Any, Callable[..., Any]]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(types.uint64))

    return types.uint64(types.float64), codegen


@inlined
def _round(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64) -> Words:
    p0 = _M0 * c0
    p1 = _M1 * c2
    return (p1 >> _S32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _S32) ^ c3 ^ k1, p0 & _LOW


@inlined
def _ten_rounds(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64) -> Words:
    # written out: LLVM does not vectorise a loop around a loop that it has not unrolled yet
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[1]) & _LOW, (k1 + _WEYL1[1]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[2]) & _LOW, (k1 + _WEYL1[2]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[3]) & _LOW, (k1 + _WEYL1[3]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[4]) & _LOW, (k1 + _WEYL1[4]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[5]) & _LOW, (k1 + _WEYL1[5]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[6]) & _LOW, (k1 + _WEYL1[6]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[7]) & _LOW, (k1 + _WEYL1[7]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[8]) & _LOW, (k1 + _WEYL1[8]) & _LOW)
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, (k0 + _WEYL0[9]) & _LOW, (k1 + _WEYL1[9]) & _LOW)
    return c0, c1, c2, c3


@cached
def philox(c0: np.uint64, c1: np.uint64, c2: np.uint64, c3: np.uint64, k0: np.uint64, k1: np.uint64) -> Words:
    """Ten rounds of Philox4x32; six 32-bit words in, four out, all uint64."""
    return _ten_rounds(c0, c1, c2, c3, k0, k1)


@inlined
def _unit(word: np.uint64) -> float:
    """The upper 52 bits as a double in (0, 1]."""
    return 2.0 - _as_float((word >> _S12) | _ONE_BITS)  # type: ignore[call-arg]  # Numba gives the context itself


@inlined
def minus_two_log(u: float) -> float:
    """-2 log(u) for a double 0 < u <= 1, to 1e-15: u = m 2^-e, log m = 2 artanh((m-1)/(m+1))."""
    bits = _as_bits(u)  # type: ignore[call-arg, var-annotated]  # Numba gives the context itself
    e = (_ROOT2_BITS - bits) >> _S52
    m = _as_float(bits + (e << _S52))
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    series = _L0 + q * (_L1 + q * (_L2 + q * (_L3 + q * (_L4 + q * (_L5 + q * _L6)))))
    return 2.0 * (np.float64(np.int32(e)) * _LN2 - s * series)


@inlined
def _normal_pair(high: np.uint64, low: np.uint64) -> tuple[float, float]:
    """Two standard normals from 64 random bits (Box and Muller 1958).

    40 bits make the radius, so |z| reaches 7.4 (a tail of 1e-13 is missing). 21 bits make the
    angle in the first octant and three choose the octant: 2^24 directions, whose moments up to
    that order are those of the circle.
    """
    word = (high << _S32) | low
    radius = math.sqrt(minus_two_log(_unit((word & _RADIUS) | _HALF_RADIUS)))
    x = _QUARTER_PI * _unit(((word & _ANGLE) << _S40) | _HALF_ANGLE)
    q = x * x
    sine = x * (_S0 + q * (_S1 + q * (_S2 + q * (_S3 + q * (_S4 + q * _S5)))))
    cosine = _C0 + q * (_C1 + q * (_C2 + q * (_C3 + q * (_C4 + q * (_C5 + q * _C6)))))
    swap = word & _U1 == _U0
    a = radius * (sine if swap else cosine)
    b = radius * (cosine if swap else sine)
    a = _as_float(_as_bits(a) ^ ((word >> _U1) << _S63))  # type: ignore[call-arg]  # Numba gives the context itself
    b = _as_float(_as_bits(b) ^ ((word >> _U2) << _S63))
    return a, b


@cached
def uniform(key: np.uint64, index: np.uint64, chain: np.uint64, update: np.uint64) -> float:
    """One uniform double in (0, 1]."""
    w0, w1, _, _ = _ten_rounds(index & _LOW, chain & _LOW, update & _LOW, update >> _S32, key & _LOW, key >> _S32)
    return _unit((w0 << _S32) | w1)


@cached
def fill_pairs(first: FloatArray, second: FloatArray, key: np.uint64, chain: np.uint64, update: np.uint64) -> None:
    """Two arrays of uniform doubles in (0, 1]; block i gives element i of both."""
    k0, k1 = key & _LOW, key >> _S32
    c2, c3 = update & _LOW, update >> _S32
    for i in range(np.uint64(second.size)):
        w0, w1, w2, w3 = _ten_rounds(i, chain, c2, c3, k0, k1)
        first[i] = _unit((w0 << _S32) | w1)
        second[i] = _unit((w2 << _S32) | w3)
    for i in range(np.uint64(second.size), np.uint64(first.size)):  # at most one more
        w0, w1, _, _ = _ten_rounds(i, chain, c2, c3, k0, k1)
        first[i] = _unit((w0 << _S32) | w1)


@cached
def fill_uniforms(out: FloatArray, key: np.uint64, chain: np.uint64, update: np.uint64) -> None:
    """Uniform doubles in (0, 1]; block i gives elements i and ``ceil(len(out) / 2) + i``."""
    half = (np.uint64(out.size) + _U1) >> _U1
    fill_pairs(out[:half], out[half:], key, chain, update)


@cached
def fill_normals(out: FloatArray, key: np.uint64, chain: np.uint64, lanes: np.uint64, update: np.uint64) -> None:
    """Standard normals for `lanes` consecutive chains, lane innermost.

    With ``quarter = n_sites / 4``, block s of a chain gives its sites s, s + quarter, s + 2 quarter
    and s + 3 quarter: four plain streams of stores.

    Parameters
    ----------
    out : ndarray, shape (n_sites * lanes,), float64
        Filled; element ``s * lanes + l`` belongs to site s of chain ``chain + l``. n_sites must be
        a multiple of four; a caller with fewer sites leaves the rest unused.
    key : uint64
    chain : uint64
        Chain number of lane 0.
    lanes : uint64
        1 or 4.
    update : uint64
    """
    quarter = np.uint64(out.size) >> _U2
    shift = _U2 if lanes == _U4 else _U0
    mask = lanes - _U1
    k0, k1 = key & _LOW, key >> _S32
    c2, c3 = update & _LOW, update >> _S32
    second = quarter + quarter
    third = second + quarter
    for i in range(quarter):
        w0, w1, w2, w3 = _ten_rounds(i >> shift, chain + (i & mask), c2, c3, k0, k1)
        a, b = _normal_pair(w0, w1)
        c, d = _normal_pair(w2, w3)
        out[i] = a
        out[quarter + i] = b
        out[second + i] = c
        out[third + i] = d


require_generator(fill_normals, uniform)
