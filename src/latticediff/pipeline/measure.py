"""Stage measure: observables and autocorrelation times of one ensemble file."""

import json
from dataclasses import dataclass

import numpy as np

from ..analysis import Beside, beside, observables_table, short_chain_notice, tau_table
from ..analysis.gamma import format_error
from ..ensemble import Ensemble
from ..errors import UserError
from ..metropolis.proposed import COLUMNS, proposed_series
from ..observables import measure_primary
from ..untrusted import printable
from .reference import require_finite

__all__ = ["Measurement", "acceptance", "field_batches", "measure", "measure_ensemble", "read_series", "read_weighted"]


@dataclass(frozen=True)
class Measurement:
    """What `measure` finds; tau_int in updates (stored configurations times `thin`)."""

    source: str
    action: object
    shape: tuple
    n: int  #: configurations, all chains together
    n_chains: int
    n_updates: int  #: per chain
    thin: int
    acceptance: float | None
    series: dict  #: primary observables, name -> (n_chains, n / n_chains)
    observables: dict  #: name -> latticediff.analysis.Estimate
    tau_int: dict  #: name -> (value, error)
    weighted: Beside | None = None  #: averages by the weights of independent proposals; None: it has none
    notices: tuple = ()  #: one line for each series too short for its tau_int

    def to_dict(self):
        """``{"observables", "tau_int", "n"}`` as in ``report.json``; null for what is not defined."""
        return {
            "observables": _pairs(self.observables),
            "weighted_observables": None if self.weighted is None else _pairs(self.weighted.observables),
            "weighted_differences_sigma": None if self.weighted is None else self.weighted.sigmas(),
            "tau_int": {name: list(pair) for name, pair in self.tau_int.items()},
            "n": self.n,
            "n_chains": self.n_chains,
            "n_updates": self.n_updates,
            "acceptance": self.acceptance,
        }

    def to_json(self):
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self):
        """A table for people."""
        size = f"{self.n} configurations, {self.n_chains} chains of {self.n_updates} updates, thin {self.thin}"
        lines = [f"{printable(self.source)}: {self.action!r} on {'x'.join(map(str, self.shape))}; {size}"]
        if self.acceptance is not None:
            lines.append(f"acceptance        {self.acceptance:.4f}")
        if self.weighted is not None:
            lines.append(f"{'':17} {'chain':20} {'weights':20} difference (joint error)")
        lines += [self._line(name) for name in self.observables]
        lines.append("tau_int = 1/2 + sum of rho(t), t >= 1, in updates (0.5 is independent):")
        lines += [f"  {name:15} {format_error(*pair)}" for name, pair in self.tau_int.items()]
        return "\n".join(lines)

    def _line(self, name):
        if self.weighted is None:
            return f"{name:17} {self.observables[name]}"
        sigma = self.weighted.sigmas()[name]
        said = "-" if sigma is None else f"{sigma:+.1f} sigma"
        return f"{name:17} {self.observables[name]!s:20} {self.weighted.observables[name]!s:20} {said}"


def _pairs(table):
    return {name: estimate.pair() for name, estimate in table.items()}


def read_weighted(ensemble, series, s_tau=1.5):
    """`Beside` of a chain of independent proposals, or None where the history does not hold what it takes.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
    series : dict
        Of `read_series`.
    s_tau : float
    """
    if not {"log_weight", *COLUMNS} <= set(ensemble.history_names):
        return None
    log_weight = ensemble.history("log_weight").T
    if not np.isfinite(log_weight).any():
        return None  # no draw has a weight
    proposed = proposed_series(ensemble.history)
    return beside(series, proposed, log_weight, ensemble.action, ensemble.shape, ensemble.thin, s_tau=s_tau)


def field_batches(ensemble):
    """Fields of an open `Ensemble` as batches (n, n_chains, *lattice), checked to be finite."""
    for phis in ensemble.batches():
        yield require_finite(phis, ensemble.path).reshape(-1, ensemble.n_chains, *ensemble.shape)


def read_series(ensemble, names=None):
    """Primary series of an open `Ensemble`, (n_chains, n) each; streamed, so files may be larger than memory."""
    return measure_primary(field_batches(ensemble), ensemble.action, names)


def acceptance(ensemble):
    """Accepted fraction over the whole history, or None where the algorithm recorded none."""
    if "accepted" not in ensemble.history_names or ensemble.n_updates == 0:
        return None
    return float(np.mean(ensemble.history("accepted")))


def measure(path, s_tau=1.5):
    """`measure_ensemble` of the file `path` (or of the finished part of a run that goes on).

    Raises
    ------
    FileError
        The file is missing, torn or no ensemble.
    UserError
        As `measure_ensemble`.
    """
    with Ensemble(path) as ensemble:
        return measure_ensemble(ensemble, s_tau)


def measure_ensemble(ensemble, s_tau=1.5):
    """Observables with errors and tau_int by the Gamma method.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
    s_tau : float
        S of the automatic window.

    Returns
    -------
    Measurement

    Raises
    ------
    UserError
        Fewer than two configurations per chain, or a chain that never moved.
    FileError
        A field that is not finite.
    """
    if not s_tau > 0:
        raise UserError(f"s_tau is {s_tau}; expected a number above 0, usually 1 to 2")
    series = read_series(ensemble)
    tau = tau_table(series, s_tau=s_tau)
    n_chains = ensemble.n_chains
    notices = (short_chain_notice(found, n_chains, name=name) for name, found in tau.items())
    return Measurement(
        source=ensemble.path.name,
        action=ensemble.action,
        shape=ensemble.shape,
        n=ensemble.n_cfg,
        n_chains=n_chains,
        n_updates=ensemble.n_updates or ensemble.n_cfg // ensemble.n_chains * ensemble.thin,
        thin=ensemble.thin,
        acceptance=acceptance(ensemble),
        series=series,
        observables=observables_table(series, ensemble.action, ensemble.shape, s_tau=s_tau),
        tau_int={name: (found.value * ensemble.thin, found.error * ensemble.thin) for name, found in tau.items()},
        weighted=read_weighted(ensemble, series, s_tau),
        notices=tuple(f"{line}; an entry is {ensemble.thin} updates" for line in notices if line),
    )
