"""Laws of the diffusion room: noise ladder, Runge-Kutta orders, densities of the flow, weights of reverse paths.

Gaussian theories and one or two sites are compared with closed forms and quadrature. Statistical tests use
five standard errors: a correct code fails one number with probability 6e-7.
"""

import math

import numpy as np
import pytest
import torch
from learned_toys import FREE, SHAPE, model, network, normal, some_propagator

from latticediff.action import Phi4, free_log_z, free_propagator
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.reverse import FourierModes, ReverseProcess, score_power, step_covariances
from latticediff.diffusion.runge_kutta import SCHEMES, integrate, scheme
from latticediff.diffusion.steps import GaussianStep
from latticediff.errors import UserError
from latticediff.fourier import basis_from_momenta
from latticediff.gaussian.reference import GaussianReference

N_SIGMA = 5


# --- noise levels ----------------------------------------------------------------------------------------------------


def test_ladder_starts_at_the_field_and_ends_at_the_prior():
    noise = NoiseRange(0.1, 10.0)
    np.testing.assert_allclose(np.exp(noise.grid(2)), [10.0, 1.0, 0.1])
    np.testing.assert_allclose(noise.variances(3), [0.0, 0.01, 1.0, 100.0])
    np.testing.assert_allclose(noise.variances(2, first=1.0), [0.0, 1.0, 100.0])
    np.testing.assert_allclose(noise.variances(2, first=0.01), [0.0, 0.01, 100.0])  # no model below sigma_min


@pytest.mark.parametrize("sigmas", [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (math.nan, 1.0), (0.1, math.inf)])
def test_impossible_noise_ranges_are_refused(sigmas):
    with pytest.raises(UserError, match="expected 0 < sigma_min < sigma_max"):
        NoiseRange(*sigmas)


def test_too_few_steps_are_refused():
    with pytest.raises(UserError, match="at least 1"):
        NoiseRange(0.1, 1.0).grid(0)
    with pytest.raises(UserError, match="at least 2"):
        NoiseRange(0.1, 1.0).variances(1)
    with pytest.raises(UserError, match="expected one of rk4, dopri5, adams5"):
        scheme("euler")


# --- Runge-Kutta -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
def test_tableau_is_consistent(name):
    method = scheme(name)
    assert sum(method.weights) == pytest.approx(1)
    for node, row in zip(method.nodes, method.matrix, strict=True):
        assert sum(row) == pytest.approx(node)


@pytest.mark.parametrize("name", SCHEMES)
def test_order_on_an_equation_with_known_solution(name):
    """y' = y cos t, I' = y^2 cos t: y = exp(sin t), I = (y^2 - 1) / 2; both converge with the scheme's order."""
    method, errors, y_exact = scheme(name), [], math.exp(math.sin(2))
    for n in (32, 64):  # coarser, leading and next error of dopri5 are of one size
        y, integral = integrate(
            lambda y, t: (y * math.cos(t), y * y * math.cos(t)), 1.0, np.linspace(0, 2, n + 1), method
        )
        errors.append((abs(y - y_exact), abs(integral - (y_exact**2 - 1) / 2)))
    for coarse, fine in zip(*errors, strict=True):
        assert math.log2(coarse / fine) == pytest.approx(method.order, abs=0.7)


# --- probability flow ------------------------------------------------------------------------------------------------


def double_flow(shape, strength, steps, method="rk4", sigmas=(0.3, 3.0), action=None):
    action = action or Phi4.A(-1.0, 0.5, len(shape))
    bg = GaussianReference(action, some_propagator(shape), dtype=torch.float64)
    net = network(len(shape), strength).double()
    return ProbabilityFlow(net, bg, NoiseRange(*sigmas).grid(steps), scheme(method))


@pytest.mark.parametrize("name", SCHEMES)
def test_flow_converges_with_the_order_of_its_scheme(name):
    y, n = normal((3, *SHAPE), 1), 12
    (phi, log_q), (phi2, log_q2), (exact, log_exact) = (
        double_flow(SHAPE, 0.3, steps, name).down(y) for steps in (n, 2 * n, 16 * n)
    )
    order = scheme(name).order
    for coarse, fine, best in ((phi, phi2, exact), (log_q, log_q2, log_exact)):
        ratio = float((coarse - best).abs().max() / (fine - best).abs().max())
        assert math.log2(ratio) == pytest.approx(order, abs=0.7)


