"""Lattice models as score callables."""

import torch

from .checks import check_samples, noise_levels

__all__ = ["ModelScore", "free_score"]


class ModelScore:
    r"""``s = -(G + v)^-1 (x - mean) - W R`` of a residual network on a background (theory page, eq. 5).

    Parameters
    ----------
    network : callable
        ``network(background, x, log_sigma, trace) -> (R, tr(C dR/dx))``.
    background : latticediff.score.background.Background
    """

    def __init__(self, network, background):
        self.network, self.background = network, background

    def _parts(self, x, sigma, trace):
        background = self.background
        sigma = noise_levels(sigma, check_samples("x", x))
        v = background.expand(sigma**2)
        R, divergence = self.network(background, x, sigma.log(), trace)
        return background, v, R, divergence

    def __call__(self, x, sigma):
        """The score, shape of x."""
        background, v, R, _ = self._parts(x, sigma, False)
        _, fluctuation = background.fluctuation(x)
        modes = background.to_modes(fluctuation) + background.G * background.to_modes(R)
        return -background.from_modes(modes / (background.G + v))

    def trace(self, x, sigma):
        """``tr ds/dx = -sum_k 1/(G + v) - tr(C dR/dx) / v``, shape (n,), for networks with a closed form."""
        background, v, _, divergence = self._parts(x, sigma, True)
        return -(1 / (background.G + v)).flatten(1).sum(1) - divergence / v.flatten()


def free_score(background):
    """The exact score ``-(G + v)^-1 x`` of a Gaussian theory with the background's propagator."""

    def residual(background, x, log_sigma, trace):
        return torch.zeros_like(x), torch.zeros(len(x), dtype=x.dtype, device=x.device) if trace else None

    return ModelScore(residual, background)
