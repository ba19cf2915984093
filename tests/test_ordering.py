"""Normal ordering: means over the Gaussian field, the response that goes away, and what does not change."""

import numpy as np
import pytest
import torch
from learned_toys import SHAPE, network, normal, some_propagator
from scipy import integrate
from test_score import SHAPES, trace_by_jacobian

from latticediff.action import Phi4
from latticediff.diffusion.compiled import CompiledRidge
from latticediff.gaussian.baseline import implicit_baseline
from latticediff.gaussian.reference import GaussianReference
from latticediff.networks.ridge.core import ridge_core
from latticediff.networks.ridge.normal_ordering import (
    baseline_linear,
    feature_variance,
    gaussian_mean,
    slope_ratio,
    slope_weights,
)


def gaussian(shape):
    return GaussianReference(Phi4.A(-4.0, 6.008, len(shape)), some_propagator(shape), dtype=torch.float64)


def ordered(shape, **options):
    return network(len(shape), 0.7, ordered=True, **options).double()


def level(log_sigma):
    return torch.tensor([log_sigma], dtype=torch.float64)


def by_quadrature(function, s):
    def integrand(t):
        return function(s * t) * np.exp(-t * t / 2) / np.sqrt(2 * np.pi)

    return 2 * integrate.quad(integrand, 0, 12, points=[min(1 / s, 6), min(0.1 / s, 5)], limit=500, epsabs=1e-14)[0]


# --- means over the Gaussian field ------------------------------------------------------------------------------------


@pytest.mark.parametrize("s", [1e-3, 0.1, 0.7, 3.0, 30.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-6)])
def test_mean_slopes_are_those_of_quadrature(s, dtype, tolerance):
    first, second = slope_weights(torch.tensor([s], dtype=dtype))
    assert float(first) == pytest.approx(by_quadrature(lambda h: (1 + h * h) ** -1.5, s), rel=tolerance)
    assert float(second) == pytest.approx(
        by_quadrature(lambda h: h * h * (3 + h * h) / (1 + h * h) ** 2, s), rel=tolerance
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-6)])
def test_the_table_of_their_ratio_is_that_of_quadrature(dtype, tolerance):
    s = torch.tensor([1e-3, 0.02, 0.1, 0.7, 3.0, 30.0], dtype=dtype)
    first, second = slope_weights(s.double())
    assert torch.allclose(slope_ratio(s**2).double(), second / first, rtol=tolerance)


def test_the_table_has_the_gradient_of_the_ratio():
    for s in (0.05, 0.9, 12.0):
        variance = torch.tensor([s * s], dtype=torch.float64, requires_grad=True)
        slope_ratio(variance).backward()
        step = 1e-3 * s * s
        high, low = (slope_weights(torch.tensor([(s * s + d) ** 0.5], dtype=torch.float64)) for d in (step, -step))
        assert float(variance.grad) == pytest.approx(float(high[1] / high[0] - low[1] / low[0]) / (2 * step), rel=1e-5)


def test_mean_slopes_are_the_derivatives_of_the_features():
    h = torch.linspace(-4, 4, 33, dtype=torch.float64)[None, None].requires_grad_()
    for amplitudes, slope in (
        ((1.0, 0.0), (1 + h * h) ** -1.5),
        ((0.0, 1.0), h * h * (3 + h * h) / (1 + h * h) ** 2),
    ):
        one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        site = torch.arange(h.shape[-1])[None]
        out, _ = ridge_core(h, one, torch.tensor([[amplitudes]], dtype=torch.float64), one, site)
        assert torch.allclose(torch.autograd.grad(out.sum(), h)[0], slope, atol=1e-12)


