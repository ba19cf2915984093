"""From a score model to proposals with known density: float64 NumPy out, torch inside.

Rooms: `ode` (probability-flow ODE), `sde` (reverse SDE with path weight), `partial` (the same from an intermediate
noise level), `refine` (annealing above either), `fine` (fine sites beside a proposal of coarse ones), `whole` (even
sites beside a proposal of odd ones), `own` (what a model proposes by itself).
"""

from .ode import OdeProposal
from .own import proposal_for
from .partial import PathProposal
from .refine import RefinedProposal, tuned_step
from .sde import SdeProposal
from .whole import WholeProposal

__all__ = [
    "OdeProposal",
    "PathProposal",
    "RefinedProposal",
    "SdeProposal",
    "WholeProposal",
    "proposal_for",
    "tuned_step",
]
