"""What a route from a score model to proposals must offer, to be named in a card and on the command line."""

from typing import Any, Protocol, runtime_checkable

from ..contracts import Asked
from ..markov import ActionKernel, ChainState
from ..metropolis.contract import LatentProposal, Proposal
from ..streams import Streams

__all__ = ["LatentRoute", "LearnedKernel", "Route"]


@runtime_checkable
class Route(Protocol, metaclass=Asked):
    """A way from a model to a `Proposal`; found through the entry-point group ``latticediff.routes``.

    The keys of its section ``[sampling.NAME]`` are a pydantic model in the group ``latticediff.route_options``.
    """

    label: str  #: in tables and figures
    weights: str  #: ``"flow"``: fine-tuned ones where there are any; ``"score"``: those of score matching

    def proposal(self, model: Any, options: Any, batch: int) -> Proposal:
        """The proposal of a `ScoreModel` with the options of the section; at most `batch` fields at once."""
        ...


@runtime_checkable
class LatentRoute(Route, Protocol):
    """A route whose proposals are a bijection of noise, for moves near the current field."""

    has_path: bool  #: True: white noise of width sigma keeps the top of a path that begins there

    def latent(self, model: Any, options: Any, batch: int, sigma: float | None = None) -> LatentProposal:
        """The proposal from noise; with a path, from the noise level `sigma` down (default: the model's largest)."""
        ...


class LearnedKernel(ActionKernel, Protocol):
    """A kernel that ends in a learned proposal: what the stages ask of it beyond updates."""

    @property
    def evaluations_per_update(self) -> float:
        """Network evaluations of one update of one chain."""

    def hot_start(self, n_chains: int, rng: Streams) -> ChainState:
        """`ChainState` at update 0 of fields that the model draws."""
