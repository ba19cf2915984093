"""Laws of the reverse steps and of the ladders: exact densities, exact weights, equal costs.

Networks are untrained, with random weights, but for one test of a shipped model. Statistical tests use five standard
errors: a correct code fails one number with probability 6e-7.
"""

import functools
import math

import numpy as np
import pytest
import torch
from learned_toys import FREE, QUARTIC, SHAPE, model, normal
from scipy.linalg import expm

from latticediff.action import Phi4, free_log_z
from latticediff.analysis import ess_reverse
from latticediff.diffusion import steps as steps_room
from latticediff.diffusion.ladder import NoiseRange, equal_cost
from latticediff.diffusion.process import VariancePreserving
from latticediff.diffusion.steps import SiteStep, series_length
from latticediff.errors import UserError
from latticediff.fourier import real_fourier
from latticediff.model.storage import load_model
from latticediff.proposal import SdeProposal

N_SIGMA = 5
KERNELS = ("gaussian", "site", "dressed")
ONE_SITE = Phi4.A(-1.0, 0.5, 1)


@functools.cache
def proposal(kernel, compiled=False, shape=SHAPE, n_steps=5):
    """With levels and responses that leave no step trivial, whatever was measured of the random network."""
    action = Phi4.A(-1.0, 2.0, len(shape))
    made = SdeProposal(model(action, shape, 0.3), n_steps, compiled=compiled, kernel=kernel, ladder="cosine")
    made.plan.strength, made.plan.f_mean = np.full(n_steps, 6.0), np.full(n_steps, 0.7)
    made.process = made.plan.build()
    return made


# --- densities of single steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1,), (5,), SHAPE, (2, 3, 2)])
def test_retracing_a_step_returns_its_noise_and_density(kernel, shape, compiled):
    process = proposal(kernel, compiled, shape).process
    layout = (math.prod(shape),) if compiled else shape
    as_field = np.asarray if compiled else torch.as_tensor
    rng = np.random.default_rng(1)
    for i, scale in ((1, 0.5), (3, 1.0), (5, 20.0)):  # fields of every size, far beyond those of the theory too
        x, noise = (as_field(rng.normal(size=(3, *layout)) * factor) for factor in (scale, 1))
        s = process.modes.score(x, i)
        step, log_p = process.steps[i - 1].draw(noise, x, s)
        back, log_p_back = process.steps[i - 1].retrace(step, x, s)
        np.testing.assert_allclose(back, noise, atol=1e-8)
        np.testing.assert_allclose(log_p_back, log_p, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("kernel", KERNELS)
def test_density_of_a_step_is_the_jacobian_of_its_map(kernel):
    """``log p(r) = log N(z) - log |det dr/dz|``, the Jacobian by torch."""
    process = proposal(kernel, shape=(2, 3)).process
    x, noise = normal((1, 2, 3), 2), normal((1, 2, 3), 3)
    for i in (1, 3, 5):
        step, s = process.steps[i - 1], process.modes.score(x, i)
        jacobian = torch.autograd.functional.jacobian(lambda z: step.draw(z, x, s)[0], noise).reshape(6, 6)  # noqa: B023
        normal_density = -0.5 * float((noise**2).sum()) - 3 * math.log(2 * math.pi)
        expected = normal_density - float(torch.linalg.slogdet(jacobian)[1])
        log_p = float(step.draw(noise, x, s)[1])
        assert log_p == pytest.approx(expected, rel=1e-9)
        if kernel != "gaussian":  # the field-dependent part is no small thing
            assert abs(log_p - (normal_density - step.log_det)) > 1e-3


def test_steps_differ_from_site_to_site_and_are_skewed():
    process = proposal("dressed").process
    x = normal((1, *SHAPE), 4)
    g, eta = process.steps[2].local(x, process.modes.score(x, 3))
    assert float(g.std()) > 0.01 and float(eta.abs().max()) > 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.1, -0.4])
def test_skewed_normal_has_mean_zero_and_variance_one(eta):
    z = np.linspace(-14, 14, 40_001)
    weight = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    T = (z + eta * (np.sqrt(1 + z * z) - steps_room.M1)) / math.sqrt(1 + steps_room.V1 * eta**2)
    assert (weight * T).sum() == pytest.approx(0, abs=1e-10)
    assert (weight * T**2).sum() == pytest.approx(1, rel=1e-10)
    # to first order in the bend
    assert (weight * T**3).sum() == pytest.approx(3 * steps_room.A1 * eta, abs=2 * abs(eta) ** 3 + 1e-10)
    assert (np.diff(T) > 0).all()


