"""Laws of annealed refinement: unbiased Z, the same weight forwards and backwards, an exact chain, the same bits.

Networks are untrained, with random weights. Statistical tests use five standard errors: a correct code fails one
number with probability 6e-7.
"""

import copy
import math

import numpy as np
import pytest
from learned_toys import FREE, QUARTIC, SHAPE, model
from metropolis_toys import exact_fields, free_fields
from scipy.integrate import quad

from latticediff.action import Phi4, free_log_z
from latticediff.analysis import free_energy, log_z_forward, mean
from latticediff.errors import UserError
from latticediff.hmc import HMC
from latticediff.metropolis import IndependenceMetropolis, Proposal
from latticediff.metropolis.asking import ask_weigh
from latticediff.proposal import OdeProposal, RefinedProposal, SdeProposal, tuned_step
from latticediff.streams import Streams

N_SIGMA = 5
ONE_SITE = Phi4.A(-1.0, 0.5, 1)
INNER = {"ode": lambda made: OdeProposal(made, steps=16), "sde": lambda made: SdeProposal(made, steps=5)}


def rng(seed=0):
    return np.random.default_rng(seed)


def bad_site(route, rungs=4, step=0.7):
    """A refined proposal for one site from a network with random weights."""
    return RefinedProposal(INNER[route](model(ONE_SITE, (1,), 0.5, sigmas=(0.2, 4.0))), rungs, step)


def site_moment(power=0):
    return quad(lambda x: x**power * math.exp(-float(ONE_SITE(np.array([x])))), -10, 10)[0]


def deviation(values, expected):
    """(mean - expected) / error of independent values."""
    return (values.mean() - expected) / (values.std() / math.sqrt(len(values)))


def log_weight(proposal, draw):
    return -proposal.action(draw.phi) - draw.log_q


class LastWeight(RefinedProposal):
    """The mistake of counting the moves as draws of q: the inner log_weight at the path's end for the work along it."""

    def _move(self, state, noise, log_u, beta):
        self.end = super()._move(state, noise, log_u, beta)
        return self.end

    def draw(self, n, rng):
        draw = super().draw(n, rng)
        return draw._replace(log_q=-self.action(draw.phi) - self.end[2])

    def weigh(self, phi, rng):
        super().weigh(phi, rng)
        return -self.action(phi) - self.end[2]


def without_the_path(proposal):
    """`LastWeight` of the same inner proposal, in one batch."""
    inner = copy.copy(proposal.inner)
    inner.batch = 10_000
    return LastWeight(inner, proposal.rungs, proposal.step)


@pytest.mark.parametrize("route", INNER)
def test_jarzynski_weights_average_to_z_on_one_site(route):
    """E[w] = Z and E[w phi^2] = Z <phi^2> against quadrature, whatever the network."""
    proposal, n = bad_site(route), 10_000
    draw = proposal.draw(n, rng(1))
    w, square, Z = np.exp(log_weight(proposal, draw)), draw.phi[:, 0] ** 2, site_moment()
    assert w.std() / w.mean() > 0.05  # a bad network
    assert abs(deviation(w, Z)) < N_SIGMA
    assert abs(deviation(w * square, site_moment(2))) < N_SIGMA
    wrong = without_the_path(proposal)
    assert abs(deviation(np.exp(log_weight(wrong, wrong.draw(n, rng(1)))), Z)) > 2 * N_SIGMA


@pytest.mark.parametrize("route", INNER)
def test_work_forwards_and_backwards_gives_z_of_the_free_field(route):
    """Draws, and exact fields weighed along backward paths: both sides of Crooks' relation, and their bridge.

    Wrong weights of both sides nearly cancel in the bridge, so its twin has wrong draws only.
    """
    inner = OdeProposal(model(FREE, SHAPE, 0.2), steps=8) if route == "ode" else SdeProposal(model(FREE, SHAPE, 0.2), 6)
    proposal, n = RefinedProposal(inner, 3, 0.9), 6000
    phi, exact = free_fields(FREE, SHAPE, n, 4), free_log_z(FREE, SHAPE)

    def both_ways(proposal):
        return log_weight(proposal, proposal.draw(n, rng(3))), -FREE(phi) - proposal.weigh(phi, rng(5))

    reverse, forward = both_ways(proposal)
    found = free_energy(reverse, forward, forward_correlated=False)
    assert reverse.std() > 0.05
    # the eight-step flow's own error of log_q is a few 1e-4
    for estimate in (found.reverse, found.forward, found.bridge):
        assert abs(estimate.value - exact) < N_SIGMA * estimate.error + 1e-3
    assert found.lower.value < exact < found.upper.value
    reverse, wrong_forward = both_ways(without_the_path(proposal))
    wrong = free_energy(reverse, forward, forward_correlated=False)
    for estimate in (wrong.reverse, wrong.bridge, log_z_forward(wrong_forward, correlated=False)):
        assert abs(estimate.value - exact) > 2 * N_SIGMA * estimate.error


