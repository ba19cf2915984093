r"""A propagator from the couplings alone, by the gap equation.

.. math:: G^{-1}(k) = K(k) + \langle F'(\eta) \rangle_{\bar c}, \qquad \bar c = \frac1V \sum_k G(k),

with the quadratic form K and the local force F of the theory, and Gaussian :math:`\eta` of the variance
:math:`\bar c`; for phi^4 the shift is :math:`12 b \bar c` (Hartree). It misses the mass near a critical point, and
serves where long waves are given, as in inverse blocking.
"""

from typing import Any

import numpy as np
from scipy.optimize import brentq

from ..errors import UserError
from ..gaussian.contract import Expandable
from ..types import Extents, FloatArray

__all__ = ["gap_propagator"]


def gap_propagator(action: Expandable, shape: Extents) -> FloatArray:
    """G(k) of the gap equation, (*lattice), float64.

    Parameters
    ----------
    action : Expandable
    shape : tuple of int

    Returns
    -------
    ndarray, shape (*lattice), float64

    Raises
    ------
    UserError
        The theory is no `Expandable`, or the equation has no solution.
    """
    if not isinstance(action, Expandable):
        raise UserError(f"{action!r} has no quadratic form to expand around; give a propagator (--propagator ens.h5)")
    kinetic: Any = action.quadratic_form(shape)
    lowest = float(kinetic.min())

    def excess(log_mass: float) -> float:
        mass = np.exp(log_mass)
        variance = float((1 / (kinetic - lowest + mass)).mean())
        return float(mass - lowest - action.local_curvature(np.float64(0.0), variance))

    low, high = np.log(1e-12), np.log(1e12)
    if not excess(low) < 0 < excess(high):
        raise UserError(f"the gap equation of {action!r} has no solution; give a propagator (--propagator ens.h5)")
    return 1 / (kinetic - lowest + np.exp(brentq(excess, low, high, xtol=1e-13)))
