"""From a score model to proposals with known density: float64 NumPy out, torch inside.

Rooms: `ode` (probability-flow ODE), `sde` (reverse SDE with path weight), `partial` (the same from an intermediate
noise level), `refine` (annealing above either).
"""

from .ode import OdeProposal
from .partial import PathProposal
from .refine import RefinedProposal, tuned_step
from .sde import SdeProposal

__all__ = ["OdeProposal", "PathProposal", "RefinedProposal", "SdeProposal", "tuned_step"]
