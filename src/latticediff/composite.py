"""Kernels made of kernels: one after the other, or one of them at random."""

from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .action import Action
from .arrays import real_array
from .asking import ask_advance
from .errors import UserError
from .hmc.checks import check_counts
from .markov import ActionKernel, Block, ChainState, kernel_from_description
from .streams import Streams
from .types import Description

__all__ = ["Mixture", "Sequence"]


Row = dict[str, NDArray[Any]]  #: what one update reports: arrays (n_chains,) by name


def _parts(kernels: Iterable[ActionKernel]) -> tuple[ActionKernel, ...]:
    parts = tuple(kernels)
    if not parts:
        raise UserError("no kernel to combine; expected at least one")
    return parts


class _Composite:
    """What both combinations share: they record the chains and give every part its own branch of the streams.

    With its own branch a part is independent of the others, even if they are of the same kind. The density of
    a field under a proposal is forgotten after every part, since the next kernel moves the field.
    """

    parts: tuple[ActionKernel, ...]

    @property
    def action(self) -> Action:
        """The action of the first part, which is the action of all: only kernels for the same theory are combined."""
        return self.parts[0].action

    @property
    def evaluations_per_update(self) -> float:
        """Network evaluations per update and chain, summed over the parts.

        A part that proposes with a network also has to evaluate the density of the field that another part moved.
        """
        return sum(self._evaluations(part) for part in self.parts)

    @staticmethod
    def _evaluations(part: ActionKernel) -> float:
        return sum(getattr(part, name, 0) for name in ("evaluations_per_update", "evaluations_to_weigh"))

    def _cost(self) -> dict[str, float]:
        """The entry of `describe` for the network evaluations; empty if no part uses a network."""
        evaluations = self.evaluations_per_update
        return {"evaluations_per_update": evaluations} if evaluations else {}

    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0 from fields (n_chains, *lattice), made by the first part, which checks them."""
        return self.parts[0].start(phi)

    def hot_start(self, n_chains: int, rng: Streams) -> ChainState:
        """A start from fields that the first part with a proposal draws itself.

        Raises
        ------
        UserError
            No part has a proposal: classical kernels start from fields that are given.
        """
        for part in self.parts:
            if hasattr(part, "hot_start"):
                return part.hot_start(n_chains, rng)._replace(log_q=None, latent=None)
        raise UserError("no part draws fields of its own; start from fields")

    def _run(
        self,
        state: ChainState,
        rng: Streams,
        n_updates: int,
        thin: int,
        update_once: Callable[[ChainState, Streams], tuple[ChainState, Row]],
    ) -> tuple[ChainState, Block]:
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

    def _advance_part(self, index: int, state: ChainState, rng: Streams) -> tuple[ChainState, Row]:
        branch = rng.child(f"part-{index}")
        after, block = ask_advance(self.parts[index], state._replace(log_q=None, latent=None), branch, 1)
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

    def __init__(self, kernels: Iterable[ActionKernel]) -> None:
        self.parts = _parts(kernels)

    def _once(self, state: ChainState, rng: Streams) -> tuple[ChainState, Row]:
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

    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `markov.Kernel`."""
        return self._run(state, rng, n_updates, thin, self._once)

    @property
    def force_evaluations_per_update(self) -> int:
        """Evaluations of -dS/dphi on the whole lattice per update and chain, summed over the parts."""
        return sum(getattr(part, "force_evaluations_per_update", 0) for part in self.parts)

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description."""
        return cls([kernel_from_description(action, part) for part in description["parts"]])

    def describe(self) -> Description:
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
        No kernel, or weights that are not one non-negative number for each of them.

    Notes
    -----
    ``info`` holds ``accepted`` and ``choice``, the number of the part that ran: what else a part
    reports has no value in the updates of the others.
    """

    def __init__(self, kernels: Iterable[ActionKernel], weights: ArrayLike | None = None) -> None:
        self.parts = _parts(kernels)
        weights = np.ones(len(self.parts)) if weights is None else real_array(weights, "weights")
        if weights.shape != (len(self.parts),) or not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
            raise UserError(f"weights are {weights.tolist()}; expected {len(self.parts)} non-negative numbers")
        self.weights = weights / weights.sum()

    def _once(self, state: ChainState, rng: Streams) -> tuple[ChainState, Row]:
        from ._kernels.random import uniform

        u = uniform(rng.key("choice")[0], np.uint64(0), np.uint64(0), np.uint64(state.update))
        # u lies in (0, 1]: a part of weight zero is never chosen
        choice = int(np.searchsorted(np.cumsum(self.weights), u))
        choice = min(choice, int(np.flatnonzero(self.weights)[-1]))
        state, row = self._advance_part(choice, state, rng)
        row = {"accepted": row["accepted"], "choice": np.full(state.phi.shape[0], choice)}
        return state._replace(update=state.update + 1), row

    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
        """See `markov.Kernel`."""
        return self._run(state, rng, n_updates, thin, self._once)

    @property
    def evaluations_per_update(self) -> float:
        """Network evaluations per update and chain: the mean over the parts, each with its probability."""
        return sum(w * self._evaluations(part) for w, part in zip(self.weights.tolist(), self.parts, strict=True))

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel whose `describe` gave this description."""
        return cls([kernel_from_description(action, part) for part in description["parts"]], description["weights"])

    def describe(self) -> Description:
        """JSON-able parameters of every part, and the weights."""
        return {
            "name": "mixture",
            "weights": self.weights.tolist(),
            "parts": [part.describe() for part in self.parts],
            **self._cost(),
        }
