"""Lattice models as score callables."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...gaussian.reference import GaussianReference
from .checks import check_samples, noise_levels

__all__ = ["ModelScore", "free_score"]


class ModelScore:
    r"""``s = -(G + v)^-1 (x - mean) - W R`` of a residual network on a Gaussian reference (theory page, eq. 5).

    Parameters
    ----------
    network : callable
        ``network(gaussian, x, log_sigma, trace) -> (R, tr(C dR/dx))``.
    gaussian : latticediff.gaussian.reference.GaussianReference
    """

    def __init__(
        self,
        network: Callable[[GaussianReference, Tensor, Tensor, bool], tuple[Tensor, Tensor | None]],
        gaussian: GaussianReference,
    ) -> None:
        self.network, self.gaussian = network, gaussian

    def _parts(
        self, x: Tensor, sigma: float | Tensor, trace: bool
    ) -> tuple[GaussianReference, Tensor, Tensor, Tensor | None]:
        gaussian = self.gaussian
        sigma = noise_levels(sigma, check_samples("x", x))
        v = gaussian.expand(sigma**2)
        R, divergence = self.network(gaussian, x, sigma.log(), trace)
        return gaussian, v, R, divergence

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The score of fields x (n, *lattice) at sigma, a number or (n,); shape and dtype of x."""
        gaussian, v, R, _ = self._parts(x, sigma, False)
        _, fluctuation = gaussian.fluctuation(x)
        modes = gaussian.to_modes(fluctuation) + gaussian.G * gaussian.to_modes(R)
        return -gaussian.from_modes(modes / (gaussian.G + v))

    def trace(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``tr ds/dx = -sum_k 1/(G + v) - tr(C dR/dx) / v``, shape (n,), for networks with a closed form."""
        gaussian, v, _, divergence = self._parts(x, sigma, True)
        assert divergence is not None  # asked for; a network without a closed form is refused where it is chosen
        return -(1 / (gaussian.G + v)).flatten(1).sum(1) - divergence / v.flatten()


def free_score(gaussian: GaussianReference) -> ModelScore:
    """The exact score ``-(G + v)^-1 x`` of a Gaussian theory with the reference's propagator."""

    def residual(
        gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool
    ) -> tuple[Tensor, Tensor | None]:
        return torch.zeros_like(x), torch.zeros(len(x), dtype=x.dtype, device=x.device) if trace else None

    return ModelScore(residual, gaussian)
