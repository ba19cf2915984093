r"""The measured propagator :math:`G(k) = \langle |\phi_k|^2 \rangle / V`, symmetrised.

It whitens the noise process, so it enters the density: a noisy G costs ESS, never exactness.
NumPy only, float64.
"""

import itertools

import numpy as np

from ..errors import UserError
from ..lattice import volume

__all__ = ["measured_propagator", "symmetrise"]


def symmetrise(full):
    r"""Average over the lattice symmetries: reflections of every axis, permutations of equal extents.

    Parameters
    ----------
    full : ndarray, shape (*lattice)
        A function of k on the full momentum grid.
    """
    for axis in range(full.ndim):
        full = 0.5 * (full + np.roll(np.flip(full, axis), 1, axis))
    permutations = [
        order
        for order in itertools.permutations(range(full.ndim))
        if all(full.shape[i] == full.shape[j] for i, j in enumerate(order))
    ]
    return sum(np.transpose(full, order) for order in permutations) / len(permutations)


def measured_propagator(batches, shape):
    r"""``G(k) = <|phi_k|^2> / V`` on the full grid, from a stream of configurations.

    Parameters
    ----------
    batches : iterable of ndarray, shape (n, *lattice)
        Configurations; read once, so the ensemble may be larger than memory.
    shape : tuple of int

    Returns
    -------
    ndarray, shape (*lattice), float64
        Positive, symmetric under the lattice group. In units of phi^2.

    Raises
    ------
    UserError
        No configurations, another lattice, or values that are not finite.
    """
    axes = tuple(range(1, len(shape) + 1))
    total, count = np.zeros(shape), 0
    for phis in batches:
        if phis.shape[1:] != tuple(shape):
            raise UserError(f"configurations have shape {phis.shape[1:]}; the lattice is {tuple(shape)}")
        if not np.all(np.isfinite(phis)):
            raise UserError("training configurations hold values that are not finite; verify the ensemble")
        total += (np.abs(np.fft.fftn(phis, axes=axes)) ** 2).sum(axis=0)
        count += len(phis)
    if count < 2:
        raise UserError(f"got {count} configurations; the propagator needs at least 2")
    return symmetrise(total / (count * volume(shape)))
