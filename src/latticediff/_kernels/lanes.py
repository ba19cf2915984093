"""Probability flow of a ridge network, `vectors.LANES` configurations at a time, one in each lane.

The arithmetic is `flow`'s, which keeps what differentiation needs; this one is what proposals use. The state lives in
an orthonormal real Fourier basis, float64; the inside of the network is float32. All arrays have the lane innermost,
so neighbours are other rows of a table and any lattice, any dimension and any set of taps is the same code.
Sites are taken two at a time (`two_sites`).

A lane's bits depend on nothing but its own configuration: not on the batch, the other lanes, or the threads.
"""

import numpy as np

from .compile import cached
from .folded import scratch_size, transform
from .pieces import cubic_pieces
from .rows import interleave, separate
from .stages import advance
from .two_sites import hidden, scatter
from .vectors import LANES, load, narrow, root, spread, store, widen

one, two, three, half = np.float32(1.0), np.float32(2.0), np.float32(3.0), np.float32(0.5)
zero, zero_64 = np.float32(0.0), 0.0


@cached
def activation(h, c1, c2):
    """``g(h)`` and ``g'(h)`` of a feature with amplitudes c1, c2 (theory page, eq. 14)."""
    unit = spread(one)
    s = unit / (unit + h * h)
    first_part, second_part = c1 * root(s), c2 * (unit - s)
    return h * (first_part + second_part), first_part * s + second_part * (unit + spread(two) * s)


@cached
def amplitude(amplitudes, by_site, x, f, which):
    """An amplitude of a feature at a site: the common one, and what it has there beyond it, if anything."""
    common = amplitudes[f, which]
    return spread(common + by_site[x, f, which] if by_site.shape[0] > 0 else common)


