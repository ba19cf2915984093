"""Energy violations of a chain for its checks, in memory that does not grow with the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from ..ensemble import Ensemble
    from ..types import FloatArray

__all__ = ["energy_violations"]

MOST = 1 << 20  #: numbers of all chains together: the checks need some copies of them


def energy_violations(ensemble: Ensemble, most: int = MOST) -> FloatArray | None:
    r"""delta_h of the trajectories, one row for each chain; of a long history, what its means are made of.

    A longer history is taken in bins of b consecutive updates, :math:`-\log b^{-1} \sum e^{-\delta H}` each: the mean
    of :math:`e^{-\delta H}` over bins is that over updates, and bins are as independent as updates or more.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.
    most : int
        Numbers wanted at most, of all chains together.

    Returns
    -------
    ndarray, shape (n_chains, n), float64, or None
        None where the history has no delta_h. The first updates, less than b, are left out where they fill no bin.
    """
    if "delta_h" not in ensemble.history_names:
        return None
    length = -(-ensemble.n_updates * ensemble.n_chains // most)
    if length <= 1:
        return ensemble.history("delta_h").T
    n_bins = ensemble.n_updates // length
    found, first = np.empty((ensemble.n_chains, n_bins)), ensemble.n_updates - n_bins * length
    step = max(1, most // (length * ensemble.n_chains))
    for begin in range(0, n_bins, step):
        end = min(begin + step, n_bins)
        rows = ensemble.history("delta_h", first + begin * length, first + end * length)
        bins = rows.reshape(end - begin, length, -1)
        found[:, begin:end] = np.log(length) - special.logsumexp(-bins, axis=1).T
    return found
