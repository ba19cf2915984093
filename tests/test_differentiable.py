"""Laws of the compiled flow's gradients: those of the same discrete map by automatic differentiation.

Networks have random weights. The inside of both flows is float32, so gradients agree to about 1e-4 of their size.
"""

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, SHAPE, network, normal, some_propagator

from latticediff._kernels import threads
from latticediff.action import Phi4
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import integrate, scheme
from latticediff.gaussian.reference import GaussianReference

SHAPES = [(5,), SHAPE, (24, 22), (2, 3, 4)]


def case(shape, method, n=5, steps=3, features=6):
    action = QUARTIC if len(shape) == 2 else Phi4.A(-2.0, 3.0, len(shape))
    gaussian = GaussianReference(action, some_propagator(shape))
    net = network(len(shape), 0.3, seed=3, features=features)
    grid = NoiseRange(0.1, 4.0).grid(steps)
    return net, gaussian, grid, scheme(method), normal((n, *shape), 5, torch.float32)


def by_autograd(net, gaussian, grid, method, x, up):
    """The two results of a passage, plain torch with gradients."""
    flow = ProbabilityFlow(net, gaussian, grid, method)
    v = float(np.exp(2 * grid[-1]))
    if up:
        y, integral = integrate(flow.slope, gaussian.whiten(x, v), grid[::-1], method)
        return y, flow._log_q(y, integral, v)
    low, integral = integrate(flow.slope, x, grid, method)
    return gaussian.colour(low, v), flow._log_q(x, -integral, v)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize(
    ("shape", "method"), [(shape, "rk4") for shape in SHAPES] + [(SHAPE, "dopri5"), (SHAPE, "adams5")]
)
def test_gradients_are_those_of_automatic_differentiation(shape, method, up):
    net, gaussian, grid, method, x = case(shape, method)
    upstream, weights = normal(x.shape, 6), normal((len(x),), 7)
    results = []
    for compiled in (True, False):
        start = x.clone().requires_grad_()
        if compiled:
            flow = DifferentiableFlow(net, gaussian, grid, method)
            end, log_q = (flow.up if up else flow.down)(start, gradients=True)
        else:
            end, log_q = by_autograd(net, gaussian, grid, method, start, up)
        loss = (end.double() * upstream).sum() + (log_q * weights).sum()
        results.append((end, log_q, *torch.autograd.grad(loss, (start, *net.parameters()))))
    for fast, plain in zip(*results, strict=True):
        plain = plain.double()
        torch.testing.assert_close(fast.double(), plain, rtol=2e-4, atol=2e-4 * float(plain.abs().max()))


def test_gradient_without_the_trace_is_another_one():
    """What `test_gradients_are_those_of_automatic_differentiation` would see if the trace were forgotten."""
    net, gaussian, grid, method, x = case(SHAPE, "rk4")
    flow = DifferentiableFlow(net, gaussian, grid, method)
    y, log_q = flow.up(x, gradients=True)
    full = torch.autograd.grad(log_q.sum(), net.A, retain_graph=True)[0]
    without = torch.autograd.grad(-0.5 * (y**2).sum(), net.A)[0]
    assert float((full - without).norm() / full.norm()) > 0.1


def test_passages_have_the_values_of_the_compiled_flow():
    net, gaussian, grid, method, x = case(SHAPE, "rk4")
    plain, flow = CompiledFlow(net, gaussian, grid, method), DifferentiableFlow(net, gaussian, grid, method)
    for fast, slow in zip(flow.up(x), plain.up(x.double().numpy()), strict=True):
        np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-5, atol=1e-5)
    for fast, slow in zip(flow.down(x), plain.down(x.double().numpy()), strict=True):
        np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-5, atol=1e-5)


def test_gradients_depend_neither_on_threads_nor_on_lanes_of_others(monkeypatch):
    """Bits: two threads and one; a batch whose last group is not full."""
    net, gaussian, grid, method, x = case(SHAPE, "rk4", n=21)
    found = []
    for small in (10**12, 0):
        monkeypatch.setattr(threads, "_SMALL", small)
        flow = DifferentiableFlow(net, gaussian, grid, method)
        log_q = flow.up(x, gradients=True)[1]
        found.append(torch.autograd.grad((log_q**2).sum(), (net.A, net.B)))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)


def test_gradient_by_the_fields_alone_is_the_same():
    net, gaussian, grid, method, x = case(SHAPE, "rk4")
    found = []
    for weights in (True, False):
        start = x.clone().requires_grad_()
        flow = DifferentiableFlow(net, gaussian, grid, method)
        found += torch.autograd.grad(flow.up(start, gradients=True, weights=weights)[1].sum(), start)
    assert torch.equal(*found)
