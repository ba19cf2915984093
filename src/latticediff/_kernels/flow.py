"""Probability flow of a ridge network, integrated configuration by configuration in compiled code.

The state lives in an orthonormal real Fourier basis, where everything linear is a product; five
small transforms, the network's core and a few pointwise sums make one evaluation. Transforms are
plain matrix products along each axis: at the extents in question as fast as an FFT, in any
dimension, and in the same order of operations whatever the batch. State and log density are
float64, the inside of the network is float32.

Small lattices are handled `lanes` configurations at a time, interleaved.
"""

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from .compile import cached
from .oblique import exchange
from .pieces import cubic_pieces
from .ridge import LANES, TILE, correlate, enframe, inverse_sqrt, scatter, stacked

one, two, three = np.float32(1.0), np.float32(2.0), np.float32(3.0)
half = np.float32(0.5)


Array = TypeVar("Array")


class Levels(NamedTuple, Generic[Array]):
    """Everything that depends on the noise level, one row per level: NumPy arrays, or tensors without padding."""

    kernels_in: Array  #: (n_levels, F, J T) float32, padded as `ridge.correlate` wants it
    amplitudes: Array  #: (n_levels, F, 2) float32
    kernels_out: Array  #: (n_levels, M T, F) float32, padded
    kappa: Array  #: (n_levels, F) float32
    inner: Array  #: (n_levels, J, V) float32, state to input fields
    outer: Array  #: (n_levels, M, V) float32, output fields to slope
    linear: Array  #: (n_levels, V) float64, the baseline's linear part of the slope
    #: (n_levels, 10) float64: output scale, 4b, posterior variance c, baseline trace, linear trace; and of the vacuum
    #: lambda, c - m_0^2, tilt (`gaussian.baseline`); of `pieces` the first knot and the knots per unit of half the
    #: second input
    numbers: Array
    #: (n_levels, n_pieces, 4) float32: the local part as in `pieces.cubic_pieces`; no pieces: the cubic of `numbers`
    pieces: Array
    #: float32, added to the first coefficients of the second input: (V,) in an external field, (1,) around vacua, (0,)
    raised: Array
    pull: Array  #: (n_levels, V) float64: constant part of the slope in an external field; (n_levels, 0) without
    #: (n_levels, V) float32: the baseline's answer to a random mass, by half of the second input; (n_levels, 0) without
    answer: Array
    #: float32, added to the amplitudes at a site; tensors (n_levels, F, 2, V), in `lanes` (n_levels, V, F, 2), here
    #: (n_levels, F, 2, n_run); V and n_run are 0 where all sites are alike
    by_site: Array


@cached
def along_axis(matrix, before, extent, after, x, out):
    """``out[b, i, a] = sum_j matrix[i, j] x[b, j, a]``."""
    stop = extent - extent % 4
    for b in range(before):
        base = b * extent * after
        for i in range(extent):
            o = out[base + i * after : base + (i + 1) * after]
            for a in range(after):
                o[a] = np.float32(0.0)
            for j in range(0, stop, 4):
                m0, m1, m2, m3 = matrix[i, j], matrix[i, j + 1], matrix[i, j + 2], matrix[i, j + 3]
                x0 = x[base + j * after :]
                x1 = x[base + (j + 1) * after :]
                x2 = x[base + (j + 2) * after :]
                x3 = x[base + (j + 3) * after :]
                for a in range(after):
                    o[a] += m0 * x0[a] + m1 * x1[a] + m2 * x2[a] + m3 * x3[a]
            for j in range(stop, extent):
                m0 = matrix[i, j]
                x0 = x[base + j * after :]
                for a in range(after):
                    o[a] += m0 * x0[a]


@cached
def along_last_axis(transposed, before, extent, x, out):
    """``out[b, i] = sum_j transposed[j, i] x[b, j]``: the contiguous axis, vectorised over i."""
    stop = extent - extent % 4
    for b in range(before):
        base = b * extent
        o = out[base : base + extent]
        for i in range(extent):
            o[i] = np.float32(0.0)
        for j in range(0, stop, 4):
            x0, x1, x2, x3 = x[base + j], x[base + j + 1], x[base + j + 2], x[base + j + 3]
            m0, m1, m2, m3 = transposed[j], transposed[j + 1], transposed[j + 2], transposed[j + 3]
            for i in range(extent):
                o[i] += x0 * m0[i] + x1 * m1[i] + x2 * m2[i] + x3 * m3[i]
        for j in range(stop, extent):
            x0, m0 = x[base + j], transposed[j]
            for i in range(extent):
                o[i] += x0 * m0[i]


