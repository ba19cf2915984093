r"""Nearest-neighbour actions with a local potential,

.. math:: S(\phi) = \sum_x \Big[ -c \sum_\mu \phi_x \phi_{x+\mu} + V(\phi_x) \Big],

periodic, forward directions only, any dimension. NumPy, float64; the fast kernels live in
``_kernels`` and are compared with this room.
"""

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..types import Description, FloatArray
from .contract import NumbaPotential

__all__ = ["LocalAction"]


class LocalAction:
    """The sums over sites and links; a subclass supplies the potential.

    A user's own theory derives from this class and defines `potential`, `potential_derivative`,
    `numba_potential` and `describe`; nothing else has to know.

    Parameters
    ----------
    hopping : float
        c, the coefficient of ``-phi(x) phi(x + mu)``.
    ndim : int
        Dimensions of the lattice, 1 to 4.
    """

    def __init__(self, hopping: float, ndim: int) -> None:
        if not np.isfinite(hopping):
            raise UserError(f"hopping coefficient is {hopping}; expected a finite number")
        if ndim not in (1, 2, 3, 4):
            raise UserError(f"the action has ndim = {ndim!r}; expected 1, 2, 3 or 4")
        self.hopping = float(hopping)
        self.ndim = int(ndim)

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
        for axis in axes:
            density = density - self.hopping * field * np.roll(field, -1, axis)
        return density.sum(axis=axes)

    def force(self, phi: ArrayLike) -> FloatArray:
        r"""``-dS/dphi(x) = c sum_mu [phi(x+mu) + phi(x-mu)] - V'(phi(x))``, shape of `phi`, float64."""
        field: FloatArray = real_array(phi, "phi")
        force = -self.potential_derivative(field)
        for axis in self._axes(field):
            force = force + self.hopping * (np.roll(field, -1, axis) + np.roll(field, 1, axis))
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
