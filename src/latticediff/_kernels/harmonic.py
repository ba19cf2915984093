"""The compiled HMC update that integrates the harmonic part of the action exactly: Fourier acceleration.

Between kicks a chain is known by its modes, in units in which all of them are one oscillator:
``a_k = sqrt(M_k) phi_k`` and ``b_k = p_k / sqrt(M_k)`` with ``H0 = sum_k (b_k^2 + omega^2 a_k^2) / 2``. A drift is a
rotation of (a, b) by one angle, and fresh momenta b are white noise. A kick needs the field on sites and takes its
force back to modes: two transforms for each evaluation, and no neighbours, for what H0 leaves of the action is local.

The transforms along the first axis are joined with what happens to modes, those along the last one with what happens on
sites, so that a group of chains is read and written twice in a kick and a drift of two dimensions.

A group is `vectors.LANES` chains, lane innermost. `value` and `derivative` are bound by `compile.specialise`.
"""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray, IntArray
from .columns import back, dense, forth
from .compile import potential_name, specialise
from .potentials import phi4_derivative as derivative
from .potentials import phi4_value as value
from .random import fill_normals, uniform
from .vectors import LANES, load, spread, store

__all__ = ["build"]

ZERO, ONE, FOUR = np.uint64(0), np.uint64(1), np.uint64(4)


class Basis(NamedTuple):
    """The transforms of one lattice: `columns.tables`, its extents, and ``1 / sqrt(M)`` of each mode.

    Modes are numbered with the first axis innermost.
    """

    extents: IntArray
    sizes: IntArray
    order: IntArray
    plain: IntArray
    forth: FloatArray
    back: FloatArray
    inverse_root: FloatArray


def local_force(x: FloatArray, begin: int, n: int, params: tuple[float, ...], bend: float) -> None:
    """``x = bend x - V'(x)`` in place: the force of all that is not in H0."""
    for i in range(np.uint64(begin), np.uint64(begin + n)):
        s = x[i]
        x[i] = bend * s - derivative(s, params)


def local_action(
    x: FloatArray, begin: int, n: int, params: tuple[float, ...], bend: float, row: FloatArray, out: FloatArray
) -> None:
    """``out[l] += sum_x V(x) - bend x^2 / 2`` of one column; sums grow by columns, so rounding grows with L."""
    row[:] = 0.0
    for i in range(n):
        for k in range(LANES):
            s = x[begin + i * LANES + k]
            row[k] += value(s, params) - 0.5 * bend * s * s
    for k in range(LANES):
        out[k] += row[k]


