"""The compiled HMC update that integrates the harmonic part of the action exactly: Fourier acceleration.

The trajectories are those of `splitting`; here are the draws, the accept step and the entry points.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray
from .accept import metropolis
from .compile import potential_name, specialise
from .modes import PADDING, TRANSFORMS, Basis, enter, into_modes, leave, out_of_modes
from .random import fill_normals, uniform
from .splitting import WITH_POTENTIAL, WITHOUT_POTENTIAL, half_squares, trajectory
from .vectors import LANES

__all__ = ["Basis", "build"]

ZERO, ONE, FOUR = np.uint64(0), np.uint64(1), np.uint64(4)


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
    current, end = np.empty(size * LANES), np.empty(size * LANES)
    field = np.empty(size * LANES + basis.extents[0] * PADDING)
    a, b = np.empty(size * LANES), np.empty(size * LANES)
    scratch = np.empty(6 * basis.plain.size * LANES)
    normals = np.empty((size + 3) // 4 * 16)
    old_kinetic, kinetic = np.empty(LANES), np.empty(LANES)
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
            half_squares(b, n, 1.0, old_kinetic)
            factor = 1.0 + jitter * (2.0 * uniform(keys[2], ZERO, ZERO, now) - 1.0)
            trajectory(
                basis, current, field, a, b, end, scratch, params, bend, omega, kicks, drifts, factor,
                kinetic, new_action,
            )  # fmt: skip
            for k in range(used):
                taken, change = metropolis(
                    old_action[k], new_action[k], old_kinetic[k], kinetic[k], keys[1], np.uint64(chain + k), now
                )
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
    start, end = np.empty(size * LANES), np.empty(size * LANES)
    field = np.empty(size * LANES + basis.extents[0] * PADDING)
    a, b = np.empty(size * LANES), np.empty(size * LANES)
    scratch = np.empty(6 * basis.plain.size * LANES)
    kinetic, action = np.empty(LANES), np.empty(LANES)
    for chain in range(0, n_chains, LANES):
        used = min(LANES, n_chains - chain)
        load_group(start, momenta, chain, used)
        enter(start, field, basis.extents[0])
        into_modes(basis, field, b, False, scratch)
        load_group(start, phi, chain, used)
        trajectory(basis, start, field, a, b, end, scratch, params, bend, omega, kicks, drifts, 1.0, kinetic, action)
        out_of_modes(basis, b, field, scratch)
        store_group(end, phi, chain, used)
        leave(field, end, basis.extents[0])
        store_group(end, momenta, chain, used)
        for k in range(used):
            energies[chain + k, 0] = kinetic[k]
            energies[chain + k, 1] = action[k]


class Compiled(NamedTuple):
    """The entry points of `build`."""

    advance: Any
    integrate: Any


@functools.cache
def _shared() -> dict[str, Any]:
    bindings: dict[str, Any] = {}
    for part in (*TRANSFORMS, *WITHOUT_POTENTIAL, load_group, store_group, draw):
        bindings[part.__name__] = specialise(part, bindings, "harmonic")
    return bindings


@functools.cache
def build(value: Any, derivative: Any) -> Compiled:
    """The entry points for one potential, whatever the lattice.

    Compilation happens at the first call. Built-in potentials are cached on disk; a user's own is compiled once per
    process.
    """
    bindings = {**_shared(), "value": value, "derivative": derivative}
    for part in WITH_POTENTIAL:
        bindings[part.__name__] = specialise(part, bindings, inner=True)
    name = potential_name(value, derivative)
    return Compiled(*(specialise(entry, bindings, name and f"{name}_harmonic") for entry in (advance, integrate)))
