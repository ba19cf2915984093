r"""Moves of the latent noise that leave the standard normal distribution invariant, and are reversible.

Each is an autoregressive step with a correlation :math:`\rho` for every component,

.. math:: u' = \rho\, u + \sqrt{1 - \rho^2}\; \xi, \qquad \xi \sim N(0, 1),

for which :math:`N(u)\, K(u' | u) = N(u')\, K(u | u')` (preconditioned Crank-Nicolson [Cotter, Roberts,
Stuart, White, Statist. Sci. 28 (2013) 424, eq. (6)]). What differs is which components keep how much:
``rho = 1`` keeps, 0 redraws. :math:`\rho` may be drawn too, as long as it does not depend on u.
"""

import math
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import ArrayLike

from ..arrays import real_array
from ..errors import UserError
from ..fourier import basis_from_momenta, transform
from ..types import Description, Extents, FloatArray, Shape

__all__ = ["Block", "Coloured", "Infrared", "KeepTop", "Move", "White", "in_basis"]


class Move(Protocol):
    """Which latent components keep how much."""

    basis: str | None  #: in which `correlations` are diagonal: "sites", "fourier"; None: in either

    def correlations(self, u_shape: Shape, lattice: Shape, rng: np.random.Generator) -> FloatArray:
        """Correlations rho in [0, 1], in a shape that broadcasts against u of shape (n, ..., *lattice)."""

    def describe(self) -> Description:
        """JSON-able parameters."""


def in_basis(u: FloatArray, lattice: Extents, has: str, wanted: str | None) -> FloatArray:
    """Noise `u`, given in the basis `has`, in the basis `wanted` ("sites" or "fourier"; None: as it is).

    Parameters
    ----------
    u : ndarray, shape (..., *lattice), float64
    lattice : sequence of int
        Lattice extents.
    has : {"sites", "fourier"}
    wanted : {"sites", "fourier"} or None

    Returns
    -------
    ndarray, shape of `u`, float64
    """
    if wanted is None or wanted == has:
        return u
    return transform(u, lattice, inverse=wanted == "sites")


def _checked_eps(eps: float) -> float:
    if not 0 < eps <= 1:
        raise UserError(f"eps = {eps}; expected 0 < eps <= 1, where 1 redraws everything")
    return float(eps)


class Coloured:
    r"""The same correlation :math:`\rho = \sqrt{1 - \epsilon^2}` for all of the noise.

    The latent noise is white where the field has its propagator: to the accuracy of the free field every
    mode of the field moves by the same fraction of its own width. ``eps = 1`` is an independent proposal.
    """

    basis = None

    def __init__(self, eps: float) -> None:
        self.eps = _checked_eps(eps)

    def correlations(self, u_shape: Shape, lattice: Shape, rng: np.random.Generator) -> FloatArray:
        """See `Move`."""
        return np.array(math.sqrt(1 - self.eps**2))

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "coloured", "eps": self.eps}


class _PerMode:
    """A correlation for every momentum, made from the propagator once the lattice is known."""

    basis: str | None = "fourier"

    def __init__(self, propagator: ArrayLike) -> None:
        self.propagator = real_array(propagator, "propagator")
        if not (np.isfinite(self.propagator).all() and (self.propagator > 0).all()):
            raise UserError("propagator has values that are not positive; expected <|phi_k|^2>/V > 0 for every k")

    def correlations(self, u_shape: Shape, lattice: Shape, rng: np.random.Generator) -> FloatArray:
        """See `Move`."""
        if self.propagator.shape != tuple(lattice):
            raise UserError(f"propagator has shape {self.propagator.shape}; expected {tuple(lattice)}")
        return self._of_mode(basis_from_momenta(self.propagator, lattice))

    def _of_mode(self, G: FloatArray) -> FloatArray:
        """rho of every basis function, from the propagator there."""
        raise NotImplementedError