def sites(
    basis: Basis,
    field: FloatArray,
    scratch: FloatArray,
    params: tuple[float, ...],
    bend: float,
    is_first: bool,
    is_last: bool,
    end: FloatArray,
    row: FloatArray,
    rest: FloatArray,
) -> None:
    """Along the last axis: functions of `field` to sites, the local force there, and back to functions.

    The first kick of a trajectory begins on sites; the last one leaves the field in `end`, and in `rest` the action
    that is not in H0.
    """
    axis = basis.extents.size - 1
    # views are counted references, and a call has its price: on short axes they would cost more than the products
    to_sites, to_modes = basis.back[axis], basis.forth[axis]
    dense_to_sites, dense_to_modes, is_folded = to_sites[0], to_modes[0], basis.sizes[axis, 2] > 0
    sizes, order, plain = basis.sizes[axis], basis.order[axis], basis.plain
    extent = basis.extents[axis]
    n = extent * LANES
    n_columns = field.size // n
    room = 4 * n
    for q in range(0, n_columns, 2):
        first, second = q * n, min(q + 1, n_columns - 1) * n  # an odd one is done twice
        if is_first:
            for i in range(0, n, LANES):
                store(scratch, room + i, load(field, first + i))
                store(scratch, room + n + i, load(field, second + i))
        elif is_folded:
            back(
                to_sites, sizes, order, plain, extent,
                field, first, second, LANES, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        else:
            dense(dense_to_sites, extent, field, first, second, LANES, scratch, room, room + n, LANES)
        if is_last:
            for i in range(0, n, LANES):
                store(end, first + i, load(scratch, room + i))
                store(end, second + i, load(scratch, room + n + i))
            local_action(scratch, room, extent, params, bend, row, rest)
            if second != first:
                local_action(scratch, room + n, extent, params, bend, row, rest)
        local_force(scratch, room, 2 * n, params, bend)
        if is_folded:
            forth(
                to_modes, sizes, order, plain, extent,
                scratch, room, room + n, LANES, field, first, second, LANES, scratch,
            )  # fmt: skip
        else:
            dense(dense_to_modes, extent, scratch, room, room + n, LANES, field, first, second, LANES)


def along(basis: Basis, axis: int, field: FloatArray, inverse: bool, scratch: FloatArray) -> None:
    """The transform along one axis in place: two columns are complete in `scratch` before they are written."""
    before, after, extent = 1, 1, basis.extents[axis]
    for other in range(axis):
        before *= basis.extents[other]
    for other in range(axis + 1, basis.extents.size):
        after *= basis.extents[other]
    columns, step = before * after, after * LANES
    n, room = extent * LANES, 4 * extent * LANES
    blocks = basis.back[axis] if inverse else basis.forth[axis]
    sizes, order, plain = basis.sizes[axis], basis.order[axis], basis.plain
    for q in range(0, columns, 2):
        r = min(q + 1, columns - 1)
        first = (q // after * extent * after + q % after) * LANES
        second = (r // after * extent * after + r % after) * LANES
        if inverse:
            back(
                blocks, sizes, order, plain, extent,
                field, first, second, step, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        else:
            forth(
                blocks, sizes, order, plain, extent,
                field, first, second, step, scratch, room, room + n, LANES, scratch,
            )  # fmt: skip
        for i in range(extent):
            store(field, first + i * step, load(scratch, room + i * LANES))
            store(field, second + i * step, load(scratch, room + n + i * LANES))


def into_modes(basis: Basis, field: FloatArray, out: FloatArray, upwards: bool, scratch: FloatArray) -> None:
    """Coefficients of `field`, which is overwritten, times sqrt(M) if `upwards`, else over it: a of phi, b of p."""
    for axis in range(basis.extents.size - 1, 0, -1):
        along(basis, axis, field, False, scratch)
    extent = basis.extents[0]
    after = basis.inverse_root.size // extent
    to_modes, sizes, order, plain = basis.forth[0], basis.sizes[0], basis.order[0], basis.plain
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        forth(
            to_modes, sizes, order, plain, extent,
            field, q * LANES, r * LANES, after * LANES, out, q * extent * LANES, r * extent * LANES, LANES, scratch,
        )  # fmt: skip
    for k in range(basis.inverse_root.size):
        scale = 1.0 / basis.inverse_root[k] if upwards else basis.inverse_root[k]
        store(out, k * LANES, spread(scale) * load(out, k * LANES))


def out_of_modes(basis: Basis, b: FloatArray, field: FloatArray, scratch: FloatArray) -> None:
    """Momenta on sites from the modes `b`, which are overwritten: the way back of `into_modes`."""
    extent = basis.extents[0]
    after = basis.inverse_root.size // extent
    for k in range(basis.inverse_root.size):
        store(b, k * LANES, spread(1.0 / basis.inverse_root[k]) * load(b, k * LANES))
    to_sites, sizes, order, plain = basis.back[0], basis.sizes[0], basis.order[0], basis.plain
    for q in range(0, after, 2):
        r = min(q + 1, after - 1)
        back(
            to_sites, sizes, order, plain, extent,
            b, q * extent * LANES, r * extent * LANES, LANES, field, q * LANES, r * LANES, after * LANES, scratch,
        )  # fmt: skip
    for axis in range(1, basis.extents.size):
        along(basis, axis, field, True, scratch)


def modes(
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
    n, step = extent * LANES, after * LANES
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


def half_squares(x: FloatArray, n: int, factor: float, row: FloatArray, out: FloatArray) -> None:
    """``out[l] = factor / 2 sum_k x_k^2``, summed by rows of `n` numbers each."""
    out[:] = 0.0
    for begin in range(0, x.size, n):
        row[:] = 0.0
        for i in range(begin, begin + n, LANES):
            for k in range(LANES):
                row[k] += x[i + k] * x[i + k]
        for k in range(LANES):
            out[k] += 0.5 * factor * row[k]


def trajectory(
    basis: Basis,
    start: FloatArray,
    field: FloatArray,
    a: FloatArray,
    b: FloatArray,
    end: FloatArray,
    scratch: FloatArray,
    row: FloatArray,
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
    field[:] = start
    into_modes(basis, field, a, True, scratch)
    field[:] = start
    action[:] = 0.0
    sites(basis, field, scratch, params, bend, True, False, end, row, action)
    for axis in range(n_axes - 2, 0, -1):
        along(basis, axis, field, False, scratch)
    for j in range(drifts.size):
        modes(basis, field, a, b, scratch, factor * kicks[j], factor * drifts[j], omega, False)
        for axis in range(1, n_axes - 1):
            along(basis, axis, field, True, scratch)
        sites(basis, field, scratch, params, bend, False, j == drifts.size - 1, end, row, action)
        for axis in range(n_axes - 2, 0, -1):
            along(basis, axis, field, False, scratch)
    modes(basis, field, a, b, scratch, factor * kicks[-1], 0.0, omega, True)
    n = basis.extents[n_axes - 1] * LANES
    half_squares(a, n, omega * omega, row, kinetic)
    for k in range(LANES):
        action[k] += kinetic[k]
    half_squares(b, n, 1.0, row, kinetic)


def load_group(field: FloatArray, phi: FloatArray, chain: int, used: int) -> None:
    """Fields (n_chains, V) of the chains ``chain .. chain + used - 1`` side by side; idle lanes get zeros."""
    for x in range(phi.shape[1]):
        for k in range(used):
            field[x * LANES + k] = phi[chain + k, x]
        for k in range(used, LANES):
            field[x * LANES + k] = 0.0


def store_group(field: FloatArray, phi: FloatArray, chain: int, used: int) -> None:
    """The inverse of `load_group`."""
    for k in range(used):
        for x in range(phi.shape[1]):
            phi[chain + k, x] = field[x * LANES + k]


def draw(b: FloatArray, normals: FloatArray, key: np.uint64, chain: int, used: int, now: np.uint64) -> None:
    """White noise for the chains of a group; idle lanes get zeros."""
    size = b.size // LANES
    if used < LANES:
        b[:] = 0.0
    for four in range(0, used, 4):
        fill_normals(normals, key, np.uint64(chain + four), FOUR, now)
        for k in range(size):
            for lane in range(min(4, used - four)):
                b[k * LANES + four + lane] = normals[4 * k + lane]


def advance(
    first: int,
    last: int,
    phi: FloatArray,
    action: FloatArray,
    update: np.uint64,
    thin: np.uint64,
    basis: Basis,
    params: tuple[float, ...],
    bend: float,
    omega: float,
    kicks: FloatArray,
    drifts: FloatArray,
    jitter: float,
    keys: NDArray[np.uint64],
    kept_phi: FloatArray,
    kept_action: FloatArray,
    accepted: BoolArray,
    delta_h: FloatArray,
) -> None:
    """All updates of the groups ``first .. last - 1``, in place in `phi` (n_chains, V) and `action` (n_chains,).

    Draws depend on (key, chain, update) only, and every trajectory begins with the field on sites, which is what a
    stored chain has: blocks, batch and threads make no difference.
    """
    n_chains, size = phi.shape
    current, end, field = np.empty(size * LANES), np.empty(size * LANES), np.empty(size * LANES)
    a, b = np.empty(size * LANES), np.empty(size * LANES)
    scratch = np.empty(6 * basis.plain.size * LANES)
    normals = np.empty((size + 3) // 4 * 16)
    row, old_kinetic, kinetic = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    old_action, new_action = np.zeros(LANES), np.empty(LANES)
    n = basis.extents[basis.extents.size - 1] * LANES
    for group in range(first, last):
        chain = group * LANES
        used = min(LANES, n_chains - chain)
        load_group(current, phi, chain, used)
        for k in range(used):
            old_action[k] = action[chain + k]
        for t in range(accepted.shape[0]):
            now = update + np.uint64(t)
            draw(b, normals, keys[0], chain, used, now)
            half_squares(b, n, 1.0, row, old_kinetic)
            factor = 1.0 + jitter * (2.0 * uniform(keys[2], ZERO, ZERO, now) - 1.0)
            trajectory(
                basis, current, field, a, b, end, scratch, row, params, bend, omega, kicks, drifts, factor,
                kinetic, new_action,
            )  # fmt: skip
            for k in range(used):
                change = (new_action[k] - old_action[k]) + (kinetic[k] - old_kinetic[k])
                if not abs(change) < math.inf:
                    change = math.inf  # diverged: a rejection that is counted, never a NaN in a comparison
                taken = math.log(uniform(keys[1], ZERO, np.uint64(chain + k), now)) < -change or change <= 0.0
                if taken:
                    old_action[k] = new_action[k]
                else:
                    for i in range(k, size * LANES, LANES):
                        end[i] = current[i]
                accepted[t, chain + k] = taken
                delta_h[t, chain + k] = change
            current, end = end, current
            count = now + ONE
            if count % thin == ZERO:
                at = count // thin - update // thin - ONE
                store_group(current, kept_phi[at], chain, used)
                for k in range(used):
                    kept_action[at, chain + k] = old_action[k]
        store_group(current, phi, chain, used)
        for k in range(used):
            action[chain + k] = old_action[k]


def integrate(
    phi: FloatArray,
    momenta: FloatArray,
    basis: Basis,
    params: tuple[float, ...],
    bend: float,
    omega: float,
    kicks: FloatArray,
    drifts: FloatArray,
    energies: FloatArray,
) -> None:
    """One trajectory of given fields and momenta (n_chains, V) on sites, in place.

    `energies`, shape (n_chains, 2), receives the kinetic energy and the action of its end.
    """
    n_chains, size = phi.shape
    start, end, field = np.empty(size * LANES), np.empty(size * LANES), np.empty(size * LANES)
    a, b = np.empty(size * LANES), np.empty(size * LANES)
    scratch = np.empty(6 * basis.plain.size * LANES)
    row, kinetic, action = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for chain in range(0, n_chains, LANES):
        used = min(LANES, n_chains - chain)
        load_group(field, momenta, chain, used)
        into_modes(basis, field, b, False, scratch)
        load_group(start, phi, chain, used)
        trajectory(
            basis, start, field, a, b, end, scratch, row, params, bend, omega, kicks, drifts, 1.0, kinetic, action
        )
        out_of_modes(basis, b, field, scratch)
        store_group(end, phi, chain, used)
        store_group(field, momenta, chain, used)
        for k in range(used):
            energies[chain + k, 0] = kinetic[k]
            energies[chain + k, 1] = action[k]


class Compiled(NamedTuple):
    """The entry points of `build`."""

    advance: Any
    integrate: Any


#: in the order in which they call each other; the first know no potential, so a user's theory compiles them once
_WITHOUT_POTENTIAL = (along, into_modes, out_of_modes, modes, half_squares, load_group, store_group, draw)
_WITH_POTENTIAL = (local_force, local_action, sites, trajectory)


@functools.cache
def _shared() -> dict[str, Any]:
    bindings: dict[str, Any] = {}
    for part in _WITHOUT_POTENTIAL:
        bindings[part.__name__] = specialise(part, bindings, "harmonic")
    return bindings


@functools.cache
def build(value: Any, derivative: Any) -> Compiled:
    """The entry points for one potential, whatever the lattice.

    Compilation happens at the first call. Built-in potentials are cached on disk; a user's own is compiled once per
    process.
    """
    bindings = {**_shared(), "value": value, "derivative": derivative}
    for part in _WITH_POTENTIAL:
        bindings[part.__name__] = specialise(part, bindings, inner=True)
    name = potential_name(value, derivative)
    return Compiled(*(specialise(entry, bindings, name and f"{name}_harmonic") for entry in (advance, integrate)))
