r"""How heavy the tail of the weights is: its Pareto shape, and the largest weight above the mean."""

import math

import numpy as np
from numpy.typing import ArrayLike

from ..host import numpy_defaults
from ..types import FloatArray
from .log_weights import checked_weights

__all__ = ["largest_above_mean", "pareto_k"]


@numpy_defaults()
def largest_above_mean(log_weight: ArrayLike) -> float:
    """Largest log_weight above the mean: how long, in logarithms, a chain would stick at its worst configuration.

    Parameters
    ----------
    log_weight : array_like, or a list of chains
        Of configurations of the target.

    Returns
    -------
    float
        inf where an entry is +inf.

    Raises
    ------
    UserError
        As `ess_forward`.
    """
    log_weight = checked_weights(log_weight, "forward log_weight", forward=True)
    return float(log_weight.max() - log_weight.mean()) if np.isfinite(log_weight).all() else math.inf


@numpy_defaults()
def pareto_k(log_weight: ArrayLike) -> float:
    r"""Shape of the generalised Pareto tail of the weights; above 0.7 their averages cannot be trusted.

    The largest ``M = min(N/5, 3 sqrt(N))`` weights, less the threshold, are fitted by the profile
    method of Zhang and Stephens, Technometrics 51 (2009) 316, and k is regularised towards 0.5 by a
    prior worth ten tail draws: Vehtari et al., "Pareto smoothed importance sampling", 1507.02646.
    Moments of w up to order 1/k exist.

    Parameters
    ----------
    log_weight : array_like

    Returns
    -------
    float
        NaN with fewer than five draws in the tail; -inf where the tail is flat (all weights equal).

    Raises
    ------
    UserError
        As `ess_reverse`.
    """
    log_weight = np.sort(checked_weights(log_weight, "log_weight"))
    n = log_weight.size
    m = int(min(n / 5, 3 * math.sqrt(n)))
    if m < 5:
        return math.nan
    w = np.exp(log_weight - log_weight[-1])
    excess = w[-m:] - w[-m - 1]
    if not excess[-1] > 1e-13:
        return -math.inf
    return _zhang_stephens(excess[excess > 0])


def _zhang_stephens(x: FloatArray) -> float:
    """Posterior-mean estimate of k for sorted positive excesses x."""
    n = x.size
    if n < 5:
        return math.nan
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4 + 0.5) - 1]
    b = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3 * quartile)
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = n * (np.log(-b / k) - k - 1)
    profile = np.where(np.isfinite(profile), profile, -np.inf)
    posterior = np.exp(profile - profile.max())
    b_mean = (b * posterior).sum() / posterior.sum()
    k_hat = np.log1p(-b_mean * x).mean()
    return float((n * k_hat + 10 * 0.5) / (n + 10))
