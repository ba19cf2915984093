r"""The baseline that the network corrects: linearly implicit, Gaussian-averaged cubic.

With :math:`y = W x` and the posterior variance per site :math:`c = V^{-1} \sum_k C(k)`,

.. math:: R_0 = \ell * y + \frac{4 b\,(y^3 + 3 c y)}{1 + 12\, b\, c\, y^2}, \qquad
          \ell(k) = 2a - 2 c_{hop} \sum_\mu \cos k_\mu - G^{-1}(k).

It is :math:`\Delta F` at :math:`\sigma \to 0` and grows linearly for any sigma > 0, as it must
(R <= x / sigma^2). It decides the tails: with a cubic damped by sigma alone, rare configurations
with one large field had log weights of +65 to +110 at L = 16.
"""

import torch

__all__ = ["implicit_cubic"]


def implicit_cubic(background, x_modes, W, C, trace=False):
    r"""R_0 in two parts, and ``tr(C dR_0/dx)``.

    Parameters
    ----------
    background : Background
    x_modes : tensor, shape (n, *lattice)
    W, C : tensor, shape (n or 1, *lattice)
    trace : bool

    Returns
    -------
    linear : tensor, shape (n, *lattice)
        The linear part, left in the Fourier basis.
    local : tensor, shape (n, *lattice)
        The cubic part.
    trace : tensor, shape (n,), float64, or None
    """
    q = 4 * background.action.b
    y = background.from_modes(x_modes * W)
    c = background.expand(background.at_origin(C))
    square = y * y
    denominator = 1 + 3 * q * c * square
    local = q * y * (square + 3 * c) / denominator
    linear = x_modes * (W * background.linear)
    if not trace:
        return linear, local, None
    # d/dy of q (y^3 + 3 c y) / den, with den' = 6 q c y
    slope = (q * 3 * (square + c) - local * 6 * q * c * y) / denominator
    over_sites = slope.flatten(1).sum(1, dtype=torch.float64)
    trace = (
        background.at_origin(W * C) * over_sites + background.at_origin(W * C * background.linear) * background.volume
    )
    return linear, local, trace
