r"""Noise of the training gradient, measured; and the w0 of the mixed target that has the least.

Every w0 gives the same mean gradient, so the best one has the least
:math:`\sum_p \mathrm{Var}(g_p)` over the parameters p. All values see the same batches: their
differences are known much better than the variances themselves.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..diffusion.ladder import NoiseRange
from ..errors import UserError
from .data import TrainingData
from .objective import Objective, draw_batch

__all__ = ["W0_GRID", "GradientNoise", "fit_w0", "gradient_noise"]

W0_GRID = tuple(np.geomspace(0.01, 10, 10).tolist())


class GradientNoise(NamedTuple):
    """Variance of the gradient of one configuration, and its standard error over batches."""

    variance: float
    error: float


def gradient_noise(
    network: nn.Module,
    objective: Objective,
    data: TrainingData,
    noise: NoiseRange,
    batch: int = 32,
    n_batches: int = 32,
    seed: int = 0,
) -> GradientNoise:
    """Variance of the gradient of the mean loss per site, summed over the weights and multiplied by the batch size.

    Parameters
    ----------
    network : torch.nn.Module
    objective : Objective
    data : TrainingData
    noise : NoiseRange
    batch, n_batches : int
    seed : int
        Batches follow from it alone, so that objectives are compared on the same ones.

    Returns
    -------
    GradientNoise
        In units of the loss per site squared.

    Raises
    ------
    UserError
        Fewer than two batches.
    """
    if n_batches < 2:
        raise UserError(f"n_batches is {n_batches}; a variance needs at least 2")
    parameters = [p for p in network.parameters() if p.requires_grad]
    batch, rows = min(batch, len(data.train)), []
    for number in range(n_batches):
        drawn = draw_batch(data, batch, noise, objective.plan, [seed, number, 3])
        loss = objective(network, drawn).mean() / objective.gaussian.volume
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        rows.append(torch.cat([g.flatten().double() for g in gradients if g is not None]))
    squares = (torch.stack(rows) - torch.stack(rows).mean(0)).square().sum(1) * batch
    factor = n_batches / (n_batches - 1)
    return GradientNoise(float(squares.mean()) * factor, float(squares.std()) * factor / n_batches**0.5)


def fit_w0(
    network: nn.Module,
    objective: Objective,
    data: TrainingData,
    noise: NoiseRange,
    grid: Iterable[float] = W0_GRID,
    seed: int = 0,
    **options: Any,
) -> tuple[float, dict[float, GradientNoise]]:
    """The w0 of the mixed target with the least gradient noise.

    Parameters
    ----------
    network, objective, data, noise, options
        See `gradient_noise`; the objective's target is replaced.
    grid : sequence of float
        Values to try.

    Returns
    -------
    w0 : float
    measured : dict of float to GradientNoise
    """
    measured = {}
    for w0 in grid:
        objective.set_w0(w0)
        measured[w0] = gradient_noise(network, objective, data, noise, seed=seed, **options)
    best = min(measured, key=lambda w0: measured[w0].variance)
    objective.set_w0(best)
    return best, measured
