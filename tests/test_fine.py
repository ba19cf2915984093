"""Coarse to fine: sites and who sees whom, the law of the fine sites and its density, its theory and its proposals."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre

from latticediff._kernels import interpolant
from latticediff._kernels.vectors import LANES
from latticediff.action import OddSites, Part, Phi4, Polynomial, SineGordon
from latticediff.action.checkerboard import join, split
from latticediff.cluster import Cluster
from latticediff.diffusion.ladder import NoiseRange
from latticediff.errors import ModelError, UserError
from latticediff.fine import CoarseSites, CompiledLaw, FineLaw, coarse_shape
from latticediff.gaussian.contract import Expandable, Wider
from latticediff.gaussian.propagator import measured_propagator, smooth_propagator
from latticediff.gaussian.reference import GaussianReference
from latticediff.hosts import pickling  # noqa: F401  # teaches how theories are pickled
from latticediff.metropolis import IndependenceMetropolis
from latticediff.model.score_model import ScoreModel
from latticediff.model.storage import load_model, save_model
from latticediff.networks.ridge.network import RidgeNetwork
from latticediff.proposal import OdeProposal, SdeProposal, WholeProposal
from latticediff.proposal.fine import FineProposal
from latticediff.proposal.whole import judged_proposal, whole_proposal
from latticediff.streams import Streams
from latticediff.training.data import TrainingData
from latticediff.training.fine import match_forces

WHOLE = Phi4.A(-4.0, 6.008)
SHAPE = (4, 4)
STEP = 1e-5


def shaken(theory=WHOLE, shape=SHAPE, dtype=torch.float32):
    """A law that depends on everything it may depend on."""
    law = FineLaw(OddSites(theory), shape).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for part in law.laws:  # an untrained law depends on nothing
        for name in ("linear", "odd", "even", "constant"):
            getattr(part, name).normal_(0, 0.1, generator=generator)
        part.constant[1] += 4
    if dtype == torch.float64:
        double = FineLaw(OddSites(theory), shape, torch.float64).requires_grad_(False)
        double.load_state_dict(law.state_dict())
        return double
    return law


@pytest.fixture(scope="module")
def law():
    return shaken()


@pytest.fixture(scope="module")
def compiled(law):
    return CompiledLaw(law)


def inputs(n=20, sites=16, seed=1, width=0.4):
    rng = np.random.default_rng(seed)
    return width * rng.standard_normal((n, sites)), rng.uniform(0.02, 0.98, (n, sites))


# sites


@pytest.mark.parametrize("shape", [(4, 4), (8, 4), (8, 8)])
def test_rows_are_the_sites_of_even_and_of_odd_rows(shape):
    geometry = shaken(shape=shape).geometry
    phi = np.random.default_rng(0).random((3, *geometry.whole))
    rows, n = geometry.rows(split(phi)[0]), math.prod(shape)
    assert np.array_equal(rows[:, :n].reshape(3, *shape), phi[:, 0::2, 1::2])
    assert np.array_equal(rows[:, n:].reshape(3, *shape), phi[:, 1::2, 0::2])
    assert np.array_equal(geometry.odd(rows), split(phi)[0])
    assert sorted(np.concatenate(geometry.colours)) == list(range(n))


def test_a_site_sees_what_lies_at_its_offsets():
    """Held against positions on the whole lattice, and no site of a colour sees one that is drawn with it or later."""
    geometry = shaken(shape=(8, 4)).geometry
    L1, L2 = geometry.whole
    x, y = np.indices(geometry.whole)
    place = geometry.rows(split((x * L2 + y)[None].astype(float))[0])[0].astype(int)
    from latticediff.fine.geometry import CONTEXTS

    drawn = set(range(geometry.n))
    for k, offsets in enumerate(CONTEXTS):
        sites, seen = geometry.n + geometry.colours[k], geometry.context(k)
        at = place[sites]
        for column, (dx, dy) in enumerate(offsets):
            expected = (at // L2 + dx) % L1 * L2 + (at % L2 + dy) % L2
            assert np.array_equal(place[seen[:, column]], expected)
        assert set(seen.ravel()) <= drawn
        drawn |= set(sites)
    assert set(geometry.beside.ravel()) <= drawn


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [((12, 12), "odd"), ((4, 4), "odd"), ((8, 16), "all"), ((24, 16), "all"), ((8, 8, 8), "all"), ((9, 9), "all")],
)
def test_a_lattice_without_coarse_sites_is_refused(shape, remedy):
    """With a remedy that is one: not every lattice without coarse sites has odd ones."""
    with pytest.raises(UserError, match=rf"two multiples of 8.*training\.sites = {remedy}\)$"):
        coarse_shape(shape)


def test_a_theory_without_the_symmetry_is_refused():
    tilted = Polynomial(1.0, [0.1, -1.0, 0.0, 0.5])
    with pytest.raises(UserError, match=r"not symmetric under phi -> -phi.*sites = odd"):
        FineLaw(OddSites(tilted), SHAPE)


# the law


@pytest.mark.parametrize("steepness", [None, -300.0])
def test_log_q_is_the_density_of_the_draws(steepness):
    """The map from quantiles to sites is triangular: its determinant is the product of its diagonal.

    Also of a law so steep that Newton's method misses quantiles, which bisection then finds.
    """
    law = shaken()
    for part in law.laws if steepness else ():
        part.constant[1] = steepness
    compiled = CompiledLaw(law)
    coarse, u = inputs(4)
    rows, log_q = compiled.draw(coarse, u)
    assert np.abs(compiled.weigh(rows) - log_q).max() < 1e-9
    for i in range(len(rows)):
        moved = STEP * np.eye(compiled.n)
        both = np.concatenate([u[i] + moved, u[i] - moved])
        ends = compiled.draw(np.repeat(coarse[i : i + 1], 2 * compiled.n, 0), both)[0]
        found = (ends[: compiled.n] - ends[compiled.n :])[:, compiled.n :] / (2 * STEP)
        assert log_q[i] == pytest.approx(-np.log(np.diag(found)).sum(), abs=1e-4 if steepness else 1e-5)


@pytest.mark.parametrize("theory", [WHOLE, Phi4.H(0.2, 2.0), Phi4.A(1.0, 0.3), SineGordon(0.3, 0.5, 2.0, ndim=2)])
def test_given_fields_have_the_density_of_their_draws(theory):
    compiled = CompiledLaw(shaken(theory))
    coarse, u = inputs(40)
    rows, log_q = compiled.draw(coarse, u)
    assert np.abs(compiled.weigh(rows) - log_q).max() < 1e-9


def test_the_density_of_a_site_integrates_to_one(compiled):
    """Over all values of a site of the last colour, tails included; and to rare quantiles where these are drawn."""
    coarse, u = inputs(1)
    last = shaken().geometry.colours[-1][3]
    levels = np.array([1e-13, 1e-11, 1e-8, 1e-5, 1e-2, 0.1, 0.7, 0.99, 1 - 1e-5, 1 - 1e-8])
    u = np.repeat(u, len(levels), 0)
    u[:, last] = levels
    rows = compiled.draw(np.repeat(coarse, len(levels), 0), u)[0]
    place = compiled.n + last
    assert np.array_equal(np.delete(rows, place, 1), np.delete(rows[::-1], place, 1))
    edge = 1.6724 * 1.07

    def integral(low, high, cells):
        x, w = legendre.leggauss(40)
        grid = np.linspace(low, high, cells + 1)
        half = np.diff(grid)[:, None] / 2
        f = (grid[:-1, None] + half * (1 + x)).ravel()
        moved = np.repeat(rows[:1], len(f), 0)
        moved[:, place] = f
        return (np.exp(compiled.weigh(moved) - compiled.weigh(rows[5:6])) * (half * w).ravel()).sum()

    whole = integral(-3 * edge, 3 * edge, 640)
    parts = [integral(low, high, 96) / whole for low, high in itertools.pairwise(rows[:, place])]
    assert np.allclose(parts, np.diff(levels), rtol=2e-5)


def test_far_fields_have_a_density(compiled):
    """Tails reach everywhere, and contexts are held to the range of the densities."""
    rows = np.random.default_rng(2).standard_normal((40, 2 * compiled.n)) * np.geomspace(0.1, 1e4, 40)[:, None]
    log_q = compiled.weigh(rows)
    assert np.isfinite(log_q).all() and log_q[-1] < -1e4
    drawn, density = compiled.draw(rows[:, : compiled.n], np.full((40, compiled.n), 0.3))
    assert np.isfinite(drawn).all() and np.isfinite(density).all()
    assert np.abs(compiled.weigh(drawn) - density).max() < 1e-6 * np.abs(density).max()


@pytest.mark.parametrize("level", [2.0**-52, 1e-9, 1.0])
def test_the_ends_of_the_quantiles_are_drawn_and_weighed(compiled, level):
    coarse, u = inputs(3)
    u[:, ::3] = level
    rows, log_q = compiled.draw(coarse, u)
    assert np.isfinite(rows).all() and np.abs(compiled.weigh(rows) - log_q).max() < 1e-5


def test_quantiles_are_those_of_the_interpolant():
    """By bisection, which takes over where Newton's method fails, in a cell, in either tail, against masses."""
    N, rng = interpolant.N, np.random.default_rng(3)
    p = np.repeat(np.exp(-0.5 * np.linspace(-4, 4, N) ** 2).astype(np.float32), LANES)
    dp = np.clip(rng.normal(0, 1, N * LANES) * p, -2.9 * p, 2.9 * p).astype(np.float32)
    cells = 0.5 * (p[:-LANES] + p[LANES:]) + (dp[:-LANES] - dp[LANES:]) / 12.0
    cdf = np.concatenate([np.zeros(LANES), np.cumsum(cells.reshape(-1, LANES).astype(float), 0).ravel()])
    total, tail = cdf[-LANES], p[0] / interpolant.RATE
    for share in (-0.9, -0.1):
        z, density = interpolant.quantile(p, dp, cdf, 0, share * tail, total)
        assert z < 0 and density / interpolant.RATE == pytest.approx((1 + share) * tail)
        assert density == pytest.approx(p[0] * math.exp(interpolant.RATE * z))
    z, density = interpolant.quantile(p, dp, cdf, 0, total + 0.5 * p[-LANES] / interpolant.RATE, total)
    assert z > N - 1 and density == pytest.approx(0.5 * p[-LANES])
    levels = np.sort(rng.uniform(0, total, 200))
    found = np.array([interpolant.quantile(p, dp, cdf, 0, level, total) for level in levels])
    assert (np.diff(found[:, 0]) > 0).all() and (found[:, 1] > 0).all()
    slope = np.diff(levels) / np.diff(found[:, 0])
    assert np.median(np.abs(slope / (0.5 * (found[1:, 1] + found[:-1, 1])) - 1)) < 0.02


