"""What tests of the Metropolis kernels share: cheap proposals of known density, exact targets, deviations in sigma."""

import math

import numpy as np
from scipy.stats import norm

from latticediff.action import Phi4, free_propagator
from latticediff.metropolis import Draw

ONE_SITE = Phi4.A(-1.0, 0.5, 1)
DOUBLE_WELL = Phi4.A(-3.0, 1.0, 1)  # on one site the hopping cancels: S = m2 phi^2 + lam phi^4, minima at +-1.22
GRID = np.linspace(-6, 6, 1201)


class Warped:
    """``phi = centre + width sinh(A u)`` site by site: a nonlinear bijection of noise, its density in closed form.

    `mix` couples neighbours in A; `honest=False` leaves the density out, to show what it is for.
    """

    is_deterministic, evaluations_per_draw, noise_basis = True, 1, "sites"

    def __init__(self, shape=(1,), centre=0.4, width=0.5, mix=0.0, honest=True):
        self.lattice_shape = self.noise_shape = shape
        self.centre, self.width, self.honest = centre, width, honest
        V = math.prod(shape)
        self.A = np.eye(V) + mix * np.roll(np.eye(V), 1, axis=1)

    def transport(self, u):
        v = u.reshape(len(u), -1) @ self.A.T
        phi = self.centre + self.width * np.sinh(v)
        return Draw(phi.reshape(u.shape), self._log_q(u.reshape(v.shape), v))

    def invert(self, phi, rng=None):
        v = np.arcsinh((phi.reshape(len(phi), -1) - self.centre) / self.width)
        u = np.linalg.solve(self.A, v.T).T
        return u.reshape(phi.shape), self._log_q(u, v)

    def _log_q(self, u, v):
        log_det = np.linalg.slogdet(self.A)[1] + np.log(self.width * np.cosh(v)).sum(axis=1)
        return (norm.logpdf(u).sum(axis=1) - log_det) * self.honest

    def draw(self, n, rng):
        return self.transport(rng.standard_normal((n, *self.lattice_shape)))

    def weigh(self, phi, rng=None):
        return self.invert(phi)[1]

    def fingerprint(self):
        return "warped"


def without_divergence(proposal):
    """The integral of the network's trace left out; changes an `OdeProposal`."""
    log_q = proposal.flow._log_q
    proposal.flow._log_q = lambda states, integral: log_q(states, 0 * integral)
    return proposal


class Changed:
    """A proposal whose log_q passes through a function of (phi, log_q)."""

    def __init__(self, inner, change):
        self.inner, self.change = inner, change

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def draw(self, n, rng):
        phi, log_q = self.inner.draw(n, rng)
        return Draw(phi, self.change(phi, log_q))

    def transport(self, u):
        phi, log_q = self.inner.transport(u)
        return Draw(phi, self.change(phi, log_q))

    def invert(self, phi, rng):
        u, log_q = self.inner.invert(phi, rng)
        return u, self.change(phi, log_q)

    def weigh(self, phi, rng):
        return self.change(phi, self.inner.weigh(phi, rng))


def no_density(phi, log_q):
    """For `Changed`: log_q dropped."""
    return np.zeros(len(phi))


def exact_moments(action, n_sites=1):
    """<phi>, <phi^2>, <phi^4> per site, <phi_0 phi_1> on two sites, and <|phi|> per site, by quadrature."""
    axes = np.meshgrid(*[GRID[::4]] * n_sites, indexing="ij")
    phi = np.stack(axes, axis=-1).reshape(-1, n_sites)
    weights = np.exp(-action(phi))
    weights /= weights.sum()
    return np.array([weights @ row for row in moments_of(phi).T])


def moments_of(phi):
    """The quantities of `exact_moments`, for fields (..., n_sites)."""
    rows = [(phi**p).mean(axis=-1) for p in (1, 2, 4)]
    return np.stack([*rows, phi[..., 0] * phi[..., -1], np.abs(phi).mean(axis=-1)], axis=-1)


def exact_fields(action, n, seed):
    """n independent fields on one site, by inversion of the cumulative distribution."""
    weights = np.exp(-action(GRID[:, None]))
    cumulative = np.concatenate([[0], np.cumsum(0.5 * (weights[1:] + weights[:-1]))])
    return np.interp(np.random.default_rng(seed).random(n) * cumulative[-1], cumulative, GRID)[:, None]


def free_fields(action, shape, n, seed):
    """n independent fields of a free theory, (n, *shape)."""
    axes = tuple(range(1, len(shape) + 1))
    noise = np.fft.fftn(np.random.default_rng(seed).normal(size=(n, *shape)), axes=axes)
    return np.fft.ifftn(noise * np.sqrt(free_propagator(action, shape)), axes=axes).real


def deviations(per_chain, expected):
    """(mean - expected) / error from chain means (n_chains, ...)."""
    return (per_chain.mean(axis=0) - expected) / (per_chain.std(axis=0, ddof=1) / math.sqrt(len(per_chain)))


def largest_deviation(block, action):
    """Of the moments of one or two sites from quadrature, in sigma; phi (n_updates, n_chains, n_sites)."""
    expected = exact_moments(action, block.phi.shape[-1])
    return np.abs(deviations(moments_of(block.phi).mean(axis=0), expected)).max()


def propagator_deviation(block, action, shape):
    """Largest deviation of ``<|phi_k|^2> / V`` from the free field's, in sigma."""
    power = np.abs(np.fft.rfftn(block.phi, axes=(2, 3))) ** 2 / math.prod(shape)
    return np.abs(deviations(power.mean(axis=0), free_propagator(action, shape, half=True))).max()
