"""From a score model to proposals with known density: float64 NumPy out, torch inside.

Rooms: `ode` (probability-flow ODE), `sde` (reverse SDE with path weight).
"""

from .ode import OdeProposal
from .sde import SdeProposal

__all__ = ["OdeProposal", "SdeProposal"]
