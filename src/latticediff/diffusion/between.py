"""The compiled flow at noise levels between those of one set of tables, for searches that try many grids.

The tables of a level are analytic in log sigma, so they are made once, on a fine grid, and interpolated: a flow along
another grid then costs its passages and nothing beside. Polynomials through six levels leave an error of the size
of the rounding of float32 (`tests/test_time_grid.py`). What is proposed in the end has tables of its own.
"""

import copy
import math

import numpy as np
from numpy.typing import ArrayLike

from ..gaussian.reference import GaussianReference
from ..networks.contract import Compiled
from ..types import FloatArray
from .compiled import CompiledFlow, CompiledRidge, at_levels
from .runge_kutta import Method

__all__ = ["FineRidge", "InterpolatedFlow"]

N_LEVELS = 97  #: of the fine tables
POINTS = 6  #: levels that an interpolating polynomial goes through


class FineRidge:
    """A ridge network on a fine uniform grid of noise levels, and by interpolation anywhere within.

    Parameters
    ----------
    network, gaussian
        See `latticediff.diffusion.compiled.at_levels`.
    log_range : tuple of float
        Lowest and highest log sigma.
    """

    def __init__(self, network: Compiled, gaussian: GaussianReference, log_range: tuple[float, float]) -> None:
        self.network, self.gaussian = network, gaussian
        self.nodes = np.linspace(*log_range, N_LEVELS)
        self._ridge = at_levels(network, gaussian, self.nodes)

    def at(self, log_sigma: FloatArray) -> CompiledRidge:
        """The network at these levels (n,), which lie within the range but for rounding."""
        first, weights = _lagrange(self.nodes, log_sigma)
        found, levels = copy.copy(self._ridge), self._ridge.levels
        found.levels = type(levels)(
            *(
                table if name == "raised" else _weighted(table, first, weights)  # the same at every level
                for name, table in zip(levels._fields, levels, strict=True)
            )
        )
        return found


class InterpolatedFlow(CompiledFlow):
    """`CompiledFlow` along any grid within a `FineRidge`.

    Parameters
    ----------
    fine : FineRidge
    grid, method, up_grid
        See `CompiledFlow`.
    """

    def __init__(self, fine: FineRidge, grid: ArrayLike, method: Method, up_grid: ArrayLike | None = None) -> None:
        self._fine = fine
        super().__init__(fine.network, fine.gaussian, grid, method, up_grid)

    def _ridge(self, network: Compiled, gaussian: GaussianReference, levels: FloatArray) -> CompiledRidge:
        return self._fine.at(levels)


def _lagrange(nodes: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """First of the `POINTS` uniform nodes around each x, (n,), and the weights of their values, (n, POINTS)."""
    position = (np.asarray(x) - nodes[0]) / (nodes[1] - nodes[0])
    first = np.clip(np.floor(position).astype(np.int64) - POINTS // 2 + 1, 0, len(nodes) - POINTS)
    distance = (position - first)[:, None] - np.arange(POINTS)
    weights = np.empty(distance.shape)
    for j in range(POINTS):
        # the product of the other distances over that between the nodes, j! (POINTS - 1 - j)! with a sign
        scale = (-1) ** (POINTS - 1 - j) * math.factorial(j) * math.factorial(POINTS - 1 - j)
        weights[:, j] = np.delete(distance, j, axis=1).prod(axis=1) / scale
    return first, weights


def _weighted(table: FloatArray, first: FloatArray, weights: FloatArray) -> FloatArray:
    """Rows of a table (n_levels, ...) interpolated, in its own precision and in a fixed order of additions."""
    weights = weights.astype(table.dtype).reshape(*weights.shape, *[1] * (table.ndim - 1))
    found = weights[:, 0] * table[first]
    for j in range(1, POINTS):
        found += weights[:, j] * table[first + j]
    return np.ascontiguousarray(found)
