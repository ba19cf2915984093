r"""Fluctuations of a series about its mean, and their autocorrelation function with its error.

U. Wolff, hep-lat/0306017 (equation numbers are of that paper); the error is of M. Luescher, hep-lat/0409106.
"""

import math
from typing import NoReturn

import numpy as np
from numpy.typing import ArrayLike
from scipy import fft

from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray, IntArray
from .chains import as_chains

__all__ = [
    "autocorrelation",
    "autocorrelation_error",
    "autocovariance",
    "centre",
    "fluctuations",
    "refuse_constant",
    "stands_still",
]

FFT_BATCH = 2**22  #: float64 numbers transformed at once; bounds the memory for many chains


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


def centre(values: FloatArray, lengths: IntArray) -> tuple[float, FloatArray, bool]:
    """Deviations from the mean over all chains.

    Parameters
    ----------
    values : ndarray, shape (n_chains, n), float64
        Zero beyond each chain's end, as from `as_chains`.
    lengths : ndarray, shape (n_chains,), int64

    Returns
    -------
    average : float
    deltas : ndarray, shape (n_chains, n), float64
        Zero beyond each chain's end.
    moves : bool
        Whether there are deviations larger than rounding.
    """
    average = values.sum() / lengths.sum()
    deltas = values - average
    if not np.all(lengths == values.shape[1]):
        deltas[np.arange(values.shape[1]) >= lengths[:, None]] = 0
    # a mean is off by rounding, so a constant series has tiny deviations rather than none
    moves = np.abs(deltas).max() > 1e-13 * np.abs(values).max()
    return average, deltas, bool(moves)


def stands_still(values: FloatArray, lengths: IntArray) -> bool:
    """Whether no chain ever moves; they may stand at different values. Then there is no autocorrelation time.

    Parameters
    ----------
    values, lengths
        As in `centre`.

    Returns
    -------
    bool
    """
    steps = np.abs(np.diff(values, axis=1))
    if not np.all(lengths == values.shape[1]):
        steps[np.arange(1, values.shape[1]) >= lengths[:, None]] = 0
    return bool(steps.max() <= 1e-13 * np.abs(values).max())


def refuse_constant(name: str, average: float, lengths: IntArray) -> NoReturn:
    """Raise the `UserError` that says which series is constant, at what value, and what that means for a chain."""
    where = f"constant ({average:g}, {lengths.sum()} entries)"
    if len(lengths) > 1:
        where = f"constant in each of {len(lengths)} chains (mean {average:g}, {lengths.sum()} entries)"
    raise UserError(
        f"{name} is {where}: no autocorrelation time, no error."
        " A chain that never moved has acceptance 0: improve its proposal or run longer before measuring"
    )


def fluctuations(values: FloatArray, lengths: IntArray, name: str) -> FloatArray:
    """Deviations from the mean over all chains, where there are any.

    Parameters
    ----------
    values, lengths
        As in `centre`.
    name : str
        What the message calls the series.

    Returns
    -------
    ndarray, shape (n_chains, n), float64
        Zero beyond each chain's end.

    Raises
    ------
    UserError
        The series is constant, or no chain ever moves.
    """
    average, deltas, moves = centre(values, lengths)
    if not moves or stands_still(values, lengths):
        refuse_constant(name, average, lengths)
    return deltas


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
    deltas = fluctuations(values, lengths, "series")
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
