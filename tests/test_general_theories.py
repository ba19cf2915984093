"""Laws of the learned side for theories that are no phi^4: any polynomial, with or without phi -> -phi.

Statistical tests use five standard errors: a correct code fails one number with probability 6e-7.
"""

import numpy as np
import pytest
import torch
from learned_toys import network, normal, some_propagator
from metropolis_toys import without_divergence

from latticediff._kernels import adjoint
from latticediff.action import Modulated, Phi4, Polynomial, SineGordon
from latticediff.build.configurations import fresh_configurations, start_of
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.errors import UserError
from latticediff.gaussian.baseline import implicit_baseline
from latticediff.gaussian.local_response import local_part, local_spline, reach, with_slope
from latticediff.gaussian.propagator import measured_propagator, measured_vacuum, symmetrise
from latticediff.gaussian.reference import GaussianReference
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.networks.ridge.normal_ordering import baseline_linear
from latticediff.proposal import OdeProposal
from latticediff.streams import Streams
from latticediff.targets.control_variates import three_targets
from latticediff.training.data import TrainingData

N_SIGMA = 5
#: phi^6 that leans to one side
TILTED = Polynomial(1.0, [-0.15, 1.2, 0.1, -0.3, 0.0, 0.4])
EVEN = Polynomial(1.0, [0.0, 2.2, 0.0, -0.4, 0.0, 0.5])  #: phi^6, symmetric
THEORIES = [
    Polynomial(0.8, [-0.1, 1.5, 0.2, 0.3, 0.0, 0.1]),
    SineGordon(0.7, 0.9, 1.3, 0.4),
    Modulated(1.0, -0.45, 0.2, 0.25),
    Phi4.A(-4.0, 6.0),
]
SHAPES = [(6,), (4, 6), (2, 3, 2)]
#: theory, vacuum, one-sided on request: around zero, around a single vacuum of either sign, around two
CASES = {
    "even": (EVEN, 0.0, False),
    "tilted": (TILTED, 0.8, False),
    "other side": (TILTED, -0.8, False),
    "two vacua": (Polynomial(1.0, [0.0, 0.6, 0.0, 0.1, 0.0, 0.2]), 0.9, False),
    "one of two": (Phi4.A(-4.0, 3.0), 0.7, True),
}


def reference(case, shape, dtype=torch.float64):
    action, vacuum, one_sided = CASES[case]
    if isinstance(action, Phi4):
        action = Phi4.A(action.couplings["m2"], action.couplings["lam"], len(shape))
    else:
        action = Polynomial(action.hopping, action.powers, len(shape))
    return GaussianReference(action, 0.3 * some_propagator(shape), dtype=dtype, vacuum=vacuum, one_sided=one_sided)


