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
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft, special

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray, IntArray

__all__ = ["Estimate", "TauInt", "autocorrelation", "autocorrelation_error", "derived", "mean", "tau_int"]

SHORT = 50.0  #: N / tau_int, one error up, below which a series is too short for its own tau_int
S_TAU = 1.5  #: assumed ratio tau_exp / tau_int in the window rule; Wolff's choice
#: range of the largest magnitude in a series; beyond, sums of squares over 1e8 entries overflow, or vanish
SMALLEST, LARGEST = 1e-140, 1e145
FFT_BATCH = 2**22  #: float64 numbers transformed at once; bounds the memory for many chains


@dataclass(frozen=True)
class TauInt:
    """Integrated autocorrelation time of one series, tau_int = 1/2 + sum rho."""

    value: float
    error: float
    window: int  #: W, the largest lag summed
    n: int  #: entries of all chains together
    rho: FloatArray  #: normalised autocorrelation function, lags 0 .. 2 W, for figures
    #: False: the series is shorter than 50 tau_int, or the sum was cut at half the chain length; then the value is
    #: more of a lower bound, and its error a guess
    window_found: bool

    def pair(self) -> list[float]:
        """``[value, error]``, JSON-able."""
        return [self.value, self.error]


@dataclass(frozen=True)
class Estimate:
    """Ensemble value of an observable with its statistical error."""

    value: float
    error: float
    tau_int: float = math.nan
    tau_int_error: float = math.nan
    n: int = 0  #: entries of all chains together
    error_of_error: float = math.nan
    window: int = 0
    window_found: bool = True

    def pair(self) -> list[float | None]:
        """``[value, error]``, JSON-able; None in place of what is not finite."""
        return [x if math.isfinite(x) else None for x in (self.value, self.error)]

    def __str__(self) -> str:
        return format_error(self.value, self.error)


def format_error(value: float, error: float) -> str:
    """``0.1305(11)``: the error has two digits, in units of the last digits of the value."""
    if not (math.isfinite(value) and math.isfinite(error)) or error <= 0:
        return f"{value:.6g}" if not math.isfinite(error) or error == 0 else f"{value:.6g} +- {error:.2g}"
    digits = 1 - math.floor(math.log10(float(f"{error:.1e}")))
    if digits > 0:
        return f"{value:.{digits}f}({round(error * 10**digits)})"
    return f"{round(value, digits):.0f}({round(error, digits):.0f})"


def as_chains(series: ArrayLike, name: str = "series") -> tuple[FloatArray, IntArray]:
    """Rectangular array of chains and their lengths; shorter chains are padded with zeros.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n), or a list of 1D arrays of different lengths
    name : str
        What messages call the series.

    Returns
    -------
    values : ndarray, shape (n_chains, n_longest), float64
    lengths : ndarray, shape (n_chains,), int

    Raises
    ------
    UserError
        Fewer than two entries in a chain, more than two axes, a value that is no finite real number or so large that
        its square is none, none above 1e-140 but zero, or time along the first axis, where that can be told.
    """
    if isinstance(series, (list, tuple)) and len({np.size(chain) for chain in series}) > 1:
        chains = [real_array(chain, name, booleans=True) for chain in series]
        if any(chain.ndim != 1 for chain in chains):
            raise UserError(f"{name} is a list of {[chain.ndim for chain in chains]}-dimensional arrays; expected 1D")
        lengths = np.array([len(chain) for chain in chains])
        values = np.zeros((len(chains), lengths.max()))
        for row, chain in zip(values, chains, strict=True):
            row[: len(chain)] = chain
    else:
        values = real_array(series, name, booleans=True)
        if values.ndim not in (1, 2) or values.size == 0:
            raise UserError(f"{name} has shape {values.shape}; expected (n,) or (n_chains, n) with entries in it")
        values = np.atleast_2d(values)
        lengths = np.full(len(values), values.shape[1])
    if lengths.min() < 2:
        raise UserError(
            f"{name} has a chain of {lengths.min()} entries (axes are n_chains, n);"
            " an error needs at least 2, better 100 tau_int"
        )
    if not np.isfinite(values).all():
        raise UserError(f"{name} has a value that is not finite; find the damaged configuration before averaging")
    largest = float(np.abs(values).max())
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise UserError(
            f"{name} has values of up to {largest:.3g}, whose squares leave the range of float64; expected"
            f" {SMALLEST:g} to {LARGEST:g}: find what blew up, or measure in other units"
        )
    if values.shape[0] > values.shape[1]:
        _refuse_swapped_axes(values, lengths, name)
    return values, lengths


