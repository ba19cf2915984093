"""A move for emcee: independent proposals of a model, with the log_q of every walker carried along.

emcee's own ``MHMove`` asks for a ratio of densities, so the old field would be weighed at every step, which costs three
integrations of the flow where a draw costs one. `IndependenceMove` remembers log_q of the fields where it left the
walkers, and weighs only those that another move has changed since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from ..randomness import Rng, as_generator
from ..types import FloatArray

try:
    from emcee.moves import Move
    from emcee.state import State
except ImportError as exc:
    raise UserError(f"latticediff.hosts.emcee needs emcee ({exc}); pip install 'latticediff[emcee]'") from None

if TYPE_CHECKING:
    from .proposal import HostProposal

__all__ = ["IndependenceMove", "log_prob"]


def log_prob(proposal: HostProposal) -> Any:
    """``-S`` of flattened fields (n, V), for ``emcee.EnsembleSampler(..., vectorize=True)``."""

    def minus_action(coordinates: FloatArray) -> FloatArray:
        return -np.asarray(proposal.action(coordinates.reshape(-1, *proposal.shape)))

    return minus_action


class IndependenceMove(Move):  # type: ignore[misc]  # emcee declares no types
    """Every walker is offered a fresh field: accepted with probability ``min(1, p(x') q(x) / (p(x) q(x')))``.

    Walkers are fields of V numbers, in C order. p is whatever ``log_prob`` of the sampler says, so another theory than
    the model's is sampled exactly, too.

    Parameters
    ----------
    proposal : HostProposal
        Of a deterministic density (``ode``): a path proposal would have to carry its path.
    rng : numpy.random.Generator, int or None
        Of the proposals; the accept steps use emcee's random state. Proposals are drawn ahead, so a chain is repeated
        by a new move with the same seed.
    batch : int
        Fields drawn at once; the numbers do not depend on it.

    Raises
    ------
    UserError
        A path proposal, or a `batch` below 1.
    """

    def __init__(self, proposal: HostProposal, rng: Rng = None, batch: int = 1024) -> None:
        if not proposal.is_deterministic:
            raise UserError("emcee's walkers are fields, without the path that a density of route sde is of; use ode")
        if batch < 1:
            raise UserError(f"batch = {batch}; expected at least 1")
        self.proposal, self.batch = proposal, int(batch)
        self.rng = as_generator(rng, "emcee move")
        size = int(np.prod(proposal.shape))
        self._ahead: tuple[FloatArray, FloatArray] = (np.empty((0, size)), np.empty(0))
        self._known: tuple[FloatArray, FloatArray] = (np.empty((0, size)), np.empty(0))  # of walkers

    def propose(self, model: Any, state: Any) -> tuple[Any, Any]:
        """One update of every walker; see ``emcee.moves.Move``."""
        n_walkers, size = state.coords.shape
        if size != self._ahead[0].shape[1]:
            raise UserError(f"walkers have {size} coordinates; the proposal is of {self.proposal.shape}, flattened")
        before = self._weighed(state.coords)
        fields, log_q = self._next(n_walkers)
        alive = np.isfinite(log_q)
        log_p, blobs = model.compute_log_prob_fn(fields)
        with np.errstate(invalid="ignore"):
            change = np.where(alive, log_p - log_q, -np.inf) - (state.log_prob - before)
        accepted = np.log(model.random.rand(n_walkers)) < change
        state = self.update(state, State(fields, log_prob=log_p, blobs=blobs), accepted)
        self._known = state.coords.copy(), np.where(accepted, log_q, before)
        return state, accepted

    def _next(self, n: int) -> tuple[FloatArray, FloatArray]:
        """The next `n` proposals, flattened, and their log_q."""
        fields, log_q = self._ahead
        if len(log_q) < n:
            draw = self.proposal.draw(max(self.batch, n) - len(log_q), self.rng)
            fields = np.concatenate([fields, draw.phi.reshape(len(draw.phi), -1)])
            log_q = np.concatenate([log_q, draw.log_q])
        self._ahead = fields[n:], log_q[n:]
        return fields[:n], log_q[:n]

    def _weighed(self, coordinates: FloatArray) -> FloatArray:
        """log_q of the walkers: as known, or weighed where a walker is not where this move left it."""
        known, log_q = self._known
        if known.shape != coordinates.shape:
            moved, log_q = np.ones(len(coordinates), bool), np.empty(len(coordinates))
        else:
            moved, log_q = (known != coordinates).any(axis=1), log_q.copy()
        if moved.any():
            log_q[moved] = self.proposal.weigh(coordinates[moved].reshape(-1, *self.proposal.shape)).log_q
        if not np.isfinite(log_q).all():
            raise UserError("a walker stands at a field that no draw leads to; start from draws of the proposal")
        return log_q
