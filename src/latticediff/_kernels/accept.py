"""The accept step of the compiled trajectories."""

import math

import numpy as np

from .compile import cached
from .random import uniform

__all__ = ["metropolis"]


@cached
def metropolis(
    action: float,
    new_action: float,
    kinetic: float,
    new_kinetic: float,
    key: np.uint64,
    chain: np.uint64,
    now: np.uint64,
) -> tuple[bool, float]:
    """Whether a trajectory is taken, with probability min(1, exp(-delta_h)), and delta_h: inf if it diverged."""
    change = (new_action - action) + (new_kinetic - kinetic)
    # not math.isfinite: under these fast-math flags Numba 0.68 lets a NaN through it (test_hmc)
    if not abs(change) < math.inf:
        change = math.inf  # diverged: a rejection that is counted, never a NaN in a comparison
    return math.log(uniform(key, np.uint64(0), chain, now)) < -change or change <= 0.0, change
