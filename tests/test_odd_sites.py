"""Half of the sites: the exact law of one colour of a checkerboard, its tables, its lattice, and its proposals.

Errors of draws are bounded at a false-alarm rate of 1e-6 per test.
"""

import copy
import warnings

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from figure_toys import blank_figures
from learned_toys import card_of_part, network, normal
from learned_toys import model as toy_model

from latticediff._kernels.single_site import build
from latticediff.action import LocalAction, OddSites, Phi4, free_propagator
from latticediff.action.checkerboard import half_shape, join, split, tables, whole_shape
from latticediff.action.single_site import CELLS, SingleSite
from latticediff.build.learned import build_kernel, build_proposal
from latticediff.build.network import check_network
from latticediff.config import parse_card
from latticediff.diffusion.compiled import CompiledFlow
from latticediff.diffusion.differentiable import DifferentiableFlow
from latticediff.diffusion.flow import ProbabilityFlow
from latticediff.diffusion.ladder import NoiseRange
from latticediff.diffusion.runge_kutta import scheme
from latticediff.ensemble import Ensemble
from latticediff.errors import CardError, ModelError, UserError
from latticediff.fourier import basis_from_momenta, momenta_from_basis, transform
from latticediff.gaussian.propagator import measured_propagator, smooth_propagator, symmetrise
from latticediff.gaussian.reference import GaussianReference
from latticediff.lattice import point_symmetries
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.proposal import OdeProposal
from latticediff.proposal.whole import WholeProposal
from latticediff.stages.densities import measure_free_energy
from latticediff.stages.diagnose import diagnose
from latticediff.stages.line import card_of
from latticediff.stages.run import run
from latticediff.streams import Streams
from latticediff.training.data import TrainingData

WHOLE = Phi4.A(-4.0, 4.98)
THEORIES = {
    "critical": WHOLE,
    "broken": Phi4.A(-4.0, 3.0),
    "double well": Phi4.H(0.2, 2.0),
    "weak": Phi4.A(-0.5, 0.05),
    "free": Phi4.A(0.4, 0.0),
}
SHAPES = [(8, 4), (4, 2), (16, 4), (6, 3)]  # of odd sites


def fields(shape, n=5, seed=0, width=0.5):
    return width * np.random.default_rng(seed).normal(size=(n, *shape))


class Tilted(LocalAction):
    """A potential without symmetry, of a user's own, as far as a site is concerned."""

    unit_vectors, is_symmetric, minima = None, False, (0.4,)

    def potential(self, phi):
        return 2.0 * phi**2 + phi**4 - 0.7 * phi + 0.3 * phi**3

    def potential_derivative(self, phi):
        return 4.0 * phi + 4 * phi**3 - 0.7 + 0.9 * phi**2

    def numba_potential(self):
        def value(phi, params):
            return 2.0 * phi**2 + phi**4 - 0.7 * phi + 0.3 * phi**3

        def derivative(phi, params):
            return 4.0 * phi + 4 * phi**3 - 0.7 + 0.9 * phi**2

        return value, derivative, np.empty(0)

    def describe(self):
        return {"name": "tilted", "ndim": self.ndim}

    def quadratic_form(self, shape):
        return (
            Phi4("A", {"m2": 0.0, "lam": 0.0 + 1.0}).quadratic_form(shape) * 0 + 4.0 - 2 * self.hopping * cosines(shape)
        )

    def local_curvature(self, phi, variance=0.0):
        return 12 * (phi * phi + variance) + 1.8 * phi


def cosines(shape):
    return sum(np.cos(2 * np.pi * np.arange(n) / n).reshape([-1 if i == a else 1 for i in range(2)])
               for a, n in enumerate(shape))  # fmt: skip


# --- the lattice of one colour ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", SHAPES)
def test_sites_are_split_and_joined(half):
    phi = fields(whole_shape(half))
    odd, even = split(phi)
    assert odd.shape == (5, *half) and half_shape(phi.shape[1:]) == half
    np.testing.assert_array_equal(join(odd, even), phi)


