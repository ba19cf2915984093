"""One trajectory of a group of chains whose harmonic part is integrated exactly; `harmonic` runs updates of it.

Between kicks a chain is known by its modes, in units in which all of them are one oscillator:
``a_k = sqrt(M_k) phi_k`` and ``b_k = p_k / sqrt(M_k)`` with ``H0 = sum_k (b_k^2 + omega^2 a_k^2) / 2``. A drift is a
rotation of (a, b) by one angle, and fresh momenta b are white noise. A kick needs the field on sites and takes its
force back to modes: two transforms for each evaluation, and no neighbours, for what H0 leaves of the action is local.

The transforms along the first axis are joined with what happens to modes, those along the last one with what happens on
sites, so that a group of chains is read and written twice in a kick and a drift of two dimensions.

A group is `vectors.LANES` chains, lane innermost. `value` and `derivative` are bound by `compile.specialise`.
"""

import math
from typing import Any

import numpy as np

from ..types import FloatArray
from . import vectors
from .columns import back, dense, forth
from .modes import Basis, along, enter, into_modes
from .potentials import phi4_derivative as derivative
from .potentials import phi4_value as value
from .vectors import LANES

__all__ = ["WITHOUT_POTENTIAL", "WITH_POTENTIAL", "half_squares", "trajectory"]

# intrinsics, whose context Numba supplies
load: Any = vectors.load
spread: Any = vectors.spread
store: Any = vectors.store


def local_force(x: FloatArray, begin: int, n: int, params: tuple[float, ...], bend: float) -> None:
    """``x = bend x - V'(x)`` in place: the force of all that is not in H0."""
    for i in range(np.uint64(begin), np.uint64(begin + n)):
        s = x[i]
        x[i] = bend * s - derivative(s, params)


def local_action(x: FloatArray, begin: int, n: int, params: tuple[float, ...], bend: float, out: FloatArray) -> None:
    """``out[l] += sum_x V(x) - bend x^2 / 2`` of the column of `n` numbers at `begin`; `x` from 0 to n is overwritten.

    Sums grow by columns, so that rounding grows with L.
    """
    at = np.uint64(begin)
    for i in range(np.uint64(n)):
        s = x[at + i]
        x[i] = value(s, params) - 0.5 * bend * s * s
    total = spread(0.0)
    for i in range(0, n, LANES):
        total = total + load(x, i)
    store(out, 0, load(out, 0) + total)


