"""Hybrid Monte Carlo in compiled kernels: `HMC`, its integrators, `tune`, and the search for what costs least."""

from .angles import FourierHMC
from .integrators import INTEGRATORS
from .kernel import HMC
from .tuning import tune, warm_up

__all__ = ["HMC", "INTEGRATORS", "FourierHMC", "tune", "warm_up"]