@cached
def features(kernels, amplitudes, by_site, kappa, taps, x, y, keep, u, size, g):
    """Features of sites x and y into `g`, and ``sum_f kappa_f g_f'(h_f)`` of both; `keep` is 0 for a y that is x again.

    `kernels`, `taps` and `g` as in `hidden`; `amplitudes` (F, 2), `by_site` (V or 0, F, 2); `u` (J * size) the input
    fields.
    """
    T, F = taps.shape[0] * LANES // size, amplitudes.shape[0]
    hidden(kernels, F, taps, T, x, y, u, 0, u.shape[0] // size, size, g, 0)
    dx = dy = spread(zero)
    kept = spread(keep)
    for f in range(F):
        weight = spread(kappa[f])
        c1, c2 = amplitude(amplitudes, by_site, x, f, 0), amplitude(amplitudes, by_site, x, f, 1)
        value, derivative = activation(load(g, 2 * f * LANES), c1, c2)
        store(g, 2 * f * LANES, value)
        dx = dx + weight * derivative
        c1, c2 = amplitude(amplitudes, by_site, y, f, 0), amplitude(amplitudes, by_site, y, f, 1)
        value, derivative = activation(load(g, (2 * f + 1) * LANES), c1, c2)
        store(g, (2 * f + 1) * LANES, kept * value)
        dy = dy + weight * derivative
    return widen(dx) + widen(kept * dy)


@cached
def local_part(pieces, n, u, V, out, work, rest):
    """The baseline's response at every site into the first output field; returns the sum of its derivatives."""
    # the second input field is twice the baseline's y
    size = V * LANES
    total = spread(zero_64)
    halved, unit, double, triple = spread(half), spread(one), spread(two), spread(three)
    if pieces.shape[0] > 0:
        for at in range(size, 2 * size, LANES):
            store(work, at - size, halved * load(u, at))
        cubic_pieces(pieces, np.float32(n[8]), np.float32(n[9]), work, size, out[:size], rest, work[:0])
        for at in range(0, size, LANES):
            total = total + widen(load(rest, at))
        return total
    q, lift = spread(np.float32(n[1])), spread(np.float32(n[5]))
    width, tilt = spread(np.float32(n[6])), spread(np.float32(n[7]))
    qc3 = spread(three * np.float32(n[1]) * np.float32(n[2]))
    for at in range(0, size, LANES):
        yb = halved * load(u, size + at)
        square = yb * yb
        denominator = unit / (lift + qc3 * square)
        local = (q * yb * (square + triple * width) + tilt) * denominator
        store(out, at, local)
        total = total + widen((triple * q * (square + width) - double * qc3 * yb * local) * denominator)
    return total


@cached
def slope(
    state, level, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull, answer, by_site,
    u, out, g, work, scratch, rest, derivative,
):  # fmt: skip
    """``d state / d log sigma`` of one group into `derivative`; returns the trace, a vector of float64.

    `state` and `derivative` are (V * LANES,) float64, the rest scratch. `into` and `outward` are the `taps` of
    `features` and the `places` of `scatter`.
    """
    J, V = inner.shape[1], inner.shape[2]
    M, size = outer.shape[1], V * LANES
    for mode in range(V):
        value = narrow(load(state, mode * LANES))
        for j in range(J):
            store(u, j * size + mode * LANES, spread(inner[level, j, mode]) * value)
    for mode in range(raised.shape[0]):  # around a vacuum, or in an external field
        at = size + mode * LANES
        store(u, at, load(u, at) + spread(raised[mode]))
    for j in range(J):
        field = u[j * size : (j + 1) * size]
        transform(extents, sizes, order, plain, pairs, backs, True, field, work, scratch)
    total = local_part(pieces[level], numbers[level], u, V, out, work, rest)
    for x in range(answer.shape[1]):  # to a random mass; its trace is in numbers
        at = x * LANES
        store(out, at, load(out, at) + spread(half * answer[level, x]) * load(u, size + at))
    for at in range(size, M * size, LANES):
        store(out, at, spread(zero))
    trace = spread(numbers[level, 4]) + spread(numbers[level, 3]) * total
    F = amplitudes.shape[1]
    # taken once: an array that is made in a loop is counted by an atomic instruction each time
    A, B, alpha, weights, beyond = (
        kernels_in[level],
        kernels_out[level],
        amplitudes[level],
        kappa[level],
        by_site[level],
    )
    for x in range(0, V, 2):
        y, keep = (x + 1, one) if x + 1 < V else (x, zero)
        trace = trace + features(A, alpha, beyond, weights, into, x, y, keep, u, size, g)
        scatter(B, F, outward, x, y, g, 0, out, 0)
    for m in range(M):
        field = out[m * size : (m + 1) * size]
        transform(extents, sizes, order, plain, pairs, forths, False, field, work, scratch)
    for mode in range(V):
        at = mode * LANES
        change = spread(linear[level, mode]) * load(state, at)
        for m in range(M):
            change = change + spread(np.float64(outer[level, m, mode])) * widen(load(out, m * size + at))
        store(derivative, at, change)
    for mode in range(pull.shape[1]):
        at = mode * LANES
        store(derivative, at, load(derivative, at) + spread(pull[level, mode]))
    return trace


@cached
def flow(
    begin, end, states, integrals, step, stage_level, increments, last, weights, depth,
    extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull, answer, by_site,
):  # fmt: skip
    """Explicit steps along the grid for groups begin .. end-1, in place.

    `states` (n, V) in the Fourier basis, `integrals` (n_groups, LANES); `step` (n_steps,) in log sigma,
    `stage_level` (n_steps, n_stages) the row of the level tables. A stage is the one before it plus `increments`
    times slopes, of which the last `depth` are kept; the new state is the last stage plus `last` times slopes.
    """
    J, V = inner.shape[1], inner.shape[2]
    M, size, n_stages = outer.shape[1], V * LANES, weights.shape[0]
    u, out = np.empty(J * size, np.float32), np.zeros((M * V + 1) * LANES, np.float32)
    g, work = np.empty(2 * amplitudes.shape[1] * LANES, np.float32), np.empty(size, np.float32)
    scratch = np.empty(scratch_size(order), np.float32)
    rest = np.empty(size if pieces.shape[1] > 0 else 0, np.float32)
    state, slopes = np.empty(size), np.empty(depth * size)
    factors, rows = np.empty(depth), np.empty(depth, np.int64)
    for i in range(begin, end):
        interleave(states, i, state)
        integral = spread(zero_64)
        for n in range(step.shape[0]):
            for s in range(n_stages + 1):
                row = increments[s] if s < n_stages else last
                advance(state, slopes, depth, step[n], row, s, factors, rows)
                if s < n_stages:
                    trace = slope(
                        state, stage_level[n, s], extents, sizes, order, plain, pairs, forths, backs, into, outward,
                        kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull,
                        answer, by_site,
                        u, out, g, work, scratch, rest, slopes[s % depth * size : (s % depth + 1) * size],
                    )  # fmt: skip
                    integral = integral + spread(step[n] * weights[s]) * trace
        separate(state, i, states)
        store(integrals[i], 0, integral)


@cached
def slopes(
    begin, end, states, level, derivatives, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull, answer, by_site,
):  # fmt: skip
    """``d state / d log sigma`` of groups begin .. end-1 of `states` (n, V) at one noise level."""
    J, V = inner.shape[1], inner.shape[2]
    M, size = outer.shape[1], V * LANES
    u, out = np.empty(J * size, np.float32), np.zeros((M * V + 1) * LANES, np.float32)
    g, work = np.empty(2 * amplitudes.shape[1] * LANES, np.float32), np.empty(size, np.float32)
    scratch = np.empty(scratch_size(order), np.float32)
    rest = np.empty(size if pieces.shape[1] > 0 else 0, np.float32)
    state, derivative = np.empty(size), np.empty(size)
    for i in range(begin, end):
        interleave(states, i, state)
        slope(
            state, level, extents, sizes, order, plain, pairs, forths, backs, into, outward,
            kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers, pieces, raised, pull,
            answer, by_site,
            u, out, g, work, scratch, rest, derivative,
        )  # fmt: skip
        separate(derivative, i, derivatives)