def options(shape, **changes):
    return {"strength": 0.3, "ndim": len(shape), "ordered": True, "screened": True, **changes}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_trace_is_that_of_the_jacobian(case, shape):
    gaussian, net = reference(case, shape), network(**options(shape)).double()
    x = gaussian.vacuum + 0.5 * normal((1, *shape), 2)
    level = torch.tensor([-0.7], dtype=torch.float64)
    R, trace = net(gaussian, x, level, trace=True)
    _, C = gaussian.posterior((2 * level).exp().reshape(1, *[1] * len(shape)))
    jacobian = torch.autograd.functional.jacobian(lambda x: net(gaussian, x, level)[0], x)
    matrix = jacobian.reshape(gaussian.volume, gaussian.volume)
    expected = gaussian.filter(matrix.T.reshape(-1, *shape), C).reshape(gaussian.volume, -1).trace()
    torch.testing.assert_close(trace[0], expected, rtol=1e-9, atol=1e-9)
    assert bool(torch.isfinite(R).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_compiled_passages_are_those_of_torch(case, shape):
    gaussian, net = reference(case, shape), network(**options(shape))
    grid, method, noise = NoiseRange(0.1, 1.2).grid(8), scheme("rk4"), normal((5, *shape), 1)
    with torch.no_grad():
        phi, log_q = (t.numpy() for t in ProbabilityFlow(net.double(), gaussian, grid, method).down(noise))
    single = reference(case, shape, torch.float32)
    flow = CompiledFlow(net.float(), single, grid, method)
    found, density = flow.down(noise.numpy())
    np.testing.assert_allclose(found, phi, atol=2e-5)
    np.testing.assert_allclose(density, log_q, atol=2e-4)
    back, weighed = flow.up(found)
    np.testing.assert_allclose(back, noise.numpy(), atol=0.02)  # of the steps, not of the arithmetic
    taped, same = DifferentiableFlow(net.float(), single, grid, method).down(noise)
    np.testing.assert_allclose(taped.detach().numpy(), found, atol=2e-5)
    np.testing.assert_allclose(same.detach().numpy(), density, atol=2e-4)
    assert weighed.shape == (5,)


@pytest.mark.parametrize("case", ["even", "tilted"])
def test_gradients_are_those_of_automatic_differentiation(case):
    shape = (4, 6)
    gaussian, net, method = reference(case, shape, torch.float32), network(**options(shape)), scheme("rk4")
    grid, x = NoiseRange(0.1, 1.2).grid(3), gaussian.vacuum + 0.4 * normal((4, *shape), 5, torch.float32)
    weights, upstream, results = normal((4,), 7), normal((4, *shape), 6), []
    for kind in (DifferentiableFlow, ProbabilityFlow):
        start = x.clone().requires_grad_()
        end, log_q = kind(net, gaussian, grid, method).up(start, gradients=True)
        loss = (end.double() * upstream).sum() + (log_q * weights).sum()
        results.append((end, log_q, *torch.autograd.grad(loss, (start, *net.parameters()))))
    for fast, plain in zip(*results, strict=True):
        plain = plain.double()
        torch.testing.assert_close(fast.double(), plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 1), (3, 2)])
def test_gradients_keep_within_their_arrays(inputs, outputs, monkeypatch):
    """The kernel as plain Python, which refuses an index beyond an array; with two inputs it once wrote beyond one."""
    backward = adjoint.backward.py_func  # with globals of its own
    monkeypatch.setitem(backward.__globals__, "slope_backward", adjoint.slope_backward.py_func)
    monkeypatch.setattr(adjoint, "backward", backward)
    shape, method, results = (4, 2), scheme("rk4"), []
    gaussian, net = reference("even", shape, torch.float32), network(**options(shape), inputs=inputs, outputs=outputs)
    grid, x, weights = NoiseRange(0.1, 1.2).grid(1), 0.4 * normal((4, *shape), 5, torch.float32), normal((4,), 7)
    for kind in (DifferentiableFlow, ProbabilityFlow):
        log_q = kind(net, gaussian, grid, method).up(x, gradients=True)[1]
        results.append(torch.autograd.grad((log_q * weights).sum(), tuple(net.parameters())))
    for fast, plain in zip(*results, strict=True):
        plain = plain.double()
        torch.testing.assert_close(fast.double(), plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))


def test_the_spline_has_the_values_and_slopes_of_the_function():
    gaussian = reference("tilted", (4, 6))
    c = torch.tensor([0.003, 0.1, 0.4], dtype=torch.float64)
    spline = local_spline(gaussian, c)
    low, high = reach(gaussian)
    y = torch.linspace(low, high, 4001, dtype=torch.float64)
    value, slope = (t.detach() for t in with_slope(gaussian, y.expand(3, -1), c[:, None], 1.0))
    place = (y.numpy() - spline.low) * spline.inverse_width
    piece = np.clip(place.astype(int), 0, spline.coefficients.shape[1] - 1)
    t, (c3, c2, c1, c0) = place - piece, np.moveaxis(spline.coefficients[:, piece], -1, 0)
    np.testing.assert_allclose(((c3 * t + c2) * t + c1) * t + c0, value.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        ((3 * c3 * t + 2 * c2) * t + c1) * spline.inverse_width, slope.numpy(), rtol=2e-3, atol=2e-2
    )


