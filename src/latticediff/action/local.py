r"""Actions of couplings between sites and a local potential,

.. math:: S(\phi) = \sum_x \Big[ -\sum_r c_r\, \phi_x \phi_{x+r} + V(\phi_x) \Big],

periodic, one of each pair of offsets r and -r, any dimension; with nearest neighbours alone the first term is
:math:`-c \sum_\mu \phi_x \phi_{x+\mu}`. NumPy, float64; the fast kernels live in ``_kernels`` and are compared with
this room.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Description, Extents, FloatArray
from .contract import NumbaPotential
from .links import Link, coupling_form, further_links, nearest

__all__ = ["LocalAction"]


class LocalAction:
    """The sums over sites and links; a subclass supplies the potential.

    A user's own theory derives from this class and defines `potential`, `potential_derivative`,
    `numba_potential` and `describe`; nothing else has to know.

    Parameters
    ----------
    hopping : float or sequence of float
        c, the coefficient of ``-phi(x) phi(x + mu)``; one for each axis where they differ.
    ndim : int
        Dimensions of the lattice, 1 to 4.
    links : iterable of (offset, coefficient)
        Couplings beyond nearest neighbours, ``-c_r phi(x) phi(x + r)``, one of each pair r, -r: see `links`.

    Attributes
    ----------
    hopping : float
        The common coefficient of nearest neighbours; the mean of those that differ. `links` has them all.
    """

    _by_axis: tuple[float, ...] | None = None  #: coefficients of nearest neighbours, where they differ
    _further: tuple[Link, ...] = ()

    def __init__(self, hopping: float | Sequence[float], ndim: int, links: Iterable[Any] = ()) -> None:
        if ndim not in (1, 2, 3, 4):
            raise UserError(f"the action has ndim = {ndim!r}; expected 1, 2, 3 or 4")
        try:
            each = np.atleast_1d(np.asarray(hopping, np.float64))
        except (TypeError, ValueError):
            raise UserError(f"hopping is {hopping!r}; expected one number, or one for each of {ndim} axes") from None
        if not np.isfinite(each).all():
            raise UserError(f"hopping coefficient is {hopping}; expected a finite number")
        if each.shape not in ((1,), (ndim,)):
            raise UserError(f"hopping is {hopping!r}; expected one number, or one for each of {ndim} axes")
        if (each != each[0]).any():
            self._by_axis = tuple(each.tolist())
        self.hopping = float(each[0] if self._by_axis is None else each.mean())
        self.ndim = int(ndim)
        self._further = further_links(links, self.ndim)

    @property
    def links(self) -> tuple[Link, ...]:
        """All couplings as ``(offset, coefficient)``: the nearest neighbours axis by axis, then those beyond."""
        return nearest(self._by_axis or (self.hopping,) * self.ndim) + self._further

    def coupling_form(self, shape: Extents) -> FloatArray:
        """``K(k) - V''(0) = -2 sum_r c_r cos(k . r)`` on the full momentum grid, (*lattice), float64."""
        return coupling_form(self.links, shape)

    def _axes(self, phi: FloatArray) -> tuple[int, ...]:
        if phi.ndim < self.ndim:
            raise UserError(f"phi has shape {phi.shape}; the action wants at least {self.ndim} lattice axes")
        return tuple(range(phi.ndim - self.ndim, phi.ndim))

    def __call__(self, phi: ArrayLike) -> FloatArray:
        r"""S(phi) in float64.

        Parameters
        ----------
        phi : array_like, shape (..., *lattice)
            Field; one configuration or a stack.

        Returns
        -------
        ndarray, shape (...), float64
            The action of each configuration, a dimensionless number; a NumPy scalar for a single one.

        Raises
        ------
        UserError
            If `phi` has fewer axes than the lattice.
        """
        field: FloatArray = real_array(phi, "phi")
        axes = self._axes(field)
        density = self.potential(field)
        for offset, coefficient in self.links:
            density = density - coefficient * field * _shifted(field, offset, axes)
        return density.sum(axis=axes)

    def force(self, phi: ArrayLike) -> FloatArray:
        r"""``-dS/dphi(x) = sum_r c_r [phi(x+r) + phi(x-r)] - V'(phi(x))``, shape of `phi`, float64."""
        field: FloatArray = real_array(phi, "phi")
        force = -self.potential_derivative(field)
        axes = self._axes(field)
        for offset, coefficient in self.links:
            back = tuple(-n for n in offset)
            force = force + coefficient * (_shifted(field, offset, axes) + _shifted(field, back, axes))
        return force

    def potential(self, phi: FloatArray) -> FloatArray:
        """The local potential ``V(phi)``, site by site; a subclass supplies it."""
        raise NotImplementedError

    def potential_derivative(self, phi: FloatArray) -> FloatArray:
        """``V'(phi)``, site by site; a subclass supplies it."""
        raise NotImplementedError

    def numba_potential(self) -> NumbaPotential:
        """V and V' for the compiled kernels; a subclass supplies them. See `NumbaPotential`."""
        raise NotImplementedError

    def describe(self) -> Description:
        """JSON-able name and options; a subclass supplies it. Equal descriptions mean the same theory."""
        raise NotImplementedError


def _shifted(field: FloatArray, offset: tuple[int, ...], axes: tuple[int, ...]) -> FloatArray:
    """``phi(x + r)``, shape of `field`."""
    moved = [(-n, axis) for n, axis in zip(offset, axes, strict=True) if n]
    return np.roll(field, tuple(n for n, _ in moved), tuple(axis for _, axis in moved))
