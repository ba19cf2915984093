"""Laws of the corrected chain: exact for any proposal, wrong without log_q or the path weight, same bits however cut.

Learned chains are driven by untrained networks with random weights on purpose: exactness must not depend on
training. Errors come from the spread of 64 or more independent chains; a correct code exceeds five of them in
one number with probability 5e-6 (Student's t), about 1e-3 in one run of this whole file.
"""

import math

import numpy as np
import pytest
from learned_toys import FREE, SHAPE, model
from metropolis_toys import without_divergence
from scipy.integrate import quad
from scipy.stats import norm

from latticediff.action import Phi4, free_propagator
from latticediff.errors import UserError
from latticediff.markov import ChainState
from latticediff.metropolis import Draw, IndependenceMetropolis
from latticediff.metropolis.proposed import COLUMNS
from latticediff.proposal import OdeProposal, SdeProposal
from latticediff.streams import Streams

N_SIGMA, N_CHAINS = 5, 64
ONE_SITE = Phi4.A(-1.0, 0.5, 1)


class Gaussian:
    """Independent normal sites: the plainest proposal; `log_q` can be left out to show what it is for."""

    is_deterministic, evaluations_per_draw = True, 0

    def __init__(self, shape=(1,), centre=0.5, width=0.6, honest=True):
        self.lattice_shape, self.centre, self.width, self.honest = shape, centre, width, honest

    def draw(self, n, rng):
        phi = self.centre + self.width * rng.standard_normal((n, *self.lattice_shape))
        return Draw(phi, self.weigh(phi))

    def weigh(self, phi, rng=None):
        if not self.honest:
            return np.zeros(len(phi))
        return norm.logpdf(phi, self.centre, self.width).reshape(len(phi), -1).sum(axis=1)

    def fingerprint(self):
        return "gaussian"


class Changed:
    """A proposal whose log_q passes through a function of (phi, log_q)."""

    def __init__(self, inner, change):
        self.inner, self.change = inner, change

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def draw(self, n, rng):
        phi, log_q = self.inner.draw(n, rng)
        return Draw(phi, self.change(phi, log_q))

    def weigh(self, phi, rng):
        return self.change(phi, self.inner.weigh(phi, rng))


def run(proposal, action, n_updates, refresh=None, seed=1, n_chains=N_CHAINS, warm=60):
    kernel, streams = IndependenceMetropolis(proposal, action, refresh), Streams(seed)
    state, _ = kernel.advance(kernel.hot_start(n_chains, streams), streams, warm, warm)
    return kernel.advance(state, streams, n_updates)[1]


def deviations(per_chain, expected):
    """(mean - expected) / error from chain means (n_chains, ...)."""
    return (per_chain.mean(axis=0) - expected) / (per_chain.std(axis=0, ddof=1) / math.sqrt(len(per_chain)))


def propagator_deviation(block):
    """Largest deviation of ``<|phi_k|^2> / V`` from the free field's, in sigma."""
    power = np.abs(np.fft.rfftn(block.phi, axes=(2, 3))) ** 2 / math.prod(SHAPE)
    return np.abs(deviations(power.mean(axis=0), free_propagator(FREE, SHAPE, half=True))).max()


def moment_deviation(block):
    """Largest deviation of <phi>, <phi^2> and <phi^4> of the one-site phi^4 theory from quadrature, in sigma."""

    def integral(power):
        return quad(lambda x: x**power * math.exp(-float(ONE_SITE(np.array([x])))), -10, 10)[0]

    phi = block.phi[..., 0]
    moments = [np.abs(deviations((phi**p).mean(axis=0), integral(p) / integral(0))) for p in (1, 2, 4)]
    return max(moments)


# --- learned proposals, bad on purpose -------------------------------------------------------------------------------


def learned(route, action, shape, strength):
    if route == "ode":
        return OdeProposal(model(action, shape, strength), steps=12)
    return SdeProposal(model(action, shape, strength), steps=10)


ROUTES = [("ode", None), ("sde", True), ("sde", False)]  # refresh, or keep the path


@pytest.mark.parametrize(("route", "refresh"), ROUTES)
def test_bad_network_gives_the_exact_free_propagator(route, refresh):
    block = run(learned(route, FREE, SHAPE, 0.3), FREE, 200, refresh)
    assert 0.1 < block.info["accepted"].mean() < 0.9  # bad indeed
    assert propagator_deviation(block) < N_SIGMA


@pytest.mark.parametrize(("route", "refresh"), ROUTES)
def test_bad_network_gives_exact_phi4_moments(route, refresh):
    block = run(learned(route, ONE_SITE, (1,), 0.5), ONE_SITE, 400, refresh)
    assert block.info["accepted"].mean() < 0.95
    assert moment_deviation(block) < N_SIGMA


def no_density(phi, log_q):
    return np.zeros(len(phi))


@pytest.mark.parametrize(("route", "refresh"), ROUTES)
def test_without_log_q_the_free_propagator_is_wrong(route, refresh):
    """What the tests above guard: the same chain with log_q dropped is more than ten sigma off."""
    block = run(Changed(learned(route, FREE, SHAPE, 0.3), no_density), FREE, 200, refresh)
    assert propagator_deviation(block) > 2 * N_SIGMA


