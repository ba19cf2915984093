r"""What the fine law costs when it is compiled: a kernel that draws F given C and returns log q; no command.

One lane is one configuration, as in `latticediff._kernels.lanes`; features and interpolated values are float32, sums
and what is drawn float64. The density of a site is not :math:`e^P/\int e^P` itself but its cubic Hermite interpolant
between `N` equidistant points: it is integrated in closed form and inverted by Newton's method, so draws and log q are
those of one and the same law, whatever the interpolation error. Colour d takes log Z_1 as a polynomial of low degree:
its law is nearly the exact one.
"""

import numba
import numpy as np
from numba.extending import intrinsic

from latticediff._kernels.vectors import (
    LANES,
    add_products,
    load,
    narrow,
    nothing,
    number,
    root,
    spread,
    store,
    store_all,
    widen,
)

N = 28  # points of the interpolant
ROUNDS = 3  # of Newton's method
SERIES = 9, 24  # Chebyshev polynomials in f and in s of what the even sites do to colour d
FEATURES = 8
LINEAR = 8  # three odd powers and a zero, for two sites
SUMS = 2 * FEATURES
one, one_64, lowest = np.float32(1), 1.0, np.float32(-60)

jit = numba.njit(error_model="numpy", fastmath={"contract", "nsz"})
inlined = numba.njit(error_model="numpy", fastmath={"contract", "nsz"}, inline="always")


