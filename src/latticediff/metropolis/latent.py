r"""Correlated proposals: move the noise from which a proposal makes the field, not the field.

A `LatentProposal` maps standard normal noise u to a field (ODE) or to a whole path (SDE), with density
q. In u the target is :math:`N(u)\,w(u)`, :math:`\log w = -S - \log q`, so any move that is reversible for N
(`moves`) is corrected by the weights alone,

.. math:: \alpha(u \to u') = \min\big(1,\; w(u') / w(u)\big),

and how far it goes is free: no correlation is the independence sampler. For a path proposal u is redrawn
given the field before every update (a Gibbs step), so nothing is hidden in the state. With `KeepTop` the
rule above is the ratio of ``pi(phi) prod q(x_i | x_{i-1}) / prod p(x_{i-1} | x_i)`` of the two half paths that
meet in x_j.

Several tries share a centre v, half a move away from u: given v, candidates half a move from v are
independent and the current u is one of their kind, so that the rule of independent tries holds
(`accept_reject.bounds`; compare [Tjelmeland, NTNU Statistics 4/2004]).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..errors import UserError
from ..hmc.checks import check_counts
from ..host import numpy_defaults
from ..markov import Block, ChainState
from ..types import Description, FloatArray, Shape
from .accept_reject import bounds
from .asking import ask_draw, ask_invert, ask_transport, asked_fingerprint, fingerprint_of, told_by
from .checks import checked_log_weight, checked_start, require_contract, require_dimension, require_weighed, sound_draw
from .contract import evaluations_to_weigh
from .moves import in_basis
from .multiple_try import choose

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..action import Action
    from ..streams import Streams
    from .contract import LatentProposal
    from .moves import Move


__all__ = ["LatentMetropolis"]


class _Candidate(NamedTuple):
    """One proposed next state for every chain: arrays (n_chains, ...)."""

    phi: FloatArray
    action: FloatArray
    log_q: FloatArray
    latent: FloatArray


class LatentMetropolis:
    """Kernel of partial and block moves in the noise of a proposal, for a batch of chains.

    Parameters
    ----------
    proposal : LatentProposal
    action : latticediff.action.Action
    move : latticediff.metropolis.moves.Move
    tries : int
        Candidates for each update.

    Raises
    ------
    UserError
        If `proposal` lacks a part of the contract or has another dimension than `action`, or the move
        does not fit the lattice or the proposal.

    Notes
    -----
    ``info`` holds ``accepted`` and ``delta_log_weight``, that of the candidate minus that of the current
    field (-inf: the candidate diverged).
    """

    @numpy_defaults()
    def __init__(self, proposal: LatentProposal, action: Action, move: Move, tries: int = 1) -> None:
        names = (
            "transport",
            "invert",
            "noise_shape",
            "noise_basis",
            "draw",
            "fingerprint",
            "is_deterministic",
            "lattice_shape",
        )
        require_contract(proposal, names, "LatentProposal")
        require_dimension(proposal, action)
        if tries < 1:
            raise UserError(f"tries = {tries}; expected at least 1")
        self.proposal, self.action, self.move, self.tries = proposal, action, move, int(tries)
        lattice = tuple(cast(Shape, proposal.lattice_shape))  # a map from noise is for one lattice
        shape = tuple(proposal.noise_shape)
        # a path's noise may have all sites, or modes, in one axis: moves see the axes of the lattice
        lead = shape[: -len(lattice)] if shape[-len(lattice) :] == lattice else shape[:-1]
        self._fingerprint: str | None = None  # of a proposal of others, when it was first asked
        self._lattice, self._noise_shape = lattice, (*lead, *lattice)
        # a move that does not fit is refused now; nothing of this draw is used
        move.correlations((1, *self._noise_shape), lattice, np.random.default_rng(0))

    @property
    def evaluations_per_update(self) -> int:
        """Network evaluations per update of one chain."""
        refresh = 0 if self.proposal.is_deterministic else evaluations_to_weigh(self.proposal)
        return self.proposal.evaluations_per_draw * self.tries + refresh

    @property
    def evaluations_to_weigh(self) -> int:
        """Network evaluations that an update costs in addition where another kernel has moved the field."""
        return evaluations_to_weigh(self.proposal) if self.proposal.is_deterministic else 0

    def describe(self) -> Description:
        """JSON-able parameters, stored with every ensemble."""
        return {
            "name": "latent_metropolis",
            "move": self.move.describe(),
            "tries": self.tries,
            "evaluations_per_update": self.evaluations_per_update,
            "proposal": {**told_by(self.proposal), "fingerprint": fingerprint_of(self.proposal)},
        }

    @numpy_defaults()
    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0 from fields (n_chains, *lattice); their noise is found at the first update."""
        phi = checked_start(phi, self.proposal, self.action)
        return ChainState(phi, np.asarray(self.action(phi)), 0)

    @numpy_defaults()
    def hot_start(self, n_chains: int, rng: Streams) -> ChainState:
        """`ChainState` at update 0 from `n_chains` proposals of the stream ``rng``.

        Raises
        ------
        UserError
            All proposals blew up.
        """
        return self.start(sound_draw(ask_draw(self.proposal, n_chains, rng.generator("start"))).phi)

    @numpy_defaults()
    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `latticediff.markov.Kernel`."""
        check_counts(n_updates, thin)
        self._fingerprint = asked_fingerprint(self.proposal, self._fingerprint)
        n_chains, is_deterministic = len(state.phi), self.proposal.is_deterministic
        phi, action = state.phi.copy(), np.array(state.action)
        u: Any = None  # None until it is known, which it is in every update
        log_q: Any = None
        if is_deterministic and state.latent is not None and state.log_q is not None:
            u, log_q = state.latent.copy(), state.log_q.copy()
        elif is_deterministic and n_updates:
            u, log_q = self._invert(phi, rng.generator("start"))
        n_kept = (state.update + n_updates) // thin - state.update // thin
        kept_phi, kept_action, at = np.empty((n_kept, *phi.shape)), np.empty((n_kept, n_chains)), 0
        accepted, deltas = np.empty((n_updates, n_chains), bool), np.empty((n_updates, n_chains))
        for k in range(n_updates):
            if not is_deterministic:
                u, log_q = self._invert(phi, rng.generator("refresh"))
            new, log_rest = self._candidate(u, rng)
            log_weight, log_weight_new = -action - log_q, -new.action - new.log_q
            log_u = np.log(rng.generator("accept").random(n_chains))
            accept = log_weight < bounds(log_u, log_weight_new, log_rest)
            for mine, theirs in ((phi, new.phi), (action, new.action), (log_q, new.log_q), (u, new.latent)):
                mine[accept] = theirs[accept]
            accepted[k], deltas[k] = accept, log_weight_new - log_weight
            if (state.update + k + 1) % thin == 0:
                kept_phi[at], kept_action[at] = phi, action
                at += 1
        latent = (log_q, u) if is_deterministic else (None, None)  # a path is redrawn: nothing to keep
        block = Block(kept_phi, kept_action, {"accepted": accepted, "delta_log_weight": deltas})
        return ChainState(phi, action, state.update + n_updates, *latent), block

    def _invert(self, phi: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        u, log_q = ask_invert(self.proposal, phi, rng)
        return u.reshape(len(phi), *self._noise_shape), require_weighed(log_q)

    def _candidate(self, u: FloatArray, rng: Streams) -> tuple[_Candidate, FloatArray | None]:
        """One candidate for each chain, and `log_rest` of the others (None: there are none)."""
        draws, move, lattice = rng.generator("propose"), self.move, self._lattice
        has = self.proposal.noise_basis
        rho = move.correlations(u.shape, lattice, draws)
        u = in_basis(u, lattice, has, move.basis)
        if self.tries == 1:
            candidates = _step(u, rho, draws)
        else:
            centre = _step(u, np.sqrt(rho), draws)
            candidates = np.stack([_step(centre, np.sqrt(rho), draws) for _ in range(self.tries)], axis=1)
            candidates = candidates.reshape(-1, *u.shape[1:])
        if move.basis not in (None, has):
            candidates = in_basis(candidates, lattice, move.basis, has)
        draw = ask_transport(self.proposal, candidates.reshape(-1, *self.proposal.noise_shape))
        action = np.asarray(self.action(draw.phi))
        log_weight = checked_log_weight(-action - draw.log_q, self.proposal)
        if self.tries == 1:
            return _Candidate(draw.phi, action, draw.log_q, candidates), None
        index, log_rest = choose(log_weight.reshape(-1, self.tries), rng.generator("choose").random(len(u)))
        chosen = np.arange(len(u)) * self.tries + index
        return _Candidate(draw.phi[chosen], action[chosen], draw.log_q[chosen], candidates[chosen]), log_rest


def _step(u: FloatArray, rho: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The autoregressive step of `moves`."""
    return rho * u + np.sqrt(1 - rho**2) * rng.standard_normal(u.shape)
