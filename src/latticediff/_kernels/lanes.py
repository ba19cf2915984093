"""Probability flow of a ridge network, `vectors.LANES` configurations at a time, one in each lane.

The arithmetic is `flow`'s, which keeps what differentiation needs; this one is what proposals use. The state lives in
an orthonormal real Fourier basis, float64; the inside of the network is float32. All arrays have the lane innermost,
so neighbours are other rows of a table and any lattice, any dimension and any set of taps is the same code.
Sites are taken two at a time: eight sums stay in registers, and every weight that is loaded serves two sites.

A lane's bits depend on nothing but its own configuration: not on the batch, the other lanes, or the threads.
"""

import numpy as np

from .compile import cached
from .folded import scratch_size, transform
from .pieces import cubic_pieces
from .vectors import LANES, load, narrow, root, spread, store, widen

one, two, three, half = np.float32(1.0), np.float32(2.0), np.float32(3.0), np.float32(0.5)
zero, zero_64 = np.float32(0.0), 0.0


@cached
def features(kernels, amplitudes, kappa, taps, x, y, keep, u, size, g):
    """Features of sites x and y into `g`, and ``sum_f kappa_f g_f'(h_f)`` of both; `keep` is 0 for a y that is x again.

    `kernels` (F / 4, J T, 4), `taps` (T, V) the sites at each offset, `u` (J * size) the input fields.
    """
    T = taps.shape[0]
    J = kernels.shape[1] // T
    dx = dy = spread(zero)
    unit, double, kept = spread(one), spread(two), spread(keep)
    for block in range(kernels.shape[0]):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread(zero)
        for j in range(J):
            for t in range(T):
                k = j * T + t
                m0, m1 = spread(kernels[block, k, 0]), spread(kernels[block, k, 1])
                m2, m3 = spread(kernels[block, k, 2]), spread(kernels[block, k, 3])
                p = load(u, j * size + taps[t, x] * LANES)
                q = load(u, j * size + taps[t, y] * LANES)
                a0, b0 = a0 + m0 * p, b0 + m0 * q
                a1, b1 = a1 + m1 * p, b1 + m1 * q
                a2, b2 = a2 + m2 * p, b2 + m2 * q
                a3, b3 = a3 + m3 * p, b3 + m3 * q
        for i in range(4):
            f = 4 * block + i
            if i == 0:
                hx, hy = a0, b0
            elif i == 1:
                hx, hy = a1, b1
            elif i == 2:
                hx, hy = a2, b2
            else:
                hx, hy = a3, b3
            c1, c2, weight = spread(amplitudes[f, 0]), spread(amplitudes[f, 1]), spread(kappa[f])
            s = unit / (unit + hx * hx)
            r = root(s)
            store(g, 2 * f * LANES, hx * (c1 * r + c2 * (unit - s)))
            dx = dx + weight * (c1 * r * s + c2 * (unit + s - double * s * s))
            s = unit / (unit + hy * hy)
            r = root(s)
            store(g, (2 * f + 1) * LANES, kept * hy * (c1 * r + c2 * (unit - s)))
            dy = dy + weight * (c1 * r * s + c2 * (unit + s - double * s * s))
    return widen(dx) + widen(kept * dy)


@cached
def scatter(kernels, taps, x, y, g, size, out):
    """``out_m(x - offset_t) += sum_f B_mft g_f(x)`` and the same of y.

    `kernels` (ceil(M T / 4), F, 4); `taps` (T, V) the sites x - offset_t.
    """
    T = taps.shape[0]
    n_rows = out.shape[0] // size * T
    for block in range(kernels.shape[0]):
        a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = spread(zero)
        for f in range(kernels.shape[1]):
            m0, m1 = spread(kernels[block, f, 0]), spread(kernels[block, f, 1])
            m2, m3 = spread(kernels[block, f, 2]), spread(kernels[block, f, 3])
            p, q = load(g, 2 * f * LANES), load(g, (2 * f + 1) * LANES)
            a0, b0 = a0 + m0 * p, b0 + m0 * q
            a1, b1 = a1 + m1 * p, b1 + m1 * q
            a2, b2 = a2 + m2 * p, b2 + m2 * q
            a3, b3 = a3 + m3 * p, b3 + m3 * q
        for i in range(4):
            row = 4 * block + i
            if row >= n_rows:
                break
            if i == 0:
                px, py = a0, b0
            elif i == 1:
                px, py = a1, b1
            elif i == 2:
                px, py = a2, b2
            else:
                px, py = a3, b3
            m, t = row // T, row % T
            at = m * size + taps[t, x] * LANES
            store(out, at, load(out, at) + px)
            at = m * size + taps[t, y] * LANES
            store(out, at, load(out, at) + py)


