r"""The massive sine-Gordon theory: a periodic potential held by a mass term,

.. math:: S = \sum_x \Big[ \tfrac12 \sum_\mu (\phi_{x+\mu} - \phi_x)^2 + \tfrac12 m^2 \phi_x^2
          - \frac{\alpha}{\beta^2} \cos(\beta \phi_x + \theta) \Big] .

For small :math:`\beta` and :math:`\theta = 0` the mass squared is :math:`m^2 + \alpha`. With small :math:`m^2` there is
a well in every period, ever less deep; at :math:`\theta = \pi` two of them are deepest.

Averages over a Gaussian of variance v are closed forms:
:math:`\langle \sin(\beta(\phi + \eta) + \theta) \rangle = e^{-\beta^2 v / 2} \sin(\beta\phi + \theta)`, likewise for
the cosine.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import UserError
from ..types import Description, Extents, FloatArray
from .contract import NumbaPotential, check_options
from .local import LocalAction
from .wells import Well, lowest_wells, wells_between

__all__ = ["SineGordon"]

MOST_WELLS = 10_000

Field = TypeVar("Field", bound=Any)  # an array of NumPy or torch, or a number


class SineGordon(LocalAction):
    """See the formula of this file.

    Parameters
    ----------
    m2 : float
        m^2, positive: the cosine alone does not hold a constant field.
    alpha : float
        Strength of the cosine; beta^2 times its height.
    beta : float
        Positive; the period of the potential is 2 pi / beta.
    theta : float
        Phase of the cosine. S(-phi) = S(phi) where it is 0 or pi.
    ndim : int
        Dimensions, 1 to 4.

    Raises
    ------
    UserError
        A number that is not finite, m2 or beta that is not positive.
    """

    unit_vectors = None  #: the axes of an array are those of the lattice
    name = "sine_gordon"
    formula = "1/2 sum_mu (d_mu phi)^2 + 1/2 m2 phi^2 - alpha/beta^2 cos(beta phi + theta)"

    def __init__(self, m2: float, alpha: float, beta: float, theta: float = 0.0, ndim: int = 2) -> None:
        super().__init__(1.0, ndim)
        given = {"m2": m2, "alpha": alpha, "beta": beta, "theta": theta}
        self.couplings: dict[str, float] = {}
        for key, number in given.items():
            try:
                self.couplings[key] = float(number)
            except (TypeError, ValueError, OverflowError):
                raise UserError(f"coupling {key} is {number!r}; expected a number") from None
            if not math.isfinite(self.couplings[key]):
                raise UserError(f"coupling {key} is {number}; expected a finite number")
        if not m2 > 0:
            raise UserError(f"m2 = {m2:g}: the integral of exp(-S) diverges along constant fields; expected m2 > 0")
        if not beta > 0:
            raise UserError(f"beta = {beta:g}; expected a positive number, the period of the potential is 2 pi / beta")
        self.m2, self.alpha, self.beta, self.theta = self.couplings.values()
        self.height = self.alpha / self.beta**2
        if not math.isfinite(self.height):
            raise UserError(f"alpha = {alpha:g}, beta = {beta:g}: alpha / beta^2 overflows; take ordinary sizes")
        self.is_symmetric = self._is_whole_turn()  #: S(-phi) = S(phi)
        # at theta = pi the sine of the nearest float is 1e-16, and would make what is even a little uneven
        self._sine = 0.0 if self.is_symmetric else math.sin(self.theta)
        self._cosine = math.cos(self.theta)

    def _is_whole_turn(self) -> bool:
        """Whether theta is a multiple of pi, as near as a float can say it."""
        return abs(math.remainder(self.theta, math.pi)) <= 4 * math.ulp(self.theta)

    @property
    def excess(self) -> float:
        """``m^2 / 2``, what a constant field's quadratic term is."""
        return 0.5 * self.m2

    def _wave(self, phi: Field) -> tuple[Field, Field]:
        """``cos(beta phi + theta)`` and the sine, odd and even to all bits where the theory is symmetric."""
        cosine, sine = _cos(self.beta * phi), _sin(self.beta * phi)
        return self._cosine * cosine - self._sine * sine, self._cosine * sine + self._sine * cosine

    def potential(self, phi: FloatArray) -> FloatArray:
        """``(d + m^2/2) phi^2 - alpha/beta^2 cos(beta phi + theta)``, site by site."""
        return (self.ndim + self.excess) * phi * phi - self.height * self._wave(phi)[0]

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``(2 d + m^2) phi + alpha/beta sin(beta phi + theta)``, site by site."""
        return 2 * (self.ndim + self.excess) * phi + self.height * self.beta * self._wave(phi)[1]

    def quadratic_form(self, shape: Extents) -> FloatArray:
        r"""``K(k) = p_hat^2 + m^2 + alpha cos(theta)`` on the full momentum grid, (*lattice), float64."""
        return 2 * self.ndim + self.m2 + self.alpha * self._cosine + self.coupling_form(shape)

    def local_force(self, phi: Field, variance: Field | float = 0.0, vacuum: float = 0.0) -> Field:
        """``<F(phi + eta)> - F'(m_0) phi``, F = ``alpha/beta sin(beta phi + theta) - alpha cos(theta) phi``.

        With theta a constant force is in it; see `latticediff.gaussian.contract.Expandable`.
        """
        linear = self.alpha * self._cosine + (float(self.local_curvature(vacuum)) if vacuum else 0.0)
        return self.height * self.beta * self._damped(variance) * self._wave(phi)[1] - linear * phi

    def local_curvature(self, phi: Field, variance: Field | float = 0.0) -> Field:
        """``<F'(phi + eta)>``; see `latticediff.gaussian.contract.Expandable`."""
        return self.alpha * (self._damped(variance) * self._wave(phi)[0] - self._cosine)

    def _damped(self, variance: Field | float) -> Any:
        exponent = -0.5 * self.beta**2 * variance
        return exponent.exp() if hasattr(exponent, "exp") else np.exp(exponent)

    def wells(self) -> tuple[Well, ...]:
        """Every local minimum of the action of constant fields, ascending: its value, action per site, curvature.

        Raises
        ------
        UserError
            More than `MOST_WELLS` periods between the outermost.
        """
        from scipy.optimize import brentq

        u, beta = self.height, self.beta

        def action(m: float) -> float:
            return self.excess * m * m - u * float(self._wave(m)[0])

        def slope(m: float) -> float:
            return self.m2 * m + u * beta * float(self._wave(m)[1])

        def curvature(m: float) -> float:
            return self.m2 + self.alpha * float(self._wave(m)[0])

        reach = abs(u) * beta / self.m2 + 1 / beta  # beyond, the mass term is stronger than the sine
        if reach * beta > 2 * math.pi * MOST_WELLS:
            raise UserError(f"{self!r} has wells in more than {MOST_WELLS} periods; take a larger m2")
        # between two zeros of U'' the slope is monotonic: no root is missed
        turns = [-reach, reach]
        if abs(self.alpha) > self.m2:
            angle = math.acos(-self.m2 / self.alpha)
            periods = range(-math.ceil(reach * beta / (2 * math.pi)) - 2, math.ceil(reach * beta / (2 * math.pi)) + 3)
            each = [(s * angle + 2 * math.pi * n - self.theta) / beta for n in periods for s in (-1, 1)]
            turns += [m for m in each if abs(m) < reach]
        turns.sort()
        roots = [
            float(brentq(slope, a, b, xtol=1e-15 * max(1.0, reach), rtol=1e-15))
            for a, b in itertools.pairwise(turns)
            if slope(a) * slope(b) < 0
        ]
        roots += [m for m in turns if slope(m) == 0]
        if self.is_symmetric:
            positive = [m for m in roots if m > 1e-9 / beta]
            roots = [*(-m for m in positive), 0.0, *positive]
        return wells_between(roots, action, slope, curvature)

    @property
    def minima(self) -> tuple[float, ...]:
        """Values of all constant fields of least action, within rounding; ascending."""
        return lowest_wells(self.wells(), lambda m: self.excess * m * m + abs(self.height))

    def numba_potential(self) -> NumbaPotential:
        """Numba-callable V and V' with parameters (a, alpha/beta^2, beta, theta); see `LocalAction`."""
        from .._kernels.potentials import sine_gordon_derivative, sine_gordon_value

        parameters = np.array([self.ndim + self.excess, self.height, self.beta, self.theta])
        return sine_gordon_value, sine_gordon_derivative, parameters

    @property
    def coefficients(self) -> tuple[float, ...]:
        """All numbers of the theory: (m2, alpha, beta, theta)."""
        return tuple(self.couplings.values())

    def options(self) -> dict[str, Any]:
        """The keys of ``[action]`` that name this theory: those of `from_options`."""
        return dict(self.couplings)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], ndim: int) -> Self:
        """The action that the keys of a card name: ``m2``, ``alpha``, ``beta``, ``theta``."""
        check_options(options, ("m2", "alpha", "beta", "theta"), cls.name)
        return cls(options["m2"], options["alpha"], options["beta"], options.get("theta", 0.0), ndim)

    def describe(self) -> Description:
        """JSON-able: name, couplings, dimension."""
        return {"name": self.name, "couplings": self.options(), "ndim": self.ndim}

    @classmethod
    def from_description(cls, description: Description) -> Self:
        """The action whose `describe` gave this description."""
        return cls.from_options(description["couplings"], description["ndim"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SineGordon) and self.describe() == other.describe()

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.couplings.values()), self.ndim))

    def __repr__(self) -> str:
        told = ", ".join(f"{key}={value:g}" for key, value in self.couplings.items())
        return f"SineGordon({told}, ndim={self.ndim})"


def _cos(x: Field) -> Any:
    return x.cos() if hasattr(x, "cos") else np.cos(x)


def _sin(x: Field) -> Any:
    return x.sin() if hasattr(x, "sin") else np.sin(x)
