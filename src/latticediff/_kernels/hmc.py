"""The compiled HMC update: whole trajectories of groups of chains.

Templates as in `layout`; `build` puts them together for one potential, dimension and lane count, with the sweeps of
`layout` for nearest neighbours, those of `linked` for any links or those of `components` for fields of several.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray
from . import components, layout, linked, sourced
from .accept import metropolis
from .compile import potential_name, specialise
from .layout import copy_lane, finish, load, spread, store, sweep
from .random import fill_normals, uniform

__all__ = ["build"]

LANES = np.uint64(1)
ZERO, ONE = np.uint64(0), np.uint64(1)


def trajectory(
    start: FloatArray,
    left: FloatArray,
    right: FloatArray,
    momentum: FloatArray,
    table: NDArray[np.uint64],
    n_rows: np.uint64,
    n: np.uint64,
    params: tuple[float, ...],
    hopping: float,
    kicks: FloatArray,
    drifts: FloatArray,
    factor: float,
    row: FloatArray,
    other: FloatArray,
    kinetic: FloatArray,
    action: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Integrate from the buffer `start`, which stays as it is; returns the buffer that holds the end, and the spare."""
    sweep(start, left, momentum, table, n_rows, n, params, hopping, factor * kicks[0], factor * drifts[0])
    for j in range(1, drifts.size):
        sweep(left, right, momentum, table, n_rows, n, params, hopping, factor * kicks[j], factor * drifts[j])
        left, right = right, left
    finish(left, momentum, table, n_rows, n, params, hopping, factor * kicks[-1], row, other, kinetic, action)
    return left, right


