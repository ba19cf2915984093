r"""Noise levels of a training batch and their weights.

The loss over the ladder is :math:`\int \lambda(\sigma)\, L(\sigma)\, d\log\sigma`. Likelihood weighting,
:math:`\lambda\, d\log\sigma = \sigma^2 d\log\sigma = \tfrac12 d\sigma^2`, bounds the divergence
KL(p || q) of the reverse process [Song et al. 2101.09258, theorem 1]; the weight sigma^2 of NCSN
[Song, Ermon 1907.05600, eq. (6)] is the same thing when levels are uniform in log sigma, and only then.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...registry import nearest
from ...types import FloatArray

if TYPE_CHECKING:
    from ...diffusion.ladder import NoiseRange

__all__ = ["LEVELS", "WEIGHTINGS", "draw_levels", "ladder_weights"]

# of levels whose density in log sigma, relative to the uniform one, is r
WEIGHTINGS = {
    "likelihood": lambda sigma, r: sigma**2 / r,
    "sigma_squared": lambda sigma, r: sigma**2,
    "uniform_log_sigma": lambda sigma, r: 1 / r,
}


def _independent(n: int, rng: np.random.Generator) -> FloatArray:
    return rng.random(n)


def _antithetic(n: int, rng: np.random.Generator) -> FloatArray:
    half = rng.random((n + 1) // 2)
    return np.concatenate([half, 1 - half])[:n]


def _stratified(n: int, rng: np.random.Generator) -> FloatArray:
    return rng.permutation((np.arange(n) + rng.random(n)) / n)  # permuted: a configuration owns no stratum


LEVELS = {"independent": _independent, "antithetic": _antithetic, "stratified": _stratified}


def draw_levels(noise: "NoiseRange", n: int, rng: np.random.Generator, method: str = "stratified") -> Tensor:
    """Draw sigma for n configurations, uniform in log sigma.

    Parameters
    ----------
    noise : latticediff.diffusion.ladder.NoiseRange
    n : int
    rng : numpy.random.Generator
    method : str
        ``"independent"``; ``"antithetic"``, pairs u and 1 - u; ``"stratified"``, one in each n-th of the
        range. Each single level is uniform under all of them, so the loss is unbiased; the spread of its
        mean over the batch falls in this order.

    Returns
    -------
    tensor, shape (n,), float64

    Raises
    ------
    UserError
        Unknown method or n below 1.
    """
    if method not in LEVELS:
        raise UserError(f"levels are {method!r}{nearest(method, LEVELS)}; expected one of {', '.join(LEVELS)}")
    if n < 1:
        raise UserError(f"got a batch of {n}; expected at least 1")
    low, high = noise.log_range
    return torch.as_tensor(np.exp(low + (high - low) * LEVELS[method](n, rng)))


def ladder_weights(sigma: Tensor, weighting: str = "likelihood", density: float | Tensor = 1.0) -> Tensor:
    """The weight lambda of each level, (n,), by which an objective is to be multiplied.

    Parameters
    ----------
    sigma : tensor, shape (n,)
    weighting : str
        Key of `WEIGHTINGS`.
    density : float or tensor, shape (n,)
        Of the levels in log sigma relative to the uniform density; 1 for `draw_levels`.

    Raises
    ------
    UserError
        Unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise UserError(
            f"weighting is {weighting!r}{nearest(weighting, WEIGHTINGS)}; expected one of {', '.join(WEIGHTINGS)}"
        )
    return WEIGHTINGS[weighting](sigma, density) * torch.ones_like(sigma)