def _refuse_swapped_axes(values: FloatArray, lengths: IntArray, name: str) -> None:
    """Refuse (n, n_chains), which shows where neighbouring rows are correlated and neighbours within a row are not.

    Rows are independent chains, in whatever order, so neighbours among them are not correlated but by chance; in
    time they may be. An array laid the other way shows the opposite, and would be given tau_int = 1/2.
    """
    n_chains, n = values.shape
    if lengths.min() != n:
        return
    rows = values - values.mean(axis=0)  # what all chains share at one time is no likeness of neighbours
    times = values - values.mean()
    size, spread = np.vdot(rows, rows), np.vdot(times, times)
    if not size > 1e-26 * np.vdot(values, values):
        return
    along_rows = np.vdot(rows[1:], rows[:-1]) / size
    along_time = np.vdot(times[:, 1:], times[:, :-1]) / spread * n / (n - 1)
    # 8 sigma of independent entries, a false alarm in 1e15; correlations in time cannot feign it: they would be larger
    if along_rows > max(8 / math.sqrt(values.size), 2 * along_time):
        raise UserError(
            f"{name} has shape {values.shape}, read as (n_chains, n) = {n_chains} chains of {n} entries; but"
            f" neighbouring chains are correlated ({along_rows:.2f}) and neighbouring entries not ({along_time:.2f}):"
            " pass its transpose, chains along the first axis and Monte Carlo time along the second"
        )