@pytest.mark.parametrize("half", SHAPES)
def test_the_neighbours_of_an_even_site_are_those_of_the_lattice(half):
    shape = whole_shape(half)
    phi = fields(shape)
    around = sum(np.roll(phi, step, axis) for axis in (1, 2) for step in (1, -1))
    odd, _ = split(phi)
    near = tables(shape)[2]
    np.testing.assert_allclose(odd.reshape(5, -1)[:, near].sum(1), split(around)[1].reshape(5, -1), rtol=1e-13)


@pytest.mark.parametrize("shape", [(7, 8), (8, 7), (8, 12), (4, 8), (8,), (4, 4, 4)])
def test_a_lattice_without_an_array_of_odd_sites_is_refused(shape):
    with pytest.raises(UserError, match="has no array of odd sites; expected two even extents"):
        half_shape(shape)


@pytest.mark.parametrize("half", SHAPES)
def test_point_symmetries_carry_neighbours_to_neighbours(half):
    form = OddSites(WHOLE).quadratic_form(half)
    np.testing.assert_allclose(symmetrise(form, OddSites.unit_vectors), form, atol=1e-12)
    assert len(point_symmetries(half, OddSites.unit_vectors)) == (8 if half[0] == 2 * half[1] else 4)


def test_an_array_with_axes_of_its_own_has_the_symmetries_of_the_box():
    assert [len(point_symmetries(shape)) for shape in [(8, 8), (8, 4), (4, 4, 4), (6,)]] == [8, 4, 48, 2]


# --- the oblique basis -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (12, 12), (5, 4)])
def test_even_functions_of_momentum_are_products_in_the_oblique_basis(shape):
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=shape)
    K = np.fft.fft2(kernel).real  # even under k -> -k and under nothing else
    x = rng.normal(size=(3, *shape))
    modes = transform(x, shape, oblique=True)
    filtered = transform(modes * basis_from_momenta(K, shape, oblique=True), shape, inverse=True, oblique=True)
    np.testing.assert_allclose(filtered, np.fft.ifft2(np.fft.fft2(x) * K).real, atol=1e-12)
    np.testing.assert_allclose((modes**2).sum(), (x**2).sum())
    np.testing.assert_allclose(momenta_from_basis(basis_from_momenta(K, shape, True), shape, True), K, atol=1e-12)


def test_an_oblique_lattice_has_two_dimensions():
    with pytest.raises(UserError, match="an oblique lattice has two"):
        transform(np.zeros((4, 4, 4)), (4, 4, 4), oblique=True)


# --- one site --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theory", THEORIES)
def test_the_table_is_the_integral(theory):
    odd = OddSites(THEORIES[theory])
    h = np.linspace(-odd.site.reach, odd.site.reach, 41)[None]
    value, mean = odd.log_z(h)
    V = odd.whole.potential
    for i, at in enumerate(h[0]):
        top = (at * odd.site.grid - V(odd.site.grid)).max()
        bounds = odd.site.grid[0], odd.site.grid[-1]

        def integral(power, at=at, top=top, bounds=bounds):
            def density(phi):
                return phi**power * np.exp(at * phi - V(np.asarray(phi)) - top)

            with warnings.catch_warnings():  # of rounding, at more digits than are asked for below
                warnings.simplefilter("ignore")
                return scipy.integrate.quad(density, *bounds, epsabs=0, epsrel=1e-10, limit=1000)[0]

        z = integral(0)
        assert value[0, i] == pytest.approx(top + np.log(z), abs=2e-11)
        assert mean[0, i] == pytest.approx(integral(1) / z, abs=1e-8 * max(1, abs(integral(1) / z)))


def test_beyond_the_table_the_integral_itself_is_taken():
    odd = OddSites(WHOLE)
    h = np.array([[1.5 * odd.site.reach, -3 * odd.site.reach, 0.3]])
    value, mean = odd.log_z(h)
    np.testing.assert_allclose(value[0], odd.site.quadrature(h[0]), rtol=1e-12)
    assert mean[0, 0] > odd.log_z(np.array([[odd.site.reach]]))[1][0, 0] > 0 > mean[0, 1]


