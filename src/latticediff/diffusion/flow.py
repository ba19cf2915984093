r"""Probability-flow ODE in whitened coordinates.

With :math:`y = (G + \sigma^2)^{-1/2} x` the linear part is solved exactly and only the residual is
integrated (theory page, eqs. 16 and 17):

.. math::
    \frac{dy}{d\log\sigma} = (G + v)^{-1/2} C R, \qquad \mathrm{div}_y = \mathrm{tr}(C\,\partial R/\partial x),

.. math::
    \log q(\phi) = \log N(y_{max}; 0, 1) - \tfrac12 \sum_k \log(G + \sigma_{min}^2) + \int \mathrm{div}\; d\log\sigma.
"""

import math

import torch

from .runge_kutta import integrate

__all__ = ["ProbabilityFlow"]


class ProbabilityFlow:
    """The flow of one score model between its lowest and its highest noise level.

    Parameters
    ----------
    network : callable
        ``network(background, x, log_sigma, trace=True) -> (R, tr(C dR/dx))``.
    background : latticediff.score.background.Background
    grid : ndarray
        log sigma, descending from sigma_max to sigma_min.
    method : latticediff.diffusion.runge_kutta.Scheme
    """

    def __init__(self, network, background, grid, method):
        self.network, self.background, self.grid, self.method = network, background, grid, method

    @property
    def evaluations(self):
        """Network evaluations of one passage."""
        return (len(self.grid) - 1) * len(self.method.nodes)

    def slope(self, y, log_sigma):
        """``(dy/dlog sigma, tr(C dR/dx))`` at one noise level."""
        background = self.background
        v = math.exp(2 * log_sigma)
        level = torch.full((1,), log_sigma, dtype=y.dtype, device=y.device)
        root = torch.sqrt(background.G + v)
        x = background.filter(y, root)
        R, trace = self.network(background, x, level, trace=True)
        C = background.G * v / (background.G + v)
        return background.filter(R, C / root), trace

    @torch.no_grad()
    def down(self, y):
        """From noise to field.

        Parameters
        ----------
        y : tensor, shape (n, *lattice)
            Standard normal.

        Returns
        -------
        phi : tensor, shape (n, *lattice)
        log_q : tensor, shape (n,), float64
        """
        y_low, integral = integrate(self.slope, y, self.grid, self.method)
        v = math.exp(2 * self.grid[-1])
        return self.background.colour(y_low, v), self._log_q(y, -integral, v)

    @torch.no_grad()
    def up(self, phi):
        """From field to noise; ``log_q`` of the field as `down` would have given it.

        Returns
        -------
        y : tensor, shape (n, *lattice)
        log_q : tensor, shape (n,), float64
        """
        v = math.exp(2 * self.grid[-1])
        y, integral = integrate(self.slope, self.background.whiten(phi, v), self.grid[::-1], self.method)
        return y, self._log_q(y, integral, v)

    def _log_q(self, y_max, integral, v_min):
        normal = -0.5 * (y_max.double() ** 2).flatten(1).sum(1)
        constant = -0.5 * self.background.volume * math.log(2 * math.pi) - self.background.half_log_det(v_min)
        return normal + constant + integral
