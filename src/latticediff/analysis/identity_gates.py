r"""Gates on identities: means that are exactly 1 in equilibrium, tested at `n_sigma` standard errors."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from .gamma import mean
from .gate import Gate, measured_names, require_positive, two_sided

__all__ = ["exp_delta_h_gate", "schwinger_dyson_gate"]


def _exact_one(name: str, series: ArrayLike, n_sigma: float, max_error: float, advice_off: str) -> Gate:
    """Gate on a mean that is exactly 1."""
    require_positive("max_error", max_error)
    try:
        estimate = mean(series, name=name)
        value, error = estimate.value, estimate.error
    except UserError:
        # constant, as exp(-delta_h) is for an exact integrator: no error, but still 1 or not
        value, error = float(np.mean(np.asarray(series))), 0.0
        if not np.isfinite(value):
            raise
    off = not abs(value - 1) <= n_sigma * error + 1e-12  # an error that is NaN does not pass
    advice = ""
    if off:
        advice = advice_off
    elif error > max_error:
        factor = math.ceil((error / max_error) ** 2)
        advice = f"the error is above {max_error:g}, too large to see a fault: about {factor} times as many updates"
    return Gate(name, not advice, value, error, f"1 within {n_sigma:g} sigma", two_sided(n_sigma), advice)


def schwinger_dyson_gate(series: Mapping[str, ArrayLike], n_sigma: float = 4.0, max_error: float = 0.02) -> Gate:
    """Gate: ``<phi dS/dphi>/V = 1``, exact in equilibrium of this very action, so it also sees wrong couplings.

    Parameters
    ----------
    series : dict of str to array_like, shape (n_chains, n) or (n,)
        From `measure_primary`; needs ``sd``.
    n_sigma : float
        Largest deviation from 1 that passes, in standard errors.
    max_error : float
        Largest error that passes: with a larger one the gate could not see a fault.

    Returns
    -------
    Gate
        Its value is the mean.

    Raises
    ------
    UserError
        There is no ``sd``, it is not finite, or `n_sigma` or `max_error` is not above 0.
    """
    measured_names(series, ["sd"], "schwinger-dyson")
    advice = "the ensemble is not in equilibrium of this action: check couplings and convention, thermalise longer"
    return _exact_one("schwinger-dyson", series["sd"], n_sigma, max_error, advice)


def exp_delta_h_gate(delta_h: ArrayLike, n_sigma: float = 4.0, max_error: float = 0.02) -> Gate:
    """Gate: ``<exp(-delta_h)> = 1``, by reversibility and volume preservation. +inf (diverged) counts as 0.

    Parameters
    ----------
    delta_h : array_like, shape (n_chains, n) or (n,)
        Energy violations of the trajectories, in Monte Carlo order.
    n_sigma, max_error : float
        As in `schwinger_dyson_gate`.

    Returns
    -------
    Gate
        Its value is the mean.

    Raises
    ------
    UserError
        `delta_h` has a NaN, or `n_sigma` or `max_error` is not above 0.
    """
    delta_h = real_array(delta_h, "delta_h")
    if np.isnan(delta_h).any():
        raise UserError(f"delta_h has {np.isnan(delta_h).sum()} NaN; a diverged trajectory is +inf, a rejection")
    ratio = np.exp(np.minimum(-delta_h, 300.0))  # an enormous gain fails the gate; its square must not overflow
    advice = "trajectories diverge or the start is not thermalised: lower the step size, discard more of the start"
    return _exact_one("exp(-delta_h)", ratio, n_sigma, max_error, advice)
