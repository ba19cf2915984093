"""Slow, obvious versions of what the compiled kernels do; the tests compare the two.

Site by site, plain Python: no vectorised shift, no halo, no series. Nothing else in the package
uses this room.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..types import FloatArray, Shape

if TYPE_CHECKING:
    from ..action import Action

__all__ = ["action", "force", "normals", "philox", "trajectory", "uniform", "uniforms"]

_MASK = 0xFFFFFFFF


def _sites(shape: Shape) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(extent) for extent in shape))


def _step(site: tuple[int, ...], axis: int, by: int, shape: Shape) -> tuple[int, ...]:
    moved = list(site)
    moved[axis] = (moved[axis] + by) % shape[axis]
    return tuple(moved)


def action(theory: Action, phi: FloatArray) -> float:
    """S of one configuration (*lattice): minus c times every forward product, plus the potential; float."""
    total = []
    for site in _sites(phi.shape):
        total.append(float(theory.potential(phi[site])))
        for axis in range(phi.ndim):
            total.append(-theory.hopping * phi[site] * phi[_step(site, axis, 1, phi.shape)])
    return math.fsum(total)


def force(theory: Action, phi: FloatArray) -> FloatArray:
    """-dS/dphi of one configuration, shape (*lattice), float64."""
    out = np.empty_like(phi)
    for site in _sites(phi.shape):
        near = sum(phi[_step(site, axis, by, phi.shape)] for axis in range(phi.ndim) for by in (1, -1))
        out[site] = theory.hopping * near - theory.potential_derivative(phi[site])
    return out


def trajectory(
    theory: Action,
    phi: FloatArray,
    momentum: FloatArray,
    kicks: Sequence[float] | FloatArray,
    drifts: Sequence[float] | FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Kicks and drifts in turn, for one configuration; returns the field and the momentum at the end."""
    for kick, drift in zip(kicks, drifts, strict=False):
        momentum = momentum + kick * force(theory, phi)
        phi = phi + drift * momentum
    return phi, momentum + kicks[-1] * force(theory, phi)


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox4x32-10 on Python integers: four 32-bit words from a counter of four and a key of two words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(second >> 32) ^ c[1] ^ k[0], second & _MASK, (first >> 32) ^ c[3] ^ k[1], first & _MASK]
        k = [(k[0] + 0x9E3779B9) & _MASK, (k[1] + 0xBB67AE85) & _MASK]
    return c


def _block(key: int, index: int, chain: int, update: int) -> list[int]:
    return philox((index, chain, update & _MASK, update >> 32), (key & _MASK, key >> 32))


def uniforms(key: int, index: int, chain: int, update: int) -> tuple[float, float]:
    """Two doubles in (0, 1] from the upper 52 bits of the first two words, and of the last two."""
    words = _block(key, index, chain, update)
    first, second = (1.0 - ((words[i] << 32 | words[i + 1]) >> 12) / 2**52 for i in (0, 2))
    return first, second


def uniform(key: int, index: int, chain: int, update: int) -> float:
    """The first of `uniforms`."""
    return uniforms(key, index, chain, update)[0]


def _pair(high: int, low: int) -> tuple[float, float]:
    word = high << 32 | low
    radius = math.sqrt(-2 * math.log(1 - ((word >> 24) + 0.5) / 2**40))
    angle = math.pi / 4 * (1 - ((word >> 3 & 0x1FFFFF) + 0.5) / 2**21)
    a, b = radius * math.cos(angle), radius * math.sin(angle)
    if not word & 1:
        a, b = b, a
    return (-a if word & 2 else a), (-b if word & 4 else b)


def normals(key: int, chain: int, update: int, n_sites: int) -> FloatArray:
    """The standard normals of one chain and update; `n_sites` a multiple of four."""
    quarter = n_sites // 4
    out = np.empty(n_sites)
    for s in range(quarter):
        words = _block(key, s, chain, update)
        out[s], out[s + quarter] = _pair(words[0], words[1])
        out[s + 2 * quarter], out[s + 3 * quarter] = _pair(words[2], words[3])
    return out