def test_a_field_has_the_bits_that_it_has_alone(compiled):
    coarse, u = inputs(37)
    rows, log_q = compiled.draw(coarse, u)
    for part in (slice(0, 1), slice(5, 22), slice(36, 37)):
        some = compiled.draw(coarse[part], u[part])
        assert np.array_equal(some[0], rows[part]) and np.array_equal(some[1], log_q[part])
        assert np.array_equal(compiled.weigh(rows)[part], compiled.weigh(rows[part]))
    keys = np.arange(37, dtype=np.uint64)
    by_key = compiled.draw_by_key(coarse, keys)
    assert np.array_equal(by_key[0][9:20], compiled.draw_by_key(coarse[9:20], keys[9:20])[0])
    assert len(np.unique(by_key[0][:, compiled.n :])) == 37 * compiled.n


def test_the_compiled_law_is_nearly_the_one_that_is_trained(law, compiled):
    coarse, u = inputs(50)
    rows, log_q = compiled.draw(coarse, u)
    trained = shaken(dtype=torch.float64).log_q(torch.as_tensor(rows)).numpy()
    assert np.abs(trained - log_q).max() < 0.1


def test_the_law_of_the_last_colour_is_that_of_the_theory():
    """Colour d integrated out: ``S_odd + log p(d | a, b, C)`` does not depend on d."""
    law = shaken(dtype=torch.float64)
    rng = np.random.default_rng(2)
    rows = 0.4 * rng.standard_normal((16, 2 * law.geometry.n))
    x = torch.as_tensor(rows)
    here, log_z = law.log_law(x, 4)
    action = law.site.theory(law.geometry.odd(rows))
    left = action + (here - log_z).sum(1).numpy() - law.marginal(x).numpy()
    assert np.ptp(left) < 1e-6


