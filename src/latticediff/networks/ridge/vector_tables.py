"""A vector ridge network at fixed noise levels: the tables of its compiled flow, differentiable by the weights."""

from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..._kernels.vector_flow import VectorLevels
from ...gaussian.reference import GaussianReference

if TYPE_CHECKING:
    from .vector import VectorRidgeNetwork

__all__ = ["vector_tables"]


def vector_tables(
    network: "VectorRidgeNetwork", gaussian: GaussianReference, log_sigma: ArrayLike
) -> VectorLevels[Tensor]:
    """A network at fixed noise levels, as tables for the compiled flow through which gradients flow to its weights.

    Multipliers are alike for every component, so those of the first one stand for all.

    Parameters
    ----------
    network : latticediff.networks.ridge.vector.VectorRidgeNetwork
    gaussian : GaussianReference
        Of an O(N) theory, on the CPU, of the network's precision.
    log_sigma : ndarray, shape (n_levels,)

    Returns
    -------
    VectorLevels of tensors
        ``kernels_in (n, F, J T)`` and ``kernels_out (n, M T, F)`` without padding.
    """
    levels = torch.as_tensor(log_sigma).to(gaussian.dtype)
    v = gaussian.expand((2 * levels).exp())
    n = len(levels)
    gain_in, amplitudes, gain_out = network.coefficients(gaussian, levels)
    kernels_in, kernels_out = network.kernels(gain_in, gain_out)
    W, C = gaussian.posterior(v)
    inner, outer = network.filters(gaussian, v, W)
    scale = outer.flatten(2)[:, 0, 0]  # of the first output, which is flat
    D = network.screen(gaussian, C)
    if D is not None:
        outer = outer * D[:, None]
    amplitudes, response = network.order(gaussian, inner, v, W, C, kernels_in, amplitudes, D)
    kappa = network.kappa(gaussian, inner, outer, C, kernels_in, kernels_out)
    root = torch.sqrt(gaussian.G + v)
    linear = W * C * (gaussian.linear if response is None else response)
    weight = gaussian.at_origin(W * C if D is None else W * C * D)
    quartic = 4 * gaussian.action.internal[2]
    numbers = [
        torch.full_like(weight, quartic),
        gaussian.at_origin(C),
        weight,
        gaussian.at_origin(linear) * gaussian.volume,
    ]
    kernels_out = kernels_out * scale[:, None, None, None]
    return VectorLevels(
        kernels_in=kernels_in.reshape(n, network.features, -1),
        amplitudes=amplitudes,
        kernels_out=kernels_out.transpose(2, 3).reshape(n, -1, network.features),
        kappa=kappa,
        inner=(inner * root[:, None])[:, :, 0].flatten(2),
        outer=((outer / gaussian.expand(scale)[:, None]) * (C / root)[:, None])[:, :, 0].flatten(2),
        linear=linear[:, 0].flatten(1),
        numbers=torch.stack(numbers, 1),
    )
