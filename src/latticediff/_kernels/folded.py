"""Real Fourier transforms of `vectors.LANES` configurations at once, on large lattices with a quarter of the products.

Basis functions of an axis of extent L = 4 Q are even or odd under x -> -x, and even or odd under x -> x + L / 2 (as
their number n is). Sites that a symmetry connects are added or subtracted first; then each of the four kinds is a small
dense product:

=====  ==============================  ===========================  ======
kind   functions                       sites j                      number
=====  ==============================  ===========================  ======
0      cos, n even                     0 ... Q                      Q + 1
1      sin, n even                     1 ... Q - 1                  Q - 1
2      cos, n odd                      0 ... Q - 1                  Q
3      sin, n odd                      1 ... Q                      Q
=====  ==============================  ===========================  ======

The way back does the same in reverse. Axes below `FOLD_FROM`, where it does not pay, and of another extent are one
dense product. Two columns are taken at a time: eight sums stay in registers, and every coefficient that is loaded
serves both.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fourier import mode_numbers, real_fourier
from ..types import FloatArray, IntArray, Shape
from .compile import cached
from .vectors import LANES, load, spread, store

__all__ = ["in_blocks", "kinds", "scratch_size", "tables", "transform"]

zero, root_half = np.float32(0.0), np.float32(0.5**0.5)
FOLD_FROM = 32  #: at 8 folding costs a seventh more than it saves, at 64 it saves 0.28 of a whole evaluation


def kinds(extent: int) -> tuple[list[IntArray], list[IntArray]]:
    """Functions and sites of each kind for an axis; numbers of rows and columns of `real_fourier`."""
    if extent % 4 or extent < FOLD_FROM:
        return [np.arange(extent)], [np.arange(extent)]
    quarter = extent // 4
    numbers = mode_numbers(extent)
    # rows are the constant, pairs of cosine and sine, the alternating one
    sine = np.array([n > 0 and row == 2 * n for row, n in enumerate(numbers)])
    functions = [np.flatnonzero((numbers % 2 == odd) & (sine == s)) for odd in (0, 1) for s in (False, True)]
    sites = [np.arange(quarter + 1), np.arange(1, quarter), np.arange(quarter), np.arange(1, quarter + 1)]
    return functions, sites


def in_blocks(matrices: NDArray[Any], block: int = 4) -> FloatArray:
    """Matrices (..., rows, columns) as (..., rows / block, columns, block), the rows filled up with zeros."""
    *lead, rows, columns = matrices.shape
    blocks = -(-rows // block)
    filled = np.zeros((*lead, block * blocks, columns))
    filled[..., :rows, :] = matrices
    return filled.reshape(*lead, blocks, block, columns).swapaxes(-1, -2)


def tables(shape: Shape, dtype: Any = np.float32) -> tuple[IntArray, IntArray, NDArray[Any], NDArray[Any]]:
    """``(sizes, order, forth, back)`` of all axes of a lattice.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
        Of the dense products.

    Returns
    -------
    sizes : ndarray, shape (n_axes, 4), int64
        Members of each kind.
    order : ndarray, shape (n_axes, largest extent), int64
        Functions, kind by kind.
    forth, back : ndarray, shape (n_axes, 4, rows / 4, columns, 4)
        The dense products, rows in blocks of four, filled up with zeros.
    """
    largest = max(shape)
    sizes, order = np.zeros((len(shape), 4), np.int64), np.zeros((len(shape), largest), np.int64)
    forth = np.zeros((len(shape), 4, -(-largest // 4), largest, 4), dtype)
    back = np.zeros_like(forth)
    for axis, extent in enumerate(shape):
        basis = real_fourier(extent)
        functions, sites = kinds(extent)
        order[axis, :extent] = np.concatenate(functions)
        for kind, (rows, columns) in enumerate(zip(functions, sites, strict=True)):
            sizes[axis, kind] = len(rows)
            part = basis[np.ix_(rows, columns)]
            for matrix, table in ((part, forth), (part.T, back)):
                blocks = in_blocks(matrix)
                table[axis, kind, : blocks.shape[0], : blocks.shape[1]] = blocks
    return sizes, order, forth, back


@cached
def scratch_size(order):
    """Elements of the scratch that `transform` takes besides a copy of the fields."""
    return 4 * order.shape[1] * LANES


@cached
def dense(blocks, extent, x, first, second, step, out, to_first, to_second, to_step):
    """Two columns of x, multiplied by the matrix that `blocks` (>= extent / 4, >= extent, 4) holds, to two of `out`."""
    for block in range((extent + 3) // 4):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread(zero)
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
def along(blocks, before, extent, after, x, out):
    """``out[b, i, a] = sum_j m[i, j] x[b, j, a]`` for vectors; see `dense`."""
    columns, step = before * after, after * LANES
    for q in range(0, columns, 2):
        r = min(q + 1, columns - 1)  # an odd one is done twice
        first = (q // after * extent * after + q % after) * LANES
        second = (r // after * extent * after + r % after) * LANES
        dense(blocks, extent, x, first, second, step, out, first, second, step)


@cached
def products(blocks, sizes, f, extent, target, first, second, where, step):
    """Dense products of all kinds of two columns from `f`, to ``target[first + where[i] * step]`` and to `second`."""
    begin = 0
    for kind in range(4):
        n = sizes[kind]
        for block in range((n + 3) // 4):
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread(zero)
            for j in range(n):
                m0, m1 = spread(blocks[kind, block, j, 0]), spread(blocks[kind, block, j, 1])
                m2, m3 = spread(blocks[kind, block, j, 2]), spread(blocks[kind, block, j, 3])
                u, v = load(f, (begin + j) * LANES), load(f, (extent + begin + j) * LANES)
                a0, b0 = a0 + m0 * u, b0 + m0 * v
                a1, b1 = a1 + m1 * u, b1 + m1 * v
                a2, b2 = a2 + m2 * u, b2 + m2 * v
                a3, b3 = a3 + m3 * u, b3 + m3 * v
            i, left = begin + 4 * block, n - 4 * block
            store(target, first + where[i] * step, a0)
            store(target, second + where[i] * step, b0)
            if left > 1:
                store(target, first + where[i + 1] * step, a1)
                store(target, second + where[i + 1] * step, b1)
            if left > 2:
                store(target, first + where[i + 2] * step, a2)
                store(target, second + where[i + 2] * step, b2)
            if left > 3:
                store(target, first + where[i + 3] * step, a3)
                store(target, second + where[i + 3] * step, b3)
        begin += n


@cached
def fold(x, first, step, extent, f, base):
    """Sums and differences of the sites of one column, kind by kind, into `f` from vector `base` on."""
    half, quarter = extent // 2, extent // 4
    even_sine, odd_cosine, odd_sine = base + quarter, base + 2 * quarter, base + 3 * quarter - 1  # of site j at + j
    u, v = load(x, first), load(x, first + half * step)
    store(f, base * LANES, u + v)
    store(f, odd_cosine * LANES, u - v)
    u, v = load(x, first + quarter * step), load(x, first + (half + quarter) * step)
    store(f, (base + quarter) * LANES, u + v)
    store(f, (odd_sine + quarter) * LANES, u - v)
    for j in range(1, quarter):
        u, v = load(x, first + j * step), load(x, first + (half + j) * step)
        p, q = load(x, first + (half - j) * step), load(x, first + (extent - j) * step)
        plus, minus, plus_far, minus_far = u + v, u - v, p + q, p - q
        store(f, (base + j) * LANES, plus + plus_far)
        store(f, (even_sine + j) * LANES, plus - plus_far)
        store(f, (odd_cosine + j) * LANES, minus - minus_far)
        store(f, (odd_sine + j) * LANES, minus + minus_far)


@cached
def unfold(f, base, out, first, step, extent):
    """The transpose of `fold`: one column from its four kinds."""
    half, quarter = extent // 2, extent // 4
    even_sine, odd_cosine, odd_sine = base + quarter, base + 2 * quarter, base + 3 * quarter - 1
    e, o = load(f, base * LANES), load(f, odd_cosine * LANES)
    store(out, first, e + o)
    store(out, first + half * step, e - o)
    e, o = load(f, (base + quarter) * LANES), load(f, (odd_sine + quarter) * LANES)
    store(out, first + quarter * step, e + o)
    store(out, first + (half + quarter) * step, e - o)
    for j in range(1, quarter):
        c, s = load(f, (base + j) * LANES), load(f, (even_sine + j) * LANES)
        near, far = c + s, c - s
        c, s = load(f, (odd_cosine + j) * LANES), load(f, (odd_sine + j) * LANES)
        near_odd, far_odd = c + s, s - c
        store(out, first + j * step, near + near_odd)
        store(out, first + (half + j) * step, near - near_odd)
        store(out, first + (half - j) * step, far + far_odd)
        store(out, first + (extent - j) * step, far - far_odd)


@cached
def gather(x, first, step, where, extent, f, base):
    """``f[base + i] = x[first + where[i] * step]``, vectors."""
    for i in range(extent):
        store(f, (base + i) * LANES, load(x, first + where[i] * step))


@cached
def along_forth(blocks, sizes, order, before, extent, after, x, out, scratch):
    """Sites to functions along one axis."""
    columns, step = before * after, after * LANES
    for q in range(0, columns, 2):
        r = min(q + 1, columns - 1)  # an odd one is done twice
        first = (q // after * extent * after + q % after) * LANES
        second = (r // after * extent * after + r % after) * LANES
        fold(x, first, step, extent, scratch, 0)
        fold(x, second, step, extent, scratch, extent)
        products(blocks, sizes, scratch, extent, out, first, second, order, step)


@cached
def along_back(blocks, sizes, order, plain, before, extent, after, x, out, scratch):
    """Functions to sites along one axis."""
    columns, step = before * after, after * LANES
    room = 2 * extent * LANES
    for q in range(0, columns, 2):
        r = min(q + 1, columns - 1)
        first = (q // after * extent * after + q % after) * LANES
        second = (r // after * extent * after + r % after) * LANES
        gather(x, first, step, order, extent, scratch, 0)
        gather(x, second, step, order, extent, scratch, extent)
        products(blocks, sizes, scratch, extent, scratch, room, room + extent * LANES, plain, LANES)
        unfold(scratch, 2 * extent, out, first, step, extent)
        unfold(scratch, 3 * extent, out, second, step, extent)


@cached
def exchange(pairs, x):
    """Sum and difference over the root of two in place of each pair of an oblique lattice; its own inverse."""
    factor = spread(root_half)
    for p in range(pairs.shape[0]):
        at, beside = pairs[p, 0] * LANES, pairs[p, 1] * LANES
        a, b = load(x, at), load(x, beside)
        store(x, at, factor * (a + b))
        store(x, beside, factor * (a - b))


@cached
def transform(extents, sizes, order, plain, pairs, blocks, inverse, x, work, scratch):
    """Coefficients of the fields `x` in the real Fourier basis, in place; with `inverse` the way back, its transpose.

    `sizes`, `order`, and `blocks` of the direction: `tables`; `plain` counts from 0; `work` is scratch of the size of
    x, `scratch` has `scratch_size` elements.
    """
    if inverse:
        exchange(pairs, x)
    before, after = 1, 1
    for axis in range(extents.shape[0]):
        after *= extents[axis]
    source, target = x, work
    for axis in range(extents.shape[0]):
        extent = extents[axis]
        after //= extent
        if sizes[axis, 2] == 0:
            along(blocks[axis, 0], before, extent, after, source, target)
        elif inverse:
            along_back(blocks[axis], sizes[axis], order[axis], plain, before, extent, after, source, target, scratch)
        else:
            along_forth(blocks[axis], sizes[axis], order[axis], before, extent, after, source, target, scratch)
        before *= extent
        source, target = target, source
    if extents.shape[0] % 2 == 1:
        for i in range(x.shape[0]):
            x[i] = work[i]
    if not inverse:
        exchange(pairs, x)
