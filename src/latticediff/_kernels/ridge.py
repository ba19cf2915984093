"""Ridge network's core, forward and backward: one configuration, one thread, everything in cache.

The arithmetic is `latticediff.networks.ridge.core.ridge_core`'s. A configuration is handled by one thread in a
fixed order of operations, so results depend neither on the number of threads nor on how a batch is split.

A field is copied once into a periodic frame (a halo as wide as the kernel) and then treated as one
flat array in which a kernel's offset is a constant displacement, in any dimension: no index tests,
no gathers, contiguous inner loops. Sites of the halo are computed along and masked out. Work goes
tile by tile, so that the columns and features of a tile stay in the first-level cache.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import Extents, IntArray
from .compile import cached, cached_sums, inlined

TILE = 256  # flat sites per tile; features of a tile then fill 24 KB
LANES = 16  # flat runs are padded to a multiple, so that no loop ends in single steps

one, two = np.float32(1.0), np.float32(2.0)
zero = np.float32(0.0)


class Frame(NamedTuple):
    """Index tables of a lattice in its periodic frame."""

    source: IntArray  #: (Vp,) site of the lattice that each framed site copies
    sites: IntArray  #: (V,) framed position of each site
    inside: NDArray[np.float32]  #: (n_run,), 1 on the lattice, 0 on the halo; the run is padded to whole vectors
    offsets: IntArray  #: (T,) flat displacement of each tap
    first: int  #: framed position where the flat run starts


def frame(shape: Extents, offsets: Iterable[tuple[int, ...]], lanes: int = 1) -> Frame:
    """The `Frame` of a lattice for a kernel with these offsets.

    With `lanes` > 1 that many configurations lie interleaved, lane innermost, and are treated as
    one: small lattices then have long inner loops too.
    """
    offsets = [(*offset, 0) for offset in offsets] if lanes > 1 else offsets
    shape = (*shape, lanes) if lanes > 1 else tuple(shape)
    reach = max(max(abs(o) for o in offset) for offset in offsets)
    margins = [reach] * len(shape)
    if lanes > 1:
        margins[-1] = 0  # lanes are no neighbours
    padded = tuple(extent + 2 * m for extent, m in zip(shape, margins, strict=True))
    source = np.pad(np.arange(math.prod(shape)).reshape(shape), [(m, m) for m in margins], mode="wrap").ravel()
    interior = np.zeros(padded, bool)
    interior[tuple(slice(m, m + extent) for extent, m in zip(shape, margins, strict=True))] = True
    sites = np.flatnonzero(interior)
    strides = [math.prod(padded[axis + 1 :]) for axis in range(len(shape))]
    displacements = [sum(o * s for o, s in zip(offset, strides, strict=True)) for offset in offsets]
    first, last = sites[0], sites[-1] + 1
    inside = np.zeros(-(-(last - first) // LANES) * LANES, np.float32)
    inside[: last - first] = interior.ravel()[first:last]
    return Frame(
        source.astype(np.int64),
        sites.astype(np.int64),
        inside,
        np.array(displacements, np.int64),
        int(first),
    )


@cached
def enframe(field, source, framed):
    """Copy a field into its periodic frame."""
    for p in range(source.shape[0]):
        framed[p] = field[source[p]]


@cached
def correlate(A, x, displacements, start, n, out):
    """``out[f, s] = sum_k A[f, k] x[start + displacements[k] + s]``, `out` flat with row stride TILE.

    Four rows by four columns of A at a time (both padded): their sixteen numbers and the streams fill
    the registers. The constant stride lets the compiler see one output array.
    """
    F, K = A.shape
    for f in range(0, F, 4):
        o = out[f * TILE : (f + 4) * TILE]
        for k in range(0, K, 4):
            x0 = x[start + displacements[k] :]
            x1 = x[start + displacements[k + 1] :]
            x2 = x[start + displacements[k + 2] :]
            x3 = x[start + displacements[k + 3] :]
            a00, a01, a02, a03 = A[f, k], A[f, k + 1], A[f, k + 2], A[f, k + 3]
            a10, a11, a12, a13 = A[f + 1, k], A[f + 1, k + 1], A[f + 1, k + 2], A[f + 1, k + 3]
            a20, a21, a22, a23 = A[f + 2, k], A[f + 2, k + 1], A[f + 2, k + 2], A[f + 2, k + 3]
            a30, a31, a32, a33 = A[f + 3, k], A[f + 3, k + 1], A[f + 3, k + 2], A[f + 3, k + 3]
            if k == 0:
                for s in range(n):
                    y0, y1, y2, y3 = x0[s], x1[s], x2[s], x3[s]
                    o[s] = a00 * y0 + a01 * y1 + a02 * y2 + a03 * y3
                    o[s + TILE] = a10 * y0 + a11 * y1 + a12 * y2 + a13 * y3
                    o[s + 2 * TILE] = a20 * y0 + a21 * y1 + a22 * y2 + a23 * y3
                    o[s + 3 * TILE] = a30 * y0 + a31 * y1 + a32 * y2 + a33 * y3
            else:
                for s in range(n):
                    y0, y1, y2, y3 = x0[s], x1[s], x2[s], x3[s]
                    o[s] += a00 * y0 + a01 * y1 + a02 * y2 + a03 * y3
                    o[s + TILE] += a10 * y0 + a11 * y1 + a12 * y2 + a13 * y3
                    o[s + 2 * TILE] += a20 * y0 + a21 * y1 + a22 * y2 + a23 * y3
                    o[s + 3 * TILE] += a30 * y0 + a31 * y1 + a32 * y2 + a33 * y3


@cached_sums
def add_outer(g, x, displacements, start, n, out):
    """``out[f, k] += sum_s g[f, s] x[start + displacements[k] + s]``, the gradient of `correlate`."""
    F, K = out.shape
    for f in range(0, F, 4):
        y = g[f * TILE : (f + 4) * TILE]
        for k in range(0, K, 2):
            x0 = x[start + displacements[k] :]
            x1 = x[start + displacements[k + 1] :]
            s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zero
            for s in range(n):
                a, b = x0[s], x1[s]
                s00 += y[s] * a
                s01 += y[s] * b
                s10 += y[s + TILE] * a
                s11 += y[s + TILE] * b
                s20 += y[s + 2 * TILE] * a
                s21 += y[s + 2 * TILE] * b
                s30 += y[s + 3 * TILE] * a
                s31 += y[s + 3 * TILE] * b
            out[f, k] += s00
            out[f, k + 1] += s01
            out[f + 1, k] += s10
            out[f + 1, k + 1] += s11
            out[f + 2, k] += s20
            out[f + 2, k + 1] += s21
            out[f + 3, k] += s30
            out[f + 3, k + 1] += s31


@inlined
def inverse_sqrt(x):
    """``x^(-1/2)``, float32: root and quotient are correctly rounded, so every machine has the same bits."""
    return one / np.sqrt(x)


@cached
def activate(h, amplitudes, inside, n, g):
    """``g = h [a1 r + a2 (1 - r^2)]`` with ``r = (1 + h^2)^(-1/2)``; zero on the halo."""
    for f in range(amplitudes.shape[0]):
        a1, a2 = amplitudes[f, 0], amplitudes[f, 1]
        hf, gf = h[f * TILE : (f + 1) * TILE], g[f * TILE : (f + 1) * TILE]
        for s in range(n):
            r = inverse_sqrt(one + hf[s] * hf[s])
            gf[s] = inside[s] * hf[s] * (a1 * r + a2 * (one - r * r))


@cached_sums
def activate_backward(h, amplitudes, inside, n, dg, d_amplitudes):
    """Overwrite dg by ``dh = dg g'(h)`` and add the gradient of the amplitudes."""
    for f in range(amplitudes.shape[0]):
        a1, a2 = amplitudes[f, 0], amplitudes[f, 1]
        hf, gf = h[f * TILE : (f + 1) * TILE], dg[f * TILE : (f + 1) * TILE]
        d1 = d2 = zero
        for s in range(n):
            r = inverse_sqrt(one + hf[s] * hf[s])
            r2 = r * r
            upstream = gf[s] * inside[s]
            d1 += upstream * hf[s] * r
            d2 += upstream * hf[s] * (one - r2)
            gf[s] = upstream * (a1 * r * r2 + a2 * (one + r2 - two * r2 * r2))
        d_amplitudes[f, 0] += d1
        d_amplitudes[f, 1] += d2


