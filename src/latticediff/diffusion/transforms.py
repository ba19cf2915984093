"""Between sites and the real Fourier basis on the CPU: fields (n, V), float64, the same bits in any company.

Several configurations at a time, one in each lane of `latticediff._kernels.site_transform`.
"""

import numpy as np

from .._kernels.folded import tables
from .._kernels.rows import n_groups
from .._kernels.site_transform import transform
from .._kernels.threads import over_groups
from ..fourier import oblique_pairs
from ..types import Extents, FloatArray

__all__ = ["SiteTransform", "pack", "unpack"]

COST = 10  # of a transform of a site, in plain site updates; decides whether threads pay


def pack(x: FloatArray, lanes: int) -> FloatArray:
    """(n, V) -> (n_groups, V * lanes), the last group filled up with zeros."""
    groups = -(-len(x) // lanes)
    packed = np.zeros((groups, lanes, x.shape[1]))
    packed.reshape(-1, x.shape[1])[: len(x)] = x
    return np.ascontiguousarray(packed.swapaxes(1, 2)).reshape(groups, -1)


def unpack(packed: FloatArray, n: int, lanes: int) -> FloatArray:
    """The inverse of `pack` for n configurations."""
    x = packed.reshape(len(packed), -1, lanes).swapaxes(1, 2).reshape(len(packed) * lanes, -1)
    return np.ascontiguousarray(x[:n])


class SiteTransform:
    """The transform of one lattice.

    Parameters
    ----------
    shape : tuple of int
    oblique : bool
        Whether the lattice is one; see `latticediff.fourier`.
    """

    def __init__(self, shape: Extents, oblique: bool = False) -> None:
        self.pairs = oblique_pairs(shape, oblique)
        self.extents = np.array(shape, np.int64)
        sizes, order, self.forth, self.back = tables(tuple(shape), np.float64)
        self._axes = self.extents, sizes, order, np.arange(max(shape)), self.pairs

    def to_sites(self, x: FloatArray) -> FloatArray:
        """Values on sites, (n, V), of coefficients (n, V)."""
        return self._apply(x, self.back, True)

    def from_sites(self, x: FloatArray) -> FloatArray:
        """Coefficients (n, V) of values on sites; the inverse of `to_sites`."""
        return self._apply(x, self.forth, False)

    def _apply(self, x: FloatArray, blocks: FloatArray, to_sites: bool) -> FloatArray:
        rows = np.ascontiguousarray(x)
        out = np.empty_like(rows)
        over_groups(transform, n_groups(len(rows)), COST * rows.size, rows, out, *self._axes, blocks, to_sites)
        return out
