r"""What is kept of every independent proposal, accepted or not: the series of averages by importance weights.

Proposals are draws of q with :math:`w \propto \pi / q`, so they carry averages of the target themselves,
:math:`\langle O \rangle = E_q[w O] / E_q[w]`, which no accept step has touched. A chain stores fields where it stands
only; of its proposals the history keeps a few numbers, beside ``log_weight``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..observables.measuring import complete, measure_primary
from ..types import FloatArray

if TYPE_CHECKING:
    from ..action import Action


__all__ = ["COLUMNS", "proposed_columns", "proposed_series"]

PREFIX = "proposal_"
MEASURED = ("m", "phi2", "g_kmin")  #: the action is known already, and what else there is follows from these
COLUMNS = tuple(PREFIX + name for name in (*MEASURED, "action"))  #: of the history


def proposed_columns(
    phi: FloatArray, values: FloatArray, log_weight: FloatArray, action: Action
) -> dict[str, FloatArray]:
    """Measure proposals for the history.

    Parameters
    ----------
    phi : ndarray, shape (n_updates, n_chains, *lattice), float64
    values, log_weight : ndarray, shape (n_updates, n_chains), float64
        Actions and log weights of the proposals.
    action : latticediff.action.Action

    Returns
    -------
    dict of str to ndarray, shape (n_updates, n_chains), float64
        `COLUMNS`; zeros where the weight is zero, since a draw that blew up has no numbers.
    """
    dead = log_weight == -np.inf
    if dead.any():
        phi, values = phi.copy(), np.where(dead, 0.0, values)
        phi[dead] = 0.0
    found = {name: rows.T for name, rows in measure_primary(phi, action, MEASURED).items()}
    return {PREFIX + name: np.ascontiguousarray(rows) for name, rows in (*found.items(), ("action", values))}


def proposed_series(history: Callable[[str], FloatArray]) -> dict[str, FloatArray]:
    """Series of the primary observables of the proposals, from columns of the history.

    Parameters
    ----------
    history : callable
        ``history(name) -> (n_updates, n_chains)``.

    Returns
    -------
    dict of str to ndarray, shape (n_chains, n_updates), float64
        ``m, abs_m, m2, m4, phi2, g_kmin, action``.
    """
    return complete({name.removeprefix(PREFIX): history(name).T for name in COLUMNS})
