"""What both routes share: batches, checks of given fields, and what becomes of draws that diverged."""

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Extents, FloatArray

__all__ = ["checked_batch", "checked_fields", "padded", "parts", "without_diverged"]

LARGEST = 2**22  #: values of noise at once: 0.2 GB along compiled paths, 3 GB in plain torch


def checked_batch(batch: int, values: int) -> int:
    """How many proposals to compute at once: `batch`, or fewer where one of them takes many `values` of noise.

    Memory is proportional to ``batch * values``: on a large lattice the cut follows the volume. It changes no bit.

    Raises
    ------
    UserError
        `batch` is smaller than 1.
    """
    if batch < 1:
        raise UserError(f"batch = {batch}; expected at least 1")
    return min(int(batch), max(1, LARGEST // values))


def parts(n: int, batch: int) -> list[slice]:
    """Slices of at most `batch` that cover ``range(n)``."""
    return [slice(start, min(start + batch, n)) for start in range(0, n, batch)]


def padded(fields: FloatArray) -> FloatArray:
    """`fields`, (n, ...), filled up with zeros until n is a multiple of 16.

    So torch gives a field the same bits in a batch of any size: its matrix products of a few rows round differently
    from those of many.
    """
    return np.concatenate([fields, np.zeros((-len(fields) % 16, *fields.shape[1:]))])


def checked_fields(phi: ArrayLike, shape: Extents) -> FloatArray:
    """`phi` as float64 of shape (n, *shape), finite.

    Raises
    ------
    UserError
        Anything else.
    """
    fields: FloatArray = real_array(phi, "phi")
    if fields.shape[1:] != tuple(shape):
        raise UserError(f"phi has shape {fields.shape}; expected (n, {', '.join(map(str, shape))})")
    if not np.all(np.isfinite(fields)):
        raise UserError("phi holds values that are not finite")
    return fields


def without_diverged(phi: FloatArray, log_q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Set draws that blew up to zero and their ``log_q`` to +inf, in place.

    Their weight is zero, so they count as rejections, and nothing crashes.
    """
    diverged = ~(np.isfinite(log_q) & np.isfinite(phi).all(axis=tuple(range(1, phi.ndim))))
    phi[diverged], log_q[diverged] = 0.0, np.inf
    return phi, log_q
