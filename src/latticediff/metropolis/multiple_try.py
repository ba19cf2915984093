r"""Several independent proposals for one update, drawn in one batch.

Of K fresh proposals one is chosen with probability proportional to its weight, and accepted with the
rule of `accept_reject.bounds`. As K grows the chosen one becomes a draw of the target by importance
resampling, so the autocorrelation time falls towards 1/2 whatever the weights, at K times the cost:
worth it where proposals in a batch cost less than one at a time (GPU), or where chains are few and short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..host import numpy_defaults
from ..types import Description, FloatArray, IntArray
from .independence import Candidates, IndependenceMetropolis

if TYPE_CHECKING:
    from ..action import Action
    from ..streams import Streams
    from .contract import Proposal


__all__ = ["MultipleTry", "choose"]


@numpy_defaults()
def choose(log_weight: FloatArray, u: FloatArray) -> tuple[IntArray, FloatArray]:
    """Choose one of several candidates with probability proportional to its weight.

    Parameters
    ----------
    log_weight : ndarray, shape (..., tries), float64
    u : ndarray, shape (...), float64
        Uniform in [0, 1).

    Returns
    -------
    index : ndarray of int, shape (...)
        Where all weights are zero, the first.
    log_rest : ndarray, shape (...)
        Log of the sum of the weights of the others.
    """
    # tries first: NumPy is slow along short last axes
    rows = np.ascontiguousarray(np.moveaxis(log_weight, -1, 0))
    largest = rows.max(axis=0)
    scale = np.where(largest == -np.inf, 0.0, largest)
    weights = np.exp(rows - scale)
    cumulative = np.cumsum(weights, axis=0)
    above = cumulative > u * cumulative[-1]
    # a weight of zero is never chosen unless all are, not even where rounding leaves nothing above
    index = np.where(above[-1], above.argmax(axis=0), weights.argmax(axis=0))
    weights[index, *np.indices(index.shape, sparse=True)] = 0.0
    with np.errstate(divide="ignore"):
        return index, np.log(weights.sum(axis=0)) + scale


class MultipleTry(IndependenceMetropolis):
    """Independence sampler with several proposals for each update; ``tries=1`` is `IndependenceMetropolis`.

    Parameters
    ----------
    proposal, action, refresh, batch
        See `IndependenceMetropolis`.
    tries : int
        Fresh proposals K for each update of a chain.

    Raises
    ------
    UserError
        `tries` below 1, or as `IndependenceMetropolis`.

    Notes
    -----
    The history's ``log_weight`` and `proposed.COLUMNS` are those of the first of the K proposals, so that an ESS of it
    is the proposal's.
    """

    name = "several_tries"

    def __init__(
        self, proposal: Proposal, action: Action, tries: int = 8, refresh: bool | None = None, batch: int = 1024
    ) -> None:
        super().__init__(proposal, action, refresh, batch)
        if tries < 1:
            raise UserError(f"tries = {tries}; expected at least 1")
        self.tries = int(tries)

    def describe(self) -> Description:
        """JSON-able parameters, stored with every ensemble."""
        return {**super().describe(), "tries": self.tries}

    def _candidates(self, n_updates: int, n_chains: int, rng: Streams) -> Candidates:
        phi, action, log_q, log_weight = self._fresh((n_updates, n_chains, self.tries), rng)
        index, log_rest = choose(log_weight, rng.generator("choose").random((n_updates, n_chains)))
        at = (*np.ogrid[:n_updates, :n_chains], index)
        first = self._record(phi[:, :, 0], action[..., 0], log_weight[..., 0])
        return Candidates(phi[at], action[at], log_q[at], log_weight[at], first, log_rest)
