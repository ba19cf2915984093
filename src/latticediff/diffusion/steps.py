r"""Reverse steps: densities :math:`p(x_{i-1} | x_i)` that can be drawn from and evaluated exactly.

All have the mean of Tweedie's formula, :math:`x + \Delta s`. For the exact score that is the true mean, and the true
covariance is :math:`\Delta + \Delta^2 \nabla s` (second-order Tweedie), which depends on x. What is left over is
written as a map of standard normal noise z,

.. math:: r = A^{1/2}\, e^{\frac12 K g K}\, T(z), \qquad
          \log\Big|\frac{\partial r}{\partial z}\Big| = \tfrac12 \sum_k \log A(k) + \tfrac12\, \overline{K^2} \sum_x g_x
          + \sum_x \log T_x'(z_x),

with A and K diagonal in momentum, :math:`\overline{K^2} = V^{-1} \sum_k K^2 = 1`, and g and the skewness of T on sites,
functions of :math:`x_i` alone. The determinant of an exponential is the exponential of a trace, so the covariance may
vary from site to site *and* be dressed by K at no cost in exactness (theory page, eqs. 20 to 22).

- `GaussianStep`: g = 0, T = 1: the field-independent covariance A.
- `SiteStep`: K = 1: variances that vary over sites.
- `DressedStep`: K = W / A^(1/2): the curvature of the action acts through the response W to it.
"""

import math

import numpy as np
from scipy.special import k0, k1

from .layout import Array, Layout

__all__ = ["STEPS", "DressedStep", "GaussianStep", "SiteStep", "curvature", "series_length"]

LOG_2PI = math.log(2 * math.pi)
ACCURACY = 1e-10  #: of the exponential series, relative to the field, at the largest response there can be
SKEW_CAP = 0.5  #: largest bend of the skewed normal; below 1 it is monotone

# moments of s = sqrt(1 + z^2) - M1 over the standard normal
M1 = math.exp(0.25) * (k0(0.25) + k1(0.25)) / math.sqrt(8 * math.pi)
V1 = 2 - M1 * M1
_z = np.linspace(-12, 12, 24_001)
A1 = float(np.trapezoid(_z**2 * (np.sqrt(1 + _z**2) - M1) * np.exp(-0.5 * _z**2), _z) / math.sqrt(2 * math.pi))


def _log(x: Array) -> Array:
    return np.log(x) if isinstance(x, np.ndarray) else x.log()


def _exp(x: Array) -> Array:
    return np.exp(x) if isinstance(x, np.ndarray) else x.exp()


def curvature(b: float, c: float) -> float:
    r"""kappa of the local response :math:`f(D) = 1 / (1 + \kappa D^2)`: the variance of a site around its mean D.

    A site of width c in the potential ``b phi^4`` has the variance ``c / (1 + c h)``, ``h = 12 b (D^2 + c)``; f is that
    in units of its value at D = 0.
    """
    return 12 * b * c / (1 + 12 * b * c * c)


def series_length(norm: float) -> int:
    """Number of terms after which the exponential series of an operator of this norm has converged to `ACCURACY`."""
    term, n = 1.0, 0
    while term > ACCURACY or n < norm:
        n += 1
        term *= norm / n
    return max(n, 1)


class GaussianStep:
    """Noise of covariance A(k), whatever the field.

    Parameters
    ----------
    modes : Layout
        See `latticediff.diffusion.layout`.
    covariance : array
        A(k) on the real Fourier basis.
    """

    def __init__(self, modes: Layout, covariance: Array) -> None:
        self.modes, self.covariance = modes, covariance
        self.root = covariance**0.5
        self.log_det = float(0.5 * _log(covariance).sum())

    def draw(self, noise: Array, x: Array, s: Array) -> tuple[Array, Array]:
        """The step r from standard normal noise (n, *layout), and ``log p(r | x)``, (n,).

        Parameters
        ----------
        noise, x, s : array, shape (n, *layout)
            Noise, the field at the upper level and the score there.
        """
        return self.modes.multiply(noise, self.root), self._log_normal(noise) - self.log_det

    def retrace(self, step: Array, x: Array, s: Array) -> tuple[Array, Array]:
        """The noise from which `draw` makes this step, (n, *layout), and ``log p(r | x)``, (n,)."""
        noise = self.modes.multiply(step, 1 / self.root)
        return noise, self._log_normal(noise) - self.log_det

    def _log_normal(self, noise: Array) -> Array:
        return -0.5 * (self.modes.total(noise * noise) + self.modes.volume * LOG_2PI)


