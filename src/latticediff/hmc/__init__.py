"""Hybrid Monte Carlo in compiled kernels: `HMC`, its integrators, and `tune`."""

from .integrators import INTEGRATORS
from .kernel import HMC
from .tuning import tune, warm_up

__all__ = ["HMC", "INTEGRATORS", "tune", "warm_up"]
