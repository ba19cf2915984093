r"""Exact ``tr(C dR/dx)`` of a trunk of periodic convolutions between spectral filters.

The residual is :math:`R = R_0 + \sum_m O_m * T_m(u)` with :math:`u_j = I_j * x`. Filters reach across the
lattice, so R has no finite range; the trunk has. With K_{mj}(x, y) = dT_m(x) / du_j(y),

.. math:: \mathrm{tr}(C\,\partial R/\partial x) - \mathrm{tr}(C\,\partial R_0/\partial x)
          = \sum_{m j} \sum_{x y} Q_{m j}(y - x)\, K_{m j}(x, y), \qquad
          Q_{m j}(r) = V^{-1} \sum_k I_j(k)\, C(k)\, O_m(k)\, e^{ikr},

and either sum over sites can be done by backward passes through the trunk, each a pair of fields
(p, q) that adds :math:`\langle K^T p,\, q \rangle`:

==========  ====================================================================  ============================
method      pairs                                                                 passes
==========  ====================================================================  ============================
`full`      ``p_m = (C O_m)(. - x)``, ``q_j = I_j(. - x)`` for each site x        V
`coloured`  ``p = 1`` on one colour of channel m, ``q_j`` the sum of             2 (2 r + 1)^d, if L is a
            ``Q_mj(. - x)`` over its sites x, cut off at the reach r              multiple of 2 r + 1 or infinite
==========  ====================================================================  ============================

Both are exact: K_{mj}(x, y) vanishes beyond the trunk's reach r, and sites of one colour are more than 2 r
apart along some axis, so each y sees one of them at most. The global filters are inside Q, where no
derivative is needed. There is no stochastic method here, since a density may not hold noise.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ...errors import UserError
from ...gaussian.reference import GaussianReference
from ...registry import nearest
from ...types import Extents
from ..colouring import colouring, count_colours

__all__ = ["METHODS", "passes", "trunk_trace"]

METHODS = ("full", "coloured")
CHUNK = 2**19  # numbers of the trunk's input in the passes that go backward together; bounds the memory


def passes(shape: Extents, reach: int, n_outputs: int) -> dict[str, int]:
    """Backward passes of each method for a trunk of `n_outputs` channels that reaches `reach` sites.

    Returns
    -------
    dict of str to int
    """
    return {"full": math.prod(shape), "coloured": n_outputs * count_colours(shape, 2 * reach)}


def trunk_trace(
    gaussian: GaussianReference,
    u: Tensor,
    out: Tensor,
    inner: Tensor,
    outer: Tensor,
    C: Tensor,
    reach: int,
    method: str,
) -> Tensor:
    """``tr(C dR/dx) - tr(C dR_0/dx)``.

    Parameters
    ----------
    gaussian : GaussianReference
    u : tensor, shape (n, J, *lattice)
        Input of the trunk, part of the graph of `out`.
    out : tensor, shape (n, M, *lattice)
        Its output.
    inner, outer : tensor, shape (n or 1, J or M, *lattice)
        Filters I and O in the real Fourier basis.
    C : tensor, shape (n or 1, *lattice)
    reach : int
        Of the trunk, in sites along an axis.
    method : str
        ``"full"`` or ``"coloured"``.

    Returns
    -------
    tensor, shape (n,), float64
        Differentiable if gradients are enabled; the same bits for any number of probes at once.

    Raises
    ------
    UserError
        Unknown method.
    """
    if method not in METHODS:
        raise UserError(f"trace is {method!r}{nearest(method, METHODS)}; expected {' or '.join(METHODS)}")
    at_once = max(1, CHUNK // u.numel())
    if method == "full":
        pairs = _full(gaussian, inner, outer, C, at_once)
    else:
        pairs = _coloured(gaussian, inner, outer, C, reach, at_once)
    keep, terms = torch.is_grad_enabled(), []
    for p, q in pairs:
        cotangents = p.movedim(1, 0).expand(-1, *out.shape)
        (w,) = torch.autograd.grad(out, u, cotangents, is_grads_batched=True, create_graph=keep, retain_graph=True)
        terms.append((w * q.movedim(1, 0)).flatten(2).sum(2, dtype=torch.float64))
    return torch.cat(terms).sum(0)


def _full(
    gaussian: GaussianReference, inner: Tensor, outer: Tensor, C: Tensor, at_once: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs p (n or 1, P, M, *lattice) and q (n or 1, P, J, *lattice), P at a time."""
    p = gaussian.to_distances(C[:, None] * outer)
    q = gaussian.to_distances(inner)
    for sites in torch.arange(gaussian.volume, device=p.device).split(at_once):
        yield _translates(p, sites), _translates(q, sites)


def _coloured(
    gaussian: GaussianReference, inner: Tensor, outer: Tensor, C: Tensor, reach: int, at_once: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs as those of `_full`; all channels of the output for some colours at a time."""
    Q = gaussian.to_distances(outer[:, :, None] * (C[:, None, None] * inner[:, None]))  # (n, M, J, *lattice)
    Q = Q * _window(gaussian.shape, reach).to(Q)
    n_outputs = Q.shape[1]
    channels = torch.eye(n_outputs).to(Q).reshape(n_outputs, n_outputs, *([1] * gaussian.ndim))
    masks = colouring(gaussian.shape, 2 * reach).to(Q)
    for some in masks.split(max(1, at_once // n_outputs)):
        fields = [_translates(Q.flatten(1, 2), mask.flatten().nonzero().flatten()).sum(1) for mask in some]
        q = torch.stack([field.unflatten(1, Q.shape[1:3]) for field in fields], 1)
        p = some[:, None, None] * channels
        yield p.flatten(0, 1)[None], q.flatten(1, 2)


def _window(shape: Extents, reach: int) -> Tensor:
    """1 at the distances, wrapped around, that the trunk can see."""
    window = torch.ones(())
    for extent in shape:
        r = torch.arange(extent)
        window = window[..., None] * (torch.minimum(r, extent - r) <= reach)
    return window


def _translates(kernel: Tensor, sites: Tensor) -> Tensor:
    """``f(. - x)`` of a kernel (n, K, *lattice) for each site x of (P,), shape (n, P, K, *lattice)."""
    shape = kernel.shape[2:]
    index: Tensor | int = 0
    rest, stride = sites, 1
    for axis in reversed(range(len(shape))):
        extent = shape[axis]
        r = (torch.arange(extent, device=sites.device) - rest[:, None] % extent) % extent
        index = index + stride * r.reshape(-1, *(extent if i == axis else 1 for i in range(len(shape))))
        rest, stride = rest // extent, stride * extent
    return kernel.flatten(2)[..., index].movedim(2, 1)
