r"""A density of one real number as a cubic interpolant: its quantiles and its values, lane by lane.

The density of a site is given as :math:`e^{P(f)}`, P = sum_k theta_k f^k - V. What is drawn from is its cubic Hermite
interpolant between `N` equidistant points, which is integrated in closed form and inverted to rounding, with an
exponential tail beyond the last point on either side: draws and density are those of one and the same law, whatever
the error of the interpolation. Slopes are held to ``|h p'| <= 2.9 p``, h the distance of the points, so that all
Bernstein coefficients of a cell, and with them the density, are positive. Values at points are float32; they define
the law, and from there on all is float64.
"""

import math

import numpy as np

from ..types import FloatArray
from .compile import cached
from .vectors import LANES, load, pick, spread, store, widen

__all__ = ["N", "draw_site", "take_logs", "weigh_site"]

N = 32  #: points of the interpolant
ROUNDS = 4  # of Newton's method
LEFT = 1e-13  # share of the mass by which a quantile may be missed; beyond it, bisection
STEEPEST = np.float32(2.9)
RATE = 2.0  # of the tails, for each distance of points; the density falls faster where it matters
one, none, lowest, highest = np.float32(1), np.float32(0), np.float32(-60), np.float32(60)
small, c5, c4, c3, c2 = np.float32(1 / 128), np.float32(1 / 120), np.float32(1 / 24), np.float32(1 / 6), np.float32(0.5)


@cached
def exponential(x):
    """exp of float32 by seven squarings, without a call, a table or an integer; held to exp(-60) and exp(60)."""
    unit = spread(one)
    y = pick(x, spread(lowest), spread(lowest), pick(x, spread(highest), x, spread(highest))) * spread(small)
    p = y * spread(c5) + spread(c4)
    p = unit + y * (unit + y * (spread(c2) + y * (spread(c3) + y * p)))
    for _ in range(7):
        p = p * p
    return p


@cached
def tabulate(theta, degree, V, dV, first, width, p, dp, cdf):
    """Values and slopes at the points, (N * LANES,) float32, and the mass below each, float64; returns that of all.

    `theta` ((degree + 1) * LANES,) coefficients of powers; masses are in units of `width`.
    """
    total = last = before = spread(0.0)
    for n in range(N):
        x, value, slope = spread(np.float32(first + n * width)), load(theta, degree * LANES), spread(none)
        for k in range(degree - 1, -1, -1):
            slope = slope * x + value
            value = value * x + load(theta, k * LANES)
        e = exponential(value - spread(np.float32(V[n])))
        d = e * (slope - spread(np.float32(dV[n]))) * spread(np.float32(width))
        most = e * spread(STEEPEST)
        least = spread(none) - most
        d = pick(d, most, d, most)
        d = pick(least, d, d, least)
        now, rise = widen(e), widen(d)
        if n:
            total = total + spread(0.5) * (last + now) + spread(1 / 12) * (before - rise)
        last, before = now, rise
        store(p, n * LANES, e)
        store(dp, n * LANES, d)
        store(cdf, n * LANES, total)
    return total


@cached
def quantile(p, dp, cdf, lane, wanted, total):
    """Where the mass below is `wanted`, which may lie in a tail, in distances from the first point; and the density."""
    last = (N - 1) * LANES + lane
    if wanted < 0.0:
        mass = p[lane] / RATE
        share = max((wanted + mass) / mass, 1e-300)
        return math.log(share) / RATE, p[lane] * share
    if wanted > total:
        mass = p[last] / RATE
        share = max(1.0 - (wanted - total) / mass, 1e-300)
        return N - 1 - math.log(share) / RATE, p[last] * share
    cell = 0
    while cell < N - 2 and cdf[(cell + 1) * LANES + lane] <= wanted:
        cell += 1
    at = cell * LANES + lane
    p0, p1 = np.float64(p[at]), np.float64(p[at + LANES])
    d0, d1 = np.float64(dp[at]), np.float64(dp[at + LANES])
    e2, e3 = 3.0 * (p1 - p0) - 2.0 * d0 - d1, 2.0 * (p0 - p1) + d0 + d1
    rest, low, high = wanted - cdf[at], 0.0, 1.0
    for _ in range(54):
        t = 0.5 * (low + high)
        if t * (p0 + t * (0.5 * d0 + t * (e2 / 3.0 + t * (0.25 * e3)))) < rest:
            low = t
        else:
            high = t
    t = 0.5 * (low + high)
    return cell + t, p0 + t * (d0 + t * (e2 + t * e3))


