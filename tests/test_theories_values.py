"""Chains of the theories beside phi^4 against values that no Markov chain gave.

Quadrature on small lattices, with the action written out here; the transfer matrix of the 1D double well; the
propagator of free fields with links; the Schwinger-Dyson identity. "5 sigma" from the spread of 64 chains: a false
alarm of 6e-7.
"""

import itertools

import numpy as np
import pytest
from test_theories import THEORIES

from latticediff.action import Modulated, Polynomial, SineGordon
from latticediff.hmc import HMC, FourierHMC
from latticediff.local_updates import LocalMetropolis
from latticediff.observables.primary import schwinger_dyson
from latticediff.streams import Streams


def run(kernel, shape, n_updates=1500, n_chains=64, warm=200, start=0.5):
    phi = start * np.random.default_rng(3).normal(size=(n_chains, *shape))
    state, _ = kernel.advance(kernel.start(phi), Streams(5).child("warm"), warm, warm)
    return kernel.advance(state._replace(update=0), Streams(5), n_updates, 2)[1].phi


def deviations(series, expected):
    """(mean - expected) / error from series (n_kept, n_chains, ...)."""
    chains = series.mean(axis=0)
    return (chains.mean(axis=0) - expected) / (chains.std(axis=0, ddof=1) / np.sqrt(len(chains)))


def quadrature(V, pairs, sites, reach, n):
    """<phi>, <phi^2>, <phi^4> of site 0 and <phi_x phi_y> of the first pair, by the trapezoidal rule on all sites.

    `pairs` are ``(x, y, c)`` of ``-c phi_x phi_y``.
    """
    x = np.linspace(-reach, reach, n)
    axes = [x.reshape([-1 if i == site else 1 for i in range(sites)]) for site in range(sites)]
    exponent = sum(-V(phi) for phi in axes)
    for i, j, c in pairs:
        exponent = exponent + c * axes[i] * axes[j]
    weight = np.exp(exponent - exponent.max())
    one = weight.sum(axis=tuple(range(1, sites)))
    i, j, _ = pairs[0]
    two = weight.sum(axis=tuple(k for k in range(sites) if k not in (i, j)))
    return [*((one * x**p).sum() / one.sum() for p in (1, 2, 4)), x @ two @ x / two.sum()]


def square(cx, cy, diagonal=0.0):
    """Pairs of the 2x2 torus, on which both neighbours along an axis are one site: each pair counts twice."""
    pairs = [(0, 1, 2 * cy), (2, 3, 2 * cy), (0, 2, 2 * cx), (1, 3, 2 * cx)]
    return pairs + [(0, 3, 2 * diagonal), (1, 2, 2 * diagonal)]


CASES = {
    "phi6": (
        Polynomial(0.3, (0, 1.9, 0, -1.6, 0, 0.6)),
        lambda f: 1.9 * f**2 - 1.6 * f**4 + 0.6 * f**6,
        square(0.3, 0.3),
    ),
    "tilted": (
        Polynomial(0.3, (0.1, 0.4, -0.2, 0.3)),
        lambda f: 0.1 * f + 0.4 * f**2 - 0.2 * f**3 + 0.3 * f**4,
        square(0.3, 0.3),
    ),
    "diagonal": (
        Polynomial([0.2, -0.1], (0, 0.3, 0, 0.3), 2, [((1, 1), 0.1), ((1, -1), 0.05)]),
        lambda f: 0.3 * f**2 + 0.3 * f**4,
        square(0.2, -0.1, 0.15),
    ),
    "sine_gordon": (
        SineGordon(0.8, 3.0, 2.0, 0.5),
        lambda f: (2 + 0.4) * f**2 - 0.75 * np.cos(2 * f + 0.5),
        square(1.0, 1.0),
    ),
    # five sites in a ring: the first and the second neighbours of a site are all others
    "modulated": (
        Modulated(1.0, -0.45, 0.4, 0.4, 1),
        lambda f: 0.4 * f**2 + 0.4 * f**4,
        [(x, (x + 1) % 5, 1.0) for x in range(5)] + [(x, (x + 2) % 5, -0.45) for x in range(5)],
    ),
}
KERNELS = {
    "hmc": lambda action: HMC(action, 0.2, 6, "omelyan2", 0.2),
    "fourier": lambda action: (
        FourierHMC(action, 0.2, 6, jitter=0.2, mass=0.6) if action.links[0][1] else HMC(action, 0.2, 6)
    ),
    "local": lambda action: LocalMetropolis(action, 1.2, 2, 1),
}


