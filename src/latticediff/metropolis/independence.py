r"""Independence Metropolis: accept phi' with probability min(1, w(phi') / w(phi)), ``w = exp(-S - log_q)``.

For a deterministic proposal this is the textbook sampler on fields. For a path proposal the same
rule holds on the space of (field, path): either the path of the current field is carried along
(`keep`), or it is redrawn given the field before every update (*refresh*, a Gibbs step that leaves
nothing hidden in the state). Dropping log_q gives a chain that is exact for another theory
(`test_metropolis` shows it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from ..errors import UserError
from ..hmc.checks import check_counts
from ..host import numpy_defaults
from ..markov import Block, ChainState
from ..randomness import Rng, as_streams
from ..types import BoolArray, Description, FloatArray, IntArray
from .accept_reject import bounds, scan, windows
from .asking import ask_draw, ask_weigh, asked_fingerprint, fingerprint_of, told_by
from .checks import checked_log_weight, checked_start, require_contract, require_dimension, require_weighed, sound_draw
from .contract import evaluations_to_weigh
from .proposed import COLUMNS, proposed_columns
from .totals import actions_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..action import Action
    from ..streams import Streams
    from .contract import Proposal


__all__ = ["Candidates", "IndependenceMetropolis"]


class Candidates(NamedTuple):
    """One candidate for each of some updates of every chain; arrays (n_updates, n_chains, ...)."""

    phi: FloatArray
    action: FloatArray
    log_q: FloatArray
    log_weight: FloatArray
    #: of one fresh proposal, not selected by its weight, for the record: its ``log_weight`` and `COLUMNS`
    drawn: dict[str, FloatArray]
    log_rest: FloatArray | None = None  #: of the candidates not chosen; see `accept_reject.bounds`


class IndependenceMetropolis:
    """Kernel of the independence sampler for a batch of chains.

    Parameters
    ----------
    proposal : Proposal
    action : latticediff.action.Action
    refresh : bool, optional
        Redraw the hidden path of the current field before each update. Default: for path proposals.
    batch : int
        Proposals drawn at once; memory, not results, depends on it.

    Raises
    ------
    UserError
        If `proposal` lacks a part of the contract or has another dimension than `action`, or `refresh`
        is asked of a deterministic proposal.
    """

    name = "independence_metropolis"
    tries = 1

    def __init__(self, proposal: Proposal, action: Action, refresh: bool | None = None, batch: int = 1024) -> None:
        require_contract(proposal, ("draw", "weigh", "fingerprint", "is_deterministic", "lattice_shape"))
        if refresh and proposal.is_deterministic:
            raise UserError("refresh redraws a hidden path; a deterministic proposal has none")
        if batch < 1:
            raise UserError(f"batch = {batch}; expected at least 1")
        require_dimension(proposal, action)
        self.proposal, self.action, self.batch = proposal, action, int(batch)
        self.refresh = (not proposal.is_deterministic) if refresh is None else bool(refresh)
        self._actions = actions_of(action)
        self._fingerprint: str | None = None  # of a proposal of others, when it was first asked

    @property
    def evaluations_per_update(self) -> int:
        """Network evaluations per update of one chain."""
        return self.proposal.evaluations_per_draw * self.tries + self.refresh * evaluations_to_weigh(self.proposal)

    @property
    def evaluations_to_weigh(self) -> int:
        """Network evaluations that an update costs in addition where another kernel has moved the field."""
        return 0 if self.refresh else evaluations_to_weigh(self.proposal)

    def describe(self) -> Description:
        """JSON-able parameters, stored with every ensemble."""
        return {
            "name": self.name,
            "refresh": self.refresh,
            "evaluations_per_update": self.evaluations_per_update,
            "proposal": {**told_by(self.proposal), "fingerprint": fingerprint_of(self.proposal)},
        }

    @numpy_defaults()
    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0 from fields (n_chains, *lattice); their density is found at the first update."""
        phi = checked_start(phi, self.proposal, self.action)
        return ChainState(phi, self._actions(phi), 0, None)

    @numpy_defaults()
    def hot_start(self, n_chains: int, rng: Rng = None) -> ChainState:
        """`ChainState` at update 0 from `n_chains` proposals; `rng` as of `latticediff.chain`.

        Raises
        ------
        UserError
            All proposals blew up.
        """
        draw = sound_draw(ask_draw(self.proposal, n_chains, as_streams(rng).generator("start")))
        return ChainState(draw.phi, self._actions(draw.phi), 0, draw.log_q)

    @numpy_defaults()
    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `latticediff.markov.Kernel`; info holds ``accepted``, ``log_weight`` and `COLUMNS` of the proposals."""
        check_counts(n_updates, thin)
        self._fingerprint = asked_fingerprint(self.proposal, self._fingerprint)
        n_chains = len(state.phi)
        if self.refresh:
            state = state._replace(log_q=None)  # of a path that is redrawn
        elif state.log_q is None:
            log_q = require_weighed(ask_weigh(self.proposal, state.phi, rng.generator("start")))
            state = state._replace(log_q=log_q)
        n_kept = (state.update + n_updates) // thin - state.update // thin
        phi, action = np.empty((n_kept, *state.phi.shape)), np.empty((n_kept, n_chains))
        taken, stored, done = np.empty((n_updates, n_chains), bool), 0, 0
        drawn = {name: [np.empty((0, n_chains))] for name in ("log_weight", *COLUMNS)}
        for length in windows(n_updates, n_chains * self.tries, self.batch):
            candidates = self._candidates(length, n_chains, rng)
            log_u = np.log(rng.generator("accept").random((length, n_chains)))
            limits = bounds(log_u, candidates.log_weight, candidates.log_rest)
            if self.refresh:
                accepted, source = self._step_by_step(state, candidates, limits, rng)
            else:
                log_q = cast(FloatArray, state.log_q)  # known: found above where it was not
                accepted, source = scan(limits, candidates.log_weight, -state.action - log_q)
            kept = np.flatnonzero((state.update + 1 + np.arange(length)) % thin == 0)
            here = slice(stored, stored + len(kept))
            _fields_after(state.phi, candidates.phi, source[kept], phi[here])
            _fields_after(state.action, candidates.action, source[kept], action[here])
            taken[done : done + length] = accepted
            stored, done = here.stop, done + length
            for name, rows in candidates.drawn.items():
                drawn[name].append(rows)
            last: dict[str, Any] = {
                name: None if before is None else _fields_after(before, getattr(candidates, name), source[-1:])[0]
                for name, before in (("phi", state.phi), ("action", state.action), ("log_q", state.log_q))
            }
            state = ChainState(**last, update=state.update + length)
        return state, Block(
            phi, action, {"accepted": taken, **{name: np.concatenate(rows) for name, rows in drawn.items()}}
        )

    def _candidates(self, n_updates: int, n_chains: int, rng: Streams) -> Candidates:
        """`Candidates`: here every proposal is one."""
        phi, action, log_q, log_weight = self._fresh((n_updates, n_chains), rng)
        return Candidates(phi, action, log_q, log_weight, self._record(phi, action, log_weight))

    def _record(self, phi: FloatArray, action: FloatArray, log_weight: FloatArray) -> dict[str, FloatArray]:
        """What the history keeps of proposals, (n_updates, n_chains) each."""
        return {"log_weight": log_weight, **proposed_columns(phi, action, log_weight, self.action)}

    def _fresh(self, counts: tuple[int, ...], rng: Streams) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Proposals as arrays (*counts, ...): phi, action, log_q, log_weight."""
        draw = ask_draw(self.proposal, int(np.prod(counts)), rng.generator("propose"))
        action = self._actions(draw.phi)
        log_weight = checked_log_weight(-action - draw.log_q, self.proposal)
        phi, action, log_q, log_weight = (
            rows.reshape(*counts, *rows.shape[1:]) for rows in (draw.phi, action, draw.log_q, log_weight)
        )
        return phi, action, log_q, log_weight

    def _step_by_step(
        self, state: ChainState, candidates: Candidates, limits: FloatArray, rng: Streams
    ) -> tuple[BoolArray, IntArray]:
        """As `accept_reject.scan`, but the path of the current field is redrawn before each update."""
        accepted, source = np.empty(limits.shape, bool), np.empty(limits.shape, int)
        phi, action, came_from = state.phi.copy(), state.action.copy(), np.full(len(state.phi), -1)
        for k in range(len(limits)):
            log_q = require_weighed(ask_weigh(self.proposal, phi, rng.generator("refresh")))
            accept = -action - log_q < limits[k]
            phi[accept], action[accept], came_from[accept] = candidates.phi[k][accept], candidates.action[k][accept], k
            accepted[k], source[k] = accept, came_from
        return accepted, source


def _fields_after(before: FloatArray, fresh: FloatArray, source: IntArray, out: FloatArray | None = None) -> FloatArray:
    """Rows (n_kept, n_chains, ...) picked by `source` from `fresh` (n_updates, n_chains, ...), -1 from `before`."""
    one_by_one = fresh.reshape(-1, *before.shape[1:])
    places = np.maximum(source, 0) * len(before) + np.arange(len(before))
    rows = one_by_one.take(places, axis=0, out=out, mode="clip")  # the places are right; "raise" would copy `out`
    kept, chain = np.nonzero(source < 0)
    rows[kept, chain] = before[chain]
    return rows