def test_compiled_dressing_is_the_matrix_exponential():
    """``exp(1/2 K g K)`` against scipy, on a lattice with three different extents."""
    shape, rng = (2, 3, 4), np.random.default_rng(5)
    modes = proposal("dressed", True, shape).process.modes
    V = math.prod(shape)
    basis = functools.reduce(np.kron, [real_fourier(extent) for extent in shape])
    K, g, x = rng.uniform(0.2, 1.5, V), rng.normal(size=(9, V)) * 0.5, rng.normal(size=(9, V))
    n_terms = series_length(0.5 * 1.5**2 * float(np.abs(g).max()))
    for sign in (1, -1):
        out = modes.dress(x, g, K, n_terms, sign)
        for row in range(9):
            operator = K[:, None] * (basis @ np.diag(g[row]) @ basis.T) * K
            np.testing.assert_allclose(out[row], expm(0.5 * sign * operator) @ x[row], atol=1e-8)
    np.testing.assert_array_equal(modes.dress(x, g, K, n_terms, 1)[:3], modes.dress(x[:3], g[:3], K, n_terms, 1))


@pytest.mark.parametrize("norm", [1e-3, 0.3, 1.0, 4.0])
def test_series_is_as_long_as_its_accuracy_needs(norm):
    n = series_length(norm)
    error = abs(sum(norm**j / math.factorial(j) for j in range(n + 1)) - math.exp(norm))
    assert error < 10 * steps_room.ACCURACY


# --- weights of paths ------------------------------------------------------------------------------------------------


def z_of(n_sites):
    line = np.linspace(-5, 5, 401)  # the trapezoidal rule converges faster than any power here
    fields = np.stack(np.meshgrid(*[line] * n_sites, indexing="ij"), -1).reshape(-1, n_sites)
    return np.exp(-ONE_SITE(fields)).sum() * (line[1] - line[0]) ** n_sites


class ForgetsLocal:
    """A step whose density forgets that its width follows the field."""

    def __init__(self, step):
        self.step = step
        step._log_jacobian = lambda *local: step.log_det

    def __getattr__(self, name):
        return getattr(self.step, name)


@pytest.mark.parametrize("n_sites", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS)
def test_weights_average_to_z_for_every_kernel(kernel, n_sites):
    """A network with random weights, responses far too strong, three steps: E_q[w] = Z against quadrature."""
    made, n = (
        SdeProposal(model(ONE_SITE, (n_sites,), 0.5, sigmas=(0.2, 4.0)), 3, kernel=kernel, ladder="cosine"),
        40_000,
    )
    made.plan.strength, made.plan.f_mean = np.full(3, 4.0), np.full(3, 0.7)
    made.process = made.plan.build()

    def deviation():
        draw = made.draw(n, np.random.default_rng(6))
        w = np.exp(-ONE_SITE(draw.phi) - draw.log_q)
        assert w.std() / w.mean() > 0.1
        return abs(w.mean() - z_of(n_sites)) / (w.std() / math.sqrt(n))

    assert deviation() < N_SIGMA
    if kernel != "gaussian":
        made.process.steps = [ForgetsLocal(step) for step in made.process.steps]
        assert deviation() > 2 * N_SIGMA


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_path_of_the_free_field_weighs_z(kernel):
    """No curvature, no response: all kernels are the exact Gaussian step."""
    made = SdeProposal(model(FREE, SHAPE, 0.0), steps=4, kernel=kernel)
    draw = made.draw(4, np.random.default_rng(7))
    np.testing.assert_allclose(-FREE(draw.phi) - draw.log_q, free_log_z(FREE, SHAPE), atol=2e-3)


def test_few_local_steps_do_what_many_plain_ones_do():
    """The score-matched L = 8: ESS 0.90 in 8 steps (0.05 for plain ones), with errors of 0.01 for 600 draws."""
    made, ess = load_model("phi4-A-L8-score"), {}
    for kernel, ladder in (("gaussian", "geometric"), ("dressed", "optimised")):
        draw = SdeProposal(made, 8, kernel=kernel, ladder=ladder).draw(600, np.random.default_rng(8))
        ess[kernel] = ess_reverse(-made.action(draw.phi) - draw.log_q).value
    assert ess["dressed"] > 0.82 and ess["gaussian"] < 0.4


