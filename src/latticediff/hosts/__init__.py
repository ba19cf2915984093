"""Our proposals inside other people's Monte Carlo: what docs/embedding.md shows.

Rooms: `loading` (`load`: a model by name), `model` (its action and its proposals), `phases` (the same for a model of
coexisting phases), `proposal` (draw and weigh, with any `rng`), `compiling` (says when the first use compiles),
`pickling`; `emcee`, `blackjax`, `numpyro` and `flowmc` want the packages of those names and are imported by their own
names only; `jax_draws` is what the last three share.
"""

from .loading import load
from .model import Model
from .phases import PhasesModel
from .proposal import HostProposal, Weights

__all__ = ["HostProposal", "Model", "PhasesModel", "Weights", "load"]
