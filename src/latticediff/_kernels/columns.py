"""Real Fourier transforms of two columns of a lattice at once, float64, from one array into another.

A column is all sites, or all functions, along one axis. The arithmetic is that of `folded`, whose transforms run over
whole lattices in float32: here whoever calls does something else with a column while it is in the cache. There are
`vectors.LANES` configurations side by side; a lane's bits depend on nothing but its own configuration.
"""

from typing import Any

from ..types import FloatArray, IntArray
from . import folded
from .compile import cached, specialise
from .folded import fold, gather, unfold
from .vectors import LANES

__all__ = ["back", "dense", "forth"]

products: Any = specialise(folded.products.py_func, {"zero": 0.0}, "double")
dense: Any = specialise(folded.dense.py_func, {"zero": 0.0}, "double")


@cached
def forth(
    blocks: FloatArray,
    sizes: IntArray,
    order: IntArray,
    plain: IntArray,
    extent: int,
    x: FloatArray,
    first: int,
    second: int,
    step: int,
    out: FloatArray,
    to_first: int,
    to_second: int,
    to_step: int,
    scratch: FloatArray,
) -> None:
    """Sites to functions: the columns of `x` that begin at `first` and `second` to those of `out`.

    `first`, `second` and `step` count numbers. `blocks`, `sizes` and `order` are those of the axis, `plain` counts from
    0. The columns of `x` and of `out` and the first ``2 * extent * LANES`` elements of `scratch` are all different.
    """
    if sizes[2] > 0:
        fold(x, first, step, extent, scratch, 0)
        fold(x, second, step, extent, scratch, extent)
        products(blocks, sizes, scratch, extent, out, to_first, to_second, order, to_step)
    else:
        dense(blocks[0], extent, x, first, second, step, out, to_first, to_second, to_step)


@cached
def back(
    blocks: FloatArray,
    sizes: IntArray,
    order: IntArray,
    plain: IntArray,
    extent: int,
    x: FloatArray,
    first: int,
    second: int,
    step: int,
    out: FloatArray,
    to_first: int,
    to_second: int,
    to_step: int,
    scratch: FloatArray,
) -> None:
    """Functions to sites, the transpose of `forth`, with the first ``4 * extent * LANES`` elements of `scratch`."""
    if sizes[2] > 0:
        gather(x, first, step, order, extent, scratch, 0)
        gather(x, second, step, order, extent, scratch, extent)
        room = 2 * extent * LANES
        products(blocks, sizes, scratch, extent, scratch, room, room + extent * LANES, plain, LANES)
        unfold(scratch, 2 * extent, out, to_first, to_step, extent)
        unfold(scratch, 3 * extent, out, to_second, to_step, extent)
    else:
        dense(blocks[0], extent, x, first, second, step, out, to_first, to_second, to_step)
