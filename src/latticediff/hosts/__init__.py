"""Our proposals inside other people's Monte Carlo: what docs/embedding.md shows.

Rooms: `model` (`load`: a model by name, its action and its proposals), `proposal` (draw and weigh, with any `rng`),
`compiling` (says when the first use compiles), `pickling`;
`emcee` and `blackjax` want the packages of those names and are imported
by their own names only.
"""

from .model import Model, load
from .proposal import HostProposal, Weights

__all__ = ["HostProposal", "Model", "Weights", "load"]
