"""What every record of a report asks of its numbers: finite ones, pairs of value and error, curves of one length."""

from typing import Any

import numpy as np

from ..arrays import real_array
from ..errors import UserError
from ..types import FloatArray

__all__ = ["Pair", "finite", "finite_curve", "finite_pair"]

Pair = tuple[float, float | None]  #: (value, error); an error that is not known is None


def finite(what: str, *values: Any) -> None:
    """Refuse NaN and infinities at the door; a page is no place to discover them.

    Parameters
    ----------
    what : str
        The name of the quantity, for the message.
    *values : array_like or None
        None stands for a quantity without meaning, and passes.

    Raises
    ------
    UserError
        A value is not finite.
    """
    for value in values:
        if value is not None and not np.all(np.isfinite(real_array(value, what, booleans=True))):
            raise UserError(f"{what} is not finite; expected numbers, or None where the quantity has no meaning")


def finite_pair(what: str, pair: Any) -> Pair:
    """A value and its error as two floats.

    Parameters
    ----------
    what : str
        The name of the quantity, for the message.
    pair : (value, error) or Estimate
        An error that is not known is None or NaN.

    Returns
    -------
    (float, float or None)
        None for an error that is not known.

    Raises
    ------
    UserError
        It is no pair of numbers, one of them is not finite, or the error is negative.
    """
    try:
        value, error = pair.pair() if hasattr(pair, "pair") else pair
        pair = (float(value), None if error is None or np.isnan(error) else float(error))
    except (TypeError, ValueError):
        raise UserError(f"{what} is {pair!r}; expected a pair (value, error)") from None
    finite(what, *pair)
    if pair[1] is not None and pair[1] < 0:
        raise UserError(f"{what} has error {pair[1]}; expected at least 0")
    return pair


def finite_curve(what: str, *arrays: Any) -> tuple[FloatArray, ...]:
    """The columns of a curve as float64 arrays.

    Parameters
    ----------
    what : str
        The name of the curve, for the message.
    *arrays : array_like, shape (n,)

    Returns
    -------
    tuple of ndarray, shape (n,), float64

    Raises
    ------
    UserError
        The arrays differ in length, have another dimension than one, or hold a number that is not finite.
    """
    arrays = tuple(real_array(a, what) for a in arrays)
    if len({a.shape for a in arrays}) != 1 or arrays[0].ndim != 1:
        raise UserError(f"{what} has arrays of shapes {[a.shape for a in arrays]}; expected equal one-dimensional ones")
    finite(what, *arrays)
    return arrays
