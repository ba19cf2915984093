r"""The free field put in by hand: all that is diagonal in momentum.

Noise is variance exploding, :math:`x = \phi + \sigma z`, :math:`v = \sigma^2`. With the propagator G

.. math::
    W = \frac{G}{G + v}, \qquad C = \Big(\frac1G + \frac1v\Big)^{-1} = v\,W, \qquad
    \Delta F(\phi) = \frac{\partial S}{\partial \phi} - G^{-1} \phi,

the denoiser is :math:`D(x, \sigma) = E[\phi | x] = C\,[x / v - R(x, \sigma)]` with the residual
:math:`R = E[\Delta F | x]`, and the score is :math:`s = (D - x)/v = -(G + v)^{-1} x - W R`. A network
only learns R; R = 0 is exact for a Gaussian theory.

In the broken phase all this holds of the fluctuation :math:`\chi = \phi - s\,m_0` around the vacuum that a field
belongs to (`latticediff.gaussian.vacua`); with :math:`\bar x = s\,m_0`, the same for x and :math:`\phi`,
:math:`D = \bar x + C\,[(x - \bar x)/v - R]` and :math:`\Delta F = \partial S/\partial\phi - G^{-1} (\phi - \bar x)`.
In an external field h it holds of the fluctuation around the linear response :math:`\mu = G\,h`, with
:math:`\bar x = \mu`; since :math:`G^{-1} \mu = h`, h itself drops out of
:math:`\Delta F = (K - G^{-1})\,(\chi + \mu) + F(\phi)`.
"""

import copy
import functools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..arrays import real_array
from ..contracts import require
from ..errors import UserError
from ..host import torch_defaults
from ..lattice import check_shape
from ..types import FloatArray
from .admissible import check_components, check_mirrored, layers_of
from .contract import Expandable, Massive, Quartic, Sourced, UnitVectors, Wider
from .filters import Filters
from .vacua import signs_of

__all__ = ["GaussianReference", "Signs"]

Signs = Tensor | float  #: signs of the vacua, (n, 1, ..., 1), or one number for all fields


