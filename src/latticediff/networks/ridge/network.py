r"""The ridge score network: one hidden layer whose divergence is closed form.

.. math::
    R(x, \sigma) = R_0 + \sum_{m f} O_m * B_{m f} * g_f(h_f), \qquad h_f = \sum_j A_{f j} * I_j * x,

with small periodic kernels A and B, spectral filters

.. math:: I = \{(G+v)^{-1/2},\; 2 W,\; (\bar G+v)^{-1/2}\}, \qquad O = o\,\{1, W\},\; o = 1/(0.3 + \sigma),

and odd pointwise functions with amplitudes that depend on sigma,
:math:`g(h) = h\,[\alpha_1 r + \alpha_2 (1 - r^2)]`, :math:`r = (1 + h^2)^{-1/2}`, which grow at most
linearly. phi -> -phi and translations are built in. The trace needs no derivative of the network:

.. math:: \mathrm{tr}(C\,\partial R/\partial x) = \sum_f \kappa_f \sum_y g_f'(h_f(y)), \qquad
          \kappa_f = V^{-1} \sum_k \hat A_f(k)\, \hat B_f(k)\, C(k).
"""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..._kernels.flow import Levels
from ...gaussian.baseline import implicit_baseline
from ...gaussian.reference import GaussianReference
from .base import N_INPUT, N_OUTPUT, Ridge
from .core import ridge_core
from .normal_ordering import baseline_linear, ordered_amplitudes
from .tables import level_tables

__all__ = ["N_INPUT", "N_OUTPUT", "RidgeNetwork"]


class RidgeNetwork(Ridge):
    """Ridge network for any lattice of `ndim` dimensions; see the module's formulas, and `Ridge` for the options."""

    name = "ridge"  #: in the registry
    closed_form_trace = differentiable_tables = True  #: see `latticediff.networks.contract`

    def order(
        self,
        gaussian: GaussianReference,
        inner: Tensor,
        v: Tensor,
        W: Tensor,
        C: Tensor,
        kernels_in: Tensor,
        amplitudes: Tensor,
        screen: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Normal ordering, if it is on: amplitudes (n, F, 2), and a multiplier in place of the baseline's l(k).

        Theory page, eq. (15c). Where it is off, the amplitudes come back as they are, with None for the multiplier.
        It is always off around the two vacua of a broken phase, where features have a mean and no mode is wide.
        """
        if not self.ordered or gaussian.has_vacuum:
            return amplitudes, None
        pairs = self.differences(gaussian)
        amplitudes = ordered_amplitudes(gaussian, inner, v, kernels_in, amplitudes, pairs)
        return amplitudes, baseline_linear(gaussian, v, W, C, screen)

    def forward(
        self, gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The residual R and, if asked, ``tr(C dR/dx)``.

        Parameters
        ----------
        gaussian : GaussianReference
        x : tensor, shape (n, *lattice)
        log_sigma : tensor, shape (n,) or (1,)
        trace : bool

        Returns
        -------
        R : tensor, shape (n, *lattice)
        trace : tensor, shape (n,), float64, or None
        """
        v = gaussian.expand((2 * log_sigma).exp())
        W, C = gaussian.posterior(v)
        signs, fluctuation = gaussian.fluctuation(x)
        modes = gaussian.to_modes(fluctuation)
        inner, outer = self.filters(gaussian, v, W)
        D = self.screen(gaussian, C)
        if D is not None:
            outer = outer * D[:, None]
        gain_in, amplitudes, gain_out = self.coefficients(gaussian, log_sigma)
        kernels_in, kernels_out = self.kernels(gain_in, gain_out)
        amplitudes, response = self.order(gaussian, inner, v, W, C, kernels_in, amplitudes, D)
        fields = gaussian.add_vacuum(gaussian.from_modes(modes[:, None] * inner), signs).flatten(2)
        by_site = self.by_site(gaussian, log_sigma)
        if by_site is None and self._can_fuse(x, fields, trace):
            from .fused import fused_core

            outputs, offsets = self.output_kernels(), self.on_array(gaussian)
            out = fused_core(fields, self.A, gain_in, amplitudes, outputs, gain_out, gaussian.shape, offsets)
        else:
            out, slopes = ridge_core(fields, kernels_in, amplitudes, kernels_out, self.taps(gaussian), trace, by_site)
        out = out.unflatten(2, gaussian.shape)
        linear, local, total = implicit_baseline(gaussian, modes, W, C, trace, signs, response, D)
        out = (gaussian.to_modes(out) * outer).sum(1) + linear
        if D is None:
            R = gaussian.from_modes(out) + local
        else:
            R = gaussian.from_modes(out + gaussian.to_modes(local) * D)
        if not trace:
            return R, None
        assert total is not None and slopes is not None  # both were asked for
        kappa = self.kappa(gaussian, inner, outer, C, kernels_in, kernels_out)
        return R, total + (kappa.double() * slopes.double()).sum(1)

    def by_site(self, gaussian: GaussianReference, log_sigma: Tensor) -> Tensor | None:
        """What amplitudes have at a site beyond the common ones; None: nothing, as here."""
        return None

    def level_tables(self, gaussian: GaussianReference, log_sigma: ArrayLike) -> Levels[Tensor]:
        """The network at fixed noise levels as tables for the compiled flow; see `tables.level_tables`."""
        return level_tables(self, gaussian, log_sigma)

    @staticmethod
    def _can_fuse(x: Tensor, fields: Tensor, trace: bool) -> bool:
        # the Numba core has no gradient with respect to its fields and keeps no slopes
        on_cpu = x.device.type == "cpu" and x.dtype == torch.float32
        return on_cpu and not trace and not (torch.is_grad_enabled() and fields.requires_grad)
