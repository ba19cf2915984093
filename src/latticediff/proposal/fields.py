"""What both routes share: batches, checks at the door, draws that diverged."""

import numpy as np

from ..arrays import real_array
from ..errors import UserError

__all__ = ["checked_batch", "checked_fields", "padded", "parts", "without_diverged"]

LARGEST = 2**22  #: values of noise at once: 0.2 GB along compiled paths, 3 GB in plain torch


def checked_batch(batch, values):
    """Proposals computed at once: `batch`, or fewer where one of them takes many `values` of noise.

    Memory is proportional to ``batch * values``: on a large lattice the cut follows the volume. It changes no bit.

    Raises
    ------
    UserError
        `batch` is smaller than 1.
    """
    if batch < 1:
        raise UserError(f"batch = {batch}; expected at least 1")
    return min(int(batch), max(1, LARGEST // values))


def parts(n, batch):
    """Slices of at most `batch` that cover ``range(n)``."""
    return [slice(start, min(start + batch, n)) for start in range(0, n, batch)]


def padded(fields):
    """`fields` and zeros up to a multiple of 16, so that torch gives each the same bits in a batch of any size.

    Its matrix products of a few rows round differently from those of many.
    """
    return np.concatenate([fields, np.zeros((-len(fields) % 16, *fields.shape[1:]))])


def checked_fields(phi, shape):
    """`phi` as float64 of shape (n, *shape), finite.

    Raises
    ------
    UserError
        Anything else.
    """
    phi = real_array(phi, "phi")
    if phi.shape[1:] != tuple(shape):
        raise UserError(f"phi has shape {phi.shape}; expected (n, {', '.join(map(str, shape))})")
    if not np.all(np.isfinite(phi)):
        raise UserError("phi holds values that are not finite")
    return phi


def without_diverged(phi, log_q):
    """Give draws that blew up ``log_q = +inf``, hence weight zero: counted as rejections, no crash."""
    diverged = ~(np.isfinite(log_q) & np.isfinite(phi).all(axis=tuple(range(1, phi.ndim))))
    phi[diverged], log_q[diverged] = 0.0, np.inf
    return phi, log_q
