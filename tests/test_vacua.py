"""Laws of the broken phase: signs that come with the noise, the mixture of two Gaussians, chains that tunnel.

Statistical tests use five standard errors: a correct code fails one number with probability 6e-7.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from learned_toys import network, normal, some_propagator
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal

from latticediff.action import Phi4
from latticediff.cluster import Cluster
from latticediff.composite import Sequence
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import UserError
from latticediff.gaussian.propagator import measured_propagator, measured_vacuum
from latticediff.gaussian.reference import GaussianReference
from latticediff.gaussian.vacua import TwoVacua, _from_half, _to_half, check_vacua
from latticediff.hmc import HMC
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import OdeProposal, SdeProposal
from latticediff.streams import Streams
from latticediff.targets.control_variates import three_targets
from latticediff.targets.matching import mixed_target

N_SIGMA = 5
M0 = 4.83
SHAPE = (4, 6)
BROKEN = Phi4.H(0.5, 0.022)
TWO_SITES = Phi4.H(2.0, 0.2, ndim=1)  # peaks of +-2.9, 11 standard deviations from zero on one site
OVERLAP = Phi4.H(0.5, 0.2, ndim=1)
SHAPES = [(5,), SHAPE, (2, 3, 2)]


def gaussian(shape=SHAPE, dtype=torch.float64, vacuum=M0):
    return GaussianReference(
        Phi4.H(0.5, 0.022, ndim=len(shape)), 0.2 * some_propagator(shape), dtype=dtype, vacuum=vacuum
    )


def model(shape=SHAPE, strength=0.0, action=BROKEN, vacuum=M0, propagator=None, sigmas=(0.03, 1.5)):
    G, noise = 0.2 * some_propagator(shape) if propagator is None else propagator, NoiseRange(*sigmas)
    made = network(len(shape), strength)
    return ScoreModel(
        made, GaussianReference(action, G, vacuum=vacuum), noise, np.array(noise.log_range), np.ones((2, *shape))
    )


def fields_of_both_signs(shape, n=4, seed=3):
    signs = torch.tensor([1.0, -1.0]).repeat(n // 2).reshape(-1, *[1] * len(shape)).double()
    return signs * (M0 + 0.4 * normal((n, *shape), seed))


# --- signs out of noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["sites", "modes"])
@pytest.mark.parametrize("torch_too", [False, True])
def test_noise_is_sign_and_noise(layout, torch_too):
    """Standard normal and independent again, both signs equally often, and nothing is lost on the way."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(20_000, 4))
    two = TwoVacua(M0, 4, layout)
    sign, inner = two.enter(torch.as_tensor(noise) if torch_too else noise)
    np.testing.assert_allclose(two.leave(sign, inner), noise, rtol=1e-9, atol=1e-12)
    sign, inner = np.asarray(sign).ravel(), np.asarray(inner)
    assert abs(sign.mean()) < N_SIGMA / math.sqrt(len(sign))
    for column in (*inner.T, inner.sum(1) / 2, *inner[sign > 0].T):
        assert kstest(column, "norm").pvalue > 1e-6
    assert kstest(np.abs(noise[:, 0]), "norm").pvalue < 1e-6  # the test can tell


def test_noise_far_out_comes_back():
    u = np.array([1e-12, 1e-5, 0.3, 0.66, 0.68, 3.0, 9.0, 30.0])[:, None]
    two = TwoVacua(M0, 1, "modes")
    np.testing.assert_allclose(two.leave(*two.enter(u)), u, rtol=1e-9, atol=1e-15)


def test_a_draw_on_the_wrong_side_has_weight_zero():
    two = TwoVacua(0.5, 2, "modes")
    sign = np.array([[1.0], [1.0], [-1.0]])
    x = two.fields(sign, np.array([[0.3, 1.0], [-2.0, 0.0], [-2.0, 0.0]]))
    np.testing.assert_array_equal(two.admit(sign, x, np.zeros(3)), [0.0, np.inf, np.inf])


def test_peaks_that_overlap_are_refused():
    with pytest.raises(UserError, match="standard deviations of m at sigma_max"):
        check_vacua(gaussian(vacuum=1.0), 3.0)
    check_vacua(gaussian(), 1.5)


