r"""What a training minimises, chosen by name.

All of them have the gradient of :math:`\sigma^2 \lambda\, F(p_\sigma \| q_\theta)` up to noise, in the
preconditioned form :math:`|C (T - R)|^2 / v` of `targets.matching` with a target T of conditional mean R:

===========  ========================================================================================
stein        least noise: control variates on both others (`targets.control_variates`)
mixed        ``w T_force + (1 - w) T_noise``, with a w0 that may be fitted (`gradient_noise`)
denoising    ``T_noise = z / sigma - G^-1 phi`` (Vincent 2011)
force        ``T_force = DF(phi)``, target score matching (De Bortoli et al. 2402.08667)
explicit     the residual of a known score: of a free field, or of the noised training data
implicit     :math:`2 v\,(\tfrac12 |s|^2 + \mathrm{tr}\,\partial s/\partial x)`, no target at all (Hyvarinen 2005)
===========  ========================================================================================

Likelihood weighting is lambda = 1 on levels uniform in log sigma; `uniform_log_sigma` divides by v.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..diffusion.ladder import NoiseRange
from ..errors import UserError
from ..gaussian.reference import GaussianReference
from ..networks.contract import Residual
from ..targets.control_variates import fit_blend
from ..targets.matching import Target, denoising_loss, mixed_target
from ..targets.objectives import (
    EmpiricalScore,
    ModelScore,
    closed_form,
    coloured_probes,
    draw_levels,
    full_jacobian,
    hutchinson,
    implicit,
    ladder_weights,
)
from .data import TrainingData

if TYPE_CHECKING:
    from .plan import TrainingPlan

__all__ = ["Batch", "Objective", "draw_batch", "draw_probes"]


class Batch(NamedTuple):
    """Everything random of one task in one step; rows belong together."""

    phi: torch.Tensor  # (n, *lattice)
    z: torch.Tensor  # (n, *lattice)
    log_sigma: torch.Tensor  # (n,)
    probes: torch.Tensor | None = None  # (n, *lattice), signs; see `draw_probes`

    def rows(self, start: int, stop: int) -> "Batch":
        """The configurations with numbers `start` to `stop`, and what belongs to them."""
        probes = None if self.probes is None else self.probes[start:stop]
        return Batch(self.phi[start:stop], self.z[start:stop], self.log_sigma[start:stop], probes)


def draw_batch(
    data: TrainingData,
    n: int,
    noise: NoiseRange,
    plan: "TrainingPlan",
    words: Sequence[int],
    start: int = 0,
    stop: int | None = None,
) -> Batch:
    """Batch of `n` configurations of `data`, or its rows `start` to `stop`: a function of the integers `words` alone.

    Parameters
    ----------
    data : TrainingData
    n : int
    noise : NoiseRange
    plan : TrainingPlan
        `levels` and `trace` count.
    words : sequence of int
        Seed, step, and whatever else tells this draw from others.
    """
    seed = int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(seed)
    low, high = noise.log_range
    phi = data.batch(n, generator, start, stop)
    if plan.levels == "stratified":
        # one in each of n equal intervals, shifted together; configurations come in random order anyway
        log_sigma = low + (high - low) * (torch.arange(n) + torch.rand(1, generator=generator)) / n
    else:
        log_sigma = draw_levels(noise, n, np.random.default_rng([*words, 2]), plan.levels).log().float()
    z = torch.randn(n, *data.shape, generator=generator)
    probes = draw_probes(plan, z.shape, generator)
    if probes is not None:
        probes = probes[start:stop].to(phi)
    return Batch(phi, z[start:stop].to(phi.device), log_sigma[start:stop].to(phi.device), probes)


def draw_probes(plan: "TrainingPlan", shape: torch.Size, generator: torch.Generator) -> Tensor | None:
    """Random signs for Hutchinson's trace, on the CPU; None where the objective of a plan has no use for any."""
    if plan.target != "implicit" or plan.trace != "hutchinson":
        return None
    return torch.randint(2, shape, generator=generator) * 2 - 1