@pytest.mark.parametrize("half", SHAPES)
@pytest.mark.parametrize("theory", THEORIES)
def test_the_action_is_the_sum_of_both_colours(theory, half):
    """S = S_odd - log p(even | odd), for any field, in the table and beyond it."""
    odd = OddSites(THEORIES[theory])
    for width in (0.3, 1.0, 30.0):
        phi = fields(whole_shape(half), width=width)
        o, e = split(phi)
        S = odd.whole(phi)
        np.testing.assert_allclose(odd(o) - odd.log_conditional(o, e), S, rtol=1e-11, atol=1e-10)


def test_a_theory_of_one_s_own_has_odd_sites_too():
    odd = OddSites(Tilted(0.8, 2))
    phi = fields((8, 8))
    o, e = split(phi)
    np.testing.assert_allclose(odd(o) - odd.log_conditional(o, e), odd.whole(phi), rtol=1e-11)
    assert not hasattr(odd, "b") and not odd.is_symmetric


@pytest.mark.parametrize("theory", THEORIES)
def test_the_force_is_the_derivative_and_the_sum_of_its_parts(theory):
    odd = OddSites(THEORIES[theory])
    phi, step = fields((8, 4), 1), 1e-5
    force = odd.force(phi)
    for site in [(0, 0), (3, 1), (7, 3)]:
        up, down = phi.copy(), phi.copy()
        up[(0, *site)] += step
        down[(0, *site)] -= step
        slope = (odd(up) - odd(down))[0] / (2 * step)
        assert -force[(0, *site)] == pytest.approx(slope, abs=1e-7)
    K = odd.quadratic_form((8, 4))
    linear = np.fft.ifft2(np.fft.fft2(phi) * K).real
    np.testing.assert_allclose(linear + odd.local_force(phi) + odd.wider_force(phi), -force, atol=1e-11)
    np.testing.assert_allclose(odd.wider_force(torch.as_tensor(phi)).numpy(), odd.wider_force(phi))
    # no linear part at zero
    assert np.abs(odd.wider_force(1e-4 * phi)).max() < 1e-9


@pytest.mark.parametrize("theory", THEORIES)
@pytest.mark.parametrize("h", [0.0, 0.37, -2.9, 11.3])
def test_draws_have_the_law_of_a_site(theory, h):
    """Kolmogorov-Smirnov against the integral of the density; 11.3 is beyond some tables."""
    odd = OddSites(THEORIES[theory])
    n = 40_000
    phi = np.full((n, 2, 1), h / (4 * odd.hopping))
    keys = np.random.default_rng(8).integers(2**64, size=n, dtype=np.uint64)
    n = n // 40 if h > odd.site.reach else n  # beyond the table draws are made one by one
    drawn = odd.draw_even(phi[:n], keys[:n])
    grid = odd.site._grid(max(abs(h), odd.site.reach))
    fine = np.linspace(grid[0], grid[-1], 200_001)
    weight = np.exp(h * fine - odd.whole.potential(fine) - odd.site.quadrature(np.array([h]))[0])
    cdf = scipy.integrate.cumulative_trapezoid(weight, fine, initial=0)
    assert cdf[-1] == pytest.approx(1, abs=1e-8)
    found = scipy.stats.kstest(drawn.ravel(), lambda x: np.interp(x, fine, cdf))
    assert found.pvalue > 1e-6
    # sites of one field, and fields of other keys, are independent
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1]) < 5 / np.sqrt(len(drawn))


def test_draws_do_not_depend_on_their_company():
    odd = OddSites(WHOLE)
    phi, keys = fields((8, 4), 40), np.arange(40, dtype=np.uint64)
    together = odd.draw_even(phi, keys)
    np.testing.assert_array_equal(together[7:9], odd.draw_even(phi[7:9], keys[7:9]))


def test_a_bound_below_the_density_is_refused():
    """Which is what the exactness of the draws stands on."""
    odd = OddSites(WHOLE)
    broken = odd._envelopes._replace(bound=odd._envelopes.bound - 0.02)
    odd.__dict__["_envelopes"] = broken
    with pytest.raises(RuntimeError, match="exceeds its bound"):
        odd.draw_even(fields((8, 4), 200), np.arange(200, dtype=np.uint64))


