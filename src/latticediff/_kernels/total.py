"""S of many configurations of a nearest-neighbour theory, for who wants it often: a template, as in `layout`."""

import functools
from typing import Any

import numpy as np

from ..types import FloatArray, IntArray
from .compile import SUMS, potential_name, specialise
from .potentials import phi4_value as value

__all__ = ["build"]


def totals(
    begin: int, end: int, phi: FloatArray, forward: IntArray, params: tuple[float, ...], hopping: float, out: FloatArray
) -> None:
    """S of configurations begin .. end-1 of phi (n, rows, extent); `forward` (ndim - 1, rows) the next row of each."""
    rows, last = phi.shape[1], phi.shape[2] - 1
    around = np.empty(last + 1)
    for c in range(begin, end):
        total = 0.0
        for r in range(rows):
            row = phi[c, r]
            for x in range(last):
                around[x] = row[x + 1]
            around[last] = row[0]
            for mu in range(forward.shape[0]):
                other = phi[c, forward[mu, r]]
                for x in range(last + 1):
                    around[x] += other[x]
            for x in range(last + 1):
                total += value(row[x], params) - hopping * row[x] * around[x]
        out[c] = total


@functools.cache
def build(potential: Any, slope: Any) -> Any:
    """`totals` compiled for one potential, which `slope` belongs to; built-in ones are cached."""
    return specialise(totals, {"value": potential}, potential_name(potential, slope), flags=SUMS)
