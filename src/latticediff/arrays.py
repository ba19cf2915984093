"""The one door through which arrays of callers enter: real numbers, every one of them, or a refusal.

``np.asarray(values, np.float64)`` drops what it cannot hold: the imaginary part of complex numbers (with a
warning), the mask of a masked array (in silence, so that the junk below it is averaged). It also reads
text and objects as numbers where it can.
"""

import numpy as np

from .errors import UserError

__all__ = ["real_array"]

_KINDS = {"c": "complex numbers", "b": "truth values", "O": "Python objects", "U": "text", "S": "bytes", "V": "records"}


def real_array(values, name, *, finite=False, booleans=False, order=None, dtype=np.float64):
    """`values` as a float64 array, or one line that says what is wrong with them.

    Parameters
    ----------
    values : array_like
        Floating-point or integer numbers. A float64 array is returned as it is, not copied.
    name : str
        What the message calls them.
    finite : bool
        Refuse NaN and infinity too.
    booleans : bool
        Take truth values as 0 and 1.
    order : {None, "C"}
        "C" for contiguous memory.
    dtype : dtype, optional
        Of the result; None keeps that of `values`, which is checked all the same.

    Returns
    -------
    ndarray

    Raises
    ------
    UserError
        Complex numbers, objects, text, records, truth values, a masked entry, rows of unequal lengths; with `finite`,
        a value that is not.
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


def _refuse_masked(values, name):
    """Masked entries are holes: nobody but the caller knows what belongs there."""
    for part in values if isinstance(values, (list, tuple)) else (values,):
        if isinstance(part, (list, tuple)):
            _refuse_masked(part, name)
        elif isinstance(part, np.ma.MaskedArray) and (holes := int(np.ma.count_masked(part))):
            raise UserError(f"{name} is a masked array with {holes} masked entries; leave those rows out first")
