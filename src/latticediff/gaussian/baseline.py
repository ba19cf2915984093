r"""The baseline that the network corrects: linearly implicit, with the Gaussian average of the local force.

For phi^4 in closed form; `latticediff.gaussian.local_response` has the local part of any other theory.

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

with the constant t (``GaussianReference.tilt``) that makes it :math:`\Delta F` at c = 0; lambda is kept
positive for c > 0.
"""

import torch
from torch import Tensor

from ..errors import UserError
from .local_response import local_part, with_slope
from .reference import GaussianReference, Signs

__all__ = ["implicit_baseline", "local_response", "site_response"]

LEAST = 0.1  # of lambda
HALF = 0.5  # least of the denominator of a random mass, which then is at most doubled


def local_response(gaussian: GaussianReference, C: Tensor) -> tuple[Tensor, Tensor]:
    """Variance per site ``c = V^-1 sum_k C(k)`` and ``lambda = max(1 - 12 b c m_0^2, 1/10)``, both (n, 1, ..., 1).

    Parameters
    ----------
    gaussian : GaussianReference
    C : tensor, shape (n or 1, *lattice)
        Posterior covariance on the basis.
    """
    c = gaussian.expand(gaussian.at_origin(C))
    return c, (1 - 12 * gaussian.quartic * gaussian.vacuum**2 * c).clamp(min=LEAST)


def site_response(gaussian: GaussianReference, C: Tensor) -> Tensor | None:
    """The baseline's answer to a random mass, ``delta_x y_x`` in the local part: delta (n or 1, *lattice), or None.

    ``Delta / max(1 + c Delta, 1/2)`` with `GaussianReference.mass_shift`: r_x without noise, and with it what the mean
    of a site gives way to (theory page, eq. 12e).
    """
    shift = gaussian.mass_shift(C)
    if shift is None:
        return None
    c = gaussian.expand(gaussian.at_origin(C))
    return shift / (1 + c * shift).clamp(min=HALF)


def implicit_baseline(
    gaussian: GaussianReference,
    x_modes: Tensor,
    W: Tensor,
    C: Tensor,
    trace: bool = False,
    signs: Signs = 0.0,
    linear: Tensor | None = None,
    screen: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    r"""R_0 in two parts, and ``tr(C dR_0/dx)``: theory page, eqs. (11) and (12), around two vacua (12b).

    Parameters
    ----------
    gaussian : GaussianReference
    x_modes : tensor, shape (n, *lattice)
        Coefficients of the fluctuation around the vacuum.
    W, C : tensor, shape (n or 1, *lattice)
        See `GaussianReference.posterior`.
    trace : bool
        Whether the trace is wanted.
    signs : tensor, shape (n, 1, ..., 1), or float
        Of the vacua; see `GaussianReference.signs`.
    linear : tensor, shape (n or 1, *lattice), optional
        A multiplier in place of l(k), `latticediff.networks.ridge.normal_ordering.baseline_linear`.
    screen : tensor, shape (n or 1, *lattice), optional
        A multiplier of the local part, `latticediff.networks.ridge.screening.screen`: the caller applies it, here it
        is traced.

    Returns
    -------
    linear : tensor, shape (n, *lattice)
        Coefficients of the linear part: it is left in the Fourier basis.
    local : tensor, shape (n, *lattice)
        The local part, on sites.
    trace : tensor, shape (n,), float64, or None
    """
    if gaussian.components is not None:
        raise UserError(
            f"{gaussian.action!r} has fields of {gaussian.components} components, and this network knows one; take"
            ' network.name = "vector_ridge"'
        )
    y = gaussian.from_modes(x_modes * W) + gaussian.centre(signs)
    response = W * (gaussian.linear if linear is None else linear)
    moved = x_modes * response
    if gaussian.pull is not None:
        moved = moved + gaussian.to_modes(gaussian.pull)
    if gaussian.is_cubic:
        local, slope = _cubic(gaussian, y, C, signs, trace)
    elif trace:
        local, slope = with_slope(gaussian, y, gaussian.expand(gaussian.at_origin(C)), signs)
    else:
        local, slope = local_part(gaussian, y, gaussian.expand(gaussian.at_origin(C)), signs), None
    shift = site_response(gaussian, C)
    if shift is not None:
        local = local + shift * y
        slope = None if slope is None else slope + shift
    if slope is None:
        return moved, local, None
    over_sites = slope.flatten(1).sum(1, dtype=torch.float64)
    weight = gaussian.at_origin(W * C if screen is None else W * C * screen)
    total = weight * over_sites + gaussian.at_origin(C * response) * gaussian.volume
    return moved, local, total


def _cubic(
    gaussian: GaussianReference, y: Tensor, C: Tensor, signs: Signs, trace: bool
) -> tuple[Tensor, Tensor | None]:
    """The local part for phi^4 and, if asked, its derivative by y."""
    q = 4 * gaussian.quartic
    c, lift = local_response(gaussian, C)
    square = y * y
    width = c - gaussian.vacuum**2
    denominator = lift + 3 * q * c * square
    local = (q * y * (square + 3 * width) + signs * gaussian.tilt) / denominator
    # d/dy of the local part, with den' = 6 q c y
    return local, (q * 3 * (square + width) - local * 6 * q * c * y) / denominator if trace else None
