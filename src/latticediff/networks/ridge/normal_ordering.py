r"""Normal ordering: a residual that starts without a linear response.

The true residual :math:`R = E[\Delta F | x]` has none. With the exact propagator, for any noise,

.. math:: \langle R\, x^T \rangle = \langle \Delta F\, \phi^T \rangle
          = \Big\langle \frac{\partial S}{\partial \phi}\, \phi^T \Big\rangle - G^{-1} \langle \phi\, \phi^T \rangle
          = 1 - 1 = 0 .

A sum of ridge functions has one unless its terms cancel, and at large noise they must to the precision of
:math:`1/C(0)`, the inverse of the susceptibility: one step of an optimiser can make the zero mode explode, the
sooner the larger the lattice. Here every term is orthogonal to the linear functions of the Gaussian field
:math:`x \sim N(0, G + v)` by itself, as a normal ordered power is:

- a feature :math:`h \sim N(0, s^2)`, :math:`s^2 = \sum A A' D`, has the mean slope
  :math:`\langle g' \rangle = \alpha_1 m_3 + \alpha_2 (1 + m_2 - 2 m_4)`, :math:`m_p = \langle (1+h^2)^{-p/2} \rangle`.
  The network names :math:`\alpha_2` and a slope :math:`\beta_1`, and

  .. math:: \alpha_1 = \eta \beta_1 - \alpha_2 \frac{1 + m_2 - 2 m_4}{m_3}, \qquad \eta = \frac{\bar G}{\bar G + v};

- the baseline's linear part :math:`\ell(k)` becomes :math:`\eta\, \ell(k) - (1 - \eta)\, \lambda`, with
  :math:`\lambda = \langle y\, f(y) \rangle / \langle y^2 \rangle` of its cubic part f by Stein's identity.

At small noise, where the field is anything but Gaussian, :math:`\eta \to 1` leaves all freedom.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ...gaussian.baseline import local_response
from ...gaussian.local_response import local_part
from ...gaussian.reference import GaussianReference

__all__ = ["baseline_linear", "feature_variance", "gaussian_mean", "ordered_amplitudes", "slope_ratio", "slope_weights"]

REACH = 7.0  # standard deviations
KNOTS = 512  # of the table
ORDINATES = 129  # of y between -REACH and REACH
NODES = 33  # of h >= 0: m_p to 1e-6 for any s below 100, in float32 too


def gaussian_mean(function: Callable[[Tensor], Tensor], s: Tensor, components: int = 1, nodes: int = NODES) -> Tensor:
    r"""``<f(h)>`` of an even f for h ~ N(0, s^2), by the trapezoidal rule in ``arsinh h``.

    Of several components h is the length of a vector with independent N(0, s^2) components.

    Exponentially accurate for functions that are smooth on the scale of ``(1 + h^2)^(1/2)``, wide or narrow.

    Parameters
    ----------
    function : callable
        Of a tensor (..., nodes), elementwise in front of the nodes.
    s : tensor, positive
    components : int
    nodes : int
        For several components, where the rule has an end at which the integrand is not even, it wants more.

    Returns
    -------
    tensor, shape of s
    """
    s = s[..., None]
    reach = torch.arcsinh(REACH * s)
    u = torch.linspace(0, 1, nodes, dtype=s.dtype, device=s.device) * reach
    h = u.sinh()
    weight = torch.exp(-0.5 * (h / s) ** 2) * u.cosh()
    if components > 1:
        weight = weight * (h / s) ** (components - 1)
    # the same rule for the density alone, so that it is normalised to the last digit
    weight = torch.cat([0.5 * weight[..., :1], weight[..., 1:]], -1)
    return (weight * function(h)).sum(-1) / weight.sum(-1)


def slope_weights(s: Tensor) -> tuple[Tensor, Tensor]:
    r"""``(<g'> of g = h r, <g'> of g = h (1 - r^2))`` for h ~ N(0, s^2): ``m_3`` and ``1 + m_2 - 2 m_4``."""
    first = gaussian_mean(lambda h: (1 + h * h) ** -1.5, s)
    # 1 + r^2 - 2 r^4 without its cancellation at small h
    second = gaussian_mean(lambda h: h * h * (3 + h * h) / (1 + h * h) ** 2, s)
    return first, second


def vector_slope_weights(s: Tensor, components: int) -> tuple[Tensor, Tensor]:
    r"""Mean slopes of ``g = h rho(|h|^2)`` of N components, ``<rho + 2 h^2 rho' / N>``, for both amplitudes."""
    n = components
    first = gaussian_mean(lambda h: (1 + h * h) ** -0.5 - h * h * (1 + h * h) ** -1.5 / n, s, n, 64 * NODES)
    second = gaussian_mean(lambda h: h * h * (1 + h * h + 2 / n) / (1 + h * h) ** 2, s, n, 64 * NODES)
    return first, second


def slope_ratio(variance: Tensor, components: int = 1) -> Tensor:
    r"""``(1 + m_2 - 2 m_4) / m_3`` at s^2, from a table: integrals for every feature would cost more than the network.

    The table holds ``P = ratio (1 + s) / s^2`` as a cubic spline in ``t = s / (1 + s)``, good to 1e-8; P falls from 3
    at s = 0 to (pi/2)^(1/2) at infinity. For N components it
    falls from N + 2 to ``N Gamma(N/2) / (2^(1/2) Gamma((N+1)/2))``.
    """
    s = variance.clamp(min=1e-12).sqrt()
    t = s / (1 + s)
    coefficients = _spline(s.dtype, str(s.device), components)
    interval = (t * KNOTS).long().clamp(0, KNOTS - 1)  # NaN, of a network that blew up, has no interval and stays NaN
    x = t - interval / KNOTS
    c3, c2, c1, c0 = coefficients[:, interval]
    return (((c3 * x + c2) * x + c1) * x + c0) * s * t


