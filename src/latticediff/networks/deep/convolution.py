r"""Periodic convolution on any lattice, with or without the point symmetries of the hypercube.

.. math:: (K * h)_o(x) = \sum_{i, t} K_{o i t}\, h_i(x + s\, \delta_t), \qquad \delta_t \in \{-r, \ldots, r\}^d,

s the dilation. Indices wrap around, also where the kernel is larger than the lattice. No bias: a
constant is even under phi -> -phi.
"""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import UserError

__all__ = ["PeriodicConvolution", "orbits"]

CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def orbits(ndim: int, kernel_size: int) -> Tensor:
    """For each tap the number of its orbit under reflections and permutations of the axes.

    Returns
    -------
    tensor, shape (kernel_size^ndim,), int64
    """
    reach = kernel_size // 2
    offsets = itertools.product(range(-reach, reach + 1), repeat=ndim)
    keys = [tuple(sorted(abs(o) for o in offset)) for offset in offsets]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return torch.tensor([numbers[key] for key in keys])


class PeriodicConvolution(nn.Module):
    """Convolution of fields (n, inputs, *lattice) into (n, outputs, *lattice).

    Parameters
    ----------
    ndim : int
        Dimensions of the lattice, 1 to 4.
    inputs, outputs : int
        Channels.
    kernel_size : int
        Odd extent of the kernel.
    dilation : int
        Distance of neighbouring taps in sites.
    symmetric : bool
        One weight for all taps of an orbit of the hypercubic group, so that the convolution commutes with every
        reflection and permutation of axes that the lattice has.
    zero : bool
        Begin with weights of zero.

    Raises
    ------
    UserError
        If `kernel_size` is even or a size is below 1.
    """

    def __init__(
        self,
        ndim: int,
        inputs: int,
        outputs: int,
        kernel_size: int = 3,
        dilation: int = 1,
        symmetric: bool = False,
        zero: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"kernel_size is {kernel_size}; expected an odd number of at least 1")
        if min(inputs, outputs, dilation) < 1:
            raise UserError(f"channels = {inputs} and {outputs}, dilation = {dilation}; expected at least 1 of each")
        self.ndim, self.kernel_size, self.dilation = ndim, kernel_size, dilation
        tap_orbits = orbits(ndim, kernel_size)
        taps = len(tap_orbits)
        self.tap_orbits = tap_orbits if symmetric and taps > 1 else None
        n_weights = int(tap_orbits.max()) + 1 if self.tap_orbits is not None else taps
        scale = 0.0 if zero else 1 / math.sqrt(inputs * taps)
        self.weight = nn.Parameter(scale * torch.randn(outputs, inputs, n_weights))
        self._wrapped: dict[tuple[Any, ...], Tensor] = {}

    @property
    def reach(self) -> int:
        """Largest distance along an axis, in sites, over which a field value influences the result."""
        return self.kernel_size // 2 * self.dilation

    def kernel(self) -> Tensor:
        """The kernel (outputs, inputs, k, ..., k)."""
        weight: Tensor = self.weight
        if self.tap_orbits is not None:
            weight = weight[..., self.tap_orbits.to(weight.device)]
        return weight.unflatten(2, (self.kernel_size,) * self.ndim)

    def _wrap(self, h: Tensor) -> Tensor:
        """`h` continued periodically by the reach on every side, by one gather."""
        shape, reach = h.shape[2:], self.reach
        if reach == 0:
            return h
        key = (tuple(shape), h.device)
        if key not in self._wrapped:
            sites = torch.arange(math.prod(shape)).reshape(shape)
            for axis, extent in enumerate(shape):
                sites = sites.index_select(axis, torch.arange(-reach, extent + reach) % extent)
            self._wrapped[key] = sites.flatten().to(h.device)
        return h.flatten(2)[..., self._wrapped[key]].unflatten(2, [extent + 2 * reach for extent in shape])

    def forward(self, h: Tensor) -> Tensor:
        """``K * h``, shape (n, outputs, *lattice)."""
        h, kernel = self._wrap(h), self.kernel()
        if self.ndim in CONVOLUTIONS:
            return CONVOLUTIONS[self.ndim](h, kernel, dilation=self.dilation)
        # four dimensions: three at a time, slices of the first axis as a batch
        n, extent = len(h), h.shape[2] - 2 * self.reach
        total: Any = 0.0
        for tap in range(self.kernel_size):
            start = tap * self.dilation
            slices = h[:, :, start : start + extent].movedim(2, 1).flatten(0, 1)
            total = total + functional.conv3d(slices, kernel[:, :, tap], dilation=self.dilation)
        return total.unflatten(0, (n, extent)).movedim(1, 2)
