"""What every classical kernel refuses."""

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..arrays import real_array
from ..errors import UserError
from ..lattice import check_shape
from ..types import FloatArray

__all__ = ["check_actions", "check_counts", "check_fields"]


def check_fields(phi: ArrayLike, action: Action) -> FloatArray:
    """`phi` as a C-contiguous array (n_chains, *lattice), float64.

    Raises
    ------
    UserError
        Another number of axes than the action's and one, no chain, an extent that is too small, or a value that is not
        finite.
    """
    fields: FloatArray = real_array(phi, "phi", order="C")
    if fields.ndim != action.ndim + 1:
        raise UserError(
            f"phi has shape {fields.shape}; expected (n_chains, *lattice) with {action.ndim} lattice axes, one chain is"
            " a batch of one"
        )
    check_shape(fields.shape[1:], action.ndim)
    if fields.shape[0] == 0:
        raise UserError("phi holds no chain; expected n_chains of at least 1")
    if not np.isfinite(fields).all():
        raise UserError(f"phi has {np.count_nonzero(~np.isfinite(fields))} values that are NaN or infinite")
    return fields


def check_actions(values: ArrayLike, n_chains: int) -> FloatArray:
    """A copy of the actions of `n_chains` chains, (n_chains,), float64.

    Raises
    ------
    UserError
        Another number of them, or NaN.
    """
    actions: FloatArray = real_array(values, "action").copy()
    if actions.shape != (n_chains,):
        raise UserError(f"action of the state has shape {actions.shape}; expected ({n_chains},), one number a chain")
    if np.isnan(actions).any():
        raise UserError("action of the state holds NaN; start the chains afresh with kernel.start(phi)")
    return actions


def check_counts(n_updates: int, thin: int) -> None:
    """Refuse a number of updates below 0 and a thinning below 1, by a `UserError`."""
    if n_updates < 0 or int(n_updates) != n_updates:
        raise UserError(f"n_updates is {n_updates!r}; expected an integer of at least 0")
    if thin < 1 or int(thin) != thin:
        raise UserError(f"thin is {thin!r}; expected an integer of at least 1")