# --- the network around a vacuum -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_residual_is_odd(shape):
    bg, net, x = gaussian(shape), network(len(shape), 0.7).double(), fields_of_both_signs(shape)
    level = torch.tensor([-0.7], dtype=torch.float64)
    R, trace = net(bg, x, level, trace=True)
    opposite, same_trace = net(bg, -x, level, trace=True)
    torch.testing.assert_close(opposite, -R, rtol=0, atol=1e-12)
    torch.testing.assert_close(same_trace, trace)
    # but not a function of the fluctuation that is odd: it has the even part that a cubic vertex needs
    mirrored = x[:1] - 2 * (x[:1] - M0)
    assert float((net(bg, mirrored, level)[0] + R[:1]).detach().abs().max()) > 1e-2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("log_sigma", [-2.0, 0.2])
def test_divergence_is_that_of_the_full_jacobian(shape, log_sigma):
    bg, net = gaussian(shape), network(len(shape), 0.7).double()
    level = torch.tensor([log_sigma], dtype=torch.float64)
    _, C = bg.posterior(bg.expand((2 * level).exp()))
    for x in fields_of_both_signs(shape, 2):
        J = torch.autograd.functional.jacobian(lambda field: bg.filter(net(bg, field, level)[0], C), x[None])
        trace = net(bg, x[None], level, trace=True)[1]
        torch.testing.assert_close(trace[0], torch.trace(J.reshape(bg.volume, bg.volume)), rtol=1e-10, atol=1e-10)


