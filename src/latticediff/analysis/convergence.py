r"""Is a chain long enough, has it thermalised, do the chains agree? Answers are figures and advice, never cuts."""

import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray, IntArray
from .chains import as_chains
from .fluctuations import autocorrelation, autocorrelation_error
from .gamma import tau_int
from .result import TauInt

__all__ = [
    "ShortChainWarning",
    "TauExp",
    "Thermalization",
    "find_thermalization",
    "further_updates",
    "r_hat",
    "short_chain_notice",
    "tau_exp",
    "warn_if_short",
]


class ShortChainWarning(UserWarning):
    """A chain is too short for its error to be trusted; the message says how many more updates to run."""


@dataclass(frozen=True)
class Thermalization:
    """Where the memory of the start is lost, as far as the data can tell."""

    suggested_cut: int  #: entries to leave out at the start of each chain; 0: nothing to see
    largest_sigma: float  #: largest deviation of an early segment from the second half
    reliable: bool  #: False: the cut reaches the middle, so even the reference is in doubt


@numpy_defaults()
def find_thermalization(series: ArrayLike, n_sigma: float = 4.0, name: str = "series") -> Thermalization:
    r"""Compare early segments with the second half of the run; suggest, never cut.

    The first half is divided into segments that double in length (the earliest as short as one
    entry in 128), so that a fast and a slow transient both fill one. Each segment mean, over all
    chains, is compared with the mean of the second half, with tau_int of the second half. The suggestion
    is the end of the last segment that deviates by more than `n_sigma`.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n)
    n_sigma : float
        4 by default: at most 8 segments give a false alarm in 0.05 % of equilibrated Gaussian series.
    name : str
        Used in messages.

    Returns
    -------
    Thermalization

    Raises
    ------
    UserError
        Fewer than 16 entries per chain, chains of different lengths, or a constant second half.
    """
    values, lengths = as_chains(series, name)
    n_chains, n = values.shape
    if lengths.min() != n or n < 16:
        raise UserError(f"{name} has chains of {lengths.min()} to {n} entries; expected equal lengths of at least 16")
    half = n // 2
    late = values[:, half:]
    tau = max(0.5, tau_int(late, name=name).value)
    variance, centre = late.var(), late.mean()
    late_error2 = 2 * tau * variance / late.size
    edges = sorted({max(1, half >> shift) for shift in range(7)} | {0})
    cut, largest = 0, 0.0
    for start, stop in itertools.pairwise(edges):
        # entries closer than 2 tau count as one: never more variance than one entry per chain has
        error2 = variance * min(1.0, 2 * tau / (stop - start)) / n_chains + late_error2
        sigma = abs(values[:, start:stop].mean() - centre) / math.sqrt(error2)
        largest = max(largest, sigma)
        if sigma > n_sigma:
            cut = stop
    return Thermalization(cut, float(largest), cut < half)


@numpy_defaults()
def r_hat(series: ArrayLike) -> float:
    r"""Rank-normalised split R-hat over chains, the larger of bulk and folded; 1 when chains agree.

    Vehtari, Gelman, Simpson, Carpenter, Buerkner, "Rank-normalization, folding, and localization",
    Bayesian Analysis 16 (2021) 667, 1903.08008, section 4. Each chain is split in two halves, so one
    chain alone is compared with itself.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n)

    Returns
    -------
    float
        Above 1.01 more updates are wise, above 1.1 the chains have not mixed. inf when every half is constant.

    Raises
    ------
    UserError
        Fewer than 4 entries per chain, or chains of different lengths.
    """
    values, lengths = as_chains(series)
    n = values.shape[1]
    if lengths.min() != n or n < 4:
        raise UserError(f"chains have {lengths.min()} to {n} entries; R-hat needs equal lengths of at least 4")
    half = n // 2
    halves = np.concatenate([values[:, :half], values[:, n - half :]])
    folded = np.abs(halves - np.median(halves))
    return max(_plain_r_hat(_normal_scores(halves)), _plain_r_hat(_normal_scores(folded)))


def _normal_scores(values: FloatArray) -> FloatArray:
    """Normal quantiles of the fractional ranks (Blom's offsets); ties share the average rank."""
    ranks = stats.rankdata(values, method="average").reshape(values.shape)
    return special.ndtri((ranks - 0.375) / (values.size + 0.25))


def _plain_r_hat(chains: FloatArray) -> float:
    n = chains.shape[1]
    between = n * chains.mean(axis=1).var(ddof=1)
    within = chains.var(axis=1, ddof=1).mean()
    if within <= 1e-26 * max(1.0, between):
        return 1.0 if between <= 1e-26 else math.inf
    return math.sqrt((n - 1) / n + between / (n * within))


@dataclass(frozen=True)
class TauExp:
    """Exponential autocorrelation time, from the decay of rho."""

    value: float  #: NaN when rho falls into the noise at once: nothing to fit
    error: float
    lags: tuple[int, int]  #: first and last lag of the fit