class GaussianReference(Filters):
    """The Gaussian reference: action, lattice and propagator of one theory, as filters in the real Fourier basis.

    Networks take it as an argument, so the same weights serve several lattices or couplings. A *multiplier* is an
    even function of momentum given on the basis, (..., *lattice); *modes* are coefficients in it.

    Parameters
    ----------
    action : Expandable
    propagator : array_like, shape (*lattice), float64
        G(k) on the full grid, positive.
    device : torch.device or str
    dtype : torch.dtype
        Of the filters; float32 in production, float64 in tests.
    vacuum : float
        m_0 of a broken phase; G is then the connected propagator. 0: expand around zero.
    one_sided : bool
        Expand around +m_0 alone, which may be negative, instead of both signs of it; always so where the action is
        not symmetric under phi -> -phi.

    Raises
    ------
    UserError
        If the action cannot be expanded, the propagator does not fit the action's dimension or is not positive,
        or one of two vacua is negative.
    """

    @torch_defaults()
    def __init__(
        self,
        action: Any,
        propagator: ArrayLike | Tensor,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        vacuum: float = 0.0,
        one_sided: bool = False,
    ) -> None:
        theories = layers_of(action)
        for theory in theories:
            require(theory, Expandable, f"action {theory!r}, which the learned side cannot expand,")
        self.one_sided = bool(one_sided) or not action.is_symmetric
        full = torch.as_tensor(real_array(propagator, "propagator"))
        shape = check_shape(full.shape, action.ndim)
        self.unit_vectors: UnitVectors | None = action.unit_vectors
        super().__init__(shape, self.unit_vectors is not None, device, dtype)
        if not bool((full > 0).all()):
            raise UserError("propagator has values that are not positive; expected <|phi_k|^2>/V > 0 for every k")
        if not (math.isfinite(vacuum) and (vacuum >= 0 or self.one_sided)):
            raise UserError(f"vacuum is {vacuum}; expected <|m|> of the broken phase, or 0")
        self.action: Any = action  #: Expandable; what else it has is asked of it where it is wanted
        if isinstance(action, Sourced) and vacuum:
            raise UserError(f"vacuum is {vacuum}; a theory in an external field is expanded around its response to it")
        self._local: Any = theories[-1]
        #: whether the local force is ``4 b phi^3``, for which baseline and compiled flows have closed forms
        self.is_cubic = isinstance(self._local, Quartic) and (isinstance(action, Sourced) or not self.one_sided)
        #: N of fields (n, N, *lattice), whose components all multipliers treat alike; None for those of one number
        self.components: int | None = getattr(action, "components", None)
        if self.components is not None:
            check_components(action, full, vacuum or one_sided)
        self.vacuum = float(vacuum)
        self._is_upper = False
        self.propagator_full = full  # float64, on the momentum grid
        self.g_max, self.g_mean = float(full.max()), float(full.mean())
        self._G = self._on_basis(full.numpy())
        self.G = self._G.to(self.device, dtype)
        # dS/dphi - G^-1 chi = linear * chi + F(phi) - F'(m_0) phi + s tilt, and what is wider
        form = action.quadratic_form(self.shape)
        if not self.is_oblique:
            check_mirrored(form, action)
        curvature = action.local_curvature(self.vacuum)
        linear = self._on_basis(form) - 1 / self._G + curvature
        self.linear = linear.to(self.device, dtype)
        self.tilt = float(form.flat[0] + curvature) * self.vacuum
        #: linear response to an external field, (*lattice), float64 on the CPU; None without a field
        self.response: FloatArray | None = None
        if isinstance(action, Sourced):
            if action.field.shape != self.shape:
                raise UserError(f"the external field has shape {action.field.shape}; the propagator {self.shape}")
            self.response = np.fft.ifftn(full.numpy() * np.fft.fftn(action.field)).real
        #: random mass r, (*lattice), float64 on the CPU; None without one
        self.mass: FloatArray | None = next((theory.mass for theory in theories if isinstance(theory, Massive)), None)
        if self.mass is not None and self.mass.shape != self.shape:
            raise UserError(f"the random mass has shape {self.mass.shape}; the propagator {self.shape}")
        if self.mass is not None and vacuum:
            raise UserError(f"vacuum is {vacuum}; a theory with a random mass is expanded around zero alone")
        self._elsewhere: dict[tuple[torch.device, torch.dtype], GaussianReference] = {}
        self._mean: Tensor | None = None
        #: the same on the device of the filters, in their precision
        self.masses = None if self.mass is None else torch.as_tensor(self.mass.copy()).to(self.device, dtype)
        #: ``(K - G^-1) * mu``, (*lattice): the part of `delta_force` that does not depend on phi; None without a field
        self.pull: Tensor | None = None
        if self.response is not None:
            exact = torch.as_tensor(self.response)
            self._mean = exact.to(self.device, dtype)
            pull = np.fft.fftn(self.response) * (form + curvature - 1 / full.numpy())
            self.pull = torch.as_tensor(np.fft.ifftn(pull).real).to(self.device, dtype)

    def __str__(self) -> str:
        """Theory and lattice, for messages."""
        return f"{self.action!r} on {'x'.join(map(str, self.shape))}"

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "GaussianReference":
        """The same reference elsewhere or in another precision; made once, for fits of time grids ask often."""
        place, precision = torch.device(device or self.device), dtype or self.dtype
        if (place, precision) not in self._elsewhere:
            self._elsewhere[place, precision] = GaussianReference(
                self.action, self.propagator_full, place, precision, self.vacuum, self.one_sided
            )
        return self._elsewhere[place, precision]

    @property
    def has_field(self) -> bool:
        """Whether the theory is in an external field."""
        return self.response is not None

    @property
    def has_disorder(self) -> bool:
        """Whether the theory has an external field or a random mass: numbers that differ from site to site."""
        return self.has_field or self.mass is not None

    @property
    def has_vacuum(self) -> bool:
        """Whether fields are expanded around anything but zero, or without a symmetry that makes R odd."""
        return bool(self.vacuum) or self.one_sided

    @property
    def phase(self) -> str:
        """As in a card's ``training.phase``: ``single``, ``broken`` or ``symmetric``."""
        return "single" if self.one_sided else "broken" if self.vacuum else "symmetric"

    @property
    def constant(self) -> float:
        """What `add_vacuum` adds to half of the second input: m_0; to a single vacuum, also the width of a site."""
        if not self.one_sided or self.has_field:
            return self.vacuum
        return self.vacuum + math.copysign(math.sqrt(self.g_mean), self.vacuum)

    def signs(self, x: Tensor) -> Signs:
        """Signs s of the vacua that fields (n, *lattice) belong to, (n, 1, ..., 1); 0.0 if there is one vacuum."""
        if self._is_upper or self.one_sided:
            return 1.0
        return signs_of(x, self.ndim) if self.vacuum else 0.0

    def fluctuation(self, x: Tensor) -> tuple[Signs, Tensor]:
        """``(s, x - s m_0)`` of fields (n, *lattice), s being `signs`; around zero 0 and x itself."""
        if not self.has_vacuum:
            return 0.0, x
        signs = self.signs(x)
        return signs, x - self.centre(signs)

    def centre(self, signs: Signs) -> Signs:
        """What fields of these signs are expanded around: ``s m_0``, or the response to an external field."""
        return signs * self.vacuum if self._mean is None else self._mean

    def upper(self) -> "GaussianReference":
        """The same reference for fields that belong to the vacuum +m_0, whatever the sign of their mean."""
        if not self.vacuum or self.one_sided:
            return self
        upper = copy.copy(self)
        upper._is_upper = True
        return upper

    def add_vacuum(self, inputs: Tensor, signs: Signs) -> Tensor:
        """Input fields (n, J, *lattice) of a network, the second one raised from 2 W chi to 2 (s m_0 + W chi).

        Around a vacuum the force has parts that are even in chi. With a constant added to one of their inputs odd
        features can represent them. Around a single one it is `constant`, which is never small; in an external field
        the response to it, 2 (mu + W chi).
        """
        if not self.has_vacuum:
            return inputs
        raised = inputs[:, 1] + 2 * (self.constant * signs if self._mean is None else self._mean)
        return torch.stack([inputs[:, 0], raised, *inputs[:, 2:].unbind(1)], 1)

    def posterior(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """``W = G / (G + v)`` and ``C = v W``, (n, *lattice), for v = sigma^2 of shape (n, 1, ..., 1).

        The linear response and the covariance of the posterior of the Gaussian theory (theory page, eq. 4).
        """
        W = self.G / (self.G + v)
        return W, v * W

    def delta_force(self, phi: Tensor) -> Tensor:
        """The residual force ``DF(phi) = dS/dphi - G^-1 chi`` of fields (n, *lattice) (theory page, eqs. 4 and 12a).

        Its conditional mean given the noised field is R, so it is a target for R, without noise at small sigma.
        """
        signs, fluctuation = self.fluctuation(phi)
        return self.filter(fluctuation, self.linear) + self.nonlinear_force(phi, signs)

    def nonlinear_force(self, phi: Tensor, signs: Signs) -> Tensor:
        """The part of `delta_force` that is not linear in the fluctuation: ``F(phi) - F'(m_0) phi + s tilt``, and more.

        For phi^4 that is ``4b phi (phi^2 - 3 m_0^2) + s tilt``; a theory may have a part that is not local
        (`latticediff.gaussian.contract.Wider`).
        """
        force = self.action.local_force(phi, vacuum=self.vacuum)
        if self.vacuum:
            force = force + signs * self.tilt
        if self.pull is not None:
            force = force + self.pull
        if self.masses is not None:
            force = force + self.masses * phi
        return force + self.action.wider_force(phi) if isinstance(self.action, Wider) else force

    def mass_shift(self, C: Tensor) -> Tensor | None:
        r"""What of the random mass is left at a noise level, (n, *lattice), for posterior covariances C (n, *lattice).

        Where the mass of a site is larger its neighbourhood fluctuates less, and the quartic term with it: to first
        order in r, ``Delta(k) = r(k) / (1 + 12 b B(k))`` with B the transform of ``C(x)^2`` (theory page, eq. 12e). It
        is r without noise, where C(x) vanishes. None without a random mass.
        """
        if self.masses is None:
            return None
        bubble = self.to_distances(C) ** 2
        # an even function of x: its transform on the basis, for a sum over sites of f(x) cos(k x)
        form = torch.fft.fftn(bubble, dim=tuple(range(-self.ndim, 0))).real
        moved = torch.fft.fftn(self.masses, dim=tuple(range(-self.ndim, 0))) / (1 + 12 * self.quartic * form)
        return torch.fft.ifftn(moved, dim=tuple(range(-self.ndim, 0))).real

    @functools.cached_property
    def quartic(self) -> float:
        """b of the local force ``4 b phi^3``; of another force, of the cubic that bends like it at the field's width.

        In that case ``(F'(m_0 + s) + F'(m_0 - s) - 2 F'(m_0)) / (24 s^2)`` with ``s^2 = <phi_x^2>``, or 0 if that is
        negative. What takes it needs no more than a scale: steps of the reverse process, and the closed forms
        where `is_cubic`.
        """
        if isinstance(self._local, Quartic):
            return self._local.b
        s, bend = math.sqrt(self.g_mean), self.action.local_curvature
        rise = bend(self.vacuum + s) + bend(self.vacuum - s) - 2 * bend(self.vacuum)
        return max(0.0, float(rise) / (24 * s * s))

    def whiten(self, x: Tensor, v: float | Tensor) -> Tensor:
        """``y = (G + v)^(-1/2) x`` for fluctuations x (n, *lattice)."""
        return self.filter(x, torch.rsqrt(self.G + v))

    def colour(self, y: Tensor, v: float | Tensor) -> Tensor:
        """``x = (G + v)^(1/2) y``, the inverse of `whiten`."""
        return self.filter(y, torch.sqrt(self.G + v))

    def half_log_det(self, v: float) -> float:
        """``1/2 sum_k log(G(k) + v)``, summed in float64."""
        return 0.5 * float(torch.log(self._G + v).sum())
