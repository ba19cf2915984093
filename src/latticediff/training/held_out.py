"""Losses of the averaged network under noise that is the same every time, so that they can be compared."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .objective import Batch, draw_probes

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["losses", "mean_loss"]


def mean_loss(trainer: "Trainer", n: int) -> float:
    """Loss per site on held-out data, the mean over tasks weighted by their shares.

    Parameters
    ----------
    trainer : Trainer
    n : int
        Held-out configurations of each task; all of them where there are fewer.
    """
    per_site = [
        float(trainer.losses(number, task.data.held_out[:n]).mean()) / task.gaussian.volume
        for number, task in enumerate(trainer.tasks)
    ]
    return float(np.dot(trainer.shares, per_site))


@torch.no_grad()
def losses(trainer: "Trainer", number: int, phi: Tensor) -> Tensor:
    """Losses of the averaged network on configurations of one task.

    Noise and noise levels depend on n alone, so that sets of the same size are compared under the same noise.

    Parameters
    ----------
    trainer : Trainer
    number : int
        Of the task.
    phi : tensor, shape (n, *lattice)

    Returns
    -------
    tensor, shape (n,)
        Summed over sites.
    """
    generator = torch.Generator().manual_seed(0)
    low, high = trainer.noise.log_range
    log_sigma = low + (high - low) * (torch.arange(len(phi)) + 0.5) / len(phi)
    # noise levels must not line up with the order of the configurations
    log_sigma = log_sigma[torch.randperm(len(phi), generator=generator)].to(phi.device)
    z = torch.randn(phi.shape, generator=generator).to(phi.device)
    probes = draw_probes(trainer.plan, phi.shape, generator)
    batch = Batch(phi, z, log_sigma, None if probes is None else probes.to(phi))
    piece = trainer.gradient.micro_batch or len(phi)
    parts = [
        trainer.objectives[number](trainer.averaged(), batch.rows(start, start + piece))
        for start in range(0, len(phi), piece)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)