class White(_PerMode):
    r"""As if the field got white noise of width sigma: :math:`\rho(k) = G(k) / (G(k) + \sigma^2)`.

    A configuration noised up to sigma and brought back remembers a mode of the field by this factor, so
    modes with ``G(k) >> sigma^2``, the long ones, hardly move.
    """

    def __init__(self, sigma: float, propagator: ArrayLike) -> None:
        super().__init__(propagator)
        if not 0 < sigma < math.inf:
            raise UserError(f"sigma = {sigma}; expected a positive number")
        self.sigma = float(sigma)

    def _of_mode(self, G: FloatArray) -> FloatArray:
        return G / (G + self.sigma**2)

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "white", "sigma": self.sigma}


class Infrared(_PerMode):
    r"""Long modes move most: :math:`1 - \rho(k)^2 = \epsilon^2 G(k) / \max G`."""

    def __init__(self, eps: float, propagator: ArrayLike) -> None:
        super().__init__(propagator)
        self.eps = _checked_eps(eps)

    def _of_mode(self, G: FloatArray) -> FloatArray:
        return np.sqrt(1 - self.eps**2 * G / G.max())

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "infrared", "eps": self.eps}


class KeepTop:
    """The partial-noise move of a reverse SDE: all of a path's noise is redrawn except its first field.

    So the path starts at the same x_j, which is the current field noised up to the ladder's top.
    """

    basis: str | None = None

    def correlations(self, u_shape: Shape, lattice: Shape, rng: np.random.Generator) -> FloatArray:
        """See `Move`."""
        if len(u_shape) != len(lattice) + 2:
            raise UserError("keeping the top of a path wants a path proposal; the ODE has no path")
        rho = np.zeros((u_shape[1], *[1] * len(lattice)))
        rho[0] = 1.0
        return rho

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "keep_top"}


class Block:
    r"""Noise inside a cube at a random place moves, noise outside stays.

    The field outside follows through the map as far as correlations reach, so the change of log_weight
    grows with the volume of the block and not with that of the lattice.

    Parameters
    ----------
    size : int or (int, int)
        Edge of the cube in sites, or the smallest and the largest edge, drawn for each update and chain.
    eps : float
        Inside, :math:`\rho = \sqrt{1 - \epsilon^2}`; 1 redraws.

    Raises
    ------
    UserError
        An edge below 1, in the wrong order, or longer than the lattice.
    """

    basis: str | None = "sites"

    def __init__(self, size: int | Sequence[int], eps: float = 1.0) -> None:
        low, high = (size, size) if np.isscalar(size) else tuple(cast("Sequence[int]", size))  # not narrowed by NumPy
        self.low, self.high = cast(int, low), cast(int, high)
        self.eps = _checked_eps(eps)
        if not 1 <= self.low <= self.high:
            raise UserError(f"block = {size}; expected edges of at least 1, the smaller first")

    def correlations(self, u_shape: Shape, lattice: Shape, rng: np.random.Generator) -> FloatArray:
        """See `Move`; every chain has its own block."""
        if self.high > max(lattice):
            raise UserError(f"block edge {self.high} is longer than the lattice {tuple(lattice)}")
        n, ndim = u_shape[0], len(lattice)
        edges = rng.integers(self.low, self.high + 1, size=n)
        corners = rng.integers(0, lattice, size=(n, ndim))
        inside = np.ones((n, *lattice), bool)
        for axis, extent in enumerate(lattice):
            along = (np.arange(extent) - corners[:, axis, None]) % extent < edges[:, None]
            inside &= along.reshape(n, *[extent if a == axis else 1 for a in range(ndim)])
        rho = np.where(inside, math.sqrt(1 - self.eps**2), 1.0)
        return rho.reshape(n, *[1] * (len(u_shape) - 1 - ndim), *lattice)

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "block", "size": [int(self.low), int(self.high)], "eps": self.eps}