@cached
def transform(extents, matrices, transposes, pairs, lanes, inverse, x, work):
    """Real Fourier transform of `x` over all axes, in place; `work` is scratch of the same size.

    `matrices[axis]` is padded to the largest extent; `pairs` are those of an oblique lattice.
    """
    if inverse:
        exchange(pairs, lanes, x)
    size = x.shape[0]
    before, after = 1, size
    source, target = x, work
    for axis in range(extents.shape[0]):
        extent = extents[axis]
        after //= extent
        if after > 1:
            matrix = transposes[axis] if inverse else matrices[axis]
            along_axis(matrix, before, extent, after, source, target)
        else:
            matrix = matrices[axis] if inverse else transposes[axis]
            along_last_axis(matrix, before, extent, source, target)
        before *= extent
        source, target = target, source
    if extents.shape[0] % 2 == 1:
        for i in range(size):
            x[i] = work[i]
    if not inverse:
        exchange(pairs, lanes, x)


@cached
def respond(answer, lanes, factor, source, out):
    """``out_x += answer_x * factor * source_x``, `lanes` configurations interleaved."""
    for k in range(answer.shape[0]):
        multiplier = factor * answer[k]
        for a in range(lanes):
            out[k * lanes + a] += multiplier * source[k * lanes + a]


@cached
def activate_and_sum(h, amplitudes, by_site, kappa, inside, n, g, density):
    """The features, and ``sum_f kappa_f g_f'(h_f)`` at every site of a tile; `by_site` (F, 2, n), or of no sites."""
    for s in range(n):
        density[s] = np.float32(0.0)
    for f in range(amplitudes.shape[0]):
        a1, a2, k = amplitudes[f, 0], amplitudes[f, 1], kappa[f]
        hf, gf = h[f * TILE : (f + 1) * TILE], g[f * TILE : (f + 1) * TILE]
        if by_site.shape[2] > 0:
            b1, b2 = by_site[f, 0], by_site[f, 1]
            for s in range(n):
                r = inverse_sqrt(one + hf[s] * hf[s])
                r2, c1, c2 = r * r, a1 + b1[s], a2 + b2[s]
                gf[s] = inside[s] * hf[s] * (c1 * r + c2 * (one - r2))
                density[s] += k * (c1 * r * r2 + c2 * (one + r2 - two * r2 * r2))
            continue
        for s in range(n):
            r = inverse_sqrt(one + hf[s] * hf[s])
            r2 = r * r
            gf[s] = inside[s] * hf[s] * (a1 * r + a2 * (one - r2))
            density[s] += k * (a1 * r * r2 + a2 * (one + r2 - two * r2 * r2))


@cached
def slope(
    state, level, lanes, extents, matrices, transposes, pairs, source, sites, inside, offsets, first,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull, answer, by_site,
    fields, framed_fields, h, g, P, density, framed_out, work, derivative, trace,
):  # fmt: skip
    """``d state / d log sigma`` and the trace, for `lanes` configurations; scratch arrays are passed in."""
    J, V = inner.shape[1], inner.shape[2]
    M, T = outer.shape[1], offsets.shape[0]
    size, framed, run = V * lanes, source.shape[0], inside.shape[0]
    for j in range(J):
        field = fields[j]
        for k in range(V):
            multiplier = inner[level, j, k]
            for a in range(lanes):
                field[k * lanes + a] = multiplier * np.float32(state[k * lanes + a])
        if j == 1:  # around a vacuum, or in an external field
            for k in range(raised.shape[0]):
                for a in range(lanes):
                    field[k * lanes + a] += raised[k]
        transform(extents, matrices, transposes, pairs, lanes, True, field, work)
        enframe(field, source, framed_fields[j * framed : (j + 1) * framed])
    for p in range(framed_out.shape[0]):
        framed_out[p] = np.float32(0.0)
    for a in range(lanes):
        trace[a] = numbers[level, 4]
    into, features = stacked(offsets, J, framed), np.arange(kernels_in.shape[1]) * TILE
    for start in range(0, run, TILE):
        count = min(TILE, run - start)
        correlate(kernels_in[level], framed_fields, into, first + start, count, h)
        activate_and_sum(
            h, amplitudes[level], by_site[level][:, :, start:], kappa[level], inside[start:], count, g, density
        )
        correlate(kernels_out[level], g, features, 0, count, P)
        for m in range(M):
            scatter(P[m * T * TILE :], offsets, first + start, count, framed_out[m * framed :])
        for s in range(count):
            trace[(start + s) % lanes] += inside[start + s] * density[s]
    # outputs replace the first input fields; the second input field is twice the baseline's y
    scale, q = np.float32(numbers[level, 0]), np.float32(numbers[level, 1])
    c, weight = np.float32(numbers[level, 2]), numbers[level, 3]
    lift, width, tilt = np.float32(numbers[level, 5]), np.float32(numbers[level, 6]), np.float32(numbers[level, 7])
    y = fields[1]
    out = fields[J]
    for m in range(M):
        for x in range(size):
            out[x] = np.float32(0.0)
        for p in range(framed):
            out[source[p]] += framed_out[m * framed + p]
        if m == 0 and pieces.shape[1] > 0:
            for x in range(size):
                work[x] = half * y[x]
            low, inverse = np.float32(numbers[level, 8]), np.float32(numbers[level, 9])
            cubic_pieces(pieces[level], low, inverse, work, size, y, fields[0], work[:0])
            for x in range(size):
                out[x] = scale * out[x] + y[x]
                trace[x % lanes] += weight * fields[0][x]
            respond(answer[level], lanes, one, work, out)
        elif m == 0:
            for x in range(size):
                yb = half * y[x]
                square = yb * yb
                denominator = one / (lift + three * q * c * square)
                local = (q * yb * (square + three * width) + tilt) * denominator
                out[x] = scale * out[x] + local
                # slope of the baseline, kept in the first field until the lanes are summed
                fields[0][x] = (three * q * (square + width) - two * three * q * c * yb * local) * denominator
            for x in range(size):
                trace[x % lanes] += weight * fields[0][x]
            respond(answer[level], lanes, half, y, out)
        else:
            for x in range(size):
                out[x] *= scale
        transform(extents, matrices, transposes, pairs, lanes, False, out, work)
        for k in range(V):
            multiplier = np.float64(outer[level, m, k])
            for a in range(lanes):
                i = k * lanes + a
                if m == 0:
                    derivative[i] = linear[level, k] * state[i] + multiplier * out[i]
                else:
                    derivative[i] += multiplier * out[i]
    for k in range(pull.shape[1]):
        for a in range(lanes):
            derivative[k * lanes + a] += pull[level, k]


