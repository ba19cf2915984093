r"""Objectives that follow the probability flow from end to end: likelihood instead of score matching.

With ``log_weight(phi) = -S(phi) - log q(phi)``, p the ensemble and q the model:

``kl``
    forward :math:`\langle -\log q \rangle_p` (maximum likelihood), reverse :math:`\langle S + \log q \rangle_q`,
    differentiated through the Runge-Kutta steps. Their gradients are noisy even at the optimum.

``log_variance``
    :math:`\tfrac12 \mathrm{Var}_r[\log w]` over configurations that are held fixed, r = p or q. For r = q its
    gradient is that of the reverse divergence (Richter et al., 2010.10436). It vanishes, noise and all,
    where log w is constant.

``path``
    gradients of the same divergences without the part that is zero on average. Let :math:`\phi = T_\theta(y)`
    be the map of the flow and :math:`g = \nabla_\phi \log w`; then

    .. math:: \partial_\theta\, KL(q|p) = -\langle g \cdot \partial_\theta T \rangle_q, \qquad
              \partial_\theta\, KL(p|q) = -\langle g \cdot \partial_\theta T \rangle_p, \qquad
              \partial_\theta T \equiv \partial_\theta T_\theta(y) \,\big|_{y = T^{-1}(\phi)} .

    The first: Roeder et al., 1703.09194; for continuous flows Vaitl et al., 2206.09016. The second is the first
    in the space of the noise, where the pulled-back ensemble is the model (Vaitl et al., 2207.08219). One
    integrand serves both. It too vanishes where log w is constant, and its noise is that of V local
    errors, not of one number for all sites.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..action import Action, Phi4
from ..diffusion.ladder import NoiseRange
from ..gaussian.reference import GaussianReference
from ..types import FloatArray

if TYPE_CHECKING:
    from ..diffusion.differentiable import DifferentiableFlow
    from ..diffusion.flow import ProbabilityFlow

    Flow = ProbabilityFlow | DifferentiableFlow

__all__ = ["OBJECTIVES", "action_of", "jittered_grid"]

STRETCH = 0.2  # largest exponent of the grid's stretching


def action_of(gaussian: GaussianReference, phi: Tensor) -> Tensor:
    """S of fields (n, *lattice) as a differentiable tensor (n,), float64; `action(phi)` for torch."""
    action, phi = gaussian.action, phi.double()
    if not isinstance(action, Phi4):
        return _Energy.apply(action, phi)
    links: Any = sum(phi * torch.roll(phi, -1, axis) for axis in range(1, phi.ndim))
    square = phi * phi
    density = action.a * square + action.b * square * square - action.hopping * links
    return density.flatten(1).sum(1)


def jittered_grid(noise: NoiseRange, steps: int, generator: torch.Generator) -> FloatArray:
    """A grid of `steps` steps between the ends of `noise.grid`, inner nodes shifted and stretched at random.

    The error of a fixed grid is a function of the weights that an optimiser can make favourable; here the grid of
    each step is another one.

    Parameters
    ----------
    noise : NoiseRange
    steps : int
    generator : torch.Generator

    Returns
    -------
    ndarray, shape (steps + 1,), float64
        log sigma, descending.
    """
    shift, stretch = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    position = (torch.arange(steps + 1, dtype=torch.float64) + (shift - 0.5)) / steps
    position[0], position[-1] = 0.0, 1.0
    position = position ** math.exp(STRETCH * (2 * stretch - 1))
    low, high = noise.log_range
    return (high + (low - high) * position).numpy()


class _Energy(torch.autograd.Function):
    """S of any action with its force as the derivative, both in NumPy."""

    @staticmethod
    def forward(ctx: Any, action: Action, phi: Tensor) -> Tensor:
        fields = phi.detach().cpu().numpy()
        ctx.force = lambda: phi.new_tensor(action.force(fields))
        return phi.new_tensor(np.asarray(action(fields)))

    @staticmethod
    def backward(ctx: Any, d_energy: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        force = ctx.force()
        return None, -force * d_energy.reshape(-1, *[1] * (force.ndim - 1))


class KL:
    """Kullback-Leibler divergences, except for the unknown constant log Z."""

    @staticmethod
    def forward(flow: Flow, phi: Tensor) -> tuple[Tensor, Tensor]:
        _, log_q = flow.up(phi, gradients=True)
        return -log_q.mean(), -action_of(flow.gaussian, phi) - log_q.detach()

    @staticmethod
    def reverse(flow: Flow, y: Tensor) -> tuple[Tensor, Tensor]:
        phi, log_q = flow.down(y, gradients=True)
        minus_log_weight = action_of(flow.gaussian, phi) + log_q
        return minus_log_weight.mean(), -minus_log_weight.detach()


class LogVariance:
    """Half the variance of log_weight, configurations held fixed."""

    @staticmethod
    def forward(flow: Flow, phi: Tensor) -> tuple[Tensor, Tensor]:
        _, log_q = flow.up(phi, gradients=True)
        log_weight = -action_of(flow.gaussian, phi) - log_q
        return 0.5 * log_weight.var(), log_weight.detach()

    @classmethod
    def reverse(cls, flow: Flow, y: Tensor) -> tuple[Tensor, Tensor]:
        return cls.forward(flow, flow.down(y)[0])


class Path:
    """Functions whose gradients are path gradients; only the gradients count, the values mean nothing."""

    @classmethod
    def forward(cls, flow: Flow, phi: Tensor) -> tuple[Tensor, Tensor]:
        y, force, log_weight = cls._pull(flow, phi)
        return cls._push(flow.field(y), force), log_weight

    @classmethod
    def reverse(cls, flow: Flow, y: Tensor) -> tuple[Tensor, Tensor]:
        phi = flow.field(y)
        _, force, log_weight = cls._pull(flow, phi.detach())
        return cls._push(phi, force), log_weight

    @staticmethod
    def _pull(flow: Flow, phi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The noise that leads to a field, ``g = grad log_weight`` there, and its log_weight."""
        phi = phi.detach().requires_grad_()
        y, log_q = flow.up(phi, gradients=True, weights=False)
        log_weight = -action_of(flow.gaussian, phi) - log_q
        (force,) = torch.autograd.grad(log_weight.sum(), phi)
        return y.detach(), force, log_weight.detach()

    @staticmethod
    def _push(phi: Tensor, force: Tensor) -> Tensor:
        return -(force * phi).flatten(1).sum(1, dtype=torch.float64).mean()


#: Objectives by name: ``forward(flow, phi)`` on configurations of the ensemble and ``reverse(flow, y)`` on noise, each
#: giving a scalar to differentiate and the log-weights (n,) it saw.
OBJECTIVES = {"path": Path, "kl": KL, "log_variance": LogVariance}
