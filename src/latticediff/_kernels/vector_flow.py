"""Probability flow of a vector ridge network, `vectors.LANES` configurations at a time, one in each lane.

As `lanes`, for fields of N components: transforms and products with kernels are those of one component, N times over;
at every site and feature the components meet in one number, the length of ``u_f`` (theory page, eqs. 15g and 15h). N is
an ordinary argument, so one compiled function serves every N.

The real Fourier basis of a state has the components for one of its axes. That axis is never transformed here: it would
turn the components by one orthogonal matrix, the same at every site, with which the flow commutes and of which the
trace knows nothing.

A lane's bits depend on nothing but its own configuration: not on the batch, the other lanes, or the threads.
"""

from typing import Generic, NamedTuple, TypeVar

import numpy as np

from .compile import cached
from .folded import scratch_size, transform
from .rows import interleave, separate
from .stages import advance
from .two_sites import hidden, scatter
from .vectors import LANES, load, narrow, root, spread, store, widen

__all__ = ["VectorLevels", "flow", "slopes"]

one, two, three, half = np.float32(1.0), np.float32(2.0), np.float32(3.0), np.float32(0.5)
zero, zero_64 = np.float32(0.0), 0.0

Array = TypeVar("Array")


class VectorLevels(NamedTuple, Generic[Array]):
    """Everything that depends on the noise level, one row per level; V are the sites of the lattice.

    Tensors without padding, or NumPy arrays as `two_sites` wants them.
    """

    kernels_in: Array  #: (n_levels, F, J T) float32; in blocks and flat
    amplitudes: Array  #: (n_levels, F, 2) float32
    kernels_out: Array  #: (n_levels, M T, F) float32, the scale of the output included; in blocks and flat
    kappa: Array  #: (n_levels, F) float32
    inner: Array  #: (n_levels, J, V) float32, state to input fields, of any component
    outer: Array  #: (n_levels, M, V) float32, output fields to slope
    linear: Array  #: (n_levels, V) float64, the baseline's linear part of the slope
    numbers: Array  #: (n_levels, 4) float64: 4b, posterior variance c, baseline trace, linear trace


@cached
def activate(amplitudes, kappa, N, keep, g):
    """Overwrite ``u_f`` of two sites by ``u_f rho_f(s)``; returns ``sum_f kappa_f [N rho_f + 2 s rho_f']`` of both.

    `g` (N * 2 * F * LANES,): of each component what `hidden` gives; `keep` is 0 where the second site is none.
    """
    F = amplitudes.shape[0]
    stride = 2 * F * LANES
    unit, double, count = spread(one), spread(two), spread(np.float32(N))
    dx = dy = spread(zero)
    kept = spread(keep)
    for f in range(F):
        weight, c1, c2 = spread(kappa[f]), spread(amplitudes[f, 0]), spread(amplitudes[f, 1])
        at = 2 * f * LANES
        sx = sy = spread(zero)
        for first in range(at, N * stride, stride):
            u, v = load(g, first), load(g, first + LANES)
            sx, sy = sx + u * u, sy + v * v
        # 2 s rho' = (1 - r^2) (2 c2 r^2 - c1 r), since s r^2 = 1 - r^2
        r2 = unit / (unit + sx)
        rest, near = unit - r2, c1 * root(r2)
        rho_x = near + c2 * rest
        dx = dx + weight * (count * rho_x + rest * (double * c2 * r2 - near))
        r2 = unit / (unit + sy)
        rest, near = unit - r2, c1 * root(r2)
        rho_y = near + c2 * rest
        dy = dy + weight * (count * rho_y + rest * (double * c2 * r2 - near))
        rho_y = kept * rho_y
        for first in range(at, N * stride, stride):
            store(g, first, load(g, first) * rho_x)
            store(g, first + LANES, load(g, first + LANES) * rho_y)
    return widen(dx) + widen(kept * dy)


@cached
def local_part(numbers, N, u, J, size, out, stride):
    """The baseline's ``y f(s)`` at every site into the first output field of each component.

    Returns the sum of ``N f + 2 s f'`` over the lattice. The second input field is twice y; `stride` lies between the
    outputs of two components.
    """
    total = spread(zero_64)
    halved, unit, double, count = spread(half), spread(one), spread(two), spread(np.float32(N))
    q, width = spread(np.float32(numbers[0])), spread(np.float32((N + 2) * numbers[1]))
    qc3 = spread(three * np.float32(numbers[0]) * np.float32(numbers[1]))
    for at in range(0, size, LANES):
        square = spread(zero)
        for i in range(N):
            y = halved * load(u, (i * J + 1) * size + at)
            square = square + y * y
        inverse = unit / (unit + qc3 * square)
        f = q * (square + width) * inverse
        total = total + widen(count * f + double * square * (q - qc3 * f) * inverse)
        for i in range(N):
            store(out, i * stride + at, f * (halved * load(u, (i * J + 1) * size + at)))
    return total


