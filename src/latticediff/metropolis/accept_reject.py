r"""The accept/reject loop of an independence sampler over proposals drawn in large batches.

Proposals do not depend on the state, so they are drawn and weighed many updates at a time; what is
left to do one after the other is a comparison of two numbers. Fields are moved once, at the end.
"""

import numpy as np

__all__ = ["bounds", "scan", "windows"]

FEW = 12  # chains up to which plain floats beat NumPy's overhead per call (benchmarks/accept_loop.py)


def windows(n_updates, per_update, batch):
    """Lengths in updates that add up to `n_updates`, each of about `batch` proposals, at least one update."""
    length = max(1, batch // per_update)
    return [min(length, n_updates - start) for start in range(0, n_updates, length)]


def bounds(log_u, log_new, log_rest=None):
    r"""Below which log weight of the current field a candidate is accepted.

    With the weight w' of the candidate, chosen among several with probability proportional to its weight, r the sum
    of the other candidates' weights, and w of the current field,

    .. math:: \alpha = \min\Big(1, \frac{r + w'}{r + w}\Big),

    multiple-try Metropolis for independent proposals [Liu, Liang, Wong, J. Am. Stat. Assoc. 95 (2000) 121];
    without others, ``r = 0``, the usual rule. A uniform u accepts where ``u (r + w) < r + w'``, solved here for w
    once for all updates, since only w depends on what was accepted before.

    Parameters
    ----------
    log_u, log_new : ndarray, shape (...)
    log_rest : ndarray, shape (...), optional

    Returns
    -------
    ndarray, shape (...)
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        if log_rest is None:
            return log_new - log_u
        top = np.logaddexp(log_rest, log_new) - log_u
        return np.where(log_rest == -np.inf, top, top + np.log1p(-np.exp(log_rest - top)))


def scan(limits, log_new, log_current):
    """Which updates accept, one after the other.

    Parameters
    ----------
    limits, log_new : ndarray, shape (n_updates, n_chains)
        See `bounds`; log weights of the candidates.
    log_current : ndarray, shape (n_chains,)
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


def _scan_one(limits, log_new, current):
    """`scan` of one chain, on lists of floats: a comparison costs less than a call into NumPy."""
    accepted, current = [], float(current)
    for limit, new in zip(limits, log_new, strict=True):
        accept = current < limit
        accepted.append(accept)
        if accept:
            current = new
    return accepted
