"""A vector ridge network at fixed noise levels: the tables of its compiled flow, differentiable by the weights."""

from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..._kernels.vector_flow import VectorLevels
from ...gaussian.reference import GaussianReference
from .at_levels import at_levels

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
    at = at_levels(network, gaussian, log_sigma)
    n, scale = len(at.levels), at.scale
    quartic = 4 * gaussian.action.internal[2]
    numbers = [
        torch.full_like(at.weight, quartic),
        gaussian.at_origin(at.C),
        at.weight,
        gaussian.at_origin(at.linear) * gaussian.volume,
    ]
    kernels_out = at.kernels_out * scale[:, None, None, None]
    return VectorLevels(
        kernels_in=at.kernels_in.reshape(n, network.features, -1),
        amplitudes=at.amplitudes,
        kernels_out=kernels_out.transpose(2, 3).reshape(n, -1, network.features),
        kappa=at.kappa,
        inner=(at.inner * at.root[:, None])[:, :, 0].flatten(2),
        outer=((at.outer / gaussian.expand(scale)[:, None]) * (at.C / at.root)[:, None])[:, :, 0].flatten(2),
        linear=at.linear[:, 0].flatten(1),
        numbers=torch.stack(numbers, 1),
    )
