r"""The law of the fine odd sites given the coarse ones, colour by colour: used by `coarse_to_fine.py`, no command.

With the even sites integrated out (theory page, eq. 15e) the odd sites of even rows, C, and those of odd rows, F, are
two square lattices of twice the spacing, M x M each, M = L/2: C[i, j] is the site (2i, 2j+1), F[i, j] is (2i+1, 2j).
Given C, a site of F interacts with its four nearest neighbours in F alone, so F is a checkerboard again:

    a: i, j both even        b: i, j both odd        d: i + j odd.

Given a, b and C, the sites of colour d are independent, and their law is known:

.. math:: p(f) \propto e^{P(f)}, \qquad P(f) = -V(f) + \sum_{y=1}^{4} \log Z_1(c\,(f + s_y)),

s_y the sum of the three other neighbours of the even site y. Colours a and b get learned laws, each colour in two
turns, again as on a checkerboard, given C and all that was drawn before: products over sites of
:math:`e^{P}/\int e^{P}` with

.. math:: P(f) = -V(f) + \sum_{k=1}^{6} \theta_k(\text{context})\, f^k,

theta_k odd functions of the context for odd k and even ones for even k. (In one turn, what is left is a coupling of a
site to the four of its colour at distance 4: seven times the variance of log_weight at L = 16.) The integral is one
quadrature a site, so the density is known to rounding, and nothing is integrated in time. Fields are held to
``|f| <= edge``, where exp(-V) is exp(-47).

Training needs no draws: it matches the force of the product to that of the theory on configurations of HMC,

.. math:: \langle |\nabla_{ab} [S_{C,ab} + \log q(ab | C)]|^2 \rangle,

with colour d integrated out, whose minimum is zero and has no noise. Torch; float32 in training, float64 after it.
"""

import math
import time

import numpy as np
import torch
from torch import nn

from latticediff.training.optimizers import OPTIMIZERS

DEGREE = 6  # of the polynomials in f that are learned
NODES = {torch.float32: 40, torch.float64: 72}  # of the quadrature over f, and of the interpolant that draws follow


class Site:
    """``log Z_1(c (f + s))`` as a double Chebyshev series, nodes of the quadrature, and the potential.

    Parameters
    ----------
    theory : latticediff.action.OddSites
    dtype : torch.dtype
    """

    def __init__(self, theory, dtype=torch.float32):
        self.theory, self.dtype = theory, dtype
        self.b, self.c = theory.whole.b, theory.hopping
        self.a = theory.whole.a
        self.edge = (47 / self.b) ** 0.25
        self.widest = 3 * self.edge
        x, w = np.polynomial.legendre.leggauss(NODES[dtype])
        self.f, self.log_w = torch.as_tensor(self.edge * x).to(dtype), torch.as_tensor(np.log(self.edge * w)).to(dtype)
        self.legendre = np.linalg.inv(np.polynomial.legendre.legvander(x, len(x) - 1)).T
        n_f, n_s = 16, 56
        nodes = [np.cos(np.pi * (np.arange(n) + 0.5) / n) for n in (n_f, n_s)]
        h = self.c * (self.edge * nodes[0][:, None] + self.widest * nodes[1])
        value = theory.log_z(h)[0]
        inverse = [np.linalg.inv(np.polynomial.chebyshev.chebvander(x, len(x) - 1)) for x in nodes]
        table = inverse[0] @ value @ inverse[1].T
        # even in (f, s) together
        self.table = torch.as_tensor(table).to(dtype)
        self.at_nodes = torch.as_tensor(
            np.polynomial.chebyshev.chebvander(self.f.double().numpy() / self.edge, n_f - 1)
        ).to(dtype)
        self.powers = torch.stack([self.f**k for k in range(1, DEGREE + 1)])

    def potential(self, f):
        return f * f * (self.a + self.b * f * f)

    def series(self, s):
        """Coefficients in T_k(f / edge) of log Z_1(c (f + s)), (..., n_f)."""
        return chebyshev(s / self.widest, self.table.shape[1]) @ self.table.T

    def log_integral(self, exponent):
        """``log int exp(P) df``, (...), of P + V at the nodes, (..., NODES)."""
        return torch.logsumexp(exponent - self.potential(self.f) + self.log_w, -1)


def bent(h):
    """``h (1 + h^2)^(-1/2)``."""
    return h * torch.rsqrt(1 + h * h)