@cached
def slope(
    state, level, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
    u, out, g, work, scratch, derivative,
):  # fmt: skip
    """``d state / d log sigma`` of one group into `derivative`; returns the trace, a vector of float64.

    `state` and `derivative` are (V * LANES,) float64, the rest scratch. `into` (T, V) are the sites x + offset_t,
    `outward` the sites x - offset_t.
    """
    J, V = inner.shape[1], inner.shape[2]
    M, size = outer.shape[1], V * LANES
    for j in range(J):
        field = u[j * size : (j + 1) * size]
        for k in range(V):
            store(field, k * LANES, spread(inner[level, j, k]) * narrow(load(state, k * LANES)))
        if j == 1:  # around a vacuum
            store(field, 0, load(field, 0) + spread(np.float32(numbers[level, 8])))
        transform(extents, sizes, order, plain, pairs, backs, True, field, work, scratch)
    for i in range(M * V):
        store(out, i * LANES, spread(zero))
    trace = spread(numbers[level, 4])
    for x in range(0, V, 2):
        y, keep = (x + 1, one) if x + 1 < V else (x, zero)
        trace = trace + features(kernels_in[level], amplitudes[level], kappa[level], into, x, y, keep, u, size, g)
        scatter(kernels_out[level], outward, x, y, g, size, out)
    # the second input field is twice the baseline's y
    n = numbers[level]
    scale, q, lift = spread(np.float32(n[0])), spread(np.float32(n[1])), spread(np.float32(n[5]))
    width, tilt, weight = spread(np.float32(n[6])), spread(np.float32(n[7])), spread(n[3])
    qc3 = spread(three * np.float32(n[1]) * np.float32(n[2]))
    halved, unit, double, triple = spread(half), spread(one), spread(two), spread(three)
    total = spread(zero_64)
    if pieces.shape[1] > 0:
        for x in range(V):
            store(work, x * LANES, halved * load(u, size + x * LANES))
        low, inverse = np.float32(n[9]), np.float32(n[10])
        cubic_pieces(pieces[level], low, inverse, work, size, u[size : 2 * size], u[:size], work[:0])
        for x in range(V):
            at = x * LANES
            store(out, at, scale * load(out, at) + load(u, size + at))
            total = total + widen(load(u, at))
    for x in range(V if pieces.shape[1] == 0 else 0):
        at = x * LANES
        yb = halved * load(u, size + at)
        square = yb * yb
        denominator = unit / (lift + qc3 * square)
        local = (q * yb * (square + triple * width) + tilt) * denominator
        store(out, at, scale * load(out, at) + local)
        total = total + widen((triple * q * (square + width) - double * qc3 * yb * local) * denominator)
    for m in range(M):
        field = out[m * size : (m + 1) * size]
        if m > 0:
            for x in range(V):
                store(field, x * LANES, scale * load(field, x * LANES))
        transform(extents, sizes, order, plain, pairs, forths, False, field, work, scratch)
        for k in range(V):
            at = k * LANES
            before = spread(linear[level, k]) * load(state, at) if m == 0 else load(derivative, at)
            store(derivative, at, before + spread(np.float64(outer[level, m, k])) * widen(load(field, at)))
    return trace + weight * total


@cached
def flow(
    begin, end, states, integrals, step, stage_level, increments, last, weights, depth,
    extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
):  # fmt: skip
    """Explicit steps along the grid for groups begin .. end-1, in place.

    `states` (n_groups, V * LANES) in the Fourier basis, `integrals` (n_groups, LANES); `step` (n_steps,) in log sigma,
    `stage_level` (n_steps, n_stages) the row of the level tables. A stage is the one before it plus `increments`
    times slopes, of which the last `depth` are kept; the new state is the last stage plus `last` times slopes.
    """
    J, V = inner.shape[1], inner.shape[2]
    M, size, n_stages = outer.shape[1], V * LANES, weights.shape[0]
    u, out = np.empty(J * size, np.float32), np.empty(M * size, np.float32)
    g, work = np.empty(2 * amplitudes.shape[1] * LANES, np.float32), np.empty(size, np.float32)
    scratch = np.empty(scratch_size(order), np.float32)
    slopes = np.empty((depth, size))
    for i in range(begin, end):
        state = states[i]
        integral = load(integrals[i], 0)
        for n in range(step.shape[0]):
            for s in range(n_stages + 1):
                for r in range(max(0, s - depth), s):
                    b = step[n] * (increments[s, r] if s < n_stages else last[r])
                    if b != 0.0:
                        row, factor = slopes[r % depth], spread(b)
                        for x in range(0, size, LANES):
                            store(state, x, load(state, x) + factor * load(row, x))
                if s < n_stages:
                    trace = slope(
                        state, stage_level[n, s], extents, sizes, order, plain, pairs, forths, backs, into, outward,
                        kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
                        u, out, g, work, scratch, slopes[s % depth],
                    )  # fmt: skip
                    integral = integral + spread(step[n] * weights[s]) * trace
        store(integrals[i], 0, integral)


@cached
def slopes(
    begin, end, states, level, derivatives, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
):  # fmt: skip
    """``d state / d log sigma`` of groups begin .. end-1 at one noise level."""
    J, V = inner.shape[1], inner.shape[2]
    M, size = outer.shape[1], V * LANES
    u, out = np.empty(J * size, np.float32), np.empty(M * size, np.float32)
    g, work = np.empty(2 * amplitudes.shape[1] * LANES, np.float32), np.empty(size, np.float32)
    scratch = np.empty(scratch_size(order), np.float32)
    for i in range(begin, end):
        slope(
            states[i], level, extents, sizes, order, plain, pairs, forths, backs, into, outward,
            kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces,
            u, out, g, work, scratch, derivatives[i],
        )  # fmt: skip
