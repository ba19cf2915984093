r"""Annealed Langevin dynamics and predictor-corrector sampling with a learned score.

They show what a score knows, but have no density: nothing here is a proposal, and the samples keep the
bias of the score and of the finite steps. Exact averages need `flow` or `reverse`.
"""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..networks.contract import Score

__all__ = ["annealed_langevin", "checked_levels", "predictor_corrector"]


def checked_levels(sigmas: Iterable[float]) -> list[float]:
    """Noise levels as a list of floats.

    Raises
    ------
    UserError
        None at all, one that is not positive and finite, or levels that do not descend.
    """
    sigmas = [float(s) for s in sigmas]
    if not sigmas or not all(0 < s < math.inf for s in sigmas):
        raise UserError(
            "sigmas must be positive, finite and at least one; take NoiseRange(...).grid and its exponential"
        )
    if any(b >= a for a, b in itertools.pairwise(sigmas)):
        raise UserError("sigmas must descend, from noise to field")
    return sigmas


def _normal(rng: np.random.Generator, x: Tensor) -> Tensor:
    return torch.as_tensor(rng.standard_normal(tuple(x.shape)), dtype=x.dtype, device=x.device)


def _level(sigma: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)


@torch.no_grad()
def annealed_langevin(
    score: Score, x: Tensor, sigmas: Iterable[float], rng: np.random.Generator, n_steps: int = 100, step: float = 0.1
) -> Tensor:
    r"""Langevin dynamics on the noised densities, one after the other.

    .. math:: x \leftarrow x + \tfrac{\alpha_i}{2}\, s(x, \sigma_i) + \sqrt{\alpha_i}\, z, \qquad
              \alpha_i = \epsilon\, \sigma_i^2,

    NCSN's rule of step sizes: the ratio of signal to noise is the same at every level [Song, Ermon
    1907.05600, algorithm 1, whose epsilon is ours times the lowest sigma squared].

    Parameters
    ----------
    score : callable
        ``score(x, sigma)``, sigma of shape (n,).
    x : tensor, shape (n, *lattice)
        Start, usually ``sigmas[0]`` times standard normal noise.
    sigmas : sequence of float
        Noise levels, descending.
    rng : numpy.random.Generator
    n_steps : int
        Per level.
    step : float
        epsilon, dimensionless, below 4 for stability; the stationary variance of a level is off by
        a relative ``step / 4`` where it is sigma^2.

    Returns
    -------
    tensor, shape (n, *lattice)

    Raises
    ------
    UserError
        Levels that do not descend, or a step outside (0, 4).
    """
    if not 0 < step < 4 or n_steps < 1:
        raise UserError(f"step = {step}, n_steps = {n_steps}; expected 0 < step < 4 and at least 1")
    for sigma in checked_levels(sigmas):
        alpha = step * sigma**2
        for _ in range(n_steps):
            x = x + 0.5 * alpha * score(x, _level(sigma, x)) + math.sqrt(alpha) * _normal(rng, x)
    return x


@torch.no_grad()
def predictor_corrector(
    score: Score,
    x: Tensor,
    sigmas: Iterable[float],
    rng: np.random.Generator,
    n_corrector: int = 1,
    ratio: float = 0.16,
) -> Tensor:
    r"""Reverse-SDE steps, each followed by Langevin steps at the level reached.

    Predictor, with :math:`\Delta = \sigma_i^2 - \sigma_{i+1}^2`: mean :math:`x + \Delta s(x, \sigma_i)`, variance
    :math:`\Delta\, \sigma_{i+1}^2 / \sigma_i^2`. Corrector: Langevin step
    :math:`\alpha = 4 (\rho\, |z| / |s|)^2`, so that noise and drift keep the ratio rho [Song et al.
    2011.13456, algorithms 2 and 4; their epsilon is alpha / 2]. Norms are averages over the batch.

    Parameters
    ----------
    score, x, sigmas, rng
        As `annealed_langevin`.
    n_corrector : int
        Langevin steps per level; 0 is ancestral sampling.
    ratio : float
        rho, positive.

    Returns
    -------
    tensor, shape (n, *lattice)

    Raises
    ------
    UserError
        Levels that do not descend, a negative number of steps, or a ratio that is not positive.
    """
    sigmas = checked_levels(sigmas)
    if n_corrector < 0 or not ratio > 0:
        raise UserError(f"n_corrector = {n_corrector}, ratio = {ratio}; expected at least 0 and a positive number")
    for sigma, lower in itertools.pairwise(sigmas):
        delta = sigma**2 - lower**2
        x = x + delta * score(x, _level(sigma, x)) + math.sqrt(delta) * lower / sigma * _normal(rng, x)
        for _ in range(n_corrector):
            z, s = _normal(rng, x), score(x, _level(lower, x))
            alpha = 4 * (ratio * _norm(z) / _norm(s)) ** 2
            x = x + 0.5 * alpha * s + math.sqrt(alpha) * z
    return x


def _norm(fields: Tensor) -> float:
    return float(np.mean(fields.flatten(1).norm(dim=1).double().cpu().numpy()))