def test_the_alias_tables_have_the_weights_of_the_cells():
    site = OddSites(WHOLE).site
    _, cut, alias, bound = site.envelopes()
    for row in (0, 100, 256, 511):
        share = cut[row] / CELLS
        np.add.at(share, alias[row], (1 - cut[row]) / CELLS)
        weight = np.exp(bound[row] - bound[row].max())
        np.testing.assert_allclose(share, weight / weight.sum(), atol=1e-14)


def test_wells_too_narrow_for_their_distance_are_refused():
    with pytest.raises(UserError, match="points of quadrature for one site"):
        SingleSite(lambda phi: 1e9 * (phi**2 - 1) ** 2, lambda phi: 1e10 * phi**2, 10.0)
    with pytest.raises(UserError, match="does not hold the field"):
        SingleSite(lambda phi: 0.0 * phi, lambda phi: 0.0 * phi, 1.0)


# --- theories that have no odd sites ---------------------------------------------------------------------------------


class NextNearest(Phi4):
    """Couplings along the diagonals as well."""

    def quadratic_form(self, shape):
        k = [2 * np.pi * np.arange(n) / n for n in shape]
        return super().quadratic_form(shape) + 0.3 * np.cos(k[0])[:, None] * np.cos(k[1])


def test_couplings_beyond_nearest_neighbours_are_refused():
    theory = NextNearest("A", {"m2": -4.0, "lam": 6.0})
    with pytest.raises(UserError, match="couples more than nearest neighbours"):
        OddSites(theory)
    with pytest.raises(UserError, match="has 3 dimensions; odd sites"):
        OddSites(Phi4.A(-4.0, 6.0, 3))


# --- the learned side ------------------------------------------------------------------------------------------------


def odd_reference(half, dtype=torch.float32, theory=WHOLE):
    """A reference whose propagator is positive and has the symmetry of the lattice."""
    odd = OddSites(theory)
    form = odd.quadratic_form(half)
    return GaussianReference(odd, 1 / (form - form.min() + 1.0), dtype=dtype)


def odd_model(half=(8, 4), strength=0.3, theory=WHOLE, sigmas=(0.05, 4.0), **options):
    noise = NoiseRange(*sigmas)
    made = network(2, strength, **options)
    return ScoreModel(made, odd_reference(half, theory=theory), noise, np.array(noise.log_range), np.ones((2, *half)))


@pytest.mark.parametrize("half", [(8, 4), (16, 8), (32, 16)])
def test_filters_and_forces_of_the_reference(half):
    gaussian = odd_reference(half, torch.float64)
    odd, phi = gaussian.action, fields(half)
    x = torch.as_tensor(phi)
    back = gaussian.filter(x, 1 / gaussian.G)
    np.testing.assert_allclose((gaussian.delta_force(x) + back).numpy(), -odd.force(phi), atol=1e-9)
    K = odd.quadratic_form(half)
    np.testing.assert_allclose(gaussian.to_distances(gaussian._on_basis(K)), np.fft.ifft2(K).real, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"ordered": True, "screened": True}])
def test_the_trace_in_closed_form_is_the_trace(options):
    gaussian, made = odd_reference((6, 3), torch.float64), network(2, 0.4, **options).double()
    x, log_sigma = normal((1, 6, 3), 4), torch.tensor([-0.4], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda y: made(gaussian, y, log_sigma)[0], x).reshape(18, 18)
    _, C = gaussian.posterior(gaussian.expand((2 * log_sigma).exp()))
    covariance = gaussian.filter(torch.eye(18, dtype=torch.float64).reshape(18, 6, 3), C[0]).reshape(18, 18)
    with torch.no_grad():
        _, trace = made(gaussian, x, log_sigma, trace=True)
    assert float(trace) == pytest.approx(float((covariance * jacobian).sum()), rel=1e-9)


