"""A ridge network at fixed noise levels: what the tables of all its compiled flows begin with."""

from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ...gaussian.reference import GaussianReference

__all__ = ["AtLevels", "at_levels"]


class AtLevels(NamedTuple):
    """Multipliers and weights of a network at n noise levels, differentiable by its weights."""

    levels: Tensor  #: log sigma, (n,)
    kernels_in: Tensor
    amplitudes: Tensor
    kernels_out: Tensor
    kappa: Tensor
    inner: Tensor  #: filters of the inputs
    outer: Tensor  #: filters of the outputs, screened
    scale: Tensor  #: of the first output, flat but for the screen, (n,)
    C: Tensor  #: posterior covariance
    root: Tensor  #: ``(G + v)^(1/2)``
    linear: Tensor  #: of the slope, without the features
    weight: Tensor  #: of the trace, (n,)


def at_levels(network: Any, gaussian: GaussianReference, log_sigma: ArrayLike) -> AtLevels:
    """Evaluate a network at noise levels.

    Parameters
    ----------
    network : latticediff.networks.ridge.base.Ridge
        One of its kinds, which has `order`, too.
    gaussian : GaussianReference
        On the CPU, of the network's precision.
    log_sigma : ndarray, shape (n_levels,)

    Returns
    -------
    AtLevels
    """
    levels = torch.as_tensor(log_sigma).to(gaussian.dtype)
    v = gaussian.expand((2 * levels).exp())
    gain_in, amplitudes, gain_out = network.coefficients(gaussian, levels)
    kernels_in, kernels_out = network.kernels(gain_in, gain_out)
    W, C = gaussian.posterior(v)
    inner, outer = network.filters(gaussian, v, W)
    scale = outer.flatten(2)[:, 0, 0]
    D = network.screen(gaussian, C)
    if D is not None:
        outer = outer * D[:, None]
    amplitudes, response = network.order(gaussian, inner, v, W, C, kernels_in, amplitudes, D)
    return AtLevels(
        levels=levels,
        kernels_in=kernels_in,
        amplitudes=amplitudes,
        kernels_out=kernels_out,
        kappa=network.kappa(gaussian, inner, outer, C, kernels_in, kernels_out),
        inner=inner,
        outer=outer,
        scale=scale,
        C=C,
        root=torch.sqrt(gaussian.G + v),
        linear=W * C * (gaussian.linear if response is None else response),
        weight=gaussian.at_origin(W * C if D is None else W * C * D),
    )