def test_the_local_part_is_the_residual_force_without_noise_and_grows_linearly():
    gaussian = reference("tilted", (4, 6))
    y = torch.linspace(-3, 3, 101, dtype=torch.float64)
    nothing = torch.tensor(1e-12, dtype=torch.float64)
    exact = gaussian.action.local_force(y, 0.0, gaussian.vacuum) + gaussian.tilt
    torch.testing.assert_close(local_part(gaussian, y, nothing, 1.0), exact, rtol=1e-6, atol=1e-6)
    far = torch.tensor([1e3, 2e3], dtype=torch.float64)
    small, large = local_part(gaussian, far, torch.tensor(0.1, dtype=torch.float64), 1.0)
    assert 1.9 < float(large / small) < 2.1


def test_targets_have_one_conditional_mean():
    """``<T x> `` of Stein's, the force's and the noise's target agree, for a well that leans to one side."""
    g = [-0.4, 1.0, 0.2, 0.3]
    action, n = Polynomial(0.0, g, 1), 400_000  # one site: exact fields by inversion of the distribution function
    grid = np.linspace(-5, 5, 20_001)
    weight = np.exp(-action.potential(grid))
    rng = np.random.default_rng(3)
    phi = np.interp(rng.random(n), np.cumsum(weight) / weight.sum(), grid)
    gaussian = GaussianReference(action, np.array([phi.var()]), dtype=torch.float64, vacuum=float(phi.mean()))
    z, v = torch.as_tensor(rng.standard_normal((n, 1))), torch.full((1, 1), 0.3, dtype=torch.float64)
    fields = torch.as_tensor(phi[:, None])
    targets = [target.numpy().ravel() for target in three_targets(gaussian, fields, z, v)]
    x = (fields + v.sqrt() * z).numpy().ravel()
    for test in (np.ones(n), x, x**2, np.tanh(3 * x)):
        for one, other in ((0, 1), (1, 2)):
            difference = (targets[one] - targets[other]) * test
            assert abs(difference.mean()) < N_SIGMA * difference.std() / np.sqrt(n)
    assert targets[0].var() < 0.9 * targets[1].var()  # what the control variate is for


def test_normal_ordering_takes_the_linear_response_off():
    """<x R_0> = 0 at large noise, where R_0 is the baseline with its counterterm."""
    shape, v = (4, 6), torch.full((1, 1, 1), 400.0, dtype=torch.float64)
    gaussian = reference("even", shape)
    W, C = gaussian.posterior(v)
    x = gaussian.colour(normal((4000, *shape), 4), v)
    linear, local, _ = implicit_baseline(
        gaussian, gaussian.to_modes(x), W, C, linear=baseline_linear(gaussian, v, W, C)
    )
    y = gaussian.filter(x, W)
    with_counterterm = (y * (gaussian.from_modes(linear) + local)).mean()
    alone = (y * local).mean()
    assert abs(float(with_counterterm / alone)) < 0.05


def exact_moments(action):
    """``<phi>, <phi^2>`` of a site of a ring of two, by quadrature."""
    x = np.linspace(-4, 4, 801)
    a, b = np.meshgrid(x, x, indexing="ij")
    S = action(np.stack([a, b], -1).reshape(-1, 2)).reshape(a.shape)
    weight = np.exp(-(S - S.min()))
    return [(weight * f).sum() / weight.sum() for f in (a, a**2)]


