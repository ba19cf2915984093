r"""The exact score of a noised data set: a kernel density estimate, or any mixture of equal Gaussians.

.. math::
    p_\sigma(x) = \sum_i w_i\, N(x; x_i, v), \qquad v = \sigma^2 + \omega^2, \qquad
    \nabla\log p_\sigma(x) = \frac{\langle x_i \rangle_x - x}{v},

with the posterior mean :math:`\langle x_i \rangle_x` over the data, weighted by
:math:`w_i \exp(-|x - x_i|^2 / 2v)`. It is what denoising on finite data learns when a network can learn
anything: followed to sigma = 0 it returns the training data (memorisation). Vincent 2011, eq. (7).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...arrays import real_array
from ...errors import UserError
from .checks import check_samples, noise_levels, per_field

__all__ = ["EmpiricalScore"]


class Rows(Protocol):
    """Configurations by number, in memory or not: an array, a tensor, an HDF5 dataset, rows that are streamed."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, *lattice)."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, index: slice, /) -> Any:
        """Consecutive rows, (n, *lattice)."""


class EmpiricalScore:
    """Score callable of a data set under Gaussian noise; float64, streaming over the data.

    Parameters
    ----------
    data : array, tensor or HDF5 dataset, shape (N, *lattice)
        Read in blocks of `block` rows at each evaluation, so it may be larger than memory.
    weights : array_like, shape (N,), optional
        Non-negative; default equal.
    width : float
        omega, the standard deviation of every point before noise; 0 is the empirical distribution.
    block : int

    Raises
    ------
    UserError
        Empty or non-finite data, weights that do not fit, sigma = width = 0.
    """

    def __init__(self, data: Rows, weights: ArrayLike | None = None, width: float = 0.0, block: int = 4096) -> None:
        if len(data) == 0 or len(data.shape) < 2:
            raise UserError(f"data has shape {tuple(data.shape)}; expected (N, *lattice) with N of at least 1")
        weights = np.ones(len(data)) if weights is None else real_array(weights, "weights")
        if weights.shape != (len(data),) or not (weights >= 0).all() or not 0 < weights.sum() < math.inf:
            raise UserError(f"weights have shape {weights.shape}; expected ({len(data)},), none negative, not all zero")
        if not 0 <= width < math.inf:
            raise UserError(f"width is {width}; expected a number of at least 0")
        self.data, self.width, self.block = data, float(width), int(block)
        with np.errstate(divide="ignore"):  # a weight of zero is a point that is not there
            self.log_weights = torch.as_tensor(np.log(weights / weights.sum()))

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.data), self.block):
            rows = torch.as_tensor(self.data[start : start + self.block], dtype=torch.float64)
            yield check_samples("data", rows), self.log_weights[start : start + self.block]

    def moments(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-density, posterior mean and posterior mean of ``|x_i - x|^2``, by a running logsumexp; float64.

        Parameters
        ----------
        x : tensor, shape (n, *lattice)
        sigma : float or tensor, shape (n,)

        Returns
        -------
        log_p : tensor, shape (n,)
        mean : tensor, shape (n, *lattice)
        square : tensor, shape (n,)

        Raises
        ------
        UserError
            Fields that do not fit the data, or sigma = 0 on points without width.
        """
        x = check_samples("x", x).double()
        v = noise_levels(sigma, x) ** 2 + self.width**2
        if not bool((v > 0).all()):
            raise UserError("sigma = 0 on points without width: their density has no score; take sigma > 0")
        flat = x.flatten(1)
        top = torch.full_like(v, -math.inf)
        total, square, mean = torch.zeros_like(v), torch.zeros_like(v), torch.zeros_like(flat)
        for rows, log_w in self._blocks():
            rows = rows.flatten(1)
            if rows.shape[1] != flat.shape[1]:
                raise UserError(f"x has shape {tuple(x.shape)}; expected (n, *{tuple(self.data.shape[1:])})")
            distance = torch.cdist(flat, rows, compute_mode="donot_use_mm_for_euclid_dist") ** 2
            exponent = log_w - distance / (2 * v[:, None])
            new_top = torch.maximum(top, exponent.max(1).values)
            # no point of positive weight so far: leave the sums at zero, not at exp(-inf + inf)
            anchor = torch.where(new_top.isinf(), torch.zeros_like(new_top), new_top)
            share, old = torch.exp(exponent - anchor[:, None]), torch.exp(top - anchor)
            total = old * total + share.sum(1)
            mean = old[:, None] * mean + share @ rows
            square = old * square + (share * distance).sum(1)
            top = new_top
        log_p = top + total.log() - 0.5 * flat.shape[1] * torch.log(2 * math.pi * v)
        return log_p, (mean / total[:, None]).reshape(x.shape), square / total

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``grad log p_sigma(x)``, shape of x, float64."""
        _, mean, _ = self.moments(x, sigma)
        v = noise_levels(sigma, mean) ** 2 + self.width**2
        return (mean - x) / per_field(v, mean)

    def trace(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``tr ds/dx = (var / v - V) / v`` with the posterior variance over the data, shape (n,)."""
        _, mean, square = self.moments(x, sigma)
        v = noise_levels(sigma, mean) ** 2 + self.width**2
        variance = square - (mean - x).square().flatten(1).sum(1)
        return (variance / v - x[0].numel()) / v

    def log_density(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``log p_sigma(x)``, shape (n,), float64."""
        return self.moments(x, sigma)[0]