@cached
def draw_site(theta, degree, V, dV, first, width, u, at_u, f, at, product, log_q, p, dp, cdf, spare):
    """Draw one site of every lane, the quantile ``u[at_u]``, into ``f[at]``; its density multiplies `product`.

    `p`, `dp` (N * LANES,) float32, `cdf` likewise and `spare` (3 * LANES,) float64 are scratch.
    """
    zero, unit, two, three = spread(0.0), spread(1.0), spread(2.0), spread(3.0)
    h = spread(width)
    total = tabulate(theta, degree, V, dV, first, width, p, dp, cdf)
    below = widen(load(p, 0)) * spread(1 / RATE)
    mass = below + total + widen(load(p, (N - 1) * LANES)) * spread(1 / RATE)
    wanted = load(u, at_u) * mass - below
    cell, begin = zero, zero
    q0, q1, r0, r1 = load(p, 0), load(p, LANES), load(dp, 0), load(dp, LANES)
    for n in range(1, N - 1):  # the cell, by selection: no branch and no gather
        here = load(cdf, n * LANES)
        cell, begin = pick(here, wanted, spread(1.0 * n), cell), pick(here, wanted, here, begin)
        q0, q1 = pick(here, wanted, load(p, n * LANES), q0), pick(here, wanted, load(p, (n + 1) * LANES), q1)
        r0, r1 = pick(here, wanted, load(dp, n * LANES), r0), pick(here, wanted, load(dp, (n + 1) * LANES), r1)
    p0, p1, d0, d1 = widen(q0), widen(q1), widen(r0), widen(r1)
    e2, e3 = three * (p1 - p0) - two * d0 - d1, two * (p0 - p1) + d0 + d1
    rest = wanted - begin
    t = rest / (spread(0.5) * (p0 + p1) + spread(1 / 12) * (d0 - d1))
    half, third, fourth = spread(0.5) * d0, spread(1 / 3) * e2, spread(0.25) * e3
    for _ in range(ROUNDS):
        t = pick(t, unit, pick(zero, t, t, zero), unit)
        t = t - (t * (p0 + t * (half + t * (third + t * fourth))) - rest) / (p0 + t * (d0 + t * (e2 + t * e3)))
    t = pick(t, unit, pick(zero, t, t, zero), unit)
    missed = (t * (p0 + t * (half + t * (third + t * fourth))) - rest) / mass
    store(spare, 0, missed)
    store(f, at, spread(first) + (cell + t) * h)
    store(spare, LANES, p0 + t * (d0 + t * (e2 + t * e3)))
    for lane in range(LANES):
        if not abs(spare[lane]) <= LEFT:
            store(spare, 2 * LANES, wanted)
            goal = spare[2 * LANES + lane]
            store(spare, 2 * LANES, total)
            place, density = quantile(p, dp, cdf, lane, goal, spare[2 * LANES + lane])
            f[at + lane] = first + place * width
            spare[LANES + lane] = density
    store(product, 0, load(product, 0) * (load(spare, LANES) / (mass * h)))


@cached
def weigh_site(theta, degree, V, dV, first, width, u, at_u, f, at, product, log_q, p, dp, cdf, spare):
    """The density of ``f[at]`` under the law that `draw_site` draws from; of a tail into `log_q`; `u` is not used."""
    zero, unit, two, three = spread(0.0), spread(1.0), spread(2.0), spread(3.0)
    total = tabulate(theta, degree, V, dV, first, width, p, dp, cdf)
    mass = total + (widen(load(p, 0)) + widen(load(p, (N - 1) * LANES))) * spread(1 / RATE)
    z = (load(f, at) - spread(first)) / spread(width)
    cell = zero
    q0, q1, r0, r1 = load(p, 0), load(p, LANES), load(dp, 0), load(dp, LANES)
    for n in range(1, N - 1):
        here = spread(1.0 * n)
        cell = pick(here, z, here, cell)
        q0, q1 = pick(here, z, load(p, n * LANES), q0), pick(here, z, load(p, (n + 1) * LANES), q1)
        r0, r1 = pick(here, z, load(dp, n * LANES), r0), pick(here, z, load(dp, (n + 1) * LANES), r1)
    p0, p1, d0, d1 = widen(q0), widen(q1), widen(r0), widen(r1)
    e2, e3 = three * (p1 - p0) - two * d0 - d1, two * (p0 - p1) + d0 + d1
    t = z - cell
    t = pick(t, unit, pick(zero, t, t, zero), unit)
    store(spare, 0, z)
    for lane in range(LANES):
        beyond = max(-spare[lane], spare[lane] - (N - 1))
        if beyond > 0.0:
            log_q[lane] -= RATE * beyond
    store(product, 0, load(product, 0) * ((p0 + t * (d0 + t * (e2 + t * e3))) / (mass * spread(width))))


@cached
def take_logs(product: FloatArray, log_q: FloatArray) -> None:
    """Add the logarithms of `product` (LANES,) to `log_q`, and set it to one."""
    for lane in range(LANES):
        log_q[lane] += math.log(product[lane])
        product[lane] = 1.0