def test_a_network_moves_with_its_field():
    """Translations of the array, and k -> -k; taps are steps of the checkerboard."""
    gaussian, made = odd_reference((8, 4), torch.float64), network(2, 0.4).double()
    x, log_sigma = normal((1, 8, 4), 5), torch.zeros(1, dtype=torch.float64)
    with torch.no_grad():
        R = made(gaussian, x, log_sigma)[0]
        moved = made(gaussian, torch.roll(x, (3, 1), (1, 2)), log_sigma)[0]
        np.testing.assert_allclose(moved, torch.roll(R, (3, 1), (1, 2)), atol=1e-12)
        np.testing.assert_allclose(made(gaussian, -x, log_sigma)[0], -R, atol=1e-12)
    steps = {(1, 0), (-1, 0), (1, -1), (-1, 1), (0, -1), (0, 1), (2, -1), (-2, 1), (0, 0)}
    assert set(made.on_array(gaussian)) == steps


@pytest.mark.parametrize("half", [(8, 4), (32, 16)])
def test_compiled_flows_are_the_plain_one(half):
    gaussian, made = odd_reference(half), network(2, 0.3, ordered=True, screened=True)
    made.eval().requires_grad_(False)
    grid = np.linspace(np.log(4.0), np.log(0.05), 9)
    y = normal((5, *half), 6)
    exact = ProbabilityFlow(copy.deepcopy(made).double(), gaussian.to(dtype=torch.float64), grid, scheme("rk4"))
    phi, log_q = exact.down(y)
    fast = CompiledFlow(made, gaussian, grid, scheme("rk4"))
    phi_fast, log_q_fast = fast.down(y.numpy())
    np.testing.assert_allclose(phi_fast, phi, atol=2e-5)
    np.testing.assert_allclose(log_q_fast, log_q, atol=2e-3)
    y_back, _ = fast.up(phi_fast)
    np.testing.assert_allclose(y_back, y, atol=3e-2)
    taped = DifferentiableFlow(made, gaussian, grid, scheme("rk4"))
    np.testing.assert_allclose(taped.down(y)[0], phi, atol=2e-5)


def test_the_differentiable_flow_has_the_gradient_of_the_plain_one():
    gaussian, made = odd_reference((8, 4)), network(2, 0.3, ordered=True, screened=True)
    grid = np.linspace(np.log(4.0), np.log(0.2), 4)
    y = normal((3, 8, 4), 7)
    double = copy.deepcopy(made).double()
    exact = ProbabilityFlow(double, gaussian.to(dtype=torch.float64), grid, scheme("rk4"))
    exact.down(y, gradients=True)[1].sum().backward()
    taped = DifferentiableFlow(made, gaussian, grid, scheme("rk4"))
    taped.down(y, gradients=True)[1].sum().backward()
    for name, parameter in made.named_parameters():
        wanted = dict(double.named_parameters())[name].grad
        if wanted is not None and wanted.abs().max() > 1e-6:
            scale = float(wanted.abs().max())
            np.testing.assert_allclose(parameter.grad.double() / scale, wanted / scale, atol=2e-3, err_msg=name)


# --- proposals of whole fields ---------------------------------------------------------------------------------------


def whole(model, steps=8):
    return WholeProposal(OdeProposal(model, steps), model.action)


def test_the_weight_is_that_of_the_odd_sites():
    model = odd_model()
    proposal = whole(model)
    draw = proposal.draw(50, np.random.default_rng(1))
    odd, _ = split(draw.phi)
    of_odd = -model.action(odd) - OdeProposal(model, 8).weigh(odd)
    np.testing.assert_allclose(-model.theory(draw.phi) - draw.log_q, of_odd, atol=1e-3)
    # given fields have the density of draws
    np.testing.assert_allclose(proposal.weigh(draw.phi), draw.log_q, atol=1e-3)
    assert proposal.lattice_shape == (8, 8) == model.lattice


def test_draws_of_a_batch_are_draws_one_by_one():
    proposal = whole(odd_model())
    rng, other = np.random.default_rng(2), np.random.default_rng(2)
    together = proposal.draw(6, rng)
    apart = [proposal.draw(n, other) for n in (1, 3, 2)]
    np.testing.assert_array_equal(together.phi, np.concatenate([draw.phi for draw in apart]))
    np.testing.assert_array_equal(together.log_q, np.concatenate([draw.log_q for draw in apart]))


