r"""The error of a score model, noise level by noise level, with the noise of the target taken out.

A denoising loss is score error plus the variance of its target, which hides the former. With *two* fields
drawn from the posterior of one noised configuration, independent given x, two targets T, T' have the mean
R and no common noise, so

.. math::
    D(\sigma) = \Big\langle \frac{C\,(R_\theta - T) \cdot C\,(R_\theta - T')}{v} \Big\rangle
              = \Big\langle \frac{|C\,(R_\theta - R)|^2}{v} \Big\rangle = v\,\langle |s_\theta - s|^2 \rangle .

T and T' are means over stretches of a chain of Hybrid Monte Carlo for ``S(phi) + |x - phi|^2 / 2 v``, with masses
1/C(k), which move every mode alike. It starts at the field that was noised, an exact draw, so it needs no
warm-up. Few noised configurations and long chains serve best: noise falls like the inverse length. Whether
stretches have forgotten each other is seen by comparing neighbours with those further apart.

The integral of D over log sigma is the Kullback-Leibler divergence of the reverse SDE's paths (Song, Durkan,
Murray, Ermon, 2101.09258, theorem 1), and so a bound on that of its fields: where D is large, the model loses.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..action import Action
from ..arrays import real_array
from ..errors import UserError
from ..gaussian.reference import GaussianReference
from ..host import torch_defaults
from ..targets.control_variates import BlendedTarget, fit_blend
from ..types import FloatArray
from .score_model import ScoreModel

__all__ = ["ScoreError", "posterior_chain", "score_error"]

STRETCHES = 3
LEAST = 8  #: fields of a stretch at the smallest noise
GAP = 8  #: trajectories between stretches
LEAPFROG = 6  #: steps of a trajectory of a quarter period, doubled until most are accepted
GOOD = 0.6  #: acceptance at which a step size is taken


@dataclass(frozen=True)
class ScoreError:
    """D(sigma) on a grid."""

    sigma: FloatArray  #: (n_levels,), ascending
    error: FloatArray  #: (n_levels,), D(sigma), summed over the lattice; may be below zero by its error
    uncertainty: FloatArray  #: (n_levels,)
    remembered: (
        FloatArray  #: (n_levels,), by how much D falls if stretches are further apart: 0 once they are independent
    )
    acceptance: FloatArray  #: (n_levels,), of the posterior chains
    kl: float  #: integral over log sigma, in nats
    kl_error: float

    def shares(self) -> FloatArray:
        """Contribution of each level to `kl`, as a fraction of it, (n_levels,)."""
        return self.error * _trapezoid(np.log(self.sigma)) / self.kl


def _trapezoid(x: FloatArray) -> FloatArray:
    weights = np.zeros(len(x))
    weights[:-1] += 0.5 * np.diff(x)
    weights[1:] += 0.5 * np.diff(x)
    return weights


def posterior_chain(
    action: Action, gaussian: GaussianReference, phi: Tensor, x: Tensor, v: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, float]]:
    """Endless generator of fields distributed by ``exp(-S(phi) - |x - phi|^2 / 2 v)``, one trajectory apart.

    Parameters
    ----------
    action : Action
    gaussian : GaussianReference
        float64, on the CPU.
    phi, x : tensor, shape (n, *lattice), float64
        `phi` is distributed by the posterior of `x` already.
    v : float
    generator : torch.Generator

    Yields
    ------
    phi : tensor, shape (n, *lattice)
    acceptance : float
        Of the last trajectory, over the n chains.
    """
    C = gaussian.G * v / (gaussian.G + v)

    def energy_of(phi: Tensor) -> Tensor:
        return torch.as_tensor(action(phi.numpy())) + (x - phi).square().flatten(1).sum(1) / (2 * v)

    def force(phi: Tensor) -> Tensor:
        return torch.as_tensor(action.force(phi.numpy())) + (x - phi) / v

    @np.errstate(over="ignore", invalid="ignore")  # the first step of the search may be far too long
    def trajectory(phi: Tensor, energy: Tensor, n_steps: int) -> tuple[Tensor, Tensor, float]:
        # a quarter period of the Gaussian posterior is a fresh draw; the length varies against resonances
        length = 0.5 * math.pi * (0.7 + 0.6 * float(torch.rand(1, generator=generator, dtype=torch.float64)))
        step = length / n_steps
        normal = torch.randn(phi.shape, generator=generator, dtype=torch.float64)
        p = gaussian.filter(normal, C.rsqrt())
        field, p = phi, p + 0.5 * step * force(phi)
        for k in range(n_steps):
            field = field + step * gaussian.filter(p, C)
            p = p + (step if k < n_steps - 1 else 0.5 * step) * force(field)
        new = energy_of(field)
        kinetic = gaussian.filter(p, C.sqrt()).square().flatten(1).sum(1) / 2
        change = new - energy + kinetic - normal.square().flatten(1).sum(1) / 2
        u = torch.rand(len(phi), generator=generator, dtype=torch.float64)
        accept = torch.log(u) < -change  # NaN of a diverged trajectory compares False
        where = gaussian.expand(accept)
        return torch.where(where, field, phi), torch.where(accept, new, energy), float(accept.double().mean())

    energy, n_steps = energy_of(phi), LEAPFROG
    # the search starts over from `phi` each time, which leaves the draw exact
    while trajectory(phi, energy, n_steps)[2] < GOOD and n_steps < 32 * LEAPFROG:
        n_steps *= 2
    while True:
        phi, energy, rate = trajectory(phi, energy, n_steps)
        yield phi, rate


@torch_defaults()
@torch.no_grad()
def score_error(
    model: ScoreModel,
    phis: FloatArray,
    n_levels: int = 10,
    n_fields: int = 60,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> ScoreError:
    """Score error by noise level, on configurations of the exact ensemble.

    Parameters
    ----------
    model : ScoreModel
        Of a phi^4 theory.
    phis : ndarray, shape (n, *lattice)
        Held-out configurations, taken as independent for the errors; two dozen are enough.
    n_levels : int
        Equidistant in log sigma over the model's range.
    n_fields : int
        Posterior fields in each of three stretches; fewer below the width of a site, where targets have
        little noise.
    seed : int
    progress : callable, optional
        Called with the number of levels done.

    Returns
    -------
    ScoreError

    Raises
    ------
    UserError
        Fewer than eight configurations, another lattice, or fewer than one field or two levels.
    """
    if len(phis) < 8 or tuple(phis.shape[1:]) != model.shape:
        raise UserError(f"phis has shape {phis.shape}; expected at least 8 configurations of {model.shape}")
    if n_fields < 1 or n_levels < 2:
        raise UserError(f"got {n_fields} fields and {n_levels} levels; expected at least 1 and 2")
    exact = model.gaussian.to("cpu", torch.float64)
    phi = torch.as_tensor(real_array(phis, "phis", order="C"))
    blend = fit_blend(exact, phi, model.noise, seed)
    generator = torch.Generator().manual_seed(seed)
    log_sigma = np.linspace(*model.noise.log_range, n_levels)
    rows = []
    for done, level in enumerate(log_sigma, start=1):
        rows.append(_one_level(model, exact, blend, phi, float(level), n_fields, generator))
        if progress is not None:
            progress(done)
    values, errors, remembered, acceptance = np.array(rows).T
    weights = _trapezoid(log_sigma)
    kl, kl_error = float(weights @ values), float(np.sqrt(((weights * errors) ** 2).sum()))
    return ScoreError(np.exp(log_sigma), values, errors, remembered, acceptance, kl, kl_error)


def _one_level(
    model: ScoreModel,
    exact: GaussianReference,
    blend: BlendedTarget,
    phi: Tensor,
    log_sigma: float,
    n_fields: int,
    generator: torch.Generator,
) -> tuple[float, float, float, float]:
    """D, its error, what is remembered, and the acceptance at one level."""
    sigma = math.exp(log_sigma)
    v = torch.full((len(phi), *[1] * exact.ndim), sigma**2, dtype=torch.float64)
    x = phi + sigma * torch.randn(phi.shape, generator=generator, dtype=torch.float64)
    chain = posterior_chain(model.action, exact, phi, x, sigma**2, generator)
    n_fields = max(min(n_fields, LEAST), math.ceil(n_fields * min(1.0, sigma / math.sqrt(exact.g_mean))))
    stretches, rates = [], []
    for stretch in range(STRETCHES):
        total = torch.zeros_like(phi)
        for _ in range(n_fields):
            field, rate = next(chain)
            total += blend(exact, field, (x - field) / sigma, v)
            rates.append(rate)
        for _ in range(GAP if stretch < STRETCHES - 1 else 0):
            next(chain)
        stretches.append(total / n_fields)
    _, C = exact.posterior(v[:1])
    R = _residual(model, x, log_sigma)
    first, second, third = (exact.filter(R - target, C) for target in stretches)

    def overlap(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).flatten(1).sum(1) / sigma**2

    near, far = 0.5 * (overlap(first, second) + overlap(second, third)), overlap(first, third)
    every = (2 * near + far) / 3
    error = float(every.std() / math.sqrt(len(every)))
    return float(every.mean()), error, float((near - far).mean()), float(np.mean(rates))


def _residual(model: ScoreModel, x: Tensor, log_sigma: float) -> Tensor:
    gaussian = model.gaussian
    level = torch.full((1,), float(log_sigma), dtype=gaussian.dtype, device=gaussian.device)
    R, _ = model.network(gaussian, x.to(gaussian.device, gaussian.dtype), level)
    return R.double().cpu()
