"""A frozen ridge model as tables for the compiled flow: the CPU's way to propose.

`CompiledFlow` does what `latticediff.diffusion.flow.ProbabilityFlow` does, several configurations at a time in
`latticediff._kernels.lanes` or `latticediff._kernels.vector_flow`: many times faster, and with the same bits for any
batch and any number of threads.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._kernels.rows import n_groups
from .._kernels.threads import over_groups
from .._kernels.vectors import LANES
from ..gaussian.reference import GaussianReference
from ..networks.contract import Compiled
from ..types import FloatArray
from .compiled_ridge import COST, CompiledRidge
from .compiled_vectors import CompiledVectors
from .runge_kutta import Method

__all__ = ["CompiledFlow", "CompiledModes", "CompiledRidge", "at_levels"]


def at_levels(network: Compiled, gaussian: GaussianReference, log_sigma: FloatArray) -> CompiledRidge:
    """A network at these noise levels (n,): `CompiledVectors` for a theory of several components."""
    kind = CompiledRidge if gaussian.components is None else CompiledVectors
    return kind(network, gaussian, log_sigma)


class CompiledFlow:
    """The probability flow of a ridge network on the CPU; see `latticediff.diffusion.flow.ProbabilityFlow`.

    Parameters
    ----------
    network : latticediff.networks.contract.Compiled
    gaussian : GaussianReference
    grid : ndarray
        log sigma, descending.
    method : latticediff.diffusion.runge_kutta.Scheme or latticediff.diffusion.multistep.Adams
    up_grid : ndarray, optional
        Of `up`, descending too; by default the same.
    """

    def __init__(
        self,
        network: Compiled,
        gaussian: GaussianReference,
        grid: ArrayLike,
        method: Method,
        up_grid: ArrayLike | None = None,
    ) -> None:
        self.grid, self.method = np.asarray(grid, np.float64), method
        rising = self.grid[::-1] if up_grid is None else np.asarray(up_grid, np.float64)[::-1]
        # going up, the stages of a step mirror those of the step going down
        self.passages = [method.passage(g) for g in (self.grid, rising)]
        times = np.round([passage.times for passage in self.passages], 12)
        levels, index = np.unique(times, return_inverse=True)
        self.stage_levels = index.reshape(times.shape)  # (down or up, step, stage) points into the levels
        self.ridge = self._ridge(network, gaussian, levels)
        self.v_min = math.exp(2 * self.grid[-1])
        self.root = np.sqrt(self.ridge.propagator + self.v_min)

    def _ridge(self, network: Compiled, gaussian: GaussianReference, levels: FloatArray) -> CompiledRidge:
        return at_levels(network, gaussian, levels)

    @property
    def evaluations(self) -> int:
        """Network evaluations of one passage."""
        return self.method.evaluations(len(self.grid) - 1)

    def _scheme(self, up: bool) -> tuple[Any, ...]:
        passage = self.passages[int(up)]
        # a stage from the one before it: of a multistep scheme only the last few slopes enter
        rows = np.concatenate([np.zeros((1, len(passage.weights))), passage.matrix, passage.weights[None]])
        increments = np.diff(rows, axis=0)
        stage, used = np.nonzero(increments)
        depth = max([1, *(stage - used)])
        return passage.steps, self.stage_levels[int(up)], increments[:-1], increments[-1], passage.weights, int(depth)

    def _work(self, n: int) -> int:
        return COST * self.evaluations * n * self.ridge.volume

    def _run(self, states: FloatArray, up: bool) -> tuple[FloatArray, FloatArray]:
        """Integrate states (n, V) in the Fourier basis; returns them and the integrated traces (n,)."""
        groups, moved = n_groups(len(states)), np.array(states)
        integrals = np.empty((groups, LANES))
        arguments = moved, integrals, *self._scheme(up), *self.ridge.geometry()
        over_groups(self.ridge.flow, groups, self._work(len(states)), *arguments)
        return moved, integrals.ravel()[: len(states)]

    def down(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Fields (n, *lattice) that the flow makes from noise, and their log_q (n,); float64 (theory page, eq. 17)."""
        vacua = self.ridge.vacua
        sign, states = vacua.enter(self.ridge.transform(y))
        low, integral = self._run(states, up=False)
        modes = vacua.fields(sign, low * self.root)
        log_q = vacua.admit(sign, modes, self._log_q(states, -integral))
        return self.ridge.transform(modes, inverse=True), log_q

    def up(self, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Noise (n, *lattice) from which the flow makes these fields, and their log_q (n,); float64."""
        vacua = self.ridge.vacua
        sign, fluctuation = vacua.fluctuations(self.ridge.transform(phi))
        high, integral = self._run(fluctuation / self.root, up=True)
        return self.ridge.transform(vacua.leave(sign, high), inverse=True), self._log_q(high, integral)

    def _constant(self, volume: int) -> float:
        normal = -0.5 * volume * math.log(2 * math.pi) - np.log(self.root).sum()
        return normal + self.ridge.vacua.log_probability

    def _log_q(self, states: FloatArray, integral: FloatArray) -> FloatArray:
        return -0.5 * (states**2).sum(axis=1) + self._constant(states.shape[1]) + integral


class CompiledModes:
    """Fields as NumPy arrays (n, V) in the real Fourier basis; see `latticediff.diffusion.reverse.ReverseProcess`.

    Parameters
    ----------
    network, gaussian
        See `at_levels`.
    variances : ndarray, shape (N + 1,)
        ``v_0 = 0`` and the levels at which the score is wanted.
    """

    def __init__(self, network: Compiled, gaussian: GaussianReference, variances: FloatArray) -> None:
        self.ridge = at_levels(network, gaussian, 0.5 * np.log(variances[1:]))
        self.variances = variances
        self.G, self.vacua = self.ridge.propagator, self.ridge.vacua

    def score(self, x: FloatArray, i: int) -> FloatArray:
        r"""The score at level i from the flow's slope, ``s = -(y + (G + v) / v dy/dlog sigma) / (G + v)^(1/2)``."""
        v = self.variances[i]
        root = np.sqrt(self.G + v)
        sign, fluctuation = self.ridge.vacua.fluctuations(x)
        y = fluctuation / root
        return -self.ridge.vacua.turn(sign, y / root + root / v * self.ridge.slope(y, i - 1))

    def power(self, x: FloatArray, i: int) -> FloatArray:
        """``<|s_k|^2> / V`` at level i of noised configurations, (V,); see `reverse.score_power`."""
        v, widened = self.variances[i], self.G + self.variances[i]
        _, fluctuation = self.ridge.vacua.fluctuations(x)
        slope = self.ridge.slope(fluctuation / np.sqrt(widened), i - 1)  # v W R / (G + v)^(1/2)
        return 1 / widened + widened / v**2 * np.square(slope).mean(axis=0)

    def multiply(self, x: FloatArray, multiplier: FloatArray) -> FloatArray:
        """Fields multiplied by an even function of momentum: in this basis a plain product."""
        return x * multiplier
