r"""Any theory in an external field that differs from site to site,

.. math:: S(\phi) = S_0(\phi) - \sum_x h_x \phi_x .

With h drawn at random and held fixed it is a random-field model (Imry and Ma, Phys. Rev. Lett. 35 (1975) 1399): no
symmetry is left, and clusters built on phi -> -phi do not apply. S_0 may have a random mass beside
(`latticediff.action.random_mass`).
"""

from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Description, Extents, FloatArray
from .contract import Action, NumbaPotential, action_from_description
from .disorder import Kind, checked, from_options, normal_values
from .links import Link, links_of
from .random_mass import RandomMass

__all__ = ["ExternalField", "normal_field"]

KIND = Kind("external_field", "external field", "h", within=("external_field",))

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch, or a number


def normal_field(shape: Extents, width: float, seed: int) -> FloatArray:
    """Independent normal h_x of standard deviation `width`, (*lattice), float64: a function of shape, width and seed.

    Raises
    ------
    UserError
        A width that is not a finite number of at least 0, or a negative seed.
    """
    return normal_values(shape, width, seed, KIND)


class ExternalField:
    """``S_0 - sum_x h_x phi_x``.

    Parameters
    ----------
    of : Action
        The theory S_0 without the field.
    field : array_like, shape (*lattice), float64
        h. It fixes the lattice: fields of another one are refused.

    Raises
    ------
    UserError
        A field that is not finite or of another dimension than the theory, or a theory that is in a field already or
        is not of whole lattices.
    """

    name = "external_field"
    is_symmetric = False  #: S(-phi) is not S(phi)

    def __init__(self, of: Action, field: ArrayLike) -> None:
        h = checked(field, of, KIND)
        if isinstance(of, RandomMass) and of.mass.shape != h.shape:
            raise UserError(f"the external field has shape {h.shape}; the random mass beside it {of.mass.shape}")
        self.of: Any = of  #: the theory without the field
        self.field: FloatArray = h  #: h, (*lattice), float64, read-only
        self.ndim, self.hopping = of.ndim, of.hopping
        self.unit_vectors = None  #: the axes of the array are those of the lattice

    def __repr__(self) -> str:
        size = float(np.sqrt(np.mean(self.field**2))) if self.field.size else 0.0
        return f"{self.of!r} in an external field of rms {size:.6g}"

    @property
    def links(self) -> tuple[Link, ...]:
        """Those of the theory without the field."""
        return links_of(self.of)

    @property
    def minima(self) -> tuple[float, ...]:
        """Those of the theory without the field, of which h favours one here and another there."""
        found: tuple[float, ...] = self.of.minima
        return found

    def _own(self, phi: ArrayLike) -> FloatArray:
        values: FloatArray = real_array(phi, "phi")
        if values.shape[values.ndim - self.ndim :] != self.field.shape:
            raise UserError(f"phi has shape {values.shape}; the external field is of the lattice {self.field.shape}")
        return values

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """S(phi), float64, shape of the leading axes of `phi`, (..., *lattice)."""
        values = self._own(phi)
        axes = tuple(range(values.ndim - self.ndim, values.ndim))
        total: FloatArray = self.of(values) - (self.field * values).sum(axis=axes)
        return total

    def force(self, phi: ArrayLike) -> FloatArray:
        """``-dS/dphi``, the field h included, shape of `phi`, float64."""
        values = self._own(phi)
        total: FloatArray = self.of.force(values) + self.field
        return total

    def potential(self, phi: FloatArray) -> FloatArray:
        """``V(phi_x) - h_x phi_x`` at every site of fields (..., *lattice)."""
        total: FloatArray = self.of.potential(phi) - self.field * phi
        return total

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``V'(phi_x) - h_x`` at every site of fields (..., *lattice)."""
        total: FloatArray = self.of.potential_derivative(phi) - self.field
        return total

    def numba_potential(self) -> NumbaPotential:
        """V and V' of the theory without the field, which a kernel adds by itself."""
        found: NumbaPotential = self.of.numba_potential()
        return found

    def quadratic_form(self, shape: Extents) -> FloatArray:
        """K(k) of the theory without the field: a linear term has no part in it."""
        form: FloatArray = self.of.quadratic_form(shape)
        return form

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """That of the theory without the field; see `latticediff.gaussian.contract.Sourced`."""
        return self.of.local_force(phi, variance, vacuum)

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """That of the theory without the field."""
        return self.of.local_curvature(phi, variance)

    def describe(self) -> Description:
        """Name, the description of the theory without the field, and h as nested lists of numbers."""
        return {"name": self.name, "of": self.of.describe(), "field": self.field.tolist()}

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        return cls(action_from_description(description["of"]), description["field"])

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int, shape: Extents) -> Self:
        """The action that the keys of a card name: ``of``, the theory, and ``width`` with ``seed``, or ``file``.

        Raises
        ------
        UserError
            An unknown or missing key, both kinds of field at once, or a file that holds no such array.
        """
        return cls(*from_options(options, ndim, shape, KIND))
