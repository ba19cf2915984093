"""Laws of the noise processes: variance preserving is variance exploding in scaled coordinates, exactly.

Statistical tests use five standard errors: a correct code fails one number with probability 6e-7.
"""

import math

import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, SHAPE, model, normal
from scipy.integrate import quad

from latticediff.action import Phi4, free_log_z
from latticediff.diffusion.process import PROCESSES, VarianceExploding, VariancePreserving, process
from latticediff.diffusion.samplers import euler_maruyama, probability_flow
from latticediff.errors import UserError
from latticediff.proposal import SdeProposal

N_SIGMA = 5
BOTH = [VarianceExploding(), VariancePreserving(0.7)]
VP = VariancePreserving(0.7)


def test_the_variance_of_a_field_of_one_unit_is_preserved():
    for ratio in (0.0, 0.1, 1.0, 30.0):
        assert VP.unit**2 * VP.alpha(ratio) ** 2 + VP.sigma(ratio) ** 2 == pytest.approx(1, rel=1e-14)
        assert VP.ratio(VP.sigma(ratio)) == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("made", BOTH, ids=lambda p: p.name)
def test_transitions_compose_to_the_marginal(made):
    """``x_2 | x_0``: rho multiplies, variances add after scaling; from alpha, sigma of the levels alone."""
    levels = (0.2, 0.9, 4.0)
    (rho_1, beta_1), (rho_2, beta_2) = made.transition(*levels[:2]), made.transition(*levels[1:])
    rho, beta = made.transition(levels[0], levels[2])
    assert rho_1 * rho_2 == pytest.approx(rho, rel=1e-14)
    assert rho_2**2 * beta_1 + beta_2 == pytest.approx(beta, rel=1e-14)
    assert rho**2 * made.sigma(0.2) ** 2 + beta == pytest.approx(made.sigma(4.0) ** 2, rel=1e-14)


@pytest.mark.parametrize("made", BOTH, ids=lambda p: p.name)
def test_rates_are_the_limit_of_transitions(made):
    drift, variance = made.rates(1.0, 1.0001)
    rho, beta = made.transition(1.0, 1.0001)
    assert -drift == pytest.approx(math.log(rho), abs=1e-12)
    assert variance == pytest.approx(beta, rel=1e-3)
    assert -drift / math.log(1.0001) == pytest.approx(made.log_slope(1.0), abs=1e-4)


def test_the_score_of_the_scaled_density_is_the_mapped_score():
    """phi of two Gaussians: density and score of ``alpha phi + sigma z`` written out, against the map."""
    centres, width, ratio = np.array([-1.0, 0.4]), 0.3, 0.6

    def log_density(x, alpha, sigma):
        variance = (alpha * width) ** 2 + sigma**2
        x = torch.as_tensor(x)[..., None] - alpha * torch.as_tensor(centres)
        return torch.logsumexp(-(x**2) / (2 * variance), -1) - 0.5 * math.log(2 * math.pi * variance)

    def score(x, alpha, sigma):
        x = torch.as_tensor(x, dtype=torch.float64).requires_grad_(True)
        return torch.autograd.grad(log_density(x, alpha, sigma).sum(), x)[0]

    x = np.linspace(-2, 2, 9)
    alpha, sigma = VP.alpha(ratio), VP.sigma(ratio)
    mapped = VP.score(lambda y, r: score(y, 1.0, r), torch.as_tensor(x), ratio)
    np.testing.assert_allclose(mapped, score(x, alpha, sigma), rtol=1e-12)
    exploding = log_density(VP.to_exploding(x, ratio), 1.0, ratio)
    np.testing.assert_allclose(log_density(x, alpha, sigma), exploding - math.log(alpha), rtol=1e-12)
    np.testing.assert_allclose(VP.from_exploding(VP.to_exploding(x, ratio), ratio), x, rtol=1e-14)
    assert float((VP.score(lambda y, r: score(y, 1.0, r), torch.as_tensor(x), 0.7) - mapped).abs().max()) > 0.1


