"""Whether updates leave exact fields distributed as they were: paired changes of moments, chain by chain."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..types import FloatArray
from .faults import Faults

__all__ = ["moments", "moved"]


def moments(phi: FloatArray, action: Any = None) -> dict[str, FloatArray]:
    """Moments of each field, (n,), of fields (n, *lattice): one-point, two-point, and S where an action is given."""
    n, axes = len(phi), tuple(range(1, phi.ndim))
    m = phi.reshape(n, -1).mean(axis=1)
    found: dict[str, FloatArray] = {"m": m, "|m|": np.abs(m), "m^2": m**2}
    found |= {"phi^2": (phi**2).mean(axis=axes), "phi^4": (phi**4).mean(axis=axes)}
    for axis in axes:
        found[f"phi phi' along axis {axis - 1}"] = (phi * np.roll(phi, 1, axis)).mean(axis=axes)
    if action is not None:
        found["S"] = np.asarray(action(phi), np.float64)
        found["phi dS/dphi"] = -(phi * np.asarray(action.force(phi))).mean(axis=axes)
    return found


def moved(before: dict[str, FloatArray], after: dict[str, FloatArray], n_sigma: float) -> Faults:
    """A line for each moment whose mean change is more than `n_sigma` of its own standard error from 0."""
    found: Faults = []
    for name, values in before.items():
        change = after[name] - values
        mean, error = float(change.mean()), float(change.std(ddof=1) / np.sqrt(len(change)))
        # changes of rounding alone are none
        if abs(mean) > n_sigma * error and abs(mean) > 1e-12 * float(np.abs(values).max()):
            found.append(
                f"not stationary: the mean of {name} moves by {mean:.4g} +- {error:.2g} from exact fields,"
                f" {abs(mean) / error if error else np.inf:.1f} standard errors"
            )
    return found
