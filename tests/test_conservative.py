"""Laws of the conservative ridge network: its score is a gradient, its trace is closed form, its twins agree."""

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, SHAPE, normal, some_propagator

from latticediff.action import Phi4
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.gaussian.reference import GaussianReference
from latticediff.networks.ridge.conservative import ConservativeRidgeNetwork
from latticediff.networks.ridge.network import RidgeNetwork

LEVEL = torch.tensor([-0.7], dtype=torch.float64)


def random_network(kind, ndim=2):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = kind(ndim, features=5, hidden=8)
        for p in net.amplitude.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return net


def jacobian(net, gaussian, x):
    """Of R at one field, (V, V), float64."""

    def residual(flat):
        return net(gaussian, flat.reshape(1, *gaussian.shape), LEVEL)[0].flatten()

    return torch.autograd.functional.jacobian(residual, x.flatten())


def asymmetry(kind, shape):
    """Largest antisymmetric element of W dR/dx, relative to the largest element."""
    action = QUARTIC if len(shape) == 2 else Phi4.A(-2.0, 3.0, len(shape))
    gaussian = GaussianReference(action, some_propagator(shape), dtype=torch.float64)
    net, x = random_network(kind, len(shape)).double(), normal(shape, 3)
    J = jacobian(net, gaussian, x)
    W, _ = gaussian.posterior(gaussian.expand((2 * LEVEL).exp()))
    WJ = torch.stack([gaussian.filter(column.reshape(shape), W[0]).flatten() for column in J.T], 1)
    return float((WJ - WJ.T).abs().max() / WJ.abs().max())


@pytest.mark.parametrize("shape", [(5,), SHAPE, (2, 3, 4)])
def test_score_is_a_gradient(shape):
    assert asymmetry(ConservativeRidgeNetwork, shape) < 1e-12


def test_score_of_the_plain_ridge_network_is_none():
    assert asymmetry(RidgeNetwork, SHAPE) > 1e-3


def test_trace_is_that_of_the_jacobian():
    gaussian = GaussianReference(QUARTIC, some_propagator(SHAPE), dtype=torch.float64)
    net, x = random_network(ConservativeRidgeNetwork).double(), normal(SHAPE, 3)
    J = jacobian(net, gaussian, x)
    _, C = gaussian.posterior(gaussian.expand((2 * LEVEL).exp()))
    CJ = torch.stack([gaussian.filter(column.reshape(SHAPE), C[0]).flatten() for column in J.T], 1)
    trace = net(gaussian, x[None], LEVEL, trace=True)[1]
    torch.testing.assert_close(trace[0], torch.trace(CJ), rtol=1e-10, atol=1e-10)


def test_compiled_flow_is_that_of_torch():
    gaussian = GaussianReference(QUARTIC, some_propagator(SHAPE))
    net = random_network(ConservativeRidgeNetwork).requires_grad_(False)
    grid, method, y = NoiseRange(0.1, 4.0).grid(3), scheme("rk4"), normal((3, *SHAPE), 4)
    phi, log_q = ProbabilityFlow(net, gaussian, grid, method).down(y.float())
    fast, fast_log_q = CompiledFlow(net, gaussian, grid, method).down(y.numpy())
    np.testing.assert_allclose(fast, phi.numpy(), atol=1e-4)
    np.testing.assert_allclose(fast_log_q, log_q.numpy(), atol=1e-3)
