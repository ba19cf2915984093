"""A frozen ridge model as tables for the compiled flow: the CPU's way to propose.

`CompiledFlow` does what `latticediff.diffusion.flow.ProbabilityFlow` does, configuration by
configuration in `latticediff._kernels.flow`: several times faster, and with the same bits for any
batch and any number of threads.
"""

import copy
import math

import numpy as np
import torch

from .._kernels import flow as kernels
from .._kernels.ridge import frame
from .._kernels.threads import over_groups
from ..fourier import basis_from_momenta, real_fourier, transform
from ..gaussian.vacua import vacua

__all__ = ["CompiledFlow", "CompiledModes", "CompiledRidge"]

LANES = 8  # interleaved configurations on small lattices
SMALL = 512  # sites below which configurations are interleaved: it gains 20 % at 16x16 and loses 15 % at 32x32
NO_STAGES = np.empty((0, 0, 0, 0))  # a passage that will not be differentiated
COST = 200  # a network evaluation of a site, in plain site updates; decides whether threads pay


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

    def __init__(self, network, gaussian, log_sigma, tables=None):
        self.shape, self.volume = gaussian.shape, gaussian.volume
        self.lanes = LANES if self.volume < SMALL else 1
        self.frame = frame(self.shape, network.offsets, self.lanes)
        self._bases()
        if tables is None:
            exact = copy.deepcopy(network).cpu().double()
            with torch.no_grad():
                tables = exact.level_tables(gaussian.to("cpu", torch.float64), log_sigma)
        self.levels = _as_arrays(tables)
        self.vacua = vacua(gaussian.vacuum, self.volume, "modes")
        self.propagator = basis_from_momenta(gaussian.propagator_full.numpy(), self.shape).ravel()

    def _bases(self):
        largest = max(self.shape)
        self.matrices = np.zeros((len(self.shape), largest, largest), np.float32)
        for axis, extent in enumerate(self.shape):
            self.matrices[axis, :extent, :extent] = real_fourier(extent)
        self.transposes = np.ascontiguousarray(self.matrices.transpose(0, 2, 1))
        self.extents = np.array(self.shape, np.int64)

    def transform(self, fields, inverse=False):
        """Between fields (n, *lattice) and the real Fourier basis (n, V), float64, one configuration at a time."""
        modes = transform(fields.reshape(len(fields), *self.shape), self.shape, inverse)
        return modes if inverse else modes.reshape(len(fields), -1)

    def _pack(self, states):
        """(n, V) -> (n_groups, V * lanes), the last group filled up with zeros."""
        groups = -(-len(states) // self.lanes)
        packed = np.zeros((groups * self.lanes, self.volume))
        packed[: len(states)] = states
        packed = packed.reshape(groups, self.lanes, self.volume).swapaxes(1, 2)
        return np.ascontiguousarray(packed).reshape(groups, -1)

    def _unpack(self, packed, n):
        states = packed.reshape(len(packed), self.volume, self.lanes).swapaxes(1, 2).reshape(-1, self.volume)
        return np.ascontiguousarray(states[:n])

    def _geometry(self):
        return self.lanes, self.extents, self.matrices, self.transposes, *self.frame, *self.levels

    def slope(self, y, level):
        """``dy / d log sigma`` of whitened fields (n, V) at the level with this number; float64."""
        packed = self._pack(y)
        derivatives = np.empty_like(packed)
        work = COST * len(y) * self.volume
        over_groups(kernels.slopes, len(packed), work, packed, level, derivatives, *self._geometry())
        return self._unpack(derivatives, len(y))


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

    def __init__(self, network, gaussian, grid, method, up_grid=None):
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

    def _ridge(self, network, gaussian, levels):
        return CompiledRidge(network, gaussian, levels)

    @property
    def evaluations(self):
        """Network evaluations of one passage."""
        return self.method.evaluations(len(self.grid) - 1)

    def _scheme(self, up):
        passage = self.passages[int(up)]
        return passage.steps, self.stage_levels[int(up)], passage.matrix, passage.weights

    def _work(self, n):
        return COST * self.evaluations * n * self.ridge.volume

    def _run(self, states, up, stages=NO_STAGES):
        """Integrate states (n, V) in the Fourier basis; returns them and the integrated traces (n,)."""
        ridge = self.ridge
        packed = ridge._pack(states)
        integrals = np.zeros((len(packed), ridge.lanes))
        arguments = packed, integrals, stages, *self._scheme(up), *ridge._geometry()
        over_groups(kernels.flow, len(packed), self._work(len(states)), *arguments)
        return ridge._unpack(packed, len(states)), integrals.ravel()[: len(states)]

    def down(self, y):
        """From noise (n, *lattice) to ``(phi, log_q)``, float64 NumPy."""
        vacua = self.ridge.vacua
        sign, states = vacua.enter(self.ridge.transform(y))
        low, integral = self._run(states, up=False)
        modes = vacua.fields(sign, low * self.root)
        log_q = vacua.admit(sign, modes, self._log_q(states, -integral))
        return self.ridge.transform(modes, inverse=True), log_q

    def up(self, phi):
        """From fields (n, *lattice) to ``(y, log_q)``, float64 NumPy."""
        vacua = self.ridge.vacua
        sign, fluctuation = vacua.fluctuations(self.ridge.transform(phi))
        high, integral = self._run(fluctuation / self.root, up=True)
        return self.ridge.transform(vacua.leave(sign, high), inverse=True), self._log_q(high, integral)

    def _constant(self, volume):
        normal = -0.5 * volume * math.log(2 * math.pi) - np.log(self.root).sum()
        return normal + self.ridge.vacua.log_probability

    def _log_q(self, states, integral):
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

    def __init__(self, network, gaussian, variances):
        self.ridge = CompiledRidge(network, gaussian, 0.5 * np.log(variances[1:]))
        self.variances = variances
        self.G, self.vacua = self.ridge.propagator, self.ridge.vacua

    def score(self, x, i):
        r"""The score at level i from the flow's slope, ``s = -(y + (G + v) / v dy/dlog sigma) / (G + v)^(1/2)``."""
        v = self.variances[i]
        root = np.sqrt(self.G + v)
        sign, fluctuation = self.ridge.vacua.fluctuations(x)
        y = fluctuation / root
        return -self.ridge.vacua.turn(sign, y / root + root / v * self.ridge.slope(y, i - 1))

    def multiply(self, x, multiplier):
        """Filter a field: in this basis a plain product."""
        return x * multiplier


def _as_arrays(tables):
    """The level tables as the kernels want them: float32 and padded, sums and what is linear in float64."""
    t = kernels.Levels(*(tensor.detach() for tensor in tables))
    return kernels.Levels(
        _padded(t.kernels_in),
        _single(t.amplitudes),
        _padded(t.kernels_out),
        _single(t.kappa),
        _single(t.inner),
        _single(t.outer),
        t.linear.double().numpy(),
        t.numbers.double().numpy(),
    )


def _single(tensor):
    return np.ascontiguousarray(tensor.detach().numpy().astype(np.float32))


def _padded(matrices):
    """Rows and columns filled up with zeros to multiples of four."""
    _, rows, columns = matrices.shape
    return _single(torch.nn.functional.pad(matrices, (0, -columns % 4, 0, -rows % 4)))