@pytest.fixture(scope="module")
def exact():
    grids = {"sine_gordon": (4.5, 45), "modulated": (2.7, 19)}
    found = {}
    for name, (_, V, pairs) in CASES.items():
        sites = 1 + max(j for _, j, _ in pairs)
        found[name] = quadrature(V, pairs, sites, *grids.get(name, (2.9, 41)))
    return found


@pytest.mark.parametrize(("name", "kernel"), list(itertools.product(CASES, KERNELS)))
def test_small_lattices_against_quadrature(exact, name, kernel):
    action, _, pairs = CASES[name]
    shape = (5,) if action.ndim == 1 else (2, 2)
    if kernel == "fourier" and name == "diagonal":
        pytest.skip("a link without its mirror image")
    phi = run(KERNELS[kernel](action), shape)
    flat = phi.reshape(*phi.shape[:2], -1)
    i, j, _ = pairs[0]
    series = [flat.mean(-1), (flat**2).mean(-1), (flat**4).mean(-1), flat[..., i] * flat[..., j]]
    off = deviations(np.stack(series, -1), np.array(exact[name]))
    assert np.abs(off).max() < 5, off


@pytest.mark.parametrize("tilt", [0.0, 0.03])
def test_the_double_well_of_quantum_mechanics(tilt):
    """64 times: moments and correlator of the path against the transfer matrix on a grid of x."""
    n, c = 64, 1.0
    action = Polynomial(c, (tilt, 0.75, 0, 0.15), 1)
    x = np.linspace(-4, 4, 321)
    V = tilt * x + 0.75 * x**2 + 0.15 * x**4
    energies, states = np.linalg.eigh(np.exp(c * np.outer(x, x) - 0.5 * (V[:, None] + V)))
    power = (energies / energies[-1]) ** n
    at = states.T @ (x[:, None] * states)
    Z = power.sum()
    distances = np.array([0, 1, 4, 16])
    ratio = energies / energies[-1]
    expected = [np.diag(at) @ power / Z]
    for t in distances:
        expected.append(np.einsum("i,ij,j,ji->", ratio ** (n - t), at, ratio**t, at) / Z)
    kernel = FourierHMC(action, 0.25, 6, "omelyan2", 0.2, mass=0.1)
    phi = run(kernel, (n,), 3000, start=1.0)
    series = [phi.mean(-1)] + [(phi * np.roll(phi, -t, -1)).mean(-1) for t in distances]
    off = deviations(np.stack(series, -1), np.array(expected))
    assert np.abs(off).max() < 5, off


@pytest.mark.parametrize(
    "action",
    [
        Polynomial([0.5, 0.3], (0, 1.5), 2, [((2, 0), -0.2), ((1, 1), 0.15), ((1, -1), -0.1)]),
        Modulated(1.0, -0.5, 2.2, 0.0),
    ],
)
def test_free_fields_with_links_have_their_propagator(action):
    shape = (6, 4)
    form = -2 * sum(
        c * np.cos(2 * np.pi * (r[0] * np.arange(6)[:, None] / 6 + r[1] * np.arange(4) / 4)) for r, c in action.links
    )
    propagator = 1 / (2 * action.powers[1] + form)
    for kernel in (HMC(action, 0.25, 5, jitter=0.2), LocalMetropolis(action, 1.2, 1, 1)):
        phi = run(kernel, shape)
        power = np.abs(np.fft.fftn(phi, axes=(-2, -1))) ** 2 / 24
        assert np.abs(deviations(power, propagator)).max() < 5


@pytest.mark.parametrize(("action", "shape"), THEORIES.values(), ids=THEORIES)
def test_the_identity_of_schwinger_and_dyson(action, shape):
    phi = run(HMC(action, 0.08, 8, "omelyan2", 0.2), shape, 600)
    values = np.stack([schwinger_dyson(fields, action) for fields in phi])
    assert np.abs(deviations(values, 1.0)) < 5
