r"""Exact Fourier acceleration, compiled: trajectories whose harmonic part is a rotation.

With :math:`M(k) = c\,(\hat p^2 + m^2)` as mass and as harmonic potential, in the variables
:math:`u = M^{1/2} \phi_k` and :math:`w = M^{-1/2} p_k` every mode turns by the same angle, and what is left of the
action is local: :math:`U(\phi) = V(\phi) - \tfrac12 c\,(2 d + m^2)\,\phi^2`. A kick takes the modes to the sites, asks
for U' there, and takes it back. `LANES` chains lie innermost; a chain's bits depend on no other chain, and every update
starts from the field on the sites, so that cuts between blocks change none.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import BoolArray, FloatArray, IntArray
from .compile import jit, potential_name, specialise
from .dressing import LANES
from .potentials import phi4_derivative as derivative
from .potentials import phi4_value as value
from .random import fill_normals, uniform

__all__ = ["build"]

ZERO, ONE = np.uint64(0), np.uint64(1)


def along(source: FloatArray, target: FloatArray, other: FloatArray, bases: FloatArray, extents: IntArray) -> None:
    """Every axis times its matrix, from `source`, which is overwritten, to `target`; four terms of a sum at a time."""
    n_axes, size = len(extents), source.size
    before, here, there = 1, source, other
    for axis in range(n_axes):
        if axis == n_axes - 1:
            there = target
        extent = extents[axis]
        after = size // (before * extent)
        whole = extent - extent % 4
        for p in range(before):
            base = p * extent * after
            for i in range(extent):
                out = there[base + i * after : base + (i + 1) * after]
                for q in range(after):
                    out[q] = 0.0
                for j in range(0, whole, 4):
                    m0, m1 = bases[axis, i, j], bases[axis, i, j + 1]
                    m2, m3 = bases[axis, i, j + 2], bases[axis, i, j + 3]
                    x0, x1 = here[base + j * after :], here[base + (j + 1) * after :]
                    x2, x3 = here[base + (j + 2) * after :], here[base + (j + 3) * after :]
                    for q in range(after):
                        out[q] += m0 * x0[q] + m1 * x1[q] + m2 * x2[q] + m3 * x3[q]
                for j in range(whole, extent):
                    m0, x0 = bases[axis, i, j], here[base + j * after :]
                    for q in range(after):
                        out[q] += m0 * x0[q]
        before *= extent
        here, there = there, here


along = jit(along)


def trajectory(
    sites: FloatArray, u: FloatArray, w: FloatArray, work: FloatArray, pull: FloatArray, other: FloatArray,
    root: FloatArray, bases: FloatArray, transposes: FloatArray, extents: IntArray, params: tuple[float, ...],
    shift: float, kicks: FloatArray, drifts: FloatArray, factor: float, kinetic: FloatArray, action: FloatArray,
) -> None:  # fmt: skip
    """From `sites` and `w` to both at the end, with kinetic energy and action there, per lane; the rest is scratch."""
    V = root.size
    for x in range(V * LANES):
        work[x] = sites[x]
    along(work, u, other, bases, extents)
    for k in range(V):
        for a in range(LANES):
            u[k * LANES + a] *= root[k]
    last = kicks.shape[0] - 1
    for n in range(last + 1):
        if n > 0:
            angle = factor * drifts[n - 1]
            c, s = math.cos(angle), math.sin(angle)
            for k in range(V):
                inverse = 1.0 / root[k]
                for a in range(LANES):
                    x = k * LANES + a
                    p, q = u[x], w[x]
                    u[x] = c * p + s * q
                    w[x] = c * q - s * p
                    work[x] = inverse * u[x]
            along(work, sites, other, transposes, extents)
        for x in range(V * LANES):
            work[x] = shift * sites[x] - derivative(sites[x], params)
        along(work, pull, other, bases, extents)
        amount = factor * kicks[n]
        for k in range(V):
            scaled = amount / root[k]
            for a in range(LANES):
                w[k * LANES + a] += scaled * pull[k * LANES + a]
    for a in range(LANES):
        kinetic[a] = 0.0
        action[a] = 0.0
    for k in range(V):
        for a in range(LANES):
            x = k * LANES + a
            kinetic[a] += 0.5 * w[x] * w[x]
            action[a] += 0.5 * u[x] * u[x] + value(sites[x], params) - 0.5 * shift * sites[x] * sites[x]


def advance(
    first: int, last: int, phi: FloatArray, action: FloatArray, update: np.uint64, thin: np.uint64, root: FloatArray,
    bases: FloatArray, transposes: FloatArray, extents: IntArray, params: tuple[float, ...], shift: float,
    kicks: FloatArray, drifts: FloatArray, jitter: float, keys: NDArray[np.uint64], kept_phi: FloatArray,
    kept_action: FloatArray, accepted: BoolArray, delta_h: FloatArray,
) -> None:  # fmt: skip
    """All updates of the groups ``first .. last - 1`` of `LANES` chains, in place in `phi` (n_chains, V)."""
    V, n_chains = root.size, phi.shape[0]
    size = V * LANES
    sites, u, w, work = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    pull, other, normals = np.empty(size), np.empty(size), np.empty((V + 3) // 4 * 4)
    old_kinetic, kinetic, new_action = np.empty(LANES), np.empty(LANES), np.empty(LANES)
    for group in range(first, last):
        begin = group * LANES
        used = min(LANES, n_chains - begin)
        for t in range(accepted.shape[0]):
            now = update + np.uint64(t)
            for x in range(size):
                sites[x] = 0.0
                w[x] = 0.0
            for a in range(used):
                fill_normals(normals, keys[0], np.uint64(begin + a), ONE, now)
                total = 0.0
                for k in range(V):
                    sites[k * LANES + a] = phi[begin + a, k]
                    w[k * LANES + a] = normals[k]
                    total += 0.5 * normals[k] * normals[k]
                old_kinetic[a] = total
            factor = 1.0 + jitter * (2.0 * uniform(keys[2], ZERO, ZERO, now) - 1.0)
            trajectory(
                sites, u, w, work, pull, other, root, bases, transposes, extents, params, shift, kicks, drifts,
                factor, kinetic, new_action,
            )  # fmt: skip
            for a in range(used):
                chain = begin + a
                change = (new_action[a] - action[chain]) + (kinetic[a] - old_kinetic[a])
                if not abs(change) < math.inf:
                    change = math.inf  # diverged: a rejection that is counted
                taken = math.log(uniform(keys[1], ZERO, np.uint64(chain), now)) < -change or change <= 0.0
                if taken:
                    action[chain] = new_action[a]
                    for x in range(V):
                        phi[chain, x] = sites[x * LANES + a]
                accepted[t, chain] = taken
                delta_h[t, chain] = change
                count = now + ONE
                if count % thin == ZERO:
                    at = count // thin - update // thin - ONE
                    for x in range(V):
                        kept_phi[at, chain, x] = phi[chain, x]
                    kept_action[at, chain] = action[chain]


def integrate(
    phi: FloatArray, momenta: FloatArray, root: FloatArray, bases: FloatArray, transposes: FloatArray,
    extents: IntArray, params: tuple[float, ...], shift: float, kicks: FloatArray, drifts: FloatArray,
    energies: FloatArray,
) -> None:  # fmt: skip
    """One trajectory of fields and scaled momenta in the basis, (n_chains, V), in place; ``energies[:, 0]`` kinetic."""
    V, n_chains = root.size, phi.shape[0]
    size = V * LANES
    sites, u, w, work = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    pull, other, kinetic, action = np.empty(size), np.empty(size), np.empty(LANES), np.empty(LANES)
    for begin in range(0, n_chains, LANES):
        used = min(LANES, n_chains - begin)
        for x in range(size):
            sites[x] = 0.0
            w[x] = 0.0
        for a in range(used):
            for k in range(V):
                sites[k * LANES + a] = phi[begin + a, k]
                w[k * LANES + a] = momenta[begin + a, k]
        trajectory(
            sites, u, w, work, pull, other, root, bases, transposes, extents, params, shift, kicks, drifts, 1.0,
            kinetic, action,
        )  # fmt: skip
        for a in range(used):
            for k in range(V):
                phi[begin + a, k] = sites[k * LANES + a]
                momenta[begin + a, k] = w[k * LANES + a]
            energies[begin + a, 0] = kinetic[a]
            energies[begin + a, 1] = action[a]


@functools.cache
def build(potential: Any, slope: Any) -> tuple[Any, Any]:
    """Compiled ``(advance, integrate)`` for one potential; built-in ones are cached on disk."""
    bindings = {"value": potential, "derivative": slope}
    bindings["trajectory"] = specialise(trajectory, bindings, inner=True)
    name = potential_name(potential, slope)
    return specialise(advance, bindings, name), specialise(integrate, bindings, name)
