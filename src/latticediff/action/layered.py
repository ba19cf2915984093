"""A theory on top of another one, which it changes by a number for each site: what it has of the one below as it is."""

from typing import Any, TypeVar

from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Extents, FloatArray
from .contract import NumbaPotential
from .disorder import Kind
from .links import Link, links_of

__all__ = ["Layered"]

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch, or a number


class Layered:
    """The theory `of` with `numbers` of one kind, (*lattice), float64, read-only: they fix the lattice."""

    kind: Kind
    of: Any  #: the theory without these numbers

    def __init__(self, of: Any, numbers: FloatArray) -> None:
        self.of = of
        self._shape = numbers.shape
        self.ndim, self.hopping = of.ndim, of.hopping
        self.unit_vectors = None  #: the axes of the array are those of the lattice

    @property
    def links(self) -> tuple[Link, ...]:
        """Those of the theory below."""
        return links_of(self.of)

    @property
    def minima(self) -> tuple[float, ...]:
        """Those of the theory below; a field favours one here and another there."""
        found: tuple[float, ...] = self.of.minima
        return found

    def _own(self, phi: ArrayLike) -> FloatArray:
        values: FloatArray = real_array(phi, "phi")
        if values.shape[values.ndim - self.ndim :] != self._shape:
            raise UserError(f"phi has shape {values.shape}; the {self.kind.what} is of the lattice {self._shape}")
        return values

    def numba_potential(self) -> NumbaPotential:
        """V and V' of the theory below; a kernel adds the numbers by itself."""
        found: NumbaPotential = self.of.numba_potential()
        return found

    def quadratic_form(self, shape: Extents) -> FloatArray:
        """K(k) of the theory below: h has no part in it, r one of its own (`gaussian.contract.Massive`)."""
        form: FloatArray = self.of.quadratic_form(shape)
        return form

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """That of the theory below; see `latticediff.gaussian.contract.Sourced`."""
        return self.of.local_force(phi, variance, vacuum)

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """That of the theory below."""
        return self.of.local_curvature(phi, variance)