class Ascending(RefinedProposal):
    """The mistake: the way back from a given field begins at the lowest rung."""

    def _move(self, state, noise, log_u, beta):
        return super()._move(state, noise, log_u, 1 - beta)


@pytest.mark.parametrize("route", INNER)
def test_a_given_field_comes_down_the_rungs_from_the_highest(route):
    """E_pi[1/w] = 1/Z on one site, with eight rungs and fresh draws as moves.

    The last move of a path is made at the highest rung, so the way back begins there; in the other order
    E[1/w] Z is 1.04 (ODE) and 1.07 (SDE).
    """
    inner = INNER[route](model(ONE_SITE, (1,), 1.0, sigmas=(0.2, 4.0)))
    phi = exact_fields(ONE_SITE, 8000, 21)

    def inverse_weight(kind):
        return np.exp(ONE_SITE(phi) + kind(inner, 8).weigh(phi, rng(22))) * site_moment()

    assert abs(deviation(inverse_weight(RefinedProposal), 1)) < N_SIGMA
    assert deviation(inverse_weight(Ascending), 1) > 2 * N_SIGMA


@pytest.mark.parametrize("route", INNER)
def test_one_rung_is_the_inner_proposal(route):
    inner = INNER[route](model(QUARTIC, SHAPE, 0.3))
    one, plain = RefinedProposal(inner, 1).draw(5, rng(6)), inner.draw(5, rng(6))
    np.testing.assert_array_equal(one.phi, plain.phi)
    np.testing.assert_allclose(one.log_q, plain.log_q, rtol=1e-13)


@pytest.mark.parametrize("route", INNER)
def test_noise_leads_back_to_the_field(route):
    """`invert` is the inverse of `transport`, density included; tolerance of the flow's steps and of float32."""
    inner = (
        OdeProposal(model(QUARTIC, SHAPE, 0.3), 24) if route == "ode" else SdeProposal(model(QUARTIC, SHAPE, 0.3), 6)
    )
    phi = inner.draw(6, rng(7)).phi
    noise, log_q = inner.invert(phi, rng(8))
    assert noise.shape == (6, *inner.noise_shape)
    again = inner.transport(noise)
    np.testing.assert_allclose(again.phi, phi, atol=5e-3)
    np.testing.assert_allclose(again.log_q, log_q, atol=2e-2)
    np.testing.assert_array_equal(inner.weigh(phi, rng(8)), log_q)


@pytest.mark.parametrize("route", INNER)
def test_refined_chain_is_exact_on_one_site(route):
    proposal = bad_site(route, rungs=3)
    kernel = IndependenceMetropolis(proposal, ONE_SITE)
    assert kernel.refresh  # nothing hidden in the state
    _, block = kernel.advance(kernel.hot_start(100, Streams(9)), Streams(9), 120)
    square = block.phi[20:, :, 0].T ** 2
    estimate, exact = mean(square), site_moment(2) / site_moment()
    assert abs(estimate.value - exact) < N_SIGMA * estimate.error


class WithoutWork(RefinedProposal):
    """The mistake: all rungs, and the weight of the first field only."""

    def draw(self, n, rng):
        draw = super().draw(n, rng)
        return draw._replace(log_q=-self.action(draw.phi) + 0.0)

    def weigh(self, phi, rng):
        return -self.action(phi)


def test_a_chain_without_the_work_is_not_exact():
    right = bad_site("ode", rungs=2, step=0.3)
    kernel = IndependenceMetropolis(WithoutWork(right.inner, 2, 0.3), ONE_SITE)
    _, block = kernel.advance(kernel.hot_start(100, Streams(10)), Streams(10), 100)
    estimate, exact = mean(block.phi[:, :, 0].T ** 2), site_moment(2) / site_moment()
    assert abs(estimate.value - exact) > 2 * N_SIGMA * estimate.error


def test_rungs_take_the_variance_of_log_weight_down():
    """Moves of a fresh draw decorrelate: s^2 / K, up to what is rejected. Variances of 1500 draws, 4 % each."""
    inner = OdeProposal(model(FREE, SHAPE, 0.3), steps=6)
    variances = [np.var(log_weight(p, p.draw(1500, rng(11)))) for p in (RefinedProposal(inner, K) for K in (1, 2, 4))]
    assert variances[1] < 0.75 * variances[0]
    assert variances[2] < 0.75 * variances[1]


@pytest.mark.parametrize("route", INNER)
def test_bits_depend_neither_on_batches_nor_on_cuts(route):
    made = model(QUARTIC, SHAPE, 0.3)
    kind = OdeProposal if route == "ode" else SdeProposal
    whole = RefinedProposal(kind(made, steps=3), 3, 0.5)
    draw, stream = whole.draw(7, rng(12)), rng(12)
    pieces = [whole.draw(n, stream) for n in (2, 5)]
    np.testing.assert_array_equal(np.concatenate([p.log_q for p in pieces]), draw.log_q)
    small = RefinedProposal(kind(made, steps=3, batch=2), 3, 0.5)
    np.testing.assert_array_equal(small.draw(7, rng(12)).phi, draw.phi)
    np.testing.assert_array_equal(small.weigh(draw.phi, rng(13)), whole.weigh(draw.phi, rng(13)))


