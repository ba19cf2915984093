r"""Laws of the objectives: all four have one gradient and differ by the constants of theory; traces agree.

Expectations are quadratures wherever that is possible (over the noise, with a sum over the data), so most laws
hold to rounding. Statistical tests use five standard errors: a correct code fails one number with
probability 6e-7.
"""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from learned_toys import QUARTIC, SHAPE, network, normal, some_propagator

from latticediff.diffusion.ladder import NoiseRange
from latticediff.errors import UserError
from latticediff.gaussian.reference import GaussianReference
from latticediff.networks.colouring import colouring
from latticediff.targets.matching import denoising_loss, mixed_target
from latticediff.targets.objectives import (
    TRACES,
    EmpiricalScore,
    ModelScore,
    closed_form,
    coloured_probes,
    denoising,
    draw_levels,
    explicit,
    fisher_divergence,
    free_score,
    full_jacobian,
    hutchinson,
    implicit,
    ladder_weights,
    objective,
    target,
)

N_SIGMA = 5
SIGMA = 0.6


class Perceptron(torch.nn.Module):
    """A small score on R^d that is nobody's gradient in particular."""

    def __init__(self, d, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.A = torch.nn.Parameter(torch.randn(d + 1, 7, generator=generator, dtype=torch.float64))
        self.B = torch.nn.Parameter(torch.randn(7, d, generator=generator, dtype=torch.float64))

    def forward(self, x, sigma):
        return torch.tanh(torch.cat([x, sigma[:, None]], 1) @ self.A) @ self.B - 0.3 * x


def noise_rule(step=0.15, reach=8.5):
    """Nodes and weights of a standard normal expectation.

    The trapezoidal rule: for functions analytic in a strip its error falls exponentially in 1 / step, which
    Gauss-Hermite's does not.
    """
    nodes = torch.arange(-reach, reach, step, dtype=torch.float64)
    weights = torch.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum()


def product(*rules):
    """Tensor product of one-dimensional rules: points (n, k) and weights (n,)."""
    points = torch.cartesian_prod(*[nodes for nodes, _ in rules])
    return points, torch.cartesian_prod(*[weights for _, weights in rules]).prod(1)


def mean_and_gradient(model, terms, weights):
    value = (weights * terms).sum()
    return value.item(), torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


# --- one gradient, constants of theory -------------------------------------------------------------------------------

POINTS = torch.tensor([[-1.1, 0.2], [0.3, 0.9], [1.4, -0.5]], dtype=torch.float64)


def noised_points():
    """Every (point, noise) of the empirical distribution with its weight; exact to rounding."""
    index = (torch.arange(3, dtype=torch.float64), torch.full((3,), 1 / 3, dtype=torch.float64))
    nodes, weights = product(index, noise_rule(), noise_rule())
    return POINTS[nodes[:, 0].long()], nodes[:, 1:], weights


def test_explicit_implicit_and_denoising_have_one_gradient_and_known_constants():
    phi, z, weights = noised_points()
    exact, model = EmpiricalScore(POINTS), Perceptron(2)
    esm, g_esm = mean_and_gradient(model, explicit(model, phi, z, SIGMA, exact=exact), weights)
    ism, g_ism = mean_and_gradient(model, implicit(model, phi, z, SIGMA), weights)
    dsm, g_dsm = mean_and_gradient(model, denoising(model, phi, z, SIGMA), weights)
    assert g_esm.norm() > 0.1
    torch.testing.assert_close(g_ism, g_esm, rtol=0, atol=1e-9)
    torch.testing.assert_close(g_dsm, g_esm, rtol=0, atol=1e-9)
    power = (weights * exact(phi + SIGMA * z, SIGMA).square().sum(1)).sum().item()
    assert ism - esm == pytest.approx(-0.5 * power, abs=1e-9)
    assert dsm - esm == pytest.approx(0.5 * (2 / SIGMA**2 - power), abs=1e-9)


def test_gradients_differ_when_the_noise_has_the_wrong_sign():
    phi, z, weights = noised_points()
    model = Perceptron(2)
    _, right = mean_and_gradient(model, denoising(model, phi, z, SIGMA), weights)
    x = phi + SIGMA * z
    wrong_terms = 0.5 * (model(x, torch.full((len(x),), SIGMA)) - z / SIGMA).square().sum(1)
    _, wrong = mean_and_gradient(model, wrong_terms, weights)
    assert (wrong - right).norm() > 0.1


MODES = EmpiricalScore(torch.tensor([[-1.2], [0.9]]).double(), weights=[0.3, 0.7], width=0.4)


def noised_mixture():
    """Clean field, noise and weight of a two-component mixture in one dimension."""
    index = (torch.arange(2, dtype=torch.float64), torch.tensor([0.3, 0.7], dtype=torch.float64))
    nodes, weights = product(index, noise_rule(), noise_rule())
    phi = MODES.data[nodes[:, 0].long()] + MODES.width * nodes[:, 1:2]
    return phi, nodes[:, 2:], weights


def test_target_score_matching_has_the_gradient_of_the_explicit_one():
    phi, z, weights = noised_mixture()
    model = Perceptron(1)
    _, g_esm = mean_and_gradient(model, explicit(model, phi, z, SIGMA, exact=MODES), weights)
    terms = target(model, phi, z, SIGMA, force=lambda field: MODES(field, 0.0))
    _, g_tsm = mean_and_gradient(model, terms, weights)
    assert g_esm.norm() > 0.1
    torch.testing.assert_close(g_tsm, g_esm, rtol=0, atol=1e-8)


def test_score_is_the_conditional_mean_of_force_and_of_noise():
    """Target score identity and Tweedie's formula, the posterior integrated on a grid."""
    phi = torch.linspace(-6, 6, 4001, dtype=torch.float64)[:, None]
    x = torch.tensor([[-1.5], [-0.2], [0.7], [2.1]], dtype=torch.float64)
    log_posterior = MODES.log_density(phi, 0.0) - (x - phi.T) ** 2 / (2 * SIGMA**2)
    weights = torch.softmax(log_posterior, 1)
    score = MODES(x, SIGMA)
    torch.testing.assert_close(weights @ MODES(phi, 0.0), score, rtol=0, atol=1e-10)
    torch.testing.assert_close(weights @ phi, x + SIGMA**2 * score, rtol=0, atol=1e-10)


def free_field(n, seed):
    gaussian = GaussianReference(QUARTIC, some_propagator(SHAPE), dtype=torch.float64)
    phi = gaussian.colour(normal((n, *SHAPE), seed), 0.0)
    return gaussian, phi, normal((n, *SHAPE), seed + 1)


def test_noised_free_field_gradients_agree_and_differ_by_the_closed_constant():
    gaussian, phi, z = free_field(2000, 1)
    model = ModelScore(network(2, 0.5).double(), gaussian)
    parameter = model.network.amplitude.bias
    exact = free_score(gaussian)
    difference = denoising(model, phi, z, SIGMA) - explicit(model, phi, z, SIGMA, exact=exact)
    constant = 0.5 * float((1 / SIGMA**2 - 1 / (gaussian.G + SIGMA**2)).sum())
    values = difference.detach()
    assert abs(values.mean() - constant) < N_SIGMA * values.std() / len(values) ** 0.5
    # gradients over independent batches, each compared with the scatter between them
    slices = [torch.autograd.grad(part.mean(), parameter, retain_graph=True)[0] for part in difference.split(50)]
    slices = torch.stack(slices)
    error = slices.std(0) / len(slices) ** 0.5
    assert float(error.min()) > 0 and bool((slices.mean(0).abs() < N_SIGMA * 1.1 * error).all())


def test_preconditioned_denoising_loss_is_the_plain_one_times_two_sigma_squared():
    gaussian, phi, z = free_field(5, 3)
    net = network(2, 0.5).double()
    log_sigma = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0], dtype=torch.float64)
    noise_only = lambda *args: mixed_target(*args, w0=np.inf)  # noqa: E731
    with torch.no_grad():
        trained = denoising_loss(net, gaussian, phi, z, log_sigma, noise_only)
        plain = denoising(ModelScore(net, gaussian), phi, z, log_sigma.exp())
    torch.testing.assert_close(trained, 2 * torch.exp(2 * log_sigma) * plain, rtol=1e-9, atol=0)


