r"""The ridge network of theories with a random mass: amplitudes that differ from site to site.

.. math:: \alpha_{f}(y) = \alpha_f + \sum_j s_{fj}(\sigma)\, c_j(y), \qquad
          c = \tanh\big(K_2 * \tanh(K_1 * (\bar G r,\; \bar G \Delta) + b_1) + b_2\big),

c being numbers of the disorder alone: small periodic kernels over r, and over what is left of it at large noise
(`GaussianReference.mass_shift`). A feature stays :math:`g_f(h_f)` with other amplitudes at every site, so R is odd in
phi, and its trace :math:`\sum_f \kappa_f \sum_y g_f'(h_f(y))` needs no derivative still. The couplings s begin at zero,
so an untrained network is the baseline. How many :math:`c_j` there are costs nothing at an evaluation.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...gaussian.reference import GaussianReference
from ...types import Description
from .base import N_AMPLITUDES, N_INPUT, N_OUTPUT
from .core import hidden as correlated
from .network import RidgeNetwork

__all__ = ["GatedRidgeNetwork"]

N_SEEN = 2  # r, and what is left of it at large noise


class GatedRidgeNetwork(RidgeNetwork):
    """Ridge network that sees a random mass; see the module's formula, and `Ridge` for the other options.

    Parameters
    ----------
    ndim, features, kernel_size, hidden, conditioned, ordered, screened, inputs, outputs
        See `latticediff.networks.ridge.base.Ridge`.
    channels : int
        How many numbers c_j every site has.

    Raises
    ------
    UserError
        If a size is out of range.
    """

    name = "gated_ridge"
    takes_mass = True  #: and is for theories that have one

    def __init__(
        self,
        ndim: int = 2,
        features: int = 24,
        kernel_size: int = 3,
        hidden: int = 64,
        conditioned: bool = False,
        ordered: bool = False,
        screened: bool = False,
        inputs: int = N_INPUT,
        outputs: int = N_OUTPUT,
        channels: int = 16,
    ) -> None:
        super().__init__(ndim, features, kernel_size, hidden, conditioned, ordered, screened, inputs, outputs)
        if channels < 1:
            raise UserError(f"channels = {channels}; expected at least 1")
        self.channels, n_taps = int(channels), len(self.offsets)
        self.first = nn.Parameter(torch.randn(channels, N_SEEN, n_taps) / math.sqrt(n_taps))
        self.first_bias = nn.Parameter(0.5 * torch.randn(channels, 1))
        self.second = nn.Parameter(torch.randn(channels, channels, n_taps) / math.sqrt(channels * n_taps))
        self.second_bias = nn.Parameter(torch.zeros(channels, 1))
        self.coupling = nn.Linear(hidden, features * N_AMPLITUDES * channels)
        nn.init.zeros_(self.coupling.weight)
        nn.init.zeros_(self.coupling.bias)

    def describe(self) -> Description:
        """Registered name and options, enough to build the network again."""
        return {**super().describe(), "channels": self.channels}

    def seen(self, gaussian: GaussianReference) -> Tensor:
        """c of the module's formula, (channels, V)."""
        if gaussian.masses is None:
            raise UserError(f"{self.name} is of theories with a random mass; {gaussian.action!r} wants network ridge")
        _, C = gaussian.posterior(gaussian.expand(torch.full((1,), 1e3 * gaussian.g_max).to(gaussian.G)))
        shift: Any = gaussian.mass_shift(C)
        taps = self.taps(gaussian)
        fields = gaussian.g_mean * torch.stack([gaussian.masses.flatten(), shift.flatten()])[None]
        inner = torch.tanh(correlated(fields, self.first[None], taps) + self.first_bias)
        return torch.tanh(correlated(inner, self.second[None], taps) + self.second_bias)[0]

    def by_site(self, gaussian: GaussianReference, log_sigma: Tensor) -> Tensor:
        """What amplitudes have at a site beyond the common ones, (n, F, 2, V), at log sigma (n,)."""
        s = self.coupling(self.embed(gaussian, log_sigma))
        return torch.matmul(s.view(-1, self.features * N_AMPLITUDES, self.channels), self.seen(gaussian)).unflatten(
            1, (self.features, N_AMPLITUDES)
        )
