r"""Where the loss comes from: noise levels and momentum shells, and whether the network has memorised its data.

With the error :math:`e = C (T - R) / \sigma` of `targets.matching`, whose square is the loss,

.. math:: \epsilon(\sigma, \text{shell}) = \frac{\sum_k |e_k|^2}{\sum_k |(C T / \sigma)_k|^2}, \qquad
          F(p_\sigma \| q_\theta) \le \tfrac{1}{2 v} \langle |e|^2 \rangle ,

with equality where the target T has no noise of its own (the explicit one). It costs one evaluation for each
level; `latticediff.model.score_error` takes the noise of the target out, at the price of posterior chains.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..diffusion.ladder import NoiseRange
from ..fourier import basis_from_momenta
from ..gaussian.contract import UnitVectors
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..lattice import momenta_along
from ..networks.contract import Residual
from ..targets.matching import Target
from ..types import Extents

__all__ = ["BinnedLoss", "Gap", "binned_loss", "loss_gap", "momentum_shells"]

N_LEVELS = 8


class BinnedLoss(NamedTuple):
    """Losses by noise level (first axis) and momentum shell.

    Attributes
    ----------
    sigma : list of float
    shells : list of float
        Upper bound of p_hat^2 of each shell; the first is the zero mode.
    relative : list of list of float
        The loss over the power of the target.
    fisher : list of float
        Bound on the Fisher divergence per site.
    """

    sigma: list[float]
    shells: list[float]
    relative: list[list[float]]
    fisher: list[float]


def momentum_shells(shape: Extents, unit_vectors: UnitVectors | None = None) -> tuple[list[float], Tensor]:
    """Upper bounds of p_hat^2, and the number of the shell of every basis function, (volume,).

    The zero mode, the lowest momenta, the rest of the lower half of the band, and the upper half.
    """
    p_squared: Any = sum(4 * np.sin(k / 2) ** 2 for k in momenta_along(shape, unit_vectors))
    p2 = torch.as_tensor(basis_from_momenta(p_squared, shape, unit_vectors is not None)).flatten()
    nonzero = p2[p2 > 1e-9]
    bounds = sorted({0.0, *([float(nonzero.min()), 2.0 * len(shape), float(nonzero.max())] if len(nonzero) else [])})
    return bounds, torch.bucketize(p2 - 1e-9, torch.tensor(bounds, dtype=p2.dtype))


@torch_defaults()
@torch.no_grad()
def binned_loss(
    network: Residual, gaussian: GaussianReference, phi: Tensor, noise: NoiseRange, target: Target, seed: int = 0
) -> BinnedLoss:
    """`BinnedLoss` of a network on configurations it has not seen.

    Parameters
    ----------
    network : callable
    gaussian : GaussianReference
    phi : tensor, shape (n, *lattice)
    noise : NoiseRange
    target : callable
        See `latticediff.targets.matching.denoising_loss`.
    seed : int
        Of the noise, the same every time.
    """
    bounds, shell = momentum_shells(gaussian.shape, gaussian.unit_vectors)
    generator, (low, high) = torch.Generator().manual_seed(seed), noise.log_range
    sigmas, relative, fisher = [], [], []
    for position in range(N_LEVELS):
        log_sigma = low + (high - low) * (position + 0.5) / N_LEVELS
        z = torch.randn(phi.shape, generator=generator).to(phi.device)
        levels = torch.full((len(phi),), log_sigma, dtype=phi.dtype, device=phi.device)
        v = gaussian.expand((2 * levels).exp())
        R, _ = network(gaussian, phi + v.sqrt() * z, levels)
        T = target(gaussian, phi, z, v)
        weight = gaussian.posterior(v)[1] / v.sqrt()
        error, power = (
            (gaussian.to_modes(field) * weight).double().square().mean(0).flatten().cpu() for field in (T - R, T)
        )
        sums = torch.zeros(2, len(bounds), dtype=torch.float64)
        sums.index_add_(1, shell, torch.stack([error, power]))
        sigmas.append(math.exp(log_sigma))
        relative.append((sums[0] / sums[1].clamp(min=1e-300)).tolist())
        fisher.append(float(error.sum()) / (2 * math.exp(2 * log_sigma)) / gaussian.volume)
    return BinnedLoss(sigmas, bounds, relative, fisher)


class Gap(NamedTuple):
    """Losses per site on training and held-out data under the same noise, and the difference with its error."""

    train: float
    held_out: float
    gap: float
    error: float

    @property
    def is_significant(self) -> bool:
        """Whether the loss on training data is lower by more than 5 standard errors: the network has memorised some."""
        return self.gap > 5 * self.error


def loss_gap(train: Tensor, held_out: Tensor, volume: int) -> Gap:
    """`Gap` of the losses of paired configurations, tensors (n,), which share noise and noise level."""
    train, held_out = (losses.double() / volume for losses in (train, held_out))
    difference = held_out - train
    error = float(difference.std()) / math.sqrt(len(difference)) if len(difference) > 1 else math.inf
    return Gap(float(train.mean()), float(held_out.mean()), float(difference.mean()), error)
