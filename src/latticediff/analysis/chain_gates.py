"""Gates on the chains themselves: that they move, forget their start, are long enough, agree, and see both signs."""

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ..observables.table import THERMAL, TIMED
from .chains import as_chains
from .convergence import find_thermalization, further_updates, r_hat
from .gamma import mean, tau_int
from .gate import Gate, measured_names, require_positive, two_sided

__all__ = ["agreement_gate", "length_gate", "moved_gate", "sign_gate", "thermalisation_gate"]

SEGMENTS = 8  #: at most; see find_thermalization


def moved_gate(series: Mapping[str, ArrayLike]) -> Gate | None:
    """The failed gate of chains that stand still, of which the other gates would only repeat the failure; else None."""
    values, lengths = as_chains(series["m"], "m")
    still = sum(np.ptp(row[:n]) == 0 for row, n in zip(values, lengths, strict=True))
    if not still:
        return None
    advice = "these chains rejected every proposal; lower the step size or start them elsewhere"
    return Gate("moving chains", False, len(values) - still, math.nan, f"{len(values)} of {len(values)}", 0.0, advice)


def thermalisation_gate(series: Mapping[str, ArrayLike], n_sigma: float = 4.0, names: Iterable[str] = THERMAL) -> Gate:
    """Gate: no early segment of any of `names` deviates from the second half. Its value is the suggested cut.

    Parameters
    ----------
    series : dict of str to array_like, shape (n_chains, n) or (n,)
        From `measure_primary`.
    n_sigma : float
        Largest deviation that passes, in standard errors; see `find_thermalization`.
    names : iterable of str
        Series looked at; those that are not in `series` are left out.

    Returns
    -------
    Gate

    Raises
    ------
    UserError
        `series` has none of `names`, `n_sigma` is not above 0, or as `find_thermalization`.
    """
    names = measured_names(series, names, "thermalised")
    found = {name: find_thermalization(series[name], n_sigma, name) for name in names}
    worst = max(found, key=lambda name: found[name].suggested_cut)
    cut = found[worst].suggested_cut
    advice = ""
    if cut:
        advice = f"{worst} remembers its start for {cut} entries per chain ({found[worst].largest_sigma:.1f} sigma)"
        if found[worst].reliable:
            advice += f": discard at least the first {cut}, by more thermalisation updates in the card"
        else:
            advice += ": that is half the run, so run several times longer before discarding anything"
    false_alarm = two_sided(n_sigma) * SEGMENTS * len(names)
    return Gate("thermalised", cut == 0, float(cut), math.nan, "no entry to discard", false_alarm, advice)


def sign_gate(series: Mapping[str, ArrayLike], n_sigma: float = 4.0, min_changes: int = 10) -> Gate:
    """Gate: both signs of m occur equally often within errors, and chains change sign often enough to know.

    Only for actions that are even in phi.

    Parameters
    ----------
    series : dict of str to array_like, shape (n_chains, n) or (n,), or to lists of chains
        From `measure_primary`; needs ``m``.
    n_sigma : float
        Largest imbalance that passes, in standard errors.
    min_changes : int
        Changes of sign wanted, all chains together.

    Returns
    -------
    Gate
        Its value is the fraction of entries with ``m > 0``.

    Raises
    ------
    UserError
        There is no ``m``, it is not finite, or `n_sigma` is not above 0.
    """
    measured_names(series, ["m"], "both signs of m")
    values, lengths = as_chains(series["m"], "m")
    inside = np.arange(values.shape[1]) < lengths[:, None]
    positive = np.where(inside, values > 0, 0.0)
    changes = int(((positive[:, 1:] != positive[:, :-1]) & inside[:, 1:]).sum())
    fraction = float(positive.sum() / lengths.sum())
    error = math.nan
    if changes:
        error = mean([row[:n] for row, n in zip(positive, lengths, strict=True)], name="sign of m").error
    advice = ""
    if fraction in (0.0, 1.0):
        advice = "only one sign of m was visited"
    elif changes < min_changes:
        advice = f"m changed sign {changes} times, so the balance of the signs is that of the starts"
    elif not abs(fraction - 0.5) <= n_sigma * error:
        advice = f"the signs of m are out of balance by {abs(fraction - 0.5) / error:.1f} sigma"
    if advice:
        advice += ": run longer, or add cluster updates or a global sign flip"
    expected = f"m > 0 in half of the entries within {n_sigma:g} sigma, at least {min_changes} changes"
    return Gate("both signs of m", not advice, fraction, error, expected, two_sided(n_sigma), advice)


