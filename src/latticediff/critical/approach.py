r"""How :math:`f = g / \mu^2` on the critical line tends to its continuum value as the lattice coupling g does to 0.

The lattice propagator at long distances is the continuum's and a contact term,
:math:`G(x) = G_c(x) + \frac1{16} \delta(x)`, from :math:`\hat k^2 = k^2 - \frac1{12} \sum k_\mu^4`. Tadpoles are in
:math:`\mu^2` exactly. Two vertices joined by three lines then shift the mass, by two lines the coupling, with
:math:`T = \log(32 / \mu^2) / 4\pi`, the leading form of the tadpole A (`continuum`):

.. math:: \delta\mu^2 = -6 g^2 \Big( \sum_x G^3 - \int G_c^3 \Big)
              = -6 g^2 \Big( \tfrac{3}{16} T^2 - \tfrac{3}{64\pi} T + ... \Big), \qquad
          \delta g = -9 g^2 \Big( \sum_x G^2 - \int G_c^2 \Big) = -\tfrac98 g^2\, T + ...

(constants left out). The continuum is critical at :math:`f_c` of the shifted mass and coupling, so that

.. math:: f(g) = f_c + g \Big[ a + \tfrac98 f_c T
                  - \frac{6 f_c^2}{1 + 3 f_c / 4\pi} \Big( \tfrac{3}{16} T^2 - \tfrac{3}{64\pi} T \Big) \Big]
                 + O(g^2 \log^4 g), \qquad T = \frac{\log(32 f_c / g)}{4\pi} :

both logarithms are known, and what is fitted are f_c, a, and one number of the next order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import least_squares

from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray
from .continuum import F_CONTINUUM

if TYPE_CHECKING:
    from ..types import Description

__all__ = ["FORMS", "Approach", "approach", "continuum_limit", "first_order", "tadpole_logarithm"]

LEAST = 3  #: points, one for each number that is fitted


def tadpole_logarithm(g: FloatArray, f_c: float) -> FloatArray:
    """T = log(32 f_c / g) / (4 pi), the shape of `g`."""
    return np.asarray(np.log(32 * f_c / g) / (4 * math.pi))


def first_order(g: FloatArray, f_c: float) -> FloatArray:
    """What multiplies g in f(g), but for a constant; the shape of `g`."""
    t = tadpole_logarithm(g, f_c)
    mass = 3 / 16 * t**2 - 3 / (64 * math.pi) * t
    return 9 / 8 * f_c * t - 6 * f_c**2 / (1 + 3 * f_c / (4 * math.pi)) * mass


def _with_constant(g: FloatArray, p: FloatArray) -> FloatArray:
    return p[0] + g * (p[1] + first_order(g, p[0])) + p[2] * g**2


def _with_logarithms(g: FloatArray, p: FloatArray) -> FloatArray:
    # of order one at g = 1, as g^2 is
    return p[0] + g * (p[1] + first_order(g, p[0])) + p[2] * g**2 * (tadpole_logarithm(g, p[0]) / 0.47) ** 4


def _free(g: FloatArray, p: FloatArray) -> FloatArray:
    return p[0] + g * (p[1] + p[2] * np.log(g))


#: f(g) with (f_c, a, one number more). The next order is g^2 times a polynomial of degree 4 in T, and the first two
#: take one end of it each; the third supposes one logarithm alone and knows nothing of its factor
FORMS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "g^2": _with_constant,
    "g^2 T^4": _with_logarithms,
    "g log g, free": _free,
}


@dataclass(frozen=True)
class Approach:
    """A fit of f(g) in one of `FORMS`."""

    form: str
    parameters: tuple[float, float, float]  #: the first is f_c
    error: float  #: of f_c; larger by sqrt(chi2 / dof) where that is above 1
    chi2: float
    dof: int

    @property
    def value(self) -> float:
        """f_c."""
        return self.parameters[0]

    def at(self, g: FloatArray) -> FloatArray:
        """f at couplings above 0, of their shape."""
        return FORMS[self.form](np.asarray(g, np.float64), np.asarray(self.parameters))


def approach(g: Sequence[float], f: Sequence[float], errors: Sequence[float], form: str = "g^2") -> Approach:
    """Fit f(g) by least squares.

    Parameters
    ----------
    g, f, errors : sequence of float
        Lattice coupling, g / mu^2 at criticality and its standard error; errors are independent of each other.
    form : str
        One of `FORMS`.

    Returns
    -------
    Approach

    Raises
    ------
    UserError
        Fewer than three different g, lengths that differ, numbers that are not finite and above 0, or no such form.
    """
    if form not in FORMS:
        raise UserError(f"form is {form!r}; expected one of {', '.join(FORMS)}")
    x, y, error = (real_array(list(row), name) for row, name in ((g, "g"), (f, "f"), (errors, "errors")))
    if not len(x) == len(y) == len(error) or len(set(x.tolist())) < LEAST:
        raise UserError(
            f"a fit of f(g) got {len(x)} g, {len(y)} f and {len(error)} errors; expected as many of each, at"
            f" {LEAST} or more different g"
        )
    if not all(np.isfinite(row).all() and (row > 0).all() for row in (x, y, error)):
        raise UserError("a fit of f(g) got numbers that are not finite and above 0; leave such points out")
    found = least_squares(lambda p: (FORMS[form](x, p) - y) / error, [float(y[x.argmin()]), 0.0, 0.0], method="lm")
    chi2, dof = float(2 * found.cost), len(x) - LEAST
    covariance = np.linalg.inv(found.jac.T @ found.jac)
    wider = math.sqrt(max(1.0, chi2 / dof)) if dof else 1.0
    a, b, c = (float(p) for p in found.x)
    return Approach(form, (a, b, c), wider * math.sqrt(float(covariance[0, 0])), chi2, dof)


def continuum_limit(g: Sequence[float], f: Sequence[float], errors: Sequence[float]) -> Description | None:
    """f_c from all of `FORMS`, JSON-able: the middle of the two with known logarithms, and half of their difference.

    Parameters
    ----------
    g, f, errors : sequence of float
        As of `approach`.

    Returns
    -------
    dict or None
        ``value``, its ``error`` from ``statistical`` (the larger one) and ``systematic``, ``published`` and ``sigma``
        from it, ``fits``, and the points; None for fewer than three.
    """
    if len(set(g)) < LEAST:
        return None
    fits = [approach(g, f, errors, form) for form in FORMS]
    one, other = fits[:2]
    value, statistical = (one.value + other.value) / 2, max(one.error, other.error)
    systematic = abs(one.value - other.value) / 2
    error = math.hypot(statistical, systematic)
    return {
        "value": value,
        "error": error,
        "statistical": statistical,
        "systematic": systematic,
        "published": list(F_CONTINUUM),
        "sigma": (value - F_CONTINUUM[0]) / math.hypot(error, F_CONTINUUM[1]),
        "fits": [
            {
                "form": fit.form,
                "value": fit.value,
                "error": fit.error,
                "parameters": list(fit.parameters),
                "chi2": fit.chi2,
                "dof": fit.dof,
            }
            for fit in fits
        ],
        "g": list(g),
        "f": list(f),
        "errors": list(errors),
    }
