"""Real Fourier transforms of two columns of a lattice at once, float64, from one array into another.

A column is all sites, or all functions, along one axis. The arithmetic is that of `folded`, whose transforms run over
whole lattices in float32: here whoever calls does something else with a column while it is in the cache. There are
`vectors.LANES` configurations side by side; a lane's bits depend on nothing but its own configuration.
"""

from typing import Any

import numpy as np

from ..fourier import real_fourier
from ..types import FloatArray, IntArray, Shape
from . import folded, vectors
from .compile import cached, specialise
from .folded import fold, gather, in_fours, kinds, unfold
from .vectors import LANES

__all__ = ["back", "dense", "forth", "tables"]

# intrinsics, whose context Numba supplies
load: Any = vectors.load
spread: Any = vectors.spread
store: Any = vectors.store

products: Any = specialise(folded.products.py_func, {"zero": 0.0}, "double")


def tables(shape: Shape) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """``(sizes, order, forth, back)`` of all axes of a lattice: `folded.tables` in float64.

    Returns
    -------
    sizes : ndarray, shape (n_axes, 4), int64
        Members of each kind.
    order : ndarray, shape (n_axes, largest extent), int64
        Functions, kind by kind.
    forth, back : ndarray, shape (n_axes, 4, rows / 4, columns, 4), float64
        The dense products, rows in blocks of four, filled up with zeros.
    """
    largest = max(shape)
    sizes, order = np.zeros((len(shape), 4), np.int64), np.zeros((len(shape), largest), np.int64)
    to_functions = np.zeros((len(shape), 4, -(-largest // 4), largest, 4))
    to_sites = np.zeros_like(to_functions)
    for axis, extent in enumerate(shape):
        functions, sites = kinds(extent)
        order[axis, :extent] = np.concatenate(functions)
        for kind, (rows, columns) in enumerate(zip(functions, sites, strict=True)):
            sizes[axis, kind] = len(rows)
            part = real_fourier(extent)[np.ix_(rows, columns)]
            for matrix, table in ((part, to_functions), (part.T, to_sites)):
                blocks = in_fours(matrix)
                table[axis, kind, : blocks.shape[0], : blocks.shape[1]] = blocks
    return sizes, order, to_functions, to_sites


@cached
def dense(
    blocks: FloatArray,
    extent: int,
    x: FloatArray,
    first: int,
    second: int,
    step: int,
    out: FloatArray,
    to_first: int,
    to_second: int,
    to_step: int,
) -> None:
    """One dense product of two columns, where symmetries do not pay: nothing is copied."""
    for block in range((extent + 3) // 4):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread(0.0)
        for j in range(extent):
            m0, m1 = spread(blocks[block, j, 0]), spread(blocks[block, j, 1])
            m2, m3 = spread(blocks[block, j, 2]), spread(blocks[block, j, 3])
            u, v = load(x, first + j * step), load(x, second + j * step)
            a0, b0 = a0 + m0 * u, b0 + m0 * v
            a1, b1 = a1 + m1 * u, b1 + m1 * v
            a2, b2 = a2 + m2 * u, b2 + m2 * v
            a3, b3 = a3 + m3 * u, b3 + m3 * v
        i, left = 4 * block, extent - 4 * block
        store(out, to_first + i * to_step, a0)
        store(out, to_second + i * to_step, b0)
        if left > 1:
            store(out, to_first + (i + 1) * to_step, a1)
            store(out, to_second + (i + 1) * to_step, b1)
        if left > 2:
            store(out, to_first + (i + 2) * to_step, a2)
            store(out, to_second + (i + 2) * to_step, b2)
        if left > 3:
            store(out, to_first + (i + 3) * to_step, a3)
            store(out, to_second + (i + 3) * to_step, b3)


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
