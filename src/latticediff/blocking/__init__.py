"""Block spins and the way back: fine fields drawn for given coarse ones, with their density.

Rooms: `kernel` (the linear map from fine to coarse fields), `conditional` (the Gaussian of the fine field given the
coarse one, exactly normalised), `gap` (its propagator from the couplings alone), `held` (HMC at fixed block spins).
"""

from .conditional import ConditionalGaussian
from .gap import gap_propagator
from .held import HeldHMC
from .kernel import Blocking, read_blocking

__all__ = ["Blocking", "ConditionalGaussian", "HeldHMC", "gap_propagator", "read_blocking"]
