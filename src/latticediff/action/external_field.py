r"""Any theory in an external field that differs from site to site,

.. math:: S(\phi) = S_0(\phi) - \sum_x h_x \phi_x .

With h drawn at random and held fixed it is a random-field model (Imry and Ma, Phys. Rev. Lett. 35 (1975) 1399): no
symmetry is left, and clusters built on phi -> -phi do not apply. S_0 may have a random mass beside
(`latticediff.action.random_mass`).
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..errors import UserError
from ..types import Description, Extents, FloatArray
from .contract import Action, action_from_description
from .disorder import Kind, checked, from_options, normal_values
from .layered import Layered
from .random_mass import RandomMass

__all__ = ["ExternalField", "normal_field"]

KIND = Kind("external_field", "external field", "h", within=("external_field",))


def normal_field(shape: Extents, width: float, seed: int) -> FloatArray:
    """Independent normal h_x of standard deviation `width`, (*lattice), float64: a function of shape, width and seed.

    Raises
    ------
    UserError
        A width that is not a finite number of at least 0, or a negative seed.
    """
    return normal_values(shape, width, seed, KIND)


class ExternalField(Layered):
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

    name, kind = "external_field", KIND
    is_symmetric = False  #: S(-phi) is not S(phi)

    def __init__(self, of: Action, field: ArrayLike) -> None:
        h = checked(field, of, KIND)
        if isinstance(of, RandomMass) and of.mass.shape != h.shape:
            raise UserError(f"the external field has shape {h.shape}; the random mass beside it {of.mass.shape}")
        super().__init__(of, h)
        self.field: FloatArray = h  #: h, (*lattice), float64, read-only

    def __repr__(self) -> str:
        size = float(np.sqrt(np.mean(self.field**2))) if self.field.size else 0.0
        return f"{self.of!r} in an external field of rms {size:.6g}"

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