def chebyshev(x, n):
    """``T_0 ... T_{n-1}`` of x, (..., n)."""
    out = [torch.ones_like(x), x]
    for _ in range(n - 2):
        out.append(2 * x * out[-1] - out[-2])
    return torch.stack(out, -1)


class Geometry:
    """Which sites see which, as tables of flat numbers into (C, F) laid one behind the other."""

    def __init__(self, M):
        assert M % 4 == 0
        self.M = M
        i, j = np.meshgrid(np.arange(M), np.arange(M), indexing="ij")
        half = (i // 2 + j // 2) % 2
        masks = [(i % 2 == p) & (j % 2 == p) & (half == h) for p in (0, 1) for h in (0, 1)] + [(i + j) % 2 == 1]
        self.colours = [np.flatnonzero(mask.ravel()) for mask in masks]
        self.ab = torch.as_tensor(np.concatenate(self.colours[:-1]))

    def _numbers(self, sites, offsets):
        """Flat numbers of what lies at physical offsets (dx, dy) from sites of F; both odd: of C, both even: of F."""
        M = self.M
        i, j = sites // M, sites % M
        out = []
        for dx, dy in offsets:
            if dx % 2:  # of C: (2i + 1 + dx, 2j + dy) = (2i', 2j' + 1)
                out.append(((i + (dx + 1) // 2) % M) * M + (j + (dy - 1) // 2) % M)
            else:
                out.append(M * M + ((i + dx // 2) % M) * M + (j + dy // 2) % M)
        return torch.as_tensor(np.stack(out, -1))

    def context(self, colour, offsets):
        """Flat numbers of what lies at the offsets from every site of a colour, (n_sites, m)."""
        return self._numbers(self.colours[colour], offsets)

    def around(self, colour):
        """The three others of each of the four even sites beside sites of a colour: (n_sites, 4, 3)."""
        directions = [(1, 0), (0, 1), (-1, 0), (0, -1)]
        out = []
        for dx, dy in directions:  # to the even site; around it lie the site itself, one across, two to the sides
            offsets = [(2 * dx, 2 * dy), (dx + dy, dx + dy), (dx - dy, dy - dx)]
            out.append(self._numbers(self.colours[colour], offsets))
        return torch.stack(out, 1)


def rotations(offsets):
    """Permutations of offsets that the rotations of the square make, (4, m)."""
    place = {offset: number for number, offset in enumerate(offsets)}
    maps = [lambda x, y: (x, y), lambda x, y: (-y, x), lambda x, y: (-x, -y), lambda x, y: (y, -x)]
    return torch.as_tensor([[place[m(*offset)] for offset in offsets] for m in maps])


#: Sites of C within the distance sqrt(26) of a site of F
COARSE = [(x, y) for x in range(-5, 6, 2) for y in range(-5, 6, 2) if x * x + y * y <= 26]
DIAGONAL, STRAIGHT = [(2, 2), (2, -2), (-2, 2), (-2, -2)], [(4, 0), (0, 4), (-4, 0), (0, -4)]
CONTEXTS = [COARSE, COARSE + STRAIGHT, COARSE + DIAGONAL, COARSE + DIAGONAL + STRAIGHT]  #: of the learned colours


class Law(nn.Module):
    """theta_k of one colour as functions of its context: ridge functions, summed over the rotations of the square."""

    def __init__(self, offsets, features, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        m = len(offsets)
        self.register_buffer("turned", rotations(offsets), persistent=False)
        distance = torch.as_tensor([math.hypot(*offset) for offset in offsets])
        self.read = nn.Parameter(1.5 * torch.randn(features, m, generator=generator) * torch.exp(-distance / 2))
        self.shift = nn.Parameter(torch.rand(features, generator=generator))
        self.linear = nn.Parameter(torch.zeros(DEGREE, m))  # of odd k
        self.odd = nn.Parameter(torch.zeros(DEGREE, features))
        self.even = nn.Parameter(torch.zeros(DEGREE, features))
        self.constant = nn.Parameter(torch.zeros(DEGREE))
        parity = torch.arange(1, DEGREE + 1) % 2 == 1
        self.register_buffer("is_odd", parity.float(), persistent=False)

    def forward(self, context):
        """theta, (n, sites, DEGREE), of contexts (n, sites, m)."""
        read = self.read[:, self.turned]  # (J, 4, m)
        h = torch.einsum("nsm,jrm->nsrj", context, read)
        up, down = bent(h + self.shift), bent(h - self.shift)
        odd, even = (up + down).sum(2), (up - down).sum(2)
        first = context @ self.linear[:, self.turned].sum(1).T
        theta_odd = (first + odd @ self.odd.T) * self.is_odd
        return theta_odd + (even @ self.even.T + self.constant) * (1 - self.is_odd)


class FineLaw(nn.Module):
    """q(F | C) = q(a1 | C) q(a2 | a1, C) q(b1 | a, C) q(b2 | b1, a, C) p(d | a, b, C)."""

    def __init__(self, theory, M, features=8, dtype=torch.float32):
        super().__init__()
        self.options = {"theory": theory, "M": M, "features": features}
        self.site, self.geometry = Site(theory, dtype), Geometry(M)
        self.laws = nn.ModuleList([Law(offsets, features, k) for k, offsets in enumerate(CONTEXTS)])
        self.contexts = [self.geometry.context(k, offsets) for k, offsets in enumerate(CONTEXTS)]
        self.beside = self.geometry.around(4)
        self.to(dtype)

    def in_double(self):
        """The same law in float64, without gradients."""
        double = FineLaw(**self.options, dtype=torch.float64)
        double.load_state_dict(self.state_dict())
        return double.requires_grad_(False)

    def log_law(self, x, k):
        """P + V at the nodes, P and log int e^P of the sites of colour k; x: rows (C, F), (n, 2 M^2)."""
        f = x[:, self.geometry.M**2 + torch.as_tensor(self.geometry.colours[k])]
        if k < len(self.laws):
            theta = self.laws[k](x[:, self.contexts[k]])
            nodes = theta @ self.site.powers
            here = sum(theta[..., n] * f ** (n + 1) for n in range(DEGREE))
        else:
            series = self.site.series(x[:, self.beside].sum(-1)).sum(2)
            nodes = series @ self.site.at_nodes.T
            here = (series * chebyshev(f / self.site.edge, series.shape[-1])).sum(-1)
        log_z = self.site.log_integral(nodes)
        return nodes, here - self.site.potential(f), log_z

    def marginal(self, x):
        """S of (C, a, b), colour d integrated out, (n,): what does not depend on a and b included."""
        M2 = self.geometry.M**2
        ab = x[:, M2 + self.geometry.ab]
        series = self.site.series(x[:, self.beside].sum(-1)).sum(2)
        log_z = self.site.log_integral(series @ self.site.at_nodes.T)
        return self.site.potential(ab).sum(1) + self.site.potential(x[:, :M2]).sum(1) - log_z.sum(1)

    def log_q_gradient(self, x):
        """``grad log q(ab | C)``, (n, 2 M^2), differentiable by the weights."""
        x = x.detach().requires_grad_()
        total = 0.0
        for k in range(len(self.laws)):
            _, here, log_z = self.log_law(x, k)
            total = total + (here - log_z).sum(1)
        (gradient,) = torch.autograd.grad(total.sum(), x, create_graph=True)
        return gradient

    @torch.no_grad()
    def log_q(self, x):
        """log q(F | C), (n,)."""
        return sum((here - log_z).sum(1) for _, here, log_z in (self.log_law(x, k) for k in range(len(self.laws) + 1)))

    @torch.no_grad()
    def draw(self, coarse, u, rounds=6, last=True):
        """Rows (C, F), with F the quantiles u (n, M^2) of its law given coarse (n, M^2); float64."""
        x = torch.cat([coarse, torch.zeros_like(coarse)], 1)
        for k, sites in enumerate(self.geometry.colours[: None if last else -1]):
            nodes, _, log_z = self.log_law(x, k)
            density = torch.exp(nodes - self.site.potential(self.site.f) - log_z[..., None]) * self.site.edge
            f = self.quantiles(density.double().numpy(), u[:, sites].numpy(), rounds)
            x[:, self.geometry.M**2 + torch.as_tensor(sites)] = torch.as_tensor(f).to(x)
        return x

    @torch.no_grad()
    def levels(self, x):
        """The quantiles u (n, M^2) at which F of rows (n, 2 M^2) lies: the inverse of `draw`."""
        u = np.empty((len(x), self.geometry.M**2))
        for k, sites in enumerate(self.geometry.colours):
            nodes, _, log_z = self.log_law(x, k)
            density = torch.exp(nodes - self.site.potential(self.site.f) - log_z[..., None]) * self.site.edge
            series = density.double().numpy().reshape(-1, density.shape[-1]) @ self.site.legendre
            rising = np.polynomial.legendre.legint(series, lbnd=-1, axis=1).T
            f = x[:, self.geometry.M**2 + torch.as_tensor(sites)].numpy() / self.site.edge
            u[:, sites] = np.polynomial.legendre.legval(f.ravel(), rising, tensor=False).reshape(f.shape)
        return u

    def quantiles(self, density, u, rounds):
        """Where the cumulative distribution is u: density (n, sites, NODES) at the nodes, as a Legendre series."""
        shape = u.shape
        series = density.reshape(-1, density.shape[-1]) @ self.site.legendre
        rising = np.polynomial.legendre.legint(series, lbnd=-1, axis=1).T.copy()
        series = series.T.copy()
        u = u.reshape(-1)
        value = np.polynomial.legendre.legval
        # on a grid first, then Newton within the bracket
        grid = np.linspace(-1, 1, 129)
        cdf = rising.T @ np.polynomial.legendre.legvander(grid, density.shape[-1]).T
        at = np.clip((cdf <= u[:, None]).sum(1), 1, len(grid) - 1)
        low, high = grid[at - 1], grid[at]
        lower, upper = cdf[np.arange(len(u)), at - 1], cdf[np.arange(len(u)), at]
        x = low + (high - low) * np.clip((u - lower) / np.maximum(upper - lower, 1e-300), 0, 1)
        for _ in range(rounds):
            off = value(x, rising, tensor=False) - u
            low, high = np.where(off < 0, x, low), np.where(off < 0, high, x)
            new = x - off / np.maximum(value(x, series, tensor=False), 1e-12)
            x = np.where((new >= low) & (new <= high), new, 0.5 * (low + high))
        return (self.site.edge * x).reshape(shape)


def rows_of(phi):
    """(C, F) rows (n, 2 M^2) of fields (n, L, L)."""
    n = len(phi)
    return np.concatenate([phi[:, 0::2, 1::2].reshape(n, -1), phi[:, 1::2, 0::2].reshape(n, -1)], 1)


def odd_action(theory, x, M):
    """S_odd of rows (C, F), float64, with the exact tables."""
    C, F = (np.ascontiguousarray(part).reshape(-1, M, M) for part in (x[:, : M * M], x[:, M * M :]))
    h1 = C + np.roll(C, 1, 2) + F + np.roll(F, 1, 1)
    h2 = F + np.roll(F, -1, 2) + C + np.roll(C, -1, 1)
    V = theory.whole.potential
    log_z = [theory.log_z(theory.hopping * h.reshape(len(h), -1))[0].sum(1) for h in (h1, h2)]
    return V(C).sum((1, 2)) + V(F).sum((1, 2)) - log_z[0] - log_z[1]


def forces(law, x, batch=256):
    """``grad_ab S_{C, ab}`` of rows, (n, M^2 / 2) float32: it does not depend on the weights."""
    M2, ab = law.geometry.M**2, law.geometry.ab
    out = []
    for part in x.split(batch):
        part = part.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(law.marginal(part).sum(), part)
        out.append(gradient[:, M2 + ab].float())
    return torch.cat(out)


def train(law, x, force, steps, batch, rate, say=print):
    """Force matching with a cosine, on rows (n, 2 M^2) float32 and their `forces`."""
    optimizer = OPTIMIZERS["soap"](law.parameters(), rate)
    generator = torch.Generator().manual_seed(1)
    M2, ab = law.geometry.M**2, law.geometry.ab
    mean, began = 0.0, time.process_time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        index = torch.randint(len(x), (batch,), generator=generator)
        own = law.log_q_gradient(x[index])[:, M2 + ab]
        loss = ((force[index] + own) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(law.parameters(), 1.0)
        optimizer.step()
        mean = loss.item() if step == 0 else mean + 0.02 * (loss.item() - mean)
        if step % 200 == 0 or step == steps - 1:
            say(f"{step:5d}  force mismatch per site {mean:.3e}  {time.process_time() - began:.0f} s", flush=True)
    return law


@torch.enable_grad()
def coarse_parts(law, coarse, u):
    """``grad_C [S_{C, ab} + log q(ab | C)]``, (n, M^2) float64, at a, b drawn with the quantiles u and then held."""
    M2 = law.geometry.M**2
    x = law.draw(torch.as_tensor(coarse).float(), torch.as_tensor(u), rounds=0, last=False)
    x.requires_grad_()
    total = law.marginal(x)
    for k in range(len(law.laws)):
        _, here, log_z = law.log_law(x, k)
        total = total + (here - log_z).sum(1)
    (gradient,) = torch.autograd.grad(total.sum(), x)
    return gradient[:, :M2].double().numpy()