def sites(
    basis: Basis,
    field: FloatArray,
    scratch: FloatArray,
    params: tuple[float, ...],
    bend: float,
    is_first: bool,
    is_last: bool,
    end: FloatArray,
    rest: FloatArray,
) -> None:
    """Along the last axis: functions of `field` to sites, the local force there, and back to functions.

    The first kick of a trajectory begins with the sites in `end`; the last one leaves the field there, and in `rest`
    the action that is not in H0.
    """
    axis = basis.extents.size - 1
    # views are counted references, and a call has its price: on short axes they would cost more than the products
    to_sites, to_modes = basis.back[axis], basis.forth[axis]
    dense_to_sites, dense_to_modes, is_folded = to_sites[0], to_modes[0], basis.sizes[axis, 2] > 0
    sizes, order, plain = basis.sizes[axis], basis.order[axis], basis.plain
    extent = basis.extents[axis]
    n = extent * LANES
    n_columns = end.size // n
    per_plane, pitch = n_columns // basis.extents[0], field.size // basis.extents[0]
    room = 4 * n
    for q in range(0, n_columns, 2):
        r = min(q + 1, n_columns - 1)  # an odd one is done twice
        first = q // per_plane * pitch + q % per_plane * n
        second = r // per_plane * pitch + r % per_plane * n
        if is_first:
            for i in range(0, n, LANES):
                store(scratch, room + i, load(end, q * n + i))
                store(scratch, room + n + i, load(end, r * n + i))
        elif is_folded:
            back(
                to_sites, sizes, order, plain, extent,
                field, first, second, LANES, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        else:
            dense(dense_to_sites, extent, field, first, second, LANES, scratch, room, room + n, LANES)
        if is_last:
            for i in range(0, n, LANES):
                store(end, q * n + i, load(scratch, room + i))
                store(end, r * n + i, load(scratch, room + n + i))
            local_action(scratch, room, n, params, bend, rest)
            if r != q:
                local_action(scratch, room + n, n, params, bend, rest)
        local_force(scratch, room, 2 * n, params, bend)
        if is_folded:
            forth(
                to_modes, sizes, order, plain, extent,
                scratch, room, room + n, LANES, field, first, second, LANES, scratch,
            )  # fmt: skip
        else:
            dense(dense_to_modes, extent, scratch, room, room + n, LANES, field, first, second, LANES)


def oscillators(
    basis: Basis,
    field: FloatArray,
    a: FloatArray,
    b: FloatArray,
    scratch: FloatArray,
    kick: float,
    drift: float,
    omega: float,
    is_last: bool,
) -> None:
    """Along the first axis: the force in `field` to modes, a kick, a drift, and the field back to sites.

    The last kick of a trajectory has no drift after it. Modes lie along the first axis: at the strides of the field
    three arrays would meet in the same few sets of the cache.
    """
    extent = basis.extents[0]
    after = basis.inverse_root.size // extent
    n, step = extent * LANES, field.size // extent
    room = 4 * n
    to_sites, to_modes = basis.back[0], basis.forth[0]
    dense_to_sites, dense_to_modes, is_folded = to_sites[0], to_modes[0], basis.sizes[0, 2] > 0
    sizes, order, plain = basis.sizes[0], basis.order[0], basis.plain
    inverse_roots = basis.inverse_root
    sine = math.sin(omega * drift)
    # where nothing couples neighbours omega is 0, and the rotation a free motion
    cosine, b_to_a, a_to_b = math.cos(omega * drift), sine / omega if omega > 0.0 else drift, -omega * sine
    c, up, down = spread(cosine), spread(b_to_a), spread(a_to_b)
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        if is_folded:
            forth(
                to_modes, sizes, order, plain, extent,
                field, q * LANES, r * LANES, step, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        else:
            dense(dense_to_modes, extent, field, q * LANES, r * LANES, step, scratch, room, room + n, LANES)
        first = q * extent
        for i in range((r - q + 1) * extent):
            here, there = (first + i) * LANES, room + i * LANES
            inverse = inverse_roots[first + i]
            y = load(b, here) + spread(kick * inverse) * load(scratch, there)
            if not is_last:
                x = load(a, here)
                new = c * x + up * y
                y = down * x + c * y
                store(a, here, new)
                store(scratch, there, spread(inverse) * new)
            store(b, here, y)
        last = room + (r - q) * n
        if not is_last and is_folded:
            back(
                to_sites, sizes, order, plain, extent,
                scratch, room, last, LANES, field, q * LANES, r * LANES, step, scratch,
            )  # fmt: skip
        elif not is_last:
            dense(dense_to_sites, extent, scratch, room, last, LANES, field, q * LANES, r * LANES, step)


def half_squares(x: FloatArray, n: int, factor: float, out: FloatArray) -> None:
    """``out[l] = factor / 2 sum_k x_k^2``, summed by rows of `n` numbers each."""
    half, sums = spread(0.5 * factor), spread(0.0)
    for begin in range(0, x.size, n):
        row = spread(0.0)
        for i in range(begin, begin + n, LANES):
            v = load(x, i)
            row = row + v * v
        sums = sums + half * row
    store(out, 0, sums)


def trajectory(
    basis: Basis,
    start: FloatArray,
    field: FloatArray,
    a: FloatArray,
    b: FloatArray,
    end: FloatArray,
    scratch: FloatArray,
    params: tuple[float, ...],
    bend: float,
    omega: float,
    kicks: FloatArray,
    drifts: FloatArray,
    factor: float,
    kinetic: FloatArray,
    action: FloatArray,
) -> None:
    """Integrate from `start` on sites, which stays as it is, and momenta `b` in modes to `end` on sites and `b`."""
    n_axes = basis.extents.size
    enter(start, field, basis.extents[0])
    into_modes(basis, field, a, True, scratch)
    action[:] = 0.0
    sites(basis, field, scratch, params, bend, True, False, start, action)
    for axis in range(n_axes - 2, 0, -1):
        along(basis, axis, field, False, scratch)
    for j in range(drifts.size):
        oscillators(basis, field, a, b, scratch, factor * kicks[j], factor * drifts[j], omega, False)
        for axis in range(1, n_axes - 1):
            along(basis, axis, field, True, scratch)
        sites(basis, field, scratch, params, bend, False, j == drifts.size - 1, end, action)
        for axis in range(n_axes - 2, 0, -1):
            along(basis, axis, field, False, scratch)
    oscillators(basis, field, a, b, scratch, factor * kicks[-1], 0.0, omega, True)
    n = basis.extents[n_axes - 1] * LANES
    half_squares(a, n, omega * omega, kinetic)
    for k in range(LANES):
        action[k] += kinetic[k]
    half_squares(b, n, 1.0, kinetic)


#: both in the order in which they call each other; the first know no potential, and are compiled once for all of them
WITHOUT_POTENTIAL = (oscillators, half_squares)
WITH_POTENTIAL = (local_force, local_action, sites, trajectory)