@cached
def flow(
    begin, end, states, integrals, stages, step, stage_level, matrix, weights,
    lanes, extents, matrices, transposes, pairs, source, sites, inside, offsets, first,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull, answer, by_site,
):  # fmt: skip
    """Runge-Kutta along the grid for groups begin .. end-1, in place.

    `states` (n_groups, V * lanes) in the Fourier basis, `integrals` (n_groups, lanes); `step` (n_steps,)
    in log sigma, `stage_level` (n_steps, n_stages) the row of the level tables. `stages` keeps the state of every
    stage for `adjoint.backward`, (n_groups, n_steps, n_stages, V * lanes), or is empty.
    """
    J, V = inner.shape[1], inner.shape[2]
    F, M = kernels_in.shape[1], outer.shape[1]
    size, framed, n_stages = V * lanes, source.shape[0], weights.shape[0]
    fields = np.empty((J + 1, size), np.float32)
    framed_fields = np.zeros(J * framed + LANES, np.float32)
    framed_out = np.zeros(M * framed + LANES, np.float32)
    h, g = np.zeros(F * TILE, np.float32), np.zeros(F * TILE, np.float32)
    P, density = np.empty(kernels_out.shape[1] * TILE, np.float32), np.empty(TILE, np.float32)
    work = np.empty(size, np.float32)
    slopes, stage = np.empty((n_stages, size)), np.empty(size)
    trace = np.empty(lanes)
    for i in range(begin, end):
        state, integral = states[i], integrals[i]
        for n in range(step.shape[0]):
            for s in range(n_stages):
                for x in range(size):
                    stage[x] = state[x]
                for r in range(s):
                    a = step[n] * matrix[s, r]
                    if a != 0.0:
                        for x in range(size):
                            stage[x] += a * slopes[r, x]
                if stages.shape[0] > 0:
                    for x in range(size):
                        stages[i, n, s, x] = stage[x]
                slope(
                    stage, stage_level[n, s], lanes, extents, matrices, transposes, pairs, source, sites, inside,
                    offsets, first, kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
                    raised, pull, answer, by_site, fields, framed_fields, h, g, P, density, framed_out, work,
                    slopes[s], trace,
                )  # fmt: skip
                for a in range(lanes):
                    integral[a] += step[n] * weights[s] * trace[a]
            for s in range(n_stages):
                b = step[n] * weights[s]
                for x in range(size):
                    state[x] += b * slopes[s, x]


@cached
def slopes(
    begin, end, states, level, derivatives,
    lanes, extents, matrices, transposes, pairs, source, sites, inside, offsets, first,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull, answer, by_site,
):  # fmt: skip
    """``d state / d log sigma`` of groups begin .. end-1 at one noise level."""
    J, V = inner.shape[1], inner.shape[2]
    F, M = kernels_in.shape[1], outer.shape[1]
    size, framed = V * lanes, source.shape[0]
    fields = np.empty((J + 1, size), np.float32)
    framed_fields = np.zeros(J * framed + LANES, np.float32)
    framed_out = np.zeros(M * framed + LANES, np.float32)
    h, g = np.zeros(F * TILE, np.float32), np.zeros(F * TILE, np.float32)
    P, density = np.empty(kernels_out.shape[1] * TILE, np.float32), np.empty(TILE, np.float32)
    work, trace = np.empty(size, np.float32), np.empty(lanes)
    for i in range(begin, end):
        slope(
            states[i], level, lanes, extents, matrices, transposes, pairs, source, sites, inside,
            offsets, first, kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
            raised, pull, answer, by_site, fields, framed_fields, h, g, P, density, framed_out, work,
            derivatives[i], trace,
        )  # fmt: skip
