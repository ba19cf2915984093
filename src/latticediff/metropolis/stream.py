r"""The accept/reject loop of an independence sampler over proposals drawn in large batches.

Proposals do not depend on the state, so they are drawn and weighed many updates at a time; what is
left to do one after the other is a comparison of two numbers. Fields are moved once, at the end.
"""

import numpy as np

__all__ = ["log_acceptance", "scan", "windows"]

FEW = 12  # chains up to which plain floats beat NumPy's overhead per call (benchmarks/accept_loop.py)


def windows(n_updates, per_update, batch):
    """Lengths in updates that add up to `n_updates`, each of about `batch` proposals, at least one update."""
    length = max(1, batch // per_update)
    return [min(length, n_updates - start) for start in range(0, n_updates, length)]


def log_acceptance(log_new, log_current, log_rest=None):
    r"""``log alpha`` of one choice among several tries.

    With weights w' of the candidate chosen with probability proportional to its weight, r the sum of
    the other candidates' weights, and w of the current field,

    .. math:: \alpha = \min\Big(1, \frac{r + w'}{r + w}\Big),

    multiple-try Metropolis for independent proposals [Liu, Liang, Wong, J. Am. Stat. Assoc. 95 (2000) 121];
    without others, ``r = 0``, the usual rule.
    """
    if log_rest is None:
        return log_new - log_current
    return np.logaddexp(log_rest, log_new) - np.logaddexp(log_rest, log_current)


def scan(log_u, log_new, log_current, log_rest=None):
    """Which updates accept, one after the other.

    Parameters
    ----------
    log_u, log_new : ndarray, shape (n_updates, n_chains)
        Logarithms of uniform numbers, log weights of the proposals.
    log_current : ndarray, shape (n_chains,)
        Log weights of the fields before the first update.
    log_rest : ndarray, shape (n_updates, n_chains), optional
        See `log_acceptance`.

    Returns
    -------
    accepted : ndarray of bool, shape (n_updates, n_chains)
    source : ndarray of int, shape (n_updates, n_chains)
        The update whose proposal is the field after each update; -1: the field before the first.
    """
    accepted = np.zeros(log_new.shape, bool)
    n_updates, n_chains = log_new.shape
    if log_rest is None and n_chains <= FEW:
        for chain in range(n_chains):
            accepted[:, chain] = _scan_one(log_u[:, chain].tolist(), log_new[:, chain].tolist(), log_current[chain])
    else:
        current = np.array(log_current)
        for k in range(n_updates):
            rest = None if log_rest is None else log_rest[k]
            np.less(log_u[k], log_acceptance(log_new[k], current, rest), out=accepted[k])
            np.copyto(current, log_new[k], where=accepted[k])
    source = np.where(accepted, np.arange(n_updates)[:, None], -1)
    return accepted, np.maximum.accumulate(source, axis=0)


def _scan_one(log_u, log_new, current):
    """`scan` of one chain, on lists of floats: a comparison costs less than a call into NumPy."""
    accepted, current = [], float(current)
    for u, new in zip(log_u, log_new, strict=True):
        accept = u < new - current
        accepted.append(accept)
        if accept:
            current = new
    return accepted
