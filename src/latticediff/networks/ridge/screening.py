r"""Screening: what a local function may do to a long wave.

At noise sigma a mode k has the response C(k) = G v / (G + v) left, and moves along the flow by C(k) R(k). A sum of
local functions knows no momentum: it drives the zero mode, with C(0) a few hundred times the mean, as hard as it
drives the shortest one. The true residual does not: fluctuations screen it, so that the growth C R / x of every
critical mode is a number of order one, the same for all L. Here all that is local in R, the baseline's cubic and
the features, passes the filter

.. math:: D(k) = \frac{1 + a}{1 + a\, C(k) / \bar c}, \qquad \bar c = \frac1V \sum_k C(k), \qquad a = \frac14,

which is one for all modes at small noise, where C = v. It is a multiplier in momentum, so the trace stays closed form.
"""

from torch import Tensor

from ...gaussian.reference import GaussianReference

__all__ = ["screen"]

STRENGTH = 0.25


def screen(gaussian: GaussianReference, C: Tensor) -> Tensor:
    """The screening filter D(k), (n, *lattice), for posterior covariances C (n, *lattice) (theory page, eq. 15d)."""
    mean = gaussian.expand(gaussian.at_origin(C))
    return (1 + STRENGTH) / (1 + STRENGTH * C / mean)