@cached
def slope(
    state, level, N, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers,
    u, out, g, work, scratch, derivative,
):  # fmt: skip
    """``d state / d log sigma`` of one group into `derivative`; returns the trace, a vector of float64.

    `state` and `derivative` are (N * V * LANES,) float64, the rest scratch. `into` and `outward` are the `taps` of
    `hidden` and the `places` of `scatter`; a component has J fields in `u`, and M and one vector more in `out`.
    """
    J, V, M = inner.shape[1], inner.shape[2], outer.shape[1]
    size, stride = V * LANES, (M * V + 1) * LANES
    for i in range(N):
        for mode in range(V):
            at = mode * LANES
            value = narrow(load(state, i * size + at))
            for j in range(J):
                store(u, (i * J + j) * size + at, spread(inner[level, j, mode]) * value)
    for k in range(N * J):
        field = u[k * size : (k + 1) * size]
        transform(extents, sizes, order, plain, pairs, backs, True, field, work, scratch)
    total = local_part(numbers[level], N, u, J, size, out, stride)
    for i in range(N):
        for at in range(i * stride + size, (i + 1) * stride, LANES):
            store(out, at, spread(zero))
    trace = spread(numbers[level, 3]) + spread(numbers[level, 2]) * total
    F, T = amplitudes.shape[1], into.shape[0] // V
    # taken once: an array that is made in a loop is counted by an atomic instruction each time
    A, B, alpha, weights = kernels_in[level], kernels_out[level], amplitudes[level], kappa[level]
    room = 2 * F * LANES
    for x in range(0, V, 2):
        y, keep = (x + 1, one) if x + 1 < V else (x, zero)
        for i in range(N):
            hidden(A, F, into, T, x, y, u, i * J * size, J, size, g, i * room)
        trace = trace + activate(alpha, weights, N, keep, g)
        for i in range(N):
            scatter(B, F, outward, x, y, g, i * room, out, i * stride)
    for i in range(N):
        for m in range(M):
            field = out[i * stride + m * size : i * stride + (m + 1) * size]
            transform(extents, sizes, order, plain, pairs, forths, False, field, work, scratch)
        for mode in range(V):
            at = mode * LANES
            change = spread(linear[level, mode]) * load(state, i * size + at)
            for m in range(M):
                value = widen(load(out, i * stride + m * size + at))
                change = change + spread(np.float64(outer[level, m, mode])) * value
            store(derivative, i * size + at, change)
    return trace


@cached
def flow(
    begin, end, states, integrals, step, stage_level, increments, last, weights, depth,
    N, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers,
):  # fmt: skip
    """Explicit steps along the grid for groups begin .. end-1, in place.

    `states` (n, N V) in the Fourier basis; the scheme as in `lanes.flow`, the rest as in `slope`.
    """
    J, V, M = inner.shape[1], inner.shape[2], outer.shape[1]
    size, n_stages = N * V * LANES, weights.shape[0]
    u, out = np.empty(J * size, np.float32), np.empty(N * (M * V + 1) * LANES, np.float32)
    g, work = np.empty(2 * N * amplitudes.shape[1] * LANES, np.float32), np.empty(V * LANES, np.float32)
    scratch = np.empty(scratch_size(order), np.float32)
    state, slopes = np.empty(size), np.empty(depth * size)
    factors, rows = np.empty(depth), np.empty(depth, np.int64)
    for group in range(begin, end):
        interleave(states, group, state)
        integral = spread(zero_64)
        for n in range(step.shape[0]):
            for s in range(n_stages + 1):
                row = increments[s] if s < n_stages else last
                advance(state, slopes, depth, step[n], row, s, factors, rows)
                if s < n_stages:
                    trace = slope(
                        state, stage_level[n, s], N, extents, sizes, order, plain, pairs, forths, backs, into, outward,
                        kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers,
                        u, out, g, work, scratch, slopes[s % depth * size : (s % depth + 1) * size],
                    )  # fmt: skip
                    integral = integral + spread(step[n] * weights[s]) * trace
        separate(state, group, states)
        store(integrals[group], 0, integral)


@cached
def slopes(
    begin, end, states, level, derivatives, N, extents, sizes, order, plain, pairs, forths, backs, into, outward,
    kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers,
):  # fmt: skip
    """``d state / d log sigma`` of groups begin .. end-1 of `states` (n, N V) at one noise level."""
    J, V, M = inner.shape[1], inner.shape[2], outer.shape[1]
    size = N * V * LANES
    u, out = np.empty(J * size, np.float32), np.empty(N * (M * V + 1) * LANES, np.float32)
    g, work = np.empty(2 * N * amplitudes.shape[1] * LANES, np.float32), np.empty(V * LANES, np.float32)
    scratch = np.empty(scratch_size(order), np.float32)
    state, derivative = np.empty(size), np.empty(size)
    for group in range(begin, end):
        interleave(states, group, state)
        slope(
            state, level, N, extents, sizes, order, plain, pairs, forths, backs, into, outward,
            kernels_in, amplitudes, kernels_out, kappa, inner, outer, linear, numbers,
            u, out, g, work, scratch, derivative,
        )  # fmt: skip
        separate(derivative, group, derivatives)
