r"""What the reverse steps need to know about a score beyond its power: a small table over noise levels.

The covariance of a reverse step is :math:`\Delta + \Delta^2 \nabla s(x)`. Its mean over fields follows from the score
power; here its fluctuation is fitted by one number per noise level, the strength t in

.. math:: \nabla s - \langle \nabla s \rangle \approx t\; W\,(f(D) - \bar f)\,W, \qquad f = 1 / (1 + \kappa D^2),

and what the fit leaves over, together with the third derivatives of log p, says what a step of size Delta costs:

.. math:: KL(\Delta) \approx c_2 \Delta^2 + c_3 \Delta^3, \qquad
          c_2 = \tfrac14 \langle \| \nabla s - fit \|^2 \rangle, \quad
          c_3 = \tfrac1{12} \langle \|\nabla\nabla s - fit\|^2 \rangle.

Derivatives are central differences along random signs, at fields that the model itself draws, from a fixed seed: a
deterministic function of the model. Nothing here enters a density but through the parameters of the steps.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..types import FloatArray
from .layout import Array, Layout
from .steps import GaussianStep, curvature

__all__ = ["ResponseTable", "measure_response"]

N_LEVELS = 48
SITES = 2**13  #: field values per level
SHIFT = 0.2  #: of the differences, in units of sigma
SEED = 20_230_917


class ResponseTable(NamedTuple):
    """One number per noise level, ascending, float64; `strength`, `second` and `third` by kind of step.

    `f_mean` is the mean of f, `strength` the fitted t; `second` and `third` are c_2 and c_3. See the module's formulas.
    """

    log_sigma: FloatArray
    f_mean: FloatArray
    strength: dict[str, FloatArray]
    second: dict[str, FloatArray]
    third: dict[str, FloatArray]

    def at(self, kind: str, variances: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``(strength, f_mean)`` of a kind of step at these noise variances, interpolated in log sigma."""
        position = 0.5 * np.log(variances)
        return (
            np.interp(position, self.log_sigma, self.strength[kind]),
            np.interp(position, self.log_sigma, self.f_mean),
        )


def measure_response(
    modes: Layout, variances: FloatArray, covariances: Sequence[Array], prior: Array, b: float
) -> ResponseTable:
    """Fill a `ResponseTable` along one batch of reverse paths with field-independent covariances.

    Parameters
    ----------
    modes : Layout
        Its levels are those of the table.
    variances : ndarray, shape (n_levels + 1,)
    covariances : list
        Of each step; see `latticediff.diffusion.reverse.step_covariances`.
    prior : array
        ``G + v_N`` on the basis.
    b : float
        Coefficient of phi^4 in the action.

    Returns
    -------
    ResponseTable
        Rows that are not finite, as of an untrained network that blows up, have strength 0.
    """
    rng = np.random.default_rng(SEED)
    n = int(min(512, max(32, SITES // modes.volume)))

    def normal() -> Array:
        return modes.array(rng.standard_normal((n, modes.volume)))

    def signs() -> Array:
        return modes.from_sites(modes.array(rng.choice([-1.0, 1.0], (n, modes.volume))))

    sign, white = modes.vacua.enter(normal())
    x, rows = modes.vacua.fields(sign, modes.multiply(white, prior**0.5)), []
    for i in range(len(variances) - 1, 0, -1):
        s = modes.score(x, i)
        rows.append(_row(modes, x, s, i, float(variances[i]), b, signs(), signs()))
        delta = float(variances[i] - variances[i - 1])
        x = x + delta * s + GaussianStep(modes, covariances[i - 1]).draw(normal(), x, s)[0]
    table = np.array(rows[::-1])
    broken = ~np.isfinite(table).all(axis=1)
    v = np.asarray(variances[1:])
    table[broken, 0], table[broken, 1:3] = 0.5, 0.0
    # without knowledge steps are equal in log sigma
    table[broken, 3:6], table[broken, 6:] = v[broken, None] ** -2.0, 0.0
    f_mean, site, dressed, second_0, second_1, second_2, third_0, third_1 = table.T
    return ResponseTable(
        0.5 * np.log(v),
        f_mean,
        {"gaussian": 0 * site, "site": site.clip(0), "dressed": dressed.clip(0)},
        {"gaussian": second_0, "site": second_1, "dressed": second_2},
        {"gaussian": third_0, "site": third_1, "dressed": third_1},
    )


def _row(modes: Layout, x: Array, s: Array, i: int, v: float, b: float, u: Array, w: Array) -> list[float]:
    """One level of the table: mean of f, two strengths, three second and two third moments."""
    h = SHIFT * math.sqrt(v)
    corners = [[modes.score(x + h * (p * u + q * w), i) for q in (1, -1)] for p in (1, -1)]
    Ju = (corners[0][0] + corners[0][1] - corners[1][0] - corners[1][1]) / (4 * h)
    Jw = (corners[0][0] - corners[0][1] + corners[1][0] - corners[1][1]) / (4 * h)
    third = (corners[0][0] - corners[0][1] - corners[1][0] + corners[1][1]) / (4 * h * h)
    G = modes.G
    W = G / (G + v)
    D = modes.to_sites(x + v * s)
    kappa = curvature(b, v * float(W.mean()))
    f = 1 / (1 + kappa * D * D)
    f_mean = float(f.mean())

    def average(values: Array) -> float:
        return float(modes.total(values).mean())

    # the mean of J is diagonal in momentum
    u_modes = modes.to_modes(u)
    J_mean = (modes.to_modes(Ju) * u_modes).mean(0) / (u_modes * u_modes).mean(0)
    fluctuation = Ju - modes.multiply(u, J_mean)
    Wu = modes.to_sites(modes.multiply(u, W))
    plain = modes.from_sites((f - f_mean) * modes.to_sites(u))
    local = modes.multiply(modes.from_sites((f - f_mean) * Wu), W)
    strengths = [average(fluctuation * fit) / max(average(fit * fit), 1e-300) for fit in (plain, local)]
    left = [fluctuation - t * fit for t, fit in zip(strengths, (plain, local), strict=True)]
    # third derivatives that the skewness of the steps accounts for
    slope = modes.to_sites(w + v * Jw) * (-2 * kappa) * D * f * f
    vertex = strengths[1] * modes.multiply(modes.from_sites(slope * Wu), W)
    seconds = [0.25 * average(r * r) for r in (fluctuation, *left)]
    thirds = [average(r * r) / 12 for r in (third, third - vertex)]
    return [f_mean, *strengths, *seconds, *thirds]
