"""Fields of the reverse SDE on the CPU: `CompiledModes`, and the way between modes and sites.

The reverse steps with local variances (`latticediff.diffusion.steps`) need products on sites; these run in
`latticediff._kernels.dressing`, with the same bits for any batch and any number of threads.
"""

import numpy as np

from .._kernels.dressing import LANES, dress, transform
from .._kernels.threads import over_groups
from ..fourier import real_fourier

__all__ = ["CompiledSites"]

COST = 50  # of one dressing, in plain site updates; decides whether threads pay


class CompiledSites:
    """Scores from a compiled network; fields are (n, V) in the real Fourier basis, float64.

    Parameters
    ----------
    modes : object
        ``score(x, i)`` for fields (n, V) in the basis, and ``G``; see `latticediff.diffusion.compiled.CompiledModes`.
    shape : tuple of int
    """

    def __init__(self, modes, shape):
        self.score, self.G, self.vacua = modes.score, modes.G, modes.vacua
        self.shape, self.volume = tuple(shape), int(np.prod(shape))
        largest = max(shape)
        self.bases = np.zeros((len(shape), largest, largest))
        for axis, extent in enumerate(shape):
            self.bases[axis, :extent, :extent] = real_fourier(extent)
        self.transposes = np.ascontiguousarray(self.bases.transpose(0, 2, 1))
        self.extents = np.array(shape, np.int64)

    def multiply(self, x, multiplier):
        """Filter a field: in this basis a plain product."""
        return x * multiplier

    def total(self, x):
        """Sum over the lattice, (n,)."""
        return x.sum(axis=1)

    def to_sites(self, x):
        """Values on sites, (n, V)."""
        return self._transform(x, self.transposes)

    def from_sites(self, x):
        """The reverse of `to_sites`."""
        return self._transform(x, self.bases)

    white_to_sites, white_from_sites = to_sites, from_sites

    def to_modes(self, x):
        """Coefficients in the real Fourier basis: this is the layout."""
        return x

    def array(self, values):
        """NumPy values (..., V) in the layout of this class; white noise is white in both."""
        return values

    def dress(self, x, g, K, n_terms, sign):
        """``exp(sign / 2 K g K) x`` by its series; g on sites (n, V), K(k) (V,)."""
        packed, g = self._pack(x), self._pack(g)
        out = np.empty_like(packed)
        lanes = np.repeat(K, LANES)
        work = COST * n_terms * x.size
        arguments = packed, g, lanes, n_terms, float(sign), out, self.bases, self.transposes, self.extents
        over_groups(dress, len(packed), work, *arguments)
        return self._unpack(out, len(x))

    def fields(self, x):
        """Configurations (n, *lattice) of fields in the layout of this class."""
        return self.to_sites(x).reshape(-1, *self.shape)

    def coefficients(self, phi):
        """The reverse of `fields`."""
        return self.from_sites(phi.reshape(len(phi), -1))

    def _transform(self, x, matrices):
        packed = self._pack(x)
        out = np.empty_like(packed)
        over_groups(transform, len(packed), COST * x.size // 4, packed, out, matrices, self.extents)
        return self._unpack(out, len(x))

    def _pack(self, x):
        """(n, V) -> (n_groups, V * LANES), the last group filled up with zeros."""
        groups = -(-len(x) // LANES)
        packed = np.zeros((groups, LANES, self.volume))
        packed.reshape(-1, self.volume)[: len(x)] = x
        return np.ascontiguousarray(packed.swapaxes(1, 2)).reshape(groups, -1)

    def _unpack(self, packed, n):
        x = packed.reshape(len(packed), self.volume, LANES).swapaxes(1, 2).reshape(-1, self.volume)
        return np.ascontiguousarray(x[:n])
