"""A frozen vector ridge network as tables for compiled code: `CompiledRidge` for fields of several components."""

from typing import Any

import numpy as np

from .._kernels import folded, vector_flow
from .._kernels.vector_flow import VectorLevels
from ..gaussian.reference import GaussianReference
from ..networks.contract import Compiled
from .compiled_ridge import CompiledRidge, packed_kernels, packed_taps, single

__all__ = ["CompiledVectors"]


class CompiledVectors(CompiledRidge):
    """A vector ridge network at fixed noise levels; fields (n, N, *lattice), states (n, N V) in their Fourier basis.

    Arguments are those of `CompiledRidge`; the tables are `latticediff._kernels.vector_flow.VectorLevels`.
    """

    flow = staticmethod(vector_flow.flow)
    slopes = staticmethod(vector_flow.slopes)

    def _lay_out(self, network: Compiled, gaussian: GaussianReference, tables: Any) -> None:
        """Tables as the kernel wants them; of taps and transforms those of one component, the first."""
        components, *lattice = self.shape
        sizes, order, forth, back = folded.tables(tuple(lattice))
        axes = np.array(lattice, np.int64), sizes, order, np.arange(max(lattice)), self.pairs, forth, back
        taps = network.taps(gaussian).numpy()[:, : self.volume // components]
        self._lattice = components, *axes, *packed_taps(taps, tables.outer.shape[1])
        self.levels = VectorLevels(
            *packed_kernels(tables.kernels_in, tables.amplitudes, tables.kernels_out, tables.kappa),
            single(tables.inner),
            single(tables.outer),
            tables.linear.double().numpy(),
            tables.numbers.double().numpy(),
        )

    def geometry(self) -> tuple[Any, ...]:
        """What `flow` and `slopes` take beside states and scheme."""
        return *self._lattice, *self.levels
