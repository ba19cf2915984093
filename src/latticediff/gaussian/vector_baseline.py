r"""The baseline for fields of N components, of which each is alike: `latticediff.gaussian.baseline` with lengths.

With :math:`y = W x`, :math:`s = y \cdot y` at a site and the posterior variance per site and component c,

.. math:: R_0 = \ell * y + y\, f(s), \qquad f(s) = \frac{4 b\,(s + (N + 2)\, c)}{1 + 12\, b\, c\, s} ,

the average of the local force over a Gaussian posterior, damped by its curvature along y. It turns with x, and

.. math:: \mathrm{tr}(C\, \partial R_0 / \partial x) = V N \overline{C W \ell}
          + \overline{C W} \sum_x \big[ N f(s_x) + 2\, s_x f'(s_x) \big] ,

bars being means over momenta. For N = 1 these are the formulas of the theory page, eqs. (11) and (12).
"""

import torch
from torch import Tensor

from .reference import GaussianReference

__all__ = ["vector_baseline", "vector_response"]


def vector_response(gaussian: GaussianReference, square: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """``f(s)`` and ``f'(s)`` of the module's formula, shape of s.

    Parameters
    ----------
    gaussian : GaussianReference
        Of an O(N) theory.
    square : tensor
        s.
    c : tensor
        Posterior variance of a site and component; broadcast against s.
    """
    q, n = 4 * gaussian.action.internal[2], gaussian.action.components
    denominator = 1 + 3 * q * c * square
    f = q * (square + (n + 2) * c) / denominator
    return f, (q - 3 * q * c * f) / denominator


def vector_baseline(
    gaussian: GaussianReference,
    x_modes: Tensor,
    W: Tensor,
    C: Tensor,
    trace: bool = False,
    linear: Tensor | None = None,
    screen: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """R_0 in two parts, and ``tr(C dR_0/dx)``.

    Parameters
    ----------
    gaussian : GaussianReference
        Of an O(N) theory.
    x_modes : tensor, shape (n, N, *lattice)
        Coefficients of the fields.
    W, C : tensor, shape (n or 1, N, *lattice)
        See `GaussianReference.posterior`.
    trace, linear, screen
        See `latticediff.gaussian.baseline.implicit_baseline`.

    Returns
    -------
    linear : tensor, shape (n, N, *lattice)
        Coefficients of the linear part: it is left in the Fourier basis.
    local : tensor, shape (n, N, *lattice)
        The local part, on sites.
    trace : tensor, shape (n,), float64, or None
    """
    y = gaussian.from_modes(x_modes * W)
    response = W * (gaussian.linear if linear is None else linear)
    square = (y * y).sum(1, keepdim=True)
    f, slope = vector_response(gaussian, square, gaussian.expand(gaussian.at_origin(C)))
    if not trace:
        return x_modes * response, y * f, None
    n = gaussian.action.components
    over_sites = (n * f + 2 * square * slope).flatten(1).sum(1, dtype=torch.float64)
    weight = gaussian.at_origin(W * C if screen is None else W * C * screen)
    total = weight * over_sites + gaussian.at_origin(C * response) * gaussian.volume
    return x_modes * response, y * f, total