def test_the_marginal_action_has_its_gradient():
    law = shaken(dtype=torch.float64)
    x = torch.as_tensor(0.4 * np.random.default_rng(4).standard_normal((2, 2 * law.geometry.n))).requires_grad_()
    (found,) = torch.autograd.grad((law.marginal(x) + law.log_q_ab(x)).sum(), x)
    for at in (0, 7, int(law.ab[0]), int(law.ab[5])):
        moved = torch.zeros_like(x)
        moved[:, at] = STEP
        with torch.no_grad():
            up, down = (law.marginal(y) + law.log_q_ab(y) for y in (x + moved, x - moved))
        assert torch.allclose(found[:, at], (up - down) / (2 * STEP), atol=1e-6)


class Lifted(Polynomial):
    """A polynomial with a constant beside."""

    lift = 0.0

    def potential(self, phi):
        return super().potential(phi) + self.lift


@pytest.mark.parametrize("lift", [100.0, -100.0])
def test_a_constant_of_the_action_does_not_matter(lift):
    theory = Lifted(2.0, [0.0, 0.0, 0.0, 6.008])
    plain, theory.lift = CompiledLaw(shaken(theory)), lift
    coarse, u = inputs()
    for found, expected in zip(CompiledLaw(shaken(theory)).draw(coarse, u), plain.draw(coarse, u), strict=True):
        assert np.allclose(found, expected, atol=1e-3)  # V is rounded