@cached
def stacked(offsets, n_fields, framed):
    """Displacements of all taps of `n_fields` framed fields that lie one behind the other, padded."""
    T = offsets.shape[0]
    out = np.zeros(-(-n_fields * T // 4) * 4, np.int64)
    for j in range(n_fields):
        for t in range(T):
            out[j * T + t] = offsets[t] + j * framed
    return out


@cached
def scatter(P, displacements, start, n, out):
    """``out[start + s - displacements[t]] += P[t, s]``, the transpose of a shift."""
    for t in range(displacements.shape[0]):
        p, o = P[t * TILE : (t + 1) * TILE], out[start - displacements[t] :]
        for s in range(n):
            o[s] += p[s]


@cached
def effective(kernels_in, gain_in, kernels_out, gain_out):
    """The matrices that act on columns and on features, (F, J T) and (M T, F), gains included, padded."""
    F, J, T = kernels_in.shape
    M = kernels_out.shape[0]
    rows = -(-F // 4) * 4
    A = np.zeros((rows, -(-J * T // 4) * 4), np.float32)
    B = np.zeros((-(-M * T // 4) * 4, rows), np.float32)
    for f in range(F):
        for j in range(J):
            for t in range(T):
                A[f, j * T + t] = kernels_in[f, j, t] * gain_in[f, j]
        for m in range(M):
            for t in range(T):
                B[m * T + t, f] = kernels_out[m, f, t] * gain_out[m, f]
    return A, B


@cached
def forward(
    begin, end, fields, kernels_in, gain_in, amplitudes, kernels_out, gain_out,
    source, sites, inside, offsets, first, hidden, out,
):  # fmt: skip
    """The core for configurations begin .. end-1; `hidden` (n, F, n_run) keeps h for `backward`."""
    J, V = fields.shape[1:]
    F, T = kernels_in.shape[0], offsets.shape[0]
    M, framed, run = kernels_out.shape[0], source.shape[0], inside.shape[0]
    rows = -(-F // 4) * 4
    into, features = stacked(offsets, J, framed), np.arange(rows) * TILE
    u, o = np.zeros(J * framed + LANES, np.float32), np.empty(M * framed + LANES, np.float32)
    h, g = np.zeros(rows * TILE, np.float32), np.zeros(rows * TILE, np.float32)
    P = np.empty(-(-M * T // 4) * 4 * TILE, np.float32)
    for i in range(begin, end):
        for j in range(J):
            enframe(fields[i, j], source, u[j * framed : (j + 1) * framed])
        for p in range(o.shape[0]):
            o[p] = zero
        A, B = effective(kernels_in, gain_in[i], kernels_out, gain_out[i])
        for start in range(0, run, TILE):
            count = min(TILE, run - start)
            correlate(A, u, into, first + start, count, h)
            for f in range(F):
                for s in range(count):
                    hidden[i, f, start + s] = h[f * TILE + s]
            activate(h, amplitudes[i], inside[start:], count, g)
            correlate(B, g, features, 0, count, P)
            for m in range(M):
                scatter(P[m * T * TILE :], offsets, first + start, count, o[m * framed :])
        for m in range(M):
            for x in range(V):
                out[i, m, x] = zero
            for p in range(framed):
                out[i, m, source[p]] += o[m * framed + p]


@cached
def backward(
    begin, end, fields, kernels_in, gain_in, amplitudes, kernels_out, gain_out,
    source, sites, inside, offsets, first, hidden, d_out,
    d_kernels_in, d_gain_in, d_amplitudes, d_kernels_out, d_gain_out,
):  # fmt: skip
    """Gradients of the core, one row per configuration."""
    J = fields.shape[1]
    F, T = kernels_in.shape[0], offsets.shape[0]
    M, framed, run = kernels_out.shape[0], source.shape[0], inside.shape[0]
    into, outward = stacked(offsets, J, framed), stacked(-offsets, M, framed)
    u, d = np.zeros(J * framed + LANES, np.float32), np.zeros(M * framed + LANES, np.float32)
    rows = -(-F // 4) * 4
    h, g = np.zeros(rows * TILE, np.float32), np.zeros(rows * TILE, np.float32)
    dA, dB = np.empty((rows, into.shape[0]), np.float32), np.empty((rows, outward.shape[0]), np.float32)
    for i in range(begin, end):
        for j in range(J):
            enframe(fields[i, j], source, u[j * framed : (j + 1) * framed])
        for m in range(M):
            enframe(d_out[i, m], source, d[m * framed : (m + 1) * framed])
        B = np.ascontiguousarray(effective(kernels_in, gain_in[i], kernels_out, gain_out[i])[1].T)
        dA[:] = zero
        dB[:] = zero
        for f in range(F):
            d_amplitudes[i, f, 0] = zero
            d_amplitudes[i, f, 1] = zero
        for start in range(0, run, TILE):
            count = min(TILE, run - start)
            for f in range(F):
                for s in range(count):
                    h[f * TILE + s] = hidden[i, f, start + s]
            activate(h, amplitudes[i], inside[start:], count, g)
            add_outer(g, d, outward, first + start, count, dB)
            correlate(B, d, outward, first + start, count, g)
            activate_backward(h, amplitudes[i], inside[start:], count, g, d_amplitudes[i])
            add_outer(g, u, into, first + start, count, dA)
        # effective = kernel times gain, so both get their share
        for f in range(F):
            for j in range(J):
                total = zero
                for t in range(T):
                    total += dA[f, j * T + t] * kernels_in[f, j, t]
                    d_kernels_in[i, f, j, t] = dA[f, j * T + t] * gain_in[i, f, j]
                d_gain_in[i, f, j] = total
            for m in range(M):
                total = zero
                for t in range(T):
                    total += dB[f, m * T + t] * kernels_out[m, f, t]
                    d_kernels_out[i, m, f, t] = dB[f, m * T + t] * gain_out[i, m, f]
                d_gain_out[i, m, f] = total
