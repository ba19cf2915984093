r"""The baseline that the network corrects: linearly implicit, Gaussian-averaged cubic.

With :math:`y = W x` and the posterior variance per site :math:`c = V^{-1} \sum_k C(k)`,

.. math:: R_0 = \ell * y + \frac{4 b\,(y^3 + 3 c y)}{1 + 12\, b\, c\, y^2}, \qquad
          \ell(k) = 2a - 2 c_{hop} \sum_\mu \cos k_\mu - G^{-1}(k).

It is :math:`\Delta F` at :math:`\sigma \to 0` and grows linearly for any sigma > 0, as it must
(R <= x / sigma^2). It decides the tails: with a cubic damped by sigma alone, rare configurations
with one large field had log weights of +65 to +110 at L = 16.

Around a vacuum :math:`\bar x = s\,m_0` of the broken phase, :math:`y = \bar x + W (x - \bar x)`, and the propagator
holds the curvature :math:`12 b\,m_0^2` already, which is taken from the pointwise part and given to the linear one:

.. math:: R_0 = (\ell + 12 b\,m_0^2) * (y - \bar x)
          + \frac{4 b\,(y^3 + 3 (c - m_0^2)\,y) + s\,t}{\lambda + 12\, b\, c\, y^2},
          \qquad \lambda = \max(1 - 12 b\,c\,m_0^2,\; 1/10),

with the constant t (``Background.tilt``) that makes it :math:`\Delta F` at c = 0; lambda is kept positive for c > 0.
"""

import torch

__all__ = ["implicit_cubic", "local_response"]

LEAST = 0.1  # of lambda


def local_response(background, C):
    """``(c, lambda)``, each (n, 1, ..., 1): posterior variance per site, and 1 + 12 b c (y^2 - m_0^2) at y = 0."""
    c = background.expand(background.at_origin(C))
    return c, (1 - 12 * background.action.b * background.vacuum**2 * c).clamp(min=LEAST)


def implicit_cubic(background, x_modes, W, C, trace=False, signs=0.0, linear=None, screen=None):
    r"""R_0 in two parts, and ``tr(C dR_0/dx)``.

    Parameters
    ----------
    background : Background
    x_modes : tensor, shape (n, *lattice)
        Of the fluctuation around the vacuum.
    W, C : tensor, shape (n or 1, *lattice)
    trace : bool
    signs : tensor, shape (n, 1, ..., 1), or 0
        Of the vacua; see `Background.signs`.
    linear : tensor, shape (n or 1, *lattice), optional
        A multiplier in place of l(k), `latticediff.score.ordering.baseline_linear`.
    screen : tensor, shape (n or 1, *lattice), optional
        A multiplier of the cubic part, `latticediff.score.screening.screen`: the caller's to apply, here it is traced.

    Returns
    -------
    linear : tensor, shape (n, *lattice)
        The linear part, left in the Fourier basis.
    local : tensor, shape (n, *lattice)
        The cubic part.
    trace : tensor, shape (n,), float64, or None
    """
    q = 4 * background.action.b
    y = background.from_modes(x_modes * W) + signs * background.vacuum
    c, lift = local_response(background, C)
    square = y * y
    width = c - background.vacuum**2
    denominator = lift + 3 * q * c * square
    local = (q * y * (square + 3 * width) + signs * background.tilt) / denominator
    response = W * (background.linear if linear is None else linear)
    if not trace:
        return x_modes * response, local, None
    # d/dy of the local part, with den' = 6 q c y
    slope = (q * 3 * (square + width) - local * 6 * q * c * y) / denominator
    over_sites = slope.flatten(1).sum(1, dtype=torch.float64)
    weight = background.at_origin(W * C if screen is None else W * C * screen)
    trace = weight * over_sites + background.at_origin(C * response) * background.volume
    return x_modes * response, local, trace
