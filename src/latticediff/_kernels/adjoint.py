"""Reverse differentiation of the compiled flow: gradients of a passage by its ends and by the level tables.

`latticediff._kernels.flow.flow` keeps the state of every Runge-Kutta stage if asked to. `backward` walks the
stages in reverse and multiplies by the transposed derivative of each slope, trace included; hidden features are
computed again, which is cheaper than to keep them. Gradients of the tables are summed per group of lanes, one
group on one thread: they do not depend on the number of threads.
"""

import numpy as np

from .compile import cached, cached_sums
from .flow import respond, transform
from .pieces import cubic_pieces
from .ridge import LANES, TILE, add_outer, correlate, enframe, inverse_sqrt, scatter, stacked

zero, one, two, three = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(3.0)
half, eight = np.float32(0.5), np.float32(8.0)


@cached_sums
def activate_backward(h, amplitudes, by_site, kappa, inside, tau, n, dg, g, d_amplitudes, d_by_site, d_kappa):
    """Overwrite dg by dh, write the features g, and add the gradients of amplitudes and kappa.

    ``dh = dg g'(h) + tau kappa g''(h)`` with ``g'' = h [-3 a1 r^5 + a2 (8 r^6 - 2 r^4)]``; `tau` is the
    cotangent of the trace at each site. Where amplitudes differ from site to site their gradients do, too.
    """
    for f in range(amplitudes.shape[0] if by_site.shape[2] > 0 else 0):
        a1, a2, k = amplitudes[f, 0], amplitudes[f, 1], kappa[f]
        b1, b2, e1, e2 = by_site[f, 0], by_site[f, 1], d_by_site[f, 0], d_by_site[f, 1]
        hf, df, gf = h[f * TILE : (f + 1) * TILE], dg[f * TILE : (f + 1) * TILE], g[f * TILE : (f + 1) * TILE]
        d1 = d2 = dk = zero
        for s in range(n):
            x = hf[s]
            r = inverse_sqrt(one + x * x)
            r2, c1, c2 = r * r, a1 + b1[s], a2 + b2[s]
            r3, r4 = r * r2, r2 * r2
            upstream, t = df[s] * inside[s], tau[s]
            first, second = one + r2 - two * r4, eight * r2 * r4 - two * r4
            gf[s] = inside[s] * x * (c1 * r + c2 * (one - r2))
            dk += t * (c1 * r3 + c2 * first)
            at1, at2 = upstream * x * r + t * k * r3, upstream * x * (one - r2) + t * k * first
            e1[s] += at1
            e2[s] += at2
            d1 += at1
            d2 += at2
            df[s] = upstream * (c1 * r3 + c2 * first) + t * k * x * (c2 * second - three * c1 * r3 * r2)
        d_amplitudes[f, 0] += d1
        d_amplitudes[f, 1] += d2
        d_kappa[f] += dk
    for f in range(0 if by_site.shape[2] > 0 else amplitudes.shape[0]):
        a1, a2, k = amplitudes[f, 0], amplitudes[f, 1], kappa[f]
        hf, df, gf = h[f * TILE : (f + 1) * TILE], dg[f * TILE : (f + 1) * TILE], g[f * TILE : (f + 1) * TILE]
        d1 = d2 = dk = zero
        for s in range(n):
            x = hf[s]
            r = inverse_sqrt(one + x * x)
            r2 = r * r
            r3, r4 = r * r2, r2 * r2
            upstream, t = df[s] * inside[s], tau[s]
            first, second = one + r2 - two * r4, eight * r2 * r4 - two * r4
            gf[s] = inside[s] * x * (a1 * r + a2 * (one - r2))
            dk += t * (a1 * r3 + a2 * first)
            d1 += upstream * x * r + t * k * r3
            d2 += upstream * x * (one - r2) + t * k * first
            df[s] = upstream * (a1 * r3 + a2 * first) + t * k * x * (a2 * second - three * a1 * r3 * r2)
        d_amplitudes[f, 0] += d1
        d_amplitudes[f, 1] += d2
        d_kappa[f] += dk


