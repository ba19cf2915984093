r"""The density of a proposal on a lattice of one site: its integral, and the draws against it.

.. math:: q(\phi) = \langle e^{\mathrm{log\_q}} \rangle,\qquad \int q\, d\phi = 1,

the mean taken over the hidden paths of a path proposal; a deterministic one has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..metropolis.asking import ask_weigh
from ..metropolis.contract import Draw
from ..types import FloatArray
from .faults import Faults

__all__ = ["density_faults"]

_POINTS = 2001
_REACH = 6.0  #: of t in phi = centre + width sinh t: 200 widths to both sides
_PATHS = 64  #: hidden paths of each point
_TOLERANCE = 2e-3
_N_SIGMA = 5.0
_KOLMOGOROV = 2.6  #: of sqrt(n) D: exceeded once in 4e5 [Kolmogorov's distribution, 2 exp(-2 x^2)]


def density_faults(proposal: Any, draw: Draw, seed: int) -> Faults:
    """What is wrong with the density of a proposal of fields of one site, a line each.

    Parameters
    ----------
    proposal : Proposal
    draw : Draw
        Some hundred draws; `phi` has one site.
    seed : int
    """
    drawn = draw.phi.reshape(-1)[np.isfinite(draw.log_q)]
    centre, width = float(np.median(drawn)), float(np.subtract(*np.percentile(drawn, [75, 25]))) / 1.35
    if not width > 0:
        return ["all draws are one field; no density can be that of them"]
    t = np.linspace(-_REACH, _REACH, _POINTS)
    phi, measure = centre + width * np.sinh(t), width * np.cosh(t) * (t[1] - t[0])
    density, error = _density(proposal, phi.reshape(-1, *draw.phi.shape[1:]), seed)
    pieces = density * measure
    total, spread = float(pieces.sum()), float(np.sqrt(((error * measure) ** 2).sum()))
    if not abs(total - 1) <= _TOLERANCE + _N_SIGMA * spread:
        by = f" +- {spread:.2g}" if spread else ""
        return [f"its density is not normalised: exp(log_q) integrates to {total:.6g}{by} over a lattice of one site"]
    below = np.interp(np.sort(drawn), phi, np.cumsum(pieces) - 0.5 * pieces)
    steps = np.arange(len(drawn) + 1) / len(drawn)
    gap = float(max(np.abs(below - steps[1:]).max(), np.abs(below - steps[:-1]).max()))
    if gap * np.sqrt(len(drawn)) > _KOLMOGOROV + _N_SIGMA * spread * np.sqrt(len(drawn)):
        return [
            f"draws do not follow exp(log_q): their distribution is off its integral by {gap:.3g}, of {len(drawn)}"
            f" draws of one site; expected below {_KOLMOGOROV / np.sqrt(len(drawn)):.3g}"
        ]
    return []


def _density(proposal: Any, phi: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
    """q at each point, and the standard error of its mean over hidden paths; 0 where a point cannot be weighed."""
    rng = np.random.default_rng(seed)
    n_paths = 1 if proposal.is_deterministic else _PATHS
    log_q = np.array([ask_weigh(proposal, phi, rng) for _ in range(n_paths)])
    values = np.exp(np.where(np.isnan(log_q), -np.inf, log_q))
    error = values.std(axis=0, ddof=1) / np.sqrt(n_paths) if n_paths > 1 else np.zeros(len(phi))
    return values.mean(axis=0), error
