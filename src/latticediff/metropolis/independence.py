r"""Independence Metropolis: accept phi' with probability min(1, w(phi') / w(phi)), ``w = exp(-S - log_q)``.

For a deterministic proposal this is the textbook sampler on fields. For a path proposal the same
rule holds on the space of (field, path): either the path of the current field is carried along
(`keep`), or it is redrawn given the field before every update (*refresh*, a Gibbs step that leaves
nothing hidden in the state). Dropping log_q gives a chain that is exact for another theory
(`test_metropolis` shows it).
"""

import numpy as np

from ..errors import UserError
from ..markov import Block, ChainState

__all__ = ["IndependenceMetropolis"]


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
        If `proposal` lacks a part of the contract, or `refresh` is asked of a deterministic proposal.
    """

    def __init__(self, proposal, action, refresh=None, batch=1024):
        for name in ("draw", "weigh", "fingerprint", "is_deterministic"):
            if not hasattr(proposal, name):
                raise UserError(f"{type(proposal).__name__} has no {name}; see latticediff.metropolis.Proposal")
        if refresh and proposal.is_deterministic:
            raise UserError("refresh redraws a hidden path; a deterministic proposal has none")
        if batch < 1:
            raise UserError(f"batch = {batch}; expected at least 1")
        self.proposal, self.action, self.batch = proposal, action, int(batch)
        self.refresh = (not proposal.is_deterministic) if refresh is None else bool(refresh)

    @property
    def evaluations_per_update(self):
        """Network evaluations per update of one chain."""
        return self.proposal.evaluations_per_draw * (2 if self.refresh else 1)

    def describe(self):
        """JSON-able parameters, stored with every ensemble."""
        inner = self.proposal.describe() if hasattr(self.proposal, "describe") else {}
        return {
            "name": "independence_metropolis",
            "refresh": self.refresh,
            "evaluations_per_update": self.evaluations_per_update,
            "proposal": {**inner, "fingerprint": self.proposal.fingerprint()},
        }

    def start(self, phi):
        """`ChainState` at update 0 from fields (n_chains, *lattice); their density is found at the first update."""
        phi = np.ascontiguousarray(phi, np.float64)
        if not np.all(np.isfinite(phi)):
            raise UserError("start fields hold values that are not finite")
        return ChainState(phi, np.asarray(self.action(phi)), 0, None)

    def hot_start(self, n_chains, rng):
        """`ChainState` at update 0 from `n_chains` proposals of the stream ``rng``."""
        draw = self.proposal.draw(n_chains, rng.generator("start"))
        return ChainState(draw.phi, np.asarray(self.action(draw.phi)), 0, draw.log_q)

    def advance(self, state, rng, n_updates, thin=1):
        """See `latticediff.markov.Kernel`; info holds ``accepted`` and the proposals' ``log_weight``."""
        n_chains = len(state.phi)
        phi, action = state.phi.copy(), state.action.copy()
        if state.log_q is None:
            log_q = self._weigh(phi, rng.generator("start"))
        else:
            log_q = state.log_q.copy()
        kept_phi, kept_action = [], []
        accepted = np.empty((n_updates, n_chains), bool)
        log_weights = np.empty((n_updates, n_chains))
        proposals = self._proposals(n_updates * n_chains, rng.generator("propose"))
        for k in range(n_updates):
            new = [next(proposals) for _ in range(n_chains)]
            log_weight_new = np.array([entry[2] for entry in new])
            if self.refresh:
                log_q = self._weigh(phi, rng.generator("refresh"))
            log_alpha = log_weight_new - (-action - log_q)
            # a log weight of -inf compares False: a proposal that diverged is rejected
            accept = np.log(rng.generator("accept").random(n_chains)) < log_alpha
            for chain in np.flatnonzero(accept):
                phi[chain], action[chain], _, log_q[chain] = new[chain]
            accepted[k], log_weights[k] = accept, log_weight_new
            if (state.update + k + 1) % thin == 0:
                kept_phi.append(phi.copy())
                kept_action.append(action.copy())
        lattice = phi.shape[1:]
        block = Block(
            np.array(kept_phi).reshape(-1, n_chains, *lattice),
            np.array(kept_action).reshape(-1, n_chains),
            {"accepted": accepted, "log_weight": log_weights},
        )
        return ChainState(phi, action, state.update + n_updates, log_q), block

    def _weigh(self, phi, rng):
        log_q = self.proposal.weigh(phi, rng)
        if not np.all(np.isfinite(log_q)):
            raise UserError(
                "the proposal cannot weigh the chain's current field (log_q is not finite);"
                " start elsewhere, or train the model further"
            )
        return log_q

    def _proposals(self, n, rng):
        """Proposals one by one, drawn `batch` at a time: (phi, action, log_weight, log_q)."""
        for start in range(0, n, self.batch):
            draw = self.proposal.draw(min(self.batch, n - start), rng)
            action = np.asarray(self.action(draw.phi))
            log_weight = -action - draw.log_q
            # -inf (a proposal that diverged) is an honest rejection; NaN or +inf is a defect
            if not np.all(log_weight < np.inf):
                bad = log_weight[~(log_weight < np.inf)][0]
                raise UserError(f"proposal has log_weight {bad}; expected a number below infinity")
            yield from zip(draw.phi, action, log_weight, draw.log_q, strict=True)
