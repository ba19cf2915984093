r"""Polynomial potentials,

.. math:: S = \sum_x \Big[ -\sum_r c_r\, \phi_x \phi_{x+r} + \sum_{n=1}^{12} a_n \phi_x^n \Big] .

A linear term :math:`a_1 \phi = -h \phi` tilts the wells; :math:`a_4 < 0 < a_6` makes transitions of first order.

Averages over a Gaussian :math:`\eta` of variance v are a polynomial in v,

.. math:: \langle P(\phi + \eta) \rangle = \sum_j \frac{v^j}{2^j j!} P^{(2j)}(\phi),

which is exact and ends by itself. Both polynomials are evaluated after Horner, in plain arithmetic.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import UserError
from ..types import Description, Extents, FloatArray
from .contract import NumbaPotential, check_options
from .links import Link, lowest
from .local import LocalAction
from .wells import Well, lowest_wells, wells_between

__all__ = ["DEGREE", "Polynomial"]

DEGREE = 12  #: largest exponent

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch, or a number


class Polynomial(LocalAction):
    r"""``S = sum_x [-c sum_mu phi phi' + sum_n a_n phi^n]``, with further links if given.

    The quadratic form holds :math:`2 a_2`; every other term, the constant force :math:`-a_1` included, belongs to the
    local force F of `latticediff.gaussian.contract.Expandable`.

    Parameters
    ----------
    hopping : float or sequence of float
        c, or one for each axis.
    coefficients : sequence of float
        ``(a_1, a_2, ...)``, at most `DEGREE` of them, in that order.
    ndim : int
        Dimensions, 1 to 4.
    links : iterable of (offset, coefficient)
        Couplings beyond nearest neighbours; see `LocalAction`.

    Raises
    ------
    UserError
        Coefficients that are no finite numbers, or an action without a lower bound.
    """

    unit_vectors = None  #: the axes of an array are those of the lattice
    name = "polynomial"
    formula = "-sum_r c_r phi phi(x+r) + sum_n a_n phi^n"

    def __init__(
        self,
        hopping: float | Sequence[float],
        coefficients: Sequence[float],
        ndim: int = 2,
        links: Iterable[Any] = (),
    ) -> None:
        super().__init__(hopping, ndim, links)
        try:
            a = tuple(float(number) for number in coefficients)
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"coefficients are {coefficients!r}; expected the numbers a_1, a_2, ...") from None
        if len(a) > DEGREE and any(a[DEGREE:]):
            raise UserError(f"the potential has degree {len(a)}; expected at most {DEGREE}")
        if not all(math.isfinite(n * number) for n, number in enumerate(a, 1)):
            raise UserError(f"coefficients are {list(a)}; expected finite numbers of ordinary size")
        while a and a[-1] == 0:
            a = a[:-1]
        self.powers = a  #: (a_1, a_2, ...), the last one not 0
        self._refuse_unbounded()
        self.is_symmetric = not any(a[::2])  #: S(-phi) = S(phi)
        V = (0.0, *a)
        self._slope = _derived(V)
        a_2 = self._a(2)
        self._curvature = 2 * a_2  # V''(0)
        F = list(self._slope)
        if len(F) > 1:
            F[1] -= 2 * a_2
        self._forces = _smoothed(tuple(F))
        self._curvatures = _smoothed(_derived(tuple(F)))

    def _a(self, n: int) -> float:
        return self.powers[n - 1] if n <= len(self.powers) else 0.0

    def _refuse_unbounded(self) -> None:
        degree, a = len(self.powers), self.powers
        least = lowest(self.links)  # of the part of K that couples sites
        if degree <= 2:
            if degree < 2 or not 2 * a[1] + least > 0:
                raise UserError(
                    f"a_2 = {self._a(2):g} without higher terms; the integral of exp(-S) needs a_2 above {-least / 2:g}"
                    " (then K(k) > 0 at every momentum), or a positive even term such as a_4"
                )
        elif degree % 2 or a[-1] < 0:
            raise UserError(
                f"the highest term of the potential is a_{degree} = {a[-1]:g}: the integral of exp(-S) diverges;"
                " expected an even power with a positive coefficient"
            )

    def potential(self, phi: FloatArray) -> FloatArray:
        """``sum_n a_n phi^n``, site by site."""
        return _horner((0.0, *self.powers), phi)

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``sum_n n a_n phi^(n-1)``, site by site."""
        return _horner(self._slope, phi)

    def quadratic_form(self, shape: Extents) -> FloatArray:
        r"""``K(k) = 2 a_2 - 2 sum_r c_r cos(k . r)`` on the full momentum grid, (*lattice), float64."""
        return self._curvature + self.coupling_form(shape)

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """``<F(phi + eta)> - F'(m_0) phi``, F all of V' but its linear term; the constant a_1 is in it.

        `latticediff.gaussian.contract.Expandable` says what it is for.
        """
        force = _averaged(self._forces, phi, variance)
        return force - float(self.local_curvature(vacuum)) * phi if vacuum else force

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """``<F'(phi + eta)>``; see `latticediff.gaussian.contract.Expandable`."""
        return _averaged(self._curvatures, phi, variance)

    def wells(self) -> tuple[Well, ...]:
        """Every local minimum of the action of constant fields, ascending: its value, action per site, curvature."""
        total = math.fsum(c for _, c in self.links)
        V = [0.0, *self.powers, 0.0][: max(3, len(self.powers) + 1)]
        V[2] -= total
        U, slope = tuple(V), _derived(tuple(V))
        curvature = _derived(slope)
        roots = np.roots(slope[::-1])
        # a pair of complex roots as close to the axis as rounding puts a double one counts as real
        scale = float(np.abs(roots).max(initial=0.0))
        real = [float(z.real) for z in roots if abs(z.imag) <= 1e-6 * scale]
        points = [_polished(m, slope, curvature, 1e-4 * scale) for m in real]
        if self.is_symmetric:  # pairs are to be mirror images in every bit
            positive = [m for m in points if m > 1e-9 * scale]
            points = [*(-m for m in positive), 0.0, *positive]
        return wells_between(
            points, lambda m: _horner(U, m), lambda m: _horner(slope, m), lambda m: _horner(curvature, m)
        )

    @property
    def minima(self) -> tuple[float, ...]:
        """Values of all constant fields of least action, within rounding; ascending."""
        sizes = tuple(abs(a) for a in (0.0, *self.powers))
        total = math.fsum(abs(c) for _, c in self.links)
        return lowest_wells(self.wells(), lambda m: _horner(sizes, abs(m)) + total * m * m)

    def numba_potential(self) -> NumbaPotential:
        """Numba-callable V and V' with parameters (a_1, a_2, ...); see `LocalAction`."""
        from .._kernels.potentials import polynomial_derivative, polynomial_value

        return polynomial_value, polynomial_derivative, np.array(self.powers)

    @property
    def coefficients(self) -> tuple[float, ...]:
        """All numbers of the theory, as many for any potential: of the links, their offsets, and a_1 to a_12."""
        offsets = (float(n) for offset, _ in self._further for n in offset)
        return (*(c for _, c in self.links), *offsets, *(self._a(n) for n in range(1, DEGREE + 1)))

    @property
    def couplings(self) -> dict[str, float]:
        """The couplings that have a name: the hopping where it is one number, and a_1, a_2, ... as ``a1``, ``a2``."""
        named = {} if self._by_axis else {"hopping": self.hopping}
        return named | {f"a{n}": a for n, a in enumerate(self.powers, 1)}

    def _beside(self) -> dict[str, Any]:
        """The options that are no numbers."""
        hopping = {"hopping": list(self._by_axis)} if self._by_axis else {}
        return hopping | ({"links": listed(self._further)} if self._further else {})

    def options(self) -> dict[str, Any]:
        """The keys of ``[action]`` that name this theory: those of `from_options`."""
        return self.couplings | self._beside()

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int) -> Self:
        """The action that the keys of a card name: ``hopping``, ``a1`` to ``a12`` and ``links``."""
        powers = [f"a{n}" for n in range(1, DEGREE + 1)]
        check_options(options, ["hopping", *powers, "links"], cls.name)
        a = [options.get(power, 0.0) for power in powers]
        return cls(options.get("hopping", 1.0), a, ndim, options.get("links", ()))

    def describe(self) -> Description:
        """JSON-able: name, couplings by name, dimension; links and anisotropy where there are any."""
        return {"name": self.name, "couplings": self.couplings, "ndim": self.ndim, **self._beside()}

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        beside: dict[str, Any] = {key: description[key] for key in ("hopping", "links", "axes") if key in description}
        return cls.from_options({**description["couplings"], **beside}, description["ndim"])

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Polynomial) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, self.coefficients, self.ndim))

    def __repr__(self) -> str:
        told = ", ".join(f"{key}={value:g}" for key, value in self.couplings.items() if value)
        beside = "".join(f", {key}={value}" for key, value in self._beside().items())
        return f"{type(self).__name__}({told}{beside}, ndim={self.ndim})"


