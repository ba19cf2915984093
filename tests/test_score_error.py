"""The score error without the target's noise, against quadrature on one site.

Five standard errors: a correct code fails one number with probability 6e-7.
"""

import math

import numpy as np
import pytest
import torch
from learned_toys import FREE, SHAPE, model

from latticediff.action import Phi4
from latticediff.errors import UserError
from latticediff.model.score_error import posterior_chain, score_error

ONE_SITE = Phi4.A(-1.0, 0.5, 1)
N_SIGMA = 5
LINE = np.linspace(-7, 7, 1401)


def site_fields(n, seed):
    """Exact one-site configurations, (n, 1)."""
    cumulative = np.cumsum(np.exp(-ONE_SITE(LINE[:, None])))
    return np.interp(np.random.default_rng(seed).random(n) * cumulative[-1], cumulative, LINE)[:, None]


def exact_error(made, sigma):
    """``v E|s_theta - s|^2`` by quadrature over phi and x."""
    v = sigma**2
    joint = np.exp(-ONE_SITE(LINE[:, None])[:, None] - (LINE[None] - LINE[:, None]) ** 2 / (2 * v))
    density = joint.sum(axis=0)
    score = (joint * (LINE[:, None] - LINE[None])).sum(axis=0) / density / v
    x = torch.as_tensor(LINE[:, None], dtype=torch.float32)
    R = made.network(made.gaussian, x, torch.full((1,), math.log(sigma)))[0][:, 0].double().numpy()
    G = float(made.gaussian.propagator_full)
    learned = -LINE / (G + v) - G / (G + v) * R
    return v * (density * (learned - score) ** 2).sum() / density.sum()


def test_score_error_of_a_bad_network_is_that_of_quadrature():
    made = model(ONE_SITE, (1,), 0.3, sigmas=(0.3, 2.0))
    found = score_error(made, site_fields(1500, 1), n_levels=4, n_fields=6)
    exact = np.array([exact_error(made, sigma) for sigma in found.sigma])
    assert (np.abs(found.error - exact) < N_SIGMA * found.uncertainty).all()
    assert (found.error > N_SIGMA * found.uncertainty).any()  # this one is bad enough to be seen
    assert (found.acceptance > 0.6).all()
    assert found.shares().sum() == pytest.approx(1)
    assert found.kl == pytest.approx((0.5 * (found.error[1:] + found.error[:-1]) * np.diff(np.log(found.sigma))).sum())


def test_one_target_twice_would_count_its_noise():
    """What the pair is for: |C (R - T)|^2 with one target is above the error by the target's variance."""
    made, sigma = model(ONE_SITE, (1,), 0.3, sigmas=(0.3, 2.0)), 1.0
    phi, rng = site_fields(4000, 2), np.random.default_rng(3)
    x = phi + sigma * rng.normal(size=phi.shape)
    R = made.network(made.gaussian, torch.as_tensor(x, dtype=torch.float32), torch.zeros(1))[0].double().numpy()
    G = float(made.gaussian.propagator_full)
    C = G / (G + 1)
    loss = (C * (R - (x - phi) + phi / G)) ** 2  # T_noise = z / sigma - phi / G at sigma = 1
    exact = exact_error(made, sigma)
    assert loss.mean() - exact > 2 * N_SIGMA * loss.std() / math.sqrt(4000)


def test_posterior_chain_keeps_the_posterior():
    """Tweedie on one site: the mean of phi given x, far along the chain, against quadrature."""
    made = model(ONE_SITE, (1,), 0.0, sigmas=(0.3, 2.0))
    gaussian, v = made.gaussian.to(dtype=torch.float64), 0.49
    phi = torch.as_tensor(site_fields(4000, 4))
    x = phi + 0.7 * torch.as_tensor(np.random.default_rng(5).normal(size=phi.shape))
    chain = posterior_chain(ONE_SITE, gaussian, phi, x, v, torch.Generator().manual_seed(6))
    for _ in range(15):
        field, rate = next(chain)
    weights = np.exp(-ONE_SITE(LINE[:, None])[:, None] - (x.numpy()[:, 0] - LINE[:, None]) ** 2 / (2 * v))
    posterior_mean = (weights * LINE[:, None]).sum(axis=0) / weights.sum(axis=0)
    second = (weights * LINE[:, None] ** 2).sum(axis=0) / weights.sum(axis=0)
    miss = field.numpy()[:, 0] - posterior_mean
    assert abs(miss.mean()) < N_SIGMA * miss.std() / math.sqrt(4000)
    miss = field.numpy()[:, 0] ** 2 - second
    assert abs(miss.mean()) < N_SIGMA * miss.std() / math.sqrt(4000)
    # it has moved: hardly anything of the start is left beyond what x says
    left = np.corrcoef(field.numpy()[:, 0] - posterior_mean, phi.numpy()[:, 0] - posterior_mean)[0, 1]
    assert abs(left) < 0.2 and rate > 0.6


def test_the_baseline_is_exact_for_a_free_field():
    found = score_error(model(FREE, SHAPE, 0.0), np.random.default_rng(7).normal(size=(8, *SHAPE)), 3, 2)
    assert np.abs(found.error).max() < 1e-9


def test_unusable_requests_are_refused():
    made = model(FREE, SHAPE, 0.0)
    with pytest.raises(UserError, match="at least 8 configurations"):
        score_error(made, np.zeros((3, *SHAPE)))
    with pytest.raises(UserError, match="expected at least 1 and 2"):
        score_error(made, np.zeros((8, *SHAPE)), n_levels=1)