@numpy_defaults()
def tau_exp(series: ArrayLike, n_sigma: float = 3.0) -> TauExp:
    r"""Slope of ``log rho(t)`` over the lags where rho stands out of its noise.

    Noise of rho by `autocorrelation_error`. The fit starts at one tau_int, where faster modes have mostly
    died, and ends where rho is no longer `n_sigma` above zero; its error is a jackknife over ten groups of
    chains, or stretches of time where there are fewer chains. A lower bound by nature: the slowest mode may not
    couple to the observable.

    Parameters
    ----------
    series : array_like, shape (n,) or (n_chains, n)
    n_sigma : float

    Returns
    -------
    TauExp
        In entries of the series.

    Raises
    ------
    UserError
        As `tau_int`.
    """
    values, lengths = as_chains(series)
    tau = tau_int(series)
    rho = autocorrelation(series)
    noise = autocorrelation_error(rho[: 4 * tau.window + 2], tau.n, 2 * tau.window + 1)
    below = np.flatnonzero(rho[: len(noise)] < n_sigma * noise)
    last = int(below[0]) - 1 if len(below) else len(noise) - 1
    first = min(max(1, round(tau.value)), max(1, last - 1))
    if last < 1 or last <= first - 1:
        return TauExp(math.nan, math.nan, (first, last))
    value = _slope(rho, first, last)
    pieces = _jackknife_pieces(values, lengths)
    replicas = np.array([_slope(autocorrelation(piece, last + 1), first, last) for piece in pieces])
    replicas = replicas[np.isfinite(replicas)]
    error = math.sqrt((len(replicas) - 1) * replicas.var()) if len(replicas) > 1 else math.nan
    return TauExp(float(value), float(error), (first, last))


def _slope(rho: FloatArray, first: int, last: int) -> float:
    """tau from rho(t) ~ exp(-t / tau) by weighted least squares; weights rho^2 for equal absolute errors."""
    t, r = np.arange(first, last + 1), rho[first : last + 1]
    if not np.all(r > 0):
        return math.nan
    if first == last:
        return -first / math.log(r[0])  # a single lag: use rho(0) = 1 as the other point
    slope = np.polyfit(t, np.log(r), 1, w=r)[0]
    return -1 / slope if slope < 0 else math.nan


def _jackknife_pieces(values: FloatArray, lengths: IntArray, n_pieces: int = 10) -> Iterator[list[FloatArray]]:
    """The data with one tenth left out at a time: chains where there are enough, stretches of time otherwise."""
    if len(values) >= n_pieces:
        for part in np.array_split(np.arange(len(values)), n_pieces):
            kept = np.setdiff1d(np.arange(len(values)), part)
            yield [values[c, : lengths[c]] for c in kept]
        return
    n = int(lengths.min())
    edges = np.linspace(0, n, n_pieces + 1).astype(int)
    for start, stop in itertools.pairwise(edges):
        # what lies before and after the gap stays two chains: no lag reaches across it
        parts = [values[c, :start] for c in range(len(values))] + [
            values[c, stop : lengths[c]] for c in range(len(values))
        ]
        yield [part for part in parts if len(part) >= 2]


@numpy_defaults()
def further_updates(tau: TauInt, n_wanted: float = 100.0) -> int:
    """Entries that all chains together must still add until their length is `n_wanted` tau_int; 0 if it is already.

    Parameters
    ----------
    tau : TauInt
    n_wanted : float
        50 gives an error known to about 30 %, 100 to 20 %, 1000 to 7 %.

    Returns
    -------
    int
    """
    # one error up: a chain this short tends to underestimate its own tau_int
    target = n_wanted * max(0.5, tau.value + (tau.error if math.isfinite(tau.error) else 0.0))
    return max(0, math.ceil(target - tau.n))


@numpy_defaults()
def short_chain_notice(tau: TauInt, n_chains: int = 1, n_wanted: float = 50.0, name: str = "series") -> str:
    """One line with the number of further updates if a chain is too short for its tau_int, else "".

    Parameters
    ----------
    tau : TauInt
    n_chains : int
        Chains that share the work.
    n_wanted : float
        Entries wanted, in units of tau_int.
    name : str

    Returns
    -------
    str
    """
    missing = further_updates(tau, n_wanted)
    if tau.window_found and not missing:
        return ""
    reason = f"{tau.n / max(tau.value, 0.5):.0f} tau_int"
    if not missing:  # a shorter n_wanted than the rule of tau_int itself, or chains shorter than their memory
        reason = "its autocorrelation sum has no safe end"
        missing = tau.n
    return (
        f"{name}: {tau.n} entries, tau_int = {tau.value:.3g} +- {tau.error:.2g} ({reason}); its error is not to be"
        f" trusted, run at least {math.ceil(missing / n_chains)} more entries in each of {n_chains} chains"
    )


@numpy_defaults()
def warn_if_short(tau: TauInt, n_chains: int = 1, n_wanted: float = 50.0, name: str = "series") -> bool:
    """Warn with the line of `short_chain_notice`, if there is one, by a `ShortChainWarning`.

    Parameters
    ----------
    tau, n_chains, n_wanted, name
        As `short_chain_notice`.

    Returns
    -------
    bool
        Whether it warned.
    """
    notice = short_chain_notice(tau, n_chains, n_wanted, name)
    if notice:
        warnings.warn(notice, ShortChainWarning, stacklevel=3)  # the caller, beyond the decorator
    return bool(notice)
