"""The law of fine sites given coarse ones, colour by colour, compiled: draws, or the density of given fields.

`latticediff.fine.law` has the formulas. One lane is one configuration, features are float32, what is drawn and summed
float64. A lane's bits depend on nothing but its own configuration.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..types import FloatArray
from . import interpolant
from .compile import cached, specialise
from .interpolant import N, take_logs
from .interpolant import draw_site as site
from .random import fill_uniforms
from .rows import separate
from .vectors import LANES, add_products, load, narrow, nothing, number, pick, root, spread, store, store_all

__all__ = ["FEATURES", "draw", "uniforms", "weigh"]

FEATURES = 8  #: of a learned colour
LINEAR = 8  # three odd powers and a zero, for two sites
SUMS = 2 * FEATURES
LOGS = 4  # sites whose densities are multiplied before a logarithm is taken
one, none, zero = np.float32(1), np.float32(0), np.uint64(0)


@cached
def context_of(x, at, edge):
    """A value as contexts see it: float32, held to the range of the densities."""
    value = narrow(load(x, at))
    value = pick(value, spread(edge), value, spread(edge))
    return pick(spread(-edge), value, value, spread(-edge))


def learned(x, small, u, log_q, colour, grid, scratch):
    """One learned colour, two sites at a time: x (2 M^2 LANES) float64 and `small`, what contexts see of it."""
    sites, context, read, shift, linear, amplitudes, constant = colour
    V, dV, first, width, edge = grid
    p, dp, cdf, spare = scratch
    m, degree, n_coarse = context.shape[1], len(constant), len(u)
    flat = context.reshape(-1)
    theta, product = np.zeros((degree + 1) * LANES, np.float32), np.ones(LANES)
    sums_of, g = np.empty(4 * FEATURES * LANES, np.float32), np.empty(2 * FEATURES * LANES, np.float32)
    thetas = np.empty(2 * degree * LANES, np.float32)
    for s in range(0, len(sites), 2):
        sums_of[:] = none
        for r in range(4):
            sums = nothing(SUMS)
            for i in range(m):
                pair = load(small, number(flat, s * m + i) * LANES), load(small, number(flat, (s + 1) * m + i) * LANES)
                sums = add_products(sums, read, (r * m + i) * FEATURES, pair)
            store_all(g, 0, sums)
            for j in range(2 * FEATURES):
                h, moved = load(g, j * LANES), spread(shift[j // 2])
                up, down = h + moved, h - moved
                up = up / root(spread(one) + up * up)
                down = down / root(spread(one) + down * down)
                store(sums_of, j * LANES, load(sums_of, j * LANES) + (up + down))
                place = (2 * FEATURES + j) * LANES
                store(sums_of, place, load(sums_of, place) + (up - down))
        sums = nothing(LINEAR)
        for i in range(m):
            pair = load(small, number(flat, s * m + i) * LANES), load(small, number(flat, (s + 1) * m + i) * LANES)
            sums = add_products(sums, linear, i * 4, pair)
        store_all(g, 0, sums)
        for which in range(2):
            for k in range(degree):
                odd = k % 2 == 0
                total = load(g, (2 * (k // 2) + which) * LANES) if odd else spread(constant[k])
                base = which if odd else 2 * FEATURES + which
                for j in range(FEATURES):
                    total = total + spread(amplitudes[k, j]) * load(sums_of, (base + 2 * j) * LANES)
                store(thetas, (which * degree + k) * LANES, total)
        for which in range(2):
            for k in range(degree):
                store(theta, (k + 1) * LANES, load(thetas, (which * degree + k) * LANES))
            at = sites[s + which] * LANES
            site(theta, degree, V, dV, first, width, u, at - n_coarse, x, at, product, log_q, p, dp, cdf, spare)
            store(small, at, context_of(x, at, edge))
        if s % LOGS == LOGS - 2:
            take_logs(product, log_q)
    take_logs(product, log_q)


def known(x, small, u, log_q, last, grid, scratch):
    """The last colour: beside (n_sites, 12), table (n_f, n_s) of coefficients of f^k T_l(s / widest), k + l even."""
    sites, beside, table, inverse_widest = last
    V, dV, first, width, _ = grid
    p, dp, cdf, spare = scratch
    n_f, n_s = table.shape
    flat, n_coarse = beside.reshape(-1), len(u)
    theta, product = np.zeros(n_f * LANES, np.float32), np.ones(LANES)
    series, two, inverse = np.empty(n_s * LANES, np.float32), spread(np.float32(2)), spread(inverse_widest)
    for s in range(len(sites)):
        series[:] = none
        for y in range(4):
            at = s * 12 + 3 * y
            t = load(small, number(flat, at) * LANES) + load(small, number(flat, at + 1) * LANES)
            t = (t + load(small, number(flat, at + 2) * LANES)) * inverse
            old, now = spread(one), t
            store(series, 0, load(series, 0) + old)
            for order in range(1, n_s):
                store(series, order * LANES, load(series, order * LANES) + now)
                old, now = now, two * t * now - old
        for k in range(1, n_f):
            total = spread(none)
            for order in range(k % 2, n_s, 2):
                total = total + spread(table[k, order]) * load(series, order * LANES)
            store(theta, k * LANES, total)
        at = sites[s] * LANES
        site(theta, n_f - 1, V, dV, first, width, u, at - n_coarse, x, at, product, log_q, p, dp, cdf, spare)
        if s % LOGS == LOGS - 1:
            take_logs(product, log_q)
    take_logs(product, log_q)


def groups(begin, end, rows, u, log_q, colours, last, grid):
    """Groups of configurations: rows (n, 2 M^2) of coarse and fine sites, u (n, M^2) quantiles, log_q (n,) out."""
    n, n_coarse, edge = rows.shape[0], u.shape[1], grid[4]
    x, level = np.empty(2 * n_coarse * LANES), np.empty(n_coarse * LANES)
    small, sums = np.empty(2 * n_coarse * LANES, np.float32), np.empty(LANES)
    points, double = N * LANES, np.empty(N * LANES)
    scratch = np.empty(points, np.float32), np.empty(points, np.float32), double, np.empty(3 * LANES)
    for group in range(begin, end):
        for lane in range(LANES):
            row = min(group * LANES + lane, n - 1)  # lanes without a row repeat the last one
            for site_of in range(2 * n_coarse):
                x[site_of * LANES + lane] = rows[row, site_of]
            for site_of in range(n_coarse):
                level[site_of * LANES + lane] = u[row, site_of]
        for at in range(0, 2 * n_coarse * LANES, LANES):
            store(small, at, context_of(x, at, edge))
        sums[:] = 0.0
        for colour in colours:
            learned_colour(x, small, level, sums, colour, grid, scratch)
        known_colour(x, small, level, sums, last, grid, scratch)
        separate(x, group, rows)
        for lane in range(min(LANES, n - group * LANES)):
            log_q[group * LANES + lane] = sums[lane]


learned_colour = known_colour = None  # bound below


def _made(name: str) -> Any:
    """`groups` with sites that are drawn, or weighed."""
    bound = {"site": getattr(interpolant, f"{name}_site")}
    colours = {f"{f.__name__}_colour": specialise(f, bound, inner=True) for f in (learned, known)}
    return specialise(groups, colours, name)


draw, weigh = _made("draw"), _made("weigh")


@cached
def uniforms(begin: int, end: int, keys: NDArray[np.uint64], out: FloatArray) -> None:
    """Rows begin .. end-1 of `out`, uniform in (0, 1], each from its key."""
    for row in range(begin, end):
        fill_uniforms(out[row], keys[row], zero, zero)
