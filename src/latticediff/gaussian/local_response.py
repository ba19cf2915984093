r"""The local part of the baseline for any local force: a site in its Gaussian surroundings, to first order.

With :math:`y = W x` around the vacuum :math:`m_0`, the posterior variance c of a site, and F averaged over it,

.. math:: f(y) = \frac{\langle F(y + \eta) \rangle_c - F'(m_0)\, y + t}
          {\tfrac12 + \mathrm{pos}\big(\tfrac12 + c\,[F'(y) - F'(m_0)]\big)}, \qquad
          \mathrm{pos}(u) = \tfrac12 \big(u + \sqrt{u^2 + \delta^2}\big), \quad \delta = \tfrac12 \frac{c}{c + \bar G},

with the constant t of `GaussianReference.tilt`. It is :math:`\Delta F` at c = 0 and grows no faster than linearly for
c > 0 where F is a polynomial. Where the force falls, between two wells, a site is anything but Gaussian, and f is at
most doubled. `latticediff.gaussian.baseline` has the closed form for phi^4, with a clamp in place of pos.

Compiled flows evaluate f as a cubic spline (`local_spline`), and its exact derivative, so the density that they follow
is that of the map which they make.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ..errors import UserError
from ..types import FloatArray

if TYPE_CHECKING:
    from .reference import GaussianReference, Signs

__all__ = ["LocalSpline", "local_part", "local_spline", "reach"]

PIECES = 384  #: of the spline; the first and the last are straight
LEAST = 0.5  #: of the denominator
RARE = 60.0  #: action of a site above the least beyond which no configuration has a field
SAMPLES = 2048  #: of the potential, on either side of m_0
LIMIT = 1e8  #: a potential that has not risen there, in units of <phi^2>^(1/2), does not hold the field


def local_part(gaussian: "GaussianReference", y: Tensor, c: Tensor, signs: "Signs") -> Tensor:
    """f(y) of the module's formula, shape of y.

    Parameters
    ----------
    gaussian : GaussianReference
    y : tensor, shape (n, ...)
        Fields, the vacuum included.
    c : tensor, shape (n, 1, ..., 1)
        Posterior variance of a site.
    signs : tensor, shape (n, 1, ..., 1), or float
        Of the vacua.
    """
    action = gaussian.action
    force = action.local_force(y, c, gaussian.vacuum) + signs * gaussian.tilt
    bent = c * (action.local_curvature(y) - action.local_curvature(gaussian.vacuum))
    soft = 0.5 * c / (c + gaussian.g_mean)
    bent = bent + 1 - LEAST
    return force / (LEAST + 0.5 * (bent + (bent * bent + soft * soft).sqrt()))


def with_slope(gaussian: "GaussianReference", y: Tensor, c: Tensor, signs: "Signs") -> tuple[Tensor, Tensor]:
    """``(f, df/dy)`` of `local_part`; both can be differentiated by y where gradients are on."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = y if y.requires_grad else y.detach().requires_grad_()
        value = local_part(gaussian, leaf, c, signs)
        (slope,) = torch.autograd.grad(value.sum(), leaf, create_graph=graph)
    return (value, slope) if graph else (value.detach(), slope)


def reach(gaussian: "GaussianReference") -> tuple[float, float]:
    """Smallest and largest field that a site can have: beyond, a constant field costs `RARE` more per site.

    Raises
    ------
    UserError
        If the local potential and the smallest K(k) hold the field nowhere.
    """
    action, unit = gaussian.action, gaussian.g_mean**0.5
    stiffness = float(action.quadratic_form(gaussian.shape).min())
    width = 4 * unit
    while width < LIMIT * unit:
        y = gaussian.vacuum + np.linspace(-width, width, 2 * SAMPLES + 1)
        force = np.asarray(stiffness * y + action.local_force(y), np.float64)
        steps = 0.5 * (force[1:] + force[:-1]) * np.diff(y)
        energy = np.concatenate([[0.0], np.cumsum(steps)])
        allowed = np.flatnonzero(energy <= energy.min() + RARE)
        if allowed[0] > 0 and allowed[-1] < len(y) - 1:
            return float(y[allowed[0]]), float(y[allowed[-1]])
        width *= 2
    raise UserError(f"{action!r}: nothing holds the field within {LIMIT:g} times its width; is exp(-S) integrable?")


class LocalSpline(NamedTuple):
    """f at several noise levels as cubic polynomials between equidistant knots."""

    coefficients: FloatArray  #: (n_levels, PIECES, 4): of ``t^3, t^2, t, 1``, t counted from the left knot in intervals
    low: float  #: the first knot
    inverse_width: float  #: of an interval


def local_spline(gaussian: "GaussianReference", c: Tensor) -> LocalSpline:
    """The spline through `local_part` at posterior variances c (n,); straight beyond the `reach` of a site.

    Parameters
    ----------
    gaussian : GaussianReference
        Around one vacuum, or the upper one of two.
    c : tensor, shape (n,)
    """
    first, last = reach(gaussian)
    knots = torch.linspace(first, last, PIECES - 1, dtype=torch.float64)
    value, slope = with_slope(gaussian, knots.expand(len(c), -1), c.double()[:, None], 1.0)
    width = float(knots[1] - knots[0])
    values, ends = value.detach().numpy(), slope.detach().numpy()[:, [0, -1]] * width
    coefficients = np.zeros((len(c), PIECES, 4))
    for level, (row, (left, right)) in enumerate(zip(values, ends, strict=True)):
        spline = CubicSpline(np.arange(len(row)), row, bc_type=((1, left), (1, right)))
        coefficients[level, 1:-1] = spline.c.T
        coefficients[level, 0, 2:] = left, row[0] - left
        coefficients[level, -1, 2:] = right, row[-1]
    return LocalSpline(coefficients, first - width, 1 / width)