@functools.cache
def _spline(dtype: torch.dtype, device: str, components: int = 1) -> Tensor:
    knots = torch.arange(KNOTS + 1, dtype=torch.float64) / KNOTS
    s = (knots / (1 - knots))[1:-1]
    first, second = slope_weights(s) if components == 1 else vector_slope_weights(s, components)
    inside = second / first * (1 + s) / s**2
    least = math.sqrt(math.pi / 2)
    if components > 1:  # <1/h> of the longest features, times s
        logs = math.lgamma(0.5 * components) - math.lgamma(0.5 * components + 0.5)
        least = math.exp(logs) * components / math.sqrt(2)
    values = np.array([components + 2.0, *inside.tolist(), least])
    return torch.as_tensor(CubicSpline(knots.numpy(), values).c, device=device).to(dtype)


def feature_variance(
    gaussian: GaussianReference, inner: Tensor, v: Tensor, kernels_in: Tensor, differences: tuple[Tensor, Tensor]
) -> Tensor:
    r"""``s_f^2 = <h_f^2>`` for x ~ N(0, G + v), shape (n, F).

    Parameters
    ----------
    gaussian : GaussianReference
    inner : tensor, shape (n, J, *lattice)
        Input filters.
    v : tensor, shape (n, 1, ..., 1)
    kernels_in : tensor, shape (n, F, J, T)
    differences : tuple of tensors, int64
        The sites that are differences of two offsets of the kernel, and which of them each pair (T, T) has.
    """
    n, _, n_inputs, n_taps = kernels_in.shape
    sites, place = differences
    covariance = (gaussian.G + v)[:, None, None]
    products = (inner[:, :, None] * inner[:, None] * covariance).flatten(1, 2)
    D = gaussian.at_distances(products, sites)[..., place].unflatten(1, (n_inputs, n_inputs))
    D = D.transpose(2, 3).reshape(n, n_inputs * n_taps, -1)  # (j t, j' t')
    rows = kernels_in.flatten(2)
    return (torch.matmul(rows, D) * rows).sum(-1)


def ordered_amplitudes(
    gaussian: GaussianReference,
    inner: Tensor,
    v: Tensor,
    kernels_in: Tensor,
    amplitudes: Tensor,
    differences: tuple[Tensor, Tensor],
) -> Tensor:
    """Amplitudes (n, F, 2) whose features have the mean slope ``eta beta_1 m_3``.

    Parameters
    ----------
    gaussian, inner, v, kernels_in, differences
        See `feature_variance`.
    amplitudes : tensor, shape (n or 1, F, 2)
        ``(beta_1, alpha_2)``, as the network gives them.
    """
    ratio = slope_ratio(feature_variance(gaussian, inner, v, kernels_in, differences), gaussian.components or 1)
    slope, curved = amplitudes.unbind(-1)
    return torch.stack([_eta(gaussian, v).flatten(1) * slope - curved * ratio, curved], -1)


def baseline_linear(
    gaussian: GaussianReference, v: Tensor, W: Tensor, C: Tensor, screen: Tensor | None = None
) -> Tensor:
    """The multiplier ``eta l(k) - (1 - eta) lambda D(k)`` that replaces l(k), (n, *lattice) (theory page, eq. 15c).

    Parameters
    ----------
    gaussian : GaussianReference
    v : tensor, shape (n, 1, ..., 1)
    W, C : tensor, shape (n, *lattice)
    screen : tensor, shape (n, *lattice), optional
        D(k), `latticediff.networks.ridge.screening.screen`; one by default.
    """
    eta = _eta(gaussian, v)
    variance = gaussian.expand(gaussian.at_origin(W * gaussian.G))  # of y = W x
    if not gaussian.is_cubic:
        return eta * gaussian.linear - (1 - eta) * _mean_response(gaussian, variance, C) * _screened(screen)
    q = 4 * gaussian.quartic
    c, lift = local_response(gaussian, C)
    bend = 3 * q * c / lift  # f = q y (y^2 + 3c) / (lift (1 + bend y^2))
    if q == 0:
        return eta * gaussian.linear

    def slope(h: Tensor) -> Tensor:  # y f(y) / <y^2> with y = h / bend^(1/2)
        square = h * h / bend.flatten()[:, None]
        return q * square * (square + 3 * c.flatten()[:, None]) / (1 + h * h)

    mean = gaussian_mean(slope, (variance * bend).sqrt().flatten())
    counterterm = gaussian.expand(mean / (variance * lift).flatten())
    return eta * gaussian.linear - (1 - eta) * counterterm * _screened(screen)


def _screened(screen: Tensor | None) -> Tensor | float:
    return 1.0 if screen is None else screen


def _mean_response(gaussian: GaussianReference, variance: Tensor, C: Tensor) -> Tensor:
    """``<y f(y)> / <y^2>`` of the baseline's local part for y ~ N(0, variance), (n, 1, ..., 1); trapezoidal rule."""
    h = torch.linspace(-REACH, REACH, ORDINATES, dtype=variance.dtype, device=variance.device)
    weight = torch.exp(-0.5 * h * h)
    width = variance.flatten().sqrt()[:, None]
    c = gaussian.at_origin(C).reshape(-1, 1)
    f = local_part(gaussian, width * h, c.expand(len(width), 1), 0.0)
    return gaussian.expand((weight * h * f).sum(1) / (weight * h * h).sum() / width[:, 0])


def _eta(gaussian: GaussianReference, v: Tensor) -> Tensor:
    return gaussian.g_mean / (gaussian.g_mean + v)
