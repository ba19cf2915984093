r"""Single-site updates: Metropolis (1953) and overrelaxation, the textbook reference.

Checkerboard order, so that all sites of a colour could be updated at once and the sweep is a
product of two reversible updates. Couplings beyond nearest neighbours get as many colours as they need.
"""

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action
from ..action.consistency import check_compiled
from ..action.links import links_of, only_nearest
from ..errors import UserError
from ..hmc.checks import check_actions, check_counts, check_fields
from ..host import numpy_defaults
from ..markov import Block, ChainState
from ..streams import Streams
from ..types import Description, Extents

__all__ = ["LocalMetropolis"]


class LocalMetropolis:
    r"""Sweeps of single-site Metropolis, each followed by reflections.

    A Metropolis sweep proposes ``phi' = phi + width (2u - 1)`` at every site. A reflection sweep
    proposes ``phi' = r sum_{+-mu} phi(x +- mu) - phi``; with ``r = 1 / ndim`` (reflection about the
    mean of the neighbours) the gradient term does not change and only mass and self-coupling are
    subject to the accept step. It moves the field deterministically, so at least one Metropolis
    sweep is wanted. With other links the sum is that of ``c_r phi(x +- r)``, and ``r = 1 / sum |c_r|``.

    Parameters
    ----------
    action : LocalAction
    width : float
        Half-width of the proposals.
    n_metropolis, n_reflections : int
        Sweeps of either kind per update.

    Raises
    ------
    UserError
        A width that is not positive, no Metropolis sweep (reflections alone are not ergodic), or an action that its
        compiled form does not agree with.
    """

    def __init__(self, action: Action, width: float, n_metropolis: int = 1, n_reflections: int = 0) -> None:
        if not (np.isfinite(width) and width > 0):
            raise UserError(f"width is {width!r}; expected a positive number")
        if int(n_metropolis) != n_metropolis or n_metropolis < 1:
            raise UserError(f"n_metropolis is {n_metropolis!r}; expected at least 1: reflections are not ergodic")
        if int(n_reflections) != n_reflections or n_reflections < 0:
            raise UserError(f"n_reflections is {n_reflections!r}; expected an integer of at least 0")
        check_compiled(action)
        self.action = action
        self.width = float(width)
        self.n_metropolis, self.n_reflections = int(n_metropolis), int(n_reflections)

    @numpy_defaults()
    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0; refuses odd extents, where a checkerboard does not close.

        Raises
        ------
        UserError
            An odd extent, links that join a site to itself, wrong number of axes, or values that
            are not finite.
        """
        phi = check_fields(phi, self.action).copy()
        self._tables(phi.shape[1:])  # or a refusal
        return ChainState(phi, np.asarray(self.action(phi)), 0)

    def _tables(self, shape: Extents) -> tuple[Any, ...]:
        """Coupled sites, order, coupling and factor of the reflection, as the kernel of these links takes them."""
        from .._kernels import site_links, sites

        if only_nearest(self.action):
            self._check_even(shape)
            return *sites.tables(shape), self.action.hopping, 1 / self.action.ndim
        links = links_of(self.action)
        order = site_links.colours(shape, links)
        if order is None:
            raise UserError(
                f"a link of {self.action!r} joins sites of lattice shape {tuple(shape)} to themselves; local updates"
                " want larger extents, use HMC"
            )
        near, couplings = site_links.tables(shape, links)
        strength = math.fsum(abs(c) for _, c in links)
        return near, order, couplings, 1 / strength if strength else 0.0

    @staticmethod
    def _check_even(shape: Extents) -> None:
        odd = [extent for extent in shape if extent % 2]
        if odd:
            raise UserError(
                f"lattice shape {tuple(shape)} has odd extents {odd}; checkerboard updates need even ones, use HMC"
            )

    @numpy_defaults()
    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `markov.Kernel`; ``info["accepted"]`` is the accepted fraction of the sites, float64."""
        from .._kernels import sites
        from .._kernels.compile import callable_potential
        from .._kernels.threads import over_groups

        check_counts(n_updates, thin)
        fields = check_fields(state.phi, self.action)
        n_chains, *shape = fields.shape
        near, order, coupling, reflection = self._tables(tuple(shape))
        value, derivative, params = callable_potential(self.action)
        is_plain = only_nearest(self.action)
        run = sites.build(value, derivative)[0] if is_plain else sites.build_linked(value, derivative)
        phi, action = fields.reshape(n_chains, -1).copy(), check_actions(state.action, n_chains)
        n_kept = (state.update + n_updates) // thin - state.update // thin
        kept_phi, kept_action = np.empty((n_kept, n_chains, phi.shape[1])), np.empty((n_kept, n_chains))
        accepted = np.empty((n_updates, n_chains))
        n_sweeps = self.n_metropolis + self.n_reflections
        keys = np.array([rng.key(f"sweep-{j}")[0] for j in range(n_sweeps)])
        over_groups(
            run, n_chains, 10 * phi.size * n_updates * n_sweeps,
            phi, action, np.uint64(state.update), np.uint64(thin), near, order, params, coupling, self.width,
            reflection, self.n_metropolis, self.n_reflections, keys, kept_phi, kept_action, accepted,
        )  # fmt: skip
        block = Block(kept_phi.reshape(n_kept, n_chains, *shape), kept_action, {"accepted": accepted})
        return ChainState(phi.reshape(fields.shape), action, state.update + n_updates), block

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description."""
        return cls(action, description["width"], description["n_metropolis"], description["n_reflections"])

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {
            "name": "local_metropolis",
            "width": self.width,
            "n_metropolis": self.n_metropolis,
            "n_reflections": self.n_reflections,
        }
