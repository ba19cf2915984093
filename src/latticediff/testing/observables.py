"""An observable: one finite number for each configuration, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..action import Action, Phi4
from ..observables import Observable, measure_primary
from ..types import FloatArray
from .faults import Faults, raise_faults, some_fields

__all__ = ["check_observable", "observable_faults"]


def check_observable(
    observable: Observable | Callable[..., Any], action: Action | None = None, fields: FloatArray | None = None
) -> None:
    """Hold an observable against what ``latticediff measure`` asks: ``f(phis (n, *lattice), action) -> (n,)``.

    Its values are finite numbers that do not depend on the batch, nor on how often it is asked, and it leaves the
    fields as they are.

    Parameters
    ----------
    observable : callable or Observable
        Not one that is derived from means.
    action : Action, optional
        Default: phi^4 in two dimensions.
    fields : ndarray, shape (n, *lattice), optional
        To try it on, at least 3; by default noise on a small lattice.

    Raises
    ------
    ContractError
        A line for each fault.
    """
    raise_faults(observable, "observable", lambda: observable_faults(observable, action, fields))


def observable_faults(
    observable: Any, action: Action | None = None, fields: FloatArray | None = None, name: str | None = None
) -> Faults:
    """What is wrong with an observable, called `name` in messages; errors of its own code pass."""
    called = getattr(observable, "__name__", type(observable).__name__) if name is None else name
    action = Phi4.A(-1.0, 1.0) if action is None else action
    phi = some_fields(action.ndim, 6) if fields is None else fields

    def values(rows: FloatArray) -> FloatArray:
        return measure_primary(rows, action, {called: observable})[called][0]

    whole = values(phi)
    if not np.array_equal(values(phi), whole):
        return ["its values change from call to call"]
    if not np.array_equal(values(phi[:2]), whole[:2]) or not np.array_equal(values(phi[2:]), whole[2:]):
        return ["its values depend on the batch in which configurations are measured"]
    return []