# --- ladders ---------------------------------------------------------------------------------------------------------


def test_cosine_ladder_has_equidistant_angles_in_preserving_variables():
    variances = NoiseRange(0.1, 5.0).cosine_variances(7, unit=0.5, first=0.2)
    process, ratios = VariancePreserving(0.5), np.sqrt(variances[1:])
    angles = [math.acos(0.5 * process.alpha(r)) for r in ratios]
    np.testing.assert_allclose(np.diff(angles), np.diff(angles)[0])
    np.testing.assert_allclose(np.sin(angles), [process.sigma(r) for r in ratios])
    np.testing.assert_allclose([variances[0], ratios[0], ratios[-1]], [0, 0.2, 5.0])


@pytest.mark.parametrize("n_steps", [2, 5, 30])
@pytest.mark.parametrize("with_third", [0.0, 1.0])
def test_optimised_ladder_has_equal_costs(n_steps, with_third):
    """A cost concentrated around sigma = 0.5: every step costs the same, together less than the geometric ladder."""
    log_sigma = np.linspace(math.log(0.02), math.log(6), 40)
    v = np.exp(2 * log_sigma)
    bump = np.exp(-2 * (log_sigma - math.log(0.5)) ** 2)
    second, third = bump / v**2, with_third * bump / v**3

    def costs(ladder):
        fine = np.concatenate([[0.0], np.geomspace(v[0], v[-1], 20_001)])

        def integral(values):
            rate = np.interp(0.5 * np.log(np.maximum(fine, v[0])), log_sigma, values)
            path = np.concatenate([[0.0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(fine))])
            return np.diff(np.interp(ladder, fine, path))

        return integral(second**0.5) ** 2 + integral(third ** (1 / 3)) ** 3

    ladder = equal_cost(log_sigma, second, third, n_steps)
    assert len(ladder) == n_steps + 1 and ladder[0] == 0 and ladder[-1] == pytest.approx(v[-1])
    assert (np.diff(ladder) > 0).all()
    ours = costs(ladder)
    np.testing.assert_allclose(ours, ours.max(), rtol=0.1)  # levels lie on a fine grid
    assert ours.sum() < costs(NoiseRange(0.02, 6).variances(n_steps, 0.1)).sum()


def test_ladder_without_cost_still_has_its_steps():
    ladder = equal_cost(np.linspace(-2, 1, 9), np.zeros(9), np.zeros(9), 7)
    assert len(ladder) == 8 and (np.diff(ladder) > 0).all()
    with pytest.raises(UserError, match="at least 2"):
        equal_cost(np.linspace(-2, 1, 9), np.ones(9), np.ones(9), 1)


def test_plan_is_a_function_of_the_model_alone():
    """Measured again, by any number of threads, the response table has the same bits; its numbers are written down."""
    from latticediff.proposal import plan as room

    made = model(QUARTIC, SHAPE, 0.3)
    first = SdeProposal(made, 6).describe()
    room._tables.clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    again = SdeProposal(made, 6).describe()
    torch.set_num_threads(threads)
    assert first == again
    assert len(first["sigmas"]) == 6 and np.array(first["response"]).shape == (2, 6)


def test_response_of_a_quartic_site_is_found():
    """Small noise: Var(phi | x) = v (1 - v 12 b D^2 + ...), so the strength is near 1 / v where W is near 1."""
    table = SdeProposal(model(Phi4.A(2.0, 3.0), SHAPE, 0.0, sigmas=(0.02, 4.0)), 4).plan.table
    low = np.exp(2 * table.log_sigma) < 3e-3
    for kind in ("site", "dressed"):
        np.testing.assert_allclose((table.strength[kind] * np.exp(2 * table.log_sigma))[low], 1, atol=0.1)
    assert (table.second["dressed"][low] < 0.05 * table.second["gaussian"][low]).all()


def test_step_keeps_its_variance_positive_for_any_response():
    process = proposal("site").process
    step = SiteStep(process.modes, process.steps[2].covariance, 0.5, 0.2, 5.0, tau=100.0, f_mean=0.7)
    g, _ = step.local(100 * normal((2, *SHAPE), 9), normal((2, *SHAPE), 10))
    assert bool(torch.isfinite(g).all())
