r"""log Z and free-energy differences from log-weights, with errors that know of autocorrelation.

``log_weight = log(e^{-S} / q)`` with a *normalised* q, so that :math:`Z = \int e^{-S} = E_q[w]`. With
reverse weights (draws of q) and forward weights (configurations of :math:`\pi = e^{-S}/Z`),

.. math::
    \log Z = \log E_q[w], \qquad \log Z = -\log E_\pi[1/w], \qquad
    Z = \frac{E_q[w\,h]}{E_\pi[h]} \text{ for any } h > 0 ,

and the third has least variance for :math:`h = 1 / (N_q + N_\pi w / Z)`: Bennett, J. Comput. Phys. 22
(1976) 245, eq. (12); Meng and Wong, Statistica Sinica 6 (1996) 831. For two states this is MBAR
(Shirts and Chodera, 0801.1426, eq. 11). Jensen's inequality gives bounds without any exponential,

.. math:: E_q[\log w] \le \log Z \le E_\pi[\log w] .

All of it holds on paths too (reverse SDE, annealed refinement), and for two theories: with
``log_weight = S_0 - S_1`` on configurations of both, log Z becomes log Z_1 - log Z_0.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray
from .gamma import mean, tau_int
from .log_weights import check_log_weights
from .result import Estimate

__all__ = ["FreeEnergy", "free_energy", "log_z_bridge", "log_z_forward", "log_z_reverse"]

#: spread of log_weight below which it counts as constant: rounding errors of an exact proposal
FLAT = 1e-10


def checked_log_weight(log_weight: ArrayLike, name: str, forward: bool = False) -> FloatArray:
    """Log-weights of one series or of several chains, checked.

    -inf is allowed for draws, whose weight may be zero; +inf for given configurations (`forward`), which q may never
    draw.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n)
    name : str
        What messages call them.
    forward : bool
        They belong to given configurations.

    Returns
    -------
    ndarray, shape of `log_weight`, float64

    Raises
    ------
    UserError
        Other shapes, fewer than two entries, NaN, the wrong infinity, or no finite entry.
    """
    log_weight = real_array(log_weight, name)
    if log_weight.ndim not in (1, 2) or log_weight.shape[-1] < 2:
        raise UserError(f"{name} has shape {log_weight.shape}; expected (n,) or (n_chains, n) with n of at least 2")
    check_log_weights(log_weight, name, forward)
    return log_weight


def _flat(values: FloatArray) -> bool:
    return np.ptp(values) <= FLAT * max(1.0, np.abs(values).max())


def _log_mean(log_values: FloatArray, correlated: bool, name: str) -> Estimate:
    """``log <exp>`` of a series; error by the delta method, ``error(<e>) / <e>``."""
    top = log_values.max()
    values = np.exp(log_values - top)
    n = values.size
    if _flat(values):  # an exact proposal: every weight is Z
        return Estimate(float(top + math.log(values.mean())), 0.0, 0.5, 0.0, n)
    if correlated:
        found = mean(values, name=name)
        return Estimate(top + math.log(found.value), found.error / found.value, found.tau_int, found.tau_int_error, n)
    average = values.mean()
    return Estimate(float(top + math.log(average)), float(values.std(ddof=1) / average / math.sqrt(n)), 0.5, 0.0, n)


@numpy_defaults()
def log_z_reverse(log_weight: ArrayLike, correlated: bool = False) -> Estimate:
    r"""``log Z = log E_q[w]`` from draws of the proposal.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n)
        -inf counts as weight zero. exp of the result is unbiased; its logarithm is low by half the
        square of the error.
    correlated : bool
        The entries are Markov chains (two theories compared): error by the Gamma method.

    Returns
    -------
    Estimate

    Raises
    ------
    UserError
        NaN, +inf, or no finite entry.
    """
    return _log_mean(checked_log_weight(log_weight, "log_weight"), correlated, "weight")


@numpy_defaults()
def log_z_forward(log_weight: ArrayLike, correlated: bool = True) -> Estimate:
    r"""``log Z = -log E_pi[1/w]`` from configurations of the target.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n)
        In Monte Carlo order; +inf (log_q = -inf) counts as 1/w = 0.
    correlated : bool
        Error by the Gamma method; False for independent configurations.

    Returns
    -------
    Estimate

    Raises
    ------
    UserError
        NaN, -inf, or no finite entry.
    """
    found = _log_mean(-checked_log_weight(log_weight, "forward log_weight", forward=True), correlated, "1/weight")
    return Estimate(-found.value, found.error, found.tau_int, found.tau_int_error, found.n)


def _effective_number(log_weight: FloatArray, correlated: bool) -> float:
    finite = np.where(np.isfinite(log_weight), log_weight, np.nanmax(np.abs(log_weight[np.isfinite(log_weight)])))
    if not correlated or _flat(finite):
        return float(log_weight.size)
    return log_weight.size / (2 * tau_int(finite, name="log_weight").value)


@numpy_defaults()
def log_z_bridge(
    reverse: ArrayLike, forward: ArrayLike, reverse_correlated: bool = False, forward_correlated: bool = True
) -> Estimate:
    r"""Bennett's acceptance ratio: draws and configurations together.

    With :math:`u = \log w - \log Z + M`, :math:`M = \log(N_\pi / N_q)` and the logistic function f, log Z
    solves :math:`e^M E_\pi[f(-u)] = E_q[f(u)]`. The N are effective numbers, autocorrelation taken off:
    any M is exact, that one is best. The error is that of the two means at fixed u; the change of u with
    log Z does not contribute to first order.

    Parameters
    ----------
    reverse, forward : array_like, shape (n,) or (n_chains, n)
        log_weight of draws of q and of configurations of the target.
    reverse_correlated, forward_correlated : bool
        Which of them are Markov chains.

    Returns
    -------
    Estimate

    Raises
    ------
    UserError
        As `log_z_reverse` and `log_z_forward`.
    """
    reverse = checked_log_weight(reverse, "log_weight")
    forward = checked_log_weight(forward, "forward log_weight", forward=True)
    ratio = math.log(_effective_number(forward, forward_correlated) / _effective_number(reverse, reverse_correlated))

    def log_sides(log_z: float) -> tuple[FloatArray, FloatArray]:
        """Logarithms of f(u) over the draws and of f(-u) over the configurations."""
        return special.log_expit(reverse - log_z + ratio), special.log_expit(log_z - forward - ratio)

    def excess(log_z: float) -> float:
        drawn, target = log_sides(log_z)
        return (special.logsumexp(drawn) - math.log(drawn.size)) - (
            ratio + special.logsumexp(target) - math.log(target.size)
        )

    finite = np.concatenate([a[np.isfinite(a)] for a in (reverse, forward)])
    low, high, reach = finite.min(), finite.max(), 1.0 + abs(ratio)
    # excess falls from +inf to -inf; the root lies near the data, how near depends on the ratio
    while excess(low - reach) < 0 or excess(high + reach) > 0:
        reach *= 2
    log_z = optimize.brentq(excess, low - reach, high + reach, xtol=1e-12 * max(1.0, abs(low), abs(high)))
    drawn, target = (
        _log_mean(side, correlated, name)
        for side, correlated, name in zip(
            log_sides(log_z), (reverse_correlated, forward_correlated), ("bridge, draws", "bridge, target"), strict=True
        )
    )
    return Estimate(
        float(log_z),
        math.hypot(drawn.error, target.error),
        target.tau_int,
        target.tau_int_error,
        reverse.size + forward.size,
    )


@dataclass(frozen=True)
class FreeEnergy:
    """Three estimates of one log Z, and the two bounds."""

    reverse: Estimate
    forward: Estimate
    bridge: Estimate  #: the one to quote
    lower: Estimate  #: E_q[log w]; -inf where a draw has weight zero
    upper: Estimate  #: E_pi[log w]

    @property
    def tension(self) -> float:
        """(reverse - forward) in combined errors; NaN if neither has one. Far from 0: q misses part of the target."""
        error = math.hypot(self.reverse.error, self.forward.error)
        return (self.reverse.value - self.forward.value) / error if error > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """JSON-able pairs; log Z, dimensionless."""
        names = ("reverse", "forward", "bridge", "lower", "upper")
        tension = self.tension
        return {
            **{f"log_z_{name}": getattr(self, name).pair() for name in names},
            "tension_sigma": tension if math.isfinite(tension) else None,
        }


@numpy_defaults()
def free_energy(
    reverse: ArrayLike, forward: ArrayLike, reverse_correlated: bool = False, forward_correlated: bool = True
) -> FreeEnergy:
    """All estimates of this module from one set of log-weights.

    Parameters
    ----------
    reverse, forward, reverse_correlated, forward_correlated
        As `log_z_bridge`.

    Returns
    -------
    FreeEnergy

    Raises
    ------
    UserError
        As `log_z_bridge`.
    """
    reverse = checked_log_weight(reverse, "log_weight")
    forward = checked_log_weight(forward, "forward log_weight", forward=True)
    return FreeEnergy(
        log_z_reverse(reverse, reverse_correlated),
        log_z_forward(forward, forward_correlated),
        log_z_bridge(reverse, forward, reverse_correlated, forward_correlated),
        _mean(reverse, reverse_correlated),
        _mean(forward, forward_correlated),
    )


def _mean(log_weight: FloatArray, correlated: bool) -> Estimate:
    if not np.isfinite(log_weight).all():
        return Estimate(float(log_weight.mean()), math.nan, n=log_weight.size)
    if _flat(log_weight):
        return Estimate(float(log_weight.mean()), 0.0, 0.5, 0.0, log_weight.size)
    if correlated:
        return mean(log_weight, name="log_weight")
    n = log_weight.size
    return Estimate(float(log_weight.mean()), float(log_weight.std(ddof=1) / math.sqrt(n)), 0.5, 0.0, n)
