r"""The Gamma method: autocorrelation function, automatic window, errors of means and derived quantities.

U. Wolff, "Monte Carlo errors with less errors", Comput. Phys. Commun. 156 (2004) 143,
hep-lat/0306017; equation numbers below are of that paper. Chains are its replicas.

A derived quantity F of means has the fluctuation series
:math:`\delta_i = \sum_\alpha f_\alpha (a_\alpha^i - \bar a_\alpha)` with
:math:`f_\alpha = \partial F / \partial \bar a_\alpha` (eq. 33), the autocorrelation function
:math:`\Gamma(t) = \langle \delta_i \delta_{i+t} \rangle` and the variance
:math:`\sigma_F^2 = 2 \tau_{int} \Gamma(0) / N`, where

.. math:: \tau_{int} = \tfrac12 + \sum_{s \ge 1} \rho(s), \qquad \rho = \Gamma / \Gamma(0).

0.5 means independent. Other codes print :math:`1 + 2 \sum \rho`, twice as much. Time is counted
in the entries of the series.

A series shorter than 50 tau_int does not know its own tau_int: the estimate is low on average, its error is
as large as itself, and so the error of the mean varies from one such series to the next. That is said
(``window_found`` is False) and paid for: the variance is known like one of
:math:`\nu = N / (2 W + 1)` degrees of freedom (Wolff's eq. 42 with the window in place of tau_int), so the error is
widened by the quantile of Student's distribution that holds 68.3 %. On AR(1) series the one-sigma interval of
the mean then covers 0.65 to 0.71 from 20 tau_int upwards; the table is in docs/validation.md.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray, IntArray
from .chains import as_chains
from .fluctuations import (
    autocorrelation,
    autocorrelation_error,
    autocovariance,
    centre,
    fluctuations,
    refuse_constant,
    stands_still,
)
from .result import Estimate, TauInt, format_error

__all__ = [
    "Estimate",
    "TauInt",
    "as_chains",
    "autocorrelation",
    "autocorrelation_error",
    "derived",
    "format_error",
    "mean",
    "tau_int",
]

SHORT = 50.0  #: N / tau_int, one error up, below which a series is too short for its own tau_int
S_TAU = 1.5  #: assumed ratio tau_exp / tau_int in the window rule; Wolff's choice


def _gamma_analysis(deltas: FloatArray, lengths: IntArray, s_tau: float) -> tuple[TauInt, float]:
    """Window, tau_int and variance of the mean, section 3 of the paper."""
    if not s_tau > 0:
        raise UserError(f"s_tau is {s_tau}; expected a number above 0, 1 to 2 as a rule")
    n = int(lengths.sum())
    n_lags = max(2, int(lengths.max()) // 2)
    gamma = autocovariance(deltas, lengths, n_lags)
    rho = gamma / gamma[0]
    # tau_int as a function of the window. The rule below has no meaning for anticorrelated data (it
    # would stop at lag one, in the middle of an alternating sum), so those count as independent
    partial = np.maximum(np.cumsum(rho) - 0.5, 0.5 + np.finfo(np.float64).eps)

    # eqs. (50) to (52): tau(W) from tau_int(W) by the ansatz of one exponential, then the first W
    # where the sum of systematic and statistical error stops falling
    lags = np.arange(1, n_lags)
    tau = s_tau / np.log((2 * partial[1:] + 1) / (2 * partial[1:] - 1))
    stops = np.flatnonzero(np.exp(-lags / tau) - tau / np.sqrt(lags * n) < 0)
    ends = len(stops) > 0
    window = int(lags[stops[0]] if ends else lags[-1])

    # eq. (49): subtracting the estimated mean lowers every Gamma(t) by about 2 tau_int Gamma(0) / N;
    # the sum is corrected by its 2 W + 1 terms, Gamma(0) by the naive 1 / N (as pyerrors does)
    corrected = 1 + (2 * window + 1) / n
    spectral = 2 * partial[window] * gamma[0] * corrected
    value = spectral / (2 * gamma[0] * (1 + 1 / n))
    error = 2 * partial[window] * math.sqrt(abs(window + 0.5 - partial[window]) / n)  # eq. (42)
    error_of_mean = math.sqrt(spectral / n)
    window_found = ends and n >= SHORT * (max(value, 0.5) + error)
    if not window_found:
        # eq. (42) vanishes where rho stays at one; without its subtraction (Madras and Sokal) it cannot
        error = value * math.sqrt((4 * window + 2) / n)
        error_of_mean *= special.stdtrit(max(1.0, n / (2 * window + 1)), special.ndtr(1.0))
    result = TauInt(float(value), float(error), window, n, rho[: 2 * window + 1].copy(), bool(window_found))
    return result, float(error_of_mean)


@numpy_defaults()
def tau_int(series: ArrayLike, s_tau: float = S_TAU, name: str = "series") -> TauInt:
    r"""Integrated autocorrelation time, ``1/2 + sum_{s=1}^W rho(s)``, with the automatic window.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n), or a list of 1D arrays of different lengths
        One number per entry of each chain, in Monte Carlo order. All chains share one mean and one
        window.
    s_tau : float
        S of eq. (51), the assumed tau_exp / tau_int. Larger gives wider windows.
    name : str
        Used in messages.

    Returns
    -------
    TauInt
        Value, its error by eq. (42), window; in entries of the series. Never below 0.5: an
        anticorrelated series counts as independent, which errs on the safe side. Below 50 tau_int `window_found` is
        False, and the error that of Madras and Sokal, J. Stat. Phys. 50 (1988) 109, ``tau_int sqrt((4 W + 2) / N)``.

    Raises
    ------
    UserError
        A constant series (it has no tau_int), or chains that stand still, each at its value; fewer than two entries; a
        value that is no finite real number; more chains than entries whose neighbours are correlated while neighbouring
        entries are not: an array laid out as (n, n_chains).
    """
    values, lengths = as_chains(series, name)
    deltas = fluctuations(values, lengths, name)
    return _gamma_analysis(deltas, lengths, s_tau)[0]


def _gradient(f: Callable[..., float], means: FloatArray, steps: Sequence[float]) -> FloatArray:
    """Central differences, twice Richardson-extrapolated: error O(step^6)."""
    gradient = np.zeros(len(means))
    for index, step in enumerate(steps):
        if step == 0:
            continue

        def slope(h: float, index: int = index) -> float:
            up, down = means.copy(), means.copy()
            up[index] += h
            down[index] -= h
            return (f(*up) - f(*down)) / (up[index] - down[index])

        coarse, middle, fine = slope(step), slope(step / 2), slope(step / 4)
        first, second = (4 * middle - coarse) / 3, (4 * fine - middle) / 3
        gradient[index] = (16 * second - first) / 15
    return gradient


@numpy_defaults()
def derived(
    f: Callable[..., float], series: Sequence[ArrayLike], s_tau: float = S_TAU, name: str | None = None
) -> Estimate:
    r"""Value and error of ``F(<a_1>, ..., <a_k>)`` with a numerical gradient.

    Parameters
    ----------
    f : callable
        Takes k floats, the means, and returns a float.
    series : sequence of k series
        Each as in `tau_int`, all of one shape and from the same configurations: their covariance counts.
    s_tau : float
        See `tau_int`.
    name : str, optional
        Used in messages.

    Returns
    -------
    Estimate
        tau_int is that of the fluctuations of F. Value NaN where F is not defined at the means;
        error NaN where it is not defined within one naive standard error of them. Below 50 tau_int `window_found` is
        False and the error widened by Student's quantile; see the head of this module.

    Raises
    ------
    UserError
        Series of different shapes, or any of the errors of `tau_int`.

    Examples
    --------
    >>> binder = derived(lambda m2, m4: 1 - m4 / (3 * m2**2), [m2, m4])  # doctest: +SKIP
    """
    name = name or "series"
    chains = [as_chains(a, name) for a in series]
    if not chains:
        raise UserError(f"{name}: no series given; expected one for each argument of the function")
    lengths = chains[0][1]
    if any(not np.array_equal(other, lengths) for _, other in chains[1:]):
        shapes = [f"{values.shape[0]} x {values.shape[1]}" for values, _ in chains]
        raise UserError(f"{name}: series have shapes {', '.join(shapes)}; expected the same configurations in each")
    n = int(lengths.sum())
    parts = [centre(values, lengths) for values, _ in chains]
    pairs = zip(chains, parts, strict=True)
    if not any(moves and not stands_still(values, lengths) for (values, _), (_, _, moves) in pairs):
        refuse_constant(name, parts[0][0], lengths)
    means = np.array([average for average, _, _ in parts])
    # the step is the scale on which F is sampled anyway: one naive standard error of each mean;
    # a constant among moving inputs contributes nothing
    steps = [math.sqrt(np.vdot(deltas, deltas)) / n if moves else 0.0 for _, deltas, moves in parts]
    value = float(f(*means))
    gradient = _gradient(f, means, steps)
    if not (math.isfinite(value) and np.isfinite(gradient).all()):
        return Estimate(value, math.nan, n=n)
    projected: Any = sum(slope * deltas for slope, (_, deltas, _) in zip(gradient, parts, strict=True))
    if not np.abs(projected).max() > 0:
        raise UserError(f"{name}: the function does not depend on its means to first order; its error is undefined")
    tau, error = _gamma_analysis(projected, lengths, s_tau)
    error_of_error = error * math.sqrt((tau.window + 0.5) / n)
    return Estimate(value, error, tau.value, tau.error, n, error_of_error, tau.window, tau.window_found)


@numpy_defaults()
def mean(series: ArrayLike, s_tau: float = S_TAU, name: str | None = None) -> Estimate:
    """Mean of a series with its Gamma-method error; `derived` with the identity.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n), or a list of 1D arrays of different lengths
    s_tau : float
        See `tau_int`.
    name : str, optional
        Used in messages.

    Returns
    -------
    Estimate

    Raises
    ------
    UserError
        As `derived`.
    """
    return derived(lambda a: a, [series], s_tau, name)
