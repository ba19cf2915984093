r"""The compiled flow of a ridge network with gradients: what fine-tuning spends its time in (CPU).

`DifferentiableFlow` has the interface of `latticediff.diffusion.flow.ProbabilityFlow`. Weights enter the flow
through its level tables only (`latticediff.networks.ridge.tables`, plain torch); a passage is one autograd
function of states and tables, differentiated stage by stage in `latticediff._kernels.adjoint`. The derivatives
are those of the discrete map, in the precision of its inside, float32.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .._kernels import adjoint
from .._kernels import flow as kernels
from .._kernels.flow import Levels
from .._kernels.ridge import frame
from .._kernels.threads import over_groups
from ..fourier import real_fourier
from ..gaussian.exchange import Exchange
from ..gaussian.reference import GaussianReference
from ..networks.contract import Compiled, Differentiable
from ..types import FloatArray
from .compiled import CompiledFlow, CompiledRidge
from .runge_kutta import Method
from .transforms import pack, unpack

__all__ = ["DifferentiableFlow"]

LANES = 8  # interleaved configurations on small lattices
SMALL = 512  # sites below which configurations are interleaved: it gains 20 % at 16x16 and loses 15 % at 32x32
NO_STAGES = np.empty((0, 0, 0, 0))  # a passage that will not be differentiated


class _Passage(torch.autograd.Function):
    """``(states, tables) -> (states at the other end, integrated traces)``, in the Fourier basis."""

    @staticmethod
    def forward(
        ctx: Any, flow: "DifferentiableFlow", up: bool, states: Tensor, *tables: Tensor
    ) -> tuple[Tensor, Tensor]:
        # without tables: they are held fixed
        ridge = flow.ridge
        groups = -(-len(states) // ridge.lanes)
        stages = np.empty((groups, *flow.stage_levels.shape[1:], ridge.volume * ridge.lanes))
        ends, integrals = flow._run(states.detach().numpy(), up, stages)
        ctx.flow, ctx.up, ctx.stages, ctx.learn = flow, up, stages, len(tables) > 0
        return torch.from_numpy(ends), torch.from_numpy(integrals.copy())

    @staticmethod
    def backward(ctx: Any, d_ends: Tensor, d_integrals: Tensor) -> tuple[Tensor | None, ...]:
        flow, ridge, n = ctx.flow, ctx.flow.ridge, len(d_ends)
        d_packed = pack(d_ends.numpy(), ridge.lanes)
        d_traces = np.zeros((len(d_packed), ridge.lanes))
        d_traces.ravel()[:n] = d_integrals.numpy()
        levels = ridge.levels
        # (F, J T) and (F, M T): gradients have the kernels' rows as features, whatever the tables' layout
        kernels_out = np.ascontiguousarray(levels.kernels_out.swapaxes(1, 2))
        likes = levels.kernels_in, levels.amplitudes, kernels_out, levels.kappa, levels.by_site
        rows = [len(levels.kappa)] * 5 if ctx.learn else [0, 1, 0, 1, 1]
        gradients = [
            np.zeros((len(d_packed), n_rows, *like.shape[1:]), np.float32)
            for n_rows, like in zip(rows, likes, strict=True)
        ]
        arguments = (
            d_packed, d_traces, ctx.stages, *flow._scheme(ctx.up), ridge.lanes, ridge.extents, ridge.matrices,
            ridge.transposes, ridge.pairs, *ridge.frame, levels.kernels_in,
            np.ascontiguousarray(levels.kernels_in.swapaxes(1, 2)), levels.amplitudes, kernels_out, levels.kappa,
            *levels[4:], *gradients,
        )  # fmt: skip
        over_groups(adjoint.backward, len(d_packed), 3 * flow._work(n), *arguments)
        d_states = torch.from_numpy(unpack(d_packed, n, ridge.lanes))
        if not ctx.learn:
            return None, None, d_states
        *sums, d_by_site = (g.sum(axis=0) for g in gradients)
        d_in, d_amplitudes, d_out, d_kappa = map(torch.from_numpy, sums)
        features, columns, rows = flow.sizes
        return (
            None,
            None,
            d_states,
            d_in[:, :features, :columns],
            d_amplitudes,
            d_out[:, :features, :rows].transpose(1, 2),
            d_kappa,
            ridge.from_frame(d_by_site, flow.tables.by_site.shape[-1]),
        )


class TapedRidge(CompiledRidge):
    """The tables in the layout of `latticediff._kernels.flow` and `adjoint`."""

    def _lay_out(self, network: Compiled, gaussian: GaussianReference, tables: Levels[Tensor]) -> None:
        self.lanes = LANES if self.volume < SMALL else 1
        self.frame = frame(self.shape, network.on_array(gaussian), self.lanes)
        largest = max(self.shape)
        self.matrices = np.zeros((len(self.shape), largest, largest), np.float32)
        for axis, extent in enumerate(self.shape):
            self.matrices[axis, :extent, :extent] = real_fourier(extent)
        self.transposes = np.ascontiguousarray(self.matrices.transpose(0, 2, 1))
        self.levels = Levels(
            _padded(tables.kernels_in),
            _single(tables.amplitudes),
            _padded(tables.kernels_out),
            _single(tables.kappa),
            _single(tables.inner),
            _single(tables.outer),
            tables.linear.double().numpy(),
            tables.numbers.double().numpy(),
            _single(tables.pieces),
            _single(tables.raised),
            tables.pull.double().numpy(),
            _single(tables.answer),
            self._framed(tables.by_site),
        )

    def _framed(self, by_site: Tensor) -> NDArray[np.float32]:
        """Numbers of sites (n, F, 2, V) along the run of the frame, (n, F, 2, n_run); there is none for no sites."""
        if by_site.shape[-1] == 0:
            return _single(by_site)
        place = self.frame.first + np.arange(len(self.frame.inside))
        source = self.frame.source[np.minimum(place, len(self.frame.source) - 1)]  # beyond the lattice any will do
        return _single(by_site[..., torch.from_numpy(source // self.lanes)])

    def from_frame(self, gradients: NDArray[np.float32], n_sites: int) -> Tensor:
        """Sums (n, F, 2, V) over what the run of the frame has of every site: the transpose of what laid them out."""
        if n_sites == 0:
            return torch.zeros(*gradients.shape[:3], 0)
        on_sites = gradients[..., self.frame.sites - self.frame.first]
        return torch.from_numpy(on_sites.reshape(*gradients.shape[:3], n_sites, self.lanes).sum(axis=-1))

    def geometry(self) -> tuple[Any, ...]:
        return self.lanes, self.extents, self.matrices, self.transposes, self.pairs, *self.frame, *self.levels


class DifferentiableFlow(CompiledFlow):
    """The flow of a ridge network, differentiable by its weights and by the fields; see `ProbabilityFlow`.

    Parameters
    ----------
    network : latticediff.networks.contract.Differentiable
        On the CPU. Tables are made once, here: one flow serves one step of an optimiser, or several backward
        passes of it with ``retain_graph=True``.
    gaussian : GaussianReference
        On the CPU, float32.
    grid, method
        See `CompiledFlow`.
    """

    ridge: TapedRidge

    def __init__(self, network: Differentiable, gaussian: GaussianReference, grid: ArrayLike, method: Method) -> None:
        self.gaussian = gaussian
        super().__init__(network, gaussian, grid, method)
        self.vacua = self.ridge.vacua
        self.noise_root = torch.from_numpy(self.root)
        self.bases = [torch.tensor(real_fourier(extent)) for extent in gaussian.shape]
        self._exchange = Exchange(self.ridge.pairs, gaussian.volume, torch.device("cpu"), torch.float64)

    # tensors where the compiled flow takes arrays: one cannot stand in for the other, hence the overrides
    def _ridge(  # type: ignore[override]
        self, network: Differentiable, gaussian: GaussianReference, levels: FloatArray
    ) -> CompiledRidge:
        self.tables = network.level_tables(gaussian, levels)
        self.sizes = *self.tables.kernels_in.shape[1:], self.tables.kernels_out.shape[1]
        return TapedRidge(network, gaussian, levels, self.tables)

    def _scheme(self, up: bool) -> tuple[Any, ...]:
        passage = self.passages[int(up)]
        return passage.steps, self.stage_levels[int(up)], passage.matrix, passage.weights

    def _run(self, states: FloatArray, up: bool, stages: FloatArray = NO_STAGES) -> tuple[FloatArray, FloatArray]:
        """As `CompiledFlow._run`; `stages` are filled with the state of every stage."""
        ridge = self.ridge
        packed = pack(states, ridge.lanes)
        integrals = np.zeros((len(packed), ridge.lanes))
        arguments = packed, integrals, stages, *self._scheme(up), *ridge.geometry()
        over_groups(kernels.flow, len(packed), self._work(len(states)), *arguments)
        return unpack(packed, len(states), ridge.lanes), integrals.ravel()[: len(states)]

    def _pass(self, states: Tensor, up: bool, weights: bool = True) -> tuple[Tensor, Tensor]:
        return _Passage.apply(self, up, states, *((*self.tables[:4], self.tables.by_site) if weights else ()))

    def _modes(self, fields: Tensor, inverse: bool = False) -> Tensor:
        """Between fields (n, *lattice) and the real Fourier basis (n, V), float64, differentiable."""
        fields = fields.double().reshape(len(fields), *self.gaussian.shape)
        if inverse:
            fields = self._exchange(fields, self.gaussian.ndim)
        for axis, basis in enumerate(self.bases, start=1):
            matrix = basis if inverse else basis.T
            fields = torch.movedim(torch.movedim(fields, axis, -1) @ matrix, -1, axis)
        return fields if inverse else self._exchange(fields.flatten(1), 1)

    def down(self, y: Tensor, gradients: bool = False) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Fields phi (n, *lattice) that the flow makes from noise y, and their log_q (n,); float64 tensors."""
        with torch.set_grad_enabled(gradients):
            sign, states = self.vacua.enter(self._modes(y))
            low, integral = self._pass(states, False)
            modes = self.vacua.fields(sign, low * self.noise_root)
            log_q = self.vacua.admit(sign, modes, self._log_q(states, -integral))
            return self._modes(modes, inverse=True), log_q

    def field(self, y: Tensor) -> Tensor:
        """The field of `down` without its density, with gradients."""
        return self.down(y, gradients=True)[0]

    def up(  # type: ignore[override]
        self, phi: Tensor, gradients: bool = False, weights: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Noise (n, *lattice) from which the flow makes these fields, and their log_q (n,); float64 tensors.

        `gradients` and `weights` as in `ProbabilityFlow.up`.
        """
        with torch.set_grad_enabled(gradients):
            sign, fluctuation = self.vacua.fluctuations(self._modes(phi))
            high, integral = self._pass(fluctuation / self.noise_root, True, weights)
            return self._modes(self.vacua.leave(sign, high), inverse=True), self._log_q(high, integral)

    def _log_q(self, states: Tensor, integral: Tensor) -> Tensor:  # type: ignore[override]
        return -0.5 * (states**2).sum(1) + self._constant(states.shape[1]) + integral


def _single(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.numpy().astype(np.float32))


def _padded(matrices: Tensor) -> NDArray[np.float32]:
    """Rows and columns filled up with zeros to multiples of four."""
    _, rows, columns = matrices.shape
    return _single(torch.nn.functional.pad(matrices, (0, -columns % 4, 0, -rows % 4)))
