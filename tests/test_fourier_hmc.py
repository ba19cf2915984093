"""Laws of Fourier-accelerated HMC: the splitting against a slow one, exactness of the free field, equilibrium, bits.

"5 sigma" means a false alarm of 6e-7 per number with 64 chains or more; errors come from the spread of chains.
"""

import json

import numpy as np
import pytest
from hmc_toys import check_bits

from latticediff.action import LocalAction, Phi4, free_propagator
from latticediff.errors import UserError
from latticediff.hmc import HMC, INTEGRATORS, FourierHMC
from latticediff.hmc.fourier import masses
from latticediff.hmc.integrators import schedule
from latticediff.markov import kernel_from_description
from latticediff.streams import Streams

SHAPE = (4, 6)
SHAPES = [(7,), SHAPE, (3, 2, 4), (2, 3, 4, 2), (32, 36)]  # extents from 32 on are folded


def sextic_value(phi, params):
    return phi * phi / 2 + phi / 5 + params[0] * phi**6


def sextic_derivative(phi, params):
    return phi + 0.2 + 6 * params[0] * phi**5


class Sextic(LocalAction):
    """A user's own potential, not symmetric: ``V = phi^2 / 2 + phi / 5 + phi^6 / 10``."""

    def __init__(self, ndim, hopping=0.4):
        super().__init__(hopping, ndim)

    def potential(self, phi):
        return phi**2 / 2 + phi / 5 + phi**6 / 10

    def potential_derivative(self, phi):
        return phi + 0.2 + 0.6 * phi**5

    def numba_potential(self):
        return sextic_value, sextic_derivative, np.array([0.1])

    def describe(self):
        return {"name": "sextic", "hopping": self.hopping, "ndim": self.ndim}


def run(kernel, shape, n_chains=64, n_updates=300, warm=50, seed=1):
    phi = 0.5 * np.random.default_rng(seed).normal(size=(n_chains, *shape))
    streams = Streams(seed)
    state, _ = kernel.advance(kernel.start(phi), streams, warm)
    return kernel.advance(state, streams, n_updates)[1]


def deviations(per_chain, expected):
    """(mean - expected) / error from chain means (n_chains, ...)."""
    error = per_chain.std(axis=0, ddof=1) / np.sqrt(per_chain.shape[0])
    return (per_chain.mean(axis=0) - expected) / error


def power(phi):
    """|phi_k|^2 / V per chain, averaged over Monte Carlo time; phi (n_updates, n_chains, *lattice)."""
    axes = tuple(range(2, phi.ndim))
    spectrum = np.abs(np.fft.rfftn(phi, axes=axes)) ** 2 / np.prod(phi.shape[2:])
    return spectrum.mean(axis=0)