class SiteStep(GaussianStep):
    r"""Variances that follow the field: ``g = log d``, :math:`d_x = 1 + \tau (f(D_x) - \bar f)`, D the denoised field.

    Their skewness needs no further parameter: ``p(x_{i-1} | x_i)`` is an exponential family in ``x_i / Delta``, so its
    third cumulant is Delta times the derivative of its covariance.

    Parameters
    ----------
    modes, covariance
        See `GaussianStep`.
    variance, delta : float
        v_i and Delta_i.
    kappa : float
        See `curvature`.
    tau, f_mean : float
        Strength of the response in this step, and the mean of f, from `latticediff.diffusion.calibration`.
    response : array, optional
        K(k) up to normalisation; default 1.
    skew : bool
        Without it T = 1.
    """

    def __init__(
        self,
        modes: Layout,
        covariance: Array,
        variance: float,
        delta: float,
        kappa: float,
        tau: float,
        f_mean: float,
        response: Array | None = None,
        skew: bool = True,
    ) -> None:
        super().__init__(modes, covariance)
        self.variance, self.delta, self.kappa = float(variance), float(delta), float(kappa)
        # d must stay positive where f -> 0, at large fields
        self.tau, self.f_mean = min(float(tau), 0.95 / f_mean), float(f_mean)
        self.site_variance = float(covariance.mean())
        self.K, vertex, largest = None, 1.0, 1.0
        if response is not None:
            self.K = response / float((response * response).mean()) ** 0.5
            vertex, largest = float(self.K.mean()) ** 3, float((self.K * self.K).max())
        bounds = np.log1p(self.tau * (np.array([0.0, 1.0]) - self.f_mean))
        self.n_terms = series_length(0.5 * largest * float(np.abs(bounds).max()))
        self.vertex = vertex if skew else 0.0

    def local(self, x: Array, s: Array) -> tuple[Array, Array]:
        """``(g, eta)`` on sites: logarithm of the variances, bend of the skewed normal."""
        D = self.modes.to_sites(x + self.variance * s)
        f = 1 / (1 + self.kappa * D * D)
        d = 1 + self.tau * (f - self.f_mean)
        # dD/dx = Cov(phi | x) / v, from the variance of the step less that of the bridge between the levels
        bridge = self.delta * (1 - self.delta / self.variance)
        response = (self.site_variance * d - bridge).clip(0.0) * (self.variance / self.delta**2)
        slope = (-2 * self.tau * self.kappa) * D * f * f
        skewness = (self.vertex * self.delta / self.site_variance**0.5) * slope * response / d**1.5
        bend = skewness / (3 * A1)
        return _log(d), bend / (1 + (bend / SKEW_CAP) ** 2) ** 0.5

    def draw(self, noise: Array, x: Array, s: Array) -> tuple[Array, Array]:
        modes = self.modes
        g, eta = self.local(x, s)
        z = modes.white_to_sites(noise)
        wave = (1 + z * z) ** 0.5
        width = (1 + V1 * eta * eta) ** 0.5
        bent = (z + eta * (wave - M1)) / width
        step = modes.multiply(self._dress(modes.from_sites(bent), bent, g, 1), self.root)
        return step, self._log_normal(noise) - self._log_jacobian(g, eta, z, wave, width)

    def retrace(self, step: Array, x: Array, s: Array) -> tuple[Array, Array]:
        modes = self.modes
        g, eta = self.local(x, s)
        bare = modes.multiply(step, 1 / self.root)
        bent = modes.to_sites(self._dress(bare, None, g, -1))
        width = (1 + V1 * eta * eta) ** 0.5
        u = bent * width + eta * M1
        z = (u - eta * (u * u + 1 - eta * eta) ** 0.5) / (1 - eta * eta)
        noise = modes.white_from_sites(z)
        return noise, self._log_normal(noise) - self._log_jacobian(g, eta, z, (1 + z * z) ** 0.5, width)

    def _dress(self, field: Array, sites: Array | None, g: Array, sign: int) -> Array:
        if self.K is None:
            modes = self.modes
            return modes.from_sites(_exp((0.5 * sign) * g) * (modes.to_sites(field) if sites is None else sites))
        return self.modes.dress(field, g, self.K, self.n_terms, sign)

    def _log_jacobian(self, g: Array, eta: Array, z: Array, wave: Array, width: Array) -> Array:
        slope = (1 + eta * z / wave) / width
        return self.log_det + self.modes.total(0.5 * g + _log(slope))


class DressedStep(SiteStep):
    """As `SiteStep`, with the response W between field and curvature: nothing but cumulants beyond the second is left.

    Parameters
    ----------
    modes, covariance, variance, delta, kappa, tau, f_mean
        See `SiteStep`.
    response : array
        ``W / A^(1/2)``.
    """


STEPS = ("gaussian", "site", "dressed")
