r"""Fisher divergence and the four objectives that minimise it.

.. math::
    F(p \| q) = \tfrac12 \langle |\nabla\log p - \nabla\log q|^2 \rangle_p .

With the model's score s, noise :math:`x = \phi + \sigma z` and :math:`p_\sigma` the density of x,

.. math::
    L_{ESM} = \tfrac12 \langle |s(x) - \nabla\log p_\sigma(x)|^2 \rangle, \qquad
    L_{ISM} = \langle \tfrac12 |s(x)|^2 + \mathrm{tr}\, \partial s/\partial x \rangle, \\
    L_{DSM} = \tfrac12 \langle |s(x) + z/\sigma|^2 \rangle, \qquad
    L_{TSM} = \tfrac12 \langle |s(x) - \nabla\log p(\phi)|^2 \rangle .

All four have the same gradient in the parameters of s: they differ by constants,

.. math::
    L_{ISM} - L_{ESM} = -\tfrac12 \langle |\nabla\log p_\sigma|^2 \rangle, \qquad
    L_{DSM} - L_{ESM} = \tfrac12 \big( V/\sigma^2 - \langle |\nabla\log p_\sigma|^2 \rangle \big),

because ``-z / sigma`` and the force ``grad log p(phi)`` both have the conditional mean grad log p_sigma(x).
Hyvarinen 2005 eqs. (2), (4); Vincent 2011 eqs. (9), (11); De Bortoli et al. 2402.08667 (target score matching).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ...errors import UserError
from ...networks.contract import Score
from ...registry import nearest
from .checks import check_samples, noise_levels, per_field
from .traces import full_jacobian

__all__ = ["OBJECTIVES", "Estimate", "denoising", "explicit", "fisher_divergence", "implicit", "objective", "target"]


class Estimate(NamedTuple):
    """A mean over samples and its standard error."""

    value: float
    error: float


def half_square(difference: Tensor) -> Tensor:
    """``1/2 sum_x d(x)^2`` of each configuration, shape (n,)."""
    return 0.5 * (difference * difference).flatten(1).sum(1)


def fisher_divergence(
    score_a: Score, score_b: Score, samples: Tensor, sigma: float | Tensor = 0.0, tau_int: float = 0.5
) -> Estimate:
    r""":math:`\frac12 \langle |s_a - s_b|^2 \rangle` over samples of the first density (a forward divergence).

    Parameters
    ----------
    score_a, score_b : callable
        A model and a known score, or two models.
    samples : tensor, shape (n, *lattice)
        Drawn from (noised) data at `sigma`, n at least 2.
    sigma : float or tensor, shape (n,)
        Noise level of the samples.
    tau_int : float
        Integrated autocorrelation time of the samples; 0.5 is independent.

    Returns
    -------
    Estimate
        ``(value, error)``; extensive, in units of the inverse field squared.

    Raises
    ------
    UserError
        Fewer than two samples, or values that are not finite.
    """
    if len(check_samples("samples", samples)) < 2:
        raise UserError("samples holds 1 configuration; an error needs at least 2")
    sigma = noise_levels(sigma, samples)
    terms = half_square(score_a(samples, sigma) - score_b(samples, sigma)).detach().double()
    error = float(terms.std()) * math.sqrt(2 * tau_int / len(terms))
    return Estimate(float(terms.mean()), error)


def _noised(phi: Tensor, z: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
    check_samples("phi", phi)
    if check_samples("z", z).shape != phi.shape:
        raise UserError(f"z has shape {tuple(z.shape)}; expected that of phi, {tuple(phi.shape)}")
    sigma = noise_levels(sigma, phi)
    return phi + per_field(sigma, phi) * z, sigma


def explicit(score: Score, phi: Tensor, z: Tensor, sigma: float | Tensor, *, exact: Score) -> Tensor:
    """ESM, ``1/2 |s(x) - exact(x)|^2``, where the score of the noised density is known.

    Parameters
    ----------
    score : callable
        The model, ``score(x, sigma)``.
    phi, z : tensor, shape (n, *lattice)
        Data and standard normal noise.
    sigma : float or tensor, shape (n,)
    exact : callable
        The score of ``p_sigma``: `free_score`, `EmpiricalScore`.

    Returns
    -------
    tensor, shape (n,)
        One term for each configuration, differentiable in the parameters of `score`.

    Raises
    ------
    UserError
        Empty or non-finite data, shapes or levels that do not fit.
    """
    x, sigma = _noised(phi, z, sigma)
    return half_square(score(x, sigma) - exact(x, sigma))


def implicit(
    score: Score,
    phi: Tensor,
    z: Tensor,
    sigma: float | Tensor,
    *,
    trace: Callable[[Score, Tensor, Tensor], Tensor] = full_jacobian,
) -> Tensor:
    """ISM, ``1/2 |s(x)|^2 + tr ds/dx``: needs no known score, but the trace of the model's.

    `trace` is one of `traces.TRACES`; other arguments, result and errors as in `explicit`. ``sigma = 0`` matches the
    data themselves.
    """
    x, sigma = _noised(phi, z, sigma)
    return half_square(score(x, sigma)) + trace(score, x, sigma)


def denoising(score: Score, phi: Tensor, z: Tensor, sigma: float | Tensor) -> Tensor:
    """DSM, ``1/2 |s(x) + z / sigma|^2``: needs neither a known score nor a trace.

    Arguments, result and errors as in `explicit`; sigma must be positive.
    """
    x, sigma = _noised(phi, z, sigma)
    if not bool((sigma > 0).all()):
        raise UserError("denoising got sigma = 0; its target z / sigma needs sigma > 0")
    return half_square(score(x, sigma) + z / per_field(sigma, z))


def target(score: Score, phi: Tensor, z: Tensor, sigma: float | Tensor, *, force: Callable[[Tensor], Tensor]) -> Tensor:
    """TSM, ``1/2 |s(x) - force(phi)|^2``: the force of a known action, at the clean field.

    Arguments, result and errors as in `explicit`; ``force(phi) = -dS/dphi``, e.g. ``action.force``.
    """
    x, sigma = _noised(phi, z, sigma)
    return half_square(score(x, sigma) - force(phi))


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "explicit": explicit,
    "implicit": implicit,
    "denoising": denoising,
    "target": target,
}


def objective(name: str) -> Callable[..., Tensor]:
    """The objective called `name`.

    Raises
    ------
    UserError
        Unknown name; the message lists those there are.
    """
    if name not in OBJECTIVES:
        raise UserError(f"objective is {name!r}{nearest(name, OBJECTIVES)}; expected one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
