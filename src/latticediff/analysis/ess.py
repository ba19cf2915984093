r"""Effective sample size in both directions, with the error of a bootstrap over blocks that stays in logarithms."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray
from .chains import LARGEST
from .gamma import tau_int
from .log_weights import checked_weights, weight_chains
from .result import Estimate

__all__ = ["ess_forward", "ess_reverse", "scale_of"]

N_BLOCKS = 10_000  #: bootstrap resamples at most this many blocks, so its cost does not grow with the data


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
    scale = scale_of(series)
    return math.ceil(2 * tau_int([chain / scale for chain in series], name="log_weight").value - 1e-9)


def scale_of(series: Sequence[FloatArray]) -> float:
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
    chains = weight_chains(log_weight, "log_weight")
    log_w = checked_weights(chains, "log_weight")
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
    chains = weight_chains(log_weight, "forward log_weight")
    log_weight = checked_weights(chains, "forward log_weight", forward=True)
    if np.isinf(log_weight).any():
        return Estimate(0.0, 0.0, n=log_weight.size)
    block, lengths = _blocks(chains, block, correlated)

    def log_ess(log_n: float, log_w: float, log_inverse: float) -> float:
        return 2 * log_n - log_w - log_inverse

    columns = (np.zeros(log_weight.size), log_weight, -log_weight)
    return Estimate(*_with_bootstrap(log_ess, columns, block, n_bootstrap, rng, lengths), n=log_weight.size)
