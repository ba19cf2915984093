"""Between sites and the real Fourier basis on the CPU: fields (n, V), float64, the same bits in any company.

Several configurations at a time, one in each lane of `latticediff._kernels.dressing`.
"""

import numpy as np

from .._kernels.dressing import LANES, transform
from .._kernels.threads import over_groups
from ..fourier import oblique_pairs, real_fourier
from ..types import Extents, FloatArray

__all__ = ["SiteTransform", "pack", "unpack"]

COST = 10  # of a transform of a site, in plain site updates; decides whether threads pay


def pack(x: FloatArray) -> FloatArray:
    """(n, V) -> (n_groups, V * LANES), the last group filled up with zeros."""
    groups = -(-len(x) // LANES)
    packed = np.zeros((groups, LANES, x.shape[1]))
    packed.reshape(-1, x.shape[1])[: len(x)] = x
    return np.ascontiguousarray(packed.swapaxes(1, 2)).reshape(groups, -1)


def unpack(packed: FloatArray, n: int) -> FloatArray:
    """The inverse of `pack` for n configurations."""
    x = packed.reshape(len(packed), -1, LANES).swapaxes(1, 2).reshape(len(packed) * LANES, -1)
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
        largest = max(shape)
        self.pairs = oblique_pairs(shape, oblique)
        self.bases = np.zeros((len(shape), largest, largest))
        for axis, extent in enumerate(shape):
            self.bases[axis, :extent, :extent] = real_fourier(extent)
        self.transposes = np.ascontiguousarray(self.bases.transpose(0, 2, 1))
        self.extents = np.array(shape, np.int64)

    def to_sites(self, x: FloatArray) -> FloatArray:
        """Values on sites, (n, V), of coefficients (n, V)."""
        return self._apply(x, self.transposes, True)

    def from_sites(self, x: FloatArray) -> FloatArray:
        """Coefficients (n, V) of values on sites; the inverse of `to_sites`."""
        return self._apply(x, self.bases, False)

    def _apply(self, x: FloatArray, matrices: FloatArray, to_sites: bool) -> FloatArray:
        packed = pack(x)
        out = np.empty_like(packed)
        arguments = packed, out, matrices, self.pairs, to_sites, self.extents
        over_groups(transform, len(packed), COST * x.size, *arguments)
        return unpack(out, len(x))