@pytest.mark.parametrize(("route", "refresh"), ROUTES)
def test_without_log_q_the_phi4_moments_are_wrong(route, refresh):
    block = run(Changed(learned(route, ONE_SITE, (1,), 0.5), no_density), ONE_SITE, 400, refresh)
    assert moment_deviation(block) > 2 * N_SIGMA


class WithoutDensity:
    """A reverse step that moves as it should and forgets its density."""

    def __init__(self, step):
        self.step = step

    def draw(self, noise, x, s):
        return self.step.draw(noise, x, s)[0], 0.0

    def retrace(self, step, x, s):
        return self.step.retrace(step, x, s)[0], 0.0


@pytest.mark.parametrize("refresh", [True, False])
def test_without_the_path_weight_moments_are_wrong(refresh):
    """Only the prior's density is kept; with few, plain steps the rest is not small."""
    proposal = SdeProposal(model(ONE_SITE, (1,), 0.5), steps=6, ladder="geometric", kernel="gaussian")
    process = proposal.process
    process.steps = [WithoutDensity(step) for step in process.steps]
    process._log_forward = lambda lower, higher, i: 0.0
    assert moment_deviation(run(proposal, ONE_SITE, 400, refresh)) > 2 * N_SIGMA


def test_without_the_divergence_moments_are_wrong():
    """The ODE's log_q with the integral of the trace left out."""
    proposal = without_divergence(learned("ode", ONE_SITE, (1,), 0.5))
    assert moment_deviation(run(proposal, ONE_SITE, 400)) > 2 * N_SIGMA


@pytest.mark.parametrize(("route", "refresh"), ROUTES)
def test_an_exact_ensemble_stays_exact(route, refresh):
    """Stationarity: 1000 independent fields of the free theory, five updates, no moment moves; nothing warms up."""
    n = 1000
    noise = np.fft.fftn(np.random.default_rng(2).normal(size=(n, *SHAPE)), axes=(1, 2))
    phi = np.fft.ifftn(noise * np.sqrt(free_propagator(FREE, SHAPE)), axes=(1, 2)).real
    kernel = IndependenceMetropolis(learned(route, FREE, SHAPE, 0.3), FREE, refresh)
    _, block = kernel.advance(kernel.start(phi), Streams(3), 5, 5)
    assert propagator_deviation(block) < N_SIGMA


# --- the rule itself -------------------------------------------------------------------------------------------------


def test_shifted_narrow_proposal_gives_exact_moments():
    assert moment_deviation(run(Gaussian(), ONE_SITE, 1000, warm=200)) < N_SIGMA


def test_shifted_narrow_proposal_needs_its_log_q():
    assert moment_deviation(run(Gaussian(honest=False), ONE_SITE, 1000, warm=200)) > 2 * N_SIGMA


def test_acceptance_is_the_overlap_of_the_two_densities():
    """Target p, proposal q: the chain accepts ``E_p E_q min(1, q p' / (p q'))``, here by quadrature."""
    action, s = Phi4.A(1.0, 0.0, 1), 1.5
    block = run(Gaussian(centre=0.0, width=s / math.sqrt(2)), action, 2000)
    grid = np.linspace(-8, 8, 801)
    p, q = norm.pdf(grid, 0, math.sqrt(0.5)), norm.pdf(grid, 0, s * math.sqrt(0.5))
    expected = np.minimum(p[:, None] * q, p * q[:, None]).sum() * (grid[1] - grid[0]) ** 2
    accepted = block.info["accepted"].mean(axis=0)[:, None]
    assert np.abs(deviations(accepted, expected)).max() < N_SIGMA


def test_hot_start_has_the_density_of_its_own_fields():
    """Each chain starts with the log_q of its own field, replaced draws included; equal but for rounding."""
    honest = Gaussian((2,))
    sick = Changed(honest, lambda phi, log_q: np.where(phi[:, 0] > 0.9, np.inf, log_q))
    for proposal in (honest, sick):
        state = IndependenceMetropolis(proposal, Phi4.A(-1.0, 0.5, 1)).hot_start(30, Streams(17))
        np.testing.assert_allclose(state.log_q, honest.weigh(state.phi), rtol=1e-12)
        assert len(np.unique(state.log_q)) > 10


def test_rejected_steps_repeat_and_accepted_ones_move():
    kernel, streams = IndependenceMetropolis(Gaussian(SHAPE), FREE), Streams(4)
    state = kernel.hot_start(8, streams)
    _, block = kernel.advance(state, streams, 50)
    before = np.concatenate([state.phi[None], block.phi[:-1]])
    same = (block.phi == before).all(axis=(2, 3))
    np.testing.assert_array_equal(same, ~block.info["accepted"])
    assert 0 < same.mean() < 1
    np.testing.assert_allclose(block.action, FREE(block.phi), rtol=1e-12)