@pytest.mark.parametrize("made", BOTH, ids=lambda p: p.name)
def test_samplers_reach_the_same_field_in_either_process(made):
    """The flow is the same curve; 400 steps of order 4 leave nothing. Euler-Maruyama: variance of a Gaussian field."""
    levels = np.geomspace(3.0, 0.2, 401)

    def score(x, sigma):
        return -x / (0.5 + sigma[:, None] ** 2)

    start = made.from_exploding(normal((5, 1), 1) * 3, levels[0])
    end = made.to_exploding(probability_flow(score, start, levels, process=made), levels[-1])
    exact = normal((5, 1), 1) * 3 * math.sqrt((0.5 + 0.04) / (0.5 + 9.0))
    np.testing.assert_allclose(end, exact, rtol=1e-8)
    n = 20_000
    start = made.from_exploding(normal((n, 1), 2) * math.sqrt(9.5), levels[0])
    end = made.to_exploding(euler_maruyama(score, start, levels, np.random.default_rng(3), made), levels[-1])
    # 1 % is left for the step size; without the drift of the process it would be tens of per cent
    assert abs(float(end.var()) / 0.54 - 1) < N_SIGMA * math.sqrt(2 / n) + 0.01


def test_a_path_weighs_the_same_in_either_process():
    """The same noise gives the same field and log_q: the factors alpha cancel along the path."""
    made = model(QUARTIC, SHAPE, 0.3)
    one, other = (SdeProposal(made, steps=5, process=name, compiled=False) for name in PROCESSES)
    noise = np.random.default_rng(4).standard_normal((3, *one.noise_shape))
    a, b = one.transport(noise), other.transport(noise)
    np.testing.assert_allclose(a.phi, b.phi, atol=1e-5)  # the network rounds its input to float32
    np.testing.assert_allclose(a.log_q, b.log_q, atol=1e-3)
    assert one.fingerprint() != other.fingerprint()


def test_every_path_of_the_free_field_weighs_z_in_the_preserving_process():
    proposal = SdeProposal(model(FREE, SHAPE, 0.0), steps=5, process="variance_preserving")
    draw = proposal.draw(4, np.random.default_rng(5))
    np.testing.assert_allclose(-FREE(draw.phi) - draw.log_q, free_log_z(FREE, SHAPE), atol=2e-3)
    log_q = proposal.weigh(draw.phi, np.random.default_rng(6))
    np.testing.assert_allclose(-FREE(draw.phi) - log_q, free_log_z(FREE, SHAPE), atol=2e-3)


@pytest.mark.parametrize("forgets", [False, True])
def test_weights_of_a_bad_network_average_to_z_in_the_preserving_process(forgets):
    """On one site, against quadrature; with the factors of the coordinates left out it fails."""
    action = Phi4.A(-1.0, 0.5, 1)
    proposal, n = SdeProposal(model(action, (1,), 0.5, sigmas=(0.2, 4.0)), 4, process="variance_preserving"), 20_000
    draw = proposal.draw(n, np.random.default_rng(7))
    w = np.exp(-action(draw.phi) - draw.log_q)
    if forgets:
        w = w * proposal.process.alphas[0]
    Z = quad(lambda x: math.exp(-float(action(np.array([x])))), -10, 10)[0]
    assert w.std() / w.mean() > 0.05
    deviation = abs(w.mean() - Z) / (w.std() / math.sqrt(n))
    assert (deviation > 2 * N_SIGMA) if forgets else (deviation < N_SIGMA)


def test_impossible_processes_are_refused():
    with pytest.raises(UserError, match="noise process is 'subvp'; expected one of variance_exploding"):
        process("subvp", 1.0)
    with pytest.raises(UserError, match="field unit is 0"):
        process("variance_preserving", 0.0)
    with pytest.raises(UserError, match="0 <= sigma < 1"):
        VP.ratio(1.0)
