r"""The ridge network of fields of N components, exactly O(N) equivariant, with a closed-form divergence.

.. math::
    R(x, \sigma) = R_0 + \sum_{m f} O_m * B_{m f} * g_f(u_f), \qquad u_f = \sum_j A_{f j} * I_j * x \in R^N,
    \qquad g(u) = u\, \rho(|u|^2),

with the kernels and filters of `latticediff.networks.ridge.network`, the same for every component, the baseline of
`latticediff.gaussian.vector_baseline`, and :math:`\rho(s) = \alpha_1 r + \alpha_2 (1 - r^2)`, :math:`r^2 = 1/(1 + s)`.
Rotations O act on the components of a site alone: :math:`u \to O u` leaves :math:`|u|` as it is, so R turns with x, and
the density of the flow is invariant. The trace needs no derivative of the network:

.. math:: \mathrm{tr}(C\,\partial R/\partial x) = \mathrm{tr}(C\,\partial R_0/\partial x)
          + \sum_f \kappa_f \sum_y \big[ N \rho_f + 2\, |u_f|^2 \rho_f' \big](y) ,

a sum over sites, with :math:`\kappa_f` of the theory page, eq. (15). For N = 1 this is the ridge network.
"""

import itertools
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..._kernels.vector_flow import VectorLevels
from ...errors import UserError
from ...gaussian.reference import GaussianReference
from ...gaussian.vector_baseline import vector_baseline, vector_response
from ...types import Description
from .base import N_INPUT, N_OUTPUT, Ridge
from .core import hidden as hidden_fields
from .core import spread_out
from .normal_ordering import gaussian_mean, ordered_amplitudes
from .vector_tables import vector_tables

__all__ = ["VectorRidgeNetwork", "vector_core"]

NODES = 129  # of averages over a Gaussian vector


