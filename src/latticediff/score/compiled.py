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
from ..fourier import basis_from_momenta, real_fourier
from .baseline import local_response
from .vacua import vacua

__all__ = ["CompiledFlow", "CompiledModes", "CompiledRidge", "level_tables"]

LANES = 8  # interleaved configurations on small lattices
SMALL = 512  # sites below which configurations are interleaved: it gains 20 % at 16x16 and loses 15 % at 32x32
NO_STAGES = np.empty((0, 0, 0, 0))  # a passage that will not be differentiated
COST = 200  # a network evaluation of a site, in plain site updates; decides whether threads pay


def level_tables(network, background, log_sigma):
    """What the compiled flow knows of a network at fixed noise levels, as tensors; gradients flow to its weights.

    Parameters
    ----------
    network : latticediff.score.ridge.RidgeNetwork
    background : Background
        On the CPU, of the network's precision.
    log_sigma : ndarray, shape (n_levels,)

    Returns
    -------
    Levels of tensors
        ``kernels_in (n, F, J T)`` and ``kernels_out (n, M T, F)`` without padding.
    """
    levels = torch.as_tensor(log_sigma).to(background.dtype)
    v = background.expand((2 * levels).exp())
    n = len(levels)
    gain_in, amplitudes, gain_out = network.coefficients(background, levels)
    kernels_in, kernels_out = network.kernels(gain_in, gain_out)
    W, C = background.posterior(v)
    inner, outer = network.filters(background, v, W)
    D = network.screen(background, C)
    scale = outer[(slice(None), 0, *([0] * background.ndim))]  # of the first output, flat but for the screen
    if D is not None:
        outer = outer * D[:, None]
    amplitudes, response = network.order(background, inner, v, W, C, kernels_in, amplitudes, D)
    kappa = network.kappa(background, inner, outer, C, kernels_in, kernels_out)
    root = torch.sqrt(background.G + v)[:, None]
    linear = W * C * (background.linear if response is None else response)
    c, lift = local_response(background, C)
    numbers = [
        scale,
        torch.full_like(scale, 4 * background.action.b),
        c.flatten(),
        background.at_origin(W * C if D is None else W * C * D),
        background.at_origin(linear) * background.volume,
        lift.flatten(),
        c.flatten() - background.vacuum**2,
        torch.full_like(scale, background.tilt),
        torch.full_like(scale, 2 * background.vacuum * math.sqrt(background.volume)),
    ]
    return kernels.Levels(
        kernels_in=kernels_in.reshape(n, network.features, -1),
        amplitudes=amplitudes,
        kernels_out=kernels_out.transpose(2, 3).reshape(n, -1, network.features),
        kappa=kappa,
        inner=(inner * root).flatten(2),
        outer=((outer / background.expand(scale)[:, None]) * C[:, None] / root).flatten(2),
        linear=linear.flatten(1),
        numbers=torch.stack(numbers, 1),
    )


class CompiledRidge:
    """A ridge network at fixed noise levels, acting on fields in the real Fourier basis.

    Parameters
    ----------
    network : latticediff.score.ridge.RidgeNetwork
    background : Background
    log_sigma : ndarray, shape (n_levels,)
    tables : Levels of tensors, optional
        What `level_tables` gives; default: computed here in float64.
    """

    def __init__(self, network, background, log_sigma, tables=None):
        self.shape, self.volume = background.shape, background.volume
        self.lanes = LANES if self.volume < SMALL else 1
        self.frame = frame(self.shape, network.offsets, self.lanes)
        self._bases()
        if tables is None:
            exact = copy.deepcopy(network).cpu().double()
            with torch.no_grad():
                tables = level_tables(exact, background.to("cpu", torch.float64), log_sigma)
        self.levels = _as_arrays(tables)
        self.vacua = vacua(background.vacuum, self.volume, "modes")
        self.propagator = basis_from_momenta(background.propagator_full.numpy(), self.shape).ravel()

    def _bases(self):
        self.bases = [real_fourier(extent) for extent in self.shape]
        largest = max(self.shape)
        self.matrices = np.zeros((len(self.shape), largest, largest), np.float32)
        for axis, basis in enumerate(self.bases):
            self.matrices[axis, : len(basis), : len(basis)] = basis
        self.transposes = np.ascontiguousarray(self.matrices.transpose(0, 2, 1))
        self.extents = np.array(self.shape, np.int64)

    def transform(self, fields, inverse=False):
        """Between fields (n, *lattice) and the real Fourier basis (n, V), float64, one configuration at a time."""
        array = fields.reshape(len(fields), *self.shape)
        for axis, basis in enumerate(self.bases, start=1):
            # plain einsum, no BLAS: one order of additions, whatever the batch
            matrix = basis.T if inverse else basis
            array = np.moveaxis(np.einsum("ij,n...j->n...i", matrix, np.moveaxis(array, axis, -1)), -1, axis)
        return array.reshape(len(fields), -1) if not inverse else array

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
    network : latticediff.score.ridge.RidgeNetwork
    background : Background
    grid : ndarray
        log sigma, descending.
    method : latticediff.diffusion.runge_kutta.Scheme or latticediff.diffusion.multistep.Adams
    up_grid : ndarray, optional
        Of `up`, descending too; by default the same.
    """

    def __init__(self, network, background, grid, method, up_grid=None):
        self.grid, self.method = np.asarray(grid, np.float64), method
        rising = self.grid[::-1] if up_grid is None else np.asarray(up_grid, np.float64)[::-1]
        # going up, the stages of a step mirror those of the step going down
        self.passages = [method.passage(g) for g in (self.grid, rising)]
        times = np.round([passage.times for passage in self.passages], 12)
        levels, index = np.unique(times, return_inverse=True)
        self.stage_levels = index.reshape(times.shape)  # (down or up, step, stage) points into the levels
        self.ridge = self._ridge(network, background, levels)
        self.v_min = math.exp(2 * self.grid[-1])
        self.root = np.sqrt(self.ridge.propagator + self.v_min)

    def _ridge(self, network, background, levels):
        return CompiledRidge(network, background, levels)

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
    network, background
        See `CompiledRidge`.
    variances : ndarray, shape (N + 1,)
        ``v_0 = 0`` and the levels at which the score is wanted.
    """

    def __init__(self, network, background, variances):
        self.ridge = CompiledRidge(network, background, 0.5 * np.log(variances[1:]))
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

    def log_normal(self, x, covariance):
        """``log N(x; 0, covariance(k))``, shape (n,)."""
        return -0.5 * ((x * x / covariance).sum(axis=1) + np.log(2 * np.pi * covariance).sum())

    def log_white(self, x, delta):
        """``log N(x; 0, delta)``, shape (n,)."""
        return -0.5 * ((x * x).sum(axis=1) / delta + x.shape[1] * math.log(2 * math.pi * delta))


def _as_arrays(tables):
    """`level_tables` as the kernels want them: float32 and padded, sums and what is linear in float64."""
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
