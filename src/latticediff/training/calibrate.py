"""From a trained network to a model: measure the score power that the reverse SDE's covariances need."""

import math

import numpy as np
import torch

from ..diffusion.reverse import score_power
from ..fourier import momenta_from_basis
from ..score.model import ScoreModel
from ..score.propagator import symmetrise
from .threads import one_torch_thread

__all__ = ["finish_model"]

N_LEVELS = 65
SITES = 2**19  # field values per level; the noise of the table is far below one per cent


@torch.no_grad()
def finish_model(network, background, noise, data, card=None, seed=0):
    """Freeze a network into a `ScoreModel`, with ``(G + v) <|s_k|^2> / V`` measured on its training data.

    Parameters
    ----------
    network, background, noise
        See `Trainer`.
    data : TrainingData
    card : dict, optional
        Goes into the model's card.
    seed : int
    """
    low, high = noise.log_range
    grid = np.linspace(low, high, N_LEVELS)
    generator = torch.Generator().manual_seed(seed)
    n = min(len(data.train), max(64, SITES // background.volume))
    G = background.propagator_full.numpy()
    table = []
    network.eval()
    for log_sigma in grid:
        index = torch.randint(len(data.train), (n,), generator=generator)
        v = math.exp(2 * log_sigma)
        power = 0.0
        for part in index.split(1024):
            phi = data.train[part.to(data.train.device)]
            z = torch.randn(phi.shape, generator=generator).to(phi.device)
            with one_torch_thread(background.device):
                power = power + score_power(network, background, phi, z, v) * (len(part) / n)
        table.append(symmetrise(momenta_from_basis(power.cpu().numpy(), background.shape)) * (G + v))
    return ScoreModel(network, background, noise, grid, np.array(table), card or {})
