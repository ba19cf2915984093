r"""Embedded Ising clusters (Brower, Tamayo, Phys. Rev. Lett. 62 (1989) 1087).

At fixed ``|phi|`` the signs are an Ising model with couplings ``c |phi_x| |phi_y|``; its clusters are
flipped at once (Swendsen-Wang: all of them, each with probability 1/2; Wolff: the one of a random
site). The modulus never moves, so a cluster update is one part of a `composite.Sequence`, with HMC
or local updates for the rest.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from ..action import Action, RandomMass
from ..action.consistency import check_compiled, refuse_site_terms
from ..action.links import only_nearest
from ..action.site_terms import site_terms
from ..errors import UserError
from ..hmc.checks import check_actions, check_counts, check_fields
from ..host import numpy_defaults
from ..markov import Block, ChainState
from ..streams import Streams
from ..types import Description

__all__ = ["Cluster"]


class Cluster:
    """Sign updates by embedded clusters.

    Parameters
    ----------
    action : LocalAction
        With a positive hopping coefficient and a potential that is even in phi; a random mass may be in it.
    method : {"swendsen-wang", "wolff"}
    n_clusters : int
        Cluster decompositions (Swendsen-Wang) or single clusters (Wolff) per update.

    Raises
    ------
    UserError
        Unknown method, non-positive hopping or other links, a potential that is not even, or an action that its
        compiled form does not agree with.
    """

    force_evaluations_per_update = 0

    def __init__(self, action: Action, method: str = "swendsen-wang", n_clusters: int = 1) -> None:
        if method not in ("swendsen-wang", "wolff"):
            raise UserError(f"cluster method is {method!r}; expected 'swendsen-wang' or 'wolff'")
        if isinstance(n_clusters, bool) or int(n_clusters) != n_clusters or n_clusters < 1:
            raise UserError(f"n_clusters is {n_clusters!r}; expected an integer of at least 1")
        refuse_site_terms(action, mass=False)
        if not only_nearest(action):
            raise UserError(
                f"{action!r} couples more than nearest neighbours, or not alike along all axes; clusters are built on"
                " one positive coupling: leave hmc.cluster out and use HMC"
            )
        if not action.hopping > 0:
            raise UserError(f"hopping coefficient is {action.hopping:g}; cluster updates need it positive")
        probe = np.linspace(0.1, 3, 16)
        alike = site_terms(action).of  # a random mass is even, whatever its values
        if not np.allclose(alike.potential(probe), alike.potential(-probe), rtol=1e-12, atol=0):
            raise UserError("the potential is not even in phi; cluster updates would change its value")
        check_compiled(action, by_site=True)
        self.action = action
        self.method = method
        self.n_clusters = int(n_clusters)

    @numpy_defaults()
    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0; errors as `HMC.start`."""
        phi = check_fields(phi, self.action).copy()
        return ChainState(phi, np.asarray(self.action(phi)), 0)

    @numpy_defaults()
    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `markov.Kernel`; info: ``accepted`` (always) and ``flipped``, the flipped fraction of the sites."""
        from .._kernels import sites
        from .._kernels.compile import callable_potential
        from .._kernels.threads import over_groups

        check_counts(n_updates, thin)
        fields = check_fields(state.phi, self.action)
        n_chains, *shape = fields.shape
        value, derivative, params = callable_potential(self.action)
        _, run = sites.build(value, derivative)
        phi, action = fields.reshape(n_chains, -1).copy(), check_actions(state.action, n_chains)
        n_kept = (state.update + n_updates) // thin - state.update // thin
        kept_phi, kept_action = np.empty((n_kept, n_chains, phi.shape[1])), np.empty((n_kept, n_chains))
        flipped = np.empty((n_updates, n_chains))
        keys = np.array([rng.key(f"{what}-{j}")[0] for j in range(self.n_clusters) for what in ("bonds", "flips")])
        over_groups(
            run, n_chains, 20 * phi.size * n_updates * self.n_clusters,
            phi, action, np.uint64(state.update), np.uint64(thin), sites.tables(tuple(shape))[0], params,
            self.action.hopping, self.method == "wolff", self.n_clusters, keys, kept_phi, kept_action, flipped,
        )  # fmt: skip
        if isinstance(self.action, RandomMass):  # no flip changes its term, which the kernel leaves out
            action += self.action.mass_term(phi.reshape(fields.shape))
            kept_action += self.action.mass_term(kept_phi.reshape(n_kept, n_chains, *shape))
        info = {"accepted": np.ones(flipped.shape, bool), "flipped": flipped}
        block = Block(kept_phi.reshape(n_kept, n_chains, *shape), kept_action, info)
        return ChainState(phi.reshape(fields.shape), action, state.update + n_updates), block

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description."""
        return cls(action, description["method"], description["n_clusters"])

    def describe(self) -> Description:
        """JSON-able parameters."""
        return {"name": "cluster", "method": self.method, "n_clusters": self.n_clusters}
