r"""What log-weights say about a proposal: ESS in both directions, tails, and the acceptance to expect.

``log_weight = -S - log_q``, so ``w = exp(log_weight)`` is proportional to target over proposal
density. *Reverse* weights belong to draws of the proposal q, *forward* weights to configurations of
the target p (held-out HMC data). Reverse figures cannot see what the proposal never draws; the
forward ones can, so both belong in every report. Weights are handled as logarithms relative to
their largest: a constant shift of log_weight changes nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray
from .gamma import LARGEST, Estimate, tau_int

__all__ = [
    "WeightReport",
    "check_log_weights",
    "ess_forward",
    "ess_reverse",
    "expected_acceptance",
    "gaussian_acceptance",
    "largest_above_mean",
    "pareto_k",
    "weight_report",
]

N_BLOCKS = 10_000  #: bootstrap resamples at most this many blocks, so its cost does not grow with the data


@numpy_defaults()
def check_log_weights(log_weight: FloatArray, name: str, forward: bool = False) -> None:
    """Refuse log-weights that cannot be right: a NaN, the wrong infinity, or no finite entry at all.

    -inf is right for draws, whose weight may be zero; +inf for given configurations (`forward`), which the proposal may
    never draw.

    Parameters
    ----------
    log_weight : ndarray, float64
    name : str
        What the message calls them.
    forward : bool

    Raises
    ------
    UserError
        The log-weights are refused.
    """
    if np.isnan(log_weight).any():
        raise UserError(f"{name} has {np.isnan(log_weight).sum()} NaN; a NaN weight is a defect of its proposal")
    forbidden = -np.inf if forward else np.inf
    if (log_weight == forbidden).any():
        raise UserError(f"{name} contains {forbidden}; no configuration of its ensemble can have that weight")
    if not np.isfinite(log_weight).any():
        raise UserError(f"{name} has no finite entry; the proposal and the target do not overlap")


def _chains(log_weight: ArrayLike, name: str) -> list[FloatArray]:
    """One float64 array for each chain: of a list of series, the rows of (n_chains, n), or the only one."""
    if isinstance(log_weight, (list, tuple)) and any(np.ndim(part) for part in log_weight):
        return [real_array(part, name).ravel() for part in log_weight]
    log_weight = real_array(log_weight, name)
    return list(log_weight) if log_weight.ndim == 2 else [log_weight.ravel()]


def _checked(log_weight: ArrayLike, name: str, forward: bool = False) -> FloatArray:
    """Flat float64 array of at least two log-weights, chain after chain."""
    log_weight = np.concatenate(_chains(log_weight, name))
    if log_weight.size < 2:
        raise UserError(f"{name} has {log_weight.size} entries; expected at least 2")
    check_log_weights(log_weight, name, forward)
    return log_weight


def _log_block_sums(log_column: FloatArray, block: int, lengths: Sequence[int]) -> FloatArray:
    """``log sum exp`` over consecutive entries of one chain, its incomplete tail in a block of its own."""
    sums = []
    for chain in np.split(log_column, np.cumsum(lengths)[:-1]):
        n_blocks = -(-chain.size // block)
        padded = np.full(n_blocks * block, -np.inf)
        padded[: chain.size] = chain
        sums.append(special.logsumexp(padded.reshape(n_blocks, block), axis=1))
    return np.concatenate(sums)


def _default_block(chains: Sequence[FloatArray]) -> int:
    """Two tau_int of log_weight, at least one; 1 where the chains are too short to have one."""
    floor = min((chain[np.isfinite(chain)].min() for chain in chains if np.isfinite(chain).any()), default=0.0)
    series = [np.where(np.isfinite(chain), chain, floor) for chain in chains]
    if min(len(chain) for chain in series) < 2 or all(np.ptp(chain) == 0 for chain in series):
        return 1
    scale = _scale(series)
    return math.ceil(2 * tau_int([chain / scale for chain in series], name="log_weight").value - 1e-9)


def _scale(series: Sequence[FloatArray]) -> float:
    """1, but the largest magnitude where squares would overflow: a field that blew up has a finite action of 1e200."""
    largest = float(max(np.abs(chain).max() for chain in series))
    return largest if largest > LARGEST else 1.0


def _with_bootstrap(
    log_statistic: Callable[..., float],
    log_columns: Sequence[FloatArray],
    block: int,
    n_bootstrap: int,
    rng: np.random.Generator | None,
    lengths: Sequence[int],
) -> tuple[float, float]:
    """``exp(log_statistic(log sums))`` and its standard deviation over block resamples.

    Everything stays logarithmic: a resample that misses the largest weight must not underflow.
    """
    sums = np.array([_log_block_sums(column, block, lengths) for column in log_columns])
    value = float(np.exp(log_statistic(*special.logsumexp(sums, axis=1))))
    n_blocks = sums.shape[1]
    if n_blocks < 2:
        return value, math.nan
    rng = np.random.default_rng(0) if rng is None else rng  # a fixed default: reports are reproducible
    values = np.empty(n_bootstrap)
    for index in range(n_bootstrap):
        chosen = sums[:, rng.integers(n_blocks, size=n_blocks)]
        top = np.maximum(chosen.max(axis=1), -1e300)  # a resample may hold nothing but weights of zero
        with np.errstate(divide="ignore"):
            values[index] = log_statistic(*(top + np.log(np.exp(chosen - top[:, None]).sum(axis=1))))
    values = np.where(np.isfinite(values), np.exp(values), 0.0)
    return value, float(np.std(values, ddof=1))


@numpy_defaults()
def ess_reverse(
    log_weight: ArrayLike,
    block: int | None = None,
    n_bootstrap: int = 200,
    rng: np.random.Generator | None = None,
    correlated: bool = False,
) -> Estimate:
    r"""Effective sample size per draw of the proposal, ``(sum w)^2 / (N sum w^2)``.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n), or a list of chains of different lengths
        Of draws from the proposal; -inf counts as weight zero.
    block : int, optional
        Entries per bootstrap block; none spans two chains. Default: one, or 2 tau_int of log_weight if `correlated`.
    n_bootstrap : int
        Resamples for the error.
    rng : numpy.random.Generator, optional
        A fixed one by default.
    correlated : bool
        The entries are Markov chains, in Monte Carlo order.

    Returns
    -------
    Estimate
        Between 1/N and 1, with bootstrap error.

    Raises
    ------
    UserError
        NaN, +inf, or no finite entry.
    """
    chains = _chains(log_weight, "log_weight")
    log_w = _checked(chains, "log_weight")
    block, lengths = _blocks(chains, block, correlated)
    log_w = log_w - log_w.max()

    def log_ess(log_n: float, log_w1: float, log_w2: float) -> float:
        return 2 * log_w1 - log_n - log_w2

    columns = (np.zeros(log_w.size), log_w, 2 * log_w)
    return Estimate(*_with_bootstrap(log_ess, columns, block, n_bootstrap, rng, lengths), n=log_w.size)


def _blocks(chains: Sequence[FloatArray], block: int | None, correlated: bool) -> tuple[int, list[int]]:
    """Entries per block, and the lengths of the stretches that must not share a block."""
    if block is None:
        block = max(_default_block(chains) if correlated else 1, -(-sum(map(len, chains)) // N_BLOCKS))
    elif block < 1:
        raise UserError(f"block is {block}; expected at least 1")
    # one series of independent entries may be cut anywhere
    return int(block), [len(chain) for chain in chains] if correlated else [sum(len(chain) for chain in chains)]


@numpy_defaults()
def ess_forward(
    log_weight: ArrayLike,
    block: int | None = None,
    n_bootstrap: int = 200,
    rng: np.random.Generator | None = None,
    correlated: bool = True,
) -> Estimate:
    r"""Effective sample size seen from the target, ``1 / (E_p[w] E_p[1/w])``.

    ``E_p[1/w]`` is the inverse normalisation and ``E_p[w]`` the second moment of the weight under the
    proposal, so for enough data this equals `ess_reverse`; for a proposal with thin tails it is smaller.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n), or a list of chains of different lengths
        Of configurations of the *target* ensemble, for instance HMC, in Monte Carlo order; +inf (log_q = -inf) gives 0.
        Chains that take turns in one flat array hide their correlation: lay them side by side.
    block, n_bootstrap, rng
        As in `ess_reverse`.
    correlated : bool
        The default, for configurations come from Markov chains: blocks of 2 tau_int. False for independent ones.

    Returns
    -------
    Estimate

    Raises
    ------
    UserError
        NaN, -inf, or no finite entry.
    """
    chains = _chains(log_weight, "forward log_weight")
    log_weight = _checked(chains, "forward log_weight", forward=True)
    if np.isinf(log_weight).any():
        return Estimate(0.0, 0.0, n=log_weight.size)
    block, lengths = _blocks(chains, block, correlated)

    def log_ess(log_n: float, log_w: float, log_inverse: float) -> float:
        return 2 * log_n - log_w - log_inverse

    columns = (np.zeros(log_weight.size), log_weight, -log_weight)
    return Estimate(*_with_bootstrap(log_ess, columns, block, n_bootstrap, rng, lengths), n=log_weight.size)


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
    log_weight = _checked(log_weight, "forward log_weight", forward=True)
    return float(log_weight.max() - log_weight.mean()) if np.isfinite(log_weight).all() else math.inf


@numpy_defaults()
def expected_acceptance(log_weight: ArrayLike) -> float:
    r"""Equilibrium acceptance of the independence Metropolis step, from draws of the proposal alone.

    .. math:: \langle \min(1, w'/w) \rangle
              = \frac{\sum_{i \ne j} \min(w_i, w_j)}{(N - 1) \sum_i w_i}
              = \frac{2 \sum_k (N - 1 - k) \, w_{(k)}}{(N - 1) \sum_i w_i}

    with w' from q and w from p (draws reweighted by w); all pairs at once by sorting, O(N log N),
    ``w_(k)`` ascending from k = 0. A pair of a draw with itself is left out: it would always accept.

    Parameters
    ----------
    log_weight : array_like
        Of draws from the proposal; -inf counts as weight zero.

    Returns
    -------
    float

    Raises
    ------
    UserError
        As `ess_reverse`.
    """
    log_weight = np.sort(_checked(log_weight, "log_weight"))
    n = log_weight.size
    w = np.exp(log_weight - log_weight[-1])
    return float(2 * (w * np.arange(n - 1, -1, -1)).sum() / ((n - 1) * w.sum()))


@numpy_defaults()
def gaussian_acceptance(ess: float) -> float:
    """Acceptance ``erfc(s / 2)`` that an ESS of ``exp(-s^2)`` implies for Gaussian log-weights."""
    return math.erfc(math.sqrt(max(0.0, -math.log(ess))) / 2) if ess > 0 else 0.0


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
    log_weight = np.sort(_checked(log_weight, "log_weight"))
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


@dataclass(frozen=True)
class WeightReport:
    """Everything worth printing about the weights of one proposal."""

    ess_reverse: Estimate
    acceptance: float  #: expected in equilibrium
    pareto_k: float
    log_weight_std: float
    n_zero: int  #: draws of weight zero, log_weight = -inf
    ess_forward: Estimate | None
    forward_largest: float | None  #: largest forward log_weight above the forward mean
    forward_pareto_k: float | None


@numpy_defaults()
def weight_report(
    log_weight: ArrayLike,
    forward: ArrayLike | None = None,
    forward_block: int | None = None,
    rng: np.random.Generator | None = None,
) -> WeightReport:
    """All diagnostics of this module.

    Parameters
    ----------
    log_weight : array_like
        Of draws from the proposal.
    forward : array_like, shape (n,) or (n_chains, n), or a list of chains, optional
        Of held-out configurations of the target, in Monte Carlo order.
    forward_block : int, optional
        Bootstrap block for the forward data; 2 tau_int of them by default.
    rng : numpy.random.Generator, optional

    Returns
    -------
    WeightReport

    Raises
    ------
    UserError
        As `ess_reverse` and `ess_forward`.
    """
    draws = _checked(log_weight, "log_weight")
    finite = draws[np.isfinite(draws)]
    seen, largest, forward_k = None, None, None
    if forward is not None:
        seen, largest = ess_forward(forward, forward_block, rng=rng), largest_above_mean(forward)
        forward_k = None if seen.value == 0 else pareto_k(forward)
    return WeightReport(
        ess_reverse(draws, rng=rng),
        expected_acceptance(draws),
        pareto_k(draws),
        float((finite / (scale := _scale([finite]))).std() * scale),
        int(draws.size - finite.size),
        seen,
        largest,
        forward_k,
    )
