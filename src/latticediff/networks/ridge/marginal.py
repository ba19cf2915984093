r"""What integrated-out sites do to the force, as ridge features in closed form.

With the even sites integrated out (`latticediff.action.OddSites`) the force on an odd site has the part
:math:`-c \sum_y [m(h_y) - \chi h_y]` over its even neighbours, m(h) being the mean of a site in the field h and
:math:`\chi = m'(0)`. Given the noised field, :math:`h_y` is to first order Gaussian around
:math:`\bar h_y = c \sum_{x \sim y} (W x)_x` with the variance :math:`s^2 = c^2 V^{-1} \sum_k |n(k)|^2 C(k)`, n(k) the
sum over the neighbours, hence the mean

.. math:: M(\bar h) = \langle m(\bar h + s \xi) \rangle_\xi - \chi \bar h
          \approx \sum_{i=1}^{4} h_i \Big[\frac{\alpha_i}{(1 + h_i^2)^{1/2}} + \beta_i \frac{h_i^2}{1 + h_i^2}\Big],
          \qquad h_i = \gamma_i \bar h ,

four ridge functions with fixed gains and fitted amplitudes, good to 1e-4 of M in the mean. They stand beside
the network's own features and add nothing to the trace but their slopes. Under normal ordering they too have no linear
response at large noise.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from ...action import OddSites
from ...errors import UserError
from ...gaussian.reference import GaussianReference
from ...lattice import momenta
from ...types import FloatArray, Shape
from .normal_ordering import slope_ratio

__all__ = ["SiteFeatures", "site_features"]

GAINS = (0.3, 0.7, 1.4, 3.0)  # of h over the field at which m bends
LOG_SIGMA = np.linspace(-7.0, 5.0, 97)  # of the table
POINTS, REACH, FLOOR = 240, 5.0, 3e-3  # of the fit: points up to so many standard deviations, least weight
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
WEIGHTS /= WEIGHTS.sum()
RIDGE = 1e-9  # of the normal equations, so that amplitudes are smooth in sigma
#: taps around an even site of the array, in units of the unit vectors, and around an odd one
INTO, OUTWARD = ((0, 0), (0, 1), (-1, 0), (-1, 1)), ((0, 0), (0, -1), (1, 0), (1, -1))


class SiteFeatures(NamedTuple):
    """Features in the form of the network's own."""

    kernels_in: Tensor  #: (K, J, T)
    gain_in: Tensor  #: (n, K, J)
    amplitudes: Tensor  #: (n, K, 2), normal ordered if that is asked for
    kernels_out: Tensor  #: (M, K, T)
    gain_out: Tensor  #: (n, M, K)


class Table:
    """Amplitudes of one reference at all noise levels, and what goes with them."""

    def __init__(self, odd: OddSites, G: FloatArray) -> None:
        k = momenta(G.shape)
        waves: Any = sum(np.exp(1j * sum(n * a for n, a in zip(offset, k, strict=True))) for offset in odd.neighbours)
        weight = odd.hopping**2 * np.abs(waves) ** 2
        self.scale = _bend(odd)
        rows = [self._fit(odd, weight, G, math.exp(2 * log_sigma)) for log_sigma in LOG_SIGMA]
        self.coefficients = torch.as_tensor(CubicSpline(LOG_SIGMA, np.array(rows)).c)

    def _fit(self, odd: OddSites, weight: FloatArray, G: FloatArray, v: float) -> FloatArray:
        """Amplitudes (2 K), gains (K) and the variance of h-bar at one noise level."""
        W = G / (G + v)
        posterior, variance = float((weight * v * W).mean()), float((weight * W * G).mean())
        gains = np.array(GAINS) / math.sqrt(self.scale**2 + posterior)
        h = np.linspace(0.0, REACH * math.sqrt(variance), POINTS)
        # where the tables of a site end there is nothing to be fitted any more
        around = np.clip(h[:, None] + math.sqrt(posterior) * NODES, -odd.site.reach, odd.site.reach)
        M = odd.log_z(around)[1] @ WEIGHTS - odd.response * h
        u = h[:, None] * gains
        r2 = 1 / (1 + u * u)
        columns = np.concatenate([u * np.sqrt(r2), u * (1 - r2)], 1)
        root = np.sqrt(np.exp(-0.5 * h * h / variance) + FLOOR)
        design = columns * root[:, None]
        normal = design.T @ design
        found = np.linalg.solve(normal + RIDGE * np.trace(normal) * np.eye(len(normal)), design.T @ (M * root))
        return np.array([*found, *gains, variance])

    def at(self, log_sigma: Tensor) -> Tensor:
        """Amplitudes, gains and variance at noise levels (n,), (n, 3 K + 1)."""
        table = self.coefficients.to(log_sigma.device, log_sigma.dtype)
        step = float(LOG_SIGMA[1] - LOG_SIGMA[0])
        interval = ((log_sigma - float(LOG_SIGMA[0])) / step).long().clamp(0, len(LOG_SIGMA) - 2)
        x = (log_sigma - float(LOG_SIGMA[0]) - step * interval)[:, None]
        c3, c2, c1, c0 = table[:, interval]
        return ((c3 * x + c2) * x + c1) * x + c0


