"""Kernels made of kernels: one after the other, or one of them at random."""

import numpy as np

from .arrays import real_array
from .errors import UserError
from .hmc.checks import check_counts
from .markov import Block, ChainState, kernel_from_description

__all__ = ["Mixture", "Sequence"]


def _parts(kernels):
    parts = tuple(kernels)
    if not parts:
        raise UserError("no kernel to combine; expected at least one")
    return parts


class _Composite:
    """Common to both: recording, and one branch of the streams per part.

    Branches keep the parts independent even where they are of one kind. The density of a field
    under a proposal is dropped after every part: another kernel moved the field.
    """

    @property
    def action(self):
        """The first part's; all of them are of one theory."""
        return self.parts[0].action

    @property
    def evaluations_per_update(self):
        """Network evaluations per update: of every part, and to weigh again what another part has moved."""
        return sum(self._evaluations(part) for part in self.parts)

    @staticmethod
    def _evaluations(part):
        return sum(getattr(part, name, 0) for name in ("evaluations_per_update", "evaluations_to_weigh"))

    def _cost(self):
        """What `describe` says of it; nothing where no part has a network."""
        evaluations = self.evaluations_per_update
        return {"evaluations_per_update": evaluations} if evaluations else {}

    def start(self, phi):
        """As the first part's."""
        return self.parts[0].start(phi)

    def hot_start(self, n_chains, rng):
        """As that of the first part that has one.

        Raises
        ------
        UserError
            None has: classical kernels start from fields.
        """
        for part in self.parts:
            if hasattr(part, "hot_start"):
                return part.hot_start(n_chains, rng)._replace(log_q=None, latent=None)
        raise UserError("no part draws fields of its own; start from fields")

    def _run(self, state, rng, n_updates, thin, update_once):
        check_counts(n_updates, thin)
        n_chains = state.phi.shape[0]
        n_kept = (state.update + n_updates) // thin - state.update // thin
        kept_phi, kept_action = np.empty((n_kept, *state.phi.shape)), np.empty((n_kept, n_chains))
        rows, at = [], 0
        for _ in range(n_updates):
            state, row = update_once(state, rng)
            rows.append(row)
            if state.update % thin == 0:
                kept_phi[at], kept_action[at] = state.phi, state.action
                at += 1
        names = rows[0] if rows else ()
        info = {name: np.stack([row[name] for row in rows]) for name in names}
        return state, Block(kept_phi, kept_action, info)

    def _advance_part(self, index, state, rng):
        branch = rng.child(f"part-{index}")
        after, block = self.parts[index].advance(state._replace(log_q=None, latent=None), branch, 1)
        return ChainState(after.phi, after.action, state.update), {key: rows[0] for key, rows in block.info.items()}


class Sequence(_Composite):
    """One update is one update of every part, in order.

    Each part leaves exp(-S) invariant, so their product does (detailed balance need not hold).

    Parameters
    ----------
    kernels : sequence of Kernel

    Raises
    ------
    UserError
        If `kernels` is empty.

    Notes
    -----
    ``info`` holds what the parts report. Where several report one name, the plain name is that of
    the first part with ``delta_h`` (else of the last), and the others read ``<part number>_<name>``.
    """

    def __init__(self, kernels):
        self.parts = _parts(kernels)

    def _once(self, state, rng):
        rows = []
        for index in range(len(self.parts)):
            state, row = self._advance_part(index, state, rng)
            rows.append(row)
        leader = next((index for index, row in enumerate(rows) if "delta_h" in row), len(rows) - 1)
        merged = dict(rows[leader])
        for index, row in enumerate(rows):
            if index != leader:
                merged.update({f"{index}_{name}" if name in merged else name: value for name, value in row.items()})
        return state._replace(update=state.update + 1), merged

    def advance(self, state, rng, n_updates, thin=1):
        """See `markov.Kernel`."""
        return self._run(state, rng, n_updates, thin, self._once)

    @property
    def force_evaluations_per_update(self):
        """Sum over the parts."""
        return sum(getattr(part, "force_evaluations_per_update", 0) for part in self.parts)

    @classmethod
    def from_description(cls, action, description):
        """The kernel that `describe` described."""
        return cls([kernel_from_description(action, part) for part in description["parts"]])

    def describe(self):
        """JSON-able parameters of every part."""
        return {"name": "sequence", "parts": [part.describe() for part in self.parts], **self._cost()}


class Mixture(_Composite):
    """One update is one update of a part drawn at random, the same part for all chains.

    Parameters
    ----------
    kernels : sequence of Kernel
    weights : sequence of float, optional
        Probabilities up to a factor; equal if not given.

    Raises
    ------
    UserError
        No kernel, or weights that are no probabilities.

    Notes
    -----
    ``info`` holds ``accepted`` and ``choice``, the number of the part that ran: what else a part
    reports has no value in the updates of the others.
    """

    def __init__(self, kernels, weights=None):
        self.parts = _parts(kernels)
        weights = np.ones(len(self.parts)) if weights is None else real_array(weights, "weights")
        if weights.shape != (len(self.parts),) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise UserError(f"weights are {weights.tolist()}; expected {len(self.parts)} non-negative numbers")
        self.weights = weights / weights.sum()

    def _once(self, state, rng):
        from ._kernels.random import uniform

        u = uniform(rng.key("choice")[0], np.uint64(0), np.uint64(0), np.uint64(state.update))
        # u lies in (0, 1]: a part of weight zero is never chosen
        choice = int(np.searchsorted(np.cumsum(self.weights), u))
        choice = min(choice, int(np.flatnonzero(self.weights)[-1]))
        state, row = self._advance_part(choice, state, rng)
        row = {"accepted": row["accepted"], "choice": np.full(state.phi.shape[0], choice)}
        return state._replace(update=state.update + 1), row

    def advance(self, state, rng, n_updates, thin=1):
        """See `markov.Kernel`."""
        return self._run(state, rng, n_updates, thin, self._once)

    @property
    def evaluations_per_update(self):
        """Mean over the parts, each with its probability."""
        return sum(w * self._evaluations(part) for w, part in zip(self.weights.tolist(), self.parts, strict=True))

    @classmethod
    def from_description(cls, action, description):
        """The kernel that `describe` described."""
        return cls([kernel_from_description(action, part) for part in description["parts"]], description["weights"])

    def describe(self):
        """JSON-able parameters of every part, and the weights."""
        return {
            "name": "mixture",
            "weights": self.weights.tolist(),
            "parts": [part.describe() for part in self.parts],
            **self._cost(),
        }