class Spoiled(WholeProposal):
    """Without the density of the even sites: what a chain must not be given."""

    def draw(self, n, rng):
        draw = super().draw(n, rng)
        return draw._replace(log_q=draw.log_q - self.theory.log_conditional(*split(draw.phi)))

    def weigh(self, phi, rng=None):
        return super().weigh(phi, rng) - self.theory.log_conditional(*split(phi))


def exact_square():
    """<phi^2> on 2x2 by quadrature over its two odd sites, with <phi^2> of a site given them: exact averages."""
    odd = OddSites(WHOLE)
    x = np.linspace(-2.5, 2.5, 201)
    a, b = np.meshgrid(x, x, indexing="ij")
    S = odd(np.stack([a, b], -1).reshape(-1, 2, 1)).reshape(a.shape)
    weight = np.exp(-S + S.min())
    log_z = np.log(weight.sum() * (x[1] - x[0]) ** 2) - S.min()
    return (weight * a**2).sum() / weight.sum(), log_z


@pytest.mark.parametrize(("kind", "holds"), [(WholeProposal, True), (Spoiled, False)])
def test_chains_are_exact_on_two_by_two(kind, holds):
    """Against quadrature, odd and even sites; without the density of the even sites the chain is seen to be wrong."""
    model = odd_model((2, 1), 0.5, sigmas=(0.1, 3.0))
    square, log_z = exact_square()
    proposal = kind(OdeProposal(model, 12), model.action)
    kernel = IndependenceMetropolis(proposal, model.theory)
    n_chains = 400
    state = kernel.start(fields((2, 2), n_chains, 3))
    state, _ = kernel.advance(state, Streams(1).child("burn"), 40, 40)
    _, block = kernel.advance(state._replace(update=0), Streams(1).child("chain"), 100, 1)
    chains = block.phi.reshape(100, n_chains, 4)
    odd, even = (split(block.phi.reshape(-1, 2, 2))[i].reshape(100, n_chains, 2) for i in (0, 1))
    deviations = []
    for values in (odd, even):
        means = (values**2).mean(axis=(0, 2))
        deviations.append((means.mean() - square) / (means.std(ddof=1) / np.sqrt(n_chains)))
    assert chains.shape == (100, n_chains, 4)
    # a wrong chain is five standard errors away, give or take one
    assert max(np.abs(deviations)) < 5 if holds else max(np.abs(deviations)) > 3
    if holds:
        draw = proposal.draw(4000, np.random.default_rng(9))
        log_weight = -model.theory(draw.phi) - draw.log_q
        top = log_weight.max()
        w = np.exp(log_weight - top)
        found = top + np.log(w.mean())
        assert abs(found - log_z) < 6 * w.std() / w.mean() / np.sqrt(len(w))


def test_a_model_of_odd_sites_is_kept_with_its_whole_theory(tmp_path):
    model = odd_model()
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model", action=WHOLE, shape=(8, 8))
    assert loaded.fingerprint() == model.fingerprint()
    assert (loaded.theory, loaded.lattice, loaded.shape) == (WHOLE, (8, 8), (8, 4))
    assert loaded.at(WHOLE, (8, 8)) is loaded
    assert '"odd"' in (tmp_path / "model" / "card.toml").read_text()
    with pytest.raises(ModelError, match=r"was trained on \(8, 8\); wanted \(16, 16\); train another one"):
        load_model(tmp_path / "model", shape=(16, 16))
    with pytest.raises(ModelError, match="serves no other couplings or extents"):
        loaded.at(Phi4.A(-4.0, 5.5), (8, 8), outside=True)
    (tmp_path / "model" / "card.toml").write_text(
        (tmp_path / "model" / "card.toml").read_text().replace('sites = "odd"\n', "")
    )
    with pytest.raises(Exception, match=r"altered|damaged|belong together"):
        load_model(tmp_path / "model")