@pytest.mark.parametrize("shape", [(5,), SHAPE, (2, 3, 2)])
def test_inverse_flow_returns_noise_and_log_q(shape):
    """Tolerance: what doubling the steps changes, times ten."""
    y = normal((3, *shape), 2)
    flow, doubled = (double_flow(shape, 0.3, steps) for steps in (24, 48))
    phi, log_q = flow.down(y)
    back, log_q_back = flow.up(phi)
    phi2, log_q2 = doubled.down(y)
    tolerance = 10 * float((phi - phi2).abs().max())
    assert 0 < tolerance < 1e-3
    assert float((back - y).abs().max()) < tolerance
    assert float((log_q_back - log_q).abs().max()) < 10 * float((log_q2 - log_q).abs().max()) + 1e-12


def test_log_q_is_the_log_determinant_of_the_map():
    """Change of variables, no integral of traces: log q = log N(y) - log |det d phi / d y|, Jacobian by torch."""
    flow, y = double_flow((3, 2), 0.5, 24), normal((1, 3, 2), 3)
    _, log_q = flow.down(y)
    jacobian = torch.autograd.functional.jacobian(lambda noise: flow.down(noise, gradients=True)[0], y).reshape(6, 6)
    expected = -0.5 * float((y**2).sum()) - 3 * math.log(2 * math.pi) - float(torch.linalg.slogdet(jacobian)[1])
    assert log_q.item() == pytest.approx(expected, abs=1e-4)
    without_trace = flow._log_q(y, 0.0, math.exp(2 * flow.grid[-1]))
    assert abs(without_trace.item() - expected) > 0.1  # the tolerance above can tell


def test_free_field_flow_is_the_closed_form_gaussian():
    """R = 0: the flow is a filter and q = N(0, G + sigma_min^2), whatever the grid."""
    bg = GaussianReference(FREE, free_propagator(FREE, SHAPE), dtype=torch.float64)
    flow = ProbabilityFlow(network(2, 0.0).double(), bg, NoiseRange(0.1, 3.0).grid(1), scheme("rk4"))
    y = normal((3, *SHAPE), 4)
    phi, log_q = flow.down(y)
    np.testing.assert_allclose(flow.up(phi)[0], y, atol=1e-12)
    covariance = bg.propagator_full.numpy() + 0.01
    power = np.abs(np.fft.fftn(phi.numpy(), axes=(1, 2))) ** 2 / bg.volume
    expected = -0.5 * (power / covariance + np.log(2 * np.pi * covariance)).sum(axis=(1, 2))
    np.testing.assert_allclose(log_q, expected, rtol=1e-12)


# --- reverse SDE -----------------------------------------------------------------------------------------------------


def reverse(action, shape, strength, steps, sigmas=(0.1, 3.0), modes=FourierModes, propagator=None):
    """A reverse process in float64 with the step covariances of a Gaussian theory, its noise shape."""
    G = free_propagator(action, shape) if propagator is None else propagator
    bg = GaussianReference(action, G, dtype=torch.float64)
    variances = NoiseRange(*sigmas).variances(steps)
    covariances = step_covariances(G, variances, [1 / (G + v) for v in variances[1:]])
    layout = [torch.as_tensor(basis_from_momenta(f, shape)) for f in (*covariances, G + variances[-1])]
    fields = modes(network(len(shape), strength).double(), bg, variances)
    return ReverseProcess(fields, variances, [GaussianStep(fields, a) for a in layout[:-1]], layout[-1])


class Recorder(FourierModes):
    """Keeps the fields at which the score was asked for."""

    def score(self, x, i):
        self.path = {**getattr(self, "path", {}), i: x}
        return super().score(x, i)


