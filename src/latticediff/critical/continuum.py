r"""The critical coupling in units of the renormalised mass, :math:`f = g / \mu^2`.

In :math:`\frac12 (\partial\phi)^2 + \frac12 \mu_0^2 \phi^2 + \frac g4 \phi^4` (convention SL) the one divergent diagram
of two dimensions is the tadpole, and taking it out of the bare mass leaves one that stays finite,

.. math:: \mu^2 = \mu_0^2 + 3\,g\,A(\mu^2), \qquad
          A(\mu^2) = \int_{-\pi}^{\pi} \frac{d^2k}{(2\pi)^2} \frac{1}{\mu^2 + \hat k^2}
                   = \frac{K(m)}{\pi E}, \quad E = 2 + \tfrac12\mu^2, \quad m = 4 / E^2

(Loinaz and Willey, hep-lat/9712008; Schaich and Loinaz, 0902.0045), lattice units, infinite volume, K the complete
elliptic integral of the first kind with parameter m. On the critical line f tends to a number as g does to 0.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import ellipkm1

from ..action import Phi4
from ..errors import UserError

__all__ = ["F_CONTINUUM", "critical_ratio", "tadpole"]

#: f_c of the continuum, value and error: arXiv 2512.16536
F_CONTINUUM = (11.1097, 0.0022)

SMALLEST = 1e-290  #: mu^2; the tadpole grows like its logarithm only


def tadpole(mass_squared: float) -> float:
    """A(mu^2), the propagator at distance zero of a free field on the infinite square lattice.

    Raises
    ------
    UserError
        `mass_squared` is not above 0, where the integral diverges.
    """
    if not 0 < mass_squared < math.inf:
        raise UserError(f"mu^2 is {mass_squared}; expected a finite number above 0")
    energy = 2 + mass_squared / 2
    # 1 - m without the cancellation
    return float(ellipkm1((mass_squared / 2) * (energy + 2) / energy**2) / (math.pi * energy))


def critical_ratio(action: Phi4) -> float:
    """f = g / mu^2 of a theory; that of the continuum at criticality as g tends to 0.

    Parameters
    ----------
    action : Phi4
        Two-dimensional; any convention.

    Raises
    ------
    UserError
        Another dimension, no quartic coupling, or a mass that no number holds.
    """
    if action.ndim != 2:
        raise UserError(f"{action!r} has {action.ndim} dimensions; the tadpole is the only divergence in 2")
    found = action.in_convention("SL")[0]
    g, bare = found["lam"], found["mu0_sq"]
    if not g > 0:
        raise UserError(f"{action!r} has no quartic coupling; expected one above 0")
    high = max(1.0, bare)
    while high - bare - 3 * g * tadpole(high) < 0:
        high *= 2
    low = high
    while low - bare - 3 * g * tadpole(low) > 0:
        low /= 16
        if low < SMALLEST:
            raise UserError(
                f"mu^2 of {action!r} is below {SMALLEST}: far in the broken phase; expected a critical theory"
            )
    return float(g / brentq(lambda mu: mu - bare - 3 * g * tadpole(mu), low, high, xtol=1e-300, rtol=1e-14))
