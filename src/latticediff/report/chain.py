r"""One algorithm's chains and what was measured on them.

A chain needs :math:`2\tau_{int}` updates for one independent sample. Which observable's tau_int counts is a
choice, so `ChainResult.slowest` takes the largest one listed and the page names it.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray
from .curves import Autocorrelation, Correlator, Propagator
from .fields import Histogram
from .finite import Pair, finite, finite_pair

__all__ = ["ChainResult"]


@dataclass(frozen=True, kw_only=True)
class ChainResult:
    r"""One algorithm's chains and what was measured on them.

    Parameters
    ----------
    name : str
        Key in ``report.json``: ``hmc``, ``ode``, ``sde``, or the name of a file in `compare`.
    label : str
        What the page calls it, e.g. ``"HMC"``.
    n_updates : int
        Updates per chain.
    n_chains : int
    series : dict of str to ndarray, shape (n_chains, n_cfg)
        Per stored configuration, every `thin`-th update: at least ``m`` and ``abs_m``.
    observables : dict of str to (value, error) or Estimate
        What is undefined, None or (None, None), is left out.
        ``abs_m, chi, chi_abs, binder, phi2, action_per_site, xi_2nd`` if present.
    tau_int : dict of str to (value, error)
        Of ``m, abs_m, m2, action``, in *updates* (stored configurations times `thin`).
    thin : int
        Updates between stored configurations.
    acceptance : float or None
        Accepted fraction; None if the algorithm has no accept step.
    ess_reverse, ess_forward : (value, error or None) or None
        ``(sum w)^2 / (N sum w^2)`` over proposals and ``1 / (E_p[w] E_p[1/w])`` over held-out data.
    log_weight_reverse, log_weight_forward : ndarray, shape (n,), or None
        ``-S - log_q`` of the proposals (-inf is an honest rejection) and of held-out data (+inf: out of reach).
    seconds_per_update : float or None
        Wall time of the run / (n_updates * n_chains), i.e. per update of one chain.
    processor_seconds_per_update : (value, error or None) or None
        Processor time of all threads per update of one chain, all chains of the run measured in turn.
    evaluations_per_update : float or None
        Evaluations per update of one chain, of what `evaluation_kind` says.
    evaluation_kind : str
        ``"action gradients"`` or ``"network evaluations"``. The two cost different seconds.
    setup_seconds : dict of str to float
        What had to be paid before the first sample, item by item (``generate``, ``train``, ``thermalise``).
    autocorrelation : dict of str to Autocorrelation
        Of ``m`` and ``abs_m``.
    propagator : Propagator or None
    correlator : Correlator or None
    effective_mass : Correlator or None
        m_eff(timeslice), where it is defined.
    log_weight_step_doubling : dict of str to float
        ``median`` and ``max`` of the change of log_weight when the integrator's steps are doubled, its ``spread`` from
        configuration to configuration, and what that can do to any average, ``bias_bound``, in standard deviations;
        ``draws_spread`` and ``draws_bias_bound`` of draws; see `latticediff.analysis.integration_bias`.
    weighted : dict of str to (value, error)
        Observables by the importance weights of all independent proposals, accepted or not; empty if there are none.
    weighted_sigma : dict of str to float
        `observables` less `weighted` in units of the error of that difference: both come from the same draws.
    pareto_k : float or None
        Of these weights.
    algorithm : dict
        The kernel's JSON-able description.
    network : str
        Whose network proposes, and what it is, in words; empty if there is none, or nothing to tell apart.
    configurations : ndarray, shape (n, a, b), or None
        Planes of some stored configurations, `latticediff.report.fields.planes`.
    site_values : Histogram or None

    Raises
    ------
    UserError
        Wrong shapes, a number that is not finite, an acceptance outside [0, 1].
    """

    name: str
    label: str
    n_updates: int
    n_chains: int
    series: dict[str, FloatArray]
    observables: dict[str, Pair]
    tau_int: dict[str, Pair]
    thin: int = 1
    acceptance: float | None = None
    ess_reverse: Pair | None = None
    ess_forward: Pair | None = None
    log_weight_reverse: FloatArray | None = None
    log_weight_forward: FloatArray | None = None
    seconds_per_update: float | None = None
    evaluations_per_update: float | None = None
    evaluation_kind: str = "action gradients"
    setup_seconds: dict[str, float] = field(default_factory=dict)
    autocorrelation: dict[str, Autocorrelation] = field(default_factory=dict)
    propagator: Propagator | None = None
    correlator: Correlator | None = None
    effective_mass: Correlator | None = None
    log_weight_step_doubling: dict = field(default_factory=dict)
    weighted: dict = field(default_factory=dict)
    weighted_sigma: dict = field(default_factory=dict)
    pareto_k: float | None = None
    algorithm: dict[str, Any] = field(default_factory=dict)
    processor_seconds_per_update: Pair | None = None
    network: str = ""
    configurations: FloatArray | None = None
    site_values: Histogram | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # frozen afterwards

        series = {name: np.atleast_2d(real_array(values, f"series {name!r}")) for name, values in self.series.items()}
        for name, values in series.items():
            if values.ndim != 2 or len(values) != self.n_chains:
                raise UserError(
                    f"chain {self.name!r}: series {name!r} has shape {values.shape}; expected ({self.n_chains}, n_cfg)"
                )
            finite(f"chain {self.name!r}: series {name!r}", values)
        put("series", series)
        for group in ("observables", "weighted", "tau_int"):
            entries = {key: x.pair() if hasattr(x, "pair") else x for key, x in getattr(self, group).items()}
            # a quantity that these data do not define (None) is left out, not printed as nothing
            known = {key: pair for key, pair in entries.items() if pair not in (None, (None, None), [None, None])}
            put(group, {key: finite_pair(f"chain {self.name!r}: {group} {key!r}", pair) for key, pair in known.items()})
        for key in ("ess_reverse", "ess_forward", "processor_seconds_per_update"):
            if (ess := getattr(self, key)) is not None:
                put(key, finite_pair(f"chain {self.name!r}: {key}", (ess, None) if np.isscalar(ess) else ess))
        # a draw may have weight zero, data may be out of the proposal's reach; the other infinity is a defect
        for key, wrong in (("log_weight_reverse", np.inf), ("log_weight_forward", -np.inf)):
            if (log_weight := getattr(self, key)) is not None:
                log_weight = real_array(log_weight, key).ravel()
                if np.isnan(log_weight).any() or (log_weight == wrong).any():
                    raise UserError(f"chain {self.name!r}: {key} contains NaN or {wrong:+}; its proposal is defective")
                put(key, log_weight)
        if self.acceptance is not None and not 0 <= self.acceptance <= 1:
            raise UserError(f"chain {self.name!r}: acceptance is {self.acceptance}; expected a number in [0, 1]")
        finite(f"chain {self.name!r}: cost", self.seconds_per_update, self.evaluations_per_update)
        finite(f"chain {self.name!r}: setup seconds", *self.setup_seconds.values())
        finite(f"chain {self.name!r}: weighted_sigma", *self.weighted_sigma.values())
        if self.configurations is not None:
            shown = real_array(self.configurations, f"chain {self.name!r}: configurations")
            if shown.ndim != 3 or not len(shown):
                raise UserError(f"chain {self.name!r}: configurations have shape {shown.shape}; expected (n, a, b)")
            finite(f"chain {self.name!r}: configurations", shown)
            put("configurations", shown)
        if self.pareto_k is not None and not np.isfinite(self.pareto_k):
            put("pareto_k", None)  # a flat or a short tail has none

    @property
    def is_learned(self) -> bool:
        """Whether a network proposes."""
        return self.evaluation_kind == "network evaluations"

    @property
    def processor_price(self) -> Pair | None:
        """Seconds of processor time for an independent |m|, and their error; None if the time is not known."""
        if self.processor_seconds_per_update is None or "abs_m" not in self.tau_int:
            return None
        (spent, off), (tau, error) = self.processor_seconds_per_update, self.tau_int["abs_m"]
        return 2 * tau * spent, 2 * math.hypot(tau * (off or 0.0), (error or 0.0) * spent)

    @property
    def slowest(self) -> str | None:
        """Name of the observable with the largest tau_int, or None if no tau_int is known."""
        return max(self.tau_int, key=lambda key: self.tau_int[key][0]) if self.tau_int else None

    def per_independent_sample(self, cost_per_update: float | None, observable: str | None = None) -> Pair | None:
        """The cost of one independent sample, ``2 tau_int * cost_per_update``.

        Parameters
        ----------
        cost_per_update : float or None
            In any unit, of one update of one chain.
        observable : str, optional
            The observable whose tau_int counts; by default the slowest.

        Returns
        -------
        (float, float or None) or None
            The cost and its error, which is that of tau_int; None if `cost_per_update` or tau_int is not known.
        """
        observable = observable or self.slowest
        if cost_per_update is None or observable not in self.tau_int:
            return None
        tau, error = self.tau_int[observable]
        return 2 * tau * cost_per_update, None if error is None else 2 * error * cost_per_update