class Objective:
    """The objective of a plan for one task.

    Parameters
    ----------
    plan : TrainingPlan
    gaussian : GaussianReference
    data : TrainingData
        Targets that are fitted or known only from data take its training part.
    noise : NoiseRange
    network : torch.nn.Module
        Asked whether it has the trace that the plan wants.

    Attributes
    ----------
    target : callable or None
        ``target(gaussian, phi, z, v)``, None for the implicit objective.

    Raises
    ------
    UserError
        A free score of an interacting theory, or a closed-form trace that the network lacks.
    """

    def __init__(
        self,
        plan: "TrainingPlan",
        gaussian: GaussianReference,
        data: TrainingData,
        noise: NoiseRange,
        network: nn.Module,
    ) -> None:
        self.plan, self.gaussian = plan, gaussian
        self.target: Target | None = None
        self.trace: Any = None  #: of `latticediff.targets.objectives.traces`, for the implicit objective
        if plan.target == "implicit":
            self.trace = _trace(plan, gaussian, network)
        elif plan.target == "stein":
            self.target = fit_blend(gaussian, data.train, noise, plan.seed)
        elif plan.target == "explicit":
            self.target = _known_residual(plan, gaussian, data)
        elif plan.target == "mixed":
            self.set_w0(0.2 if plan.w0 == "fit" else float(plan.w0))
        else:
            self.target = {"denoising": _noise_target, "force": _force_target}[plan.target]

    def set_w0(self, w0: float) -> None:
        """Make the mixed target with this w0 the target; see `targets.matching.mixed_target`."""
        self.target = functools.partial(mixed_target, w0=w0)

    def __call__(self, network: Residual, batch: Batch) -> Tensor:
        """The objective for every configuration of a batch, (n,), differentiable in the weights of `network`."""
        phi, z, log_sigma, probes = batch
        if self.target is not None:
            losses = denoising_loss(network, self.gaussian, phi, z, log_sigma, self.target)
        else:
            sigma = log_sigma.exp()
            trace = self.trace
            if self.plan.trace == "hutchinson":  # the others look at no probes, whatever the batch holds
                assert probes is not None  # `draw_batch` makes them for this plan
                trace = functools.partial(trace, probes=probes[None])
            losses = 2 * sigma**2 * implicit(ModelScore(network, self.gaussian), phi, z, sigma, trace=trace)
        if self.plan.weighting == "likelihood":
            return losses
        sigma = log_sigma.exp()  # the loss holds the factor sigma^2 of likelihood weighting already
        return losses * ladder_weights(sigma, self.plan.weighting) / sigma**2


def _noise_target(gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor) -> Tensor:
    _, fluctuation = gaussian.fluctuation(phi)
    return z / v.sqrt() - gaussian.filter(fluctuation, 1 / gaussian.G)


def _force_target(gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor) -> Tensor:
    return gaussian.delta_force(phi)


def _known_residual(plan: "TrainingPlan", gaussian: GaussianReference, data: TrainingData) -> Target:
    """R of a known score: ``R = -W^-1 (s + (G + v)^-1 x)``."""
    if plan.oracle == "free":
        if not (gaussian.is_cubic and gaussian.quartic == 0):
            raise UserError(
                f"the noised score of {gaussian.action!r} is not known; the explicit target takes free fields"
                ' (lam = 0), or oracle = "empirical"'
            )
        exact = gaussian.linear + 1 / gaussian.G  # 2a - 2c sum cos: the inverse of the true propagator

        def residual(gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor) -> Tensor:
            # s = -(G0 + v)^-1 x with 1/G0 = exact, hence R = x (exact - 1/G) / (1 + v exact)
            return gaussian.filter(phi + v.sqrt() * z, (exact - 1 / gaussian.G) / (1 + v * exact))

        return residual
    score = EmpiricalScore(data.train.cpu())

    @torch.no_grad()
    def noised_data(gaussian: GaussianReference, phi: Tensor, z: Tensor, v: Tensor) -> Tensor:
        x = phi + v.sqrt() * z
        s = score(x.cpu(), v.sqrt().flatten().double().cpu()).to(x)
        _, fluctuation = gaussian.fluctuation(x)
        modes = gaussian.to_modes(s) * (gaussian.G + v) + gaussian.to_modes(fluctuation)
        return -gaussian.from_modes(modes / gaussian.G)

    return noised_data


def _trace(plan: "TrainingPlan", gaussian: GaussianReference, network: nn.Module) -> Callable[..., Tensor]:
    if plan.trace == "full":
        return full_jacobian
    if plan.trace == "hutchinson":
        return hutchinson
    if plan.trace == "coloured":
        assert plan.trace_reach is not None  # `TrainingPlan` refuses to go without
        return functools.partial(coloured_probes, reach=plan.trace_reach)
    with torch.no_grad():
        zero = torch.zeros(1, *gaussian.shape, dtype=gaussian.dtype, device=gaussian.device)
        if network(gaussian, zero, zero.flatten()[:1], True)[1] is None:
            describe: Any = network.describe
            name = describe()["name"]
            raise UserError(f"the network {name} has no closed-form trace; take trace = full, coloured or hutchinson")
    return closed_form