@cached
def slope_backward(
    state, d_slope, d_trace, level, lanes, extents, matrices, transposes, pairs, source, inside, offsets, first,
    kernels_in, transposed_in, amplitudes, transposed_out, kappa, inner, outer, linear, numbers, pieces, raised,
    answer, by_site, fields, framed_fields, d_out, framed_d_out, framed_d_fields, h, dg, g, P, tau, work,
    d_state, d_kernels_in, d_amplitudes, d_kernels_out, d_kappa, d_by_site,
):  # fmt: skip
    """Transposed derivative of `flow.slope` at one stage, for `lanes` configurations; scratch arrays are passed in.

    `d_slope` (V * lanes,) and `d_trace` (lanes,) are cotangents; `d_state` is overwritten, gradients are added to.
    With `d_kernels_in` empty the tables are held fixed, and the other gradients hold one row of scratch.
    """
    learn = d_kernels_in.shape[0] > 0
    row = level if learn else 0
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
    scale = np.float32(numbers[level, 0])
    for m in range(M):
        for k in range(V):
            multiplier = outer[level, m, k]
            for a in range(lanes):
                d_out[m, k * lanes + a] = multiplier * np.float32(d_slope[k * lanes + a])
        transform(extents, matrices, transposes, pairs, lanes, True, d_out[m], work)
        for x in range(size):
            work[x] = scale * d_out[m, x]
        enframe(work, source, framed_d_out[m * framed : (m + 1) * framed])
    for p in range(framed_d_fields.shape[0]):
        framed_d_fields[p] = zero
    into, outward, features = stacked(offsets, J, framed), stacked(-offsets, M, framed), np.arange(h.shape[0] // TILE)
    features *= TILE
    for start in range(0, run, TILE):
        count = min(TILE, run - start)
        for s in range(count):
            tau[s] = inside[start + s] * np.float32(d_trace[(start + s) % lanes])
        correlate(kernels_in[level], framed_fields, into, first + start, count, h)
        correlate(transposed_out[level], framed_d_out, outward, first + start, count, dg)
        activate_backward(
            h, amplitudes[level], by_site[level][:, :, start:], kappa[level], inside[start:], tau, count, dg, g,
            d_amplitudes[row], d_by_site[row][:, :, start:], d_kappa[row],
        )  # fmt: skip
        if learn:
            add_outer(g, framed_d_out, outward, first + start, count, d_kernels_out[row])
            add_outer(dg, framed_fields, into, first + start, count, d_kernels_in[row])
        correlate(transposed_in[level], dg, features, 0, count, P)
        for j in range(J):
            scatter(P[j * T * TILE :], -offsets, first + start, count, framed_d_fields[j * framed :])
    for i in range(size):
        d_state[i] = linear[level, i // lanes] * d_slope[i]
    # the baseline sees y, half of the second input field; its trace has weight numbers[3]
    q, c, weight = np.float32(numbers[level, 1]), np.float32(numbers[level, 2]), np.float32(numbers[level, 3])
    lift, width, tilt = np.float32(numbers[level, 5]), np.float32(numbers[level, 6]), np.float32(numbers[level, 7])
    y = fields[1]
    if pieces.shape[1] > 0:
        for x in range(size):
            work[x] = half * y[x]
        low, inverse_width = np.float32(numbers[level, 8]), np.float32(numbers[level, 9])
        cubic_pieces(pieces[level], low, inverse_width, work, size, y, fields[0], fields[2])
        for x in range(size):
            work[x] = half * (fields[0][x] * d_out[0, x] + weight * np.float32(d_trace[x % lanes]) * fields[2][x])
    for x in range(size if pieces.shape[1] == 0 else 0):
        yb = half * y[x]
        square = yb * yb
        inverse = one / (lift + three * q * c * square)
        local = (q * yb * (square + three * width) + tilt) * inverse
        rise = (three * q * (square + width) - two * three * q * c * yb * local) * inverse
        bend = two * three * q * (yb - c * local - two * c * yb * rise) * inverse
        work[x] = half * (rise * d_out[0, x] + weight * np.float32(d_trace[x % lanes]) * bend)
    respond(answer[level], lanes, half, d_out[0], work)
    for x in range(size):
        y[x] = work[x]  # the gradient of the second field starts from here
    for j in range(J):
        field = fields[j]
        if j != 1:
            for x in range(size):
                field[x] = zero
        for p in range(framed):
            field[source[p]] += framed_d_fields[j * framed + p]
        transform(extents, matrices, transposes, pairs, lanes, False, field, work)
        for k in range(V):
            multiplier = np.float64(inner[level, j, k])
            for a in range(lanes):
                d_state[k * lanes + a] += multiplier * field[k * lanes + a]


@cached
def backward(
    begin, end, d_states, d_integrals, stages, step, stage_level, matrix, weights,
    lanes, extents, matrices, transposes, pairs, source, sites, inside, offsets, first,
    kernels_in, transposed_in, amplitudes, transposed_out, kappa, inner, outer, linear, numbers, pieces, raised, pull,
    answer, by_site, d_kernels_in, d_amplitudes, d_kernels_out, d_kappa, d_by_site,
):  # fmt: skip
    """From cotangents of the end to those of the start, `d_states` in place; table gradients, one row per group."""
    J, V = inner.shape[1], inner.shape[2]
    F, M = kernels_in.shape[1], outer.shape[1]
    size, framed, n_stages = V * lanes, source.shape[0], weights.shape[0]
    # three fields are wanted as scratch where the local force is given by pieces, whatever the network reads
    fields, d_out = np.empty((max(J, 3), size), np.float32), np.empty((M, size), np.float32)
    framed_fields, framed_d_fields = np.zeros(J * framed + LANES, np.float32), np.zeros(J * framed + LANES, np.float32)
    framed_d_out = np.zeros(M * framed + LANES, np.float32)
    h, dg, g = np.zeros(F * TILE, np.float32), np.zeros(F * TILE, np.float32), np.zeros(F * TILE, np.float32)
    P, tau = np.empty(transposed_in.shape[1] * TILE, np.float32), np.empty(TILE, np.float32)
    work, d_slopes, d_stage, d_trace = (
        np.empty(size, np.float32), np.empty((n_stages, size)), np.empty(size), np.empty(lanes)
    )  # fmt: skip
    for i in range(begin, end):
        d_state = d_states[i]
        for n in range(step.shape[0] - 1, -1, -1):
            for s in range(n_stages):
                b = step[n] * weights[s]
                for x in range(size):
                    d_slopes[s, x] = b * d_state[x]
            for s in range(n_stages - 1, -1, -1):
                for a in range(lanes):
                    d_trace[a] = step[n] * weights[s] * d_integrals[i, a]
                slope_backward(
                    stages[i, n, s], d_slopes[s], d_trace, stage_level[n, s], lanes, extents, matrices, transposes,
                    pairs, source, inside, offsets, first, kernels_in, transposed_in, amplitudes, transposed_out, kappa,
                    inner, outer, linear, numbers, pieces, raised, answer, by_site, fields, framed_fields, d_out,
                    framed_d_out, framed_d_fields, h, dg, g, P, tau, work, d_stage,
                    d_kernels_in[i], d_amplitudes[i], d_kernels_out[i], d_kappa[i], d_by_site[i],
                )  # fmt: skip
                for x in range(size):
                    d_state[x] += d_stage[x]
                for r in range(s):
                    a = step[n] * matrix[s, r]
                    if a != 0.0:
                        for x in range(size):
                            d_slopes[r, x] += a * d_stage[x]
