r"""The divergence of a score, :math:`\mathrm{tr}\,\partial s/\partial x`, by four interchangeable methods.

==================  =======================================  ==========================================
`full_jacobian`     exact, any score                         V backward passes
`coloured_probes`   exact for scores of finite range r       (r + 1)^d backward passes (L a multiple), any V
`closed_form`       exact, ridge networks                    part of the forward pass
`hutchinson`        unbiased: E[v^T J v] = tr J              one backward pass for each probe
==================  =======================================  ==========================================

An unbiased trace is good enough for a loss, but never inside Metropolis: exp(noise) has not mean one.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...networks.colouring import colouring
from ...networks.contract import Score
from .checks import check_samples, noise_levels

__all__ = ["TRACES", "closed_form", "coloured_probes", "full_jacobian", "hutchinson"]


def _products(score: Score, x: Tensor, sigma: float | Tensor, probes: Iterable[Tensor]) -> Iterator[Tensor]:
    """``v * (J^T v)`` for each probe field v, one backward pass each for the whole batch."""
    keep = torch.is_grad_enabled()  # training needs the graph of the trace as well
    check_samples("x", x)
    sigma = noise_levels(sigma, x)
    with torch.enable_grad():
        x = x.detach().requires_grad_(True) if not x.requires_grad else x
        s = score(x, sigma)
        if not s.requires_grad:
            raise UserError("the score has no derivative in x; compute it by torch operations outside no_grad")
        for v in probes:
            v = v.to(x)
            (product,) = torch.autograd.grad(s, x, v.expand_as(s), create_graph=keep, retain_graph=True)
            yield v * product


def _sum(products: Iterable[Tensor]) -> Tensor:
    total: Any = sum(product.flatten(1).sum(1) for product in products)
    return total


def full_jacobian(score: Score, x: Tensor, sigma: float | Tensor) -> Tensor:
    """Every diagonal element of the Jacobian by a backward pass of its own, V of them.

    Parameters
    ----------
    score : callable
    x : tensor, shape (n, *lattice)
    sigma : float or tensor, shape (n,)

    Returns
    -------
    tensor, shape (n,)
    """
    sites = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, *x.shape[1:])
    return _sum(_products(score, x, sigma, sites))


def coloured_probes(score: Score, x: Tensor, sigma: float | Tensor, *, reach: int) -> Tensor:
    """Exact for a score whose value at a site depends on sites at most `reach` away along each axis.

    Sites of one colour do not see each other, so one backward pass gives all their diagonal elements;
    the number of colours depends on `reach`, not on the volume. A score that reaches further gives a
    wrong number without warning: three stacked 3x3 convolutions reach 3.
    """
    return _sum(_products(score, x, sigma, colouring(x.shape[1:], reach)))


def closed_form(score: Score, x: Tensor, sigma: float | Tensor) -> Tensor:
    """The score's own ``trace(x, sigma)``: the ridge network in `fields.ModelScore`, `EmpiricalScore`."""
    if not hasattr(score, "trace"):
        raise UserError("the score has no closed-form trace; take full_jacobian, coloured_probes or hutchinson")
    return score.trace(check_samples("x", x), noise_levels(sigma, x))


def hutchinson(
    score: Score,
    x: Tensor,
    sigma: float | Tensor,
    *,
    rng: np.random.Generator | None = None,
    n_probes: int = 1,
    slices: str = "rademacher",
    probes: Tensor | None = None,
) -> Tensor:
    """Mean of ``v^T J v`` over random v with E[v v^T] = 1, (n,) (sliced score matching, Song et al. 1905.07088).

    Parameters
    ----------
    score, x, sigma
        As in `full_jacobian`.
    rng : numpy.random.Generator
    n_probes : int
    slices : str
        ``"rademacher"`` (signs; only off-diagonal elements contribute to its variance) or ``"normal"``.
    probes : tensor, shape (n_probes, n, *lattice), optional
        Such fields drawn by the caller, in place of `rng`, `n_probes` and `slices`.

    Raises
    ------
    UserError
        No probe, or an unknown kind of slices.
    """
    if probes is not None:
        return _sum(_products(score, x, sigma, probes)) / len(probes)
    if n_probes < 1 or slices not in ("rademacher", "normal"):
        raise UserError(f"got {n_probes} {slices!r} probes; expected at least 1, rademacher or normal")
    draw = rng.standard_normal(size=(n_probes, *x.shape))  # type: ignore[union-attr]  # without probes there is rng
    probes = torch.as_tensor(np.where(draw < 0, -1.0, 1.0) if slices == "rademacher" else draw)
    return _sum(_products(score, x, sigma, probes)) / n_probes


TRACES = {
    "full_jacobian": full_jacobian,
    "coloured_probes": coloured_probes,
    "closed_form": closed_form,
    "hutchinson": hutchinson,
}
