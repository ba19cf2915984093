"""From an ensemble file to what the report shows of its chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FileError, UserError
from ..markov import kernel_from_description
from ..report import ChainResult
from .curves import autocorrelation_curve, correlator_curves, propagator_curve
from .measure import measure_ensemble

if TYPE_CHECKING:
    from ..analysis import Estimate
    from ..ensemble import Ensemble
    from .measure import Measurement

__all__ = ["chain_result", "cost_per_update", "sampler_name", "seconds_per_update"]


def seconds_per_update(ensemble: Ensemble) -> float | None:
    """Mean wall time per update of one chain.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.

    Returns
    -------
    float or None
        Seconds, all chains together divided by their number; None where the history has no column of seconds.
    """
    if "seconds" not in ensemble.history_names or ensemble.n_updates == 0:
        return None
    return float(np.mean(ensemble.history("seconds"))) / ensemble.n_chains


def cost_per_update(ensemble: Ensemble) -> tuple[float | None, str]:
    """What an update of one chain costs, in evaluations of what is expensive about its algorithm.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
        Open.

    Returns
    -------
    evaluations : float or None
        None if the algorithm does not say.
    kind : str
        ``"network evaluations"`` or ``"action gradients"``, and what else an update does.
    """
    algorithm = ensemble.algorithm
    if "evaluations_per_update" in algorithm:
        return float(algorithm["evaluations_per_update"]), "network evaluations"
    if algorithm.get("name") in ("hmc", "sequence"):
        kernel: Any = kernel_from_description(ensemble.action, algorithm)
        others = sampler_name(algorithm).split(" + ")[1:]
        kind = f"action gradients, beside updates of {', '.join(others)}" if others else "action gradients"
        return float(kernel.force_evaluations_per_update), kind
    return None, "action gradients"


def sampler_name(algorithm: Mapping[str, Any]) -> str:
    """What a report calls reference chains: HMC, and whatever else an update consists of.

    Parameters
    ----------
    algorithm : dict
        Description of the kernel.

    Returns
    -------
    str
        ``HMC``, or for instance ``HMC + cluster``.
    """
    names = [str(part.get("name")) for part in algorithm.get("parts", ())]
    others = dict.fromkeys(name for name in names if not name.endswith("hmc"))
    return " + ".join(["HMC", *others])


def chain_result(
    name: str,
    label: str,
    ensemble: Ensemble,
    measurement: Measurement | None = None,
    s_tau: float = 1.5,
    **extra: Any,
) -> ChainResult:
    """Measure an open `Ensemble` for the report.

    Parameters
    ----------
    name, label : str
        Key in ``report.json`` and what the page calls it.
    ensemble : latticediff.ensemble.Ensemble
    measurement : Measurement, optional
        Of this ensemble, if it is known already.
    s_tau : float
        S of the Gamma method's automatic window.
    **extra
        Further fields of `ChainResult`: ESS, log weights, set-up seconds.

    Returns
    -------
    ChainResult

    Raises
    ------
    FileError
        As `measure_ensemble`.
    UserError
        As `measure_ensemble`; the message names the file.
    """
    try:
        found = measurement or measure_ensemble(ensemble, s_tau, installed=False)
        curves = {key: autocorrelation_curve(found.series[key], found.thin, s_tau) for key in ("m", "abs_m")}
    except FileError:
        raise  # names its file
    except UserError as exc:
        raise UserError(f"{ensemble.path}: {exc}") from None
    evaluations, kind = cost_per_update(ensemble)
    weighted: dict[str, Any] = {}
    if found.weighted is not None:
        sigmas = found.weighted.sigmas()
        weighted = {
            "weighted": _defined(found.weighted.observables),
            "weighted_sigma": {key: sigma for key, sigma in sigmas.items() if sigma is not None},
            "pareto_k": found.weighted.pareto_k,
        }
    return ChainResult(
        name=name,
        label=label,
        n_updates=found.n_updates,
        n_chains=found.n_chains,
        series=found.series,
        observables=_defined(found.observables),
        tau_int={**found.tau_int},
        thin=found.thin,
        acceptance=found.acceptance,
        seconds_per_update=seconds_per_update(ensemble),
        evaluations_per_update=evaluations,
        evaluation_kind=kind,
        autocorrelation=curves,
        propagator=propagator_curve(ensemble),
        **correlator_curves(ensemble, s_tau),
        algorithm=ensemble.algorithm,
        **weighted,
        **extra,
    )


def _defined(table: Mapping[str, Estimate]) -> dict[str, tuple[float, float | None]]:
    """Value and error of the estimates that have both."""
    return {key: (e.value, e.error) for key, e in table.items() if np.isfinite([e.value, e.error]).all()}
