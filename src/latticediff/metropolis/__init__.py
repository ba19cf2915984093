"""Exact Metropolis with proposals of known density; this room never sees a network.

Rooms: `contract` (what a proposal must supply), `independence` (the independence sampler).
"""

from .contract import Draw, Proposal
from .independence import IndependenceMetropolis

__all__ = ["Draw", "IndependenceMetropolis", "Proposal"]
