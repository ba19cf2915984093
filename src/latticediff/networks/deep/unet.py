r"""U-net-like periodic network: the scales of a U-net, without its striding.

A U-net halves the lattice between levels, which breaks translations down to those by 2^levels sites and wants
extents that it can halve. Here every level keeps all sites, smoothed by the binomial filter
:math:`(\tfrac14, \tfrac12, \tfrac14)` along each axis with neighbours 2^l sites apart, and convolves with
kernels dilated by 2^l ("a trous"): what is computed on the sites of a coarse lattice is computed on all its
translates. So the network commutes with every translation, and any extents will do.

.. math::
    \text{down:}\quad d_l = B^{2^l}(h_l), \quad h_{l+1} = F_l * d_l, \qquad
    \text{up:}\quad h_l' = B'^{2^l}(d_l + M_l\, h_{l+1}'), \qquad l = 0 \ldots n - 1,

around a block with dilation 2^n at the bottom; B are the gated blocks of `residual`. The receptive field grows
exponentially with the levels, the cost linearly: with kernels of radius r and n levels the trunk reaches
:math:`2 r + r (3 \cdot 2^n - 2) + 2^n - 1` sites: 7, 15 and 31 with 3x3 kernels and 1, 2 and 3 levels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .convolution import PeriodicConvolution
from .network import N_INPUT, N_OUTPUT, DeepNetwork
from .residual import GatedBlock, per_channel

__all__ = ["UNetwork", "smooth"]


def smooth(h: Tensor, distance: int) -> Tensor:
    """Binomial filter along each lattice axis of h (n, channels, *lattice), neighbours `distance` sites apart."""
    for axis in range(2, h.ndim):
        h = 0.5 * h + 0.25 * (torch.roll(h, distance, axis) + torch.roll(h, -distance, axis))
    return h


class UNetwork(DeepNetwork):
    """Multi-scale network for any lattice of `ndim` dimensions; see the module's formulas.

    Parameters
    ----------
    ndim : int
        Dimensions of the lattice, 1 to 4.
    channels : int
        Channels of the hidden fields, at every level.
    levels : int
        Coarser levels n; ``2 n + 1`` blocks.
    kernel_size : int
        Odd extent of the kernels.
    hidden : int
        Width of the embedding of log sigma.
    symmetric : bool
        Kernels tied so that the network commutes with reflections and permutations of the axes.
    conditioned : bool
        Embed the couplings too.

    Raises
    ------
    UserError
        If a size is out of range.
    """

    name = "unet"

    def __init__(
        self,
        ndim: int = 2,
        channels: int = 8,
        levels: int = 2,
        kernel_size: int = 3,
        hidden: int = 64,
        symmetric: bool = False,
        conditioned: bool = False,
    ) -> None:
        options = {"channels": channels, "levels": levels, "kernel_size": kernel_size, "symmetric": symmetric}
        super().__init__(ndim, hidden, conditioned, **options)
        shared: dict[str, Any] = {"ndim": ndim, "kernel_size": kernel_size, "symmetric": symmetric}
        self.distances = tuple(2**level for level in range(levels))
        self.read = PeriodicConvolution(inputs=N_INPUT, outputs=channels, **shared)
        self.down, self.up = (
            nn.ModuleList(GatedBlock(channels, hidden, dilation=distance, **shared) for distance in self.distances)
            for _ in range(2)
        )
        self.bottom = GatedBlock(channels, hidden, dilation=2**levels, **shared)
        self.merge = nn.ModuleList(PeriodicConvolution(ndim, channels, channels, 1) for _ in self.distances)
        self.gain = nn.Linear(hidden, channels)
        self.write = PeriodicConvolution(inputs=channels, outputs=N_OUTPUT, zero=True, **shared)

    @property
    def reach(self) -> int:
        """See `DeepNetwork.reach`."""
        parts: list[Any] = [self.read, *self.down, self.bottom, *self.up, self.write]
        return sum(part.reach for part in parts) + sum(self.distances)

    def trunk(self, u: Tensor, e: Tensor) -> Tensor:
        """See `DeepNetwork.trunk`."""
        h, kept = self.read(u), []
        for block, distance in zip(self.down, self.distances, strict=True):
            h = block(h, e)
            kept.append(h)
            h = smooth(h, distance)
        h = self.bottom(h, e)
        for block, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            h = block(kept.pop() + merge(h), e)
        return self.write(h * (1 + per_channel(self.gain(e), h)))
