r"""What log-weights say about a proposal: ESS in both directions, tails, and the acceptance to expect.

``log_weight = -S - log_q``, so ``w = exp(log_weight)`` is proportional to target over proposal
density. *Reverse* weights belong to draws of the proposal q, *forward* weights to configurations of
the target p (held-out HMC data). Reverse figures cannot see what the proposal never draws; the
forward ones can, so both belong in every report. Weights are handled as logarithms relative to
their largest: a constant shift of log_weight changes nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..host import numpy_defaults
from .ess import ess_forward, ess_reverse, scale_of
from .log_weights import check_log_weights, checked_weights
from .result import Estimate
from .tails import largest_above_mean, pareto_k

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
    log_weight = np.sort(checked_weights(log_weight, "log_weight"))
    n = log_weight.size
    w = np.exp(log_weight - log_weight[-1])
    return float(2 * (w * np.arange(n - 1, -1, -1)).sum() / ((n - 1) * w.sum()))


@numpy_defaults()
def gaussian_acceptance(ess: float) -> float:
    """Acceptance that an ESS implies if log-weights are Gaussian.

    With standard deviation s of log w, ``ESS = exp(-s^2)`` and the acceptance in equilibrium is ``erfc(s / 2)``.

    Parameters
    ----------
    ess : float
        Per draw, as from `ess_reverse`.

    Returns
    -------
    float
        Between 0 and 1; 0 where `ess` is not positive.
    """
    return math.erfc(math.sqrt(max(0.0, -math.log(ess))) / 2) if ess > 0 else 0.0


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
    """All that log-weights say about a proposal.

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
    draws = checked_weights(log_weight, "log_weight")
    finite = draws[np.isfinite(draws)]
    seen, largest, forward_k = None, None, None
    if forward is not None:
        seen, largest = ess_forward(forward, forward_block, rng=rng), largest_above_mean(forward)
        forward_k = None if seen.value == 0 else pareto_k(forward)
    return WeightReport(
        ess_reverse(draws, rng=rng),
        expected_acceptance(draws),
        pareto_k(draws),
        float((finite / (scale := scale_of([finite]))).std() * scale),
        int(draws.size - finite.size),
        seen,
        largest,
        forward_k,
    )
