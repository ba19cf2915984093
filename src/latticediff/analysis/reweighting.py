r"""Averages of one ensemble as averages of another: importance weights on observables.

With ``log_weight = log(target / source)``, up to a constant, on entries of the source,

.. math:: \langle O \rangle_{target} = \frac{\langle w\,O \rangle}{\langle w \rangle} ,

for chains at one coupling and a target at another (Ferrenberg and Swendsen, Phys. Rev. Lett. 61
(1988) 2635), :math:`\log w = S_{source} - S_{target}`, and for draws of a proposal with
:math:`\log w = -S - \log q`. Errors by the Gamma method on the ratio: autocorrelation and the common
fluctuation of numerator and denominator are in it. The ratio's bias is of order 1/N.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..arrays import real_array
from ..host import numpy_defaults
from ..types import Extents, FloatArray
from .ess import ess_reverse
from .estimates import REPORTED, definitions
from .free_energy import checked_log_weight
from .gamma import S_TAU, derived
from .resampling import jackknife
from .result import Estimate
from .tails import pareto_k

__all__ = ["Reach", "reach", "reweighted", "reweighted_table", "weights"]

MIN_ESS = 0.1  #: below that share a reweighted average rests on a handful of configurations
MAX_PARETO_K = 0.7  #: Vehtari et al. 1507.02646: above it the error bar itself cannot be trusted


@numpy_defaults()
def weights(log_weight: ArrayLike) -> FloatArray:
    """Weights ``exp(log_weight)`` in units of the largest.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n)
        -inf counts as weight zero.

    Returns
    -------
    ndarray, shape of `log_weight`, float64

    Raises
    ------
    UserError
        Another shape, fewer than two entries, NaN, +inf, or no finite entry.
    """
    log_weight = checked_log_weight(log_weight, "log_weight")
    return np.exp(log_weight - log_weight.max())


@numpy_defaults()
def reweighted(
    f: Callable[..., float],
    series: Sequence[ArrayLike],
    log_weight: ArrayLike,
    method: str = "gamma",
    s_tau: float = S_TAU,
    name: str | None = None,
) -> Estimate:
    r"""``F(<a_1>, ..., <a_k>)`` in the target ensemble, from entries of the source.

    Parameters
    ----------
    f : callable
        Takes k floats, the reweighted means, and returns a float.
    series : sequence of k arrays
        Each (n,) or (n_chains, n), in Monte Carlo order.
    log_weight : array_like
        As the series; up to a constant. -inf counts as weight zero.
    method : {"gamma", "jackknife"}
        Error of the ratio; the jackknife (blocks of eight tau_int) also removes the bias of order 1/N.
    s_tau : float
        See `tau_int`; of the Gamma method.
    name : str, optional
        Used in messages.

    Returns
    -------
    Estimate
        tau_int is that of the ratio's fluctuations.

    Raises
    ------
    UserError
        As `derived`; NaN, +inf or no finite entry in `log_weight`.
    """
    w = weights(log_weight)
    columns = [w, *(w * real_array(a, name or "series", booleans=True) for a in series)]

    def ratio(mean_w: float, *means: float) -> float:
        return f(*(m / mean_w for m in means))

    if method == "jackknife":
        return jackknife(ratio, columns, name=name or "series")
    return derived(ratio, columns, s_tau, name)


@numpy_defaults()
def reweighted_table(
    series: Mapping[str, ArrayLike],
    log_weight: ArrayLike,
    action: Action,
    shape: Extents,
    names: Iterable[str] = REPORTED,
    s_tau: float = S_TAU,
) -> dict[str, Estimate]:
    """`observables_table` of the target ensemble.

    Parameters
    ----------
    series : dict of str to ndarray, shape (n_chains, n)
        From `latticediff.observables.measure_primary` with the *target's* action.
    log_weight : ndarray, shape (n_chains, n)
    action : Action
        Of the target.
    shape, names, s_tau
        As `observables_table`.

    Returns
    -------
    dict of str to Estimate

    Raises
    ------
    UserError
        As `observables_table` and `reweighted`.
    """
    table = {}
    for name, (function, needs) in definitions(names, series, action, shape).items():
        table[name] = reweighted(function, [series[need] for need in needs], log_weight, s_tau=s_tau, name=name)
    return table


@dataclass(frozen=True)
class Reach:
    """How far reweighting carries: measured ESS, the one to expect, and whether to believe the averages."""

    ess: Estimate  #: share of the source's entries, (sum w)^2 / (N sum w^2)
    expected_ess: float  #: exp(-var(log_weight)), which can be measured where the weights cannot
    pareto_k: float
    log_weight_std: float

    @property
    def warning(self) -> str | None:
        """One line if the target is out of reach, else None."""
        k = self.pareto_k
        if self.ess.value >= MIN_ESS and self.expected_ess >= MIN_ESS and not k > MAX_PARETO_K:
            return None
        share = math.sqrt(-math.log(0.5)) / self.log_weight_std
        return (
            f"the target is out of reach: ESS {self.ess.value:.2g}, expected {self.expected_ess:.2g} from the spread"
            f" {self.log_weight_std:.3g} of log_weight, Pareto k {k:.2f}; do not trust these averages."
            f" An ESS of one half is to be had up to {100 * min(1.0, share):.2g} % of the way"
        )


@numpy_defaults()
def reach(
    log_weight: ArrayLike, block: int | None = None, rng: np.random.Generator | None = None, correlated: bool = False
) -> Reach:
    r"""How far reweighting carries: is an average with these weights to be trusted?

    For a Gaussian log_weight of variance s^2 the ESS is :math:`e^{-s^2}`; s is well measured even where
    no configuration of the source is typical of the target and the measured ESS is an accident.

    Parameters
    ----------
    log_weight : array_like
        On entries of the source.
    block, rng, correlated
        As `ess_reverse`.

    Returns
    -------
    Reach

    Raises
    ------
    UserError
        As `ess_reverse`.
    """
    log_weight = checked_log_weight(log_weight, "log_weight")
    spread = float(log_weight[np.isfinite(log_weight)].std())
    return Reach(
        ess_reverse(log_weight, block, rng=rng, correlated=correlated),
        math.exp(-(spread**2)),
        pareto_k(log_weight),
        spread,
    )