def length_gate(
    series: Mapping[str, ArrayLike], names: Iterable[str] = TIMED, n_tau: float = 100.0, per_chain: float = 10.0
) -> Gate:
    """Gate: chains are long enough to know the slowest tau_int, which is its value.

    All chains together are at least `n_tau` of it long, every single one at least `per_chain`.

    Parameters
    ----------
    series : dict of str to array_like, shape (n_chains, n) or (n,), or to lists of chains
        From `measure_primary`.
    names : iterable of str
        Series looked at; those that are not in `series` are left out.
    n_tau, per_chain : float
        Entries wanted of all chains together, and of each of them, in units of the largest tau_int.

    Returns
    -------
    Gate

    Raises
    ------
    UserError
        `series` has none of `names`, `n_tau` or `per_chain` is not above 0, or as `tau_int`.
    """
    require_positive("n_tau", n_tau)
    require_positive("per_chain", per_chain)
    found = {name: tau_int(series[name], name=name) for name in measured_names(series, names, "tau_int known")}
    slowest = max(found, key=lambda name: found[name].value)
    tau = found[slowest]
    n_chains = len(as_chains(series[slowest], slowest)[0])
    length = tau.n / n_chains
    missing = max(
        math.ceil(further_updates(tau, n_tau) / n_chains), math.ceil(per_chain * max(tau.value, 0.5) - length)
    )
    if not tau.window_found:
        missing = max(missing, math.ceil(length))
    advice = ""
    if missing > 0:
        advice = (
            f"tau_int of {slowest} is too long for {n_chains} chains of {length:.0f} entries:"
            f" run at least {missing} more entries per chain, or thin less"
        )
    expected = f"below {min(tau.n / n_tau, length / per_chain):.3g} entries ({slowest} is slowest)"
    # not a test at n_sigma: chains of the stated length have a tau_int error of about 20 %
    return Gate("tau_int known", not advice, tau.value, tau.error, expected, 0.0, advice)


def agreement_gate(
    series: Mapping[str, ArrayLike],
    n_sigma: float = 4.0,
    max_r_hat: float = 1.1,
    names: Iterable[str] = THERMAL,
) -> Gate:
    r"""Gate: chains agree by the rank-normalised split R-hat, and by the spread of their means against errors.

    The spread is :math:`\sum_c (\bar a_c - \bar a)^2 / (2 \tau_{int} \Gamma(0) / n)`, chi-squared with
    one degree of freedom less than there are chains; its tail probability is held against `n_sigma`. tau_int enters one
    error up, since it is estimated from the same data.

    Parameters
    ----------
    series : dict of str to array_like, shape (n_chains, n) or (n,), or to lists of chains
        From `measure_primary`.
    n_sigma : float
        Largest spread of the means of chains that passes, as the deviation of a Gaussian of the same probability.
    max_r_hat : float
        Largest R-hat that passes; see `r_hat`.
    names : iterable of str
        Series looked at; those that are not in `series` are left out.

    Returns
    -------
    Gate
        Its value is the largest R-hat.

    Raises
    ------
    UserError
        `series` has none of `names`, `n_sigma` is not above 0, or as `tau_int`.
    """
    names = measured_names(series, names, "chains agree")
    hats: dict[str, float] = {}
    lowest, worst = 1.0, ""
    for name in names:
        values, lengths = as_chains(series[name], name)
        shortest = int(lengths.min())
        hats[name] = r_hat(values[:, :shortest]) if shortest >= 4 else math.nan
        if len(values) > 1:
            tau = tau_int(series[name], name=name)
            sums = np.array([row[:n].sum() for row, n in zip(values, lengths, strict=True)])
            centre = sums.sum() / lengths.sum()
            inside = np.arange(values.shape[1]) < lengths[:, None]
            variance = ((values - centre)[inside] ** 2).mean()
            chi2 = ((sums / lengths - centre) ** 2 * lengths).sum() / (2 * (tau.value + tau.error) * variance)
            probability = float(stats.chi2.sf(chi2, len(values) - 1))
            if probability < lowest:
                lowest, worst = probability, name
    hat = max(hats.values())
    advice = ""
    if hat > max_r_hat:
        largest = max(hats, key=lambda name: hats[name])
        advice = f"chains have not mixed in {largest}: run longer, or discard more of the start"
    elif lowest < two_sided(n_sigma):
        sigma = math.sqrt(2) * special.erfcinv(lowest) if lowest > 0 else math.inf
        advice = f"chain means of {worst} differ by {sigma:.1f} sigma: look for a chain stuck apart, or run longer"
    false_alarm = two_sided(n_sigma) * len(names)
    return Gate("chains agree", not advice, float(hat), math.nan, f"R-hat below {max_r_hat:g}", false_alarm, advice)