@pytest.mark.parametrize("theory", [Phi4.A(0.3, 0.0), Phi4.A(0.05, 0.005), SineGordon(0.5, 1.0, 2.0, ndim=2)])
def test_points_lie_no_further_apart_than_a_density_is_wide(theory):
    """Of a site between neighbours at zero, where V is nearly quadratic and constant fields may go far."""
    site = shaken(theory).site
    phi = np.linspace(-2, 2, 4001)
    weight = np.exp(-theory.potential(phi))
    width = math.sqrt((weight * phi**2).sum() / weight.sum())
    assert 2 * site.edge / (interpolant.N - 1) < 1.05 * width


def test_a_law_in_another_unit_is_the_same():
    law = shaken()
    rows = torch.as_tensor(np.concatenate(inputs(6)[:1] * 2, 1)).float()
    before, numbers = law.log_q(rows), copy.deepcopy(law.numbers())
    law.count_in(4.0)
    assert not np.allclose(law.numbers()["laws.0.read"], numbers["laws.0.read"])
    assert torch.allclose(law.log_q(rows), before, atol=1e-4)
    law.count_in(1.0)
    assert all(np.array_equal(values, numbers[name]) for name, values in law.numbers().items())


# training, theory, proposals


@pytest.fixture(scope="module")
def ensemble():
    """Independent enough fields of 8x8 by cluster and HMC updates."""
    from latticediff.hmc import HMC

    streams, hmc, cluster = Streams(3), HMC(WHOLE, 0.12, 8), Cluster(WHOLE)
    state = hmc.start(0.3 * streams.generator("start").standard_normal((128, 8, 8)))
    found = []
    for number in range(60):
        state, _ = hmc.advance(state, streams.child(f"h{number}"), 8, 8)
        state, block = cluster.advance(state, streams.child(f"c{number}"), 2, 2)
        if number >= 12:
            found.append(block.phi[-1])
    return np.concatenate(found)