def test_contract_cost_and_fingerprint():
    inner = OdeProposal(model(QUARTIC, SHAPE, 0.3), steps=3)
    proposal = RefinedProposal(inner, 3, 0.5)
    assert isinstance(proposal, Proposal) and not proposal.is_deterministic
    assert proposal.evaluations_per_draw == 3 * inner.evaluations_per_draw
    prints = {
        p.fingerprint()
        for p in (proposal, RefinedProposal(inner, 4, 0.5), RefinedProposal(inner, 3, 0.6), RefinedProposal(inner, 3))
    }
    other = RefinedProposal(inner, 3, 0.5, Phi4.A(-4.0, 6.1))
    assert len(prints | {inner.fingerprint(), other.fingerprint()}) == 6


def test_a_network_that_blows_up_gives_weight_zero():
    made = model(QUARTIC, SHAPE, 0.3)
    made.network.amplitude.weight.mul_(1e30)
    with np.errstate(all="ignore"):
        proposal = RefinedProposal(OdeProposal(made, steps=3), 3)
        draw = proposal.draw(3, rng(14))
        assert (draw.log_q == np.inf).all() and np.isfinite(draw.phi).all()
        with pytest.raises(UserError, match="0 of 8 pilot draws have a weight"):
            tuned_step(proposal.inner, rng(15), 8)


def test_the_pilot_takes_fresh_draws_where_they_are_accepted():
    """A nearly flat log_weight jumps furthest under fresh draws; a rough one wants smaller steps."""
    good = OdeProposal(model(FREE, SHAPE, 0.05), steps=4)
    assert tuned_step(good, rng(16), 200) == 1.0
    assert tuned_step(OdeProposal(model(FREE, SHAPE, 0.0), 4), rng(17), 200, Phi4.A(10.0, 0.0)) < 1.0


def test_impossible_settings_are_refused():
    inner = OdeProposal(model(QUARTIC, SHAPE, 0.0), steps=2)
    with pytest.raises(UserError, match="rungs is 0"):
        RefinedProposal(inner, 0)
    with pytest.raises(UserError, match=r"step is 1\.5"):
        RefinedProposal(inner, 2, 1.5)
    with pytest.raises(UserError, match="object has no transport"):
        RefinedProposal(object())


def test_the_card_asks_for_rungs(tmp_path):
    """`sampling.ode.rungs`: the kernel that the sampling stage runs, its cost, and the doubling of what lies below."""
    from latticediff.build.learned import build_kernel, passing_proposal
    from latticediff.config import parse_card
    from latticediff.ensemble import run_chain
    from latticediff.model.storage import save_model
    from latticediff.stages.train import metrics
    from latticediff.stages.weigh import weigh
    from latticediff.training import TrainingData

    text = '[action]\nconvention = "A"\nm2 = 0.8\nlam = 0.0\n[lattice]\nshape = [4, 6]\n[run]\nseed = 1\n'
    card = parse_card(text + "[sampling.ode]\nrungs = 3\nrung_step = 0.5\nsteps = 4\n")
    made = model(FREE, SHAPE, 0.2)
    kernel = build_kernel(card, made, "ode")
    assert kernel.refresh and kernel.proposal.describe()["rungs"] == 3
    # three passages down; for the path of the current field three to find its noise and two moves
    assert kernel.evaluations_per_update == (3 + 3 + 2) * 16
    exact = HMC(FREE, 0.25, 6)
    path, folder = tmp_path / "free.h5", save_model(made, tmp_path / "model")
    run_chain(exact, (exact.start(np.zeros((8, *SHAPE))), Streams(1)), path, 50)
    # a model is watched, and described in its card, by its own draws
    assert passing_proposal(card, made).describe() == kernel.proposal.inner.describe()
    told = metrics(card, made, TrainingData(free_fields(FREE, SHAPE, 100, 2), held_out=0.5))
    assert told["steps"] == 4 and 0.5 < told["ess_forward"][0] <= 1
    arrays = weigh(card, path, folder, "ode", tmp_path / "weights.npz")
    assert np.isfinite(arrays["log_weight"]).all()
    # the error of the flow, not the randomness of the paths above it
    assert np.median(np.abs(arrays["doubling"])) < 0.2 * arrays["log_weight"].std()


@pytest.mark.parametrize("route", INNER)
def test_hidden_paths_want_a_generator(route):
    """Of every proposal that draws any; one line, wherever it is asked."""
    for proposal in (bad_site(route), *([INNER[route](bad_site(route).inner.model)] if route == "sde" else [])):
        with pytest.raises(UserError, match=r"draws hidden paths; pass rng, a numpy.random.Generator"):
            ask_weigh(proposal, np.zeros((3, 1)), None)