def listed(links: Iterable[Link]) -> list[list[Any]]:
    """Links as lists, which TOML and JSON hold."""
    return [[list(offset), coefficient] for offset, coefficient in links]


def _derived(coefficients: Sequence[float]) -> tuple[float, ...]:
    """Coefficients of the derivative, constant first; (0.0,) of a constant."""
    return tuple(n * a for n, a in enumerate(coefficients) if n) or (0.0,)


def _smoothed(coefficients: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """The polynomials ``P^(2j) / (2^j j!)`` for j = 0, 1, ...: what multiplies v^j in the average over a Gaussian."""
    found, j = [coefficients], 1
    while len(found[-1]) > 2:
        second = _derived(_derived(found[-1]))
        found.append(tuple(a / (2 * j) for a in second))
        j += 1
    return tuple(found)


def _horner(coefficients: Sequence[float], x: Field) -> Field:
    """The polynomial of these coefficients, constant first, at `x`; shape of `x`."""
    total: Any = coefficients[-1] + 0.0 * x
    for a in coefficients[-2::-1]:
        total = total * x + a
    return total


def _averaged(parts: Sequence[tuple[float, ...]], phi: Field, variance: Field | float) -> Field:
    """``sum_j v^j P_j(phi)``."""
    if isinstance(variance, float) and variance == 0:
        return _horner(parts[0], phi)
    total: Any = _horner(parts[-1], phi)
    for part in parts[-2::-1]:
        total = total * variance + _horner(part, phi)
    return total


def _polished(x: float, function: Sequence[float], slope: Sequence[float], last: float) -> float:
    """A root to rounding, from one that an eigenvalue gave; Newton's steps while they shrink, from below `last` on."""
    for _ in range(20):
        rise = float(_horner(slope, x))
        step = float(_horner(function, x)) / rise if rise else 0.0
        if not abs(step) < last:
            break
        x, last = x - step, abs(step)
    return x
