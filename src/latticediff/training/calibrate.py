"""From a trained network to a model: measure the score power that the reverse SDE's covariances need."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion.compiled import CompiledModes
from ..diffusion.ladder import NoiseRange
from ..diffusion.reverse import score_power
from ..diffusion.threads import one_torch_thread
from ..fourier import momenta_from_basis
from ..gaussian.propagator import alike, symmetrise
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..model.couplings import Member
from ..model.score_model import ScoreModel
from ..networks.contract import Compiled
from ..types import FloatArray
from .data import TrainingData
from .tasks import Task

__all__ = ["finish_model", "measured_power"]

N_LEVELS = 65
SITES = 2**19  # field values per level; the noise of the table is far below one per cent


@torch_defaults()
def finish_model(
    network: nn.Module,
    gaussian: GaussianReference,
    noise: NoiseRange,
    data: TrainingData,
    card: dict[str, Any] | None = None,
    seed: int = 0,
    further: Iterable[Task] = (),
) -> ScoreModel:
    """Freeze a network into a `ScoreModel`, with ``(G + v) <|s_k|^2> / V`` measured on its training data.

    Parameters
    ----------
    network, noise
        See `Trainer`.
    gaussian, data
        Of the model's own theory.
    card : dict, optional
        Goes into the model's card.
    seed : int
    further : sequence of Task
        Other theories and lattices that it was trained on; external fields beside the model's own leave nothing behind.

    Returns
    -------
    ScoreModel
        With the network itself, which is frozen: evaluation mode, no gradients.
    """
    low, high = noise.log_range
    grid = np.linspace(low, high, N_LEVELS)
    network.eval()
    members = tuple(
        Member(
            task.gaussian.action,
            task.gaussian.propagator_full.numpy(),
            measured_power(network, task.gaussian, task.data, grid, seed),
        )
        for task in further
        if not task.gaussian.has_disorder
    )
    power = measured_power(network, gaussian, data, grid, seed)
    return ScoreModel(network, gaussian, noise, grid, power, card or {}, members)


@torch.no_grad()
def measured_power(
    network: nn.Module, gaussian: GaussianReference, data: TrainingData, grid: FloatArray, seed: int = 0
) -> FloatArray:
    """``(G + v) <|s_k|^2> / V`` on the momentum grid at every log sigma of `grid`, (n_levels, *lattice), float64.

    Measured on training configurations with noise from `seed`; see `latticediff.diffusion.reverse.score_power`. On the
    CPU a network is compiled if it can be: 65 levels of half a million sites are much of what follows a training.
    """
    generator = torch.Generator().manual_seed(seed)
    n = min(len(data.train), max(64, SITES // gaussian.volume))
    G, form = gaussian.propagator_full.numpy(), gaussian.action.quadratic_form(gaussian.shape)
    power = _compiled_power if isinstance(network, Compiled) and gaussian.device.type == "cpu" else _plain_power
    at_level, table = power(network, gaussian, grid), []
    for i, log_sigma in enumerate(grid):
        index = torch.randint(len(data.train), (n,), generator=generator)
        total: Any = 0.0
        with one_torch_thread(gaussian.device):  # also for what is small: threads that wait cost more than they gain
            for part in index.split(1024):
                phi = data.train[part.to(data.train.device)]
                z = torch.randn(phi.shape, generator=generator).to(phi.device)
                total = total + at_level(phi, z, i) * (len(part) / n)
        on_grid = momenta_from_basis(total, gaussian.shape, gaussian.is_oblique)
        found = symmetrise(on_grid * (G + math.exp(2 * log_sigma)), gaussian.unit_vectors, form)
        table.append(found if gaussian.components is None else alike(found.mean(axis=0), gaussian.shape))
    return np.array(table)


Power = Callable[[Tensor, Tensor, int], FloatArray]  #: of fields, noise and level: (*lattice) on the basis


def _plain_power(network: Any, gaussian: GaussianReference, grid: FloatArray) -> Power:
    def power(phi: Tensor, z: Tensor, i: int) -> FloatArray:
        return score_power(network, gaussian, phi, z, math.exp(2 * grid[i])).cpu().numpy()

    return power


def _compiled_power(network: Any, gaussian: GaussianReference, grid: FloatArray) -> Power:
    modes = CompiledModes(network, gaussian, np.concatenate([[0.0], np.exp(2 * np.asarray(grid))]))

    def power(phi: Tensor, z: Tensor, i: int) -> FloatArray:
        x = phi.numpy().astype(np.float64) + math.exp(grid[i]) * z.numpy()
        return modes.power(modes.ridge.transform(x), i + 1).reshape(gaussian.shape)

    return power