@pytest.fixture(scope="module")
def model(ensemble):
    """The baseline around a law that was trained for a few seconds: an idle network, but every part is there."""
    data = TrainingData(ensemble, 128, 0.1, theory=OddSites(WHOLE))
    law = FineLaw(OddSites(WHOLE), SHAPE)
    rows = law.geometry.rows(data.train.double().numpy())
    assert match_forces(law, rows, 150, seed=1) < 0.5
    theory = CoarseSites.fitted(law, rows[:1000, :16].reshape(-1, *SHAPE))
    form = theory.quadratic_form(SHAPE)
    C = rows[:, :16].reshape(-1, *SHAPE)
    halves = [measured_propagator([part], SHAPE, form=form) for part in (C[::2], C[1::2])]
    gaussian = GaussianReference(theory, smooth_propagator(*halves))
    torch.manual_seed(1)
    network = RidgeNetwork(2, features=8, inputs=2, outputs=1, ordered=True, screened=True)
    return ScoreModel.for_flow(network, gaussian, NoiseRange(0.03, 1.5 * gaussian.g_max**0.5))


def test_the_size_of_fields_does_not_matter_to_the_training(ensemble):
    """The same theory of fields four times as large; in units of theirs the forces would be off by 1e4 times more."""
    off = []
    for size in (1, 4):
        theory = OddSites(Polynomial(2.0 / size**2, [0.0, 0.0, 0.0, 6.008 / size**4]))
        law = FineLaw(theory, SHAPE)
        assert law.site.unit == size
        off.append(match_forces(law, size * law.geometry.rows(split(ensemble)[0]), 60, seed=1) * size**2)
        assert law.unit == 1
    assert off[1] == pytest.approx(off[0], rel=0.05)


def test_the_spread_is_that_of_weights_at_given_coarse_sites(model, ensemble):
    """Against draws by quantiles of another source; that of a law that does not fit is large."""
    theory, C = model.action, model.restrict(ensemble[:2000])
    law, rng, found = theory.law, np.random.default_rng(8), []
    for _ in range(12):
        rows, log_q = theory.compiled.draw(C.reshape(len(C), -1), 1 - rng.random((len(C), 16)))
        found.append(-law.site.theory(law.geometry.odd(rows)) - log_q)
    assert theory.spread(C) == pytest.approx(np.var(found, axis=0, ddof=1).mean(), rel=0.3)
    assert CoarseSites(shaken()).spread(C) > 3 * theory.spread(C)


@pytest.mark.parametrize("n", [1, 5, 8, 31])
def test_a_force_does_not_tell_its_company(model, n):
    """Bits: what a resumed training computes again is computed beside other fields."""
    C = 0.4 * np.random.default_rng(0).standard_normal((62, *SHAPE))
    together = model.action.force(C)
    for first in range(0, len(C) - n + 1, n):
        assert np.array_equal(model.action.force(C[first : first + n]), together[first : first + n])


def test_no_fields_have_no_densities(model):
    whole = whole_proposal(OdeProposal(model, 8), model.action)
    assert whole.weigh(np.zeros((0, 8, 8))).shape == whole.estimate(np.zeros((0, 8, 8))).shape == (0,)
    assert whole.draw(0, np.random.default_rng(1)).phi.shape == (0, 8, 8)


def test_the_theory_of_coarse_sites_keeps_the_contracts(model):
    theory = model.action
    assert isinstance(theory, Part) and isinstance(theory, Expandable) and isinstance(theory, Wider)
    assert theory.whole_shape(model.shape) == (8, 8) and model.lattice == (8, 8) and model.theory == WHOLE
    phi = np.random.default_rng(0).random((3, 8, 8))
    assert np.array_equal(model.restrict(phi), phi[:, 0::2, 1::2])