def test_log_weight_of_every_proposal_is_kept():
    """What is stored is minus S minus log_q of the proposal; where it was accepted, that of the field."""
    kernel, streams = IndependenceMetropolis(Gaussian(SHAPE), FREE), Streams(5)
    _, block = kernel.advance(kernel.hot_start(4, streams), streams, 30)
    accepted = block.info["accepted"]
    moved = block.phi[accepted]
    expected = -FREE(moved) - kernel.proposal.weigh(moved)
    np.testing.assert_allclose(block.info["log_weight"][accepted], expected, rtol=1e-12)


def test_proposal_of_weight_zero_is_a_rejection():
    """log_q = +inf marks a draw that blew up: counted, rejected, the chain of the others still exact."""
    proposal = Changed(Gaussian(), lambda phi, log_q: np.where(phi[:, 0] > 0.8, np.inf, log_q))
    kernel, streams = IndependenceMetropolis(proposal, ONE_SITE), Streams(6)
    _, block = kernel.advance(kernel.start(np.zeros((16, 1))), streams, 200)
    dead = block.info["log_weight"] == -np.inf
    assert dead.any()
    assert not (block.info["accepted"] & dead).any()
    assert block.phi.max() <= 0.8


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_weight_that_is_nan_or_infinite_is_refused(bad):
    proposal = Changed(Gaussian(), lambda phi, log_q: np.where(phi[:, 0] > 0.8, bad, log_q))
    kernel = IndependenceMetropolis(proposal, ONE_SITE)
    with pytest.raises(
        UserError,
        match=rf"gave log_q = {bad} .*; expected a finite number",
    ):
        kernel.advance(kernel.start(np.zeros((16, 1))), Streams(7), 50)


def test_field_that_cannot_be_weighed_is_refused():
    proposal = Changed(Gaussian(), lambda phi, log_q: np.full(len(phi), np.inf))
    kernel = IndependenceMetropolis(proposal, ONE_SITE)
    with pytest.raises(UserError, match="cannot weigh"):
        kernel.advance(kernel.start(np.zeros((2, 1))), Streams(8), 1)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="deterministic proposal has none"):
        IndependenceMetropolis(Gaussian(), FREE, refresh=True)
    with pytest.raises(UserError, match="batch = 0"):
        IndependenceMetropolis(Gaussian(), FREE, batch=0)
    with pytest.raises(UserError, match="object has no draw"):
        IndependenceMetropolis(object(), FREE)
    with pytest.raises(UserError, match="NaN or infinite"):
        IndependenceMetropolis(Gaussian(SHAPE), FREE).start(np.full((1, *SHAPE), np.nan))


# --- bits ------------------------------------------------------------------------------------------------------------

ALL = [("gaussian", None), *ROUTES]


def kernel_of(route, refresh, batch=1024):
    proposal = Gaussian(SHAPE) if route == "gaussian" else learned(route, FREE, SHAPE, 0.3)
    return IndependenceMetropolis(proposal, FREE, refresh, batch)


def states_equal(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("route", "refresh"), ALL)
def test_cuts_and_batches_do_not_change_a_bit(route, refresh):
    phi = np.random.default_rng(9).normal(size=(3, *SHAPE)) * 0.3
    kernel, streams = kernel_of(route, refresh), Streams(10)
    whole, block = kernel.advance(kernel.start(phi), streams, 11, 3)
    kernel, streams, pieces = kernel_of(route, refresh, batch=2), Streams(10), []
    state = kernel.start(phi)
    for n in (1, 4, 0, 6):
        state, piece = kernel.advance(state, streams, n, 3)
        pieces.append(piece)
    assert states_equal(state, whole)
    np.testing.assert_array_equal(np.concatenate([p.phi for p in pieces]), block.phi)
    np.testing.assert_array_equal(np.concatenate([p.action for p in pieces]), block.action)
    assert {"accepted", "log_weight", *COLUMNS} == set(block.info)
    for name in block.info:
        np.testing.assert_array_equal(np.concatenate([p.info[name] for p in pieces]), block.info[name])
    assert len(block.phi) == 3
    assert state.update == 11


@pytest.mark.parametrize(("route", "refresh"), ALL)
def test_resume_equals_one_run(route, refresh):
    """What a file keeps, the chain's arrays and the streams' state, is enough: a new process gives the same bits."""
    kernel, streams = kernel_of(route, refresh), Streams(11)
    state, _ = kernel.advance(kernel.hot_start(3, streams), streams, 5)
    saved = streams.state()
    kept = ChainState(*(x.copy() if isinstance(x, np.ndarray) else x for x in state))
    end, block = kernel.advance(state, streams, 6)
    again, other = kernel_of(route, refresh).advance(kept, Streams.restore(saved), 6)
    assert states_equal(again, end)
    np.testing.assert_array_equal(other.phi, block.phi)
    assert states_equal(kept, state)  # the state handed in is not written to


def test_description_is_json_and_names_the_proposal():
    kernel = kernel_of("sde", None)
    described = kernel.describe()
    assert described["refresh"] is True
    assert described["evaluations_per_update"] == 20  # ten down, ten up to redraw the path
    assert described["proposal"]["fingerprint"] == kernel.proposal.fingerprint()
    assert kernel_of("ode", None).describe()["evaluations_per_update"] == 48
