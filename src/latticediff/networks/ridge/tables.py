"""A ridge network at fixed noise levels: the tables that the compiled flow works on, differentiable by the weights."""

import math
from typing import TYPE_CHECKING

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..._kernels.flow import Levels
from ...gaussian.baseline import local_response, site_response
from ...gaussian.local_response import local_spline
from ...gaussian.reference import GaussianReference
from .at_levels import at_levels

if TYPE_CHECKING:
    from .network import RidgeNetwork

__all__ = ["level_tables"]


def level_tables(network: "RidgeNetwork", gaussian: GaussianReference, log_sigma: ArrayLike) -> Levels[Tensor]:
    """A network at fixed noise levels, as tables for the compiled flow through which gradients flow to its weights.

    Parameters
    ----------
    network : latticediff.networks.ridge.network.RidgeNetwork
    gaussian : GaussianReference
        On the CPU, of the network's precision.
    log_sigma : ndarray, shape (n_levels,)

    Returns
    -------
    Levels of tensors
        ``kernels_in (n, F, J T)`` and ``kernels_out (n, M T, F)`` without padding.
    """
    at = at_levels(network, gaussian, log_sigma)
    n, scale, C, root = len(at.levels), at.scale, at.C, at.root[:, None]
    c, lift = local_response(gaussian, C)
    pieces, low, inverse_width = torch.zeros(n, 0, 4), 0.0, 0.0
    if not gaussian.is_cubic:
        spline = local_spline(gaussian, c.detach().flatten())
        pieces = torch.from_numpy(spline.coefficients)
        low, inverse_width = spline.low + gaussian.constant - gaussian.vacuum, spline.inverse_width
    raised, pull = torch.zeros(0), torch.zeros(n, 0)
    if gaussian.pull is not None:
        raised = 2 * gaussian.to_modes(torch.as_tensor(gaussian.centre(1.0))).flatten()
        pull = (C * gaussian.to_modes(gaussian.pull) / root[:, 0]).flatten(1)
    elif gaussian.constant:
        raised = torch.full((1,), 2 * gaussian.constant * math.sqrt(gaussian.volume), dtype=gaussian.dtype)
    answer, by_site = torch.zeros(n, 0), network.by_site(gaussian, at.levels)
    linear_trace = gaussian.at_origin(at.linear) * gaussian.volume
    if gaussian.mass is not None:
        answer = site_response(gaussian, C).flatten(1)  # type: ignore[union-attr]  # there is a mass
        linear_trace = linear_trace + at.weight * answer.sum(1)
    numbers = [
        scale,
        torch.full_like(scale, 4 * gaussian.quartic),
        c.flatten(),
        at.weight,
        linear_trace,
        lift.flatten(),
        c.flatten() - gaussian.vacuum**2,
        torch.full_like(scale, gaussian.tilt),
        torch.full_like(scale, low),
        torch.full_like(scale, inverse_width),
    ]
    return Levels(
        kernels_in=at.kernels_in.reshape(n, network.features, -1),
        amplitudes=at.amplitudes,
        kernels_out=at.kernels_out.transpose(2, 3).reshape(n, -1, network.features),
        kappa=at.kappa,
        inner=(at.inner * root).flatten(2),
        outer=((at.outer / gaussian.expand(scale)[:, None]) * C[:, None] / root).flatten(2),
        linear=at.linear.flatten(1),
        numbers=torch.stack(numbers, 1),
        pieces=pieces,
        raised=raised,
        pull=pull,
        answer=answer,
        by_site=torch.zeros(n, network.features, 2, 0) if by_site is None else by_site,
    )