def test_the_parts_of_the_force_are_the_force(model):
    theory, C = model.action, 0.4 * np.random.default_rng(1).standard_normal((5, *SHAPE)).astype(np.float32)
    k = theory.quadratic_form(SHAPE)
    linear = np.fft.ifft2(np.fft.fft2(C.astype(float)) * k).real
    parts = linear + theory.local_force(C.astype(float)) + theory.wider_force(C.astype(float))
    assert np.allclose(parts, -theory.force(C), atol=1e-5)
    as_tensor = theory.wider_force(torch.as_tensor(C))
    assert torch.allclose(as_tensor, torch.as_tensor(theory.wider_force(C.astype(float))).float(), atol=1e-5)
    assert np.allclose(
        theory.local_curvature(0.3), (theory.local_force(0.3 + STEP) - theory.local_force(0.3 - STEP)) / 2 / STEP
    )
    one = theory.force(C[2:3])
    assert np.array_equal(one, theory.force(C)[2:3])  # no memory, no company


@pytest.mark.parametrize(("cubic", "b"), [(0.5, 0.125), (-0.1, 0.0)])
def test_the_baseline_has_no_pole(law, monkeypatch, cubic, b):
    """A cosine has a negative quartic term, at which ``1 + 12 b c phi^2`` would vanish; the linear part takes over."""
    monkeypatch.setattr(CoarseSites, "force", lambda theory, C: -(3 * C + cubic * C**3))
    C = np.random.default_rng(5).uniform(-1, 1, (400, *SHAPE))
    theory = CoarseSites.fitted(law, C)
    assert theory.b == pytest.approx(b)
    assert theory.couplings[0] == pytest.approx(3 if b else 3 - 0.1 * 0.6, abs=0.01)  # <C^4> / <C^2> = 0.6


def test_forces_are_the_same_when_they_are_forgotten(model, monkeypatch):
    C = 0.4 * np.random.default_rng(6).standard_normal((9, *SHAPE))
    expected = model.action.wider_force(C)
    monkeypatch.setattr("latticediff.fine.theory.KEPT", 4 * 2 * 16)
    for part in (C[:5], C[3:], C):
        assert np.array_equal(model.action.wider_force(part), expected[[row in part for row in C]])


def test_the_weight_is_that_of_coarse_and_fine_sites(model):
    proposal, theory = judged_proposal(OdeProposal(model, 12), model.action)
    assert isinstance(proposal, FineProposal) and theory == OddSites(WHOLE)
    whole = whole_proposal(OdeProposal(model, 12), model.action)
    assert isinstance(whole, WholeProposal) and whole.lattice_shape == (8, 8)
    draw = whole.draw(50, np.random.default_rng(5))
    odd = split(draw.phi)[0]
    assert np.allclose(-WHOLE(draw.phi) - draw.log_q, -theory(odd) - proposal.weigh(odd), atol=2e-3)
    assert np.allclose(whole.weigh(draw.phi), draw.log_q, atol=2e-3)
    assert np.allclose(whole.estimate(draw.phi), draw.log_q, atol=0.2)
    coarse = OdeProposal(model, 12).weigh(model.restrict(draw.phi))
    fine = model.action.compiled.weigh(model.action.law.geometry.rows(odd))
    assert np.allclose(proposal.weigh(odd), coarse + fine, atol=1e-9)


def test_draws_of_a_batch_are_draws_one_by_one(model):
    whole = whole_proposal(OdeProposal(model, 8), model.action)
    together = whole.draw(5, np.random.default_rng(7))
    rng = np.random.default_rng(7)
    for i in range(5):
        one = whole.draw(1, rng)
        assert np.array_equal(one.phi[0], together.phi[i]) and one.log_q[0] == together.log_q[i]
    doubled = whole.doubled()
    assert doubled.odd.coarse.steps == 16 and whole.fingerprint() != doubled.fingerprint()


