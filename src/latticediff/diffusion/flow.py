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
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..gaussian.reference import GaussianReference
from ..gaussian.vacua import vacua
from ..networks.contract import Residual
from ..types import FloatArray
from .runge_kutta import Method, Scheme, integrate

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

    def __init__(
        self,
        network: Residual,
        gaussian: GaussianReference,
        grid: FloatArray,
        method: Method,
        recompute: bool = False,
        up_grid: FloatArray | None = None,
    ) -> None:
        self.network, self.gaussian, self.grid, self.method = network, gaussian, grid, method
        self.up_grid = grid if up_grid is None else up_grid
        self.recompute = recompute and isinstance(method, Scheme)
        self.vacua, self._upper = vacua(gaussian), gaussian.upper()

    @property
    def evaluations(self) -> int:
        """Network evaluations of one passage."""
        return self.method.evaluations(len(self.grid) - 1)

    def slope(self, y: Tensor, log_sigma: float, trace: bool = True) -> tuple[Tensor, Tensor | float]:
        """``dy/dlog sigma`` (n, *lattice) and ``tr(C dR/dx)`` (n,) at one noise level (theory page, eq. 16).

        Without `trace` the second is 0.0. A state in another precision than the network's stays in its own.
        """
        gaussian, own = self._like(y), self.gaussian.dtype
        v = math.exp(2 * log_sigma)
        level = torch.full((1,), log_sigma, dtype=own, device=y.device)
        root = torch.sqrt(gaussian.G + v)
        x = gaussian.filter(y, root) + gaussian.centre(1.0)
        R, tr = self.network(self._upper, x.to(own), level, trace=trace)
        C = gaussian.G * v / (gaussian.G + v)
        return gaussian.filter(R.to(y.dtype), C / root), 0.0 if tr is None else tr

    def _like(self, y: Tensor) -> GaussianReference:
        """The reference in the precision of a state."""
        return self.gaussian if y.dtype == self.gaussian.dtype else self.gaussian.to(dtype=y.dtype)

    def down(self, y: Tensor, gradients: bool = False) -> tuple[Tensor, Tensor]:
        """From noise to field (theory page, eq. 17).

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
            phi = self.vacua.fields(sign, self._like(y).colour(y_low, v))
            return phi, self.vacua.admit(sign, phi, self._log_q(y, -integral, v))

    def field(self, y: Tensor) -> Tensor:
        """The field of `down` without its density, (n, *lattice), with gradients; it needs no trace and costs less."""
        sign, y = self.vacua.enter(y)
        y_low, _ = self._integrate(lambda y, t: self.slope(y, t, trace=False), y, self.grid)
        return self.vacua.fields(sign, self.gaussian.colour(y_low, math.exp(2 * self.grid[-1])))

    def up(self, phi: Tensor, gradients: bool = False, weights: bool = True) -> tuple[Tensor, Tensor]:
        """From field to noise, with the ``log_q`` of the field that `down` would have given.

        Parameters
        ----------
        phi : tensor, shape (n, *lattice)
        gradients : bool
            As in `down`.
        weights : bool
            False: only the gradient with respect to `phi` is wanted, for which a compiled flow needs less time.

        Returns
        -------
        y : tensor, shape (n, *lattice)
        log_q : tensor, shape (n,), float64
        """
        v = math.exp(2 * self.grid[-1])
        with torch.set_grad_enabled(gradients):
            sign, fluctuation = self.vacua.fluctuations(phi)
            y, integral = self._integrate(self.slope, self._like(phi).whiten(fluctuation, v), self.up_grid[::-1])
            return self.vacua.leave(sign, y), self._log_q(y, integral, v)

    def _integrate(
        self, rhs: Callable[[Tensor, float], tuple[Tensor, Any]], y: Tensor, grid: FloatArray
    ) -> tuple[Tensor, Any]:
        if not (self.recompute and torch.is_grad_enabled()):
            return integrate(rhs, y, grid, self.method)
        total: Any = 0.0
        for pair in itertools.pairwise(grid):
            y, integral = checkpoint(integrate, rhs, y, pair, self.method, use_reentrant=False)
            total = total + integral
        return y, total

    def _log_q(self, y_max: Tensor, integral: Tensor, v_min: float) -> Tensor:
        normal = -0.5 * (y_max.double() ** 2).flatten(1).sum(1)
        constant = -0.5 * self.gaussian.volume * math.log(2 * math.pi) - self.gaussian.half_log_det(v_min)
        return normal + constant + integral + self.vacua.log_probability
