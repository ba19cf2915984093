"""Exact Metropolis with proposals of known density; this room never sees a network.

Modules: `contract` (what a proposal must supply), `independence` (the independence sampler), `multiple_try` (several
proposals for one update), `latent` and `moves` (correlated proposals: partial noise, blocks), `accept_reject` (the
accept/reject loop), `proposed` (what is kept of every proposal), `doubling` (is log_q a density?), `checks` (what is
refused).
"""

from .contract import Draw, LatentProposal, Proposal
from .doubling import check_doubling, doubling_error
from .independence import IndependenceMetropolis
from .latent import LatentMetropolis
from .multiple_try import MultipleTry

__all__ = [
    "Draw",
    "IndependenceMetropolis",
    "LatentMetropolis",
    "LatentProposal",
    "MultipleTry",
    "Proposal",
    "check_doubling",
    "doubling_error",
]