@pytest.mark.parametrize("route", ["ode", "sde"])
@pytest.mark.parametrize("holds", [True, False])
def test_chains_are_exact(model, ensemble, route, holds):
    """|m|, S, phi^2 against the ensemble within 4.5 joint errors (1e-5 each); not so without log q(F | C)."""
    coarse = OdeProposal(model, 10) if route == "ode" else SdeProposal(model, 12)
    proposal = whole_proposal(coarse, model.action)
    if not holds:
        proposal = copy.copy(proposal)
        proposal.odd = copy.copy(proposal.odd)
        silent = copy.copy(model.action)
        silent.compiled = Silent(model.action.compiled)
        proposal.odd.theory = silent
        if hasattr(proposal.odd, "transport"):
            proposal.odd.transport = proposal.odd.__class__._transport.__get__(proposal.odd)
    kernel = IndependenceMetropolis(proposal, WHOLE)
    streams, n_chains, n = Streams(11), 64, 400
    state = kernel.start(ensemble[-n_chains:])
    state, block = kernel.advance(state, streams, n, 1)
    assert block.info["accepted"].mean() > 0.1 or not holds
    chain = np.swapaxes(block.phi, 0, 1)  # (chains, updates, ...)
    deviations = []
    for values in (lambda phi: np.abs(phi.mean((-2, -1))), WHOLE, lambda phi: (phi**2).mean((-2, -1))):
        means = values(chain[:, 10:]).mean(1)
        known = values(ensemble).reshape(-1, 128).mean(0)
        error = math.hypot(means.std(ddof=1) / math.sqrt(n_chains), known.std(ddof=1) / math.sqrt(128))
        deviations.append(abs(means.mean() - known.mean()) / error)
    assert max(deviations) < 4.5 if holds else max(deviations) > 6


class Silent:
    """A law whose density is not counted."""

    def __init__(self, compiled):
        self.compiled, self.n = compiled, compiled.n

    def draw_by_key(self, *arguments):
        rows, log_q = self.compiled.draw_by_key(*arguments)
        return rows, 0 * log_q

    def weigh(self, rows):
        return 0 * self.compiled.weigh(rows)


def test_fields_with_values_that_are_none_are_refused(model):
    proposal, _ = judged_proposal(OdeProposal(model, 8), model.action)
    odd = np.zeros((2, 8, 4))
    odd[1, 2, 3] = np.nan
    with pytest.raises(UserError, match="not finite"):
        proposal.weigh(odd)
    with pytest.raises(UserError, match="expected"):
        proposal.weigh(np.zeros((2, 4, 4)))


def test_a_model_of_coarse_sites_is_kept_with_its_law(model, tmp_path):
    save_model(model, tmp_path / "m")
    again = load_model(tmp_path / "m", action=WHOLE, shape=(8, 8))
    assert again.fingerprint() == model.fingerprint() and again.action == model.action
    draws = [whole_proposal(OdeProposal(m, 8), m.action).draw(8, np.random.default_rng(1)) for m in (model, again)]
    assert np.array_equal(draws[0].phi, draws[1].phi) and np.array_equal(draws[0].log_q, draws[1].log_q)
    assert again.description()["sites"] == "coarse"
    copied = pickle.loads(pickle.dumps(model.action))
    assert copied == model.action and copied.couplings.tobytes() == model.action.couplings.tobytes()
    other = copy.deepcopy(model.action.law)
    other.laws[2].constant[0] += 1e-3
    changed = CoarseSites(other, model.action.couplings)
    here = model.gaussian
    moved = ScoreModel.for_flow(model.network, GaussianReference(changed, here.propagator_full), model.noise)
    assert moved.fingerprint() != model.fingerprint()
    with pytest.raises(ModelError, match="train one there"):
        again.at(Phi4.A(-4.0, 6.1))
    with pytest.raises(ModelError, match="wanted"):
        load_model(tmp_path / "m", shape=(16, 16))
    assert again.at(WHOLE, (8, 8)) is again


def test_what_judges_a_model_is_held_out_of_both(ensemble):
    law = FineLaw(OddSites(WHOLE), SHAPE)
    data = TrainingData(ensemble, 128, 0.25, theory=CoarseSites(law))
    odd = TrainingData(ensemble, 128, 0.25, theory=OddSites(WHOLE))
    assert torch.equal(data.judged, odd.held_out) and data.shape == SHAPE
    whole = join(data.judged.double().numpy(), np.zeros(data.judged.shape))
    assert np.array_equal(whole[:, 0::2, 1::2], data.held_out.double().numpy())
    assert len(data.symmetries) == 1  # the fine sites of a force stay where they are
    assert torch.equal(odd.judged, odd.held_out)
