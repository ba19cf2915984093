r"""Deep periodic residual network: odd fields, scaled by even gates that look at their neighbourhood.

.. math::
    h^0 = K_0 * u, \qquad h^{l+1} = h^l + M_l\, g_l(h^l), \qquad T = K_1 * (\gamma\, h^n),

with K periodic convolutions and M a matrix over channels. In one block, with :math:`a = \gamma\, K_a * h`
and the even :math:`s = \beta + K_s * \frac{h^2}{1 + h^2}`,

.. math:: g(h) = a \Big[ \frac{s}{\sqrt{1 + s^2}} + \alpha_1 r + \alpha_2 (1 - r^2) \Big], \qquad
          r = (1 + a^2)^{-1/2}.

a is odd under phi -> -phi, the bracket even and bounded, so g is odd and grows at most linearly. The gate is what
one hidden layer lacks: the fluctuations around a site, and so its mean force, depend on the squares of the fields
next to it. gamma, beta and alpha are functions of log sigma and, if asked, the couplings.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .convolution import PeriodicConvolution
from .network import N_INPUT, N_OUTPUT, DeepNetwork

__all__ = ["GatedBlock", "ResidualNetwork"]


class GatedBlock(nn.Module):
    """One block, ``h -> h + M g(h)``; see the module's formulas.

    Parameters
    ----------
    channels, hidden : int
        Channels of h and width of the embedding.
    **convolution
        `ndim`, `kernel_size`, `dilation`, `symmetric` of `PeriodicConvolution`.
    """

    def __init__(self, channels: int, hidden: int, **convolution: Any) -> None:
        super().__init__()
        self.odd = PeriodicConvolution(inputs=channels, outputs=channels, **convolution)
        self.even = PeriodicConvolution(inputs=channels, outputs=channels, **convolution)
        self.mix = PeriodicConvolution(convolution["ndim"], channels, channels, kernel_size=1)
        self.coefficients = nn.Linear(hidden, 4 * channels)

    @property
    def reach(self) -> int:
        """Largest distance along an axis, in sites, over which h influences the result."""
        return self.odd.reach

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """``h + M g(h)``, shape of h, for embeddings e of shape (n or 1, hidden)."""
        gain, bias, alpha_1, alpha_2 = per_channel(self.coefficients(e), h).chunk(4, 1)
        a = self.odd(h) * (1 + gain)
        square = h * h
        s = self.even(square / (1 + square)) + bias
        r2 = 1 / (1 + a * a)
        gate = s * torch.rsqrt(1 + s * s) + (1 + alpha_1) * r2.sqrt() + alpha_2 * (1 - r2)
        return h + self.mix(a * gate)


def per_channel(values: Tensor, h: Tensor) -> Tensor:
    """Numbers (n, K) as (n, K, 1, ..., 1), to multiply the channels of h (n, K, *lattice)."""
    return values.reshape(*values.shape, *([1] * (h.ndim - 2)))


class ResidualNetwork(DeepNetwork):
    """Residual network of gated blocks for any lattice of `ndim` dimensions.

    Parameters
    ----------
    ndim : int
        Dimensions of the lattice, 1 to 4.
    channels : int
        Channels of the hidden fields.
    depth : int
        Blocks; the trunk reaches ``(depth + 2) * (kernel_size // 2)`` sites.
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

    name = "residual"

    def __init__(
        self,
        ndim: int = 2,
        channels: int = 12,
        depth: int = 2,
        kernel_size: int = 3,
        hidden: int = 64,
        symmetric: bool = False,
        conditioned: bool = False,
    ) -> None:
        options = {"channels": channels, "depth": depth, "kernel_size": kernel_size, "symmetric": symmetric}
        super().__init__(ndim, hidden, conditioned, **options)
        shared: dict[str, Any] = {"ndim": ndim, "kernel_size": kernel_size, "symmetric": symmetric}
        self.read = PeriodicConvolution(inputs=N_INPUT, outputs=channels, **shared)
        self.blocks = nn.ModuleList(GatedBlock(channels, hidden, **shared) for _ in range(depth))
        self.gain = nn.Linear(hidden, channels)
        self.write = PeriodicConvolution(inputs=channels, outputs=N_OUTPUT, zero=True, **shared)

    @property
    def reach(self) -> int:
        """See `DeepNetwork.reach`."""
        blocks: Any = self.blocks
        return self.read.reach + sum(block.reach for block in blocks) + self.write.reach

    def trunk(self, u: Tensor, e: Tensor) -> Tensor:
        """See `DeepNetwork.trunk`."""
        h = self.read(u)
        for block in self.blocks:
            h = block(h, e)
        return self.write(h * (1 + per_channel(self.gain(e), h)))
