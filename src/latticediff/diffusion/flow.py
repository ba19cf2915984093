r"""Probability-flow ODE in whitened coordinates.

With :math:`y = (G + \sigma^2)^{-1/2} x` the linear part is solved exactly and only the residual is
integrated (theory page, eqs. 16 and 17):

.. math::
    \frac{dy}{d\log\sigma} = (G + v)^{-1/2} C R, \qquad \mathrm{div}_y = \mathrm{tr}(C\,\partial R/\partial x),

.. math::
    \log q(\phi) = \log N(y_{max}; 0, 1) - \tfrac12 \sum_k \log(G + \sigma_{min}^2) + \int \mathrm{div}\; d\log\sigma.
"""

import itertools
import math

import torch
from torch.utils.checkpoint import checkpoint

from ..gaussian.vacua import vacua
from .runge_kutta import Scheme, integrate

__all__ = ["ProbabilityFlow"]


class ProbabilityFlow:
    """The flow of one score model between its lowest and its highest noise level.

    Parameters
    ----------
    network : callable
        ``network(gaussian, x, log_sigma, trace=True) -> (R, tr(C dR/dx))``.
    gaussian : latticediff.gaussian.reference.GaussianReference
    grid : ndarray
        log sigma, descending from sigma_max to sigma_min.
    method : latticediff.diffusion.runge_kutta.Scheme or latticediff.diffusion.multistep.Adams
    recompute : bool
        Where gradients are wanted, keep only the state between steps and compute each step once more on
        the way back: memory of one step instead of all, for a third more time and the same bits.
        A multistep scheme has no steps that stand alone and is kept whole.
    up_grid : ndarray, optional
        Of `up`, descending too; by default the same.
    """

    def __init__(self, network, gaussian, grid, method, recompute=False, up_grid=None):
        self.network, self.gaussian, self.grid, self.method = network, gaussian, grid, method
        self.up_grid = grid if up_grid is None else up_grid
        self.recompute = recompute and isinstance(method, Scheme)
        self.vacua, self._upper = vacua(gaussian.vacuum, gaussian.volume), gaussian.upper()

    @property
    def evaluations(self):
        """Network evaluations of one passage."""
        return self.method.evaluations(len(self.grid) - 1)

    def slope(self, y, log_sigma, trace=True):
        """``(dy/dlog sigma, tr(C dR/dx))`` at one noise level; 0 for the trace if it is not asked for."""
        gaussian = self.gaussian
        v = math.exp(2 * log_sigma)
        level = torch.full((1,), log_sigma, dtype=y.dtype, device=y.device)
        root = torch.sqrt(gaussian.G + v)
        x = gaussian.filter(y, root) + gaussian.vacuum
        R, tr = self.network(self._upper, x, level, trace=trace)
        C = gaussian.G * v / (gaussian.G + v)
        return gaussian.filter(R, C / root), 0.0 if tr is None else tr

    def down(self, y, gradients=False):
        """From noise to field.

        Parameters
        ----------
        y : tensor, shape (n, *lattice)
            Standard normal.
        gradients : bool
            Let both results be differentiated by the weights and by `y`: the derivatives of the discrete map.

        Returns
        -------
        phi : tensor, shape (n, *lattice)
        log_q : tensor, shape (n,), float64
        """
        v = math.exp(2 * self.grid[-1])
        with torch.set_grad_enabled(gradients):
            sign, y = self.vacua.enter(y)
            y_low, integral = self._integrate(self.slope, y, self.grid)
            phi = self.vacua.fields(sign, self.gaussian.colour(y_low, v))
            return phi, self.vacua.admit(sign, phi, self._log_q(y, -integral, v))

    def field(self, y):
        """The field of `down` without its density, with gradients: no trace to pay for."""
        sign, y = self.vacua.enter(y)
        y_low, _ = self._integrate(lambda y, t: self.slope(y, t, trace=False), y, self.grid)
        return self.vacua.fields(sign, self.gaussian.colour(y_low, math.exp(2 * self.grid[-1])))

    def up(self, phi, gradients=False, weights=True):
        """From field to noise; ``log_q`` of the field as `down` would have given it. `gradients` as there.

        With `weights` false only the gradient by `phi` is wanted, which a compiled flow gives for less.

        Returns
        -------
        y : tensor, shape (n, *lattice)
        log_q : tensor, shape (n,), float64
        """
        v = math.exp(2 * self.grid[-1])
        with torch.set_grad_enabled(gradients):
            sign, fluctuation = self.vacua.fluctuations(phi)
            y, integral = self._integrate(self.slope, self.gaussian.whiten(fluctuation, v), self.up_grid[::-1])
            return self.vacua.leave(sign, y), self._log_q(y, integral, v)

    def _integrate(self, rhs, y, grid):
        if not (self.recompute and torch.is_grad_enabled()):
            return integrate(rhs, y, grid, self.method)
        total = 0.0
        for pair in itertools.pairwise(grid):
            y, integral = checkpoint(integrate, rhs, y, pair, self.method, use_reentrant=False)
            total = total + integral
        return y, total

    def _log_q(self, y_max, integral, v_min):
        normal = -0.5 * (y_max.double() ** 2).flatten(1).sum(1)
        constant = -0.5 * self.gaussian.volume * math.log(2 * math.pi) - self.gaussian.half_log_det(v_min)
        return normal + constant + integral + self.vacua.log_probability