def test_gaussian_mean_has_the_gradient_of_the_mean():
    s = torch.tensor([0.3, 2.0], dtype=torch.float64, requires_grad=True)
    gaussian_mean(lambda h: h * h, s).sum().backward()
    assert torch.allclose(s.grad, 2 * s.detach(), rtol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_variance_of_a_feature_is_that_of_its_linear_map(shape):
    """Columns of the whole map from white noise to h, on every site of the lattice."""
    bg, net = gaussian(shape), ordered(shape)
    log_sigma = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    v = bg.expand((2 * log_sigma).exp())
    inner, _ = net.filters(bg, v, bg.posterior(v)[0])
    gain_in, _, gain_out = net.coefficients(bg, log_sigma)
    kernels_in, _ = net.kernels(gain_in, gain_out)
    found = feature_variance(bg, inner, v, kernels_in, net.differences(bg))
    white = torch.eye(bg.volume, dtype=torch.float64).unflatten(1, shape)
    for n in range(2):
        fields = bg.from_modes(bg.to_modes(bg.colour(white, v[n]))[:, None] * inner[n]).flatten(2)
        h = torch.matmul(kernels_in[n].flatten(1), fields[:, :, net.taps(bg)].flatten(1, 2))
        variance = (h**2).sum(0)
        assert torch.allclose(variance, found[n][:, None].expand_as(variance), rtol=1e-9)


@pytest.mark.parametrize("log_sigma", [-2.0, 0.0, 2.0])
def test_counterterm_is_the_mean_slope_of_the_cubic(log_sigma):
    """Without noise in the field's own part, eta = 0, the baseline would keep no slope: by quadrature over y."""
    bg = gaussian(SHAPE)
    v = bg.expand((2 * level(log_sigma)).exp())
    W, C = bg.posterior(v)
    eta = bg.g_mean / (bg.g_mean + float(v))
    mean_slope = (eta * bg.linear - baseline_linear(bg, v, W, C)) / (1 - eta)
    width = float(bg.at_origin(W * bg.G)) ** 0.5
    c, q = float(bg.at_origin(C)), 4 * bg.action.b

    def slope(y):
        f = q * (y**3 + 3 * c * y) / (1 + 3 * q * c * y * y)
        return (3 * q * (y * y + c) - 6 * q * c * y * f) / (1 + 3 * q * c * y * y)

    assert torch.allclose(mean_slope, torch.full_like(mean_slope, by_quadrature(slope, width)), rtol=1e-7)


# --- what it is for ---------------------------------------------------------------------------------------------------


def responses(bg, net, log_sigma, n=4000):
    """``C(k) <R x>_k / (G + v)``, the growth of a mode per unit of log sigma, over Gaussian fields; and its errors."""
    v = bg.expand((2 * level(log_sigma)).exp())
    x = bg.colour(normal((n, *bg.shape), 3), v)
    with torch.no_grad():
        R = net(bg, x, level(log_sigma))[0]
    each = bg.to_modes(R) * bg.to_modes(x) / (bg.G + v) * bg.posterior(v)[1]
    return each.mean(0), each.std(0) / n**0.5


def test_no_mode_grows_at_large_noise():
    """Nearly nothing is left with ordering, whatever the weights; without it every mode is far from zero.

    What is left is of order eta = 2e-4 of what was there. Errors: 64 modes, 5 sigma, 4e-5 of false alarms.
    """
    bg, net = gaussian(SHAPE), ordered(SHAPE)
    plain = network(len(SHAPE), 0.7).double()
    plain.load_state_dict(net.state_dict())
    (with_it, error), (without, plain_error) = responses(bg, net, 3.0), responses(bg, plain, 3.0)
    assert (without.abs() > 5 * plain_error).any()
    assert (with_it.abs() < 5 * error + 0.01 * without.abs().max()).all()
    assert with_it.abs().max() < 0.05 * without.abs().max()


def test_at_small_noise_nothing_is_taken():
    """eta -> 1: the baseline is Delta F again, and a feature keeps the slope that the network names."""
    bg = gaussian(SHAPE)
    x, tiny = normal((2, *SHAPE), 1), torch.full((1, *([1] * bg.ndim)), 1e-12, dtype=torch.float64)
    W, C = bg.posterior(tiny)
    linear, local, _ = implicit_baseline(bg, bg.to_modes(x), W, C, linear=baseline_linear(bg, tiny, W, C))
    assert torch.allclose(bg.from_modes(linear) + local, bg.delta_force(x), atol=1e-8)


def test_an_untrained_network_is_the_ordered_baseline():
    bg, net = gaussian(SHAPE), network(2, 0.0, ordered=True).double()
    x, v = normal((2, *SHAPE), 1), bg.expand((2 * level(0.5)).exp())
    W, C = bg.posterior(v)
    linear, local, _ = implicit_baseline(bg, bg.to_modes(x), W, C, linear=baseline_linear(bg, v, W, C))
    assert torch.allclose(net(bg, x, level(0.5))[0], bg.from_modes(linear) + local, atol=1e-12)


def test_a_free_field_has_no_counterterm():
    bg = GaussianReference(Phi4.A(0.8, 0.0, 2), some_propagator(SHAPE), dtype=torch.float64)
    v = torch.full((1, 1, 1), 3 * bg.g_mean, dtype=torch.float64)
    assert torch.allclose(baseline_linear(bg, v, *bg.posterior(v)), bg.linear / 4)


# --- what does not change ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("log_sigma", [-3.0, 0.4, 3.0])
def test_divergence_is_that_of_the_full_jacobian(shape, log_sigma):
    bg, net = gaussian(shape), ordered(shape)
    x = normal((2, *shape), 1)
    _, trace = net(bg, x, level(log_sigma), trace=True)
    for one, closed in zip(x, trace.detach(), strict=True):
        exact = trace_by_jacobian(bg, lambda f: net(bg, f, level(log_sigma))[0], one[None], level(log_sigma))
        assert float(closed) == pytest.approx(exact, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("conditioned", [False, True])
def test_compiled_tables_are_ordered_too(conditioned):
    bg, net = gaussian((8, 8)), ordered((8, 8), conditioned=conditioned)
    log_sigma = np.array([-2.0, 0.3, 2.5])
    ridge = CompiledRidge(net, bg, log_sigma)
    x = normal((3, 8, 8), 4)
    for i, s in enumerate(log_sigma):
        v = bg.expand((2 * level(s)).exp())
        with torch.no_grad():
            R = net(bg, x, level(s))[0]
        C = bg.posterior(v)[1]
        wanted = (bg.to_modes(R) * C / torch.sqrt(bg.G + v)).flatten(1).numpy()
        y = (bg.to_modes(x) / torch.sqrt(bg.G + v)).flatten(1).numpy()
        found = ridge.slope(y, i)
        # float32 inside
        assert np.abs(found - wanted).max() < 2e-5 * max(1.0, np.abs(wanted).max())


def test_gradients_reach_every_weight_through_the_ordering():
    bg, net = gaussian(SHAPE), ordered(SHAPE)
    x = normal((2, *SHAPE), 1)

    def loss():
        return (net(bg, x, level(1.0))[0] ** 2).sum()

    loss().backward()
    weight = net.A
    direction = normal(weight.shape, 5)
    wanted = float((weight.grad * direction).sum())
    steps = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * 1e-5 * direction)
            steps.append(float(loss()))
            weight.sub_(sign * 1e-5 * direction)
    assert (steps[0] - steps[1]) / 2e-5 == pytest.approx(wanted, rel=1e-5)


def test_the_option_is_told_and_absent_from_older_descriptions():
    assert ordered(SHAPE).describe()["ordered"] is True
    assert "ordered" not in network(2, 0.0).describe()


def test_around_two_vacua_it_is_off():
    bg = GaussianReference(Phi4.A(-4.0, 6.008, 2), some_propagator(SHAPE), dtype=torch.float64, vacuum=3.0)
    net, plain = ordered(SHAPE), network(2, 0.7).double()
    plain.load_state_dict(net.state_dict())
    x = normal((2, *SHAPE), 1)
    assert torch.equal(net(bg, x, level(0.0))[0], plain(bg, x, level(0.0))[0])