def autocovariance(deltas: FloatArray, lengths: IntArray, n_lags: int) -> FloatArray:
    r"""``Gamma(t) = sum_r sum_i delta_r,i delta_r,i+t / sum_r max(N_r - t, 1)``, eq. (31), by FFT.

    Parameters
    ----------
    deltas : ndarray, shape (n_chains, n), float64
        Fluctuations about the mean over *all* chains, zero beyond each chain's end.
    lengths : ndarray, shape (n_chains,), int64
        Entries of each chain.
    n_lags : int
        Lags 0 .. n_lags - 1; at most n.

    Returns
    -------
    ndarray, shape (n_lags,), float64
    """
    n_chains, n = deltas.shape
    size = fft.next_fast_len(n + n_lags, real=True)  # zeros behind the data keep lags from wrapping around
    power = np.zeros(size // 2 + 1)
    rows = max(1, FFT_BATCH // size)
    for first in range(0, n_chains, rows):
        modes = fft.rfft(deltas[first : first + rows], size, axis=1)
        power += (modes.real**2 + modes.imag**2).sum(axis=0)
    lags = np.arange(n_lags)
    if np.all(lengths == n):
        pairs = n_chains * (n - lags).astype(np.float64)
    else:
        pairs = np.maximum(lengths[:, None] - lags, 0).sum(axis=0).astype(np.float64)
    return fft.irfft(power, size)[:n_lags] / np.maximum(pairs, 1)


def _centre(values: FloatArray, lengths: IntArray) -> tuple[float, FloatArray, bool]:
    """Mean over all chains, deviations from it, and whether there are any."""
    average = values.sum() / lengths.sum()
    deltas = values - average
    if not np.all(lengths == values.shape[1]):
        deltas[np.arange(values.shape[1]) >= lengths[:, None]] = 0
    # a mean is off by rounding, so a constant series has tiny deviations rather than none
    moves = np.abs(deltas).max() > 1e-13 * np.abs(values).max()
    return average, deltas, bool(moves)


def _stands_still(values: FloatArray, lengths: IntArray) -> bool:
    """Whether no chain ever moves (they may stand at different values): then there is no autocorrelation time."""
    steps = np.abs(np.diff(values, axis=1))
    if not np.all(lengths == values.shape[1]):
        steps[np.arange(1, values.shape[1]) >= lengths[:, None]] = 0
    return bool(steps.max() <= 1e-13 * np.abs(values).max())


def _refuse_constant(name: str, average: float, lengths: IntArray) -> NoReturn:
    where = f"constant ({average:g}, {lengths.sum()} entries)"
    if len(lengths) > 1:
        where = f"constant in each of {len(lengths)} chains (mean {average:g}, {lengths.sum()} entries)"
    raise UserError(
        f"{name} is {where}: no autocorrelation time, no error."
        " A chain that never moved has acceptance 0: improve its proposal or run longer before measuring"
    )


def _fluctuations(values: FloatArray, lengths: IntArray, name: str) -> FloatArray:
    """Deviations from the mean over all chains; refuses a series without any."""
    average, deltas, moves = _centre(values, lengths)
    if not moves or _stands_still(values, lengths):
        _refuse_constant(name, average, lengths)
    return deltas


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
def autocorrelation(series: ArrayLike, n_lags: int | None = None) -> FloatArray:
    r"""Normalised autocorrelation function ``rho(t) = Gamma(t) / Gamma(0)``.

    Parameters
    ----------
    series : array_like
        As in `tau_int`.
    n_lags : int, optional
        Lags 0 .. n_lags - 1; half the longest chain by default.

    Returns
    -------
    ndarray, shape (n_lags,), float64

    Raises
    ------
    UserError
        As `tau_int`.
    """
    values, lengths = as_chains(series)
    deltas = _fluctuations(values, lengths, "series")
    n_lags = max(2, int(lengths.max()) // 2) if n_lags is None else min(int(n_lags), int(lengths.max()))
    gamma = autocovariance(deltas, lengths, n_lags)
    return gamma / gamma[0]


@numpy_defaults()
def autocorrelation_error(rho: ArrayLike, n: int, n_lags: int | None = None) -> FloatArray:
    r"""Standard error of rho(t),

    .. math:: \sigma^2_\rho(t) = \frac1N \sum_{k \ge 1} [\rho(k+t) + \rho(k-t) - 2 \rho(t) \rho(k)]^2

    M. Luescher, hep-lat/0409106, appendix E.

    Parameters
    ----------
    rho : ndarray, shape (n_known,)
        From lag 0. The sum runs as far as it is given; cut it a few windows out, since what follows is noise.
    n : int
        Entries of the series, all chains together.
    n_lags : int, optional
        Errors of lags 0 .. n_lags - 1; all by default.

    Returns
    -------
    ndarray, shape (n_lags,), float64
    """
    known = np.asarray(rho)
    n_known = len(known)
    padded = np.concatenate([known, np.zeros(n_known)])
    k = np.arange(1, n_known)
    error = np.zeros(n_known if n_lags is None else min(n_lags, n_known))
    for t in range(1, len(error)):
        terms = padded[k + t] + padded[np.abs(k - t)] - 2 * padded[t] * padded[k]
        error[t] = math.sqrt((terms**2).sum() / n)
    return error


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
    deltas = _fluctuations(values, lengths, name)
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
    parts = [_centre(values, lengths) for values, _ in chains]
    pairs = zip(chains, parts, strict=True)
    if not any(moves and not _stands_still(values, lengths) for (values, _), (_, _, moves) in pairs):
        _refuse_constant(name, parts[0][0], lengths)
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