#: rings of two sites with their exact propagators, at total momentum 0 and pi
RINGS = {
    "even": (Polynomial(0.2, [0.0, 0.1, 0.0, 0.5, 0.0, 0.3], 1), 0.0, [0.3938, 0.2993]),
    "tilted": (Polynomial(0.2, [-0.6, 0.1, 0.2, 0.5, 0.0, 0.3], 1), 0.1747, [0.3702, 0.2851]),
}


def two_sites(case):
    action, vacuum, propagator = RINGS[case]
    gaussian, noise = GaussianReference(action, np.array(propagator), vacuum=vacuum), NoiseRange(0.05, 3.0)
    net = network(**options((2,), strength=0.5))
    return ScoreModel(net, gaussian, noise, np.array(noise.log_range), np.ones((2, 2)))


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("case", ["even", "tilted"])
def test_chains_are_exact(case, honest):
    """Against quadrature; without the divergence of the network the chain is seen to be wrong."""
    model, n_chains = two_sites(case), 400
    proposal = OdeProposal(model, 24)
    kernel = IndependenceMetropolis(proposal if honest else without_divergence(proposal), model.action)
    state = kernel.start(0.5 * np.random.default_rng(1).standard_normal((n_chains, 2)))
    state, _ = kernel.advance(state, Streams(2).child("burn"), 60, 60)
    _, block = kernel.advance(state._replace(update=0), Streams(2).child("chain"), 150)
    deviations = []
    for power, exact in zip((1, 2), exact_moments(model.action), strict=True):
        means = (block.phi**power).mean(axis=(0, 2))
        deviations.append(abs(means.mean() - exact) / (means.std(ddof=1) / np.sqrt(n_chains)))
    assert bool(max(deviations) < N_SIGMA) is honest  # the wrong ones are 16 and 22 away


def test_a_model_around_a_single_vacuum_is_kept(tmp_path, monkeypatch):
    gaussian = reference("one of two", (4, 6), torch.float32)
    noise, net = NoiseRange(0.05, 2.0), network(**options((4, 6)))
    model = ScoreModel(net, gaussian, noise, np.array(noise.log_range), np.ones((2, 4, 6)))
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.fingerprint() == model.fingerprint() and loaded.gaussian.phase == "single"
    both = GaussianReference(gaussian.action, gaussian.propagator_full, vacuum=gaussian.vacuum)
    other = ScoreModel(net, both, noise, np.array(noise.log_range), np.ones((2, 4, 6)))
    assert other.fingerprint() != model.fingerprint()
    draws = OdeProposal(loaded, 8).draw(200, np.random.default_rng(1))
    assert (draws.phi.mean((1, 2)) > 0).mean() > 0.9  # never a sign drawn
    said = (tmp_path / "model" / "card.toml").read_text()
    (tmp_path / "model" / "card.toml").write_text(said.replace('phase = "single"\n', ""))
    with pytest.raises(Exception, match=r"altered|damaged|hash"):
        load_model(tmp_path / "model")


def test_a_single_vacuum_is_measured_with_its_sign():
    rng = np.random.default_rng(2)
    phis = 0.1 * rng.standard_normal((500, 4, 4)) - 0.6
    assert abs(measured_vacuum([phis], one_sided=True) + 0.6) < 0.01
    assert abs(measured_vacuum([phis]) - 0.6) < 0.01
    connected = measured_propagator([phis], (4, 4), -0.6, one_sided=True)
    np.testing.assert_allclose(connected, 0.01, rtol=0.3)
    assert measured_propagator([phis], (4, 4), 0.6, one_sided=True)[0, 0] > 10  # the sign matters


def test_what_cannot_be_expanded_is_refused():
    with pytest.raises(UserError, match=r"vacuum is -0.5; expected <\|m\|> of the broken phase"):
        GaussianReference(EVEN, some_propagator((4, 4)), vacuum=-0.5)

    class Falling(Polynomial):
        def local_force(self, phi, variance=0.0, vacuum=0.0):
            return -1.6 * phi**3

    with pytest.raises(UserError, match="nothing holds the field"):
        reach(GaussianReference(Falling(1.0, [0.0, 2.2]), some_propagator((4, 4))))


