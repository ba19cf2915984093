"""A frozen ridge network as tables for compiled code: many fields at a time, the same bits in any company.

`CompiledRidge` is of fields of one number a site; `latticediff.diffusion.compiled_vectors` has those of several.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._kernels import folded, lanes, two_sites
from .._kernels.flow import Levels
from .._kernels.rows import n_groups
from .._kernels.threads import over_groups
from .._kernels.vectors import LANES
from ..fourier import basis_from_momenta
from ..gaussian.reference import GaussianReference
from ..gaussian.vacua import vacua
from ..networks.contract import Compiled
from ..types import FloatArray, IntArray
from .transforms import SiteTransform

__all__ = ["COST", "CompiledRidge", "packed_kernels", "packed_taps", "single"]

Single = NDArray[np.float32]

COST = 50  # a network evaluation of a site, in plain site updates; decides whether threads pay


class CompiledRidge:
    """A ridge network at fixed noise levels, acting on fields in the real Fourier basis.

    Parameters
    ----------
    network : latticediff.networks.contract.Compiled
    gaussian : GaussianReference
    log_sigma : ndarray, shape (n_levels,)
    tables : optional
        What the network's `level_tables` gives; default: computed here in float64.
    """

    flow: Callable[..., Any] = staticmethod(lanes.flow)  #: compiled: groups of fields along a grid
    slopes: Callable[..., Any] = staticmethod(lanes.slopes)  #: compiled: their slopes at one level
    levels: Any  #: the tables as compiled code takes them

    def __init__(
        self, network: Compiled, gaussian: GaussianReference, log_sigma: FloatArray, tables: Any = None
    ) -> None:
        self.shape, self.volume = gaussian.shape, gaussian.volume
        self.extents = np.array(self.shape, np.int64)
        self.sites = SiteTransform(self.shape, gaussian.is_oblique)
        self.is_oblique, self.pairs = gaussian.is_oblique, self.sites.pairs
        if tables is None:
            exact: Any = copy.deepcopy(network)
            with torch.no_grad():
                tables = exact.cpu().double().level_tables(gaussian.to("cpu", torch.float64), log_sigma)
        self._lay_out(network, gaussian, type(tables)(*(tensor.detach() for tensor in tables)))
        mean = None if gaussian.response is None else self.transform(gaussian.response[None])[0]
        self.vacua = vacua(gaussian, "modes", mean)
        self.propagator = basis_from_momenta(gaussian.propagator_full.numpy(), self.shape, self.is_oblique).ravel()

    def _lay_out(self, network: Compiled, gaussian: GaussianReference, tables: Any) -> None:
        """Tables as the kernel wants them: rows in blocks, flat; sums and what is linear in float64."""
        sizes, order, forth, back = folded.tables(self.shape)
        self.transforms = sizes, order, np.arange(max(self.shape)), self.pairs, forth, back
        self.taps = packed_taps(network.taps(gaussian).numpy(), tables.outer.shape[1])
        # the scale of the output, once for all sites
        scaled = tables.kernels_out * tables.numbers[:, 0, None, None]
        self.levels = Levels(
            *packed_kernels(tables.kernels_in, tables.amplitudes, scaled, tables.kappa),
            single(tables.inner),
            single(tables.outer),
            tables.linear.double().numpy(),
            tables.numbers.double().numpy(),
            single(tables.pieces),
            single(tables.raised),
            tables.pull.double().numpy(),
            single(tables.answer),
            single(filled_up(tables.by_site.permute(0, 3, 1, 2))),
        )

    def transform(self, fields: FloatArray, inverse: bool = False) -> FloatArray:
        """Between fields (n, *lattice) and the real Fourier basis (n, V), float64; any company gives the same bits."""
        flat = np.asarray(fields, np.float64).reshape(len(fields), self.volume)
        return self.sites.to_sites(flat).reshape(-1, *self.shape) if inverse else self.sites.from_sites(flat)

    def geometry(self) -> tuple[Any, ...]:
        """What `flow` and `slopes` take beside states and scheme."""
        return self.extents, *self.transforms, *self.taps, *self.levels

    def slope(self, y: FloatArray, level: int) -> FloatArray:
        """``dy / d log sigma`` of whitened fields (n, V) at the level with this number; float64."""
        states = np.ascontiguousarray(y)
        derivatives = np.empty_like(states)
        work = COST * len(y) * self.volume
        over_groups(self.slopes, n_groups(len(y)), work, states, level, derivatives, *self.geometry())
        return derivatives


def packed_taps(into: IntArray, outputs: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The `taps` of `two_sites.hidden` and the `places` of `two_sites.scatter`.

    Parameters
    ----------
    into : ndarray, shape (T, V), int64
        The sites y + offset_t.
    outputs : int
        Output fields of V sites, one behind the other; what is no output lands behind the last.
    """
    n_taps, volume = into.shape
    outward = np.argsort(into, axis=1)  # the sites y - offset_t
    fields = [m * volume + outward for m in range(outputs)]
    nowhere = np.full((-outputs * n_taps % two_sites.ROWS, volume), outputs * volume)
    rows = np.concatenate([*fields, nowhere])
    first, second = (np.ascontiguousarray(LANES * table.T, np.int32).ravel() for table in (into, rows))
    return first, second


def packed_kernels(
    kernels_in: Tensor, amplitudes: Tensor, kernels_out: Tensor, kappa: Tensor
) -> tuple[Single, Single, Single, Single]:
    """Kernels, amplitudes and kappa of tables as `two_sites` wants them, (n_levels, ...): whole blocks of features."""
    n, blocks = len(kernels_in), folded.in_blocks
    return (
        single(blocks(kernels_in.numpy(), two_sites.BLOCK)).reshape(n, -1),
        single(filled_up(amplitudes)),
        single(blocks(filled_up(kernels_out.transpose(1, 2)).transpose(1, 2).numpy(), two_sites.ROWS)).reshape(n, -1),
        single(filled_up(kappa[..., None])[..., 0]),
    )


def filled_up(table: Tensor) -> Tensor:
    """A table (n_levels, ..., F, k) with features of zeros up to a whole block."""
    return torch.nn.functional.pad(table, (0, 0, 0, -table.shape[-2] % two_sites.BLOCK))


def single(table: Any) -> NDArray[np.float32]:
    """A tensor or an array as a contiguous one of float32."""
    return np.ascontiguousarray(np.asarray(table).astype(np.float32))
