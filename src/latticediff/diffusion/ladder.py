r"""Noise levels: sigma from `sigma_min` to `sigma_max`, log-spaced, variance exploding.

At `sigma_max`, several times the largest fluctuation of the field, the noised ensemble is Gaussian
with covariance G + sigma_max^2; at `sigma_min` the density is that of the ensemble to an accuracy
that only costs ESS, never exactness.
"""

import math
from dataclasses import dataclass

import numpy as np

from ..errors import UserError

__all__ = ["NoiseRange"]


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

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise UserError(
                f"sigma_min = {self.sigma_min:g}, sigma_max = {self.sigma_max:g}; expected 0 < sigma_min < sigma_max"
            )

    @property
    def log_range(self):
        """``(log sigma_min, log sigma_max)``."""
        return math.log(self.sigma_min), math.log(self.sigma_max)

    def grid(self, n_steps):
        """``n_steps + 1`` values of log sigma, descending from sigma_max to sigma_min, float64."""
        if n_steps < 1:
            raise UserError(f"got {n_steps} steps; expected at least 1")
        low, high = self.log_range
        return np.linspace(high, low, n_steps + 1)

    def variances(self, n_steps, first=None):
        """Variances of an SDE ladder with `n_steps` steps: 0, then `first`^2 to sigma_max^2 log-spaced, ascending.

        `first` (default and least value: sigma_min) is where the last reverse step starts, which leads to
        the field itself. Below about a tenth of a site's width one Gaussian step is as good as several.
        """
        if n_steps < 2:
            raise UserError(f"the reverse SDE got {n_steps} steps; expected at least 2")
        low, high = self.log_range
        if first is not None:
            low = max(low, math.log(first))
        if low >= high:
            raise UserError(f"the ladder's first level {first:g} is not below sigma_max = {self.sigma_max:g}; raise it")
        return np.concatenate([[0.0], np.exp(2 * np.linspace(low, high, n_steps))])