def test_delta_force_is_the_force_without_the_gaussian_of_the_vacuum():
    bg, phi = gaussian(), fields_of_both_signs(SHAPE)
    linear = bg.filter(phi - bg.signs(phi) * M0, 1 / bg.G)
    exact = -torch.as_tensor(BROKEN.force(phi.numpy())) - linear
    torch.testing.assert_close(bg.delta_force(phi), exact, rtol=1e-12, atol=1e-12)
    # the baseline has this limit at vanishing noise
    R, _ = network(2, 0.0).double()(bg, phi, torch.tensor([-12.0], dtype=torch.float64))
    torch.testing.assert_close(R, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("v", [0.02, 0.3])
def test_all_targets_have_the_same_conditional_mean(v):
    """``E[T | x]`` on two sites by quadrature; at noise levels in use nothing of it is at the other vacuum."""
    action, G = TWO_SITES, np.array([0.08, 0.06])
    bg = GaussianReference(action, G, dtype=torch.float64, vacuum=2.8)
    grid = torch.linspace(-5, 1, 401, dtype=torch.float64).tolist()
    phi = torch.tensor(list(itertools.product(grid, repeat=2)), dtype=torch.float64)
    x = torch.tensor((-3.2, -2.3), dtype=torch.float64)
    z = (x - phi) / math.sqrt(v)
    weight = torch.softmax(-torch.as_tensor(action(phi.numpy())) - 0.5 * (z * z).sum(1), 0)
    variance = torch.full((1, 1), v, dtype=torch.float64)

    def mean(target):
        return (weight[:, None] * target).sum(0)

    stein, force, noise = (mean(t) for t in three_targets(bg, phi, z, variance))
    torch.testing.assert_close(stein, force, rtol=0, atol=1e-9)
    torch.testing.assert_close(noise, force, rtol=0, atol=1e-9)
    torch.testing.assert_close(mean(mixed_target(bg, phi, z, variance)), force, rtol=0, atol=1e-9)
    around_zero = GaussianReference(action, G, dtype=torch.float64)
    assert float((mean(around_zero.delta_force(phi)) - noise).abs().max()) > 1.0


# --- densities -------------------------------------------------------------------------------------------------------


def no_residual(gaussian, x, log_sigma, trace=False):
    return torch.zeros_like(x), torch.zeros(len(x), dtype=torch.float64) if trace else None


def test_without_a_network_the_density_is_the_mixture_of_two_gaussians():
    """R = 0: q is the mixture, in closed form, whatever the grid; and draws are draws of it."""
    bg = gaussian()
    flow = ProbabilityFlow(no_residual, bg, NoiseRange(0.1, 1.5).grid(1), scheme("rk4"))
    phi, log_q = flow.down(normal((200, *SHAPE), 4))
    covariance = np.array(
        [bg.filter(e, bg.G + 0.01).flatten().numpy() for e in torch.eye(24).double().reshape(-1, *SHAPE)]
    )
    peaks = [multivariate_normal(np.full(24, s * M0), covariance).logpdf(phi.flatten(1)) for s in (1, -1)]
    np.testing.assert_allclose(log_q, logsumexp(peaks, axis=0) - math.log(2), rtol=1e-10)
    back, same = flow.up(phi)
    np.testing.assert_allclose(back, normal((200, *SHAPE), 4), atol=1e-9)
    np.testing.assert_allclose(same, log_q, rtol=1e-12)
    signs = phi.mean((1, 2)).sign()
    assert abs(float(signs.mean())) < N_SIGMA / math.sqrt(200)


def test_density_of_one_site_integrates_to_one():
    """On both sides of zero together: half of it for each sign."""
    bg = GaussianReference(TWO_SITES, np.array([0.07]), dtype=torch.float64, vacuum=2.9)
    flow = ProbabilityFlow(network(1, 0.3).double(), bg, NoiseRange(0.05, 0.4).grid(12), scheme("rk4"))
    phi = torch.linspace(0.0005, 5, 5000, dtype=torch.float64)[:, None]
    for side in (phi, -phi):
        _, log_q = flow.up(side)
        assert float(torch.trapezoid(log_q.exp(), phi[:, 0])) == pytest.approx(0.5, abs=2e-3)


def test_compiled_flows_are_that_of_torch():
    bg, net = gaussian(dtype=torch.float32), network(2, 0.5)
    grid, method, y = NoiseRange(0.1, 1.5).grid(4), scheme("rk4"), normal((6, *SHAPE), 5)
    phi, log_q = ProbabilityFlow(net, bg, grid, method).down(y.float())
    fast, fast_log_q = CompiledFlow(net, bg, grid, method).down(y.numpy())
    np.testing.assert_allclose(fast, phi.numpy(), atol=1e-9)
    np.testing.assert_allclose(fast_log_q, log_q.numpy(), atol=2e-3)
    back, same = CompiledFlow(net, bg, grid, method).up(fast)
    np.testing.assert_allclose(back, y, atol=1e-2)  # the integration error of four steps
    np.testing.assert_allclose(same, fast_log_q, atol=1e-2)
    gradients = []
    for kind, field in ((DifferentiableFlow, phi.double()), (ProbabilityFlow, phi)):
        field = field.clone().requires_grad_()
        net.zero_grad()
        kind(net, bg, grid, method).up(field, gradients=True)[1].sum().backward()
        gradients.append([field.grad.double(), *(p.grad.clone().double() for p in net.parameters())])
    for one, other in zip(*gradients, strict=True):
        assert float((one - other).abs().max()) < 1e-3 * float(other.abs().max())


@pytest.mark.parametrize("route", [OdeProposal, SdeProposal])
@pytest.mark.parametrize("compiled", [True, False])
def test_weights_average_to_z(route, compiled):
    """E_q[exp(log_weight)] = Z by quadrature on two sites, for a bad network and peaks that even overlap."""
    action = OVERLAP
    grid = np.linspace(-4, 4, 801)
    S = np.array([action(np.stack([np.full_like(grid, a), grid], 1)) for a in grid])
    log_z = math.log(np.exp(-S).sum() * (grid[1] - grid[0]) ** 2)
    proposal = route(model((2,), 0.2, action, 1.4, np.array([0.25, 0.2]), (0.03, 0.6)), 12, compiled=compiled)
    draw = proposal.draw(2000, np.random.default_rng(6))
    if route is OdeProposal:
        assert np.isinf(draw.log_q).any()  # on the wrong side, and refused
    w = np.exp(-action(draw.phi) - draw.log_q - log_z)
    assert w.std() > 0.05  # the network is bad
    assert abs(w.mean() - 1) < N_SIGMA * w.std() / math.sqrt(len(w)) + 2e-3  # integration error of the ODE
    assert abs(w.mean() / 2 - 1) > 0.3  # without the probability of a sign
    again = proposal.weigh(draw.phi, np.random.default_rng(7))
    if route is OdeProposal:
        np.testing.assert_allclose(np.where(np.isinf(draw.log_q), np.inf, again), draw.log_q, atol=5e-3)


def test_noise_of_a_path_leads_back():
    proposal = SdeProposal(model(strength=0.3), 5)
    phi = fields_of_both_signs(SHAPE).numpy()
    noise, log_q = proposal.invert(phi, np.random.default_rng(8))
    draw = proposal.transport(noise)
    np.testing.assert_allclose(draw.phi, phi, atol=1e-9)
    np.testing.assert_allclose(draw.log_q, log_q, atol=1e-3)


def test_a_model_keeps_its_vacuum(tmp_path):
    made = model(strength=0.3)
    loaded = load_model(save_model(made, tmp_path / "model"))
    assert loaded.gaussian.vacuum == M0
    assert loaded.fingerprint() == made.fingerprint()
    assert model(strength=0.3, vacuum=0.0).fingerprint() != made.fingerprint()


# --- exact chains that tunnel ----------------------------------------------------------------------------------------


def reference_fields(L, n_updates):
    streams = Streams(3)
    kernel = Sequence([HMC(BROKEN, 0.15, 8), Cluster(BROKEN)])
    phi = np.where(np.arange(16) % 2, M0, -M0)[:, None, None] + np.zeros((1, L, L))
    state, _ = kernel.advance(kernel.start(phi), streams.child("warmup"), 100, 100)
    return kernel.advance(state._replace(update=0), streams.child("hmc"), n_updates, 5)[1].phi


def test_chain_agrees_with_clusters_and_tunnels():
    """4x4, an untrained network: the two Gaussians and the local cubic are an excellent proposal already."""
    reference = reference_fields(4, 2000)
    fields = reference.reshape(-1, 4, 4)
    vacuum = measured_vacuum([fields])
    G = measured_propagator([fields], (4, 4), vacuum)
    made = model((4, 4), vacuum=vacuum, propagator=G, sigmas=(0.03, 2.0))
    kernel, streams = IndependenceMetropolis(OdeProposal(made, 8), BROKEN), Streams(4)
    state, _ = kernel.advance(kernel.hot_start(20, streams), streams, 5, 5)
    _, block = kernel.advance(state, streams, 200)
    signs = np.sign(block.phi.mean((-1, -2))).reshape(200, 20)
    moved = block.info["accepted"].reshape(200, 20)[1:]
    assert moved.mean() > 0.9
    flips = (signs[1:] != signs[:-1])[moved]
    assert abs(flips.mean() - 0.5) < N_SIGMA * 0.5 / math.sqrt(len(flips))
    for observable in (lambda p: np.abs(p.mean((-1, -2))), lambda p: BROKEN(p.reshape(-1, 4, 4)) / 16):
        values = [observable(p).reshape(len(p), -1).mean(1) for p in (reference, block.phi)]
        errors = [v.std() / math.sqrt(len(v)) for v in values]  # neighbours are nearly independent in both
        assert abs(values[0].mean() - values[1].mean()) < N_SIGMA * math.hypot(*errors)


@pytest.mark.parametrize("array", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_the_zero_mode_keeps_all_digits_far_out(array):
    """``2 Q(u) = Q(z)`` against 60 digits, Q the tail of the normal law: no difference from 1, and no underflow."""
    mpmath = pytest.importorskip("mpmath")
    z = np.array([-25.0, -8.0, -1.0, -0.1, 0.1, 1.0, 5.0, 8.0, 9.0, 20.0, 29.99, 30.01, 38.0, 45.0, 1e3, 1e6])
    with mpmath.workdps(60):
        right = []
        for number in z:
            tail = mpmath.erfc(mpmath.mpf(number) / mpmath.sqrt(2)) / 4  # Q(u) = Q(z) / 2
            if number < 0:  # a tail near 1/2 is a small 1/2 - Q(u) = Phi(z) / 2
                small = mpmath.erfc(-mpmath.mpf(number) / mpmath.sqrt(2)) / 2
                right.append(mpmath.sqrt(2) * mpmath.erfinv(small))
            else:
                log_q = mpmath.log(tail)
                root = mpmath.findroot(
                    lambda u, log_q=log_q: mpmath.log(mpmath.erfc(u / mpmath.sqrt(2)) / 2) - log_q,
                    mpmath.sqrt(mpmath.mpf(number) ** 2 + 2 * mpmath.log(2)),
                )
                right.append(root)
        right = np.array([float(u) for u in right])
    u = np.asarray(_to_half(array(z)))
    # a rounded argument changes a tail exp(-z^2/2) by z^2 roundings; far out u is a root of its logarithm, and has none
    assert (np.abs(u - right) <= 2e-15 * np.where(z < 0, 1 + z**2, 1) * np.abs(right)).all()
    np.testing.assert_allclose(np.asarray(_from_half(array(right))), z, rtol=2e-15)


def test_the_zero_mode_lets_what_is_not_finite_be_seen():
    for array in (np.asarray, torch.as_tensor):
        there = np.asarray(_to_half(array(np.array([np.inf, np.nan]))))
        assert there[0] == np.inf and np.isnan(there[1])
