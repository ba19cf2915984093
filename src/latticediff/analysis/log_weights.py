"""The door for log-weights: -inf is right for draws, whose weight may be zero, +inf for given configurations."""

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..host import numpy_defaults
from ..types import FloatArray

__all__ = ["check_log_weights", "checked_weights", "weight_chains"]


@numpy_defaults()
def check_log_weights(log_weight: FloatArray, name: str, forward: bool = False) -> None:
    """Refuse log-weights that cannot be right: a NaN, the wrong infinity, or no finite entry at all.

    -inf is right for draws, whose weight may be zero; +inf for given configurations (`forward`), which the proposal may
    never draw.

    Parameters
    ----------
    log_weight : ndarray, float64
    name : str
        What the message calls them.
    forward : bool

    Raises
    ------
    UserError
        The log-weights are refused.
    """
    if np.isnan(log_weight).any():
        raise UserError(f"{name} has {np.isnan(log_weight).sum()} NaN; a NaN weight is a defect of its proposal")
    forbidden = -np.inf if forward else np.inf
    if (log_weight == forbidden).any():
        raise UserError(f"{name} contains {forbidden}; no configuration of its ensemble can have that weight")
    if not np.isfinite(log_weight).any():
        raise UserError(f"{name} has no finite entry; the proposal and the target do not overlap")


def weight_chains(log_weight: ArrayLike, name: str) -> list[FloatArray]:
    """Log-weights as one array for each chain.

    Parameters
    ----------
    log_weight : array_like, shape (n,) or (n_chains, n), or a list of chains of different lengths
    name : str
        What messages call them.

    Returns
    -------
    list of ndarray, each of shape (n,), float64

    Raises
    ------
    UserError
        They are no real numbers.
    """
    if isinstance(log_weight, (list, tuple)) and any(np.ndim(part) for part in log_weight):
        return [real_array(part, name).ravel() for part in log_weight]
    log_weight = real_array(log_weight, name)
    return list(log_weight) if log_weight.ndim == 2 else [log_weight.ravel()]


def checked_weights(log_weight: ArrayLike, name: str, forward: bool = False) -> FloatArray:
    """Log-weights as one flat array, chain after chain, of at least two.

    Parameters
    ----------
    log_weight, name
        As in `weight_chains`.
    forward : bool
        See `check_log_weights`.

    Returns
    -------
    ndarray, shape (n_total,), float64

    Raises
    ------
    UserError
        Fewer than two entries, or as `check_log_weights`.
    """
    log_weight = np.concatenate(weight_chains(log_weight, name))
    if log_weight.size < 2:
        raise UserError(f"{name} has {log_weight.size} entries; expected at least 2")
    check_log_weights(log_weight, name, forward)
    return log_weight
