"""``report.json`` as a dict, and CSV files. Fields and units: ``docs/report.md``."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from .model import ChainResult, RunResult
from .numbers import OBSERVABLES, TAU_NAMES, break_even, cost_ratio, differences, setup_total

__all__ = ["REPORT_VERSION", "csv_text", "report_dict"]

REPORT_VERSION = 1


def _listed(pair: Sequence[Any] | None) -> list[Any] | None:
    return None if pair is None else [pair[0], pair[1]]


def _forward_max(chain: ChainResult) -> float | None:
    """Largest forward log_weight above its mean: how far a chain could get stuck."""
    log_weight = chain.log_weight_forward
    if log_weight is None or not len(log_weight) or not math.isfinite(log_weight.mean()):
        return None
    return float(log_weight.max() - log_weight.mean())


def _chain_dict(chain: ChainResult, reference: ChainResult) -> dict[str, Any]:
    cost = chain.per_independent_sample(chain.seconds_per_update)
    # None where it has no meaning: the keys are there for every chain, so that a reader need not guess
    return {
        "acceptance": chain.acceptance,
        "n_updates": chain.n_updates,
        "ess_reverse": None if chain.ess_reverse is None else chain.ess_reverse[0],
        "ess_forward": None if chain.ess_forward is None else chain.ess_forward[0],
        "tau_int": {name: _listed(chain.tau_int.get(name)) for name in TAU_NAMES},
        "observables": {name: _listed(chain.observables.get(name)) for name in OBSERVABLES},
        "seconds_per_independent_sample": None if cost is None else cost[0],
        # additions to the schema
        "label": chain.label,
        "n_chains": chain.n_chains,
        "thin": chain.thin,
        "ess_reverse_error": None if chain.ess_reverse is None else chain.ess_reverse[1],
        "ess_forward_error": None if chain.ess_forward is None else chain.ess_forward[1],
        "log_weight_forward_max": _forward_max(chain),
        "log_weight_step_doubling": dict(chain.log_weight_step_doubling) or None,
        "seconds_per_independent_sample_error": None if cost is None else cost[1],
        "independent_sample_observable": chain.slowest,
        "seconds_per_update": chain.seconds_per_update,
        "evaluations_per_update": chain.evaluations_per_update,
        "evaluations_per_independent_sample": _listed(chain.per_independent_sample(chain.evaluations_per_update)),
        "evaluation_kind": chain.evaluation_kind,
        "processor_seconds_per_update": _listed(chain.processor_seconds_per_update),
        "processor_seconds_per_independent_abs_m": _listed(chain.processor_price),
        "network": chain.network or None,
        "setup_seconds": dict(chain.setup_seconds),
        "differences_sigma": None if chain is reference else differences(chain, reference),
        "weighted_observables": {name: _listed(chain.weighted.get(name)) for name in OBSERVABLES}
        if chain.weighted
        else None,
        "weighted_differences_sigma": {name: chain.weighted_sigma.get(name) for name in OBSERVABLES}
        if chain.weighted
        else None,
        "weighted_pareto_k": chain.pareto_k,
        "algorithm": chain.algorithm,
    }


def _amortised(run: RunResult) -> dict[str, Any]:
    """Per chain: what it costs before the first sample, how much cheaper a sample is, where it breaks even."""
    result = {}
    for chain in run.chains[1:]:
        ratio = cost_ratio(chain, run.reference)
        result[chain.name] = {
            "setup_seconds": setup_total(chain),
            "cheaper_per_sample_by": _listed(ratio),
            "break_even_samples": None if ratio is None else break_even(chain, run.reference),
        }
    return result


def report_dict(run: RunResult) -> dict[str, Any]:
    """JSON-able content of ``report.json``.

    Parameters
    ----------
    run : RunResult

    Returns
    -------
    dict
        The fields of the schema (null where one has no meaning), and additions that a reader may ignore.
    """
    checks: dict[str, Any] = {"schwinger_dyson": None, "exp_minus_delta_h": None, "log_weight_step_doubling_max": None}
    checks |= {name: list(value) if isinstance(value, tuple) else value for name, value in run.checks.items()}
    stages = dict.fromkeys(("generate", "train", "finetune", "sample_ode", "sample_sde", "total"))
    return {
        "report_version": REPORT_VERSION,
        "title": run.title,
        "action": run.action,
        "shape": list(run.shape),
        "seed": run.seed,
        "created": run.created,
        "device": run.device,
        "versions": dict(run.versions),
        "seconds": stages | {name: float(value) for name, value in run.seconds.items()},
        "reference": run.reference.name,
        "chains": {chain.name: _chain_dict(chain, run.reference) for chain in run.chains},
        "amortised": _amortised(run),
        "checks": checks,
        "conventions": {
            "tau_int": "1/2 + sum_{t>=1} rho(t), in updates of one chain; 0.5 is independent",
            "independent_sample": "2 tau_int updates, tau_int the largest one listed for the chain",
            "units": "lattice units, field normalisation of the action's convention",
        },
    }


def csv_text(header: Iterable[object], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV; floats have the fewest digits that read back to the same double.

    Parameters
    ----------
    header : iterable
        Names of the columns.
    rows : iterable of iterable
        None is an empty cell.

    Returns
    -------
    str
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            ["" if cell is None else repr(float(cell)) if isinstance(cell, float) else cell for cell in row]
        )
    return out.getvalue()
