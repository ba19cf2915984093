"""Markov chains: what a chain carries, what a kernel does, how kernels combine.

All kernels act on a *batch* of independent chains at once, since that is what vectorises; one
chain is a batch of one. State (what must be carried) is apart from info (what is worth knowing).
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from . import registry
from .errors import FileError, UserError

__all__ = ["Block", "ChainState", "Kernel", "Restorable", "chain", "kernel_from_description"]


class ChainState(NamedTuple):
    """The state of a batch of chains; with the streams it is all that a resumed run needs."""

    phi: np.ndarray  #: (n_chains, *lattice), float64
    action: np.ndarray  #: (n_chains,), S(phi), float64
    update: int  #: updates done since the start; counter of the random streams
    log_q: np.ndarray | None = None  #: (n_chains,), density of phi under the proposal; None: not known
    latent: np.ndarray | None = None  #: (n_chains, ...), the noise that the proposal maps to phi; None: not known


class Block(NamedTuple):
    """Consecutive updates of a batch of chains.

    `phi` and `action` hold every `thin`-th update, `info` every update: a dict of arrays
    (n_updates, n_chains) under the field's names: ``accepted``, ``delta_h``, ``log_weight``.
    """

    phi: np.ndarray  #: (n_kept, n_chains, *lattice), float64
    action: np.ndarray  #: (n_kept, n_chains), float64
    info: dict


@runtime_checkable
class Kernel(Protocol):
    """A transition that leaves exp(-S) invariant."""

    def start(self, phi):
        """`ChainState` at update 0 from fields (n_chains, *lattice)."""

    def advance(self, state, rng, n_updates, thin=1):
        """Run `n_updates` updates of every chain.

        Parameters
        ----------
        state : ChainState
        rng : latticediff.streams.Streams
            Randomness is a function of the stream and ``state.update`` only, so how a run is cut
            into blocks does not change a bit.
        n_updates, thin : int
            Record after updates whose number (``state.update`` counted from 1) is a multiple of `thin`.

        Returns
        -------
        state : ChainState
        block : Block
        """

    def describe(self):
        """JSON-able parameters, stored with every ensemble; ``"name"`` is that of the entry point."""


@runtime_checkable
class Restorable(Kernel, Protocol):
    """A kernel that its description builds again, so that a file can be run on without the card that began it."""

    @classmethod
    def from_description(cls, action, description):
        """The kernel for `action` of which `describe` gave `description`."""


def kernel_from_description(action, description):
    """The frozen kernel that wrote a file; inverse of the kernel's ``describe``.

    Parameters
    ----------
    action : Action
    description : dict
        ``description["name"]`` is looked up in the entry-point group ``latticediff.kernels``.

    Raises
    ------
    FileError
        No such kernel is installed, or it cannot be built from a description.
    """
    name = description.get("name")
    try:
        kind = registry.load("kernels", name)
    except UserError as exc:
        raise FileError(f"the algorithm is {name!r}, which cannot be run on: {exc}") from None
    if not hasattr(kind, "from_description"):
        raise FileError(f"the algorithm is {name!r}; expected a classical kernel, which has from_description")
    return kind.from_description(action, description)


def chain(kernel, state, rng, block=1, thin=1):
    """Generator of ``(state, block)``, for ever; the caller stores and decides when to stop.

    Parameters
    ----------
    kernel : Kernel
    state : ChainState
    rng : Streams
    block : int
        Updates per yield. Larger is faster, the bits are the same.
    thin : int
        Keep every `thin`-th update.
    """
    while True:
        state, done = kernel.advance(state, rng, block, thin)
        yield state, done
