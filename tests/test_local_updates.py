"""Laws of single-site updates, and a theory that the package does not know in every kernel."""

import numba
import numpy as np
import pytest
from scipy.integrate import quad

from latticediff.action import LocalAction, Phi4, free_propagator
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.errors import UserError
from latticediff.hmc import HMC
from latticediff.local_updates import LocalMetropolis
from latticediff.streams import Streams


def chain_means(kernel, shape, observable, n_updates=400, n_chains=64, warm=50):
    state = kernel.start(0.5 * np.random.default_rng(1).normal(size=(n_chains, *shape)))
    state, _ = kernel.advance(state, Streams(1), warm)
    return observable(kernel.advance(state, Streams(1), n_updates)[1].phi).mean(axis=0)


def deviations(per_chain, expected):
    return (per_chain.mean(axis=0) - expected) * np.sqrt(len(per_chain)) / per_chain.std(axis=0, ddof=1)


@pytest.mark.parametrize(("shape", "reflections"), [((4, 6), 0), ((4, 6), 2), ((2, 4, 2), 1), ((8,), 1)])
def test_free_field_has_its_exact_propagator(shape, reflections):
    action = Phi4.A(0.6, 0.0, len(shape))
    axes = tuple(range(2, 2 + len(shape)))
    spectrum = chain_means(
        LocalMetropolis(action, 1.0, 1, reflections),
        shape,
        lambda phi: np.abs(np.fft.rfftn(phi, axes=axes)) ** 2 / np.prod(shape),
        n_updates=800,
    )
    assert np.abs(deviations(spectrum, free_propagator(action, shape, half=True))).max() < 5


def test_bits_do_not_depend_on_cuts_or_batch():
    kernel = LocalMetropolis(Phi4.A(-1.0, 1.0), 1.0, 1, 1)
    phi, streams = np.random.default_rng(7).normal(size=(5, 4, 6)), Streams(8)
    whole, block = kernel.advance(kernel.start(phi), streams, 7, 2)
    state, _ = kernel.advance(kernel.start(phi), streams, 3)
    np.testing.assert_array_equal(kernel.advance(state, streams, 4)[0].phi, whole.phi)
    np.testing.assert_array_equal(kernel.advance(kernel.start(phi[:2]), streams, 7)[0].phi, whole.phi[:2])
    np.testing.assert_allclose(block.action, kernel.action(block.phi), rtol=1e-12)


def test_odd_extents_and_impossible_parameters_are_refused():
    action = Phi4.A(1.0, 1.0)
    with pytest.raises(UserError, match=r"odd extents \[5\]"):
        LocalMetropolis(action, 1.0).start(np.zeros((1, 4, 5)))
    with pytest.raises(UserError, match="width"):
        LocalMetropolis(action, 0.0)
    with pytest.raises(UserError, match="not ergodic"):
        LocalMetropolis(action, 1.0, 0, 1)


@numba.njit
def cosh_value(phi, params):
    return params[0] * np.cosh(params[1] * phi)


@numba.njit
def cosh_derivative(phi, params):
    return params[0] * params[1] * np.sinh(params[1] * phi)


class CoshAction(LocalAction):
    """A user's theory, V = g cosh(beta phi), written with the public class alone."""

    def __init__(self, g, beta, hopping, ndim):
        super().__init__(hopping, ndim)
        self.g, self.beta = g, beta

    def potential(self, phi):
        return self.g * np.cosh(self.beta * phi)

    def potential_derivative(self, phi):
        return self.g * self.beta * np.sinh(self.beta * phi)

    def numba_potential(self):
        return cosh_value, cosh_derivative, np.array([self.g, self.beta])

    def describe(self):
        return {"name": "cosh", "g": self.g, "beta": self.beta, "hopping": self.hopping, "ndim": self.ndim}


def kernels(action):
    return {
        "hmc": HMC(action, 0.3, 4),
        "fourier": HMC(action, 0.3, 4, mass=1.5),
        "local": LocalMetropolis(action, 1.5),
        "cluster": Sequence([Cluster(action), HMC(action, 0.3, 4)]),
        "wolff": Sequence([Cluster(action, "wolff"), LocalMetropolis(action, 1.5)]),
    }


@pytest.mark.parametrize("name", kernels(CoshAction(1.3, 1.1, 0.4, 1)))
def test_user_theory_has_its_exact_moments_in_every_kernel(name):
    """Two sites in one dimension against a transfer-matrix integral; 5 sigma each."""
    action = CoshAction(1.3, 1.1, 0.4, 1)
    grid = np.linspace(-8, 8, 801)
    site = np.exp(-action.potential(grid))
    # both links of the periodic pair join the same two sites
    joint = site[:, None] * site * np.exp(2 * action.hopping * grid[:, None] * grid)
    square, product = ((joint * f).sum() / joint.sum() for f in (grid[:, None] ** 2, grid[:, None] * grid))
    means = chain_means(
        kernels(action)[name], (2,), lambda phi: np.stack([(phi**2).mean(-1), phi[..., 0] * phi[..., 1]], -1), 600
    )
    assert np.abs(deviations(means, [square, product])).max() < 5


def test_transfer_integral_is_right_where_it_is_one_site():
    action = CoshAction(1.3, 1.1, 0.0, 1)
    weight = lambda x: np.exp(-action.potential(x))  # noqa: E731
    exact = quad(lambda x: x**2 * weight(x), -8, 8)[0] / quad(weight, -8, 8)[0]
    means = chain_means(HMC(action, 0.3, 4), (2,), lambda phi: (phi**2).mean(-1), 600)
    assert abs(deviations(means, exact)) < 5
