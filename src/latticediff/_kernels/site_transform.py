"""Real Fourier transforms of configurations in rows, float64: `columns` over all axes of a lattice."""

import numpy as np

from ..types import FloatArray, IntArray
from .columns import back, forth
from .compile import cached
from .oblique import exchange_double
from .rows import interleave, separate
from .vectors import LANES

__all__ = ["transform"]


@cached
def transform(
    begin: int, end: int, rows: FloatArray, out: FloatArray, extents: IntArray, sizes: IntArray, order: IntArray,
    plain: IntArray, pairs: IntArray, blocks: FloatArray, inverse: bool,
) -> None:  # fmt: skip
    """Groups begin .. end-1 of the rows (n, V): coefficients in the real Fourier basis, or with `inverse` sites.

    `sizes`, `order` and `blocks` of the direction are those of `folded.tables`, `plain` counts from 0, `pairs` are
    those of an oblique lattice (`latticediff.fourier.oblique_pairs`).
    """
    n_axes, size = extents.shape[0], rows.shape[1] * LANES
    source, target = np.empty(size), np.empty(size)
    scratch = np.empty(4 * order.shape[1] * LANES)
    for group in range(begin, end):
        interleave(rows, group, source)
        if inverse:
            exchange_double(pairs, LANES, source)
        before, after = 1, rows.shape[1]
        for axis in range(n_axes):
            extent = extents[axis]
            after //= extent
            columns, step = before * after, after * LANES
            axis_blocks, axis_sizes, axis_order = blocks[axis], sizes[axis], order[axis]
            for q in range(0, columns, 2):
                r = min(q + 1, columns - 1)  # an odd one is done twice
                first = (q // after * extent * after + q % after) * LANES
                second = (r // after * extent * after + r % after) * LANES
                if inverse:
                    back(
                        axis_blocks, axis_sizes, axis_order, plain, extent,
                        source, first, second, step, target, first, second, step, scratch,
                    )  # fmt: skip
                else:
                    forth(
                        axis_blocks, axis_sizes, axis_order, plain, extent,
                        source, first, second, step, target, first, second, step, scratch,
                    )  # fmt: skip
            before *= extent
            source, target = target, source
        if not inverse:
            exchange_double(pairs, LANES, source)
        separate(source, group, out)
