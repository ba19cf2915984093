"""Adams-Bashforth on any fixed grid: one evaluation a step, the slopes of earlier steps serve again.

A multistep method has no starting values; here the order rises from one with the slopes at hand. That costs
nothing where a grid begins with small steps or the slope vanishes, as that of the probability flow does at both
ends of its noise levels; elsewhere the first steps limit the order to two.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..types import FloatArray

__all__ = ["Adams", "Passage"]


class Passage(NamedTuple):
    """An integration along a grid as explicit steps that share one tableau: all that a flow has to know of a scheme."""

    steps: FloatArray  #: (n,), lengths
    times: FloatArray  #: (n, s), of the stages
    matrix: FloatArray  #: (s, s), lower triangular: stage states, in units of the step
    weights: FloatArray  #: (s,)


class Adams(NamedTuple):
    r"""Adams-Bashforth of order `order` with variable steps.

    A step integrates the polynomial through the last `order` slopes exactly [Hairer, Norsett, Wanner, Solving
    ODEs I, section III.5], :math:`y_{n+1} = y_n + \sum_j b_{nj} f_j`. A whole passage is one explicit step with as many
    stages as evaluations, :math:`a_{nj} = \sum_{m<n} b_{mj}`, which is how Runge-Kutta code runs it.
    """

    name: str
    order: int

    def evaluations(self, n_steps: int) -> int:
        """Number of slopes that are evaluated along a grid of `n_steps` steps."""
        return n_steps

    def passage(self, grid: ArrayLike) -> Passage:
        """The `Passage` along a grid, (n_steps + 1,): one step of length 1, coefficients in units of time."""
        grid = np.asarray(grid, np.float64)
        n_steps = len(grid) - 1
        matrix, sums = np.zeros((n_steps, n_steps)), np.zeros(n_steps)
        for n in range(n_steps):
            matrix[n] = sums
            first, step = max(0, n + 1 - self.order), grid[n + 1] - grid[n]
            x = (grid[first : n + 1] - grid[n]) / step
            moments = 1 / np.arange(1, len(x) + 1)
            sums[first : n + 1] += step * np.linalg.solve(np.vander(x, increasing=True).T, moments)
        return Passage(np.ones(1), grid[None, :-1].copy(), matrix, sums)