def advance(
    first: int,
    last: int,
    phi: FloatArray,
    action: FloatArray,
    update: np.uint64,
    thin: np.uint64,
    table: NDArray[np.uint64],
    n_rows: np.uint64,
    n: np.uint64,
    size: np.uint64,
    params: tuple[float, ...],
    hopping: float,
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

    Draws depend on (key, chain, update) only, so that who runs which group when makes no difference.
    """
    n_chains = np.uint64(phi.shape[0])
    block = np.uint64(4) * LANES
    current, left, right = np.empty(size), np.empty(size), np.empty(size)
    momentum = np.zeros(size)
    normals = np.empty((n_rows * n + block - ONE) // block * block)
    row, other = np.empty(n), np.empty(n)
    old_kinetic, kinetic = np.empty(LANES), np.empty(LANES)
    old_action, new_action = np.zeros(LANES), np.empty(LANES)
    for group in range(first, last):
        chain = np.uint64(group) * LANES
        used = min(LANES, n_chains - chain)
        load(current, phi, chain, used, n_rows, n)
        for k in range(used):
            old_action[k] = action[chain + k]
        for t in range(accepted.shape[0]):
            now = update + np.uint64(t)
            fill_normals(normals, keys[0], chain, LANES, now)
            spread(normals, momentum, n_rows, n, row, old_kinetic)
            factor = 1.0 + jitter * (2.0 * uniform(keys[2], ZERO, ZERO, now) - 1.0)
            end, right = trajectory(
                current,
                left,
                right,
                momentum,
                table,
                n_rows,
                n,
                params,
                hopping,
                kicks,
                drifts,
                factor,
                row,
                other,
                kinetic,
                new_action,
            )
            for k in range(used):
                taken, change = metropolis(
                    old_action[k], new_action[k], old_kinetic[k], kinetic[k], keys[1], chain + k, now
                )
                if taken:
                    old_action[k] = new_action[k]
                else:
                    copy_lane(current, end, k)
                accepted[t, chain + k] = taken
                delta_h[t, chain + k] = change
            for k in range(used, LANES):
                copy_lane(current, end, k)  # idle lanes stay at zero
            current, left = end, current
            count = now + ONE
            if count % thin == ZERO:
                at = count // thin - update // thin - ONE
                store(current, kept_phi[at], chain, used, n_rows, n)
                for k in range(used):
                    kept_action[at, chain + k] = old_action[k]
        store(current, phi, chain, used, n_rows, n)
        for k in range(used):
            action[chain + k] = old_action[k]


def integrate(
    phi: FloatArray,
    momenta: FloatArray,
    table: NDArray[np.uint64],
    n_rows: np.uint64,
    n: np.uint64,
    size: np.uint64,
    params: tuple[float, ...],
    hopping: float,
    kicks: FloatArray,
    drifts: FloatArray,
    energies: FloatArray,
) -> None:
    """One trajectory of given fields and momenta (n_chains, V), in place.

    `energies`, shape (n_chains, 2), receives the kinetic energy and the action of its end.
    """
    n_chains = np.uint64(phi.shape[0])
    start, left, right, momentum = np.empty(size), np.empty(size), np.empty(size), np.zeros(size)
    row, other, kinetic, action = np.empty(n), np.empty(n), np.empty(LANES), np.empty(LANES)
    for group in range((n_chains + LANES - ONE) // LANES):
        chain = np.uint64(group) * LANES
        used = min(LANES, n_chains - chain)
        load(start, phi, chain, used, n_rows, n)
        load(momentum, momenta, chain, used, n_rows, n)
        end, _ = trajectory(
            start,
            left,
            right,
            momentum,
            table,
            n_rows,
            n,
            params,
            hopping,
            kicks,
            drifts,
            1.0,
            row,
            other,
            kinetic,
            action,
        )
        store(end, phi, chain, used, n_rows, n)
        store(momentum, momenta, chain, used, n_rows, n)
        for k in range(used):
            energies[chain + k, 0] = kinetic[k]
            energies[chain + k, 1] = action[k]


class Compiled(NamedTuple):
    """The entry points of `build`."""

    advance: Any
    integrate: Any


_GEOMETRY = ("close", "load", "store", "copy_lane", "lane_sums", "spread")


@functools.cache
def _geometry(ndim: int, lanes: int) -> dict[str, Any]:
    """The parts that know no potential, cached under the geometry: a user's theory has less to compile."""
    bindings = {"NDIM": ndim, "LANES": np.uint64(lanes)}
    for part in _GEOMETRY:
        bindings[part] = specialise(getattr(layout, part), bindings, f"{ndim}d_{lanes}")
    return bindings


@functools.cache
def _linked_geometry(lanes: int) -> dict[str, Any]:
    """`_geometry` for any links, whatever the dimension."""
    bindings: dict[str, Any] = {"LANES": np.uint64(lanes)}
    for part in (layout.copy_lane, layout.lane_sums, linked.close, linked.load, linked.store, linked.spread):
        bindings[part.__name__] = specialise(part, bindings, f"links_{lanes}")
    return bindings


@functools.cache
def _vector_geometry(ndim: int, lanes: int, n_components: int) -> dict[str, Any]:
    """`_geometry` of fields of several components on a lattice of so many dimensions."""
    one = _geometry(ndim, lanes)
    bindings: dict[str, Any] = {
        "NDIM": ndim,
        "LANES": np.uint64(lanes),
        "N_COMPONENTS": np.uint64(n_components),
        **{f"{part}_one": one[part] for part in ("close", "load", "store")},
        **{part: one[part] for part in ("copy_lane", "lane_sums")},
    }
    for part in (components.close, components.load, components.store, components.spread):
        bindings[part.__name__] = specialise(part, bindings, f"components_{n_components}_{ndim}d_{lanes}")
    return bindings


@functools.cache
def build(
    value: Any,
    derivative: Any,
    ndim: int,
    lanes: int,
    n_links: int = 0,
    is_sourced: bool = False,
    n_components: int = 0,
) -> Compiled:
    """The entry points for one potential, dimension and lane count; or for so many links, whatever they are.

    With components `ndim` counts the axes of the lattice alone, and the potential is one of the square of their length.
    With an external field or a random mass the table of rows is three things: that table, and h and r in buffers of the
    same layout.

    Compilation happens at the first call. Built-in potentials are cached on disk; a user's own is
    compiled once per process.
    """
    room: Any = components if n_components else linked if n_links else layout
    if n_components:
        geometry = _vector_geometry(ndim, lanes, n_components)
    else:
        geometry = _linked_geometry(lanes) if n_links else _geometry(ndim, lanes)
    bindings = {**geometry, "value": value, "derivative": derivative}
    if n_links:
        bindings["N_STARTS"] = 2 * n_links
    bindings["sweep"] = specialise(room.sweep, bindings, inner=True)
    bindings["finish"] = specialise(room.finish, bindings, inner=True)
    if is_sourced:
        plain = {"plain_sweep": bindings["sweep"], "plain_finish": bindings["finish"], "LANES": np.uint64(lanes)}
        for part in (sourced.sweep, sourced.finish):
            bindings[part.__name__] = specialise(part, plain, inner=True)
    bindings["trajectory"] = specialise(trajectory, bindings, inner=True)
    potential = potential_name(value, derivative)
    name = potential and (f"{potential}_links_{n_links}_{lanes}" if n_links else f"{potential}_{ndim}d_{lanes}")
    if name and n_components:
        name += f"_components_{n_components}"
    if name and is_sourced:
        name += "_sourced"
    return Compiled(*(specialise(entry, bindings, name) for entry in (advance, integrate)))
