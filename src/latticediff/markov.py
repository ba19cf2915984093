"""Markov chains: what a chain carries, what a kernel does, how kernels combine.

All kernels act on a *batch* of independent chains at once, since that is what vectorises; one
chain is a batch of one. State (what must be carried) is apart from info (what is worth knowing).
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

from numpy.typing import ArrayLike, NDArray

from . import registry
from .action import Action
from .asking import asked
from .contracts import Asked
from .errors import FileError, UserError
from .randomness import Rng, as_streams
from .streams import Streams
from .types import Description, FloatArray

__all__ = ["ActionKernel", "Block", "ChainState", "Kernel", "Restorable", "chain", "kernel_from_description"]


class ChainState(NamedTuple):
    """The state of a batch of chains; with the streams it is all that a resumed run needs."""

    phi: FloatArray  #: (n_chains, *lattice)
    action: FloatArray  #: (n_chains,), S(phi)
    update: int  #: updates done since the start; counter of the random streams
    log_q: FloatArray | None = None  #: (n_chains,), log density of phi under the proposal; None: not known
    latent: FloatArray | None = None  #: (n_chains, ...), the noise that the proposal maps to phi; None: not known


class Block(NamedTuple):
    """Consecutive updates of a batch of chains.

    `phi` and `action` hold every `thin`-th update, `info` every update: a dict of arrays
    (n_updates, n_chains) under the field's names: ``accepted``, ``delta_h``, ``log_weight``.
    """

    phi: FloatArray  #: (n_kept, n_chains, *lattice)
    action: FloatArray  #: (n_kept, n_chains)
    info: dict[str, NDArray[Any]]


@runtime_checkable
class Kernel(Protocol, metaclass=Asked):
    """A transition that leaves exp(-S) invariant."""

    def start(self, phi: ArrayLike) -> ChainState:
        """`ChainState` at update 0 from fields (n_chains, *lattice)."""

    def advance(self, state: ChainState, rng: Streams, n_updates: int, thin: int = 1) -> tuple[ChainState, Block]:
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

    def describe(self) -> Description:
        """JSON-able parameters, stored with every ensemble; ``"name"`` is that of the entry point."""


@runtime_checkable
class ActionKernel(Kernel, Protocol):
    """A kernel that says for which action it is: what can be combined with others (`latticediff.composite`)."""

    @property
    def action(self) -> Action:
        """S, of the invariant density exp(-S)."""


@runtime_checkable
class Restorable(ActionKernel, Protocol):
    """A kernel that its description builds again, so that a file can be run on without the card that began it."""

    @classmethod
    def from_description(cls, action: Action, description: Description) -> Self:
        """The kernel for `action` whose `describe` gave this description."""


def kernel_from_description(action: Action, description: Description) -> Restorable:
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
    name: Any = description.get("name")
    try:
        kind = registry.load("kernels", name)
    except UserError as exc:
        raise FileError(f"the algorithm is {name!r}, which cannot be run on: {exc}") from None
    if not hasattr(kind, "from_description"):
        raise FileError(f"the algorithm is {name!r}; expected a classical kernel, which has from_description")
    call = "from_description"
    return asked(kind, "kernel", call, kind.from_description, action, description, passing=(KeyError, TypeError))


def chain(
    kernel: Kernel, state: ChainState, rng: Rng = None, block: int = 1, thin: int = 1
) -> Iterator[tuple[ChainState, Block]]:
    """Generator of ``(state, block)``, for ever; the caller stores and decides when to stop.

    Parameters
    ----------
    kernel : Kernel
    state : ChainState
    rng : Streams, numpy.random.Generator, int or None
        See `latticediff.randomness.as_streams`; taken when the first block is asked for.
    block : int
        Updates per yield. Larger is faster, the bits are the same.
    thin : int
        Keep every `thin`-th update.
    """
    streams = as_streams(rng)
    while True:
        state, done = kernel.advance(state, streams, block, thin)
        yield state, done