def test_data_are_the_odd_sites_moved_by_symmetries_of_the_checkerboard():
    phis = fields((8, 8), 64, width=0.7)
    odd = OddSites(WHOLE)
    data = TrainingData(phis, 4, 0.25, theory=odd)
    np.testing.assert_allclose(
        data.train.numpy(), split(phis.reshape(16, 4, 8, 8)[:, :3].reshape(-1, 8, 8))[0], rtol=1e-6
    )
    batch = data.batch(200, torch.Generator().manual_seed(0)).double().numpy()
    actions = np.sort(odd(data.train.double().numpy()))
    # every configuration of a batch is one of the ensemble, moved: it has its action
    places = np.clip(np.searchsorted(actions, odd(batch)), 1, len(actions) - 1)
    nearest = np.minimum(abs(actions[places] - odd(batch)), abs(actions[places - 1] - odd(batch)))
    assert nearest.max() < 1e-4
    assert len(data._permutations) == 8


def test_the_propagator_of_odd_sites_is_half_of_the_aliased_one():
    """G_odd(k) = [G(p) + G(p + pi)] / 2 of a free field, in closed form; smoothing leaves it alone."""
    theory = Phi4.A(0.5, 0.0)
    odd = OddSites(theory)
    shape, half = (32, 32), (32, 16)
    exact = 1 / odd.quadratic_form(half)  # the marginal of a Gaussian is one
    G = free_propagator(theory, shape)
    r = np.fft.ifft2(G).real  # the correlation at distance r
    on_odd = np.array([[r[i % 32, (i + 2 * j) % 32] for j in range(16)] for i in range(32)])
    np.testing.assert_allclose(np.fft.fft2(on_odd).real, exact, rtol=1e-10)
    rng = np.random.default_rng(4)
    spectrum = np.sqrt(G) * np.fft.fft2(rng.normal(size=(1000, *shape)))
    phis = np.fft.ifft2(spectrum).real
    halves = [measured_propagator([split(part)[0]], half, 0.0, odd.unit_vectors) for part in np.split(phis, 2)]
    smooth = smooth_propagator(*halves, odd.unit_vectors)
    mean = np.mean(halves, axis=0)
    assert np.mean(np.log(smooth / exact) ** 2) < 0.3 * np.mean(np.log(mean / exact) ** 2)


def test_the_kernels_are_built_once_for_a_potential():
    value, derivative, _ = WHOLE.numba_potential()
    assert build(value, derivative) is build(value, derivative)


def test_a_toy_model_of_all_sites_is_its_own_whole():
    model = toy_model(WHOLE, (4, 6), 0.1)
    assert (model.theory, model.lattice) == (model.action, model.shape)
    phi = fields((4, 6))
    assert model.restrict(phi) is phi


# --- the pipeline ----------------------------------------------------------------------------------------------------

CARD = card_of_part('sites = "odd"\nsteps = 100', 10)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("odd") / "run"
    with blank_figures():
        run(parse_card(CARD), out)
    return out


def test_a_run_on_odd_sites_makes_chains_of_whole_fields(run_folder):
    with Ensemble(run_folder / "chain_ode.h5") as chain:
        phis = chain.phis()
        assert phis.shape[1:] == (8, 8)
        np.testing.assert_allclose(chain.action(phis), Phi4.A(-4.0, 6.008)(phis))
    model = load_model(run_folder / "model")
    assert model.card["shape"] == [8, 8] and model.card["action"]["name"] == "phi4" and model.card["sites"] == "odd"
    # both routes and their weights: Z from draws and from configurations
    estimates = []
    for route in ("ode", "sde"):
        proposal = build_proposal(parse_card(CARD), model, route)
        draw = proposal.draw(3000, np.random.default_rng(6))
        log_weight = -model.theory(draw.phi) - draw.log_q
        top = log_weight.max()
        w = np.exp(log_weight - top)
        estimates.append((top + np.log(w.mean()), w.std() / w.mean() / np.sqrt(len(w))))
    (ode, error), (sde, wider) = estimates
    assert abs(ode - sde) < 6 * np.hypot(error, wider)