def test_score_becomes_the_force_when_the_noise_vanishes():
    gaussian, phi, _ = free_field(3, 5)
    force = torch.as_tensor(QUARTIC.force(phi.numpy()))
    errors = []
    for sigma in (1e-2, 1e-3):
        with torch.no_grad():
            errors.append(float((ModelScore(network(2, 0.0).double(), gaussian)(phi, sigma) - force).abs().max()))
    assert errors[1] < 1e-3 and errors[0] / errors[1] == pytest.approx(100, rel=0.1)  # O(sigma^2)


# --- Fisher divergence -----------------------------------------------------------------------------------------------


def test_fisher_divergence_of_two_free_fields():
    gaussian, phi, z = free_field(4000, 7)
    other = GaussianReference(QUARTIC, 1.3 * some_propagator(SHAPE), dtype=torch.float64)
    value, error = fisher_divergence(free_score(gaussian), free_score(other), phi + SIGMA * z, SIGMA)
    a, b = (1 / (one.G + SIGMA**2) for one in (gaussian, other))
    assert abs(value - 0.5 * float(((a - b) ** 2 / a).sum())) < N_SIGMA * error
    assert fisher_divergence(free_score(other), free_score(other), phi, SIGMA) == (0.0, 0.0)
    _, correlated = fisher_divergence(free_score(gaussian), free_score(other), phi + SIGMA * z, SIGMA, tau_int=2.0)
    assert correlated == pytest.approx(2 * error)


