"""A frozen ridge model as tables for the compiled flow: the CPU's way to propose.

`CompiledFlow` does what `latticediff.diffusion.flow.ProbabilityFlow` does, several configurations at a time in
`latticediff._kernels.lanes`: many times faster, and with the same bits for any batch and any number of threads.
"""

import copy
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._kernels import folded
from .._kernels import lanes as kernels
from .._kernels.flow import Levels
from .._kernels.rows import n_groups
from .._kernels.threads import over_groups
from .._kernels.vectors import LANES
from ..fourier import basis_from_momenta
from ..gaussian.reference import GaussianReference
from ..gaussian.vacua import vacua
from ..networks.contract import Compiled
from ..types import FloatArray
from .runge_kutta import Method
from .transforms import SiteTransform

__all__ = ["CompiledFlow", "CompiledModes", "CompiledRidge"]

COST = 50  # a network evaluation of a site, in plain site updates; decides whether threads pay


class CompiledRidge:
    """A ridge network at fixed noise levels, acting on fields in the real Fourier basis.

    Parameters
    ----------
    network : latticediff.networks.contract.Compiled
    gaussian : GaussianReference
    log_sigma : ndarray, shape (n_levels,)
    tables : Levels of tensors, optional
        What the network's `level_tables` gives; default: computed here in float64.
    """

    def __init__(
        self,
        network: Compiled,
        gaussian: GaussianReference,
        log_sigma: FloatArray,
        tables: Levels[Tensor] | None = None,
    ) -> None:
        self.shape, self.volume = gaussian.shape, gaussian.volume
        self.extents = np.array(self.shape, np.int64)
        self.sites = SiteTransform(self.shape, gaussian.is_oblique)
        self.is_oblique, self.pairs = gaussian.is_oblique, self.sites.pairs
        if tables is None:
            exact: Any = copy.deepcopy(network)
            with torch.no_grad():
                tables = exact.cpu().double().level_tables(gaussian.to("cpu", torch.float64), log_sigma)
        self._lay_out(network, gaussian, Levels(*(tensor.detach() for tensor in tables)))
        mean = None if gaussian.response is None else self.transform(gaussian.response[None])[0]
        self.vacua = vacua(gaussian, "modes", mean)
        self.propagator = basis_from_momenta(gaussian.propagator_full.numpy(), self.shape, self.is_oblique).ravel()

    def _lay_out(self, network: Compiled, gaussian: GaussianReference, tables: Levels[Tensor]) -> None:
        """Tables as the kernel wants them: rows in blocks, flat; sums and what is linear in float64."""
        sizes, order, forth, back = folded.tables(self.shape)
        self.transforms = sizes, order, np.arange(max(self.shape)), self.pairs, forth, back
        into = network.taps(gaussian).numpy()
        outward = np.argsort(into, axis=1)  # the sites y - offset_t
        outputs = [m * self.volume + outward for m in range(tables.outer.shape[1])]
        nowhere = len(outputs) * self.volume  # rows that only fill up a block
        rows = np.concatenate([*outputs, np.full((-len(outputs) * len(into) % kernels.ROWS, self.volume), nowhere)])
        self.taps = tuple(np.ascontiguousarray(LANES * table.T, np.int32).ravel() for table in (into, rows))
        features = -tables.amplitudes.shape[1] % kernels.BLOCK
        pad = torch.nn.functional.pad
        scaled = tables.kernels_out * tables.numbers[:, 0, None, None]  # the scale of the output, once for all sites
        n = len(scaled)
        self.levels = Levels(
            _single(folded.in_blocks(tables.kernels_in.numpy(), kernels.BLOCK)).reshape(n, -1),
            _single(pad(tables.amplitudes, (0, 0, 0, features)).numpy()),
            _single(folded.in_blocks(pad(scaled, (0, features)).numpy(), kernels.ROWS)).reshape(n, -1),
            _single(pad(tables.kappa, (0, features)).numpy()),
            _single(tables.inner.numpy()),
            _single(tables.outer.numpy()),
            tables.linear.double().numpy(),
            tables.numbers.double().numpy(),
            _single(tables.pieces.numpy()),
            _single(tables.raised.numpy()),
            tables.pull.double().numpy(),
            _single(tables.answer.numpy()),
            _single(pad(tables.by_site.permute(0, 3, 1, 2), (0, 0, 0, features)).numpy()),
        )

    def transform(self, fields: FloatArray, inverse: bool = False) -> FloatArray:
        """Between fields (n, *lattice) and the real Fourier basis (n, V), float64; any company gives the same bits."""
        flat = np.asarray(fields, np.float64).reshape(len(fields), self.volume)
        return self.sites.to_sites(flat).reshape(-1, *self.shape) if inverse else self.sites.from_sites(flat)

    def _geometry(self) -> tuple[Any, ...]:
        return self.extents, *self.transforms, *self.taps, *self.levels

    def slope(self, y: FloatArray, level: int) -> FloatArray:
        """``dy / d log sigma`` of whitened fields (n, V) at the level with this number; float64."""
        states = np.ascontiguousarray(y)
        derivatives = np.empty_like(states)
        work = COST * len(y) * self.volume
        over_groups(kernels.slopes, n_groups(len(y)), work, states, level, derivatives, *self._geometry())
        return derivatives


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
        return CompiledRidge(network, gaussian, levels)

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
        arguments = moved, integrals, *self._scheme(up), *self.ridge._geometry()
        over_groups(kernels.flow, groups, self._work(len(states)), *arguments)
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
        See `CompiledRidge`.
    variances : ndarray, shape (N + 1,)
        ``v_0 = 0`` and the levels at which the score is wanted.
    """

    def __init__(self, network: Compiled, gaussian: GaussianReference, variances: FloatArray) -> None:
        self.ridge = CompiledRidge(network, gaussian, 0.5 * np.log(variances[1:]))
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


def _single(array: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(array.astype(np.float32))
