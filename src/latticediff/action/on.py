r"""O(N) theories: N real components at every site,

.. math:: S(\phi) = \sum_x \Big[ -c \sum_\mu \phi_x \cdot \phi_{x+\mu} + a\, \phi_x \cdot \phi_x
          + b\, (\phi_x \cdot \phi_x)^2 \Big] .

The components are the first axis of a field, (N, *lattice): for everything that treats all numbers of a field alike
(files, noise, Fourier bases, force sums) it is one more axis, along which nothing is coupled. What knows of components
(the potential, HMC, observables, the score network) asks for `components`; what knows fields of one component refuses.

Couplings are those of phi^4 (`latticediff.action.conventions`), with the scalar product for the square. Convention A
at N = 2 is complex phi^4 with phi = phi_1 + i phi_2, ``|d phi|^2 + m2 |phi|^2 + lam |phi|^4`` (Gattringer, Kloiber,
1206.2954, at zero chemical potential); SL at N = 2 is the same with phi = (phi_1 + i phi_2) / sqrt 2; B is that of
Campostrini et al., cond-mat/0010360.
"""

import math
from collections.abc import Mapping
from typing import Any, NoReturn, Self, TypeVar

import numpy as np

from ..errors import UserError
from ..types import Description, Extents, FloatArray, Shape
from .contract import NumbaPotential, check_options
from .conventions import CONVENTIONS
from .local import LocalAction
from .phi4 import Phi4

__all__ = ["MOST_COMPONENTS", "ON"]

MOST_COMPONENTS = 64
MOST_DIMENSIONS = 3  #: of the lattice: with the components a field has four axes

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch


