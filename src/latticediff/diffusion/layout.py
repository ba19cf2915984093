"""What a reverse process asks of the fields it moves: their layout, and the score.

A layout is a way to store fields: values on sites, or coefficients in the real Fourier basis. Reverse steps are written
for any layout and any array library; `latticediff.diffusion.reverse.FourierModes` (torch, on sites) and
`latticediff.diffusion.compiled_sites.CompiledSites` (NumPy, in the basis) are the two there are.
"""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..gaussian.vacua import Vacua
    from ..types import FloatArray

__all__ = ["Array", "Layout", "Scored"]

Array = Any  #: a NumPy array or a torch tensor, whichever the layout works on; float64


class Scored(Protocol):
    """A score at the levels of a ladder, for fields in some layout."""

    G: Array  #: the propagator on the real Fourier basis
    vacua: "Vacua"  #: of the theory, for fields in this layout

    def score(self, x: Array, i: int, /) -> Array:
        """The score of fields (n, *layout) at level i, 1 to N."""


class Layout(Scored, Protocol):
    """Fields (n, *layout) and the products that reverse steps need."""

    volume: int  #: sites of the lattice

    def multiply(self, x: Array, multiplier: Array, /) -> Array:
        """Fields multiplied by an even function of momentum, given on the basis."""

    def total(self, x: Array, /) -> Array:
        """Sums over the lattice, (n,)."""

    def to_sites(self, x: Array, /) -> Array:
        """Values on sites."""

    def from_sites(self, x: Array, /) -> Array:
        """The inverse of `to_sites`."""

    def white_to_sites(self, x: Array, /) -> Array:
        """White noise in this layout as white noise on sites."""

    def white_from_sites(self, x: Array, /) -> Array:
        """The inverse of `white_to_sites`."""

    def to_modes(self, x: Array, /) -> Array:
        """Coefficients in the real Fourier basis."""

    def array(self, values: "FloatArray", /) -> Array:
        """NumPy values (..., V) in this layout; white noise stays white."""

    def dress(self, x: Array, g: Array, K: Array, n_terms: int, sign: int, /) -> Array:
        """``exp(sign / 2 K g K) x`` by `n_terms` terms of its series; g on sites, K on the basis."""
