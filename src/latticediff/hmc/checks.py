"""What every classical kernel refuses."""

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..lattice import check_shape
from ..types import FloatArray

__all__ = ["check_counts", "check_fields"]


def check_fields(phi, action):
    """`phi` as C-contiguous float64 (n_chains, *lattice), or say what is wrong with it."""
    phi = real_array(phi, "phi", order="C")
    if phi.ndim != action.ndim + 1:
        raise UserError(
            f"phi has shape {phi.shape}; expected (n_chains, *lattice) with {action.ndim} lattice axes, one chain is a"
            " batch of one"
        )
    check_shape(phi.shape[1:], action.ndim)
    if phi.shape[0] == 0:
        raise UserError("phi holds no chain; expected n_chains of at least 1")
    if not np.isfinite(phi).all():
        raise UserError(f"phi has {np.count_nonzero(~np.isfinite(phi))} values that are NaN or infinite")
    return phi


def check_counts(n_updates: int, thin: int) -> None:
    """Refuse a number of updates below 0 and a thinning below 1, by a `UserError`."""
    if n_updates < 0 or int(n_updates) != n_updates:
        raise UserError(f"n_updates is {n_updates!r}; expected an integer of at least 0")
    if thin < 1 or int(thin) != thin:
        raise UserError(f"thin is {thin!r}; expected an integer of at least 1")