class ON(LocalAction):
    r"""``S = sum_x [-c sum_mu phi . phi' + a phi . phi + b (phi . phi)^2]``, phi of N real components.

    Parameters
    ----------
    convention : str
        Key of `latticediff.action.CONVENTIONS`.
    couplings : dict of str to float
        Exactly the couplings that the convention names.
    components : int
        N, at least 1.
    ndim : int
        Dimensions of the lattice, 1 to 3.

    Attributes
    ----------
    components : int
    ndim : int
        Axes of a field, those of the lattice and the one of the components before them.
    hopping : float
        c.

    Raises
    ------
    UserError
        Components or dimensions out of range, or what `Phi4` refuses.
    """

    name = "on"
    network = "vector_ridge"  #: which a card has that names none
    is_symmetric = True  #: S(-phi) = S(phi)
    unit_vectors = None  #: the axes of an array are those of the lattice

    def __init__(self, convention: str, couplings: Mapping[str, float], components: int = 2, ndim: int = 2) -> None:
        if isinstance(components, bool) or not isinstance(components, int) or not 1 <= components <= MOST_COMPONENTS:
            raise UserError(f"components is {components!r}; expected an integer from 1 to {MOST_COMPONENTS}")
        if ndim > MOST_DIMENSIONS:
            raise UserError(
                f"an O(N) theory got a lattice of {ndim} dimensions; expected 1 to {MOST_DIMENSIONS}: with the"
                " components its fields have one axis more"
            )
        self._one = Phi4(convention, couplings, ndim)  # of one component; it refuses what has no lower bound
        super().__init__((0.0, *(self._one.hopping,) * ndim), ndim + 1)
        self.components = components
        self.hopping = self._one.hopping

    @property
    def couplings(self) -> dict[str, float]:
        """The couplings by name."""
        return self._one.couplings

    @property
    def internal(self) -> tuple[float, float, float]:
        """``(c, a, b)`` of the module's formula."""
        return self._one.coefficients

    def _square(self, phi: Field) -> Field:
        """``phi . phi`` of fields (..., N, *lattice) at every site, (..., 1, *lattice)."""
        return (phi * phi).sum(axis=-self.ndim, keepdims=True)

    def check_components(self, shape: Extents) -> None:
        """Refuse fields of this shape, (..., N, *lattice), unless N is that of the theory."""
        if len(shape) < self.ndim or shape[-self.ndim] != self.components:
            axes = ", ".join(f"L_{axis}" for axis in range(1, self.ndim))
            raise UserError(
                f"fields have shape {tuple(shape)}; a theory of {self.components} components in {self.ndim - 1}"
                f" dimensions wants (..., {self.components}, {axes})"
            )

    def potential(self, phi: FloatArray) -> FloatArray:
        """``phi_i^2 (a + b phi . phi)`` of each component: over a site they add up to V; shape of `phi`."""
        self.check_components(phi.shape)
        _, a, b = self.internal
        return phi * phi * (a + b * self._square(phi))

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``dV/dphi_i = phi_i (2 a + 4 b phi . phi)``, shape of `phi`."""
        self.check_components(phi.shape)
        _, a, b = self.internal
        return phi * (2 * a + 4 * b * self._square(phi))

    @property
    def minima(self) -> tuple[float, ...]:
        """Values of fields of least action among those whose numbers are all the same: one direction of the sphere."""
        return tuple(value / math.sqrt(self.components) for value in self._one.minima)

    def quadratic_form(self, shape: Extents) -> FloatArray:
        r"""``K(k) = 2a - 2c sum_mu cos k_mu`` on the grid of (N, *lattice), alike for all components; float64."""
        return 2 * self.internal[1] + self.coupling_form(shape)

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """``4b phi_i (phi . phi + (N + 2) variance)``; see `latticediff.gaussian.contract.Expandable`."""
        self._only_around_zero(vacuum)
        return 4 * self.internal[2] * phi * (self._square(phi) + (self.components + 2) * variance)

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """``dF_i/dphi_i = 4b (phi . phi + 2 phi_i^2 + (N + 2) variance)``; a number is a field along i."""
        b = self.internal[2]
        own: Any = phi * phi
        square = own if isinstance(phi, int | float) else self._square(phi)
        return 4 * b * (square + 2 * own + (self.components + 2) * variance)

    def _only_around_zero(self, vacuum: float) -> None:
        if vacuum:
            raise UserError(
                f"{self!r} is expanded around zero alone, its vacua are a sphere; take training.phase = symmetric"
            )

    def site_width(self) -> float:
        r"""Standard deviation of a component at a site without neighbours, density ``exp(-V) r^(N-1)``."""
        for reach in 2.0 ** np.arange(-6, 13):  # the first range whose end carries no weight
            r = np.linspace(0.0, reach, 4001)[1:]
            log_p = (self.components - 1) * np.log(r) - self._one.potential(r)
            p = np.exp(log_p - log_p.max())
            if p[-1] < 1e-12:
                return float(np.sqrt((p * r * r).sum() / p.sum() / self.components))
        raise UserError(f"exp(-V) of {self!r} has no finite width; start cold or from a file")

    def numba_potential(self) -> NoReturn:
        """Refused: V is no function of one number; `radial_potential` is what HMC takes.

        Raises
        ------
        UserError
            Always, in one line: from here every kernel learns that it knows fields of one component.
        """
        raise UserError(
            f"{self!r} has fields of {self.components} components; this kernel knows one: HMC with unit masses knows"
            " them all (no hmc.mass, no hmc.cluster, no local updates)"
        )

    def radial_potential(self) -> NumbaPotential:
        """Numba-callable ``V(s)`` and ``2 V'(s)`` of ``s = phi . phi``, parameters (a, b); force ``-2 V'(s) phi``."""
        from .._kernels.potentials import radial_phi4_derivative, radial_phi4_value

        return radial_phi4_value, radial_phi4_derivative, np.array(self.internal[1:])

    @staticmethod
    def array_shape(options: Mapping[str, Any], shape: Extents) -> Shape:
        """Extents of a field, (N, *lattice), of the keys of a card and the lattice."""
        return (int(options["components"]), *shape)

    def options(self) -> dict[str, Any]:
        """The keys of ``[action]`` that name this theory."""
        return {"convention": self._one.convention, "components": self.components, **self.couplings}

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int) -> Self:
        """The action that the keys of a card name: ``convention``, its couplings, and ``components``."""
        convention = options["convention"]
        named = CONVENTIONS[convention].couplings if convention in CONVENTIONS else ()
        check_options(options, ("convention", "components", *(named or options)), cls.name)
        couplings = {key: value for key, value in options.items() if key not in ("convention", "components")}
        return cls(convention, couplings, options["components"], ndim)

    def describe(self) -> Description:
        """JSON-able: name, convention, couplings, components and the dimensions of the lattice."""
        return {
            "name": self.name,
            "convention": self._one.convention,
            "couplings": dict(self.couplings),
            "components": self.components,
            "ndim": self.ndim - 1,
        }

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        return cls(description["convention"], description["couplings"], description["components"], description["ndim"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ON) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.components, self._one))

    def __repr__(self) -> str:
        couplings = ", ".join(f"{key}={value:g}" for key, value in self.couplings.items())
        return f"ON.{self._one.convention}({couplings}, components={self.components}, ndim={self.ndim - 1})"
