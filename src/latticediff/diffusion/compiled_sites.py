"""Fields of the reverse SDE on the CPU: `CompiledModes`, and the way between modes and sites.

The reverse steps with local variances (`latticediff.diffusion.steps`) need products on sites; these run in
`latticediff._kernels.dressing`, with the same bits for any batch and any number of threads.
"""

import numpy as np

from .._kernels.dressing import LANES, dress
from .._kernels.threads import over_groups
from ..fourier import real_fourier
from ..types import Extents, FloatArray
from .layout import Scored
from .transforms import SiteTransform, pack, unpack

__all__ = ["CompiledSites"]

COST = 50  # of one dressing, in plain site updates; decides whether threads pay


class CompiledSites:
    """Scores from a compiled network; fields are (n, V) in the real Fourier basis, float64.

    Parameters
    ----------
    modes : Scored
        For fields (n, V) in the basis: `latticediff.diffusion.compiled.CompiledModes`.
    shape : tuple of int
    oblique : bool
        Whether the lattice is one; see `latticediff.fourier`.
    """

    def __init__(self, modes: Scored, shape: Extents, oblique: bool = False) -> None:
        self.sites = SiteTransform(shape, oblique)
        self.score, self.G, self.vacua = modes.score, modes.G, modes.vacua
        self.shape, self.volume = tuple(shape), int(np.prod(shape))
        bases = np.zeros((len(shape), max(shape), max(shape)))
        for axis, extent in enumerate(shape):
            bases[axis, :extent, :extent] = real_fourier(extent)
        self._bases = bases, np.ascontiguousarray(bases.transpose(0, 2, 1))

    def multiply(self, x: FloatArray, multiplier: FloatArray) -> FloatArray:
        """Fields multiplied by an even function of momentum: in this basis a plain product."""
        return x * multiplier

    def total(self, x: FloatArray) -> FloatArray:
        """Sums over the lattice, (n,)."""
        return x.sum(axis=1)

    def to_sites(self, x: FloatArray) -> FloatArray:
        """Values on sites, (n, V)."""
        return self.sites.to_sites(x)

    def from_sites(self, x: FloatArray) -> FloatArray:
        """Coefficients (n, V) of values on sites; the inverse of `to_sites`."""
        return self.sites.from_sites(x)

    white_to_sites, white_from_sites = to_sites, from_sites

    def to_modes(self, x: FloatArray) -> FloatArray:
        """Fields as they are: this layout is that of the real Fourier basis."""
        return x

    def array(self, values: FloatArray) -> FloatArray:
        """Values (..., V) as they are; white noise is white in either layout."""
        return values

    def dress(self, x: FloatArray, g: FloatArray, K: FloatArray, n_terms: int, sign: int) -> FloatArray:
        """``exp(sign / 2 K g K) x`` by `n_terms` terms of its series; g (n, V) on sites, K(k) (V,) on the basis."""
        sites, packed, g = self.sites, pack(x, LANES), pack(g, LANES)
        out = np.empty_like(packed)
        lanes = np.repeat(K, LANES)
        work = COST * n_terms * x.size
        arguments = (
            packed,
            g,
            lanes,
            n_terms,
            float(sign),
            out,
            *self._bases,
            sites.pairs,
            sites.extents,
        )
        over_groups(dress, len(packed), work, *arguments)
        return unpack(out, len(x), LANES)

    def fields(self, x: FloatArray) -> FloatArray:
        """Configurations (n, *lattice) of coefficients (n, V)."""
        return self.to_sites(x).reshape(-1, *self.shape)

    def coefficients(self, phi: FloatArray) -> FloatArray:
        """Coefficients (n, V) of configurations (n, *lattice); the inverse of `fields`."""
        return self.from_sites(phi.reshape(len(phi), -1))
