r"""Any theory with a mass that differs from site to site,

.. math:: S(\phi) = S_0(\phi) + \tfrac12 \sum_x r_x \phi_x^2 ,

r in units of the field as the theory has it, whatever its convention. In conventions N and SL, which have
:math:`\tfrac12 m^2 \phi^2`, the mass squared of a site is m2 + r_x; in convention A, which has :math:`m^2 \phi^2`, it
is m2 + r_x / 2; in the hopping forms :math:`1 - 2\lambda` becomes :math:`1 - 2\lambda + r_x / 2`. The gradient term is
that of S_0. The symmetry phi -> -phi stays what it is in S_0, and with it clusters. r_x drawn at random and held fixed
is the random-temperature disorder of a ferromagnet (Harris, J. Phys. C 7 (1974) 1671). An external field goes around
it: `latticediff.action.external_field` of a `random_mass` of a theory.
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
from .links import links_of, lowest

__all__ = ["RandomMass", "normal_mass"]

KIND = Kind("random_mass", "random mass", "r", within=("external_field", "random_mass"), stream=1)
DENSE = 1024  # sites up to which all eigenvalues are computed
FAR = (2.0**100, 2.0**200)  # fields at which a potential shows whether it outgrows phi^2


def normal_mass(shape: Extents, width: float, seed: int) -> FloatArray:
    """Independent normal r_x of standard deviation `width`, (*lattice), float64: a function of shape, width and seed.

    They are not those of `external_field.normal_field` with the same seed, so h and r are independent.

    Raises
    ------
    UserError
        A width that is not a finite number of at least 0, or a negative seed.
    """
    return normal_values(shape, width, seed, KIND)


class RandomMass(Layered):
    """``S_0 + 1/2 sum_x r_x phi_x^2``.

    Parameters
    ----------
    of : Action
        The theory S_0, without an external field, which goes around.
    mass : array_like, shape (*lattice), float64
        r, of either sign. It fixes the lattice: fields of another one are refused.

    Raises
    ------
    UserError
        A mass that is not finite or of another dimension than the theory; a theory that has one already, is in an
        external field or is not of whole lattices; or an integral of exp(-S) that diverges, which without terms beyond
        phi^2 it does unless ``K + r`` is positive definite.
    """

    name, kind = "random_mass", KIND
    network = "gated_ridge"  #: which a card has that names none

    def __init__(self, of: Action, mass: ArrayLike) -> None:
        r = checked(mass, of, KIND)
        super().__init__(of, r)
        self.mass: FloatArray = r  #: r, (*lattice), float64, read-only
        self.is_symmetric = bool(getattr(of, "is_symmetric", True))  #: S(-phi) = S(phi), as without the mass
        self._refuse_unbounded()

    def __repr__(self) -> str:
        size = float(np.sqrt(np.mean(self.mass**2))) if self.mass.size else 0.0
        return f"{self.of!r} with a random mass of rms {size:.6g}"

    def _refuse_unbounded(self) -> None:
        """Refuse a Gaussian tail of negative curvature: where V grows like phi^2, ``K + r`` has to be positive."""
        for sign in (1.0, -1.0):
            with np.errstate(all="ignore"):
                near, far = (float(self.of.potential(np.array(sign * x))) / x**2 for x in FAR)
            if not np.isfinite(far) or far > near + 1e-9 * (1 + abs(near)):
                continue  # the potential outgrows phi^2, whatever r
            least = self._least_curvature(2 * far)
            if not least > 0:
                raise UserError(
                    f"{self!r}: the integral of exp(-S) diverges, for K + r_x has the eigenvalue {least:.6g} and the"
                    " potential no term beyond phi^2; expected r_x that leave it positive, or such a term"
                )

    def _least_curvature(self, bend: float) -> float:
        """Smallest eigenvalue of ``bend + r_x - sum_r c_r (shift_r + shift_-r)``, or a bound of it that is positive."""
        links = links_of(self.of)
        if (bound := bend + lowest(links) + float(self.mass.min())) > 0:
            return bound
        from scipy.sparse import coo_array, diags_array
        from scipy.sparse.linalg import eigsh

        sites, axes = np.arange(self.mass.size).reshape(self.mass.shape), tuple(range(self.ndim))
        matrix = diags_array(bend + self.mass.ravel())
        for offset, coefficient in links:
            there = np.roll(sites, [-n for n in offset], axes).ravel()
            link = coo_array((np.full(sites.size, -coefficient), (sites.ravel(), there)), (sites.size, sites.size))
            matrix = matrix + link + link.T
        if sites.size <= DENSE:
            return float(np.linalg.eigvalsh(matrix.toarray())[0])
        start = np.ones(sites.size)  # the lowest mode has no nodes where c > 0; and the answer is the same every time
        return float(eigsh(matrix.tocsr(), k=1, which="SA", v0=start, return_eigenvectors=False)[0])

    def __call__(self, phi: ArrayLike) -> FloatArray:
        """S(phi), float64, shape of the leading axes of `phi`, (..., *lattice)."""
        values = self._own(phi)
        total: FloatArray = self.of(values) + self.mass_term(values)
        return total

    def mass_term(self, phi: FloatArray) -> FloatArray:
        """``1/2 sum_x r_x phi_x^2`` of fields (..., *lattice), shape of the leading axes."""
        total: FloatArray = (0.5 * self.mass * phi * phi).sum(axis=tuple(range(phi.ndim - self.ndim, phi.ndim)))
        return total

    def force(self, phi: ArrayLike) -> FloatArray:
        """``-dS/dphi``, that of the mass included, shape of `phi`, float64."""
        values = self._own(phi)
        total: FloatArray = self.of.force(values) - self.mass * values
        return total

    def potential(self, phi: FloatArray) -> FloatArray:
        """``V(phi_x) + r_x phi_x^2 / 2`` at every site of fields (..., *lattice)."""
        total: FloatArray = self.of.potential(phi) + 0.5 * self.mass * phi * phi
        return total

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``V'(phi_x) + r_x phi_x`` at every site of fields (..., *lattice)."""
        total: FloatArray = self.of.potential_derivative(phi) + self.mass * phi
        return total

    def describe(self) -> Description:
        """Name, the description of the theory without the mass, and r as nested lists of numbers."""
        return {"name": self.name, "of": self.of.describe(), "mass": self.mass.tolist()}

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        return cls(action_from_description(description["of"]), description["mass"])

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int, shape: Extents) -> Self:
        """The action that the keys of a card name: ``of``, the theory, and ``width`` with ``seed``, or ``file``.

        Raises
        ------
        UserError
            An unknown or missing key, both kinds of mass at once, or a file that holds no such array.
        """
        return cls(*from_options(options, ndim, shape, KIND))
