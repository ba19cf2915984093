"""The gate: what an ensemble must show before a network is trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..action.site_terms import site_terms
from ..analysis import run_gates
from ..errors import GateError, UserError
from .measure import read_series
from .violations import energy_violations

if TYPE_CHECKING:
    from ..action import Action
    from ..analysis import Gate
    from ..config.sections import GateSection
    from ..ensemble import Ensemble
    from ..job.log import JsonLog
    from ..types import FloatArray

__all__ = ["is_even", "pass_gate"]


def is_even(action: Action) -> bool:
    """Whether the potential is even in phi, so that both signs of m must be visited.

    Parameters
    ----------
    action : Action
        Its potential is compared at a few fields and their negatives, to a relative accuracy of 1e-12.

    Returns
    -------
    bool
    """
    if not getattr(action, "is_symmetric", True):
        return False
    if hasattr(action, "components"):
        return action.components == 1  # m of several is a length, which has no sign
    phi, alike = np.linspace(0.1, 3, 7), site_terms(action).of  # a random mass is even
    return bool(np.allclose(alike.potential(phi), alike.potential(-phi), rtol=1e-12, atol=0))


def pass_gate(
    ensemble: Ensemble,
    section: GateSection,
    log: JsonLog | None = None,
    series: Mapping[str, FloatArray] | None = None,
) -> list[Gate]:
    """Apply every gate to an open `Ensemble`.

    Parameters
    ----------
    ensemble : latticediff.ensemble.Ensemble
    section : latticediff.config.sections.GateSection
        Thresholds; with ``enforce = false`` a failure is logged and nothing is raised.
    log : JsonLog, optional
        Gets one row per gate.
    series : dict of str to ndarray, shape (n_chains, n), float64, optional
        Primary series, if they are known already.

    Returns
    -------
    list of latticediff.analysis.Gate

    Raises
    ------
    GateError
        Something failed; the message names every failed gate and what to change.
    """
    delta_h = energy_violations(ensemble)
    series = read_series(ensemble) if series is None else series
    thresholds = {"n_sigma": section.n_sigma, "n_tau": section.n_tau, "max_error": section.max_error}
    try:
        gates = run_gates(series, delta_h, z2=is_even(ensemble.action), **thresholds)
    except UserError as exc:  # too short to be judged at all
        if log is not None:
            log("gate", file=ensemble.path.name, passed=False, reason=str(exc))
        if section.enforce:
            raise GateError(f"{ensemble.path} cannot be judged: {exc}; raise hmc.n_updates") from None
        return []
    if log is not None:
        for gate in gates:
            log("gate", file=ensemble.path.name, **gate.record())
    failed = [gate for gate in gates if not gate.passed]
    if failed and section.enforce:
        raise GateError(f"{ensemble.path} is not fit to train on: {'; '.join(gate.message for gate in failed)}")
    return gates