def vector_core(
    fields: Tensor,
    kernels_in: Tensor,
    amplitudes: Tensor,
    kernels_out: Tensor,
    taps: Tensor,
    components: int,
    slopes: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``sum_f B_f * g_f(A_f * u)`` for fields of several components.

    Parameters
    ----------
    fields : tensor, shape (n, J, N V)
        The components one behind the other.
    kernels_in, amplitudes, kernels_out
        See `latticediff.networks.ridge.core.ridge_core`.
    taps : tensor, shape (T, N V), int64
        Of each component within itself.
    components : int
        N.
    slopes : bool
        Also return ``sum_y [N rho_f + 2 |u_f|^2 rho_f'](y)``, the divergence of every feature.

    Returns
    -------
    out : tensor, shape (n, M, N V)
    slopes : tensor, shape (n, F), float64, or None
    """
    u = hidden_fields(fields, kernels_in, taps).unflatten(2, (components, -1))  # (n, F, N, V)
    square = (u * u).sum(2, keepdim=True)
    r2 = 1 / (1 + square)
    r = r2.sqrt()
    a1, a2 = amplitudes[..., 0, None, None], amplitudes[..., 1, None, None]
    rho = a1 * r + a2 * (1 - r2)
    out = spread_out((u * rho).flatten(2), kernels_out, taps)
    if not slopes:
        return out, None
    radial = square * r2 * (2 * a2 * r2 - a1 * r)  # 2 s rho'
    return out, (components * rho + radial).sum((2, 3), dtype=torch.float64)


class VectorRidgeNetwork(Ridge):
    """Ridge network of fields (n, N, *lattice), for any N.

    Parameters
    ----------
    ndim : int
        Axes of a field: those of the lattice and that of the components.
    features, kernel_size, hidden, ordered, screened, inputs, outputs
        See `latticediff.networks.ridge.base.Ridge`.

    Raises
    ------
    UserError
        If a size is out of range.
    """

    name = "vector_ridge"
    closed_form_trace = True  #: see `latticediff.networks.contract`
    takes_components = True  #: and takes no others
    double_state = True  #: of a flow in plain torch, as compiled flows have; the inside of the network stays float32

    def __init__(
        self,
        ndim: int = 3,
        features: int = 24,
        kernel_size: int = 3,
        hidden: int = 64,
        ordered: bool = False,
        screened: bool = False,
        inputs: int = N_INPUT,
        outputs: int = N_OUTPUT,
    ) -> None:
        super().__init__(ndim, features, kernel_size, hidden, False, ordered, screened, inputs, outputs)

    def _offsets(self, ndim: int, reach: int) -> tuple[tuple[int, ...], ...]:
        return tuple((0, *offset) for offset in itertools.product(range(-reach, reach + 1), repeat=ndim - 1))

    def describe(self) -> Description:
        """Registered name and options, enough to build the network again."""
        return {key: value for key, value in super().describe().items() if key != "conditioned"}

    def order(
        self,
        gaussian: GaussianReference,
        inner: Tensor,
        v: Tensor,
        W: Tensor,
        C: Tensor,
        kernels_in: Tensor,
        amplitudes: Tensor,
        screen: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Normal ordering, if it is on, as `RidgeNetwork.order`: theory page, eq. (15c), with means over vectors."""
        if not self.ordered:
            return amplitudes, None
        n, c = gaussian.action.components, gaussian.at_origin(C)
        amplitudes = ordered_amplitudes(gaussian, inner, v, kernels_in, amplitudes, self.differences(gaussian))
        variance = gaussian.at_origin(W * gaussian.G)  # of a component of y = W x

        def along(h: Tensor) -> Tensor:
            return h * h * vector_response(gaussian, h * h, c[:, None])[0]

        # f(y) = y f(|y|^2) answers y by <y . f> / <|y|^2> in the mean
        mean = gaussian.expand(gaussian_mean(along, variance.sqrt(), n, NODES) / (n * variance))
        eta = gaussian.g_mean / (gaussian.g_mean + v)
        return amplitudes, eta * gaussian.linear - (1 - eta) * mean * (1.0 if screen is None else screen)

    def forward(
        self, gaussian: GaussianReference, x: Tensor, log_sigma: Tensor, trace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The residual R and, if asked, ``tr(C dR/dx)``.

        Parameters
        ----------
        gaussian : GaussianReference
            Of an O(N) theory.
        x : tensor, shape (n, N, *lattice)
        log_sigma : tensor, shape (n,) or (1,)
        trace : bool

        Returns
        -------
        R : tensor, shape (n, N, *lattice)
        trace : tensor, shape (n,), float64, or None

        Raises
        ------
        UserError
            A theory whose fields have no components.
        """
        if gaussian.components is None:
            raise UserError(f"{self.name} is of fields of several components; {gaussian.action!r} wants network ridge")
        v = gaussian.expand((2 * log_sigma).exp())
        W, C = gaussian.posterior(v)
        modes = gaussian.to_modes(x)
        inner, outer = self.filters(gaussian, v, W)
        D = self.screen(gaussian, C)
        if D is not None:
            outer = outer * D[:, None]
        gain_in, amplitudes, gain_out = self.coefficients(gaussian, log_sigma)
        kernels_in, kernels_out = self.kernels(gain_in, gain_out)
        amplitudes, response = self.order(gaussian, inner, v, W, C, kernels_in, amplitudes, D)
        fields = gaussian.from_modes(modes[:, None] * inner).flatten(2)
        taps: Any = self.taps(gaussian)
        features, slopes = vector_core(fields, kernels_in, amplitudes, kernels_out, taps, gaussian.components, trace)
        linear, local, total = vector_baseline(gaussian, modes, W, C, trace, response, D)
        out = (gaussian.to_modes(features.unflatten(2, gaussian.shape)) * outer).sum(1) + linear
        if D is None:
            R = gaussian.from_modes(out) + local
        else:
            R = gaussian.from_modes(out + gaussian.to_modes(local) * D)
        if not trace:
            return R, None
        assert total is not None and slopes is not None  # both were asked for
        kappa = self.kappa(gaussian, inner, outer, C, kernels_in, kernels_out)
        return R, total + (kappa.double() * slopes).sum(1)

    def level_tables(self, gaussian: GaussianReference, log_sigma: ArrayLike) -> VectorLevels[Tensor]:
        """The network at fixed noise levels as tables for the compiled flow; see `vector_tables.vector_tables`."""
        return vector_tables(self, gaussian, log_sigma)
