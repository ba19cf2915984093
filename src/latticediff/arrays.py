"""The one door through which arrays of callers enter: real numbers, every one of them, or a refusal.

``np.asarray(values, np.float64)`` drops what it cannot hold: the imaginary part of complex numbers (with a
warning), the mask of a masked array (in silence, so that the junk below it is averaged). It also reads
text and objects as numbers where it can.
"""

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .errors import UserError
from .types import FloatArray

__all__ = ["real_array"]

_KINDS = {"c": "complex numbers", "b": "truth values", "O": "Python objects", "U": "text", "S": "bytes", "V": "records"}


@overload
def real_array(
    values: ArrayLike, name: str, *, finite: bool = ..., booleans: bool = ..., order: Literal["C"] | None = ...
) -> FloatArray: ...


@overload
def real_array(
    values: ArrayLike,
    name: str,
    *,
    finite: bool = ...,
    booleans: bool = ...,
    order: Literal["C"] | None = ...,
    dtype: DTypeLike | None,
) -> NDArray[Any]: ...


def real_array(
    values: Any,  # what callers really pass is found out below
    name: str,
    *,
    finite: bool = False,
    booleans: bool = False,
    order: Literal["C"] | None = None,
    dtype: DTypeLike | None = np.float64,
) -> NDArray[Any]:
    """`values` as a float64 array, or an error that says in one line what is wrong with them.

    Parameters
    ----------
    values : array_like
        Floating-point or integer numbers. A float64 array is returned as it is, not copied.
    name : str
        What the messages of errors call them.
    finite : bool
        Refuse NaN and infinity too.
    booleans : bool
        Take truth values as 0 and 1.
    order : {None, "C"}
        "C" for contiguous memory.
    dtype : dtype, optional
        Type of the result, default float64; None keeps the type of `values`, which is checked all the same.

    Returns
    -------
    ndarray, shape of `values`, `dtype`

    Raises
    ------
    UserError
        `values` holds complex numbers, objects, text, records, a masked entry, or truth values without `booleans`; its
        rows have unequal lengths; `finite` is set and a value is NaN or infinite.
    """
    if hasattr(values, "detach"):  # a torch tensor; this side of the package does not import torch
        values = values.detach().cpu()
    if type(values) is not np.ndarray:
        _refuse_masked(values, name)
        try:
            values = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as exc:  # ragged lists, for one
            raise UserError(f"{name} cannot be made an array of numbers ({exc}); expected a regular one") from None
    kind = values.dtype.kind
    if kind not in "fiu" and not (kind == "b" and booleans):
        if kind == "O":  # arrays in an object array, or numbers too large for one
            _refuse_masked(list(values.flat), name)
        advice = "; pass .real and .imag, or the modulus, by themselves" if kind == "c" else ""
        raise UserError(
            f"{name} holds {_KINDS.get(kind, values.dtype)} ({values.dtype}); expected real numbers{advice}"
        )
    values = np.asarray(values, dtype, order=order)
    if finite and not np.isfinite(values).all():
        n_bad = np.count_nonzero(~np.isfinite(values))
        raise UserError(
            f"{name} has {n_bad} values that are not finite (NaN or infinite); leave out or mend their rows"
        )
    return values


def _refuse_masked(values: object, name: str) -> None:
    """Raise `UserError` at a masked entry: it is a hole, and nobody but the caller knows what belongs there."""
    for part in values if isinstance(values, (list, tuple)) else (values,):
        if isinstance(part, (list, tuple)):
            _refuse_masked(part, name)
        elif isinstance(part, np.ma.MaskedArray) and (holes := int(np.ma.count_masked(part))):
            raise UserError(f"{name} is a masked array with {holes} masked entries; leave those rows out first")
