"""The fine law of `benchmarks/fine_given_coarse.py` and its compiled form are densities of what they draw."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latticediff.action import OddSites, Phi4
from latticediff.action.checkerboard import split

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
M, STEP = 4, 1e-5
M2 = M * M


def benchmark(name):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def law():
    made = benchmark("fine_given_coarse").FineLaw(OddSites(Phi4.A(-4.0, 6.008)), M).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for part in made.laws:  # an untrained law depends on nothing
        for name in ("linear", "odd", "even", "constant"):
            getattr(part, name).normal_(0, 0.1, generator=generator)
        part.constant[1] += 4
    return made


@pytest.fixture(scope="module")
def noise():
    rng = np.random.default_rng(1)
    return 0.3 * rng.standard_normal((16, M2)), rng.uniform(0.02, 0.98, (16, M2))


def log_det(draw, coarse, u):
    """``log |dF/du|`` of one field by central differences; `draw` takes rows of C and of u."""
    moved = STEP * np.eye(M2)
    ends = draw(np.repeat(coarse[None], 2 * M2, 0), np.concatenate([u + moved, u - moved]))[:, M2:]
    return np.linalg.slogdet((ends[:M2] - ends[M2:]) / (2 * STEP))[1]


def test_log_q_is_the_density_of_the_draws(law, noise):
    double = law.in_double()
    coarse, u = noise

    def draw(coarse, u):
        return double.draw(torch.as_tensor(coarse), torch.as_tensor(u)).numpy()

    x = draw(coarse, u)
    log_q = double.log_q(torch.as_tensor(x)).numpy()
    for i in range(3):
        assert log_q[i] == pytest.approx(-log_det(draw, coarse[i], u[i]), abs=1e-6)
    assert np.abs(double.levels(torch.as_tensor(x)) - u).max() < 1e-10


def test_compiled_log_q_is_the_density_of_the_compiled_draws(law, noise):
    kernel = benchmark("fine_kernel").FineKernel(law)
    coarse, u = noise
    x, log_q = kernel.draw(coarse, u)
    for i in range(3):
        found = log_det(lambda c, v: kernel.draw(c, v)[0], coarse[i], u[i])
        assert log_q[i] == pytest.approx(-found, abs=2e-2)  # differences of float32 features over 2e-5
    reference = law.in_double().log_q(torch.as_tensor(x)).numpy()
    assert np.abs(log_q - reference).max() < 0.2  # another interpolant, nearly the same law


def test_action_and_marginal_are_those_of_the_odd_sites(law, noise):
    """Colour d integrated out: ``S_odd + log p(d | a, b, C)`` is a function of a, b, C alone, the marginal action."""
    module, double, rng = benchmark("fine_given_coarse"), law.in_double(), np.random.default_rng(2)
    phi = 0.4 * rng.standard_normal((16, 2 * M, 2 * M))
    x = module.rows_of(phi)
    action = module.odd_action(double.site.theory, x, M)
    assert np.allclose(action, double.site.theory(split(phi)[0]), rtol=0, atol=1e-10)
    _, here, log_z = double.log_law(torch.as_tensor(x), 4)
    left = action + (here - log_z).sum(1).numpy() - double.marginal(torch.as_tensor(x)).numpy()
    assert np.abs(left).max() < 1e-6