def test_gaussian_step_covariance_is_the_conditional_one():
    """``x_{i-1} | x_i`` of a Gaussian theory: 1 / (1 / Delta + 1 / (G + v_{i-1}))."""
    G, variances = free_propagator(FREE, SHAPE), NoiseRange(0.1, 3.0).variances(5)
    covariances = step_covariances(G, variances, [1 / (G + v) for v in variances[1:]])
    for i, covariance in enumerate(covariances):
        delta = variances[i + 1] - variances[i]
        np.testing.assert_allclose(covariance, 1 / (1 / delta + 1 / (G + variances[i])), rtol=1e-12)
        assert step_covariances(G, variances, [np.full(SHAPE, 1e9)] * 5)[i].min() > 0  # a wild network


@pytest.mark.parametrize("shape", [(1,), (5,), SHAPE, (2, 3, 2)])
def test_every_path_of_the_free_field_weighs_z(shape):
    """The exact score of a Gaussian theory: each step is the true posterior, so log_weight = log Z for every path."""
    action = Phi4.A(0.8, 0.0, len(shape))
    process = reverse(action, shape, 0.0, 4)
    phi, log_q = process.down(normal((3, 5, *shape), 5))
    log_z = free_log_z(action, shape)
    np.testing.assert_allclose(-action(phi.numpy()) - log_q.numpy(), log_z, rtol=1e-11)
    phi = 3 * normal((3, *shape), 6)  # any field, not only proposals
    log_q = process.up(phi, normal((3, 4, *shape), 7))
    np.testing.assert_allclose(-action(phi.numpy()) - log_q.numpy(), log_z, rtol=1e-10)


def test_a_path_has_one_density_whichever_way_it_is_walked():
    process = reverse(FREE, SHAPE, 0.5, 6, modes=Recorder)
    phi, log_q = process.down(normal((3, 7, *SHAPE), 8))
    path = [phi] + [process.modes.path[i] for i in range(1, 7)]
    noise = [(path[i] - path[i - 1]) / math.sqrt(process.deltas[i - 1]) for i in range(1, 7)]
    np.testing.assert_allclose(process.up(phi, torch.stack(noise, 1)), log_q, rtol=1e-11)


@pytest.mark.parametrize("steps", [2, 8])
def test_path_weights_of_a_bad_network_average_to_z(steps):
    """E_q[exp(log_weight)] = Z and exact <|phi_k|^2> by importance, for random weights and any number of steps."""
    process, n = reverse(FREE, SHAPE, 0.5, steps), 10_000
    with torch.no_grad():
        phi, log_q = process.down(normal((n, steps + 1, *SHAPE), 9))
    log_weight = -FREE(phi.numpy()) - log_q.numpy() - free_log_z(FREE, SHAPE)
    assert log_weight.std() > 0.2  # the network is bad
    w = np.exp(log_weight)
    assert abs(w.mean() - 1) < N_SIGMA * w.std() / math.sqrt(n)
    G = free_propagator(FREE, SHAPE, half=True)
    power = np.abs(np.fft.rfftn(phi.numpy(), axes=(1, 2))) ** 2 / math.prod(SHAPE) - G

    def deviation(values):
        return np.abs(values.mean(axis=0) / values.std(axis=0)).max() * math.sqrt(n)

    assert deviation(w[:, None, None] * power) < N_SIGMA
    assert deviation(power) > 2 * N_SIGMA  # without the weight the test fails


def test_free_score_power_is_closed_form():
    """``<|s_k|^2> / V = 1 / (G + v)``."""
    bg = GaussianReference(FREE, free_propagator(FREE, SHAPE), dtype=torch.float64)
    with torch.no_grad():
        power = score_power(network(2, 0.0).double(), bg, normal((4, *SHAPE), 10), normal((4, *SHAPE), 11), 0.3)
    np.testing.assert_allclose(power, basis_from_momenta(1 / (free_propagator(FREE, SHAPE) + 0.3), SHAPE), rtol=1e-12)


def test_model_interpolates_score_power_in_log_sigma():
    made = model(FREE, SHAPE, 0.0, sigmas=(0.1, 1.6))
    made.power[1] *= 3
    G = free_propagator(FREE, SHAPE)
    for v, ratio in ((0.01, 1.0), (0.16, 2.0), (2.56, 3.0)):
        np.testing.assert_allclose(made.score_power([v])[0], ratio / (G + v), rtol=1e-12)
