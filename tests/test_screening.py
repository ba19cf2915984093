"""Screening: one for all modes at small noise, small for long waves at large noise, and a trace that knows of it."""

import numpy as np
import pytest
import torch
from learned_toys import SHAPE, network, normal
from test_ordering import gaussian, level
from test_score import SHAPES, trace_by_jacobian

from latticediff.diffusion.compiled import CompiledRidge
from latticediff.gaussian.reference import GaussianReference
from latticediff.networks.ridge.conservative import ConservativeRidgeNetwork
from latticediff.networks.ridge.screening import screen


def screened(shape, **options):
    return network(len(shape), 0.7, screened=True, **options).double()


def posterior(bg, log_sigma):
    return bg.posterior(bg.expand((2 * level(log_sigma)).exp()))


def test_the_screen_is_one_at_small_noise_and_falls_with_the_susceptibility():
    bg = gaussian((8, 8))
    assert torch.allclose(screen(bg, posterior(bg, -8.0)[1]), torch.ones(1, 8, 8, dtype=torch.float64), atol=1e-5)
    C = posterior(bg, 6.0)[1]
    D, ratio = screen(bg, C).flatten(), (C / C.mean()).flatten()
    assert int(D.argmin()) == int(ratio.argmax()) == 0  # the zero mode
    # C D is bounded, whatever the susceptibility: five times its mean
    assert torch.allclose(D, 1.25 / (1 + 0.25 * ratio)) and bool((D * ratio <= 5).all())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ordered", [False, True])
def test_divergence_is_that_of_the_full_jacobian(shape, ordered):
    bg, net = gaussian(shape), screened(shape, ordered=ordered)
    x = normal((2, *shape), 1)
    for log_sigma in (-3.0, 0.4, 3.0):
        _, trace = net(bg, x, level(log_sigma), trace=True)
        for one, closed in zip(x, trace.detach(), strict=True):
            exact = trace_by_jacobian(bg, lambda f, s=log_sigma: net(bg, f, level(s))[0], one[None], level(log_sigma))
            assert float(closed) == pytest.approx(exact, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("ordered", [False, True])
def test_compiled_tables_are_screened_too(ordered):
    bg, net = gaussian((8, 8)), screened((8, 8), ordered=ordered)
    log_sigma = np.array([-2.0, 0.3, 2.5])
    ridge, x = CompiledRidge(net, bg, log_sigma), normal((3, 8, 8), 4)
    for i, s in enumerate(log_sigma):
        root = torch.sqrt(bg.G + bg.expand((2 * level(s)).exp()))
        with torch.no_grad():
            wanted = bg.to_modes(net(bg, x, level(s))[0]) * posterior(bg, s)[1] / root
        found = ridge.slope((bg.to_modes(x) / root).flatten(1).numpy(), i)
        # float32 inside
        assert np.abs(found - wanted.flatten(1).numpy()).max() < 2e-5 * max(1.0, float(wanted.abs().max()))


def test_local_parts_drive_the_zero_mode_less_by_the_screen():
    """Features and cubic together: without ordering the residual minus its linear part is multiplied by D(0)."""
    bg, net, plain = gaussian(SHAPE), screened(SHAPE), network(2, 0.7).double()
    plain.load_state_dict(net.state_dict())
    x = normal((3, *SHAPE), 2)
    W, C = posterior(bg, 1.0)
    linear = bg.to_modes(x) * W * bg.linear
    with torch.no_grad():
        with_it, without = (bg.to_modes(made(bg, x, level(1.0))[0]) - linear for made in (net, plain))
    assert torch.allclose(with_it, without * screen(bg, C), atol=1e-12)


def test_off_around_two_vacua_and_for_a_score_that_is_a_gradient():
    bg = GaussianReference(gaussian(SHAPE).action, gaussian(SHAPE).propagator_full, dtype=torch.float64, vacuum=3.0)
    assert screened(SHAPE).screen(bg, posterior(bg, 0.0)[1]) is None
    bg = gaussian(SHAPE)
    assert ConservativeRidgeNetwork(2, screened=True).screen(bg, posterior(bg, 0.0)[1]) is None


def test_the_option_is_told_and_absent_from_older_descriptions():
    assert screened(SHAPE).describe()["screened"] is True
    assert "screened" not in network(2, 0.0).describe()