@intrinsic
def pick(typingctx, a, b, x, y):
    """x in the lanes where a <= b, y in the others."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[2], args[3])

    return x(a, b, x, y), codegen


@inlined
def exponential(x):
    """exp of float32 by seven squarings, without a call, a table or an integer; rough below exp(-20), 0 below -60."""
    unit = spread(one)
    y = pick(x, spread(lowest), spread(lowest), x) * spread(np.float32(1 / 128))
    p = y * spread(np.float32(1 / 120)) + spread(np.float32(1 / 24))
    p = unit + y * (unit + y * (spread(np.float32(1 / 2)) + y * (spread(np.float32(1 / 6)) + y * p)))
    for _ in range(7):
        p = p * p
    return p


@jit
def draw_site(theta, degree, V, dV, first, width, u, f, at, product, p, dp, cdf):
    """Draw one site of every lane with density ~ exp(sum_k theta_k f^k - V), into f[at]; its density into product.

    The interpolated values are float32: they define the law, and from there on all is float64.
    """
    zero = spread(0.0)
    h = spread(width)
    total, last, before = zero, zero, zero
    none = spread(np.float32(0))
    for n in range(N):
        x, value, slope = spread(np.float32(first + n * width)), load(theta, degree * LANES), none
        for k in range(degree - 1, -1, -1):
            slope = slope * x + value
            value = value * x + load(theta, k * LANES)
        e = exponential(value - spread(np.float32(V[n])))
        d = e * (slope - spread(np.float32(dV[n]))) * spread(np.float32(width))
        now, rise = widen(e), widen(d)
        if n:
            total = total + spread(0.5) * (last + now) + spread(1 / 12) * (before - rise)
        last, before = now, rise
        store(p, n * LANES, e)
        store(dp, n * LANES, d)
        store(cdf, n * LANES, total)
    wanted = load(u, at) * total
    cell, begin = zero, zero
    q0, q1, r0, r1 = load(p, 0), load(p, LANES), load(dp, 0), load(dp, LANES)
    for n in range(1, N - 1):  # the cell, by selection: no branch and no gather
        here = load(cdf, n * LANES)
        cell, begin = pick(here, wanted, spread(1.0 * n), cell), pick(here, wanted, here, begin)
        q0, q1 = pick(here, wanted, load(p, n * LANES), q0), pick(here, wanted, load(p, (n + 1) * LANES), q1)
        r0, r1 = pick(here, wanted, load(dp, n * LANES), r0), pick(here, wanted, load(dp, (n + 1) * LANES), r1)
    p0, p1, d0, d1 = widen(q0), widen(q1), widen(r0), widen(r1)
    two, three = spread(2.0), spread(3.0)
    c2, c3 = three * (p1 - p0) - two * d0 - d1, two * (p0 - p1) + d0 + d1
    rest, unit = wanted - begin, spread(one_64)
    t = rest / (spread(0.5) * (p0 + p1) + spread(1 / 12) * (d0 - d1))
    for _ in range(ROUNDS):
        mass = t * (p0 + t * (spread(0.5) * d0 + t * (spread(1 / 3) * c2 + t * (spread(0.25) * c3))))
        t = t - (mass - rest) / (p0 + t * (d0 + t * (c2 + t * c3)))
        t = pick(t, unit, pick(zero, t, t, zero), unit)
    store(f, at, spread(first) + (cell + t) * h)
    store(product, 0, load(product, 0) * (p0 + t * (d0 + t * (c2 + t * c3))) / (total * h))


@jit
def take_logs(product, log_q):
    for b in range(LANES):
        log_q[b] += np.log(product[b])
        product[b] = 1.0


@jit
def draw_learned(x, small, u, log_q, sites, context, read, shift, linear, amplitudes, constant, V, dV, first, width):
    """One learned colour, two sites at a time: x (2 M^2 LANES) float64 and `small`, its float32 copy."""
    m, degree = context.shape[1], len(constant)
    flat = context.reshape(-1)
    theta, product = np.zeros((degree + 1) * LANES, np.float32), np.ones(LANES)
    sums_of = np.empty(4 * FEATURES * LANES, np.float32)
    g = np.empty(2 * FEATURES * LANES, np.float32)
    thetas = np.empty(2 * degree * LANES, np.float32)
    p, dp, cdf = np.empty(N * LANES, np.float32), np.empty(N * LANES, np.float32), np.empty(N * LANES)
    for s in range(0, len(sites), 2):
        sums_of[:] = 0
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
            draw_site(theta, degree, V, dV, first, width, u, x, at, product, p, dp, cdf)
            store(small, at, narrow(load(x, at)))
        if s % 16 == 14:
            take_logs(product, log_q)
    take_logs(product, log_q)


@jit
def draw_last(x, small, u, log_q, sites, beside, table, V, dV, first, width, inverse_widest):
    """Colour d: beside (n_sites, 12), table (n_f, n_s) of coefficients of f^k T_l(s / widest), k + l even."""
    n_f, n_s = table.shape
    flat = beside.reshape(-1)
    theta, product = np.zeros(n_f * LANES, np.float32), np.ones(LANES)
    p, dp, cdf = np.empty(N * LANES, np.float32), np.empty(N * LANES, np.float32), np.empty(N * LANES)
    series, two = np.empty(n_s * LANES, np.float32), spread(np.float32(2))
    for s in range(len(sites)):
        series[:] = 0
        for y in range(4):
            at = s * 12 + 3 * y
            t = load(small, number(flat, at) * LANES) + load(small, number(flat, at + 1) * LANES)
            t = (t + load(small, number(flat, at + 2) * LANES)) * spread(inverse_widest)
            old, now = spread(one), t
            store(series, 0, load(series, 0) + old)
            for order in range(1, n_s):
                store(series, order * LANES, load(series, order * LANES) + now)
                old, now = now, two * t * now - old
        for k in range(1, n_f):
            total = spread(np.float32(0))
            for order in range(k % 2, n_s, 2):
                total = total + spread(table[k, order]) * load(series, order * LANES)
            store(theta, k * LANES, total)
        draw_site(theta, n_f - 1, V, dV, first, width, u, x, sites[s] * LANES, product, p, dp, cdf)
        if s % 16 == 15:
            take_logs(product, log_q)
    take_logs(product, log_q)


@jit
def learned_groups(x, small, u, log_q, *law):
    """`draw_learned` of every group of lanes: a loop around the call from Python took a fifth of the time at L = 16."""
    for group in range(len(x)):
        draw_learned(x[group], small[group], u[group], log_q[group], *law)


@jit
def last_groups(x, small, u, log_q, *law):
    """`draw_last` of every group of lanes."""
    for group in range(len(x)):
        draw_last(x[group], small[group], u[group], log_q[group], *law)


class FineKernel:
    """The law of `fine_given_coarse.FineLaw`, compiled."""

    def __init__(self, law):
        site, geometry = law.site, law.geometry
        self.M2, self.edge = geometry.M**2, site.edge
        points = np.linspace(-site.edge, site.edge, N)
        V, dV = site.potential(points), 2 * points * (site.a + 2 * site.b * points**2)
        grid = V, dV, -site.edge, points[1] - points[0]
        self.colours = []
        for k, part in enumerate(law.laws):
            read = part.read[:, part.turned].detach().numpy()  # (J, 4, m)
            linear = part.linear[:, part.turned].sum(1).detach().numpy()[::2]  # (3, m)
            odd = part.is_odd.numpy()[:, None] > 0
            amplitudes = np.where(odd, part.odd.detach().numpy(), part.even.detach().numpy())
            padded = np.pad(linear.T, ((0, 0), (0, 1)))
            shift, constant = part.shift.detach().numpy(), part.constant.detach().numpy()
            arrays = read.transpose(1, 2, 0).ravel(), shift, padded.ravel(), amplitudes, constant
            arrays = [np.ascontiguousarray(array, np.float32) for array in arrays]
            sites = np.asarray(geometry.colours[k]) + self.M2
            self.colours.append((learned_groups, (sites, law.contexts[k].numpy(), *arrays, *grid)))
        n_f, n_s = SERIES
        f = site.edge * np.cos(np.pi * (np.arange(4 * n_f) + 0.5) / (4 * n_f))
        s = np.cos(np.pi * (np.arange(2 * n_s) + 0.5) / (2 * n_s))
        value = site.theory.log_z(site.c * (f[:, None] + site.widest * s))[0]
        heavy = np.exp(-0.15 * site.potential(f))[:, None]  # where the density lives
        powers = np.vander(f, n_f, increasing=True)
        by_f = np.linalg.lstsq(heavy * powers, heavy * value, rcond=None)[0]
        table = by_f @ np.linalg.pinv(np.polynomial.chebyshev.chebvander(s, n_s - 1)).T
        last = np.asarray(geometry.colours[-1]) + self.M2
        beside = law.beside.numpy().reshape(len(last), 12)
        last_arguments = last, beside, np.ascontiguousarray(table, np.float32), *grid, np.float32(1 / site.widest)
        self.colours.append((last_groups, last_arguments))

    def draw(self, coarse, u):
        """Rows (C, F) (n, 2 M^2) and log q (n,); coarse and u (n, M^2)."""
        n, missing = len(coarse), -len(coarse) % LANES
        coarse, u = (np.pad(rows, ((0, missing), (0, 0)), "edge") for rows in (coarse, u))
        coarse, u = (rows.reshape(-1, LANES, self.M2).transpose(0, 2, 1) for rows in (coarse, u))
        x, numbers = (np.zeros((len(u), 2 * self.M2, LANES)) for _ in range(2))
        x[:, : self.M2], numbers[:, self.M2 :] = coarse, u
        small, log_q = x.astype(np.float32), np.zeros((len(u), LANES))
        for kernel, arguments in self.colours:
            kernel(*(rows.reshape(len(u), -1) for rows in (x, small, numbers)), log_q, *arguments)
        return x.transpose(0, 2, 1).reshape(-1, 2 * self.M2)[:n], log_q.ravel()[:n]