def test_only_symmetries_of_the_couplings_are_used():
    anisotropic = Polynomial(hopping=[1.0, 0.4], coefficients=[0.0, 2.0, 0.0, 0.3])
    form, shape = anisotropic.quadratic_form((4, 4)), (4, 4)
    noise = np.random.default_rng(1).random(shape)
    kept = symmetrise(noise, form=form)
    assert abs(kept - kept.T).max() > 0.01 and abs(symmetrise(noise) - symmetrise(noise).T).max() < 1e-12
    phis = np.random.default_rng(2).standard_normal((16, *shape))
    assert len(TrainingData(phis, 4, 0.25, theory=anisotropic).symmetries) == 4
    assert len(TrainingData(phis, 4, 0.25, theory=Polynomial(1.0, [0.0, 2.0, 0.0, 0.3])).symmetries) == 8
    one_diagonal = Polynomial(1.0, [0.0, 4.0, 0.0, 0.3], links=[((1, 1), 0.5)])
    with pytest.raises(UserError, match=r"K\(k\) changes under k_1 -> -k_1; .* both diagonals"):
        GaussianReference(one_diagonal, some_propagator(shape))
    both = Polynomial(1.0, [0.0, 4.0, 0.0, 0.3], links=[((1, 1), 0.5), ((1, -1), 0.5)])
    assert GaussianReference(both, some_propagator(shape)).is_cubic is False


@pytest.mark.parametrize("theory", THEORIES, ids=lambda theory: type(theory).__name__)
def test_expansions_are_the_derivative_of_the_action(theory):
    """K * phi + F is dS/dphi, around zero and around a vacuum; averages are those of quadrature."""
    phi = 0.7 * np.random.default_rng(3).standard_normal((2, 4, 4)) + 0.2
    linear = np.fft.ifft2(np.fft.fft2(phi) * theory.quadratic_form((4, 4))).real
    force = linear + theory.local_force(phi)
    np.testing.assert_allclose(force, -theory.force(phi), rtol=1e-10, atol=1e-10)
    gaussian = GaussianReference(theory, some_propagator((4, 4)), dtype=torch.float64, vacuum=0.4, one_sided=True)
    whole = gaussian.delta_force(torch.as_tensor(phi)) + gaussian.filter(torch.as_tensor(phi - 0.4), 1 / gaussian.G)
    np.testing.assert_allclose(whole.numpy(), force, rtol=1e-9, atol=1e-9)
    eta, weight = np.polynomial.hermite_e.hermegauss(60)
    weight = weight / weight.sum()
    for function in (theory.local_force, theory.local_curvature):
        averaged = (weight * function(phi[..., None] + np.sqrt(0.3) * eta)).sum(-1)
        np.testing.assert_allclose(function(phi, 0.3), averaged, rtol=1e-9, atol=1e-9)


def test_configurations_to_compare_with_begin_in_the_only_vacuum():
    """Chains that begin elsewhere would stay in a phase that the model is not of."""
    deep = Polynomial(1.0, [0.0, 0.6, 0.0, 0.25])
    noise, G = NoiseRange(0.05, 2.0), 0.2 * some_propagator((6, 6))
    for vacuum, one_sided, sign in ((1.6, True, 1), (-1.6, True, -1), (1.6, False, 0)):
        gaussian = GaussianReference(deep, G, vacuum=vacuum, one_sided=one_sided)
        model = ScoreModel(network(2, 0.1), gaussian, noise, np.array(noise.log_range), np.ones((2, 6, 6)))
        assert start_of(model) == (vacuum if one_sided else "hot")
        if sign:
            phis = fresh_configurations(deep, (6, 6), 40, Streams(3), start_of(model))
            assert (np.sign(phis.mean((-1, -2))) == sign).all()
