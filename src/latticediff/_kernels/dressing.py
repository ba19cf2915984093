r"""The exponential of ``K g K`` applied to fields: one filter and one product a term.

.. math:: e^{\frac s2 K g K} z = z + K \sum_{j \ge 1} w_j, \qquad w_1 = \tfrac s2\, g \circ K z, \quad
          w_j = \tfrac{s}{2 j}\, g \circ K^2 w_{j - 1},

K diagonal in momentum, g on sites. `LANES` configurations lie innermost, so that every loop is a plain one over
contiguous numbers whatever the lattice. float64.
"""

import numpy as np

from ..types import FloatArray, IntArray
from .compile import cached, jit
from .oblique import exchange_double

__all__ = ["LANES", "dress"]

LANES = 8


def _rotate(
    source: FloatArray,
    target: FloatArray,
    other: FloatArray,
    bases: FloatArray,
    pairs: IntArray,
    to_sites: bool,
    extents: IntArray,
) -> int:
    """Multiply every axis by its matrix; the result is in `target`, `source` is overwritten."""
    if to_sites:
        exchange_double(pairs, LANES, source)
    n_axes = len(extents)
    size = source.size
    before, here, there = 1, source, other
    for axis in range(n_axes):
        if axis == n_axes - 1:
            there = target
        extent = extents[axis]
        after = size // (before * extent)
        for p in range(before):
            for i in range(extent):
                row = (p * extent + i) * after
                for q in range(after):
                    there[row + q] = 0.0
                for j in range(extent):
                    m = bases[axis, i, j]
                    column = (p * extent + j) * after
                    for q in range(after):
                        there[row + q] += m * here[column + q]
        before *= extent
        here, there = there, here
    if not to_sites:
        exchange_double(pairs, LANES, target)
    return 0


_rotate = jit(_rotate)


@cached
def dress(
    begin: int,
    end: int,
    modes: FloatArray,
    g: FloatArray,
    K: FloatArray,
    n_terms: int,
    sign: int,
    out: FloatArray,
    bases: FloatArray,
    transposes: FloatArray,
    pairs: IntArray,
    extents: IntArray,
) -> None:
    """``exp(sign / 2 K g K)`` of groups begin .. end-1; `modes` and `out` in the Fourier basis, `g` on sites."""
    size = modes.shape[1]
    total, w, sites, other = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    for i in range(begin, end):
        for x in range(size):
            w[x] = K[x] * modes[i, x]
            total[x] = 0.0
        for j in range(n_terms):
            if j > 0:
                _rotate(sites, w, other, bases, pairs, False, extents)
                for x in range(size):
                    w[x] *= K[x] * K[x]
            _rotate(w, sites, other, transposes, pairs, True, extents)
            factor = 0.5 * sign / (j + 1)
            for x in range(size):
                sites[x] *= factor * g[i, x]
                total[x] += sites[x]
        _rotate(total, w, other, bases, pairs, False, extents)
        for x in range(size):
            out[i, x] = modes[i, x] + K[x] * w[x]
