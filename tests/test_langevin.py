"""Laws of the samplers without density, on a Gaussian mixture whose score is exact at every level.

Five standard errors: a correct code fails one number with probability 6e-7.
"""

import numpy as np
import pytest
import torch

from latticediff.diffusion.langevin import annealed_langevin, predictor_corrector
from latticediff.errors import UserError
from latticediff.targets.objectives import EmpiricalScore

N_SIGMA, N_CHAINS = 5, 4000
MIXTURE = EmpiricalScore(np.array([[-2.0, 0.0], [2.0, 1.0]]), weights=[0.8, 0.2], width=0.3)
SIGMAS = np.exp(np.linspace(np.log(8.0), np.log(0.05), 16))


def start(seed, n=N_CHAINS):
    return torch.as_tensor(SIGMAS[0] * np.random.default_rng(seed).normal(size=(n, 2)))


def share_and_width(x):
    """Fraction of samples in the second mode, and the variance within the modes."""
    second = x[:, 0] > 0
    centre = torch.as_tensor(np.array([[-2.0, 0.0], [2.0, 1.0]]))[second.long()]
    return float(second.double().mean()), float((x - centre).square().mean())


def test_annealed_langevin_fills_both_modes_with_their_weights():
    # steps shrink with sigma^2: far below the width of a mode that width would stay frozen in from above
    sigmas = np.exp(np.linspace(np.log(8.0), np.log(0.2), 12))
    x = annealed_langevin(MIXTURE, start(1), sigmas, np.random.default_rng(2), n_steps=40, step=0.2)
    share, variance = share_and_width(x)
    assert abs(share - 0.2) < N_SIGMA * (0.16 / N_CHAINS) ** 0.5 + 0.02  # the ladder's own bias
    assert variance == pytest.approx(0.3**2 + 0.2**2, rel=0.1)


def test_plain_langevin_at_the_lowest_level_keeps_the_weights_it_started_with():
    """Without annealing the shares come from the start: why noise is needed at all."""
    x = start(1) / SIGMAS[0]
    x = annealed_langevin(MIXTURE, x, SIGMAS[-1:], np.random.default_rng(2), n_steps=400, step=0.2)
    assert abs(share_and_width(x)[0] - 0.2) > 0.1


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_stationary_variance_of_the_step_rule(step):
    gauss = EmpiricalScore(np.zeros((1, 1)))  # the noised point: variance sigma^2
    x = annealed_langevin(gauss, torch.zeros(20000, 1).double(), [0.7], np.random.default_rng(3), 60, step)
    wanted = 0.7**2 / (1 - step / 4)
    assert abs(float(x.square().mean()) - wanted) < N_SIGMA * wanted * (2 / 20000) ** 0.5


@pytest.mark.parametrize("n_corrector", [0, 2])
def test_predictor_corrector_fills_both_modes_with_their_weights(n_corrector):
    ladder = np.exp(np.linspace(np.log(8.0), np.log(0.05), 40))
    x = predictor_corrector(MIXTURE, start(4), ladder, np.random.default_rng(5), n_corrector)
    share, variance = share_and_width(x)
    assert abs(share - 0.2) < N_SIGMA * (0.16 / N_CHAINS) ** 0.5 + 0.02
    assert variance == pytest.approx(0.3**2 + 0.05**2, rel=0.15)


def test_predictor_alone_is_exact_for_a_single_point():
    """The ancestral step is the exact posterior of a point, whatever its size."""
    point = EmpiricalScore(np.array([[0.5]]))
    x = 0.5 + 3 * torch.as_tensor(np.random.default_rng(6).normal(size=(20000, 1)))
    x = predictor_corrector(point, x, [3.0, 0.4], np.random.default_rng(7), 0) - 0.5
    assert abs(float(x.square().mean()) - 0.16) < N_SIGMA * 0.16 * (2 / 20000) ** 0.5


def test_samplers_refuse_what_they_cannot_use():
    x, rng = start(1, 3), np.random.default_rng(0)
    with pytest.raises(UserError, match="descend"):
        annealed_langevin(MIXTURE, x, [0.1, 1.0], rng)
    with pytest.raises(UserError, match="positive"):
        annealed_langevin(MIXTURE, x, [1.0, 0.0], rng)
    with pytest.raises(UserError, match="step"):
        annealed_langevin(MIXTURE, x, [1.0], rng, step=5.0)
    with pytest.raises(UserError, match="ratio"):
        predictor_corrector(MIXTURE, x, [1.0, 0.5], rng, ratio=0.0)
