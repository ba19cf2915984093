r"""Noise levels: the range a model was trained on, and ladders of reverse steps within it.

At `sigma_max`, several times the largest fluctuation of the field, the noised ensemble is Gaussian
with covariance G + sigma_max^2; at `sigma_min` the density is that of the ensemble to an accuracy
that only costs ESS, never exactness. A ladder of the reverse SDE is a sequence of variances
:math:`0 = v_0 < v_1 < \ldots < v_N`, those of the variance-exploding process; see
`latticediff.diffusion.process` for other coordinates.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..types import FloatArray

__all__ = ["LADDERS", "NoiseRange", "equal_cost"]

LADDERS = ("geometric", "cosine", "optimised")
FINE = 4096  # candidates for the levels of an optimised ladder


@dataclass(frozen=True)
class NoiseRange:
    """The noise levels a model was trained on.

    Parameters
    ----------
    sigma_min, sigma_max : float
        In units of the field, ``0 < sigma_min < sigma_max``.

    Raises
    ------
    UserError
        Anything else.
    """

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise UserError(
                f"sigma_min = {self.sigma_min:g}, sigma_max = {self.sigma_max:g}; expected 0 < sigma_min < sigma_max"
            )

    @property
    def log_range(self) -> tuple[float, float]:
        """``(log sigma_min, log sigma_max)``."""
        return math.log(self.sigma_min), math.log(self.sigma_max)

    def grid(self, n_steps: int) -> FloatArray:
        """Equidistant log sigma, (n_steps + 1,) float64, descending from sigma_max to sigma_min.

        Raises
        ------
        UserError
            No step.
        """
        if n_steps < 1:
            raise UserError(f"got {n_steps} steps; expected at least 1")
        low, high = self.log_range
        return np.linspace(high, low, n_steps + 1)

    def variances(self, n_steps: int, first: float | None = None) -> FloatArray:
        """The geometric ladder with `n_steps` steps: 0, then `first`^2 to sigma_max^2 log-spaced, ascending.

        `first` (default and least value: sigma_min) is where the last reverse step starts, which leads to
        the field itself. Below about a tenth of a site's width one Gaussian step is as good as several.

        Raises
        ------
        UserError
            Fewer than 2 steps, or a first level that is not below sigma_max.
        """
        low, high = self._ends(n_steps, first)
        return np.concatenate([[0.0], np.exp(2 * np.linspace(low, high, n_steps))])

    def cosine_variances(self, n_steps: int, unit: float, first: float | None = None) -> FloatArray:
        r"""The cosine ladder: equidistant angles, ``sigma = unit tan(theta)``.

        In the variables of the variance-preserving process ``alpha = cos(theta)``, ``sigma = sin(theta)`` [Nichol,
        Dhariwal 2102.09672, eq. (17)]. Their offset s and the clipping of beta, which keep the ends finite, are
        replaced by the ends `first` and sigma_max.

        Parameters
        ----------
        n_steps : int
        unit : float
            Field unit of the variance-preserving process, usually the width of a site.
        first : float, optional
            As in `variances`, and so are the errors.

        Returns
        -------
        ndarray, shape (n_steps + 1,), float64
            Variances, ascending from 0.
        """
        low, high = self._ends(n_steps, first)
        angles = np.linspace(math.atan(math.exp(low) / unit), math.atan(math.exp(high) / unit), n_steps)
        return np.concatenate([[0.0], (unit * np.tan(angles)) ** 2])

    def _ends(self, n_steps: int, first: float | None) -> tuple[float, float]:
        if n_steps < 2:
            raise UserError(f"the reverse SDE got {n_steps} steps; expected at least 2")
        low, high = self.log_range
        if first is not None:
            low = max(low, math.log(first))
        if low >= high:
            raise UserError(f"the ladder's first level {first:g} is not below sigma_max = {self.sigma_max:g}; raise it")
        return low, high


def equal_cost(log_sigma: FloatArray, second: FloatArray, third: FloatArray, n_steps: int) -> FloatArray:
    r"""Levels such that every reverse step costs the same, at most `n_steps` of them.

    A step from v to v' contributes to the Kullback-Leibler divergence of the paths

    .. math:: KL(v, v') = \Big( \int_{v'}^{v} c_2^{1/2} dv \Big)^2 + \Big( \int_{v'}^{v} c_3^{1/3} dv \Big)^3,

    which is :math:`c_2 \Delta^2 + c_3 \Delta^3` for small steps; equal contributions minimise the sum (equidistribution
    of a mesh [de Boor 1974]). From sigma_max downwards each step is as long as a common bound allows, the last one
    reaches 0, and the bound is the smallest with which `n_steps` suffice.

    Parameters
    ----------
    log_sigma : ndarray, shape (n,)
        Ascending; its ends are sigma_min and sigma_max.
    second, third : ndarray, shape (n,)
        c_2 and c_3, not negative; see `latticediff.diffusion.calibration`.
    n_steps : int

    Returns
    -------
    ndarray, shape (n_steps + 1,)
        Variances, ascending from 0.
    """
    if n_steps < 2:
        raise UserError(f"the reverse SDE got {n_steps} steps; expected at least 2")
    fine = np.linspace(log_sigma[0], log_sigma[-1], FINE)
    v = np.concatenate([[0.0], np.exp(2 * fine)])
    paths = []
    for cost, power in ((second, 2), (third, 3)):
        rate = np.interp(fine, log_sigma, np.maximum(cost, 0.0) ** (1 / power))
        rate = np.concatenate([rate[:1], rate])
        paths.append((np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(v))]), power))

    def descend(bound: float) -> list[int]:
        levels = [len(v) - 1]
        while levels[-1] > 0 and len(levels) <= n_steps + 1:
            here = levels[-1]
            costs = sum((path[here] - path[:here]) ** power for path, power in paths)
            levels.append(min(int(np.searchsorted(-costs, -bound)), here - 1))
        return levels

    low, high = 0.0, sum(path[-1] ** power for path, power in paths) + 1e-300
    for _ in range(60):
        bound = 0.5 * (low + high)
        levels = descend(bound)
        low, high = (low, bound) if levels[-1] == 0 and len(levels) <= n_steps + 1 else (bound, high)
    levels = descend(high)
    while len(levels) < n_steps + 1:  # costs nearly zero: split the widest gap, so that the number is as asked
        gaps = -np.diff(levels)
        widest = int(np.argmax(gaps))
        if gaps[widest] < 2:
            raise UserError(f"the ladder got {n_steps} steps; expected fewer than {FINE}")
        levels.insert(widest + 1, levels[widest] - gaps[widest] // 2)
    return v[levels[::-1]]