# --- traces ----------------------------------------------------------------------------------------------------------


class LocalNet(torch.nn.Module):
    """Two periodic 3x3 convolutions: reach 2."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.A = torch.nn.Parameter(torch.randn(5, 1, 3, 3, generator=generator, dtype=torch.float64))
        self.B = torch.nn.Parameter(torch.randn(1, 5, 3, 3, generator=generator, dtype=torch.float64))

    def forward(self, x, sigma):
        def pad(fields):
            return torch.nn.functional.pad(fields, (1, 1, 1, 1), mode="circular")

        hidden = torch.tanh(torch.conv2d(pad(x[:, None]), self.A) + sigma[:, None, None, None])
        return torch.conv2d(pad(hidden), self.B)[:, 0]


@pytest.mark.parametrize("shape", [(7, 10), (3, 6), (5, 4)])
def test_coloured_probes_are_exact_for_a_local_network(shape):
    x, sigma, model = normal((2, *shape), 1), torch.tensor([0.3, 0.9]).double(), LocalNet()
    with torch.no_grad():
        exact = full_jacobian(model, x, sigma)
        torch.testing.assert_close(coloured_probes(model, x, sigma, reach=2), exact, rtol=1e-12, atol=1e-12)
        # it can fail: a reach that is too small mixes neighbours in
        assert (coloured_probes(model, x, sigma, reach=1) - exact).abs().max() > 0.01


@pytest.mark.parametrize("shape", [(9,), (7, 10), (3, 6), (2, 5, 8)])
@pytest.mark.parametrize("reach", [0, 1, 2])
def test_colours_cover_every_site_once_and_keep_their_distance(shape, reach):
    masks = colouring(shape, reach).numpy()
    np.testing.assert_array_equal(masks.sum(0), 1)
    for mask in masks:
        sites = np.argwhere(mask)
        apart = np.abs(sites[:, None] - sites[None])
        apart = np.minimum(apart, np.array(shape) - apart).max(-1)
        assert apart[~np.eye(len(sites), dtype=bool)].min(initial=reach + 1) > reach


def test_number_of_colours_does_not_grow_with_the_volume():
    assert len(colouring((6, 6), 2)) == len(colouring((24, 48), 2)) == 9


def test_four_traces_agree_on_the_ridge_network():
    gaussian, x, _ = free_field(2, 9)
    model, sigma = ModelScore(network(2, 0.7).double(), gaussian), torch.tensor([0.2, 0.8]).double()
    with torch.no_grad():
        exact = full_jacobian(model, x, sigma)
        torch.testing.assert_close(closed_form(model, x, sigma), exact, rtol=1e-9, atol=1e-9)
        # spectral filters reach everywhere: so must the colouring
        torch.testing.assert_close(coloured_probes(model, x, sigma, reach=6), exact, rtol=1e-9, atol=1e-9)
        for slices in ("rademacher", "normal"):
            rng = np.random.default_rng(5)
            draws = torch.stack([hutchinson(model, x, sigma, rng=rng, slices=slices) for _ in range(100)])
            assert bool(((draws.mean(0) - exact).abs() < N_SIGMA * draws.std(0) / 10).all())


def test_trace_of_the_empirical_score():
    model, x = EmpiricalScore(POINTS, width=0.2), normal((4, 2), 3)
    torch.testing.assert_close(model.trace(x, SIGMA), full_jacobian(model, x, SIGMA), rtol=1e-9, atol=1e-9)


def test_every_trace_trains_implicit_score_matching():
    x, sigma = normal((3, 5, 4), 1), 0.5
    options = {"full_jacobian": {}, "coloured_probes": {"reach": 2}}
    gradients = []
    for name, option in options.items():
        model = LocalNet()
        loss = implicit(model, x, torch.ones_like(x), sigma, trace=lambda *a, n=name, o=option: TRACES[n](*a, **o))
        gradients.append(torch.autograd.grad(loss.mean(), model.A)[0])
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


# --- empirical distribution ------------------------------------------------------------------------------------------


def test_empirical_score_does_not_depend_on_the_blocks_of_the_data():
    data, x = np.random.default_rng(0).normal(size=(50, 2, 3)), normal((4, 2, 3), 1)
    whole = EmpiricalScore(data)(x, 0.3)
    torch.testing.assert_close(EmpiricalScore(data, block=7)(x, 0.3), whole, rtol=1e-12, atol=0)
    log_kernel = -((x[:, None].numpy() - data) ** 2).sum((2, 3)) / (2 * 0.3**2)
    kernel = np.exp(log_kernel)  # still far from underflow here
    wanted = (np.einsum("ni,iab->nab", kernel, data) / kernel.sum(1)[:, None, None] - x.numpy()) / 0.3**2
    np.testing.assert_allclose(whole, wanted, rtol=1e-10)


def test_empirical_score_survives_underflow_and_points_of_no_weight():
    data = torch.tensor([[100.0], [0.0], [1.0]]).double()
    x = torch.tensor([[0.4], [60.0]]).double()
    score = EmpiricalScore(data, weights=[0, 1, 1], block=1)(x, 1e-2)
    torch.testing.assert_close(score, (torch.tensor([[0.0], [1.0]]) - x) / 1e-4, rtol=1e-9, atol=0)


def test_empirical_score_is_the_gradient_of_its_log_density():
    model, x = EmpiricalScore(POINTS, weights=[1, 2, 3]), normal((5, 2), 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.log_density(x, 0.5).sum(), x)
    torch.testing.assert_close(model(x, 0.5).detach(), gradient, rtol=1e-9, atol=1e-12)


# --- noise levels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["independent", "antithetic", "stratified"])
def test_levels_are_uniform_and_spread_less_when_they_are_balanced(method):
    noise, rng = NoiseRange(0.1, 10.0), np.random.default_rng(1)
    u = np.stack([np.log10(draw_levels(noise, 16, rng, method).numpy()) for _ in range(1000)])
    # mean and second moment of the uniform law on [-1, 1], from batch means
    for power, wanted in ((1, 0.0), (2, 1 / 3)):
        batch = (u**power).mean(1)
        assert abs(batch.mean() - wanted) < N_SIGMA * batch.std() / 1000**0.5 + 1e-12
    spread = u.mean(1).std() * 4 * 3**0.5  # 1 for independent levels
    limits = {"independent": (0.85, 1.15), "antithetic": (0, 1e-12), "stratified": (0, 0.15)}
    assert limits[method][0] <= spread <= limits[method][1]


def test_likelihood_weights_make_the_ladder_an_integral_over_the_variance():
    noise, rng = NoiseRange(0.1, 2.0), np.random.default_rng(2)
    sigma = draw_levels(noise, 10**5, rng)
    low, high = noise.log_range
    assert float(ladder_weights(sigma).mean()) * (high - low) == pytest.approx(0.5 * (2.0**2 - 0.1**2), rel=1e-4)
    # levels drawn otherwise: uniform in sigma, whose density in log sigma is proportional to sigma
    other = torch.as_tensor(0.1 + 1.9 * (np.arange(10**5) + 0.5) / 10**5)
    density = other * (high - low) / 1.9
    assert float(ladder_weights(other, density=density).mean()) == pytest.approx(
        float(ladder_weights(sigma).mean()), 1e-4
    )
    assert float(ladder_weights(other, "sigma_squared", density).mean()) > 1.1 * float(ladder_weights(sigma).mean())
    assert bool((ladder_weights(sigma, "uniform_log_sigma") == 1).all())


# --- refusals --------------------------------------------------------------------------------------------------------


def test_objectives_refuse_what_they_cannot_use():
    model, phi = Perceptron(2), normal((3, 2), 1)
    bad = phi.clone()
    bad[1, 0] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        denoising(model, bad, phi, SIGMA)
    with pytest.raises(UserError, match="at least one configuration"):
        denoising(model, phi[:0], phi[:0], SIGMA)
    with pytest.raises(UserError, match="expected that of phi"):
        explicit(model, phi, phi[:2], SIGMA, exact=model)
    with pytest.raises(UserError, match="needs sigma > 0"):
        denoising(model, phi, phi, 0.0)
    with pytest.raises(UserError, match="negative or not finite"):
        implicit(model, phi, phi, -1.0)
    with pytest.raises(UserError, match="did you mean 'denoising'"):
        objective("denoise")
    with pytest.raises(UserError, match="at least 2"):
        fisher_divergence(model, model, phi[:1], SIGMA)
    with pytest.raises(UserError, match="no closed-form trace"):
        closed_form(model, phi, SIGMA)
    with pytest.raises(UserError, match="no derivative"):
        full_jacobian(lambda x, sigma: torch.zeros_like(x), phi, SIGMA)
    with pytest.raises(UserError, match="whole number"):
        coloured_probes(model, phi, SIGMA, reach=-1)
    with pytest.raises(UserError, match="probes"):
        hutchinson(model, phi, SIGMA, rng=np.random.default_rng(0), n_probes=0)


def test_empirical_score_refuses_what_it_cannot_use():
    with pytest.raises(UserError, match="at least 1"):
        EmpiricalScore(np.zeros((0, 2)))
    with pytest.raises(UserError, match="not finite"):
        EmpiricalScore(np.array([[np.nan, 0.0]]))(torch.zeros(1, 2), 1.0)
    with pytest.raises(UserError, match="weights"):
        EmpiricalScore(POINTS, weights=[1, 2])
    with pytest.raises(UserError, match="no score"):
        EmpiricalScore(POINTS)(POINTS, 0.0)
    with pytest.raises(UserError, match="expected"):
        EmpiricalScore(POINTS)(torch.zeros(1, 3), 1.0)


def test_levels_refuse_what_they_cannot_use():
    noise, rng = NoiseRange(0.1, 1.0), np.random.default_rng(0)
    with pytest.raises(UserError, match="did you mean 'stratified'"):
        draw_levels(noise, 4, rng, "stratify")
    with pytest.raises(UserError, match="batch of 0"):
        draw_levels(noise, 0, rng)
    with pytest.raises(UserError, match="weighting"):
        ladder_weights(torch.ones(2), "none")


# --- benchmark -------------------------------------------------------------------------------------------------------


def test_trace_benchmark_prints_its_rows(capsys, monkeypatch):
    script = str(Path(__file__).parent.parent / "benchmarks" / "trace_cost.py")
    monkeypatch.setattr(sys, "argv", [script, "--json", "--L", "4", "6", "--repeats", "1"])
    runpy.run_path(script, run_name="__main__")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["method"] for row in rows} == set(TRACES)
    assert all({"L", "volume", "backward_passes", "seconds", "score_evaluations"} <= row.keys() for row in rows)