def test_figures_of_a_model_of_odd_sites_are_those_of_whole_fields(run_folder, tmp_path):
    found, _ = diagnose(run_folder / "model", tmp_path / "page", n=100, levels=2)
    assert found.shape == (8, 8)
    result = measure_free_energy(run_folder / "model", n=200, max_doubling=1.0)
    assert tuple(result.shape) == (8, 8)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('sites = "odd"\n', None),
        ("shape = [7, 7]", r"lattice shape \(7, 7\) has no array of odd sites"),
        ("shape = [4, 4, 4]", r"lattice shape \(4, 4, 4\) has no array of odd sites"),
    ],
)
def test_a_card_whose_lattice_has_no_odd_sites_is_refused_at_once(change, words):
    card = CARD if words is None else CARD.replace("shape = [8, 8]", change)
    if words is None:
        check_network(parse_card(card))
    else:
        with pytest.raises(CardError, match=words):
            check_network(parse_card(card))


def test_moves_in_the_noise_want_a_model_of_all_sites(run_folder):
    card = parse_card(CARD, ["sampling.kernel.move=partial", "sampling.kernel.eps=0.3"])
    with pytest.raises(UserError, match="wants a model of all sites"):
        build_kernel(card, load_model(run_folder / "model"), "ode")


def test_a_line_wants_a_model_of_all_sites(run_folder):
    with pytest.raises(UserError, match="a line wants a model of all sites"):
        card_of(load_model(run_folder / "model"))


# --- at the doors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (np.arange(5), r"keys are int64 of shape \(5,\); expected uint64 of shape \(5,\)"),
        (np.zeros(1, np.uint64), r"keys are uint64 of shape \(1,\); expected uint64 of shape \(5,\)"),
        (np.zeros(5), "keys are float64"),
    ],
)
def test_keys_that_are_none_are_refused(keys, words):
    with pytest.raises(UserError, match=words):
        OddSites(WHOLE).draw_even(fields((8, 4)), keys)


def test_fields_that_do_not_belong_together_are_refused():
    odd = OddSites(WHOLE)
    phi = fields((8, 4))
    with pytest.raises(UserError, match="even has shape"):
        odd.log_conditional(phi, phi.reshape(5, 4, 8))
    broken = phi.copy()
    broken[2, 1, 1] = np.nan
    with pytest.raises(UserError, match="odd holds values that are not finite"):
        odd.draw_even(broken, np.zeros(5, np.uint64))
    found = odd.log_conditional(broken, phi)
    assert np.isnan(found).tolist() == [False, False, True, False, False]
    assert np.isnan(odd(broken)).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("theory", THEORIES)
def test_fields_that_have_blown_up_have_a_density_or_none(theory):
    """One of them leaves the others alone; the sum of both colours holds as far as numbers do."""
    odd = OddSites(THEORIES[theory])
    phi = fields((8, 8))
    for size in (1e2, 1e5, 1e9, 1e60, 1e150):
        big = phi.copy()
        big[1] *= size
        o, e = split(big)
        with np.errstate(over="ignore", invalid="ignore"):
            total, whole_action = odd(o) - odd.log_conditional(o, e), odd.whole(big)
        kept = [0, 2, 3, 4]
        np.testing.assert_allclose(total[kept], whole_action[kept], rtol=1e-11, atol=1e-10)
        if np.isfinite(total[1]):
            assert total[1] == pytest.approx(whole_action[1], rel=1e-9)
    # far out the mean of a site is where its density is largest
    h = 1e6
    place = odd.site.beyond(np.array([h]))[1]
    assert odd.whole.potential_derivative(place)[0] == pytest.approx(h, rel=1e-4)


@pytest.mark.parametrize("theory", [Phi4.H(0.2, 100.0), Phi4.A(-40.0, 2.0), Phi4.H(0.2, 1e4)])
def test_the_table_of_deep_wells_reaches_to_the_fields_of_their_bottoms(theory):
    odd = OddSites(theory)
    assert odd.site.reach > 4 * theory.hopping * abs(theory.minima[-1])


def test_no_proposals_are_no_fault():
    proposal = whole(odd_model())
    draw = proposal.draw(0, np.random.default_rng(0))
    assert draw.phi.shape == (0, 8, 8) and draw.log_q.shape == (0,)
    assert proposal.weigh(draw.phi).shape == (0,)
