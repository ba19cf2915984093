r"""Samplers without density: Euler-Maruyama for the reverse SDE, Runge-Kutta for the probability-flow ODE.

They work in the coordinates of any `latticediff.diffusion.process`. With
:math:`dx = x\, d\log\alpha + \sqrt{\beta}\, dW` forwards, and :math:`\int \beta\, dt = \int \alpha^2 d\varsigma^2` in
terms of the level, the reverse SDE and the flow are [Song et al. 2011.13456, eqs. (6) and (13)]

.. math:: dx = (x\, d\log\alpha - \beta\, s\, dt) + \sqrt\beta\, d\bar W, \qquad
          \frac{dx}{d\log\varsigma} = x \frac{d\log\alpha}{d\log\varsigma} - \alpha^2 \varsigma^2 s .

Orders measured on a Gaussian theory (`tests/test_orders.py`): Euler-Maruyama weak 1 and strong 1; the exact-mean steps
of `latticediff.diffusion.reverse` have no weak error there, strong order 1; the flow has the order of its scheme.
"""

import itertools
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..networks.contract import Score
from .langevin import checked_levels
from .process import NoiseProcess, VarianceExploding
from .runge_kutta import integrate, scheme

__all__ = ["euler_maruyama", "probability_flow"]


@torch.no_grad()
def euler_maruyama(
    score: Score, x: Tensor, levels: Iterable[float], rng: np.random.Generator, process: NoiseProcess | None = None
) -> Tensor:
    """The reverse SDE by the Euler-Maruyama method.

    Parameters
    ----------
    score : callable
        ``score(x, sigma)`` of the variance-exploding process, sigma of shape (n,).
    x : tensor, shape (n, *lattice)
        Start at ``levels[0]``, in the coordinates of `process`.
    levels : sequence of float
        Ratios sigma / alpha, descending.
    rng : numpy.random.Generator
    process : latticediff.diffusion.process.NoiseProcess, optional
        Variance exploding by default.

    Returns
    -------
    tensor, shape (n, *lattice)
        At ``levels[-1]``, in the coordinates of `process`.

    Raises
    ------
    UserError
        Levels that do not descend.
    """
    process = process or VarianceExploding()
    for upper, lower in itertools.pairwise(checked_levels(levels)):
        s = process.score(lambda y, r: score(y, _full(r, y)), x, upper)
        drift, variance = process.rates(lower, upper)
        z = torch.as_tensor(rng.standard_normal(tuple(x.shape)), dtype=x.dtype, device=x.device)
        x = x + drift * x + variance * s + math.sqrt(variance) * z
    return x


@torch.no_grad()
def probability_flow(
    score: Score, x: Tensor, levels: Iterable[float], method: str = "rk4", process: NoiseProcess | None = None
) -> Tensor:
    """The probability-flow ODE, in log(sigma / alpha), without whitening and without density.

    Parameters
    ----------
    score, x, levels, process
        See `euler_maruyama`.
    method : str
        See `latticediff.diffusion.runge_kutta`.

    Returns
    -------
    tensor, shape (n, *lattice)
    """
    process = process or VarianceExploding()

    def slope(x: Tensor, log_ratio: float) -> tuple[Tensor, float]:
        ratio = math.exp(log_ratio)
        s = process.score(lambda y, r: score(y, _full(r, y)), x, ratio)
        return process.log_slope(ratio) * x - process.sigma(ratio) ** 2 * s, 0.0

    return integrate(slope, x, np.log(checked_levels(levels)), scheme(method))[0]


def _full(ratio: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), ratio, dtype=x.dtype, device=x.device)
