"""Site-by-site updates of one chain: checkerboard Metropolis and reflection, cluster flips.

Scalar loops over a neighbour table, any dimension; the textbook algorithms, made exact rather
than fast. Templates as in `layout`: `value` is the potential. Couplings of several strengths and distances take the
functions of `site_links`, with one coefficient for each row of the table in the place of `hopping`.
"""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..lattice import neighbours
from ..types import BoolArray, Extents, FloatArray, IntArray
from . import site_links
from .compile import potential_name, specialise
from .potentials import phi4_value as value
from .random import fill_pairs, fill_uniforms

__all__ = ["build", "build_linked", "checkerboard", "tables"]

ZERO, ONE, TWO = np.uint64(0), np.uint64(1), np.uint64(2)


def tables(shape: Extents) -> tuple[IntArray, IntArray]:
    """Neighbour indices (2 ndim, V) and the sites in checkerboard order (V,), int64."""
    return neighbours(shape), checkerboard(shape)


def checkerboard(shape: Extents) -> IntArray:
    """Even sites, then odd ones: no two of one colour are neighbours if all extents are even."""
    colour = np.indices(shape).sum(axis=0).ravel() % 2
    return np.argsort(colour, kind="stable")


def total_action(field: FloatArray, near: IntArray, params: tuple[float, ...], hopping: float) -> float:
    """S of one configuration."""
    total = 0.0
    for x in range(field.size):
        forward = 0.0
        for mu in range(near.shape[0] // 2):
            forward += field[near[mu, x]]
        total += value(field[x], params) - hopping * field[x] * forward
    return total


def sweep_sites(
    field: FloatArray,
    near: IntArray,
    order: IntArray,
    params: tuple[float, ...],
    hopping: float,
    width: float,
    reflection: float,
    offsets: FloatArray,
    coins: FloatArray,
) -> int:
    """One pass of single-site Metropolis; returns the number of accepted proposals.

    ``width > 0``: ``phi' = phi + width (2u - 1)``. ``width == 0``: the reflection
    ``phi' = reflection * sum of neighbours - phi``, an involution that preserves volume because
    the neighbours stay where they are. Both accept with min(1, exp(-delta S)).
    """
    n_accepted = 0
    for x in order:
        around = 0.0
        for mu in range(near.shape[0]):
            around += field[near[mu, x]]
        old = field[x]
        new = old + width * (2.0 * offsets[x] - 1.0) if width > 0.0 else reflection * around - old
        change = value(new, params) - value(old, params) - hopping * (new - old) * around
        if change <= 0.0 or math.log(coins[x]) < -change:
            field[x] = new
            n_accepted += 1
    return n_accepted


def run_local(
    first: int,
    last: int,
    phi: FloatArray,
    action: FloatArray,
    update: np.uint64,
    thin: np.uint64,
    near: IntArray,
    order: IntArray,
    params: tuple[float, ...],
    hopping: float,
    width: float,
    reflection: float,
    n_metropolis: int,
    n_reflect: int,
    keys: NDArray[np.uint64],
    kept_phi: FloatArray,
    kept_action: FloatArray,
    accepted: FloatArray,
) -> None:
    """Local updates of the chains ``first .. last - 1``."""
    sites = phi.shape[1]
    offsets, coins = np.empty(sites), np.empty(sites)
    for chain in range(first, last):
        field = phi[chain]
        for t in range(accepted.shape[0]):
            now = update + np.uint64(t)
            n_accepted = 0
            for j in range(n_metropolis + n_reflect):
                fill_pairs(offsets, coins, keys[j], np.uint64(chain), now)
                n_accepted += sweep_sites(
                    field, near, order, params, hopping, width if j < n_metropolis else 0.0, reflection, offsets, coins
                )
            accepted[t, chain] = n_accepted / (sites * (n_metropolis + n_reflect))
            action[chain] = total_action(field, near, params, hopping)
            count = now + ONE
            if count % thin == ZERO:
                at = count // thin - update // thin - ONE
                kept_phi[at, chain] = field
                kept_action[at, chain] = action[chain]


def root(parent: IntArray, x: int) -> int:
    """Representative of the cluster of x; halves the path on the way."""
    while parent[x] != x:
        parent[x] = parent[parent[x]]
        x = parent[x]
    return x


def flip_all(
    field: FloatArray, near: IntArray, hopping: float, parent: IntArray, bonds: FloatArray, coins: FloatArray
) -> float:
    """Swendsen-Wang: bonds on all links, every cluster flipped with probability 1/2; fraction of flipped sites."""
    sites = field.size
    for x in range(sites):
        parent[x] = x
    for mu in range(near.shape[0] // 2):
        for x in range(sites):
            y = near[mu, x]
            # bond probability 1 - exp(-2 c phi phi') for aligned signs; u in (0, 1] stands for 1 - p
            if bonds[mu * sites + x] > math.exp(-2.0 * hopping * field[x] * field[y]):
                a, b = root(parent, x), root(parent, y)
                if a < b:
                    parent[b] = a
                else:
                    parent[a] = b
    n_flipped = 0
    for x in range(sites):
        if coins[root(parent, x)] > 0.5:
            field[x] = -field[x]
            n_flipped += 1
    return n_flipped / sites


def flip_one(
    field: FloatArray, near: IntArray, hopping: float, stack: IntArray, member: BoolArray, bonds: FloatArray, seed: int
) -> float:
    """Wolff: grow and flip the cluster of one site; fraction of flipped sites.

    A link is tried at most once, since both its ends must be inside for the other trial: bonds can
    be drawn per link beforehand.
    """
    sites, ndim = field.size, near.shape[0] // 2
    for x in range(sites):
        member[x] = False
    member[seed] = True
    stack[0] = seed
    height, size = 1, 0
    while height > 0:
        height -= 1
        x = stack[height]
        size += 1
        for mu in range(2 * ndim):
            y = near[mu, x]
            link = mu * sites + x if mu < ndim else (mu - ndim) * sites + y
            if not member[y] and bonds[link] > math.exp(-2.0 * hopping * field[x] * field[y]):
                member[y] = True
                stack[height] = y
                height += 1
    for x in range(sites):
        if member[x]:
            field[x] = -field[x]
    return size / sites


def run_cluster(
    first: int,
    last: int,
    phi: FloatArray,
    action: FloatArray,
    update: np.uint64,
    thin: np.uint64,
    near: IntArray,
    params: tuple[float, ...],
    hopping: float,
    single: bool,
    n_clusters: int,
    keys: NDArray[np.uint64],
    kept_phi: FloatArray,
    kept_action: FloatArray,
    flipped: FloatArray,
) -> None:
    """Cluster updates of the chains ``first .. last - 1``."""
    sites = phi.shape[1]
    bonds, coins = np.empty(near.shape[0] // 2 * sites), np.empty(sites)
    work, member = np.empty(sites, np.int64), np.empty(sites, np.bool_)
    for chain in range(first, last):
        field = phi[chain]
        for t in range(flipped.shape[0]):
            now = update + np.uint64(t)
            moved = 0.0
            for j in range(n_clusters):
                fill_uniforms(bonds, keys[2 * j], np.uint64(chain), now)
                if single:
                    fill_uniforms(coins[:2], keys[2 * j + 1], np.uint64(chain), now)
                    seed = min(int(coins[0] * sites), sites - 1)
                    moved += flip_one(field, near, hopping, work, member, bonds, seed)
                else:
                    fill_uniforms(coins, keys[2 * j + 1], np.uint64(chain), now)
                    moved += flip_all(field, near, hopping, work, bonds, coins)
            flipped[t, chain] = moved / n_clusters
            action[chain] = total_action(field, near, params, hopping)
            count = now + ONE
            if count % thin == ZERO:
                at = count // thin - update // thin - ONE
                kept_phi[at, chain] = field
                kept_action[at, chain] = action[chain]


@functools.cache
def build(potential: Any, derivative: Any) -> tuple[Any, Any]:
    """Compiled ``(run_local, run_cluster)`` for one potential; built-in ones are cached on disk."""
    bindings = {"value": potential}
    for part in (total_action, sweep_sites, root, flip_all, flip_one):
        bindings[part.__name__] = specialise(part, bindings, inner=True)
    name = potential_name(potential, derivative)
    return specialise(run_local, bindings, name), specialise(run_cluster, bindings, name)


@functools.cache
def build_linked(potential: Any, derivative: Any) -> Any:
    """Compiled `run_local` for any links."""
    bindings = {"value": potential}
    for part in (site_links.total_action, site_links.sweep_sites):
        bindings[part.__name__] = specialise(part, bindings, inner=True)
    name = potential_name(potential, derivative)
    return specialise(run_local, bindings, name and f"{name}_links")
