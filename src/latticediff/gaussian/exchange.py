"""The basis of real modes on an oblique lattice, where a pair of modes is exchanged for sum and difference."""

import numpy as np
import torch
from torch import Tensor

from ..fourier import ROOT_HALF
from ..types import IntArray

__all__ = ["Exchange"]


class Exchange:
    """The exchange of mode pairs of an oblique lattice for tensors (..., *lattice); without pairs nothing happens.

    Parameters
    ----------
    pairs : ndarray, shape (n_pairs, 2), int64
        See `latticediff.fourier.oblique_pairs`.
    volume : int
    device : torch.device
    dtype : torch.dtype
    """

    def __init__(self, pairs: IntArray, volume: int, device: torch.device, dtype: torch.dtype) -> None:
        self.is_idle = not len(pairs)
        own, other, partner = np.ones(volume), np.zeros(volume), np.arange(volume)
        own[pairs[:, 0]], own[pairs[:, 1]] = ROOT_HALF, -ROOT_HALF
        other[pairs.ravel()] = ROOT_HALF
        partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
        self._own, self._other = (torch.as_tensor(values).to(device, dtype) for values in (own, other))
        self._partner = torch.as_tensor(partner).to(device)

    def __call__(self, modes: Tensor, ndim: int) -> Tensor:
        """``sum`` and ``difference / 2^(1/2)`` of every pair, of the last `ndim` axes taken as one."""
        if self.is_idle:
            return modes
        flat = modes.flatten(-ndim)
        return (flat * self._own + flat[..., self._partner] * self._other).reshape(modes.shape)
