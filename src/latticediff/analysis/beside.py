r"""The averages of a chain of independent proposals beside those of its proposals by their weights.

Both are averages of the target, made of the same draws: the chain repeats what it accepted, the weights count every
proposal once,

.. math:: \langle O \rangle_w = \frac{\sum_i w_i\, O(\phi_i)}{\sum_i w_i}, \qquad \log w = -S - \log q .

They are correlated, so the difference is not judged by errors in quadrature: it is one function of the means of the
chain's series and of the proposals', laid side by side in Monte Carlo time, and the Gamma method finds the error of
that function with all its correlations. A chain that sticks, or is begun too far away, differs from its weights;
weights with a heavy tail (`pareto_k`) differ from the chain.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..action import Action
from ..errors import UserError
from ..host import numpy_defaults
from ..types import Extents, FloatArray
from .estimates import REPORTED, Difference, definitions
from .gamma import S_TAU, derived
from .result import Estimate
from .reweighting import reweighted_table, weights
from .tails import pareto_k

__all__ = ["Beside", "beside"]


@dataclass(frozen=True)
class Beside:
    """Averages by importance weights of all proposals, and their differences from the chain's own."""

    observables: dict[str, Estimate]
    differences: dict[str, Difference]  #: chain minus weights, with the joint error
    pareto_k: float  #: of the weights; above 0.7 their averages cannot be trusted

    def sigmas(self) -> dict[str, float | None]:
        """Differences in units of their errors, by name of the observable; None where a difference has no error."""
        return {name: d.sigma if np.isfinite(d.sigma) else None for name, d in self.differences.items()}


@numpy_defaults()
def beside(
    chain: Mapping[str, FloatArray],
    proposed: Mapping[str, FloatArray],
    log_weight: FloatArray,
    action: Action,
    shape: Extents,
    thin: int = 1,
    names: Iterable[str] = REPORTED,
    s_tau: float = S_TAU,
) -> Beside:
    """Averages by importance weights beside those of the chain.

    Parameters
    ----------
    chain : dict of str to ndarray, shape (n_chains, n)
        Primary series of the stored fields, every `thin`-th update.
    proposed : dict of str to ndarray, shape (n_chains, n_updates)
        The same of one proposal of each update.
    log_weight : ndarray, shape (n_chains, n_updates)
        Of these proposals; -inf counts as weight zero.
    action, shape, names, s_tau
        As `latticediff.analysis.observables_table`.
    thin : int
        Updates between stored fields.

    Returns
    -------
    Beside
        A difference is NaN where the two histories are not of the same updates.

    Raises
    ------
    UserError
        As `reweighted_table`: NaN, +inf or no finite entry in `log_weight`.
    """
    table = reweighted_table(proposed, log_weight, action, shape, names, s_tau)
    w = weights(log_weight)
    columns = {name: _blocked(w * rows, thin) for name, rows in proposed.items()}
    w, differences = _blocked(w, thin), {}
    for name, (function, needs) in definitions(names, proposed, action, shape).items():
        ours = [chain[need] for need in needs]
        theirs = [w, *(columns[need] for need in needs)]
        differences[name] = _difference(function, ours, theirs, s_tau, name)
    return Beside(table, differences, pareto_k(log_weight))


def _blocked(rows: FloatArray, thin: int) -> FloatArray:
    """Means over the `thin` updates that end in each stored one; shape (n_chains, n_updates // thin)."""
    n = rows.shape[1] // thin
    return rows[:, : n * thin].reshape(len(rows), n, thin).mean(axis=2)


def _difference(
    function: Callable[..., float], ours: Sequence[FloatArray], theirs: Sequence[FloatArray], s_tau: float, name: str
) -> Difference:
    def difference(*means: float) -> float:
        chain, (w, *weighted) = means[: len(ours)], means[len(ours) :]
        return function(*chain) - function(*(a / w for a in weighted))

    unknown = Difference(np.nan, np.nan, np.nan)
    if any(a.shape != theirs[0].shape for a in ours):
        return unknown
    try:
        found = derived(difference, [*ours, *theirs], s_tau, name)
    except UserError:  # equal weights, all accepted: the same average twice
        return unknown
    return Difference(found.value, found.error, found.value / found.error if found.error > 0 else np.nan)
