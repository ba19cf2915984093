r"""Gates: what an ensemble must show before a network is trained on it or a result is printed.

Each gate tests an exact statement about equilibrium at `n_sigma` standard errors. For Gaussian errors
a sound ensemble fails one such test with probability 6.3e-5 at the default of four; `Gate.false_alarm` carries the
figure of each gate (tests within a gate added up). The errors are Gamma-method errors, so a gate is
only as good as tau_int: the gate on the chain length belongs with the others.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..observables.table import THERMAL, TIMED
from .chains import as_chains
from .convergence import find_thermalization, further_updates, r_hat
from .gamma import mean, tau_int

__all__ = ["Gate", "run_gates"]

SEGMENTS = 8  #: at most; see find_thermalization


@dataclass(frozen=True)
class Gate:
    """Verdict of one gate; the caller decides whether to raise `GateError` with `message`."""

    name: str
    passed: bool
    value: float
    error: float
    expected: str  #: what a sound ensemble has
    false_alarm: float  #: probability that a sound ensemble fails
    advice: str  #: what to change; empty when passed

    @property
    def message(self) -> str:
        """One line for a log or an error."""
        got = f"{self.value:.6g}" + (f" +- {self.error:.2g}" if math.isfinite(self.error) else "")
        verdict = "passed" if self.passed else "FAILED"
        return f"gate {self.name} {verdict}: {got}, expected {self.expected}" + (
            f"; {self.advice}" if self.advice else ""
        )

    def record(self) -> dict[str, Any]:
        """JSON-able dict; None in place of what is not finite."""
        finite = {key: (x if math.isfinite(x) else None) for key, x in (("value", self.value), ("error", self.error))}
        return {
            "name": self.name,
            "passed": self.passed,
            **finite,
            "expected": self.expected,
            "false_alarm": self.false_alarm,
            "advice": self.advice,
        }


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"{name} is {value}; expected a number above 0")


def _measured(series: Mapping[str, ArrayLike], names: Iterable[str], gate: str) -> list[str]:
    """Those of `names` that `series` has; a `UserError` if there is none, for a gate on nothing would pass."""
    names = list(names)
    found = [name for name in names if name in series]
    if not found:
        got = ", ".join(series) or "no series at all"
        raise UserError(
            f"gate {gate} wants the series {' or '.join(names) or '(none named)'}, got {got}; measure it first"
        )
    return found


def _two_sided(n_sigma: float) -> float:
    _positive("n_sigma", n_sigma)
    return math.erfc(n_sigma / math.sqrt(2))


def _moved_gate(series: Mapping[str, ArrayLike]) -> Gate | None:
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
    names = _measured(series, names, "thermalised")
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
    false_alarm = _two_sided(n_sigma) * SEGMENTS * len(names)
    return Gate("thermalised", cut == 0, float(cut), math.nan, "no entry to discard", false_alarm, advice)


def _exact_one(name: str, series: ArrayLike, n_sigma: float, max_error: float, advice_off: str) -> Gate:
    """Gate on a mean that is exactly 1."""
    _positive("max_error", max_error)
    try:
        estimate = mean(series, name=name)
        value, error = estimate.value, estimate.error
    except UserError:
        # constant, as exp(-delta_h) is for an exact integrator: no error, but still 1 or not
        value, error = float(np.mean(np.asarray(series))), 0.0
        if not np.isfinite(value):
            raise
    off = not abs(value - 1) <= n_sigma * error + 1e-12  # an error that is NaN does not pass
    advice = ""
    if off:
        advice = advice_off
    elif error > max_error:
        factor = math.ceil((error / max_error) ** 2)
        advice = f"the error is above {max_error:g}, too large to see a fault: about {factor} times as many updates"
    return Gate(name, not advice, value, error, f"1 within {n_sigma:g} sigma", _two_sided(n_sigma), advice)


def schwinger_dyson_gate(series: Mapping[str, ArrayLike], n_sigma: float = 4.0, max_error: float = 0.02) -> Gate:
    """Gate: ``<phi dS/dphi>/V = 1``, exact in equilibrium of this very action, so it also sees wrong couplings.

    Parameters
    ----------
    series : dict of str to array_like, shape (n_chains, n) or (n,)
        From `measure_primary`; needs ``sd``.
    n_sigma : float
        Largest deviation from 1 that passes, in standard errors.
    max_error : float
        Largest error that passes: with a larger one the gate could not see a fault.

    Returns
    -------
    Gate
        Its value is the mean.

    Raises
    ------
    UserError
        There is no ``sd``, it is not finite, or `n_sigma` or `max_error` is not above 0.
    """
    _measured(series, ["sd"], "schwinger-dyson")
    advice = "the ensemble is not in equilibrium of this action: check couplings and convention, thermalise longer"
    return _exact_one("schwinger-dyson", series["sd"], n_sigma, max_error, advice)


def exp_delta_h_gate(delta_h: ArrayLike, n_sigma: float = 4.0, max_error: float = 0.02) -> Gate:
    """Gate: ``<exp(-delta_h)> = 1``, by reversibility and volume preservation. +inf (diverged) counts as 0.

    Parameters
    ----------
    delta_h : array_like, shape (n_chains, n) or (n,)
        Energy violations of the trajectories, in Monte Carlo order.
    n_sigma, max_error : float
        As in `schwinger_dyson_gate`.

    Returns
    -------
    Gate
        Its value is the mean.

    Raises
    ------
    UserError
        `delta_h` has a NaN, or `n_sigma` or `max_error` is not above 0.
    """
    delta_h = real_array(delta_h, "delta_h")
    if np.isnan(delta_h).any():
        raise UserError(f"delta_h has {np.isnan(delta_h).sum()} NaN; a diverged trajectory is +inf, a rejection")
    ratio = np.exp(np.minimum(-delta_h, 300.0))  # an enormous gain fails the gate; its square must not overflow
    advice = "trajectories diverge or the start is not thermalised: lower the step size, discard more of the start"
    return _exact_one("exp(-delta_h)", ratio, n_sigma, max_error, advice)


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
    _measured(series, ["m"], "both signs of m")
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
    return Gate("both signs of m", not advice, fraction, error, expected, _two_sided(n_sigma), advice)


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
    _positive("n_tau", n_tau)
    _positive("per_chain", per_chain)
    found = {name: tau_int(series[name], name=name) for name in _measured(series, names, "tau_int known")}
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
    names = _measured(series, names, "chains agree")
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
    elif lowest < _two_sided(n_sigma):
        sigma = math.sqrt(2) * special.erfcinv(lowest) if lowest > 0 else math.inf
        advice = f"chain means of {worst} differ by {sigma:.1f} sigma: look for a chain stuck apart, or run longer"
    false_alarm = _two_sided(n_sigma) * len(names)
    return Gate("chains agree", not advice, float(hat), math.nan, f"R-hat below {max_r_hat:g}", false_alarm, advice)


@numpy_defaults()
def run_gates(
    series: Mapping[str, ArrayLike],
    delta_h: ArrayLike | None = None,
    n_sigma: float = 4.0,
    z2: bool = True,
    n_tau: float = 100.0,
    max_error: float = 0.02,
) -> list[Gate]:
    """Every gate that the data allow, in the order in which to repair what failed.

    Parameters
    ----------
    series : dict of str to ndarray, shape (n_chains, n)
        From `measure_primary`; needs ``m, abs_m, m2, phi2, action, sd``.
    delta_h : ndarray, shape (n_chains, n), optional
        Energy violations of the HMC trajectories, every update; without them their gate is left out.
        Histories are stored (n_updates, n_chains): transpose them.
    n_sigma : float
        Of every statistical test; 4 gives a sound ensemble about 0.4 % to fail anything.
    z2 : bool
        Whether the action is even in phi.
    n_tau : float
        Entries wanted in units of the slowest tau_int.
    max_error : float
        Identities must be known to this error, or they would not see a fault.

    Returns
    -------
    list of Gate
        For instance ``failed = [g.message for g in run_gates(series) if not g.passed]``.

    Raises
    ------
    UserError
        A primary series is missing or not finite.
    """
    missing = [name for name in ("m", "abs_m", "m2", "phi2", "action", "sd") if name not in series]
    if missing:
        raise UserError(f"the gates need the primary series {', '.join(missing)}; measure them first")
    still = _moved_gate(series)
    if still is not None:
        return [still]
    gates = [
        thermalisation_gate(series, n_sigma),
        length_gate(series, n_tau=n_tau),
        agreement_gate(series, n_sigma),
        schwinger_dyson_gate(series, n_sigma, max_error),
    ]
    if delta_h is not None:
        gates.append(exp_delta_h_gate(delta_h, n_sigma, max_error))
    if z2:
        gates.append(sign_gate(series, n_sigma))
    return gates
