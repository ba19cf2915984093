r"""The accept/reject loop of an independence sampler over proposals drawn in large batches.

Proposals do not depend on the state, so they are drawn and weighed many updates at a time; what is
left to do one after the other is a comparison of two numbers. Fields are moved once, at the end.
"""

import numpy as np

from ..types import BoolArray, FloatArray, IntArray

__all__ = ["bounds", "scan", "windows"]

FEW = 12  # chains up to which plain floats beat NumPy's overhead per call (benchmarks/accept_loop.py)


def windows(n_updates: int, per_update: int, batch: int) -> list[int]:
    """Cut `n_updates` into windows of about `batch` proposals each, of which every update takes `per_update`.

    Returns
    -------
    list of int
        Length of each window in updates, at least one; their sum is `n_updates`.
    """
    length = max(1, batch // per_update)
    return [min(length, n_updates - start) for start in range(0, n_updates, length)]


def bounds(log_u: FloatArray, log_new: FloatArray, log_rest: FloatArray | None = None) -> FloatArray:
    r"""Bound on the log weight of the current field: a candidate is accepted where that weight is smaller.

    With the weight w' of the candidate, chosen among several with probability proportional to its weight, r the sum
    of the other candidates' weights, and w of the current field,

    .. math:: \alpha = \min\Big(1, \frac{r + w'}{r + w}\Big),

    multiple-try Metropolis for independent proposals [Liu, Liang, Wong, J. Am. Stat. Assoc. 95 (2000) 121];
    without others, ``r = 0``, the usual rule. A uniform u accepts where ``u (r + w) < r + w'``, solved here for w
    once for all updates, since only w depends on what was accepted before.

    Parameters
    ----------
    log_u : ndarray, shape (...), float64
        Logarithm of the uniform random number u.
    log_new : ndarray, shape (...), float64
        Log weight of the candidate, :math:`\log w'`.
    log_rest : ndarray, shape (...), float64, optional
        Log of the sum of the other candidates' weights, :math:`\log r`. Default: there are no others.

    Returns
    -------
    ndarray, shape (...), float64
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if log_rest is None:
            return log_new - log_u
        top = np.logaddexp(log_rest, log_new) - log_u
        return np.where(log_rest == -np.inf, top, top + np.log1p(-np.exp(log_rest - top)))


def scan(limits: FloatArray, log_new: FloatArray, log_current: FloatArray) -> tuple[BoolArray, IntArray]:
    """Decide one update after the other which candidates are accepted.

    Parameters
    ----------
    limits : ndarray, shape (n_updates, n_chains), float64
        From `bounds`.
    log_new : ndarray, shape (n_updates, n_chains), float64
        Log weights of the candidates.
    log_current : ndarray, shape (n_chains,), float64
        Log weights of the fields before the first update.

    Returns
    -------
    accepted : ndarray of bool, shape (n_updates, n_chains)
    source : ndarray of int, shape (n_updates, n_chains)
        The update whose candidate is the field after each update; -1: the field before the first.
    """
    n_updates, n_chains = log_new.shape
    accepted = np.empty(log_new.shape, bool)
    if n_chains <= FEW:
        for chain in range(n_chains):
            accepted[:, chain] = _scan_one(limits[:, chain].tolist(), log_new[:, chain].tolist(), log_current[chain])
    else:
        current = np.array(log_current)
        for k in range(n_updates):
            np.less(current, limits[k], out=accepted[k])
            np.copyto(current, log_new[k], where=accepted[k])
    source = np.where(accepted, np.arange(n_updates)[:, None], -1)
    return accepted, np.maximum.accumulate(source, axis=0)


def _scan_one(limits: list[float], log_new: list[float], current: float) -> list[bool]:
    """`scan` of one chain, on lists of floats: a comparison costs less than a call into NumPy."""
    accepted: list[bool] = []
    current = float(current)
    for limit, new in zip(limits, log_new, strict=True):
        accept = current < limit
        accepted.append(accept)
        if accept:
            current = new
    return accepted