def slow_trajectory(kernel, phi, momentum):
    """The splitting as the docstring of `latticediff.hmc.fourier` has it, by complex FFTs; with H at both ends."""
    action, shape = kernel.action, phi.shape[1:]
    axes = tuple(range(1, phi.ndim))
    M, omega = masses(action, shape, kernel.mass), np.sqrt(abs(action.hopping))
    bend = abs(action.hopping) * (2 * len(shape) + kernel.mass)

    def energy(phi, momentum):
        spectrum = np.abs(np.fft.fftn(momentum, axes=axes)) ** 2
        return 0.5 * (spectrum / M).sum(axis=axes) / M.size + action(phi)

    before = energy(phi, momentum)
    kicks, drifts = schedule(kernel.integrator, kernel.step_size, kernel.n_leapfrog)
    for kick, drift in zip(kicks, [*drifts, 0.0], strict=True):
        momentum = momentum + kick * (bend * phi - action.potential_derivative(phi))
        a, b = np.fft.fftn(phi, axes=axes), np.fft.fftn(momentum, axes=axes) / M
        cosine, sine = np.cos(omega * drift), np.sin(omega * drift)
        along = sine / omega if omega else drift
        phi = np.fft.ifftn(cosine * a + along * b, axes=axes).real
        momentum = np.fft.ifftn(M * (cosine * b - omega * sine * a), axes=axes).real
    return phi, momentum, energy(phi, momentum), before


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_trajectories_are_those_of_the_formula(shape, integrator):
    """Values and energies of the compiled loops to rounding, more chains than one group holds."""
    kernel = HMC(Phi4.A(-1.0, 1.3, len(shape)), 0.07, 3, integrator, mass=0.4)
    phi, momentum = 0.5 * np.random.default_rng(1).normal(size=(2, 19, *shape))
    expected = slow_trajectory(kernel, phi, momentum)
    for found, wanted in zip(kernel.integrate(phi, momentum), expected[:3], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
    assert np.abs(expected[2] - expected[3]).max() < 0.05 * np.prod(shape)


@pytest.mark.parametrize(
    "action", [Sextic(2), Sextic(2, -0.4), Sextic(2, 0.0), Sextic(1), Phi4.B(-0.3, 0.1), Phi4.SL(-0.5, 1.0, 3)]
)
def test_any_local_potential_and_any_hopping(action):
    shape = (5, 3, 4)[: action.ndim]
    kernel = HMC(action, 0.1, 4, "omelyan2", mass=0.7)
    phi, momentum = 0.7 * np.random.default_rng(2).normal(size=(2, 3, *shape))
    end, back, energy = kernel.integrate(phi, momentum)
    expected = slow_trajectory(kernel, phi, momentum)
    np.testing.assert_allclose(end, expected[0], atol=1e-12)
    np.testing.assert_allclose(back, expected[1], atol=1e-12)
    np.testing.assert_allclose(energy, expected[2], rtol=1e-12)
    block = run(kernel, shape, n_chains=3, n_updates=10)
    np.testing.assert_allclose(block.action, action(block.phi), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_free_field_is_exact_at_any_step(shape):
    """At mass = m^2 nothing is left for kicks: delta_h is rounding, also at a step of half a period."""
    action = Phi4.A(0.6, 0.0, len(shape))  # c = 2, K = 2 (p_hat^2 + 0.6)
    for step in (0.1, np.pi / np.sqrt(2)):
        block = run(HMC(action, step, 2, mass=0.6), shape, n_chains=5, n_updates=20, warm=0)
        assert np.abs(block.info["delta_h"]).max() < 1e-11 * np.prod(shape)
        assert block.info["accepted"].all()


def test_a_quarter_period_of_a_free_field_forgets_where_it_started():
    action = Phi4.A(0.6, 0.0)
    one, two, momentum = np.random.default_rng(9).normal(size=(3, 2, *SHAPE))
    quarter = np.pi / (2 * np.sqrt(action.hopping))
    ends = [HMC(action, quarter, 1, mass=0.6).integrate(phi, momentum)[0] for phi in (one, two)]
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-13)
    unit = [HMC(action, quarter / 12, 12).integrate(phi, momentum)[0] for phi in (one, two)]
    assert np.abs(unit[0] - unit[1]).max() > 0.1
    block = run(HMC(action, quarter, 1, mass=0.6), SHAPE)
    m = block.phi.mean(axis=(2, 3))
    assert abs((m[1:] * m[:-1]).mean() / (m**2).mean()) < 5 / np.sqrt(m.size)


@pytest.mark.parametrize("shape", [(7,), SHAPE, (3, 2, 4)])
def test_a_free_field_has_its_exact_propagator(shape):
    """With masses that are not its own, so that steps have errors which the accept step has to mend."""
    action = Phi4.A(0.6, 0.0, len(shape))
    block = run(HMC(action, 0.7, 2, jitter=0.2, mass=2.5), shape)
    assert block.info["accepted"].mean() < 0.95
    assert np.abs(deviations(power(block.phi), free_propagator(action, shape, half=True))).max() < 5


def test_without_the_accept_step_the_propagator_is_wrong():
    """What the test above guards: trajectories alone, at the same step size, are more than 20 sigma off."""
    action, rng = Phi4.A(0.6, 0.0), np.random.default_rng(2)
    kernel, phi, root = HMC(action, 0.7, 2, mass=2.5), np.zeros((64, *SHAPE)), np.sqrt(masses(action, SHAPE, 2.5))
    fields = []
    for _ in range(300):
        momentum = np.fft.ifftn(root * np.fft.fftn(rng.normal(size=phi.shape), axes=(1, 2)), axes=(1, 2)).real
        phi, _, _ = kernel.integrate(phi, momentum)
        fields.append(phi)
    off = deviations(power(np.array(fields[20:])), free_propagator(action, SHAPE, half=True))
    assert np.abs(off).max() > 20


@pytest.mark.parametrize(("integrator", "step"), [("leapfrog", 0.25), ("omelyan2", 0.5), ("omelyan4", 1.0)])
def test_equilibrium_identities(integrator, step):
    """<exp(-dH)> = 1 (Creutz 1988) and <sum_x phi dS/dphi> / V = 1 (Schwinger-Dyson)."""
    action = Phi4.A(-4.0, 6.008)
    block = run(HMC(action, step, 3, integrator, jitter=0.1, mass=1.0), SHAPE, n_updates=400)
    assert 0.5 < block.info["accepted"].mean() < 1
    assert abs(deviations(np.exp(-block.info["delta_h"]).mean(axis=0), 1.0)) < 5
    sd = -(block.phi * action.force(block.phi)).sum(axis=(2, 3)) / np.prod(SHAPE)
    assert abs(deviations(sd.mean(axis=0), 1.0)) < 5


def test_equilibrium_value_of_the_order_parameter():
    """<|m|> = 0.14145(15) at m2 = -4, lam = 6.975, 6x6: an independent cluster and HMC run; 4 sigma, 6e-5."""
    block = run(HMC(Phi4.A(-4.0, 6.975), 0.2, 6, mass=0.5), (6, 6), n_updates=1500)
    abs_m = np.abs(block.phi.mean(axis=(2, 3))).mean(axis=0)
    error = np.hypot(abs_m.std(ddof=1) / np.sqrt(abs_m.size), 0.00015)
    assert abs(abs_m.mean() - 0.14145) < 4 * error


def test_a_broken_phase_has_the_averages_of_plain_hmc():
    """kappa = 0.3 at lam = 0.022, 6x6: |m| well above 0, of either sign; 5 sigma between two algorithms."""
    action, found = Phi4.H(0.3, 0.022), []
    for kernel in (HMC(action, 0.1, 10), HMC(action, 0.2, 6, "omelyan2", mass=0.5)):
        block = run(kernel, (6, 6), n_updates=600, warm=200)
        values = np.stack([np.abs(block.phi.mean(axis=(2, 3))), block.action / 36]).mean(axis=1)
        found.append((values.mean(axis=1), values.var(axis=1, ddof=1) / values.shape[1]))
    (a, va), (b, vb) = found
    assert a[0] > 1 and (np.abs(a - b) < 5 * np.sqrt(va + vb)).all()


@pytest.mark.parametrize("shape", [(8,), (8, 8), (32, 36)])
def test_trajectories_are_reversible(shape):
    phi, momentum = np.random.default_rng(1).normal(size=(2, 3, *shape))
    for integrator in INTEGRATORS:
        kernel = HMC(Phi4.A(-4.0, 5.0, len(shape)), 0.05, 10, integrator, mass=0.3)
        assert kernel.reversibility_error(phi, momentum) < 1e-10


@pytest.mark.parametrize("integrator", INTEGRATORS)
def test_trajectories_preserve_the_volume_of_phase_space(integrator):
    """Determinant of d(phi', p') / d(phi, p) on a ring of five, by central differences."""
    kernel, n, h = HMC(Phi4.A(-1.0, 1.0, 1), 0.2, 5, integrator, mass=0.5), 5, 1e-5
    point = np.random.default_rng(4).normal(size=2 * n)
    shifted = np.concatenate([point + h * np.eye(2 * n), point - h * np.eye(2 * n)])
    end, momentum, _ = kernel.integrate(shifted[:, :n], shifted[:, n:])
    ends = np.concatenate([end, momentum], axis=1)
    jacobian = (ends[: 2 * n] - ends[2 * n :]) / (2 * h)
    assert np.abs(jacobian - np.eye(2 * n)).max() > 0.5
    np.testing.assert_allclose(np.linalg.det(jacobian), 1.0, atol=1e-6)


@pytest.mark.parametrize("shape", [(5,), SHAPE, (3, 2, 4), (32, 8)])
def test_bits_do_not_depend_on_threads_cuts_or_batch(shape, monkeypatch):
    kernel = HMC(Phi4.A(-1.0, 1.0, len(shape)), 0.2, 4, jitter=0.3, mass=0.7)
    check_bits(kernel, np.random.default_rng(3).normal(size=(37, *shape)), (1, 2, 18), monkeypatch)


def test_a_checkpoint_goes_on_with_the_same_bits():
    """A kernel rebuilt from its description and a state that was stored: field, action and number of updates."""
    kernel = HMC(Phi4.A(-4.0, 6.0), 0.2, 4, "omelyan2", 0.1, mass=0.7)
    phi, streams = np.random.default_rng(3).normal(size=(5, *SHAPE)), Streams(8)
    whole, _ = kernel.advance(kernel.start(phi), streams, 9)
    half, _ = kernel.advance(kernel.start(phi), streams, 4)
    stored = json.loads(json.dumps({"kernel": kernel.describe(), "phi": half.phi.tolist()}))
    rebuilt = kernel_from_description(kernel.action, stored["kernel"])
    assert rebuilt.describe() == kernel.describe()
    end, _ = rebuilt.advance(half._replace(phi=np.array(stored["phi"])), Streams(8), 5)
    np.testing.assert_array_equal(end.phi, whole.phi)


def test_a_diverged_trajectory_is_a_counted_rejection_of_its_chain_alone():
    kernel = HMC(Phi4.A(-1.0, 1.0), 0.3, 10, mass=0.5)
    phi = np.zeros((5, *SHAPE))
    phi[2] = 1e3
    end, block = kernel.advance(kernel.start(phi), Streams(0), 4)
    assert not block.info["accepted"][:, 2].any() and (block.info["delta_h"][:, 2] == np.inf).all()
    np.testing.assert_array_equal(end.phi[2], phi[2])
    assert block.info["accepted"][:, [0, 1, 3, 4]].any(axis=0).all() and np.isfinite(end.phi).all()


def test_what_cannot_be_is_refused():
    action = Phi4.A(-1.0, 1.0)
    for mass in (0.0, -1.0, np.nan):
        with pytest.raises(UserError, match=r"mass is .*expected a positive number"):
            HMC(action, 0.1, 4, mass=mass)
    old = HMC(action, 0.1, 4, mass=1.0).describe()
    del old["mass"]["drift"]
    with pytest.raises(UserError, match="drifts along p, which this version does not have; its chains cannot go on"):
        HMC.from_description(action, old)
    with pytest.raises(UserError, match="mass is not given"):
        FourierHMC(action, 0.1, 4)
    with pytest.raises(UserError, match="has hopping 0; exact Fourier acceleration wants it above 0"):
        FourierHMC(Sextic(2, 0.0), 0.1, 4, mass=1.0)


def test_angles_are_times_of_one_frequency():
    """`FourierHMC` is `HMC` with its steps over sqrt(c), bit for bit where that is exact: c = 4."""
    action = Phi4.B(4.0, 3.0)
    one, other = FourierHMC(action, 0.2, 5, "omelyan2", 0.1, mass=0.5), HMC(action, 0.1, 5, "omelyan2", 0.1, mass=0.5)
    phi, streams = 0.5 * np.random.default_rng(1).normal(size=(3, *SHAPE)), Streams(2)
    ends = [kernel.advance(kernel.start(phi), streams, 6)[0].phi for kernel in (one, other)]
    np.testing.assert_array_equal(*ends)
    assert one.describe()["name"] == "fourier_hmc" and one.describe()["mass"] == 0.5
    rebuilt = kernel_from_description(action, json.loads(json.dumps(one.describe())))
    assert type(rebuilt) is FourierHMC and rebuilt.describe() == one.describe()
    free, momenta = Phi4.A(0.6, 0.0), np.random.default_rng(9).normal(size=(2, *SHAPE))
    quarter = FourierHMC(free, np.pi / 2, 1, mass=0.6)
    ends = [quarter.integrate(start, momenta)[0] for start in (momenta, 0 * momenta)]
    np.testing.assert_allclose(*ends, atol=1e-13)
