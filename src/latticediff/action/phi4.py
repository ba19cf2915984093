r"""Phi^4 theory in the conventions of the literature.

One internal form, :math:`V(\phi) = a \phi^2 + b \phi^4` with hopping coefficient c; each named
constructor maps a paper's couplings to (c, a, b). Conventions differ in the normalisation of the
field, so ``<|m|>`` and susceptibilities differ between them; Binder cumulant, correlation length,
acceptance and ESS do not.
"""

import math
import sys
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import UserError
from ..lattice import cos_sum
from ..types import Description, Extents, FloatArray
from .contract import NumbaPotential
from .conventions import CONVENTIONS
from .local import LocalAction
from .wells import Well

__all__ = ["Phi4"]

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch, or a number


class Phi4(LocalAction):
    r"""``S = sum_x [-c sum_mu phi phi' + a phi^2 + b phi^4]``, built from a named convention.

    Use `Phi4.from_couplings` or the constructors named after the conventions (`A`, `H`, `B`,
    `SL`, `N`); the couplings keep their published names and values.

    Parameters
    ----------
    convention : str
        Key of `CONVENTIONS`.
    couplings : dict of str to float
        Exactly the couplings that the convention names.
    ndim : int
        Dimensions, 1 to 4. Some conventions map the mass with it.

    Raises
    ------
    UserError
        Unknown convention or coupling, a non-finite value, or an integral of exp(-S) that diverges.
    """

    is_symmetric = True  #: S(-phi) = S(phi)
    unit_vectors = None  #: the axes of an array are those of the lattice

    def __init__(self, convention: str, couplings: Mapping[str, float], ndim: int = 2) -> None:
        if convention not in CONVENTIONS:
            given = repr(str(convention)[:80])
            raise UserError(f"action convention is {given}; expected one of {', '.join(CONVENTIONS)}")
        conv = CONVENTIONS[convention]
        if set(couplings) != set(conv.couplings):
            raise UserError(
                f"convention {convention} got couplings {sorted(couplings)}; expected {', '.join(conv.couplings)}"
            )
        values = {}
        for name in conv.couplings:
            try:
                values[name] = float(couplings[name])
            except (TypeError, ValueError):
                raise UserError(f"coupling {name} is {couplings[name]!r}; expected a number") from None
            except OverflowError:
                raise UserError(f"coupling {name} is above 1.8e308; expected a number that float64 holds") from None
            if not math.isfinite(values[name]):
                raise UserError(f"coupling {name} is {values[name]}; expected a finite number")
        c, a, b = conv.to_internal(ndim, **values)
        if not all(map(math.isfinite, (8 * c, a, 4 * b))):  # the force has 4 b, and c for up to eight neighbours
            given = ", ".join(f"{name} = {value:g}" for name, value in values.items())
            raise UserError(f"{given}: the coefficients of the action overflow; take couplings of ordinary size")
        super().__init__(c, ndim)
        if b < 0 or (b == 0 and a <= abs(c) * ndim):
            raise UserError(
                f"phi^4 coefficient b = {b:g} with a = {a:g}, c = {c:g}: the integral of exp(-S) diverges;"
                " take lam > 0, or lam = 0 with a positive mass"
            )
        self.a, self.b = float(a), float(b)
        self._excess = conv.excess(self.ndim, **values)
        self.convention = convention
        self.couplings = values

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int) -> Self:
        """The action that the keys of a card name: ``convention`` and its couplings."""
        return cls(options["convention"], {key: value for key, value in options.items() if key != "convention"}, ndim)

    @classmethod
    def from_couplings(cls, convention: str, couplings: Mapping[str, float], ndim: int = 2) -> Self:
        """The same as the constructor; reads better beside a run-card."""
        return cls(convention, couplings, ndim)

    @classmethod
    def A(cls, m2: float, lam: float, ndim: int = 2) -> Self:
        """Flow literature: ``sum_mu (d phi)^2 + m2 phi^2 + lam phi^4``, no factor 1/2."""
        return cls("A", {"m2": m2, "lam": lam}, ndim)

    @classmethod
    def H(cls, kappa: float, lam: float, ndim: int = 2) -> Self:
        """Hopping form, ``-2 kappa sum_mu phi phi' + (1 - 2 lam) phi^2 + lam phi^4``."""
        return cls("H", {"kappa": kappa, "lam": lam}, ndim)

    @classmethod
    def B(cls, beta: float, lam: float, ndim: int = 2) -> Self:
        """Hopping form with beta = 2 kappa."""
        return cls("B", {"beta": beta, "lam": lam}, ndim)

    @classmethod
    def SL(cls, mu0_sq: float, lam: float, ndim: int = 2) -> Self:
        """``1/2 (d phi)^2 + 1/2 mu0_sq phi^2 + lam/4 phi^4``."""
        return cls("SL", {"mu0_sq": mu0_sq, "lam": lam}, ndim)

    @classmethod
    def N(cls, m2: float, lam: float, ndim: int = 2) -> Self:
        """``1/2 (d phi)^2 + 1/2 m2 phi^2 + lam/24 phi^4``."""
        return cls("N", {"m2": m2, "lam": lam}, ndim)

    @property
    def gap(self) -> float:
        """``a - d |c|`` to all digits: half of the smallest 1/G of the free field; negative where phi^4 is needed."""
        if self.hopping >= 0:
            return self._excess
        return math.fsum((self.a, *(self.hopping,) * self.ndim))

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """The internal (c, a, b)."""
        return self.hopping, self.a, self.b

    def in_convention(self, name: str) -> tuple[dict[str, float], float]:
        """Couplings of the same theory in another convention, and the field rescaling between them.

        Returns
        -------
        couplings : dict of str to float
        scale : float
            s with ``phi_self = s * phi_other``; ``<|m|>`` scales with s, susceptibilities with s^2.

        Raises
        ------
        UserError
            Unknown convention, a theory that has no such form (hopping form of a massless free field), or numbers
            beyond the range of float64.
        """
        if name not in CONVENTIONS:
            raise UserError(f"action convention is {name!r}; expected one of {', '.join(CONVENTIONS)}")
        conv = CONVENTIONS[name]
        c, a, b = self.coefficients
        if name == self.convention:
            return dict(self.couplings), 1.0
        if c <= 0 and name in ("A", "SL", "N"):
            raise UserError(f"hopping coefficient is {c:g}; convention {name} needs it positive")
        u = conv.rescale(c, a, b)
        couplings = conv.from_internal(c * u, self._excess * u, b * u * u)
        numbers = [(c, c * u), (self._excess, self._excess * u), (b, b * u * u)]
        if not all(sys.float_info.min <= abs(scaled) < math.inf for number, scaled in numbers if number != 0):
            told = ", ".join(f"{key} = {value:g}" for key, value in couplings.items())
            raise UserError(f"{self!r} in convention {name} is {told}: beyond the range of float64; keep its own form")
        return couplings, math.sqrt(u)

    def potential(self, phi: FloatArray) -> FloatArray:
        """``a phi^2 + b phi^4``, site by site."""
        square = phi * phi
        return square * (self.a + self.b * square)

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``2 a phi + 4 b phi^3``, site by site."""
        return phi * (2 * self.a + 4 * self.b * phi * phi)

    @property
    def minima(self) -> tuple[float, ...]:
        """Values of the constant fields of least action: 0, or both signs of ``((d c - a) / (2 b))^(1/2)``."""
        excess = 0.5 * float(self.quadratic_form((1,) * self.ndim).item())  # a - d c
        if excess >= 0:
            return (0.0,)
        value = math.sqrt(-excess / (2 * self.b))
        return (-value, value)

    def wells(self) -> tuple[Well, ...]:
        """Every local minimum of the action of constant fields, ascending: its value, action per site, curvature."""
        excess = 0.5 * float(self.quadratic_form((1,) * self.ndim).item())
        return tuple(Well(m, m * m * (excess + self.b * m * m), 2 * excess + 12 * self.b * m * m) for m in self.minima)

    def quadratic_form(self, shape: Extents) -> FloatArray:
        r"""``K(k) = 2a - 2c sum_mu cos k_mu`` on the full momentum grid, (*lattice), float64."""
        return 2 * self.a - 2 * self.hopping * cos_sum(shape)

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """``4b (phi^3 + 3 (variance - m_0^2) phi)``; see `latticediff.gaussian.contract.Expandable`."""
        if isinstance(variance, float) and variance == 0 and not vacuum:
            return 4 * self.b * phi**3
        return 4 * self.b * phi * (phi * phi + 3 * (variance - vacuum**2))

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """``12b (phi^2 + variance)``; see `latticediff.gaussian.contract.Expandable`."""
        return 12 * self.b * (phi * phi + variance)

    def numba_potential(self) -> NumbaPotential:
        """Numba-callable V and V' with parameters (a, b); see `LocalAction`."""
        from .._kernels.potentials import phi4_derivative, phi4_value

        return phi4_value, phi4_derivative, np.array([self.a, self.b])

    def options(self) -> dict[str, Any]:
        """The keys of ``[action]`` that name this theory."""
        return {"convention": self.convention, **self.couplings}

    def describe(self) -> Description:
        """JSON-able: name, convention, couplings, dimension and the internal coefficients (c, a, b)."""
        c, a, b = self.coefficients
        return {
            "name": "phi4",
            "convention": self.convention,
            "couplings": dict(self.couplings),
            "ndim": self.ndim,
            "internal": {"c": c, "a": a, "b": b},
        }

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        return cls(description["convention"], description["couplings"], description["ndim"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Phi4) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.convention, self.coefficients, self.ndim))

    def __repr__(self) -> str:
        couplings = ", ".join(f"{k}={v:g}" for k, v in self.couplings.items())
        return f"Phi4.{self.convention}({couplings}, ndim={self.ndim})"