@functools.lru_cache(maxsize=16)
def _table(odd: OddSites, propagator: bytes, shape: Shape) -> Table:
    # by value: the same reference is made again for another precision, device or step of fine-tuning
    return Table(odd, np.frombuffer(propagator).reshape(shape))


def _bend(odd: OddSites) -> float:
    """The field at which the mean of a site bends, ``(m'(0) / |m'''(0)|)^(1/2)``; where it does not, m'(0)^(-1/2)."""
    step = 0.25 / math.sqrt(odd.response)
    up = odd.log_z(np.array([[step, 2 * step]]))[1][0]
    third = abs(up[1] - 2 * up[0]) / step**3
    width = 1 / math.sqrt(odd.response)
    return min(math.sqrt(odd.response / third), 30 * width) if third > 0 else width


def site_features(
    gaussian: GaussianReference,
    log_sigma: Tensor,
    offsets: tuple[tuple[int, ...], ...],
    shape: tuple[int, int],
    eta: Tensor | None,
) -> SiteFeatures | None:
    """The features of a reference whose even sites are integrated out; None for any other.

    Parameters
    ----------
    gaussian : GaussianReference
    log_sigma : tensor, shape (n,)
    offsets : tuple of tuple of int
        Of the network's taps, in units of the unit vectors.
    shape : tuple of int
        Numbers of input and of output fields; the second input is 2 W x, the first output flat.
    eta : tensor, shape (n, 1), optional
        Of normal ordering; None: there is none.

    Raises
    ------
    UserError
        If the kernels do not reach the neighbours.
    """
    if not isinstance(gaussian.action, OddSites):
        return None
    if not set(INTO) <= set(offsets):
        raise UserError("network.kernel_size is 1; odd sites want at least 3, which reaches their neighbours")
    table = _table(gaussian.action, gaussian.propagator_full.cpu().numpy().tobytes(), gaussian.shape)
    n, K, T = len(log_sigma), len(GAINS), len(offsets)
    found = table.at(log_sigma)
    first, second, gains, variance = found[:, :K], found[:, K : 2 * K], found[:, 2 * K : 3 * K], found[:, 3 * K :]
    if eta is not None:
        ratio = slope_ratio(gains * gains * variance)
        first = eta * (first + second * ratio) - second * ratio
    hopping = gaussian.action.hopping
    zeros = functools.partial(torch.zeros, dtype=found.dtype, device=found.device)
    kernels_in, kernels_out = zeros(K, shape[0], T), zeros(shape[1], K, T)
    kernels_in[:, 1, [offsets.index(o) for o in INTO]] = 1
    kernels_out[0][:, [offsets.index(o) for o in OUTWARD]] = 1
    gain_in, gain_out = zeros(n, K, shape[0]), zeros(n, shape[1], K)
    gain_in[:, :, 1] = 0.5 * hopping * gains
    gain_out[:, 0] = (-hopping * (0.3 + log_sigma.exp()))[:, None]
    return SiteFeatures(kernels_in, gain_in, torch.stack([first, second], -1), kernels_out, gain_out)
