"""Control variates: the three targets have one conditional mean, the blend keeps it and has the least variance."""

import itertools
import math

import numpy as np
import pytest
import torch

from latticediff.action import Phi4
from latticediff.diffusion.ladder import NoiseRange
from latticediff.gaussian.reference import GaussianReference
from latticediff.targets.control_variates import BlendedTarget, fit_blend, three_targets
from latticediff.targets.matching import mixed_target

ACTION = Phi4.H(0.25, 0.4, ndim=1)
GRID = torch.linspace(-4, 4, 161, dtype=torch.float64)


def gaussian():
    """Two sites with a propagator that is not the true one: targets must be unbiased for any G."""
    return GaussianReference(ACTION, np.array([1.3, 0.6]), dtype=torch.float64)


def posterior_means(target, x, v):
    """``E[T | x]`` on two sites by quadrature over phi; the trapezoidal rule converges exponentially here."""
    phi = torch.tensor(list(itertools.product(GRID.tolist(), repeat=2)), dtype=torch.float64)
    z = (x - phi) / math.sqrt(v)
    log_p = -torch.as_tensor(ACTION(phi.numpy())) - 0.5 * (z * z).sum(1)
    weight = torch.softmax(log_p, 0)
    variance = torch.full((1, 1), v, dtype=torch.float64)
    return (weight[:, None] * target(gaussian(), phi, z, variance)).sum(0)


@pytest.mark.parametrize("v", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("x", [(0.4, -1.1), (1.5, 0.9)])
def test_all_targets_have_the_same_conditional_mean(x, v):
    x = torch.tensor(x, dtype=torch.float64)
    stein, force, noise = (posterior_means(lambda *args, k=k: three_targets(*args)[k], x, v) for k in range(3))
    assert torch.allclose(stein, force, atol=1e-9)
    assert torch.allclose(noise, force, atol=1e-9)


def test_dropping_the_divergence_term_is_seen():
    """Without ``q' M_xx`` Stein's identity is broken and the means differ by far more than the quadrature error."""
    x, v = torch.tensor((0.4, -1.1), dtype=torch.float64), 0.5

    def broken(bg, phi, z, variance):
        W, C = bg.posterior(variance)
        y = bg.filter(phi + variance.sqrt() * z, W)
        c = bg.at_origin(C)
        h = 12 * ACTION.b * (y * y + c)
        h = 12 * ACTION.b * (y * y + c / (1 + c * h))
        return three_targets(bg, phi, z, variance)[0] - 4 * ACTION.b * c / (1 + c * h) * (y + 2 * phi)

    difference = posterior_means(broken, x, v) - posterior_means(mixed_target, x, v)
    assert float(difference.abs().max()) > 1e-2


def test_any_blend_is_unbiased():
    bg = gaussian()
    betas = torch.as_tensor(np.random.default_rng(3).normal(size=(5, 2, 2)))
    blend = BlendedTarget(math.log(0.05), math.log(3.0), betas)
    x = torch.tensor((0.7, -0.2), dtype=torch.float64)
    for v in (0.01, 0.3, 4.0):
        assert torch.allclose(posterior_means(blend, x, v), posterior_means(mixed_target, x, v), atol=1e-9)
    assert bg.volume == 2


def test_the_fitted_blend_beats_the_plain_targets_at_every_noise_level():
    """The conditional mean is common, so second moments order as variances do; 20,000 independent two-site fields."""
    rng = np.random.default_rng(11)
    grid = GRID.numpy()
    pairs = np.array(list(itertools.product(grid, repeat=2)))
    weight = np.exp(-ACTION(pairs))
    phi = pairs[rng.choice(len(pairs), 20_000, p=weight / weight.sum())]
    phi = torch.as_tensor(phi + rng.uniform(-0.5, 0.5, phi.shape) * (grid[1] - grid[0]))
    bg, noise = gaussian(), NoiseRange(0.02, 4.0)
    blend = fit_blend(bg, phi, noise)
    z = torch.as_tensor(rng.normal(size=phi.shape))
    for sigma in (0.03, 0.1, 0.4, 1.5):
        v = torch.full((1, 1), sigma**2, dtype=torch.float64)
        blended = float(blend(bg, phi, z, v).square().sum())
        others = [float(target.square().sum()) for target in three_targets(bg, phi, z, v)]
        # interpolation between fitted levels and sampling of the fit cost far less than a per cent
        assert blended < 1.005 * min(others)
        assert blended < 1.005 * float(mixed_target(bg, phi, z, v).square().sum())
